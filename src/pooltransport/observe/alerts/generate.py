"""The one place where the alert rules are written: as Prometheus' YAML, with thresholds and times as arguments.

1. Every range is at least four scrape intervals long, so that `rate()` has its samples when one scrape fails.
2. Shares have a least rate beside them: three closes in a quiet night are 100 % of something.
3. One group, so that alerts see what was recorded just before, and not an interval ago.
4. What pages (`critical`) is what users feel: requests that fail or stand still. The causes are warnings.
"""

from __future__ import annotations

import math
from typing import NamedTuple

_HOST = "job, instance, server_address, server_port"
_PROCESS = "job, instance"
_TO = "{{ $labels.server_address }}"
_WHO = "{{ $labels.instance }}"
_SHARE = "{{ $value | humanizePercentage }}"


class Thresholds(NamedTuple):
    """What the alerts compare with, all "more than" except where "at least" is said."""

    failures: float = 0  # requests without a connection
    oldest_wait: float = 5  # s, for a connection, now
    queue_p99: float = 0.25  # s
    utilization: float = 0.9  # share of the limit per host in use
    leaks: float = 0  # responses dropped without being closed
    idle_holders: float = 0  # responses held open that nobody reads
    reuse: float = 0.5  # less than this share of the acquisitions reuse a connection
    reuse_rate: float = 1  # acquisitions a second, below which nothing is said about reuse
    idle_limit_share: float = 0.5  # of the closes
    idle_limit_rate: float = 0.1  # closes a second
    not_consumed_share: float = 0.2  # of the acquisitions
    not_consumed_rate: float = 0.1  # acquisitions a second
    clients_rate: float = 0.1  # clients made each second
    clients_share: float = 0.05  # of the acquisitions
    slow_leases: float = 3  # at least, held by a server that sends slowly or not at all
    timeouts_share: float = 0.1  # of the acquisitions
    timeouts_rate: float = 0.1  # acquisitions a second
    dial_failures_share: float = 0.1  # of the dials
    dial_samples: float = 10  # at least, dials in the range
    ports_share: float = 0.6  # of the local ports
    local_closes: float = 200  # closed by us, a second: each stays in TIME_WAIT for 60 s
    fds_share: float = 0.8  # of the file descriptors


class Times(NamedTuple):
    """`factor` times every range and `for`; no range is shorter than four times `scrape_interval`, in seconds."""

    factor: float = 1.0
    scrape_interval: float = 15.0

    def range(self, seconds: float) -> str:
        """Return a range that is `seconds` long at factor 1."""
        return _duration(max(seconds * self.factor, 4 * self.scrape_interval))

    def wait(self, seconds: float) -> str:
        """Return a `for` that is `seconds` long at factor 1."""
        return _duration(seconds * self.factor)


class Rule(NamedTuple):
    """An alert; or a recording rule, which has a name and an expression."""

    name: str
    expr: str
    severity: str = ""
    summary: str = ""
    runbook: str = ""
    wait: float = 0  # seconds, at factor 1
    keep: float = 0


def rules(times: Times = Times(), thresholds: Thresholds = Thresholds()) -> str:  # noqa: B008 - both are values
    """Return the rules file. ValueError if a number is out of range."""
    for name, value in (*times._asdict().items(), *thresholds._asdict().items()):
        if not (math.isfinite(value) and value >= 0) or (value == 0 and name in Times._fields):
            raise ValueError(f"{name}={value:g}: a number of 0 or more is expected, of a time more than 0")
    return (
        "# Written by `python -m pooltransport.observe.alerts`, which takes other thresholds and times; do not edit.\n"
        "groups:\n- name: pooltransport\n  rules:\n"
        + "".join(_record(rule) for rule in _recorded(times))
        + "".join(_alert(rule, times) for rule in _alerts(times, thresholds))
    )


