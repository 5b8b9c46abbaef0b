"""What the pool counts, as values: a snapshot, and the closed lists its counters are keyed by.

1. A snapshot is consistent: it is taken in one piece, and every total is the sum of its hosts
   and of what was counted for hosts that the pool has forgotten since.
2. ``open`` counts the sockets that work for somebody or could (active, idle, draining, upgraded);
   ``closing`` those on their way out, ``dialing`` those on their way in. All of them hold a slot:
   ``open + dialing + closing`` never exceeds the limit.
3. ``waiting`` counts who has no connection and no dial of its own; ``leases`` counts the uses of
   connections, which is more than the active connections only when a connection can be shared.
4. Keys are the snake_case values of the enums below, so that ``to_json()`` needs no translation.
5. ``schema`` is 1 as long as changes only add. `pooltransport/stats.schema.json` describes ``to_json()``.
6. A ratio or a rate is None where fewer than 20 connections were acquired: neither 0 nor 1 would be true.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


_REMOTE = frozenset(("server_closed_idle", "server_close_header", "read_loop_exit", "goaway"))


class CloseReason(enum.Enum):
    """Why a connection was closed. The list is closed; `sentence` says it in plain words."""

    sentence: str

    def __new__(cls, value: str, sentence: str) -> CloseReason:  # noqa: PYI034 - an enum has no subclass
        """Make a member whose value is the short name alone."""
        member = object.__new__(cls)
        member._value_ = value
        member.sentence = sentence
        return member

    @property
    def initiator(self) -> str:
        """``remote`` where the server ended the connection, which leaves TIME_WAIT on its side; else ``local``."""
        return "remote" if self.value in _REMOTE else "local"

    IDLE_TIMEOUT = "idle_timeout", "idle for longer than the idle timeout"
    IDLE_LIMIT_HOST = "idle_limit_host", "too many idle connections for host"
    IDLE_LIMIT_TOTAL = "idle_limit_total", "too many idle connections"
    KEEPALIVE_DISABLED = "keepalive_disabled", "keep-alives are disabled"
    SERVER_CLOSE_HEADER = "server_close_header", "the server announced that it closes the connection"
    SERVER_CLOSED_IDLE = "server_closed_idle", "the server closed the idle connection"
    CLOSE_IDLE_CALLED = "close_idle_called", "close_idle_connections() was called"
    BAD_STATE = "bad_state", "the connection is in a bad state"
    READ_LOOP_EXIT = "read_loop_exit", "nothing more can be read from the connection"
    BODY_NOT_CONSUMED = "body_not_consumed", "the response body was not read to its end"
    DRAIN_LIMIT = "drain_limit", "more of the body was left than the drain limit allows to read"
    DRAIN_TIMEOUT = "drain_timeout", "the rest of the body did not arrive within the drain timeout"
    LEAKED = "leaked", "the response was garbage-collected without being closed"
    READ_ERROR = "read_error", "reading failed"
    WRITE_ERROR = "write_error", "writing failed"
    PROTOCOL_ERROR = "protocol_error", "the server broke the protocol"
    UNSOLICITED_DATA = "unsolicited_data", "the server sent bytes that nobody asked for"
    HEADER_TIMEOUT = "header_timeout", "the response header did not arrive in time"
    BODY_TIMEOUT = "body_timeout", "the response body did not arrive in time"
    CANCELLED = "cancelled", "the request was cancelled"
    MAX_LIFETIME = "max_lifetime", "older than the maximum lifetime of a connection"
    TRUST_CHANGED = "trust_changed", "made with certificate files that have changed since"
    MAX_REQUESTS = "max_requests", "served as many requests as the server allows on one connection"
    GOAWAY = "goaway", "the server takes no more requests on the connection"
    ADDRESS_FAILED = "address_failed", "its address refused or did not answer a new connection"
    EVICTED_FOR_LIMIT = "evicted_for_limit", "its slot was needed for a request that waited"
    DIAL_UNUSED = "dial_unused", "dialed, but no longer wanted by anybody"
    UPGRADED = "upgraded", "it carried another protocol, which has ended"
    LEASE_EXPIRED = "lease_expired", "the response was held for longer than lease_max"
    POOL_CLOSED = "pool_closed", "the transport was closed"
    FORK = "fork", "inherited from the parent process"


class AcquireSource(enum.Enum):
    """Where a delivered connection came from."""

    REUSED = "reused"  # it was idle
    DIALED = "dialed"  # by the waiter's own dial, or one that it adopted
    HANDED_OVER = "handed_over"  # somebody else gave it back, or dialed it, while the waiter waited


class DrainOutcome(enum.Enum):
    """How reading the rest of a body on close ended."""

    REUSED = "reused"
    LIMIT = "limit"
    TIMEOUT = "timeout"
    ERROR = "error"


class AcquireFailure(enum.Enum):
    """Why a request got no connection."""

    POOL_TIMEOUT = "pool_timeout"
    POOL_QUEUE_FULL = "pool_queue_full"
    POOL_CLOSED = "pool_closed"
    POOL_DEADLOCK = "pool_deadlock"
    DIAL_TIMEOUT = "dial_timeout"
    DIAL_ERROR = "dial_error"
    CANCELLED = "cancelled"


class LeakFound(enum.Enum):
    """How it was noticed that a response was never closed."""

    GC = "gc"  # it was collected
    RESCUE = "rescue"  # it was collected because the pool had run dry
    CLOSE = "close"  # its transport, or the loop, ended first
    EXIT = "exit"  # the process ended first


class Activity(enum.Enum):
    """What goes on in a lease, judged by who moved last (`diagnosis/activity.py`)."""

    RECENT = "recent"  # younger than `lease_warn_after`
    IDLE_HOLDER = "idle_holder"  # headers are there, and nobody reads
    SLOW_SERVER = "slow_server"  # somebody waits for the server
    SLOW_READER = "slow_reader"  # bytes are there, the reader comes rarely
    PROGRESSING = "progressing"  # bytes move
    DECLARED_STREAM = "declared_stream"  # `response.long_lived()`, an event stream, another protocol


_NO_LEASES = {activity.value: 0 for activity in Activity}


class Histogram(NamedTuple):
    """How often a value fell where: ``counts[i]`` up to ``bounds[i]``, the last above all of them."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float

    @property
    def total(self) -> int:
        """How many values."""
        return sum(self.counts)


