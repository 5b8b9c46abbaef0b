"""Every metric there is, as data: the exporters, the alert rules, the dashboard and the documentation are held to it.

Names and units are those of OpenTelemetry's semantic conventions where these (or .NET, for the time in the queue) have
the metric, else ``pooltransport.*``. `Metric.prometheus` is what OpenTelemetry's Prometheus exporter makes of it.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

from pooltransport.stats import AcquireFailure, AcquireSource, Activity, CloseReason, DrainOutcome, LeakFound

if TYPE_CHECKING:
    from collections.abc import Mapping

# Upper bounds of histograms: of the semantic conventions for HTTP, of theirs for connections, for leases, for counts.
BUCKETS_A = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
BUCKETS_B = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
BUCKETS_C = (*BUCKETS_A, 30.0, 60.0, 300.0)
BUCKETS_D = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 5000.0)
# Of the semantic conventions' advice for sizes there is none: powers of four, from 64 bytes to 64 MiB.
BUCKETS_BYTES = tuple(float(4**power) for power in range(3, 14))


class Kind(enum.Enum):
    """How a metric behaves. An up-down counter is a gauge for Prometheus, and may be summed."""

    COUNTER = "counter"
    UP_DOWN = "up-down counter"
    GAUGE = "gauge"  # summing it over processes makes no sense
    HISTOGRAM = "histogram"


class Metric(NamedTuple):
    """One metric. `labels` are on every series, `optional` ones only where there is something to say."""

    name: str  # OpenTelemetry's
    kind: Kind
    unit: str  # UCUM, as OpenTelemetry writes it: "s", "By", "{connection}"
    help: str
    labels: tuple[str, ...] = ()  # attribute names of OpenTelemetry
    optional: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    prometheus_default: bool = True  # exported to Prometheus unless asked otherwise
    otel_default: bool = True  # likewise to OpenTelemetry, where every histogram costs each request its time

    @property
    def prometheus(self) -> str:
        """Prometheus' name: of a histogram without ``_bucket``, ``_sum`` and ``_count``."""
        suffix = {"s": "_seconds", "By": "_bytes"}.get(self.unit, "")
        return self.name.replace(".", "_") + suffix + ("_total" if self.kind is Kind.COUNTER else "")

    @property
    def prometheus_type(self) -> str:
        """The word after ``# TYPE``."""
        return "gauge" if self.kind is Kind.UP_DOWN else self.kind.value

    @property
    def series(self) -> tuple[str, ...]:
        """The names of the series that a scrape shows."""
        if self.kind is not Kind.HISTOGRAM:
            return (self.prometheus,)
        return tuple(self.prometheus + suffix for suffix in ("_bucket", "_sum", "_count"))


HOST = ("server.address", "server.port")
STATE = "http.connection.state"
LIMIT_SCOPE = "pooltransport.limit.scope"
LEASE_CLASS = "pooltransport.lease.class"
ACQUIRE_SOURCE = "pooltransport.acquire.source"
CLOSE_REASON = "pooltransport.close.reason"
CLOSE_INITIATOR = "pooltransport.close.initiator"
LEAK_KIND = "pooltransport.leak.kind"
LEAK_FOUND = "pooltransport.leak.found"
DRAIN_OUTCOME = "pooltransport.drain.outcome"
DIAL_PHASE = "pooltransport.dial.phase"
HOOK = "pooltransport.hook"
SOCKET_STATE = "pooltransport.socket.state"
SOCKET_OWNER = "pooltransport.socket.owner"

