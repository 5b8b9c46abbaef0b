"""Looking at the books: what there is, the check of every invariant, the rebuild after an accident."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from .queues import Hints, Turns
from .records import AbortDial, C, Close, ConnState, Dial, DialState, Entry, Waiter, WaiterState
from .tally import Tallied

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from .records import Actions, Lane


def _in_use(state: ConnState) -> ConnState:
    return ConnState.ACTIVE if state is ConnState.IDLE else state


class Audited(Tallied[C]):
    """`conns`, `idle_conns`, `rebuild`, `check`."""

    # -- looking -------------------------------------------------------------------------

    @property
    def open_count(self) -> int:
        """How many sockets there are, those on their way out included; an O(1) look, also without the mutex."""
        return len(self._entries)

    @property
    def waiting_count(self) -> int:
        """How many have neither a connection nor a dial; as above."""
        return self._waiting

    def conns(self) -> Iterator[tuple[C, Hashable, ConnState]]:
        """Yield every connection whose socket is not known to be closed, with its key and state."""
        for entry in list(self._entries.values()):
            yield entry.conn, entry.key, entry.state

    def idle_conns(self) -> Iterator[C]:
        """Yield the idle connections, least recently used first."""
        for entry in list(self._lru):
            yield entry.conn

    def waiters(self) -> Iterator[Waiter[C]]:
        """Yield those without a connection and without a dial of their own, host by host, oldest first."""
        for record in self._hosts.values():
            yield from (ticket.waiter for ticket in record.held if ticket.waiter is not None)
            yield from record.queue

    def state_of(self, conn: C) -> ConnState | None:
        """Return what the connection does now, or None once it is closed."""
        entry = self._entries.get(conn)
        return None if entry is None else entry.state

    def waiting_position(self, waiter: Waiter[C]) -> int:
        """Return how many wait for a slot of the waiter's host; just after `get`, its place in the queue."""
        lane = self._lanes.get(waiter.key)
        return 0 if lane is None else len(lane.record.queue)

    # -- rebuild -------------------------------------------------------------------

    def rebuild(self, now: float | None = None) -> Actions[C]:
        """Take all counts anew from the connections, dials and waiters, after an exception in the middle.

        Returns the actions that the broken-off operation had decided, and those that became due. A lease
        that was being given at that very moment may stay counted: nobody can tell whether its user got it.
        """
        self._rebuilds += 1
        self._now = self._now if now is None else now
        waiters = self._pending_waiters()
        self._do_as_said()
        entries = sorted(self._entries.values(), key=lambda entry: entry.idle_since)
        homeless = self._reset(entries, waiters)
        for entry in homeless:
            self._place(entry, self._now)
        if self._closed:
            self._shut()
        for record in list(self._hosts.values()):
            self._advance(record)
            while record.queue and self._has_room(record):
                self._make_room(record, self._now)
                self._grant(record)
            self._settle(record)
            self._open_gate(record)
            self._tidy_host(record)
        return self._flush()

    def _do_as_said(self) -> None:
        """Bring states to what the actions said; take back a Wake whose answer did not come about."""
        said, self._out = self._out, []
        for action in said:
            if isinstance(action, Close):
                entry = self._entries[action.conn]
                entry.state = ConnState.CLOSING
                entry.used = 0
            elif isinstance(action, Dial):
                action.ticket.state = DialState.RUNNING
                self._dials[action.ticket] = None
            elif isinstance(action, AbortDial):
                action.ticket.state = DialState.ABORTED
            elif action.waiter.pending:
                continue
            self._out.append(action)

    def _pending_waiters(self) -> list[Waiter[C]]:
        found: dict[Waiter[C], None] = {}
        for lane in self._lanes.values():
            found.update(lane.waiters)
        for record in self._hosts.values():
            found.update(record.queue)
            found.update((ticket.waiter, None) for ticket in record.held if ticket.waiter is not None)
        found.update((ticket.waiter, None) for ticket in self._dials if ticket.waiter is not None)
        for waiter in found:
            self._finish_answer(waiter)
        pending = (waiter for waiter in found if waiter.pending and waiter.state is not WaiterState.NEW)
        return sorted(pending, key=lambda waiter: waiter.seq)

    def _finish_answer(self, waiter: Waiter[C]) -> None:
        if not waiter.pending:
            return
        if waiter.conn is not None:
            entry = self._entries[waiter.conn]
            if not entry.used or entry.capacity > 1:
                entry.used += 1
            entry.state = _in_use(entry.state)
            waiter.state = WaiterState.DELIVERED
            self._part(waiter)
        elif waiter.error is not None:
            waiter.state = WaiterState.FAILED
            self._part(waiter)

    def _reset(self, entries: list[Entry[C]], waiters: list[Waiter[C]]) -> list[Entry[C]]:
        """Fill the tables anew; return the connections that nobody uses and that are not idle."""
        for record in self._hosts.values():
            record.queue.clear()
            record.held.clear()
            record.orphans.clear()
            record.idle.clear()
            record.conns = record.closing = record.draining = record.upgraded = 0
            record.dialing = record.aborting = record.leases = record.queued_seq = 0
        self._lanes.clear()
        self._lru.clear()
        self._orphans.clear()
        self._gate.clear()
        self._dormant.clear()
        self._hints = Hints()
        self._turns = Turns(self._per_host, self._max_conns)
        self._waiting = 0
        homeless = self._reset_entries(entries)
        for ticket in list(self._dials):
            # Broken off in `_start` or at its end, it is said and not ended.
            ticket.state = DialState.ABORTED if ticket.state is DialState.ABORTED else DialState.RUNNING
            ticket.record.dialing += 1
            ticket.record.aborting += ticket.state is DialState.ABORTED
            if ticket.waiter is not None and (ticket.waiter.dial is not ticket or not ticket.waiter.pending):
                ticket.waiter = None
            if ticket.waiter is None and ticket.state is DialState.RUNNING:
                self._lane(ticket.key)
                self._orphan(ticket)
        self._slots = sum(record.slots for record in self._hosts.values())
        for waiter in waiters:
            lane = self._lane(waiter.key)
            lane.waiters[waiter] = None
            dial = waiter.dial
            if dial is not None and dial in self._dials and dial.state is DialState.RUNNING:
                self._assign(dial, waiter)
            else:  # a grant is given again, in the order of asking
                self._part(waiter)
                waiter.state = WaiterState.QUEUED
                lane.record.queue[waiter] = None
                self._waiting += 1
        self._firm = sum(record.firm for record in self._hosts.values())
        return homeless

    def _reset_entries(self, entries: list[Entry[C]]) -> list[Entry[C]]:
        homeless: list[Entry[C]] = []
        for entry in entries:
            if entry.state is ConnState.CLOSING:
                entry.lane.stack.pop(entry, None)
                entry.record.closing += 1
                continue
            lane = entry.lane = self._lane(entry.key)
            record = entry.record = lane.record
            lane.conns += 1
            record.conns += 1
            record.leases += entry.used
            entry.hint_no = 0
            if entry.used:
                record.draining += entry.state is ConnState.DRAINING
                record.upgraded += entry.state is ConnState.UPGRADED
                entry.state = _in_use(entry.state)
                if entry.used < entry.capacity and entry.retired is None:
                    lane.stack[entry] = None
            elif entry.state is ConnState.IDLE:
                self._push_idle(entry, entry.idle_since)
            else:
                entry.state = ConnState.ACTIVE
                homeless.append(entry)
        return homeless

    # -- check ---------------------------------------------------------------------

    def check(self) -> None:
        """Assert every invariant. Work grows with everything there is: for tests."""
        self._check_entries()
        self._check_waiters()
        self._check_dials()
        self._check_hosts()
        self._check_turns()
        assert not self._out, "actions were decided and not returned"

    def _check_entries(self) -> None:
        open_entries = [entry for entry in self._entries.values() if entry.state is not ConnState.CLOSING]
        for conn, entry in self._entries.items():
            assert entry.conn == conn
            assert entry.used >= 0
            assert (entry.state is ConnState.IDLE) == (entry in self._lru), f"idle xor in use: {entry}"
            assert (entry.state is ConnState.IDLE) == (entry in entry.record.idle)
            if entry.state is not ConnState.CLOSING:
                assert (entry.used == 0) == (entry.state is ConnState.IDLE), f"in use by nobody: {entry}"
                assert self._lanes[entry.key] is entry.lane, "the lane of a connection was dropped"
                assert entry.lane.record is entry.record is self._hosts[entry.record.host]
                available = entry.used < entry.capacity and entry.retired is None
                assert (entry in entry.lane.stack) == available, f"availability: {entry}"
            else:
                assert entry.used == 0
                assert entry not in entry.lane.stack
        stacked = [entry for lane in self._lanes.values() for entry in lane.stack]
        assert set(self._lru) <= set(stacked) <= set(open_entries)
        assert list(self._lru) == sorted(self._lru, key=lambda entry: entry.idle_since), "least recently used first"
        assert len(self._lru) <= self._max_idle
        hinted = {entry for entry in self._lru if entry.deadline < entry.idle_since + self._idle_timeout}
        assert set(self._hints.live.values()) == hinted
        assert all(self._hints.live[entry.hint_no] is entry for entry in hinted)
        conns = Counter(entry.key for entry in open_entries)
        for key, lane in self._lanes.items():
            assert key == lane.key
            assert not lane.empty, "an empty lane was kept"
            assert lane.conns == conns[key]

    def _check_waiters(self) -> None:
        for lane in self._lanes.values():
            record = lane.record
            assert list(lane.waiters) == sorted(lane.waiters, key=lambda waiter: waiter.seq)
            for waiter in lane.waiters:
                assert waiter.pending
                assert waiter.conn is None
                assert waiter.error is None
                assert (waiter.state is WaiterState.QUEUED) == (waiter in record.queue) == (waiter.dial is None)
            assert not lane.stack or not lane.waiters or self._kept_by_order(lane), "a waiter starves beside a conn"
        for record in self._hosts.values():
            queue = list(record.queue)
            assert queue == sorted(queue, key=lambda waiter: waiter.seq)
            for waiter in queue:
                assert waiter in self._lanes[waiter.key].waiters
                assert self._lanes[waiter.key].record is record
            if queue:
                full = record.firm >= self._per_host
                assert full or self._firm >= self._max_conns, "a free slot beside a waiter"
                assert not full or not (record.idle or record.orphans), "idle beside a waiter of the same host"
        assert self._waiting == sum(len(record.queue) + len(record.held) for record in self._hosts.values())

    def _kept_by_order(self, lane: Lane[C]) -> bool:
        queue = lane.record.queue
        return bool(queue) and next(iter(queue)).seq < next(iter(lane.waiters)).seq

    def _check_dials(self) -> None:
        orphans = []
        for ticket in self._dials:
            assert ticket.state in {DialState.RUNNING, DialState.ABORTED}
            assert ticket.record is self._hosts[ticket.host]
            if ticket.waiter is not None:
                assert ticket.state is DialState.RUNNING
                assert ticket.waiter.dial is ticket
                assert ticket.waiter.state is WaiterState.DIALING
            elif ticket.state is DialState.RUNNING:
                orphans.append(ticket)
        assert set(orphans) == set(self._orphans)
        assert len(orphans) <= self.limits.max_orphans
        assert not (orphans and self.limits.disable_keep_alives)
        for tables in ([lane.orphans for lane in self._lanes.values()], [r.orphans for r in self._hosts.values()]):
            assert Counter(ticket for table in tables for ticket in table) == Counter(orphans)
        for record in self._hosts.values():
            assert len(record.orphans) <= self.limits.max_orphans_per_host
            for ticket in record.held:
                assert ticket.state is DialState.HELD
                assert ticket.waiter is not None
                assert ticket.waiter.state is WaiterState.GRANTED
                assert ticket.waiter.dial is ticket

    def _check_hosts(self) -> None:
        for host, record in self._hosts.items():
            entries = [entry for entry in self._entries.values() if entry.record is record]
            dials = [ticket for ticket in self._dials if ticket.record is record]
            states = Counter(entry.state for entry in entries)
            assert record.host == host
            assert record.conns == len(entries) - states[ConnState.CLOSING]
            assert record.closing == states[ConnState.CLOSING]
            assert record.draining == states[ConnState.DRAINING]
            assert record.upgraded == states[ConnState.UPGRADED]
            assert len(record.idle) == states[ConnState.IDLE] <= self._max_idle_per_host
            assert record.leases == sum(entry.used for entry in entries)
            assert record.dialing == len(dials)
            assert record.aborting == sum(ticket.state is DialState.ABORTED for ticket in dials)
            assert record.slots <= self._per_host, "more sockets than the host may have"
            assert record.firm <= self._per_host
            assert record.dormant == (record in self._dormant)
        assert self._slots == sum(record.slots for record in self._hosts.values()) <= self._max_conns
        assert self._firm == sum(record.firm for record in self._hosts.values()) <= self._max_conns

    def _check_turns(self) -> None:
        turns = self._turns
        eligible = {record for record in self._hosts.values() if record.queue and record.firm < self._per_host}
        assert set(turns.ring) == eligible
        assert set(turns.starved) == {record for record in eligible if not record.firm}
        if eligible:
            assert self._firm >= self._max_conns, "a free slot beside a host that may have it"
            assert not self._lru, "an idle connection beside a host that waits for the total"
            assert not self._orphans, "an orphan dial beside a host that waits for the total"
        assert all(record.queued_seq == next(iter(record.queue)).seq for record in turns.starved)
        assert all(record.queued_seq == 0 for record in self._hosts.values() if record not in turns.starved)
        held = {record for record in self._hosts.values() if record.held and record.slots < self._per_host}
        assert set(self._gate) == held
        assert not held or self._slots >= self._max_conns, "a free socket slot beside a grant"