def every_rule(times: Times = Times(), thresholds: Thresholds = Thresholds()) -> list[Rule]:  # noqa: B008 - values
    """Return the recording rules and the alerts, in the order of the file."""
    return _recorded(times) + _alerts(times, thresholds)


def _recorded(times: Times) -> list[Rule]:
    minutes5 = times.range(300)
    acquired = "pooltransport_connection_acquired_total"
    return [
        Rule(  # the share of acquisitions that needed no new dial
            f"pooltransport:reuse:ratio_rate{minutes5}",
            f"1 - (\n"
            f'  sum by ({_HOST}) (rate({acquired}{{pooltransport_acquire_source="dialed"}}[{minutes5}]))\n'
            f"  /\n"
            f"  (sum by ({_HOST}) (rate({acquired}[{minutes5}])) > 0)\n)",
        ),
        Rule(  # no series where the host has no limit
            "pooltransport:utilization:ratio",
            f'sum by ({_HOST}) (http_client_open_connections{{http_connection_state="active"}})\n/\n'
            f'(sum by ({_HOST}) (pooltransport_connection_limit{{pooltransport_limit_scope="per_host"}}) > 0)',
        ),
        Rule(
            f"pooltransport:time_in_queue:p99_{minutes5}",
            f"histogram_quantile(0.99, sum by ({_HOST}, le) "
            f"(rate(http_client_request_time_in_queue_seconds_bucket[{minutes5}])))",
        ),
    ]


def _alerts(times: Times, limits: Thresholds) -> list[Rule]:
    return [*_dry(times, limits), *_held(times, limits), *_wasted(times, limits), *_machine(times, limits)]


def _dry(times: Times, limits: Thresholds) -> list[Rule]:
    """Return what users feel, and the signs that come before it."""
    minutes5 = times.range(300)
    failures = 'pooltransport_acquire_failures_total{error_type=~"pool_timeout|pool_queue_full|pool_deadlock"}'
    return [
        Rule(
            "PoolTransportExhausted",
            f"sum by ({_HOST}) (increase({failures}[{minutes5}])) > {limits.failures:g}",
            "critical",
            f"Requests from {_WHO} to {_TO}:{{{{ $labels.server_port }}}} fail: connection pool exhausted.",
            "pool-exhausted",
            wait=60,
            keep=300,
        ),
        Rule(
            "PoolTransportQueueStuck",
            f"max by ({_HOST}) (pooltransport_acquire_oldest_wait_seconds) > {limits.oldest_wait:g}",
            "critical",
            f"A request to {_TO} has waited {{{{ $value | humanizeDuration }}}} for a connection.",
            "pool-exhausted",
            wait=60,
        ),
        Rule(
            "PoolTransportQueueing",
            f"pooltransport:time_in_queue:p99_{minutes5} > {limits.queue_p99:g}",
            "warning",
            f"p99 wait for a connection to {_TO} is {{{{ $value | humanizeDuration }}}}.",
            "pool-saturated",
            wait=600,
        ),
        Rule(
            "PoolTransportSaturated",
            f"pooltransport:utilization:ratio > {limits.utilization:g}",
            "warning",
            f"{_SHARE} of the connections allowed to {_TO} are in use.",
            "pool-saturated",
            wait=600,
        ),
    ]


