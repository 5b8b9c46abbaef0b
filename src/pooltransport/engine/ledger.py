"""The only place that holds the mutex: facts go to the pool, and its decisions are carried out.

Rules (contract section 3):

1. Decide under the mutex, act outside of it. No ``await`` and no user code under it.
2. Giving back is a plain call: `release`, `discard`, `abandon`. No cancellation can come between.
3. A finalizer only appends to `_dropped` and tries the mutex; who holds it looks at `_dropped` after
   letting go, so nothing is lost and nobody waits. What it causes is posted, not done.
4. User code (hooks, logger, warnings) that a finalizer causes is kept for the next safe point.
"""

from __future__ import annotations

import _thread
import os
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from pooltransport import census, leaks
from pooltransport.core.pool import AbortDial, Close, ConnState, Dial, Pool, PoolClosedError, QueueFull, Wake
from pooltransport.errors import NotPooled
from pooltransport.stats import CloseReason, LeakFound

from .clocks import SleepWatch
from .memory import Memory
from .mutex import Looking
from .reporting import AT_AN_END, Reporter
from .watching import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pooltransport.core.pool import DialTicket, Limits
    from pooltransport.lease import Lease, Site, Watch
    from pooltransport.options import TransportOptions
    from pooltransport.runtime.protocols import Runtime
    from pooltransport.stats import PoolStats

    from .connection import Connection
    from .dial import DialJob

_HOUSEKEEPING_SECONDS = 1.0


