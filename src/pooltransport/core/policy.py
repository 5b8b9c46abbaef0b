"""Whose turn it is: what happens to a connection that comes back, a dial nobody needs, a free slot.

The order of preference for a connection that comes back whole (`_place`):

1. Closed, if it must not be used again.
2. A host that holds nothing, if it has waited longer (`Turns.claim`): closed, the slot goes there.
3. The oldest waiter of its host. Of another key, it gets the slot; of its own key, the connection.
4. Any host that waits for the total limit: closed, the slot goes round the ring.
5. Idle, if the limits allow; of all idle ones the oldest goes when there are too many (Go's order, POOL-06).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pooltransport.stats import AcquireSource, CloseReason

from .books import Books
from .records import NEVER, C, ConnState, DialState, PoolClosedError, WaiterState, Wake

if TYPE_CHECKING:
    from .records import DialTicket, Entry, HostRecord, Lane, Waiter


class Policy(Books[C]):
    """Decisions."""

    def _available(self, lane: Lane[C], now: float) -> Entry[C] | None:
        """Return the newest connection that can take a lease; close the expired ones above it."""
        while lane.stack:
            self.touched += 1
            entry = next(reversed(lane.stack))
            reason = self._overdue_reason(entry, now)
            if reason is None:
                return entry
            if entry.used:
                self._retire(entry, reason)
            else:
                self._close(entry, reason)
        return None

    def _has_room(self, record: HostRecord[C]) -> bool:
        """Whether the host can get one more slot at once, perhaps by an eviction."""
        if record.firm >= self._per_host:
            return bool(record.orphans or record.idle)
        if self._firm >= self._max_conns:
            return bool(self._orphans or self._lru)
        return True

    def _make_room(self, record: HostRecord[C], now: float) -> None:
        """Evict one, if a limit binds: an orphan dial first, an idle connection is worth more."""
        if record.firm >= self._per_host:
            orphans, idle = record.orphans, record.idle
        elif self._firm >= self._max_conns:
            orphans, idle = self._orphans, self._lru
        else:
            return
        if orphans:
            self._abort(next(iter(orphans)))
        else:
            entry = next(iter(idle))
            self._close(entry, self._overdue_reason(entry, now) or CloseReason.EVICTED_FOR_LIMIT)

    # -- slots -------------------------------------------------------------------

    def _settle(self, record: HostRecord[C]) -> None:
        """Pass on what the host has gained: a firm slot, or another waiter at the front."""
        self._advance(record)
        ring = self._turns.ring
        while ring and self._firm < self._max_conns:
            self._grant(self._turns.next())

    def _grant(self, record: HostRecord[C]) -> None:
        self._permit(next(iter(record.queue)), record)
        self._advance(record)

    def _advance(self, record: HostRecord[C]) -> None:
        """Serve the waiters that came to the front and were only kept by those before them."""
        queue = record.queue
        while queue:
            self.touched += 1
            front = next(iter(queue))
            stack = self._lanes[front.key].stack
            if not stack:
                break
            self._out.append(Wake(front))
            self._deliver(front, next(reversed(stack)), AcquireSource.HANDED_OVER)
        self._turns.refresh(record)

    # -- connections -------------------------------------------------------------

    def _end_lease(self, entry: Entry[C]) -> None:
        assert entry.used > 0, "given back twice: two requests would share one connection"
        entry.used -= 1
        entry.record.leases -= 1
        if entry.state is not ConnState.ACTIVE:
            self._set_state(entry, ConnState.ACTIVE)

    def _retire(self, entry: Entry[C], reason: CloseReason) -> None:
        entry.retired = reason
        entry.lane.stack.pop(entry, None)

    def _refusal(self, entry: Entry[C], now: float) -> CloseReason | None:
        if entry.retired is not None:
            return entry.retired
        if entry.retire_at <= now:
            return CloseReason.MAX_LIFETIME
        if entry.max_uses is not None and entry.uses >= entry.max_uses:
            return CloseReason.MAX_REQUESTS
        if entry.capacity < 1 and not entry.used:
            return CloseReason.BAD_STATE
        return None

    def _place(self, entry: Entry[C], now: float) -> None:
        """Find the next use for a connection of which a lease has just ended (Go: tryPutIdleConn)."""
        record = entry.record
        reason = self._refusal(entry, now)
        if entry.used:
            if reason is None:
                self._share(entry)
            else:
                self._retire(entry, reason)
            return
        self.touched += 1
        self._turns.releases += 1
        if reason is None:
            own = next(iter(entry.lane.waiters), None)
            first = next(iter(record.queue), None)
            oldest = min(own.seq if own else NEVER, first.seq if first else NEVER)
            claimant = self._turns.claim(oldest)
            if claimant is None and first is not None and first is not own and first.seq == oldest:
                claimant = record
            if claimant is not None:
                self._close(entry, CloseReason.EVICTED_FOR_LIMIT)
                self._grant(claimant)
            elif own is not None:
                self._share(entry)
                return
            elif self._turns.ring:
                reason = CloseReason.EVICTED_FOR_LIMIT
            elif self._poisoned:
                reason = CloseReason.CLOSE_IDLE_CALLED
            elif len(record.idle) >= self._max_idle_per_host:
                reason = CloseReason.IDLE_LIMIT_HOST
            else:
                self._push_idle(entry, now)
                if len(self._lru) > self._max_idle:
                    self._close(next(iter(self._lru)), CloseReason.IDLE_LIMIT_TOTAL)
                return
        if reason is not None:
            self._close(entry, reason)
        self._settle(record)

    def _share(self, entry: Entry[C]) -> None:
        """Give the connection to the oldest waiters of its key while it has room and their turn has come."""
        lane, record = entry.lane, entry.record
        unused: list[DialTicket[C]] = []
        while entry.used < entry.capacity and lane.waiters:
            waiter = next(iter(lane.waiters))
            if record.queue and next(iter(record.queue)).seq < waiter.seq:
                break
            self._out.append(Wake(waiter))
            ticket = self._deliver(waiter, entry, AcquireSource.HANDED_OVER)
            if ticket is not None:
                unused.append(ticket)
        spare = entry.used < entry.capacity
        if spare:
            lane.stack[entry] = None
            lane.stack.move_to_end(entry)
        for ticket in unused:
            self._surplus(ticket, wanted=not spare)
        self._advance(record)

    # -- dials -------------------------------------------------------------------

    def _assign(self, ticket: DialTicket[C], waiter: Waiter[C]) -> None:
        ticket.waiter = waiter
        waiter.dial = ticket
        waiter.state = WaiterState.DIALING

    def _surplus(self, ticket: DialTicket[C], *, wanted: bool = True) -> None:
        """Find the next use for a dial that its waiter needs no more (contract 1.4)."""
        record = ticket.record
        self.touched += 1
        if ticket.state is DialState.HELD:
            self._drop_held(ticket)
            self._settle(record)
            return
        first = next(iter(record.queue), None)
        wanted = wanted and not self.limits.disable_keep_alives
        if first is not None and first.key == ticket.key and wanted:
            self._unqueue(first, record)
            self._assign(ticket, first)
            self._advance(record)
        elif first is not None or self._turns.ring or not wanted:
            self._abort(ticket)
            self._settle(record)
        else:
            self._orphan(ticket)

    def _orphan(self, ticket: DialTicket[C]) -> None:
        record = ticket.record
        for orphans in (self._lanes[ticket.key].orphans, record.orphans, self._orphans):
            orphans[ticket] = None
        if len(record.orphans) > self.limits.max_orphans_per_host:
            self._abort(next(iter(record.orphans)))
        if len(self._orphans) > self.limits.max_orphans:
            self._abort(next(iter(self._orphans)))

    # -- ends --------------------------------------------------------------------

    def _fail(self, waiter: Waiter[C], error: BaseException) -> None:
        self._out.append(Wake(waiter))
        waiter.error = error
        waiter.state = WaiterState.FAILED
        self._part(waiter)

    def _shut(self) -> None:
        """Close what is idle, tell the waiters, abort the dials; leases go on until they come back."""
        while self._lru:
            self._close(next(iter(self._lru)), CloseReason.POOL_CLOSED)
        for entry in self._entries.values():
            if entry.state is not ConnState.CLOSING:
                self._retire(entry, CloseReason.POOL_CLOSED)
        for lane in list(self._lanes.values()):
            while lane.waiters:
                waiter = next(iter(lane.waiters))
                queued, ticket = waiter.state is WaiterState.QUEUED, waiter.dial
                self._fail(waiter, PoolClosedError())
                if queued:
                    self._unqueue(waiter, lane.record)
                elif ticket is not None and ticket.state is DialState.HELD:
                    self._drop_held(ticket)
                del lane.waiters[waiter]
            self._tidy_lane(lane)
        for ticket in self._dials:
            if ticket.state is DialState.RUNNING:
                self._abort(ticket)
        self._turns.clear()
