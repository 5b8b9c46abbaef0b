"""What the pool counts, as values: a snapshot, and the closed lists its counters are keyed by.

1. A snapshot is consistent: it is taken in one piece, and every total is the sum of its hosts
   and of what was counted for hosts that the pool has forgotten since.
2. ``open`` counts the sockets that work for somebody or could (active, idle, draining, upgraded);
   ``closing`` those on their way out, ``dialing`` those on their way in. All of them hold a slot:
   ``open + dialing + closing`` never exceeds the limit.
3. ``waiting`` counts who has no connection and no dial of its own; ``leases`` counts the uses of
   connections, which is more than the active connections only when a connection can be shared.
4. Keys are the snake_case values of the enums below, so that ``to_json()`` needs no translation.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class CloseReason(enum.Enum):
    """Why a connection was closed. The list is closed; `sentence` says it in plain words."""

    sentence: str

    def __new__(cls, value: str, sentence: str) -> CloseReason:  # noqa: PYI034 - an enum has no subclass
        """Make a member whose value is the short name alone."""
        member = object.__new__(cls)
        member._value_ = value
        member.sentence = sentence
        return member

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


class HostStats(NamedTuple):
    """One host's gauges (``active`` to ``leases``) and counters. A snapshot; it does not change."""

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

    @property
    def open(self) -> int:
        """Connections that work for somebody or could: neither dialing nor closing."""
        return self.active + self.idle + self.draining + self.upgraded

    def as_dict(self) -> dict[str, Any]:
        """Return the same as nested plain values, ``open`` included."""
        return _plain(self)


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
    hook_errors: int
    rebuilds: int  # times that the counts were taken anew after an exception in the middle
    limits: Mapping[str, Any]
    hosts: Mapping[str, HostStats]
    findings: tuple[Any, ...] = ()

    @property
    def open(self) -> int:
        """Connections that work for somebody or could: neither dialing nor closing."""
        return self.active + self.idle + self.draining + self.upgraded

    def as_dict(self) -> dict[str, Any]:
        """Return the same as nested plain values, ``open`` included."""
        return _plain(self)

    def to_json(self) -> str:
        """Return the same as a JSON object."""
        import json  # noqa: PLC0415 - only who asks for it pays for it

        return json.dumps(self.as_dict(), default=str)


def _plain(stats: Any) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in stats._asdict().items():
        if name == "active":
            values["open"] = stats.open
        if name == "hosts":
            values[name] = {origin: host.as_dict() for origin, host in value.items()}
        elif name == "findings":
            values[name] = [finding._asdict() if hasattr(finding, "_asdict") else finding for finding in value]
        else:
            values[name] = dict(value) if hasattr(value, "items") else value
    return values