# The values of the labels whose list is closed: each of a counter's is there at 0 from a host's first dial on, because
# `increase()` of a series that is born at 1 is 0. `error.type` is closed for `pooltransport.acquire.failures` alone.
VALUES: Mapping[str, tuple[str, ...]] = {
    STATE: ("active", "idle"),
    LIMIT_SCOPE: ("total", "per_host", "idle_total", "idle_per_host"),
    LEASE_CLASS: tuple(member.value for member in Activity if member is not Activity.RECENT),
    ACQUIRE_SOURCE: tuple(member.value for member in AcquireSource),
    CLOSE_REASON: tuple(member.value for member in CloseReason),
    CLOSE_INITIATOR: ("local", "remote"),
    LEAK_KIND: ("response", "client"),
    LEAK_FOUND: tuple(member.value for member in LeakFound),
    DRAIN_OUTCOME: tuple(member.value for member in DrainOutcome),
    DIAL_PHASE: ("dns", "connect", "tls", "proxy"),
    SOCKET_OWNER: ("pool", "process", "none"),
}
FAILURES = tuple(member.value for member in AcquireFailure)  # of `error.type`

_REQUEST = (*HOST, "http.request.method")
_ANSWER = ("http.response.status_code", "error.type", "network.protocol.name", "network.protocol.version")

_REQUESTS = (
    Metric(
        "http.client.request.duration",
        Kind.HISTOGRAM,
        "s",
        "Time from the request to its response's headers, or to its error.",
        _REQUEST,
        _ANSWER,
        BUCKETS_A,
    ),
    Metric(
        "http.client.active_requests",
        Kind.UP_DOWN,
        "{request}",
        "Requests under way, from the connection to the end of the response.",
        HOST,
        ("http.request.method",),
    ),
    Metric(
        "http.client.request.time_in_queue",
        Kind.HISTOGRAM,
        "s",
        "Time that requests waited for a connection; 0 where one was idle.",
        HOST,
        ("http.request.method", "network.protocol.version"),
        BUCKETS_A,
        otel_default=False,
    ),
    Metric(
        "http.client.request.body.size",
        Kind.HISTOGRAM,
        "By",
        "Bytes of request bodies, as sent.",
        _REQUEST,
        _ANSWER,
        BUCKETS_BYTES,
        prometheus_default=False,
        otel_default=False,
    ),
    Metric(
        "http.client.response.body.size",
        Kind.HISTOGRAM,
        "By",
        "Bytes of response bodies, as received.",
        _REQUEST,
        _ANSWER,
        BUCKETS_BYTES,
        prometheus_default=False,
        otel_default=False,
    ),
    Metric(
        "dns.lookup.duration",
        Kind.HISTOGRAM,
        "s",
        "Time that looking up a name took.",
        ("dns.question.name",),
        ("error.type",),
        BUCKETS_A,
        prometheus_default=False,
        otel_default=False,
    ),
)

_CONNECTIONS = (
    Metric(
        "http.client.open_connections",
        Kind.UP_DOWN,
        "{connection}",
        "Connections that are open; active are those in use, being drained, or upgraded.",
        (STATE, *HOST),
        ("network.protocol.version",),
    ),
    Metric(
        "http.client.connection.duration",
        Kind.HISTOGRAM,
        "s",
        "How old connections were when they were closed.",
        HOST,
        ("network.protocol.version",),
        BUCKETS_B,
        otel_default=False,
    ),
    Metric(
        "pooltransport.connection.limit",
        Kind.UP_DOWN,
        "{connection}",
        "The limits that are set; there is no series where there is no limit.",
        (LIMIT_SCOPE,),
        HOST,
    ),
    Metric("pooltransport.connection.dialing", Kind.UP_DOWN, "{connection}", "Connections being established.", HOST),
    Metric(
        "pooltransport.connection.acquired",
        Kind.COUNTER,
        "{connection}",
        "Connections that requests got, by where they came from.",
        (*HOST, ACQUIRE_SOURCE),
    ),
    Metric(
        "pooltransport.connection.closed",
        Kind.COUNTER,
        "{connection}",
        "Connections that were closed, by reason; TIME_WAIT stays with the initiator.",
        (*HOST, CLOSE_REASON, CLOSE_INITIATOR),
    ),
    Metric(
        "pooltransport.connection.requests",
        Kind.HISTOGRAM,
        "{request}",
        "How many requests connections had served when they were closed.",
        HOST,
        (),
        BUCKETS_D,
        otel_default=False,
    ),
    Metric(
        "pooltransport.dial.duration",
        Kind.HISTOGRAM,
        "s",
        "How long dials took: look-up, every address, proxy and TLS together.",
        HOST,
        ("error.type",),
        BUCKETS_A,
        otel_default=False,
    ),
    Metric(
        "pooltransport.dial.phase.duration",
        Kind.HISTOGRAM,
        "s",
        "How long each phase of a dial took.",
        (*HOST, DIAL_PHASE),
        (),
        BUCKETS_A,
        prometheus_default=False,
        otel_default=False,
    ),
)