class Histograms(NamedTuple):
    """What was measured for one host, in seconds; `connection_requests` in requests.

    `dial_failures` by type of error; `requests`, until the headers were read, by ``METHOD status`` or ``METHOD error``.
    """

    time_in_queue: Histogram
    lease_duration: Histogram
    connection_duration: Histogram
    connection_requests: Histogram
    dial_duration: Histogram
    dial_failures: Mapping[str, Histogram]
    requests: Mapping[str, Histogram]


class DialErrorStats(NamedTuple):
    """The last dial that failed: what kind of error, and how long ago."""

    type: str
    age_s: float


class Finding(NamedTuple):
    """What a rule says of a snapshot. `confidence`: ``certain``, ``likely`` or ``possible``.

    `id`: R1, R2 ...; `evidence` and `against`: sentences with numbers; `runbook`: a page of docs/runbooks.
    """

    id: str
    cause: str
    severity: str
    confidence: str
    evidence: tuple[str, ...]
    against: tuple[str, ...]
    fix: str
    runbook: str


class LeaseStats(NamedTuple):
    """One connection in use. `site`: ``file:line`` that opened it, `stack`: from there outwards."""

    id: int
    origin: str
    method: str
    status_code: int
    age_s: float
    activity: str
    bytes_read: int
    bytes_expected: int | None
    reader_waiting_s: float | None
    unread_s: float | None
    site: str
    stack: tuple[str, ...]
    thread: str
    task: str | None


class WaiterStats(NamedTuple):
    """One request that has no connection. `holds`: ids of the leases that its own thread or task has."""

    origin: str
    age_s: float
    deadline_in_s: float | None
    holds: tuple[int, ...]


class IdleStats(NamedTuple):
    """One idle connection."""

    origin: str
    age_s: float
    idle_s: float
    requests_served: int


class ClientStats(NamedTuple):
    """Clients of this transport: made ever, and alive now."""

    created: int
    live: int


