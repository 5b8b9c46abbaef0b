"""The schema that ships: made from the values' annotations, true of what is told, and only ever added to."""

from __future__ import annotations

import json

import jsonschema
import pytest

from tests.support import stats_schema

# What the first release promised; a line may be added here and none may go.
FIRST = {
    "PoolStats": """schema name active idle dialing draining upgraded closing waiting leases open acquired dials
        dial_errors closed leaks drains timeouts retries dial_errors_by_type acquire_failures leaks_by_found histograms
        hook_errors hook_errors_by_hook rebuilds limits hosts pid taken_at monotonic uptime_s loop_lag_max_s
        oldest_wait_s oldest_lease_s oldest_idle_s peak_active_5m lease_mean_s_1m arrival_rate_1m reuse_ratio_1m
        reuse_ratio_total leases_by_class clients findings lease_list waiter_list idle_list""",
    "HostStats": """origin scheme address port proxy protocol limit idle_limit active idle dialing draining upgraded
        closing waiting leases open acquired dials dial_errors closed leaks drains timeouts retries dial_errors_by_type
        acquire_failures leaks_by_found histograms oldest_wait_s oldest_lease_s oldest_idle_s peak_active_5m
        lease_mean_s_1m arrival_rate_1m reuse_ratio_1m reuse_ratio_total leases_by_class last_dial_error""",
    "Histogram": "bounds counts sum",
    "Histograms": """time_in_queue lease_duration connection_duration connection_requests dial_duration dial_failures
        requests""",
    "Finding": "id cause severity confidence evidence against fix runbook",
    "LeaseStats": """id origin method status_code age_s activity bytes_read bytes_expected reader_waiting_s unread_s
        site stack thread task""",
    "WaiterStats": "origin age_s deadline_in_s holds",
    "IdleStats": "origin age_s idle_s requests_served",
    "ClientStats": "created live",
    "DialErrorStats": "type age_s",
}


def shipped():
    return json.loads(stats_schema.SHIPPED.read_text(encoding="utf-8"))


def test_what_ships_is_what_the_annotations_say():
    assert stats_schema.SHIPPED.read_text(encoding="utf-8") == stats_schema.text()


def test_it_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(shipped())


@pytest.mark.parametrize("name", FIRST)
def test_only_added_to(name):
    schema = shipped()
    part = schema if name == "PoolStats" else schema["$defs"][name]
    assert set(FIRST[name].split()) <= set(part["required"]) <= set(part["properties"])
