"""The snapshot against any sequence of facts: its gauges and counters agree with each other, and with the schema."""

from __future__ import annotations

import json
import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from pooltransport.stats import AcquireFailure, DrainOutcome, LeakFound
from tests.core.test_pool_machine import PICK, PoolMachine
from tests.support.stats_schema import validator

FULL = bool(os.environ.get("POOLTRANSPORT_FULL"))
VALIDATOR = validator()
GAUGES = ("active", "idle", "dialing", "draining", "upgraded", "closing", "waiting", "leases")
COUNTERS = ("dials", "dial_errors", "leaks", "retries")
TABLES = ("acquired", "closed", "drains", "timeouts", "dial_errors_by_type", "acquire_failures", "leaks_by_found")
HISTOGRAMS = ("time_in_queue", "lease_duration", "connection_duration", "connection_requests", "dial_duration")


def counters_of(row):
    """Return every counter of a snapshot, or of a host in it, by a name."""
    found = {name: getattr(row, name) for name in COUNTERS}
    for table in TABLES:
        found |= {(table, key): count for key, count in getattr(row, table).items()}
    found |= {(name, "total"): getattr(row.histograms, name).total for name in HISTOGRAMS}
    for table in ("dial_failures", "requests"):
        found |= {(table, key): times.total for key, times in getattr(row.histograms, table).items()}
    return found


class SnapshotMachine(PoolMachine):
    """What the engine notes beside is noted too."""

    def start_again(self):
        super().start_again()
        self.before = {}

    @precondition(lambda self: self.driver.leases)
    @rule(pick=PICK, status=st.sampled_from([0, 200, 404]), method=st.sampled_from(["GET", "BREW"]))
    def note_lease(self, pick, status, method):
        conn = self.driver.leases[pick % len(self.driver.leases)]
        self.driver.pool.note_lease(conn, method, status, 0.25, 1.5)

    @precondition(lambda self: self.driver.leases)
    @rule(pick=PICK, found=st.sampled_from(LeakFound), outcome=st.sampled_from(DrainOutcome))
    def note_leak(self, pick, found, outcome):
        conn = self.driver.leases[pick % len(self.driver.leases)]
        self.driver.pool.note_leak(conn, found)
        self.driver.pool.note_drain(conn, outcome)

    @rule(host=st.sampled_from("abxyz"), kind=st.sampled_from(AcquireFailure), phase=st.sampled_from(["queue", "tls"]))
    def note_failure(self, host, kind, phase):
        """Of a host that nothing else is known of, too."""
        pool = self.driver.pool
        pool.note_failure(host, kind)
        pool.note_timeout(host, phase)
        pool.note_request(host, "GET", "PoolTimeout", 0.5)
        pool.note_retry(host)

    @invariant()
    def agrees(self):
        stats, driver = self.driver.stats, self.driver
        hosts = stats.hosts.values()
        for gauge in GAUGES:
            assert getattr(stats, gauge) == sum(getattr(host, gauge) for host in hosts), gauge
        for row in (stats, *hosts):
            assert row.open == row.active + row.idle + row.draining + row.upgraded
            assert all(getattr(row, gauge) >= 0 for gauge in GAUGES)
            assert row.leaks == sum(row.leaks_by_found.values())
            assert row.dial_errors == sum(row.dial_errors_by_type.values())
            assert row.histograms.time_in_queue.total == sum(row.acquired.values())
            assert row.oldest_wait_s >= 0 <= row.oldest_idle_s
            assert bool(row.oldest_wait_s) <= bool(row.waiting)
        per_host = driver.pool.limits.max_conns_per_host
        assert all(host.open + host.dialing + host.closing <= (per_host or 10_000) for host in hosts)
        # What was dialed is there, is closing, or is closed; what was started failed, was aborted, or is under way.
        assert stats.open == driver.made - sum(stats.closed.values())
        assert stats.dial_errors <= stats.dials - stats.dialing - driver.made
        assert sum(stats.acquired.values()) >= len(driver.leases)

        self.never_goes_down(stats)

    def never_goes_down(self, stats):
        """No counter does: not of all, not of a host; and all have what the hosts have."""
        now = {None: counters_of(stats)} | {origin: counters_of(host) for origin, host in stats.hosts.items()}
        for origin, counters in getattr(self, "before", {}).items():
            assert not [name for name, count in counters.items() if now[origin].get(name, 0) < count], origin
        self.before = now
        total = now.pop(None)
        for name in total:
            assert total[name] == sum(counters.get(name, 0) for counters in now.values()), name
        self.before = {None: total} | now

    def teardown(self):
        if hasattr(self, "driver"):
            VALIDATOR.validate(json.loads(self.driver.stats.to_json()))
        super().teardown()


TestSnapshot = SnapshotMachine.TestCase
TestSnapshot.settings = settings(
    max_examples=100 if FULL else 30,
    stateful_step_count=60 if FULL else 40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