class Ledger:
    """Who holds what, and everything that is given back. `start_dial` carries out a `Dial`."""

    def __init__(
        self,
        options: TransportOptions,
        limits: Limits,
        watch: Watch,
        start_dial: Callable[[DialTicket[Any], bool], None],
        now: Callable[[], float],
        asleep: Callable[[], float],
    ) -> None:
        self.options = options
        self.watch = watch
        self._limits = limits
        self._start_dial = start_dial
        self.now = now
        self.wake_up = SleepWatch(self, asleep)
        self.reports = Reporter(self)
        self.overdue = Watcher(self)
        self.epoch = 0
        self.before_tick: Callable[[], object] = _nothing  # the engine's part of keeping house
        self._begin()

    def _begin(self) -> None:
        """Make everything anew: at first, and in a child process."""
        self.pid = os.getpid()
        self._mutex = _thread.allocate_lock()
        self.pool: Pool[Connection] = Pool(self._limits, lambda key: key.host, name=self.options.name)  # type: ignore[attr-defined]
        self.leases: dict[int, Lease] = {}
        self.dials: set[DialJob] = set()
        census.keep(self, self.options.name, self.pool.counts, self.pool.forgotten)
        self.memory = Memory(self.now())
        self._dropped: deque[Lease | None] = deque()  # None: the transport itself
        self._unsaid: list[Any] = []  # decisions that an interrupted call could not carry out
        self._on_quiet: list[Callable[[], None]] = []
        self._watcher: Runtime | None = None

    # -- the mutex ------------------------------------------------------------------------------

    def apply(self, method: Callable[..., Sequence[Any]], *args: Any) -> Sequence[Any]:
        """Tell the pool a fact and do what it decides; return the actions, done."""
        failure: BaseException | None = None
        with self._mutex:
            try:
                actions = method(*args)
            except (QueueFull, PoolClosedError):
                raise
            except BaseException as error:  # noqa: BLE001 - raised again below
                # A KeyboardInterrupt may land anywhere: the counts are taken anew, and what was decided
                # and never said is said now (contract 3.9).
                failure = error
                actions = self.pool.rebuild(self.now())
        if actions:
            self._act(actions, soon=False)
        if self._dropped:
            self.kick()
        if failure is not None:
            raise failure
        return actions

    def take(self, key: Any, now: float) -> Connection | None:
        """Return an idle connection that may be had at once, or None."""
        with self._mutex:
            try:
                conn = self.pool.take(key, now)
            except BaseException:
                self._unsaid += self.pool.rebuild(now)
                raise
        if conn is not None:
            conn.stream.on_idle_event = None
        if self._dropped or self._unsaid:
            self.kick()
        return conn

    def snapshot(self) -> PoolStats:
        """Return the statistics; from any thread."""
        if self._dropped:  # whoever looked while it was dropped may not have given it back yet
            self.note(_nothing)
            self.kick()
        with self.looking():
            picture = self.pool.picture(self.now())
        return picture.develop()

    def looking(self) -> Looking:
        """Hold the mutex, to look at several things of the pool at once: ``with ledger.looking():``."""
        return Looking(self._mutex, self.kick)

    def note(self, method: Callable[..., object], *args: Any) -> None:
        """Count something."""
        with self._mutex:
            method(*args)

    def _act(self, actions: Sequence[Any], *, soon: bool) -> None:
        """Carry out decisions, in order. `soon`: a finalizer caused them, so they are posted."""
        for action in actions:
            kind = type(action)
            if kind is Wake:
                action.waiter.latch.set()
            elif kind is Close:
                self._close(action.conn, action.reason, soon=soon)
            elif kind is Dial:
                self._start_dial(action.ticket, soon)
            elif kind is AbortDial and action.ticket.tag is not None:
                action.ticket.tag.abort()

    def _close(self, conn: Connection, reason: CloseReason, *, soon: bool) -> None:
        conn.close_reason = reason
        conn.stream.on_idle_event = None
        on_closed = partial(self._closed, conn)
        if not soon:
            conn.stream.abort(on_closed)
            self.reports.closed(conn, reason, later=False)
            return
        if not conn.runtime.post(conn.stream.abort, on_closed):
            conn.stream.drop()
            on_closed()
        self.reports.closed(conn, reason, later=True)

    def _closed(self, conn: Connection) -> None:
        self.apply(self.pool.closed, conn, self.now())

    # -- leases ---------------------------------------------------------------------------------

    def open_lease(self, lease: Lease) -> None:
        """Remember who uses a connection."""
        self.leases[lease.id] = lease
        lease.conn.hooks = lease.hooks
        self.keep_house(lease.conn.runtime)

    def expire(self, lease: Lease) -> None:
        """It was held for too long: its connection is closed. Its reader is told when it comes, or now if it waits."""
        if lease.id in self.leases:
            lease.overdue = None  # there is more to say of it than that it has ended
            self.apply(self.pool.remove, lease.conn, CloseReason.LEASE_EXPIRED)
            self._forget(lease)

    def _forget(self, lease: Lease) -> None:
        self.leases.pop(lease.id, None)
        if lease.overdue is not None:
            self.reports.ended(lease, self.now())
        if self._on_quiet and not self.leases:
            waiting, self._on_quiet = self._on_quiet, []
            for wake in waiting:
                wake()

    def when_quiet(self, wake: Callable[[], None]) -> None:
        """Call `wake` when no lease is left: now, or at the end of the last one, or both; a latch does not mind."""
        self._on_quiet.append(wake)
        if not self.leases:
            wake()

    def release(self, lease: Lease, idle_timeout: float | None, max_uses: int | None) -> None:
        """End a lease whose connection may be used again."""
        if not lease.end() or self.is_inherited(lease):
            return
        conn = lease.conn
        now = self.now()
        conn.requests_served += 1
        conn.reused = True
        conn.idle_since = now
        conn.hooks = None
        conn.stream.on_idle_event = conn.on_idle_event
        actions = self.apply(self._put_idle, lease, now, idle_timeout, max_uses)
        self._forget(lease)
        if lease.hooks is not None:
            refusals = [a.reason for a in actions if type(a) is Close and a.conn is conn]
            lease.hooks.tell("put_idle_conn", NotPooled(refusals[0]) if refusals else None)

    def _put_idle(self, lease: Lease, now: float, idle_timeout: float | None, max_uses: int | None) -> Sequence[Any]:
        waited, held = lease.headers_at - lease.opened_at, now - lease.acquired_at
        self.pool.note_lease(lease.conn, lease.method, lease.status_code, waited, held)
        return self.pool.put_idle(lease.conn, now, idle_timeout, max_uses)

    def _remove(self, lease: Lease, reason: CloseReason) -> Sequence[Any]:
        waited, held = lease.headers_at - lease.opened_at, self.now() - lease.acquired_at
        self.pool.note_lease(lease.conn, lease.method, lease.status_code, waited, held)
        return self.pool.remove(lease.conn, reason)

    def discard(self, lease: Lease, reason: CloseReason, *, answered: bool) -> None:
        """End a lease whose connection must not be used again; `answered`: a response had come."""
        if not lease.end() or self.is_inherited(lease):
            return
        self.apply(self._remove, lease, reason)
        self._forget(lease)
        if answered and lease.hooks is not None:
            lease.hooks.tell("put_idle_conn", NotPooled(lease.conn.close_reason or reason))

    def abandon(self, lease: Lease) -> None:
        """A response was dropped unclosed: called by a finalizer, anywhere."""
        if lease.end() and not self.is_inherited(lease):
            lease.dropped_at = self.now()
            if leaks.is_rescue() and lease.found is LeakFound.GC:
                lease.found = LeakFound.RESCUE
            self._dropped.append(lease)
            self.kick()

    def abandon_all(self, what: str, site: Site | None) -> None:
        """The transport was dropped unclosed: called by a finalizer, anywhere."""
        self.check_process()
        sockets = self.pool.open_count
        if sockets:
            self.reports.transport_dropped(what, site, sockets)
        self._dropped.append(None)
        self.kick()

    def _close_all(self) -> list[Any]:
        """Close the pool and every connection. The mutex must be held."""
        actions = list(self.pool.close(self.now()))
        for conn, _, state in self.pool.conns():
            if state is not ConnState.CLOSING:
                actions += self.pool.remove(conn, CloseReason.POOL_CLOSED)
        return actions

    def kick(self) -> None:
        """Give back what finalizers left, unless somebody holds the mutex, who will do it then."""
        while self._dropped or self._unsaid:
            if not self._mutex.acquire(blocking=False):
                return
            actions, self._unsaid = self._unsaid, []
            lost: list[Lease] = []
            try:
                while self._dropped:
                    lease = self._dropped.popleft()
                    if lease is None:
                        actions += self._close_all()
                        continue
                    if lease.found not in AT_AN_END:
                        self.pool.note_leak(lease.conn, lease.found)
                    actions += self._remove(lease, CloseReason.LEAKED)
                    lost.append(lease)
            finally:
                self._mutex.release()
            self._act(actions, soon=True)
            for lease in lost:
                lease.overdue = None  # there is more to say of it than that it was closed
                self._forget(lease)
                if lease.found not in AT_AN_END:
                    self.reports.leak(lease)

    def report_open(self, found: LeakFound, runtime: Runtime | None = None) -> int:
        """Count and report the responses that are still open, of one runtime or of all, as leaks; return how many."""
        return self.reports.left_open(found, runtime)

    def safe_point(self, patience: float = 0.0) -> None:
        """Say what finalizers left, or wait `patience` s for another thread that does. Not in a finalizer or mutex."""
        self.check_process()
        if self._dropped:
            self.kick()
        self.reports.tell(patience)

    @property
    def has_reports(self) -> bool:
        """Report whether a safe point has something to say."""
        return bool(self.reports or self._dropped)

    # -- keeping house --------------------------------------------------------------------------

    def keep_house(self, runtime: Runtime) -> None:
        """See to it that somebody does, from now on; the caller runs on `runtime`."""
        if self._watcher is None:
            self._watch(runtime)

    def _watch(self, runtime: Runtime) -> None:
        from .housekeeping import Keeper  # noqa: PLC0415 - it needs the ledger

        self._watcher = runtime
        self.memory.history.expect(None)  # of an earlier keeper's loop nobody comes any more
        runtime.watch(Keeper(self))

    def tick(self) -> float | None:
        """Expire, notice ended idle connections, say what is to be said. Return when to come again,
        in seconds; None when there is nothing left to watch.
        """
        self.safe_point()
        self.wake_up()
        self.before_tick()
        now = self.now()
        self.apply(self.pool.expire, now)
        look_again = self.overdue.look(now)
        self.memory.history.tick(now, self.sample)
        with self.looking():
            idle = [conn for conn in self.pool.idle_conns() if conn.runtime.polls_idle]
        for conn in idle:
            if conn.stream.hung_up():
                self.apply(self.pool.remove_idle, conn, CloseReason.SERVER_CLOSED_IDLE)
        with self.looking():
            expiry = self.pool.next_expiry()
            if expiry is None and not self.leases and not self.reports and next(self.pool.conns(), None) is None:
                self._watcher = None
                return None
        # What becomes idle after this look must be seen before it expires.
        longest = min(_HOUSEKEEPING_SECONDS, self.options.idle_conn_timeout or _HOUSEKEEPING_SECONDS)
        soonest = min(longest if expiry is None else expiry - now, look_again or longest)
        delay = min(max(soonest, 0.001), longest)
        self.memory.history.expect(now + delay)
        return delay

    def sample(self) -> Any:
        """Return what is compared over time."""
        with self.looking():
            return self.pool.sample()

    def open_conns(self) -> list[Connection]:
        """Return every connection that is not closing."""
        with self.looking():
            return [conn for conn, _, state in self.pool.conns() if state is not ConnState.CLOSING]

    def drop_runtime(self, runtime: Runtime) -> None:
        """A loop ends or is gone: so do its connections, dials and leases."""
        with self.looking():
            conns = [conn for conn, _, _ in self.pool.conns() if conn.runtime is runtime]
        alive = runtime.is_alive()
        self.report_open(LeakFound.CLOSE, runtime)
        for lease in [lease for lease in tuple(self.leases.values()) if lease.conn.runtime is runtime]:
            if lease.end():
                self._forget(lease)
        for conn in conns:
            if not alive:
                conn.stream.drop()
            self.apply(self.pool.remove, conn, CloseReason.POOL_CLOSED)
            if not alive:
                self._closed(conn)  # nothing of that loop will say so any more
        if not alive:
            for job in [job for job in tuple(self.dials) if job.runtime is runtime]:
                job.lost()
        if self._watcher is runtime:
            self._watcher = None

    def check_process(self) -> None:
        """Notice a fork that ran no hooks (uWSGI), before anything inherited is touched."""
        if os.getpid() != self.pid:
            self.after_fork()

    def is_inherited(self, lease: Lease) -> bool:
        """Report whether a lease, and so its connection, is the parent process's."""
        self.check_process()
        return lease.epoch != self.epoch

    def after_fork(self) -> None:
        """In a child: close the inherited descriptors, raw, and start from nothing (contract 3.8)."""
        inherited = self.pool
        self.epoch += 1
        leaks.forget_pending()
        self.reports.forget()
        self._begin()
        for conn, _, _ in inherited.conns():
            conn.stream.drop()


def _nothing() -> None:
    return None
