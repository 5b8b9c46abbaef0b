"""The pool's tables, and the moves that keep them consistent with each other.

A move changes every table and count that it concerns, and says the action that goes with it. Which
move is due is decided in `pool.py`. Two counts of slots are kept apart:

- ``slots``: sockets. Dialing, open or closing; never above a limit.
- ``firm``: what ``slots`` will be once everything on its way out is gone and every granted dial runs.
  All decisions are made on ``firm``, as if a close took no time; nobody is evicted for twice.

A grant made on ``firm`` before a socket is free is *held*: its `Dial` is said when a `closed` or the
end of an aborted dial makes room. There are at most as many held grants as things on their way out.

A move says its action first. Should an exception (a KeyboardInterrupt) break it off, what was said is
what `rebuild` brings the tables to.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Generic

from pooltransport.stats import AcquireSource, CloseReason

from .counts import HostCounts
from .queues import Hints, Turns
from .records import (
    NEVER,
    AbortDial,
    C,
    Close,
    ConnState,
    Dial,
    DialState,
    DialTicket,
    Entry,
    HostRecord,
    Lane,
    Limits,
    Waiter,
    WaiterState,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from .records import Action, Actions

DORMANT_HOSTS = 1024  # hosts remembered for their counters alone


def _or_never(limit: float | None) -> float:
    return NEVER if limit is None else limit


class Books(Generic[C]):
    """Tables and moves."""

    def __init__(self, limits: Limits, host_of: Callable[[Hashable], Hashable], name: str | None = None) -> None:
        self.name = name
        self.limits = limits
        self.touched = 0  # records visited: what an operation costs, whatever the clock says
        self._host_of = host_of
        self._max_idle = _or_never(limits.max_idle_conns)
        per_host = limits.max_idle_conns_per_host
        self._max_idle_per_host = self._max_idle if per_host is None else per_host
        self._per_host = _or_never(limits.max_conns_per_host)
        self._max_conns = _or_never(limits.max_conns)
        self._idle_timeout = _or_never(limits.idle_conn_timeout)
        self._now = 0.0  # of the latest fact that may start a dial
        self._out: list[Action[C]] = []  # said by the fact under way
        # Modes.
        self._closed = False
        self._poisoned = False  # close_idle was called, and nobody asked since: nothing becomes idle (CI-03)
        # Everything there is.
        self._entries: dict[C, Entry[C]] = {}  # until `closed`
        self._lanes: dict[Hashable, Lane[C]] = {}
        self._dials: OrderedDict[DialTicket[C], None] = OrderedDict()  # running and aborted
        self._hosts: dict[Hashable, HostRecord[C]] = {}  # dormant ones included
        self._dormant: OrderedDict[HostRecord[C], None] = OrderedDict()  # longest first
        self.counts: dict[Hashable, HostCounts] = {}  # of every host there is a record of; they outlive the pool
        self.forgotten = HostCounts()  # of hosts that were dropped
        # Orders over all hosts.
        self._lru: OrderedDict[Entry[C], None] = OrderedDict()  # idle entries, least recently used first
        self._hints: Hints[C] = Hints()
        self._orphans: OrderedDict[DialTicket[C], None] = OrderedDict()  # oldest first
        self._turns: Turns[C] = Turns(self._per_host, self._max_conns)
        # Hosts with a held grant that are below their own limit; the next one first. Empty while a slot is free.
        self._gate: OrderedDict[HostRecord[C], None] = OrderedDict()
        # Sums over the hosts.
        self._slots = 0
        self._firm = 0
        self._waiting = 0  # queued and held
        # Counters that belong to no host.
        self._seq = 0
        self._rebuilds = 0

    # -- hosts and lanes -------------------------------------------------------

    def _lane(self, key: Hashable) -> Lane[C]:
        lane = self._lanes.get(key)
        if lane is None:
            record = self._record(self._host_of(key))
            lane = self._lanes[key] = Lane(key, record)
        return lane

    def _record(self, host: Hashable) -> HostRecord[C]:
        record = self._hosts.get(host)
        if record is None:
            record = self._hosts[host] = HostRecord(host)
            self.counts[host] = record.counts
        else:
            self._dormant.pop(record, None)
        return record

    def _tidy_lane(self, lane: Lane[C]) -> None:
        if lane.empty:
            self._lanes.pop(lane.key, None)
            self._tidy_host(lane.record)

    def _tidy_host(self, record: HostRecord[C]) -> None:
        if not record.dormant:
            return
        self._dormant[record] = None
        self._dormant.move_to_end(record)
        if len(self._dormant) > DORMANT_HOSTS:
            old, _ = self._dormant.popitem(last=False)
            del self._hosts[old.host], self.counts[old.host]
            old.counts.fold(self.forgotten)

    # -- connections -----------------------------------------------------------

    def _lease(self, entry: Entry[C]) -> None:
        """Count one more use of the entry; at this moment it is its user's, whenever that one wakes."""
        self.touched += 1
        if entry.state is ConnState.IDLE:
            self._unidle(entry)
        entry.used += 1
        entry.uses += 1
        record = entry.record
        record.leases += 1
        if record.leases > record.peak:  # noqa: PLR1730 - as in `take`
            record.peak = record.leases
        if entry.used >= entry.capacity:
            entry.lane.stack.pop(entry, None)

    def _unidle(self, entry: Entry[C]) -> None:
        del self._lru[entry]
        del entry.record.idle[entry]
        if entry.hint_no:
            self._hints.discard(entry)
        entry.state = ConnState.ACTIVE
        entry.deadline = entry.retire_at

    def _push_idle(self, entry: Entry[C], now: float) -> None:
        self.touched += 1
        entry.state = ConnState.IDLE
        entry.idle_since = now
        entry.deadline = now + self._idle_timeout
        stack = entry.lane.stack
        stack[entry] = None
        if not entry.plain:
            stack.move_to_end(entry)
            deadline = min(NEVER if entry.hint is None else now + entry.hint, entry.retire_at)
            if deadline < entry.deadline:
                entry.deadline = deadline
                self._hints.add(entry)
        entry.record.idle[entry] = None
        self._lru[entry] = None

    def _set_state(self, entry: Entry[C], state: ConnState) -> None:
        """Move between the states of a connection in use."""
        record = entry.record
        record.draining += (state is ConnState.DRAINING) - (entry.state is ConnState.DRAINING)
        record.upgraded += (state is ConnState.UPGRADED) - (entry.state is ConnState.UPGRADED)
        entry.state = state

    def _close(self, entry: Entry[C], reason: CloseReason) -> None:
        """Say Close. The slot is free for decisions now, and for a socket when `closed` comes."""
        self.touched += 1
        lane, record = entry.lane, entry.record
        self._out.append(Close(entry.conn, reason))
        if entry.state is ConnState.IDLE:
            self._unidle(entry)
        self._set_state(entry, ConnState.CLOSING)
        lane.stack.pop(entry, None)
        record.leases -= entry.used
        entry.used = 0
        lane.conns -= 1
        record.conns -= 1
        record.closing += 1
        self._firm -= 1
        assert record.conns >= 0, "connections are counted wrongly: the limits of this host do not hold"
        closed = record.counts.closed
        closed[reason] = closed.get(reason, 0) + 1
        self._tidy_lane(lane)

    def _overdue_reason(self, entry: Entry[C], now: float) -> CloseReason | None:
        """Why an idle entry must not be handed out any more."""
        if entry.deadline > now:
            return None
        return CloseReason.MAX_LIFETIME if entry.retire_at <= now else CloseReason.IDLE_TIMEOUT

    # -- waiters ---------------------------------------------------------------

    def _unqueue(self, waiter: Waiter[C], record: HostRecord[C]) -> None:
        del record.queue[waiter]
        self._waiting -= 1

    def _deliver(self, waiter: Waiter[C], entry: Entry[C], source: AcquireSource) -> DialTicket[C] | None:
        """Answer the waiter; return the dial that is nobody's now."""
        assert waiter.pending, "a waiter is answered once"
        self.touched += 1
        lane, record = entry.lane, entry.record
        waiter.source = source
        waiter.conn = entry.conn
        self._lease(entry)
        queued = waiter.state is WaiterState.QUEUED
        waiter.state = WaiterState.DELIVERED
        lane.waiters.pop(waiter, None)
        if queued:
            self._unqueue(waiter, record)
        counts = record.counts
        counts.acquired[source] = counts.acquired.get(source, 0) + 1
        counts.queue_times.add(max(self._now - waiter.since, 0.0))
        return self._part(waiter)

    def _part(self, waiter: Waiter[C]) -> DialTicket[C] | None:
        """Separate the waiter from its dial, so that neither keeps the other alive."""
        ticket, waiter.dial = waiter.dial, None
        if ticket is not None:
            ticket.waiter = None
        return ticket

    # -- dials -----------------------------------------------------------------

    def _permit(self, waiter: Waiter[C], record: HostRecord[C]) -> None:
        """Grant the waiter a slot, and say Dial now or when a socket is free."""
        self.touched += 1
        if waiter.state is WaiterState.QUEUED:
            del record.queue[waiter]
        else:
            self._waiting += 1
        ticket = waiter.dial = DialTicket(record, waiter)
        waiter.state = WaiterState.GRANTED
        record.held[ticket] = None
        self._firm += 1
        self._open_gate(record)

    def _open_gate(self, record: HostRecord[C]) -> None:
        """Start the held dials that have room, the hosts in turn."""
        gate = self._gate
        if record.held and record.slots < self._per_host:
            gate[record] = None
        while gate and self._slots < self._max_conns:
            self.touched += 1
            record, _ = gate.popitem(last=False)
            ticket, _ = record.held.popitem(last=False)
            self._start(ticket)
            if record.held and record.slots < self._per_host:
                gate[record] = None

    def _start(self, ticket: DialTicket[C]) -> None:
        record, waiter = ticket.record, ticket.waiter
        assert waiter is not None, "a held grant belongs to somebody"
        self._out.append(Dial(ticket))
        ticket.state = DialState.RUNNING
        ticket.started = self._now
        waiter.state = WaiterState.DIALING
        self._waiting -= 1
        self._dials[ticket] = None
        record.dialing += 1
        record.counts.dials += 1
        self._slots += 1

    def _drop_held(self, ticket: DialTicket[C]) -> None:
        """Take back a grant that was not used."""
        record = ticket.record
        del record.held[ticket]
        if not record.held:
            self._gate.pop(record, None)
        ticket.state = DialState.DONE
        self._firm -= 1
        self._waiting -= 1

    def _abort(self, ticket: DialTicket[C]) -> None:
        """Say AbortDial. As with `_close`, the slot follows when the end is reported."""
        assert ticket.state is DialState.RUNNING, "only a running dial can be aborted"
        self.touched += 1
        self._out.append(AbortDial(ticket))
        ticket.state = DialState.ABORTED
        ticket.record.aborting += 1
        self._firm -= 1
        self._unorphan(ticket)

    def _unorphan(self, ticket: DialTicket[C]) -> None:
        """Take the dial from the orphans, if it is one."""
        if self._orphans.pop(ticket, ticket) is None:
            del ticket.record.orphans[ticket]
            lane = self._lanes[ticket.key]
            del lane.orphans[ticket]
            self._tidy_lane(lane)

    def _end_dial(self, ticket: DialTicket[C]) -> None:
        """Strike the dial from the books; its slot is the caller's to pass on."""
        record = ticket.record
        del self._dials[ticket]
        record.dialing -= 1
        if ticket.state is DialState.ABORTED:
            record.aborting -= 1
        ticket.state = DialState.DONE
        assert record.dialing >= record.aborting >= 0, "dials are counted wrongly: slots would leak"

    def _free(self, record: HostRecord[C]) -> None:
        """A socket of the host is gone: whoever holds a grant for it may dial."""
        self._slots -= 1
        assert self._slots >= 0, "slots are counted wrongly: the limit would not hold"
        self._open_gate(record)
        self._tidy_host(record)

    def _flush(self) -> Actions[C]:
        out = self._out
        if not out:
            return ()
        self._out = []
        return out