def _held(times: Times, limits: Thresholds) -> list[Rule]:
    """Return what keeps connections in use: causes 1 and 5."""
    minutes5, minutes15 = times.range(300), times.range(900)
    late = 'pooltransport_close_reason=~"header_timeout|body_timeout"'
    return [
        Rule(
            "PoolTransportResponseLeak",
            f'sum by ({_PROCESS}) (increase(pooltransport_leaks_total{{pooltransport_leak_kind="response"}}'
            f"[{minutes15}])) > {limits.leaks:g}",
            "warning",
            f"{_WHO} drops HTTP responses without closing them.",
            "response-leak",
        ),
        Rule(
            "PoolTransportLeaseOverdue",
            f'sum by ({_HOST}) (pooltransport_lease_overdue{{pooltransport_lease_class="idle_holder"}})'
            f" > {limits.idle_holders:g}",
            "warning",
            f"{{{{ $value }}}} responses from {_TO} are held open and not read.",
            "response-leak",
            wait=300,
        ),
        Rule(
            "PoolTransportSlowServer",
            f'sum by ({_HOST}) (pooltransport_lease_overdue{{pooltransport_lease_class="slow_server"}})'
            f" >= {limits.slow_leases:g}",
            "warning",
            f"{{{{ $value }}}} connections are held by {_TO} sending slowly or not at all.",
            "slow-server",
            wait=300,
        ),
        Rule(  # with a read timeout below lease_warn_after no lease lives long enough to be overdue
            "PoolTransportServerTimeouts",
            f"(\n  sum by ({_HOST}) (rate(pooltransport_connection_closed_total{{{late}}}[{minutes5}]))\n  /\n"
            f"  (sum by ({_HOST}) (rate(pooltransport_connection_acquired_total[{minutes5}]))"
            f" > {limits.timeouts_rate:g})\n) > {limits.timeouts_share:g}",
            "warning",
            f"{_SHARE} of requests to {_TO} time out while the server is to answer.",
            "slow-server",
            wait=300,
        ),
    ]


def _wasted(times: Times, limits: Thresholds) -> list[Rule]:
    """Return what throws connections away: causes 2, 3 and 4."""
    minutes5, minutes10 = times.range(300), times.range(600)
    acquired, closed = "pooltransport_connection_acquired_total", "pooltransport_connection_closed_total"
    created = "pooltransport_client_created_total"
    over = 'pooltransport_close_reason=~"idle_limit_host|idle_limit_total"'
    unread = 'pooltransport_close_reason=~"body_not_consumed|drain_limit|drain_timeout"'
    return [
        Rule(
            "PoolTransportLowReuse",
            f"pooltransport:reuse:ratio_rate{minutes5} < {limits.reuse:g}\nand on ({_HOST})\n"
            f"sum by ({_HOST}) (rate({acquired}[{minutes5}])) > {limits.reuse_rate:g}",
            "warning",
            f"Only {_SHARE} of requests to {_TO} reuse a connection.",
            "low-reuse",
            wait=900,
        ),
        Rule(
            "PoolTransportIdleLimitChurn",
            f"(\n  sum by ({_HOST}) (rate({closed}{{{over}}}[{minutes10}]))\n  /\n"
            f"  (sum by ({_HOST}) (rate({closed}[{minutes10}])) > {limits.idle_limit_rate:g})\n"
            f") > {limits.idle_limit_share:g}",
            "warning",
            f"The idle limit throws away healthy connections to {_TO}.",
            "idle-limit",
            wait=600,
        ),
        Rule(
            "PoolTransportBodiesNotConsumed",
            f"(\n  sum by ({_HOST}) (rate({closed}{{{unread}}}[{minutes10}]))\n  /\n"
            f"  (sum by ({_HOST}) (rate({acquired}[{minutes10}])) > {limits.not_consumed_rate:g})\n"
            f") > {limits.not_consumed_share:g}",
            "warning",
            f"{_SHARE} of responses from {_TO} cost a connection: body not read to the end.",
            "body-not-consumed",
            wait=600,
        ),
        Rule(
            "PoolTransportClientChurn",
            f"sum by ({_PROCESS}) (rate({created}[{minutes5}])) > {limits.clients_rate:g}\nand on ({_PROCESS})\n"
            f"sum by ({_PROCESS}) (rate({created}[{minutes5}])) / sum by ({_PROCESS}) (rate({acquired}[{minutes5}]))"
            f" > {limits.clients_share:g}",
            "warning",
            f"{_WHO} builds {{{{ printf `%.2f` $value }}}} HTTP clients per second.",
            "client-per-request",
            wait=600,
        ),
    ]


