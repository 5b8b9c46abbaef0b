"""The catalogue keeps the rules of the names: OpenTelemetry's, Prometheus', and ours."""

from __future__ import annotations

import re

import pytest

from pooltransport.observe import catalogue
from pooltransport.observe.catalogue import METRICS, Kind

# What a scrape must show, word for word: dashboards and rules of users are written with these.
PROMETHEUS_NAMES = [
    "dns_lookup_duration_seconds",
    "http_client_active_requests",
    "http_client_connection_duration_seconds",
    "http_client_open_connections",
    "http_client_request_body_size_bytes",
    "http_client_request_duration_seconds",
    "http_client_request_time_in_queue_seconds",
    "http_client_response_body_size_bytes",
    "pooltransport_acquire_failures_total",
    "pooltransport_acquire_oldest_wait_seconds",
    "pooltransport_acquire_waiting",
    "pooltransport_body_drain_total",
    "pooltransport_client_created_total",
    "pooltransport_client_live",
    "pooltransport_connection_acquired_total",
    "pooltransport_connection_closed_total",
    "pooltransport_connection_dialing",
    "pooltransport_connection_limit",
    "pooltransport_connection_requests",
    "pooltransport_dial_duration_seconds",
    "pooltransport_dial_phase_duration_seconds",
    "pooltransport_hook_errors_total",
    "pooltransport_kernel_ports_limit",
    "pooltransport_kernel_ports_used",
    "pooltransport_kernel_sockets",
    "pooltransport_leaks_total",
    "pooltransport_lease_duration_seconds",
    "pooltransport_lease_oldest_age_seconds",
    "pooltransport_lease_overdue",
    "pooltransport_loop_lag_max_seconds",
]


def test_the_names_are_a_promise():
    assert sorted(metric.prometheus for metric in METRICS) == PROMETHEUS_NAMES


def test_no_name_twice():
    assert len(catalogue.BY_NAME) == len(catalogue.BY_PROMETHEUS) == len(METRICS)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
class TestMetric:
    def test_name(self, metric):
        assert re.fullmatch(r"(http\.client|dns|pooltransport)(\.[a-z_]+)+", metric.name)
        assert not metric.name.endswith((".total", ".count", "_total"))
        assert re.fullmatch(r"s|By|\{[a-z]+\}", metric.unit)

    def test_help_is_one_sentence(self, metric):
        assert re.fullmatch(r"[A-Z].{10,130}\.", metric.help)

    def test_buckets(self, metric):
        assert bool(metric.buckets) == (metric.kind is Kind.HISTOGRAM)
        assert list(metric.buckets) == sorted(set(metric.buckets))

    def test_a_histogram_costs_otel_users_only_on_demand(self, metric):
        # It has no observable histogram: each one is recorded while a request runs.
        if metric.kind is Kind.HISTOGRAM:
            assert metric.otel_default == (metric.name == "http.client.request.duration")
        else:
            assert metric.otel_default == metric.prometheus_default

    def test_labels(self, metric):
        named = metric.labels + metric.optional
        assert len(set(named)) == len(named)
        for attribute in named:
            assert re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", attribute)
        # A path, a query, an address or a text would make a series of its own for each value.
        assert not {"url.full", "url.path", "url.query", "network.peer.address", "exception.message"} & set(named)


def test_closed_lists_belong_to_labels():
    used = {attribute for metric in METRICS for attribute in metric.labels + metric.optional}
    assert set(catalogue.VALUES) <= used


def test_series_of_a_histogram():
    assert catalogue.BY_NAME["http.client.request.time_in_queue"].series == (
        "http_client_request_time_in_queue_seconds_bucket",
        "http_client_request_time_in_queue_seconds_sum",
        "http_client_request_time_in_queue_seconds_count",
    )
    assert catalogue.BY_NAME["pooltransport.leaks"].series == ("pooltransport_leaks_total",)
