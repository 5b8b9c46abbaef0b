"""What is on the dashboard: rows of panels, each with its queries."""

from __future__ import annotations

from typing import NamedTuple

PROCESS = 'job=~"$job",instance=~"$instance"'
_HOST = f'{PROCESS},server_address=~"$server_address"'
_BY_HOST = "job, instance, server_address, server_port"


class Target(NamedTuple):
    """One query of a panel. `line`: drawn dashed and outside of the stack, as limits are."""

    expr: str
    legend: str = ""
    line: bool = False
    exemplar: bool = False


class Panel(NamedTuple):
    """One panel; `unit` is Grafana's name for it."""

    title: str
    targets: tuple[Target, ...]
    description: str = ""
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    stacked: bool = False


def _rate(metric: str, matchers: str, by: str = "") -> str:
    total = f"sum by ({by}) " if by else "sum "
    return f"{total}(rate({metric}{{{matchers}}}[$__rate_interval]))"


def _quantiles(metric: str, matchers: str = _HOST, by: str = "", exemplar: bool = False) -> tuple[Target, ...]:
    """Return the 50th, 95th and 99th percentile; by something, the 95th alone."""
    if by:
        expr = f"histogram_quantile(0.95, {_rate(f'{metric}_bucket', matchers, f'{by}, le')})"
        return (Target(expr, f"p95 {{{{{by}}}}}", exemplar=exemplar),)
    return tuple(
        Target(
            f"histogram_quantile({share}, {_rate(f'{metric}_bucket', matchers, 'le')})",
            f"p{share * 100:g}",
            exemplar=exemplar,
        )
        for share in (0.5, 0.95, 0.99)
    )


def _stat(title: str, expr: str, description: str, unit: str = "short") -> Panel:
    return Panel(title, (Target(expr),), description, unit, "stat", 4)


_ACTIVE = f'http_client_open_connections{{{_HOST},http_connection_state="active"}}'
_IDLE = f'http_client_open_connections{{{_HOST},http_connection_state="idle"}}'
_LIMIT = f'pooltransport_connection_limit{{{_HOST},pooltransport_limit_scope="per_host"}}'
_DIALED = f'{_HOST},pooltransport_acquire_source="dialed"'
_ACQUIRED = "pooltransport_connection_acquired_total"
_CLOSED = "pooltransport_connection_closed_total"
_LEASE = "pooltransport_lease_duration_seconds"

_NOW = (
    _stat(
        "Busiest host: in use, of its limit",
        f"max(sum by ({_BY_HOST}) ({_ACTIVE}) / (sum by ({_BY_HOST}) ({_LIMIT}) > 0))",
        "Near 100 % requests begin to wait: runbook pool-saturated. No data: no host has a limit.",
        "percentunit",
    ),
    _stat(
        "Waiting",
        f"sum(pooltransport_acquire_waiting{{{_HOST}}})",
        "Requests without a connection: runbook pool-exhausted.",
    ),
    _stat(
        "Oldest wait",
        f"max(pooltransport_acquire_oldest_wait_seconds{{{_HOST}}})",
        "A queue that stands still shows here first: no histogram has seen who still waits.",
        "s",
    ),
    _stat(
        "Reuse",
        f"1 - {_rate(_ACQUIRED, _DIALED)} / {_rate(_ACQUIRED, _HOST)}",
        "The share of requests that needed no dial: runbook low-reuse.",
        "percentunit",
    ),
    _stat(
        "Leaks in 1 h",
        f'sum(increase(pooltransport_leaks_total{{{_HOST},pooltransport_leak_kind="response"}}[1h]))',
        "Responses dropped unclosed: runbook response-leak; the log names the lines.",
    ),
    _stat(
        "Firing alerts",
        f'count(ALERTS{{alertname=~"PoolTransport.+",alertstate="firing",{PROCESS}}}) or vector(0)',
        "Of the rules in pooltransport.rules.yml.",
    ),
)

