"""What the pool keeps and says: limits, waiters, dials, actions, and one record for each thing counted.

Only `Limits`, `Waiter`, `DialTicket`, the actions and the two exceptions are for the engine;
`Entry`, `Lane` and `HostRecord` never leave the pool.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from .counts import HostCounts

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from pooltransport.stats import AcquireSource, CloseReason

C = TypeVar("C")
NEVER = float("inf")


class QueueFull(Exception):
    """The newcomer would have to wait, and ``max_waiting`` wait already. Nothing was changed."""


class PoolClosedError(Exception):
    """The pool was closed before or while the waiter asked."""


class Limits(NamedTuple):
    """``None`` is no limit; ``0`` idle keeps nothing (contract 1.5)."""

    max_idle_conns: int | None = 100
    max_idle_conns_per_host: int | None = None  # None follows max_idle_conns
    max_conns_per_host: int | None = None
    max_conns: int | None = None
    max_waiting: int | None = None
    idle_conn_timeout: float | None = 90.0
    disable_keep_alives: bool = False
    max_orphans_per_host: int = 8
    max_orphans: int = 64

    @property
    def idle_per_host(self) -> int | None:
        """How many one host may keep idle, whichever limit says so."""
        return self.max_idle_conns if self.max_idle_conns_per_host is None else self.max_idle_conns_per_host


class ConnState(enum.Enum):
    """The life of a connection. A slot is held in every one of these states."""

    IDLE = "idle"
    ACTIVE = "active"
    DRAINING = "draining"
    UPGRADED = "upgraded"
    CLOSING = "closing"  # Close was said; the socket is not known to be closed yet


class WaiterState(enum.Enum):
    """A waiter has one outcome: DELIVERED, FAILED or CANCELLED. Before that it is pending."""

    NEW = "new"
    QUEUED = "queued"  # no slot
    GRANTED = "granted"  # a slot, whose former socket is not closed yet
    DIALING = "dialing"  # a dial of its own runs
    DELIVERED = "delivered"
    FAILED = "failed"
    CANCELLED = "cancelled"


class DialState(enum.Enum):
    """The life of a dial."""

    HELD = "held"  # granted; waits for a socket to be closed, Dial was not said yet
    RUNNING = "running"
    ABORTED = "aborted"  # AbortDial was said; holds its slot until its end is reported
    DONE = "done"


_PENDING = frozenset({WaiterState.NEW, WaiterState.QUEUED, WaiterState.GRANTED, WaiterState.DIALING})


class Waiter(Generic[C]):
    """One caller's wish for one connection (Go: wantConn).

    `latch` and `tag` belong to the engine, which makes a latch only when `get` left the waiter pending.
    """

    __slots__ = (
        "__weakref__",
        "conn",
        "dial",
        "error",
        "key",
        "latch",
        "seq",
        "since",
        "source",
        "state",
        "tag",
    )

    def __init__(self, key: Hashable, latch: Any = None, tag: Any = None) -> None:
        self.key = key
        self.latch = latch
        self.tag = tag
        self.since = 0.0  # when it asked
        self.seq = 0  # order of asking, over all hosts
        self.state = WaiterState.NEW
        self.conn: C | None = None
        self.error: BaseException | None = None
        self.dial: DialTicket[C] | None = None  # while pending: the dial that runs, or may run soon, for it
        self.source: AcquireSource | None = None  # of the delivered connection

    @property
    def pending(self) -> bool:
        """Whether there is no outcome yet."""
        return self.state in _PENDING

    def __repr__(self) -> str:
        return f"<Waiter {self.seq} {self.key!r} {self.state.value}>"


class DialTicket(Generic[C]):
    """The right to one dial, and the name under which its end is reported. `tag` belongs to the engine."""

    __slots__ = ("host", "key", "record", "started", "state", "tag", "waiter")

    def __init__(self, record: HostRecord[C], waiter: Waiter[C]) -> None:
        self.key = waiter.key
        self.host = record.host
        self.record = record
        self.waiter: Waiter[C] | None = waiter  # None: an orphan
        self.state = DialState.HELD
        self.started = 0.0
        self.tag: Any = None

    def __repr__(self) -> str:
        return f"<DialTicket {self.key!r} {self.state.value} for {self.waiter!r}>"


class Dial(NamedTuple, Generic[C]):
    """Start the dial; its end is `dialed` or `dial_failed`."""

    ticket: DialTicket[C]


class AbortDial(NamedTuple, Generic[C]):
    """Stop the dial; its end, either way, must still be reported: until then it holds its slot."""

    ticket: DialTicket[C]


class Wake(NamedTuple, Generic[C]):
    """The waiter, left pending by `get`, has its outcome."""

    waiter: Waiter[C]


class Close(NamedTuple, Generic[C]):
    """Close the socket, then report `closed`: until then it holds its slot."""

    conn: C
    reason: CloseReason


if TYPE_CHECKING:
    Action = Dial[C] | AbortDial[C] | Wake[C] | Close[C]
    Actions = Sequence[Action[C]]


class Entry(Generic[C]):
    """One connection, from `dialed` to `closed`."""

    __slots__ = (
        "capacity",
        "conn",
        "created",
        "deadline",
        "hint",
        "hint_no",
        "idle_since",
        "lane",
        "max_uses",
        "plain",
        "record",
        "retire_at",
        "retired",
        "state",
        "used",
        "uses",
    )

    def __init__(self, conn: C, lane: Lane[C], capacity: int, retire_at: float | None, now: float) -> None:
        self.conn = conn
        self.created = now
        self.lane = lane
        self.record = lane.record
        self.capacity = capacity
        self.state = ConnState.ACTIVE
        self.used = 0  # leases now
        self.uses = 0  # leases ever
        self.max_uses: int | None = None  # leases the server allows
        self.retire_at = NEVER if retire_at is None else retire_at
        self.retired: CloseReason | None = None  # takes no new lease, closed for this when unused
        self.idle_since = 0.0
        self.deadline = self.retire_at  # not to be handed out from then on
        self.hint: float | None = None  # the server's own idle timeout
        self.hint_no = 0  # its number in Hints, 0 for none
        self.plain = capacity == 1 and retire_at is None  # nothing to look at but the limits

    @property
    def key(self) -> Hashable:
        """What the connection is good for."""
        return self.lane.key

    def __repr__(self) -> str:
        return f"<Entry {self.conn!r} {self.state.value} {self.used}/{self.capacity}>"


class Lane(Generic[C]):
    """What belongs to one key. Exists as long as it has a connection, a pending waiter or an orphan dial."""

    __slots__ = ("conns", "key", "orphans", "record", "stack", "waiters")

    def __init__(self, key: Hashable, record: HostRecord[C]) -> None:
        self.key = key
        self.record = record
        self.conns = 0  # entries that are not closing
        self.stack: OrderedDict[Entry[C], None] = OrderedDict()  # can take a lease; newest last
        self.waiters: OrderedDict[Waiter[C], None] = OrderedDict()  # all pending ones, oldest first
        self.orphans: OrderedDict[DialTicket[C], None] = OrderedDict()  # oldest first

    @property
    def empty(self) -> bool:
        """Whether nothing keeps the lane."""
        return not (self.conns or self.waiters or self.orphans)

    def __repr__(self) -> str:
        return f"<Lane {self.key!r}>"


class HostRecord(Generic[C]):
    """One budget of slots, and the counts of its host. Several keys may share it (contract 1.2)."""

    __slots__ = (
        "aborting",
        "closing",
        "conns",
        "counts",
        "dialing",
        "draining",
        "held",
        "host",
        "idle",
        "last_dial_error",
        "leases",
        "orphans",
        "peak",
        "queue",
        "queued_seq",
        "upgraded",
    )

    def __init__(self, host: Hashable) -> None:
        self.host = host
        self.counts = HostCounts()
        # Waiters and dials, all keys, oldest first.
        self.queue: OrderedDict[Waiter[C], None] = OrderedDict()  # those without a slot
        self.held: OrderedDict[DialTicket[C], None] = OrderedDict()  # granted, for a socket still closing
        self.orphans: OrderedDict[DialTicket[C], None] = OrderedDict()
        self.idle: OrderedDict[Entry[C], None] = OrderedDict()  # least recently used first
        self.queued_seq = 0  # the front waiter under which Turns knows this host, 0 for none
        # Gauges.
        self.conns = 0  # open: idle, active, draining, upgraded
        self.closing = 0
        self.draining = 0
        self.upgraded = 0
        self.dialing = 0  # started, aborted ones included
        self.aborting = 0
        self.leases = 0
        self.peak = 0  # most leases at once since the last `sample`
        self.last_dial_error: tuple[str, float] | None = None  # what kind, when

    @property
    def slots(self) -> int:
        """Sockets: dialing, open and closing."""
        return self.dialing + self.conns + self.closing

    @property
    def firm(self) -> int:
        """What `slots` will be when everything on its way out is gone and every grant is used."""
        return self.conns + self.dialing - self.aborting + len(self.held)

    @property
    def dormant(self) -> bool:
        """Whether nothing but the counters is left."""
        return not (self.conns or self.closing or self.dialing or self.held or self.queue)

    def __repr__(self) -> str:
        return f"<HostRecord {self.host!r} firm={self.firm} slots={self.slots} queue={len(self.queue)}>"