class HostStats(NamedTuple):
    """One host's gauges (``active`` to ``leases``), counters and measurements. A snapshot; it does not change."""

    origin: str
    active: int
    idle: int
    dialing: int
    draining: int
    upgraded: int
    closing: int
    waiting: int
    leases: int
    acquired: Mapping[str, int]  # by AcquireSource, all of them
    dials: int  # started
    dial_errors: int
    closed: Mapping[str, int]  # by CloseReason, those that happened
    leaks: int
    drains: Mapping[str, int]  # by DrainOutcome, all of them
    timeouts: Mapping[str, int]  # by phase, those that happened
    retries: int
    dial_errors_by_type: Mapping[str, int]  # those that happened
    acquire_failures: Mapping[str, int]  # by AcquireFailure, all of them
    leaks_by_found: Mapping[str, int]  # by LeakFound, all of them
    histograms: Histograms
    scheme: str = ""
    address: str = ""  # of the server; "*" for all that a forward proxy is asked for
    port: int = 0
    proxy: str | None = None  # without credentials
    protocol: str = "http/1.1"
    limit: int | None = None  # every socket of the host
    idle_limit: int | None = None
    oldest_wait_s: float = 0.0  # 0 where nobody waits
    oldest_lease_s: float = 0.0
    oldest_idle_s: float = 0.0
    peak_active_5m: int = 0
    lease_mean_s_1m: float | None = None
    arrival_rate_1m: float | None = None  # connections acquired each second
    reuse_ratio_1m: float | None = None
    reuse_ratio_total: float | None = None
    leases_by_class: Mapping[str, int] = _NO_LEASES  # by Activity, all of them
    last_dial_error: DialErrorStats | None = None

    @property
    def open(self) -> int:
        """Connections that work for somebody or could: neither dialing nor closing."""
        return self.active + self.idle + self.draining + self.upgraded

    def as_dict(self) -> dict[str, Any]:
        """Return the same as nested plain values, ``open`` included."""
        return _plain(self)  # type: ignore[no-any-return]


class PoolStats(NamedTuple):
    """A transport's gauges and counters, over all hosts and for each. A snapshot; it does not change."""

    schema: int
    name: str | None
    active: int
    idle: int
    dialing: int
    draining: int
    upgraded: int
    closing: int
    waiting: int
    leases: int
    acquired: Mapping[str, int]
    dials: int
    dial_errors: int
    closed: Mapping[str, int]
    leaks: int
    drains: Mapping[str, int]
    timeouts: Mapping[str, int]
    retries: int
    dial_errors_by_type: Mapping[str, int]
    acquire_failures: Mapping[str, int]
    leaks_by_found: Mapping[str, int]
    histograms: Histograms
    hook_errors: int
    hook_errors_by_hook: Mapping[str, int]
    rebuilds: int  # times that the counts were taken anew after an exception in the middle
    limits: Mapping[str, Any]
    hosts: Mapping[str, HostStats]
    pid: int = 0
    taken_at: float = 0.0  # seconds since 1970
    monotonic: float = 0.0  # the pool's clock at that moment
    uptime_s: float = 0.0
    loop_lag_max_s: float = 0.0  # by how much the housekeeper came late at worst, in the last minute
    oldest_wait_s: float = 0.0
    oldest_lease_s: float = 0.0
    oldest_idle_s: float = 0.0
    peak_active_5m: int = 0
    lease_mean_s_1m: float | None = None
    arrival_rate_1m: float | None = None
    reuse_ratio_1m: float | None = None
    reuse_ratio_total: float | None = None
    leases_by_class: Mapping[str, int] = _NO_LEASES
    clients: ClientStats = ClientStats(0, 0)
    findings: tuple[Finding, ...] = ()
    lease_list: tuple[LeaseStats, ...] | None = None  # these three with `stats(detail=True)`
    waiter_list: tuple[WaiterStats, ...] | None = None
    idle_list: tuple[IdleStats, ...] | None = None

    @property
    def open(self) -> int:
        """Connections that work for somebody or could: neither dialing nor closing."""
        return self.active + self.idle + self.draining + self.upgraded

    def as_dict(self) -> dict[str, Any]:
        """Return the same as nested plain values, ``open`` included."""
        return _plain(self)  # type: ignore[no-any-return]

    def to_json(self) -> str:
        """Return the same as a JSON object, which `pooltransport/stats.schema.json` describes."""
        import json  # noqa: PLC0415 - only who asks for it pays for it

        return json.dumps(self.as_dict(), default=str)


def _plain(value: Any) -> Any:
    if hasattr(value, "_asdict"):
        values: dict[str, Any] = {}
        for name, part in value._asdict().items():
            if name == "active":
                values["open"] = value.open
            values[name] = _plain(part)
        return values
    if hasattr(value, "items"):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, (tuple, list)) else value