_CAPACITY = (
    Panel(
        "Connections",
        (
            Target(f"sum ({_ACTIVE})", "active"),
            Target(f"sum ({_IDLE})", "idle"),
            Target(f"sum (pooltransport_connection_dialing{{{_HOST}}})", "dialing"),
            Target(f"sum (pooltransport_acquire_waiting{{{_HOST}}})", "waiting"),
            Target(f"sum ({_LIMIT})", "limit per host", line=True),
        ),
        "Limits mean sockets: dialing ones count.",
        width=12,
        stacked=True,
    ),
    Panel(
        "Connections needed (Little's law), beside the limit",
        (
            Target(
                f"sum by ({_BY_HOST}) (rate({_ACQUIRED}{{{_HOST}}}[$__rate_interval]))\n* on ({_BY_HOST})\n"
                f"{_rate(f'{_LEASE}_sum', _HOST, _BY_HOST)}\n/ on ({_BY_HOST})\n"
                f"{_rate(f'{_LEASE}_count', _HOST, _BY_HOST)}",
                "needed {{server_address}}",
            ),
            Target(f"sum by ({_BY_HOST}) ({_LIMIT})", "limit {{server_address}}", line=True),
        ),
        "Arrivals a second times the mean time of use. Above the limit the queue grows; which of the two moved "
        "says whether it is load or a slow server.",
        width=12,
    ),
    Panel(
        "Requests that got no connection",
        (Target(_rate("pooltransport_acquire_failures_total", _HOST, "error_type"), "{{error_type}}"),),
        "pool_timeout and pool_queue_full: runbook pool-exhausted.",
        "reqps",
        stacked=True,
        width=12,
    ),
    Panel(
        "Active requests",
        (Target(f"sum by (server_address) (http_client_active_requests{{{_HOST}}})", "{{server_address}}"),),
        width=12,
    ),
)

_LATENCY = (
    Panel("Time in queue", _quantiles("http_client_request_time_in_queue_seconds", exemplar=True), unit="s", width=6),
    Panel("Request, to its headers", _quantiles("http_client_request_duration_seconds"), unit="s", width=6),
    Panel("Connection in use by one response", _quantiles(_LEASE, exemplar=True), unit="s", width=6),
    Panel("Dials", _quantiles("pooltransport_dial_duration_seconds"), unit="s", width=6),
    Panel(
        "Time in queue, all of it",
        (Target(_rate("http_client_request_time_in_queue_seconds_bucket", _HOST, "le"), "{{le}}", exemplar=True),),
        "The points are exemplars: requests with a trace.",
        "s",
        "heatmap",
        width=12,
    ),
    Panel(
        "Dials by phase",
        _quantiles("pooltransport_dial_phase_duration_seconds", by="pooltransport_dial_phase"),
        "Opt-in: details=True.",
        "s",
        width=6,
    ),
    Panel(
        "Look-ups",
        _quantiles("dns_lookup_duration_seconds", PROCESS, by="dns_question_name"),
        "Opt-in: details=True.",
        "s",
        width=6,
    ),
)

_CHURN = (
    Panel(
        "Dials a second, by how they ended",
        (Target(_rate("pooltransport_dial_duration_seconds_count", _HOST, "error_type"), "{{error_type}}"),),
        "Without an error type: well. Runbook dial-failures.",
        "ops",
        stacked=True,
    ),
    Panel(
        "Closes a second, by reason",
        (
            Target(
                _rate(_CLOSED, _HOST, "pooltransport_close_reason, pooltransport_close_initiator"),
                "{{pooltransport_close_reason}} ({{pooltransport_close_initiator}})",
            ),
        ),
        "idle_limit_*: runbook idle-limit; drain_*, body_not_consumed: runbook body-not-consumed. Local ones stay "
        "in TIME_WAIT for a minute.",
        "ops",
        stacked=True,
    ),
    Panel(
        "Acquired, by source",
        (Target(_rate(_ACQUIRED, _HOST, "pooltransport_acquire_source"), "{{pooltransport_acquire_source}}"),),
        "Runbook low-reuse.",
        "ops",
        stacked=True,
    ),
    Panel("Requests served by a connection", _quantiles("pooltransport_connection_requests"), width=12),
    Panel("Age of closed connections", _quantiles("http_client_connection_duration_seconds"), unit="s", width=12),
)

