"""The connection pool: who holds which connection, who waits, who dials.

Rules of this file:

1. Facts in, actions out. A method is called because something happened; what it returns must be done,
   in order, after the mutex was released. No clock, sockets, locks, callbacks or awaiting in here:
   ``now`` is an argument, and a connection is whatever the caller says it is.
2. A waiter is answered exactly once, by a connection, an error, or its own cancellation. A connection
   is its new user's from the moment of the decision, not from when that one wakes.
3. A slot is a socket. Every close takes two steps: `Close` is said, and the fact `closed` frees the slot.
   The same holds for `AbortDial` and the end of that dial. Within one list, Close precedes Dial.
4. Decisions look at what will be left after all closes under way (`books.py`: ``firm``), therefore:
   - a queued waiter's host is at its own limit, or ``max_conns`` is reached;
   - while a host's own limit makes somebody wait, it has no idle connection and no orphan dial;
     while the total does, nobody has any: they were evicted for the waiter.
5. Within a host first come first served, whatever the key. A connection that comes back for a key whose
   turn it is not is closed, and its slot goes to whose turn it is. Across hosts: see `queues.Turns`.
6. A key's waiter takes whatever comes first, a returned connection or its own dial (Go's late binding).
   What comes second serves the next waiter, becomes an orphan, or is aborted.

The warm path is `take` and `put_idle` with nobody waiting; both keep to a handful of table entries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pooltransport.stats import AcquireSource, CloseReason

from .audit import Audited
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
    Limits,
    PoolClosedError,
    QueueFull,
    Waiter,
    WaiterState,
    Wake,
)

if TYPE_CHECKING:
    from collections.abc import Hashable

    from .records import Actions

__all__ = [
    "AbortDial",
    "Close",
    "ConnState",
    "Dial",
    "DialState",
    "DialTicket",
    "Limits",
    "Pool",
    "PoolClosedError",
    "QueueFull",
    "Waiter",
    "Wake",
]

_IDLE, _ACTIVE, _CLOSING = ConnState.IDLE, ConnState.ACTIVE, ConnState.CLOSING


class Pool(Audited[C]):
    """Facts. Every method that may cause something returns the actions to perform."""

    # -- asking ----------------------------------------------------------------

    def take(self, key: Hashable, now: float) -> C | None:
        """Return the newest available connection if it may be had at once, else None with nothing changed."""
        lane = self._lanes.get(key)
        if lane is None or not lane.stack:
            return None
        entry, _ = lane.stack.popitem()
        record = lane.record
        self.touched += 2
        if entry.deadline <= now or record.queue:
            lane.stack[entry] = None  # `get` closes what expired, and knows whose turn it is
            return None
        self._poisoned = False
        if entry.plain:
            # `_lease`, for a connection known to be idle and to have room for one.
            del self._lru[entry]
            del record.idle[entry]
            entry.state = _ACTIVE
            entry.used = 1
            entry.uses += 1
            record.leases += 1
            if record.leases > record.peak:  # noqa: PLR1730 - a call would be slower, on the way of every request
                record.peak = record.leases
        else:
            lane.stack[entry] = None
            self._lease(entry)
        record.counts.reused += 1
        return entry.conn

    def get(self, waiter: Waiter[C], now: float) -> Actions[C]:
        """Ask: idle, else the oldest orphan dial of the key, else a dial, else the queue.

        A waiter that is not pending afterwards has its connection; no Wake is said for it.
        Raises QueueFull or PoolClosedError with nothing changed.
        """
        assert waiter.state is WaiterState.NEW, "a waiter asks once"
        if self._closed:
            raise PoolClosedError
        self._now = now
        lane = self._lane(waiter.key)
        record = lane.record
        entry = None if record.queue else self._available(lane, now)
        room = entry is not None or bool(lane.orphans) or (not record.queue and self._has_room(record))
        if not room and self.limits.max_waiting is not None and self._waiting >= self.limits.max_waiting:
            self._tidy_lane(lane)
            raise QueueFull
        self._poisoned = False
        self._seq += 1
        waiter.seq = self._seq
        waiter.since = now
        if entry is not None:
            self._deliver(waiter, entry, AcquireSource.REUSED)
            return self._flush()
        # Closing the expired ones may have left nothing: the lane is kept by the waiter from here on.
        lane = self._lane(waiter.key)
        lane.waiters[waiter] = None
        if lane.orphans:
            ticket = next(iter(lane.orphans))
            self._unorphan(ticket)
            self._assign(ticket, waiter)
        elif room:
            self._make_room(record, now)
            self._permit(waiter, record)
        else:
            waiter.state = WaiterState.QUEUED
            record.queue[waiter] = None
            self._waiting += 1
            self._turns.refresh(record)
        return self._flush()

    def cancel(self, waiter: Waiter[C], now: float) -> Actions[C]:
        """End the wish. What it was given goes on: a connection as if returned, a dial to who can use it."""
        self._now = now
        state = waiter.state
        if state is WaiterState.FAILED:
            return ()
        if state is WaiterState.DELIVERED:
            entry = None if waiter.conn is None else self._entries.get(waiter.conn)
            given_back = entry is not None and entry.used > 0
            if entry is not None and given_back:
                entry.uses -= 1
                self._end_lease(entry)
            waiter.conn = None
            waiter.state = WaiterState.CANCELLED
            if entry is not None and given_back:
                self._place(entry, now)
            return self._flush()
        waiter.state = WaiterState.CANCELLED
        if state not in {WaiterState.NEW, WaiterState.CANCELLED}:
            lane = self._lanes[waiter.key]
            del lane.waiters[waiter]
            if state is WaiterState.QUEUED:
                self._unqueue(waiter, lane.record)
                self._settle(lane.record)
            else:
                ticket = self._part(waiter)
                assert ticket is not None, "who waits and is not queued has a dial: its slot would leak"
                self._surplus(ticket)
            self._tidy_lane(lane)
        return self._flush()

    # -- dials -----------------------------------------------------------------

    def dialed(
        self, ticket: DialTicket[C], conn: C, now: float, capacity: int = 1, retire_at: float | None = None
    ) -> Actions[C]:
        """The dial gave a connection, that can serve `capacity` at once and no new one after `retire_at`."""
        if ticket.state is DialState.DONE:
            return (Close(conn, CloseReason.DIAL_UNUSED),)  # its slot went with its first end
        assert conn not in self._entries, "a connection comes from one dial"
        self._now = now
        aborted = ticket.state is DialState.ABORTED
        self._end_dial(ticket)
        # Of an aborted dial the lane may be gone; a closing entry needs only its name.
        lane = self._lane(ticket.key)
        entry = self._entries[conn] = Entry(conn, lane, capacity, retire_at, now)
        lane.conns += 1
        entry.record.conns += 1
        if aborted:
            self._firm += 1  # the abort took it
            self._close(entry, CloseReason.POOL_CLOSED if self._closed else CloseReason.DIAL_UNUSED)
            return self._flush()
        if self.limits.disable_keep_alives:
            entry.retired = CloseReason.KEEPALIVE_DISABLED
        entry.record.counts.dial_times.add(now - ticket.started)
        waiter = ticket.waiter
        if waiter is None:
            self._unorphan(ticket)
            self._place(entry, now)
        else:
            self._out.append(Wake(waiter))
            self._deliver(waiter, entry, AcquireSource.DIALED)
            if capacity > 1 and entry.retired is None:
                self._share(entry)
        return self._flush()

    def dial_failed(self, ticket: DialTicket[C], error: BaseException, now: float, kind: str = "other") -> Actions[C]:
        """The dial ended without a connection, by an error of this `kind`; also the end of an aborted one."""
        if ticket.state is DialState.DONE:
            return ()
        self._now = now
        record = ticket.record
        aborted = ticket.state is DialState.ABORTED
        self._end_dial(ticket)
        if not aborted:
            self._firm -= 1
            record.counts.note_dial_error(kind, now - ticket.started)
            record.last_dial_error = (kind, now)
            if (waiter := ticket.waiter) is not None:
                lane = self._lanes[ticket.key]
                self._fail(waiter, error)
                del lane.waiters[waiter]
                self._tidy_lane(lane)
            else:
                self._unorphan(ticket)
        self._free(record)
        self._settle(record)
        return self._flush()

    # -- giving back -------------------------------------------------------------

    def put_idle(
        self, conn: C, now: float, idle_timeout: float | None = None, max_uses: int | None = None
    ) -> Actions[C]:
        """End a lease whose connection can be used again. A refusal is `Close(conn, reason)`.

        `idle_timeout` and `max_uses` (leases in all) are what the server said, and hold from now on.
        """
        entry = self._entries.get(conn)
        if entry is None or entry.state is _CLOSING:
            return ()
        record, lane = entry.record, entry.lane
        self.touched += 1
        self._end_lease(entry)
        if idle_timeout is not None or max_uses is not None:
            entry.plain = False
            entry.hint = entry.hint if idle_timeout is None else idle_timeout
            entry.max_uses = entry.max_uses if max_uses is None else max_uses
        if (
            not entry.plain
            or self._poisoned
            or lane.waiters
            or record.queue
            or self._turns.ring
            or entry.retired is not None
            or len(record.idle) >= self._max_idle_per_host
        ):
            self._now = now
            self._place(entry, now)
            return self._flush()
        self._push_idle(entry, now)
        if len(self._lru) > self._max_idle:
            self._close(next(iter(self._lru)), CloseReason.IDLE_LIMIT_TOTAL)
            return self._flush()
        return ()

    def remove(self, conn: C, reason: CloseReason) -> Actions[C]:
        """The connection died or must not be used again; with it all of its leases end."""
        entry = self._entries.get(conn)
        if entry is None or entry.state is _CLOSING:
            return ()
        if entry.used:
            self._turns.releases += 1
        self._close(entry, reason)
        self._settle(entry.record)
        return self._flush()

    def remove_idle(self, conn: C, reason: CloseReason) -> Actions[C]:
        """The connection died, if it is idle now."""
        entry = self._entries.get(conn)
        return () if entry is None or entry.state is not _IDLE else self.remove(conn, reason)

    def closed(self, conn: C, now: float) -> Actions[C]:
        """The socket that `Close` was said for is closed: its slot is free."""
        entry = self._entries.get(conn)
        if entry is None:
            return ()
        assert entry.state is _CLOSING, "remove() comes before closed()"
        self._now = now
        del self._entries[conn]
        counts = entry.record.counts
        counts.conn_times.add(now - entry.created)
        counts.conn_requests.add(entry.uses)
        entry.record.closing -= 1
        assert entry.record.closing >= 0, "closing connections are counted wrongly: slots would leak"
        self._free(entry.record)
        return self._flush()

    # -- time and commands ---------------------------------------------------------

    def expire(self, now: float) -> Actions[C]:
        """Close what has been idle for too long."""
        self._now = now
        while self._lru:
            entry = next(iter(self._lru))
            if entry.idle_since + self._idle_timeout > now:
                break
            self._close(entry, self._overdue_reason(entry, now) or CloseReason.IDLE_TIMEOUT)
        while (hinted := self._hints.first()) is not None:
            reason = self._overdue_reason(hinted, now)
            if reason is None:
                break
            self._close(hinted, reason)
        return self._flush()

    def slept(self, seconds: float, now: float) -> Actions[C]:
        """The machine was suspended, for which ``now`` stood still: all is older than it looks (IDLE-12)."""
        for entry in self._entries.values():
            entry.idle_since -= seconds
            entry.retire_at -= seconds
            entry.deadline -= seconds
        self._hints.shift(seconds)
        return self.expire(now)

    def next_expiry(self) -> float | None:
        """Return when `expire` has something to do, if nothing else happens; None for never."""
        at = next(iter(self._lru)).idle_since + self._idle_timeout if self._lru else NEVER
        if (hinted := self._hints.first()) is not None:
            at = min(at, hinted.deadline)
        return None if at == NEVER else at

    def close_idle(self, now: float) -> Actions[C]:
        """Close what is idle, abort the orphans, and let nothing become idle until somebody asks (CI-01 - 06)."""
        self._now = now
        self._poisoned = True
        while self._lru:
            self._close(next(iter(self._lru)), CloseReason.CLOSE_IDLE_CALLED)
        while self._orphans:
            self._abort(next(iter(self._orphans)))
        return self._flush()

    def close(self, now: float) -> Actions[C]:
        """End it: idle closed, waiters told, dials aborted; a lease's connection is closed when it comes back."""
        if self._closed:
            return ()
        self._now = now
        self._closed = True
        self._shut()
        return self._flush()

    # -- what the engine learns about a connection in use ----------------------------

    def set_draining(self, conn: C) -> None:
        """The rest of a body is being read, so that the connection can be used again."""
        self._set_leased(conn, ConnState.DRAINING)

    def set_upgraded(self, conn: C) -> None:
        """The connection carries another protocol now."""
        self._set_leased(conn, ConnState.UPGRADED)

    def set_capacity(self, conn: C, capacity: int, now: float) -> Actions[C]:
        """The peer allows so many at once; fewer than now in use only means that nobody is added."""
        entry = self._entries.get(conn)
        if entry is None or entry.state is _CLOSING:
            return ()
        self._now = now
        entry.capacity = capacity
        entry.plain = False
        if entry.used < capacity:
            if entry.retired is None:
                self._share(entry)
        elif entry.used:
            entry.lane.stack.pop(entry, None)
        else:  # idle, and good for nobody
            self._close(entry, CloseReason.BAD_STATE)
        return self._flush()

    def retire(self, conn: C, now: float, reason: CloseReason = CloseReason.MAX_LIFETIME) -> Actions[C]:
        """Give the connection no new lease; it is closed as soon as nobody uses it."""
        entry = self._entries.get(conn)
        if entry is None or entry.state is _CLOSING:
            return ()
        self._now = now
        if entry.used:
            self._retire(entry, reason)
        else:
            self._close(entry, reason)
        return self._flush()

    def _set_leased(self, conn: C, state: ConnState) -> None:
        entry = self._entries.get(conn)
        if entry is not None and entry.used:
            self._set_state(entry, state)