def _machine(times: Times, limits: Thresholds) -> list[Rule]:
    """Return what the network and the kernel say: dials that fail, and cause 6."""
    minutes5 = times.range(300)
    dials = "pooltransport_dial_duration_seconds_count"
    no_port = f'{dials}{{error_type="{NO_LOCAL_PORT}"}}'
    return [
        Rule(
            "PoolTransportDialFailures",
            f'sum by ({_HOST}) (increase({dials}{{error_type!=""}}[{minutes5}]))\n/\n'
            f"(sum by ({_HOST}) (increase({dials}[{minutes5}])) >= {limits.dial_samples:g})"
            f" > {limits.dial_failures_share:g}",
            "warning",
            f"{_SHARE} of dials to {_TO} fail.",
            "dial-failures",
            wait=300,
        ),
        Rule(  # the type of an error has no series until the first of its kind, which increase() does not see
            "PoolTransportPortsExhausted",
            f"sum by ({_HOST}) (increase({no_port}[{minutes5}])) > 0\nor\n"
            f"sum by ({_HOST}) ({no_port} unless {dials} offset {minutes5}) > 0",
            "critical",
            f"No local port is free towards {_TO}.",
            "port-exhaustion",
            keep=300,
        ),
        Rule(  # from the kernel's tables, where these metrics are asked for
            "PoolTransportPortPressure",
            f"max by ({_HOST}) (pooltransport_kernel_ports_used)\n/ on ({_PROCESS}) group_left ()\n"
            f"max by ({_PROCESS}) (pooltransport_kernel_ports_limit) > {limits.ports_share:g}",
            "warning",
            f"{_SHARE} of the local ports towards {_TO} are used.",
            "port-exhaustion",
            wait=120,
        ),
        Rule(  # and without them: who closes keeps the port for 60 s
            "PoolTransportTimeWaitChurn",
            f"sum by ({_HOST}) (rate(pooltransport_connection_closed_total"
            f'{{pooltransport_close_initiator="local"}}[{minutes5}])) > {limits.local_closes:g}',
            "warning",
            f"{_WHO} closes {{{{ $value | humanize }}}} connections to {_TO} each second; each stays in TIME_WAIT.",
            "port-exhaustion",
            wait=300,
        ),
        Rule(
            "PoolTransportFdPressure",
            f"(process_open_fds / process_max_fds > {limits.fds_share:g})\nand on ({_PROCESS})\n"
            f"(max by ({_PROCESS}) (http_client_open_connections) > 0)",
            "warning",
            f"{_WHO} uses {_SHARE} of its file descriptors.",
            "fd-pressure",
            wait=300,
        ),
    ]


NO_LOCAL_PORT = "no_local_port"  # `error.type` of a dial that found none: EADDRNOTAVAIL


def _record(rule: Rule) -> str:
    return f"  - record: {rule.name}\n{_expr(rule)}"


def _alert(rule: Rule, times: Times) -> str:
    lines = [f"  - alert: {rule.name}\n{_expr(rule)}"]
    if rule.wait:
        lines.append(f"    for: {times.wait(rule.wait)}\n")
    if rule.keep:
        lines.append(f"    keep_firing_for: {times.wait(rule.keep)}\n")
    lines.append(f"    labels:\n      severity: {rule.severity}\n")
    lines.append(f'    annotations:\n      summary: "{rule.summary}"\n      runbook: {rule.runbook}\n')
    return "".join(lines)


def _expr(rule: Rule) -> str:
    return "    expr: |\n" + "".join(f"      {line}\n" for line in rule.expr.splitlines())


def _duration(seconds: float) -> str:
    """Write a duration as Prometheus does: 1m30s."""
    rest = round(seconds * 1000)
    parts = []
    for unit, size in (("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "1ms"