_LEASES = (
    Panel(
        "Leaks, by kind",
        (
            Target(
                f"sum by (pooltransport_leak_kind) (increase(pooltransport_leaks_total{{{_HOST}}}[$__rate_interval]))",
                "{{pooltransport_leak_kind}}",
            ),
        ),
        "Runbook response-leak.",
    ),
    Panel(
        "Overdue, by what goes on",
        (
            Target(
                f"sum by (pooltransport_lease_class) (pooltransport_lease_overdue{{{_HOST}}})",
                "{{pooltransport_lease_class}}",
            ),
        ),
        "idle_holder: runbook response-leak; slow_server: runbook slow-server.",
        stacked=True,
    ),
    Panel(
        "Oldest lease",
        (Target(f"max by (server_address) (pooltransport_lease_oldest_age_seconds{{{_HOST}}})", "{{server_address}}"),),
        unit="s",
    ),
    Panel(
        "Rescues",
        (
            Target(
                "sum (increase(pooltransport_leaks_total"
                f'{{{_HOST},pooltransport_leak_found="rescue"}}[$__rate_interval]))',
                "rescued",
            ),
        ),
        "Slots that came back only because the pool collected garbage before it gave up.",
        width=12,
    ),
    Panel(
        "Responses closed before their end",
        (
            Target(
                _rate("pooltransport_body_drain_total", _HOST, "pooltransport_drain_outcome"),
                "{{pooltransport_drain_outcome}}",
            ),
        ),
        "reused kept its connection; the others cost one: runbook body-not-consumed.",
        "ops",
        stacked=True,
        width=12,
    ),
)

_KERNEL = (
    Panel(
        "Sockets, by state",
        (
            Target(
                f"sum by (pooltransport_socket_state) (pooltransport_kernel_sockets{{{_HOST}}})",
                "{{pooltransport_socket_state}}",
            ),
        ),
        "Opt-in: kernel=True. Runbook port-exhaustion.",
        stacked=True,
    ),
    Panel(
        "Local ports",
        (
            Target(f"max by (server_address) (pooltransport_kernel_ports_used{{{_HOST}}})", "{{server_address}}"),
            Target(f"max (pooltransport_kernel_ports_limit{{{PROCESS}}})", "limit", line=True),
        ),
        "Opt-in: kernel=True. Runbook port-exhaustion.",
    ),
    Panel(
        "File descriptors",
        (
            Target(f"max by (instance) (process_open_fds{{{PROCESS}}})", "{{instance}}"),
            Target(f"min (process_max_fds{{{PROCESS}}})", "limit", line=True),
        ),
        "Runbook fd-pressure.",
    ),
)

_RUNTIME = (
    Panel(
        "Clients",
        (
            Target(f"sum (pooltransport_client_live{{{PROCESS}}})", "alive"),
            Target(f"sum (increase(pooltransport_client_created_total{{{PROCESS}}}[$__rate_interval]))", "made"),
        ),
        "As many made as there are requests: runbook client-per-request.",
    ),
    Panel(
        "Lateness of the housekeeper",
        (Target(f"max by (instance) (pooltransport_loop_lag_max_seconds{{{PROCESS}}})", "{{instance}}"),),
        "A blocked loop or a starved process looks like a slow server.",
        "s",
    ),
    Panel(
        "Hooks that raised",
        (Target(_rate("pooltransport_hook_errors_total", PROCESS, "pooltransport_hook"), "{{pooltransport_hook}}"),),
        unit="ops",
    ),
    Panel(
        "Request bodies",
        _quantiles("http_client_request_body_size_bytes"),
        "Opt-in: details=True.",
        unit="bytes",
        width=12,
    ),
    Panel(
        "Response bodies",
        _quantiles("http_client_response_body_size_bytes"),
        "Opt-in: details=True.",
        unit="bytes",
        width=12,
    ),
)

ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    ("Now", _NOW),
    ("Capacity", _CAPACITY),
    ("Latency", _LATENCY),
    ("Churn", _CHURN),
    ("Leaks and leases", _LEASES),
    ("Kernel", _KERNEL),
    ("Runtime", _RUNTIME),
)