_QUEUE_AND_LEASES = (
    Metric("pooltransport.acquire.waiting", Kind.UP_DOWN, "{request}", "Requests that wait for a connection.", HOST),
    Metric(
        "pooltransport.acquire.oldest_wait",
        Kind.GAUGE,
        "s",
        "How long the request has waited that waits the longest now; 0 where none waits.",
        HOST,
    ),
    Metric(
        "pooltransport.acquire.failures",
        Kind.COUNTER,
        "{failure}",
        "Requests that got no connection, by why.",
        (*HOST, "error.type"),
    ),
    Metric(
        "pooltransport.lease.oldest_age",
        Kind.GAUGE,
        "s",
        "How long the connection has been in use that is in use the longest now; 0 where none is.",
        HOST,
    ),
    Metric(
        "pooltransport.lease.overdue",
        Kind.UP_DOWN,
        "{lease}",
        "Connections in use for longer than lease_warn_after, by what goes on in them.",
        (*HOST, LEASE_CLASS),
    ),
    Metric(
        "pooltransport.lease.duration",
        Kind.HISTOGRAM,
        "s",
        "How long connections were in use by one response.",
        HOST,
        (),
        BUCKETS_C,
        otel_default=False,
    ),
    Metric(
        "pooltransport.leaks",
        Kind.COUNTER,
        "{leak}",
        "Responses, and clients, that were dropped without being closed.",
        (LEAK_KIND, LEAK_FOUND),
        HOST,
    ),
    Metric(
        "pooltransport.body.drain",
        Kind.COUNTER,
        "{response}",
        "Responses closed before their end, by how reading the rest ended.",
        (*HOST, DRAIN_OUTCOME),
    ),
)

_PROCESS = (
    Metric("pooltransport.client.live", Kind.UP_DOWN, "{client}", "Clients that are alive."),
    Metric("pooltransport.client.created", Kind.COUNTER, "{client}", "Clients that were made."),
    Metric("pooltransport.hook.errors", Kind.COUNTER, "{error}", "Hooks that raised, by hook.", (HOOK,)),
    Metric(
        "pooltransport.loop.lag_max",
        Kind.GAUGE,
        "s",
        "By how much the housekeeper came late at worst in the last minute: a blocked loop, or a machine without time.",
    ),
    Metric(
        "pooltransport.kernel.sockets",
        Kind.GAUGE,
        "{socket}",
        "TCP sockets towards the pool's hosts, by state and by whose they are; in TIME_WAIT they are nobody's.",
        (*HOST, SOCKET_STATE, SOCKET_OWNER),
        prometheus_default=False,
        otel_default=False,
    ),
    Metric(
        "pooltransport.kernel.ports_used",
        Kind.GAUGE,
        "{port}",
        "Local ports in use towards a host, TIME_WAIT included.",
        HOST,
        prometheus_default=False,
        otel_default=False,
    ),
    Metric(
        "pooltransport.kernel.ports_limit",
        Kind.GAUGE,
        "{port}",
        "Local ports that the kernel hands out towards one address and port.",
        prometheus_default=False,
        otel_default=False,
    ),
)

METRICS: tuple[Metric, ...] = _REQUESTS + _CONNECTIONS + _QUEUE_AND_LEASES + _PROCESS
BY_NAME: Mapping[str, Metric] = {metric.name: metric for metric in METRICS}
BY_PROMETHEUS: Mapping[str, Metric] = {metric.prometheus: metric for metric in METRICS}


def label(attribute: str) -> str:
    """Return Prometheus' name of an OpenTelemetry attribute."""
    return attribute.replace(".", "_")
