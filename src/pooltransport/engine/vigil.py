"""What a request does while it waits for a slot: find garbage that holds one, and notice that nobody can ever go on.

If all slots are held by responses in garbage *cycles*, and everybody waits, nothing allocates, and so the collector
never runs: the pool stays dry although nobody uses it (98 of 120 acquisitions timed out; 0 with a collection).

Rules:

1. Collect only if a lease of that limit is read by nobody. First the young generations, soon and cheaply: garbage
   that was just made is there. Everything only if nobody reads any, or shortly before the timeout; with a rest of
   fifty times what it took, twice as long after each that was in vain, up to 30 s; and not if it might outlast the
   wait, or on a loop a quarter of a second: how long it takes is estimated from the memory in use.
2. On threads a collection runs on a worker: a KeyboardInterrupt that came during one in the main thread would be
   raised in whatever finalizer runs then, and be lost.
3. A deadlock is certain only if every slot is held by a thread or task that waits here itself, nobody reads any of
   those responses, no waiter has a deadline, and the pool has not moved for a second (contract 7.5).
"""

from __future__ import annotations

import _thread
import math
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from pooltransport import leaks
from pooltransport.errors import PoolDeadlock
from pooltransport.lease import name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pooltransport.core.pool import Waiter
    from pooltransport.lease import Lease

    from .clocks import Clocks
    from .engine import Engine

_FIRST_LOOK = 0.01  # s; the next after four times as long each
_FIRST_AFTER_A_FIND = 0.002  # s, if the last look found garbage
_A_FEW = 8  # waiters; more of them look more seldom each: ten thousand must cost little
_LONGEST_PAUSE = 1.0
_LAST_LOOK = 0.5  # s before the timeout, or a quarter of the wait if that is less
_YOUNG, _ALL = 1, 2
_YOUNG_REST = 10  # times as long as it took, and twice as long after each in vain
_LONGEST_YOUNG_REST = 1.0
_MOST_DOUBLED = 20
_LONGEST_REST = 30.0
_REST = 50  # times as long as a collection took: at most a fiftieth of the time goes there
_TOO_LONG_ON_A_LOOP = 0.25
_SECONDS_EACH = 1e-7  # twice what a block was measured to cost, until a collection tells better
_MARGIN = 3  # a machine that is busy takes longer than the last time
_STILL = 1.0


class Collector:
    """When garbage was last collected for a pool's sake, in this process, and whether it was worth it."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        collect: Callable[[int], int] = leaks.collect,
        blocks: Callable[[], int] = sys.getallocatedblocks,
    ) -> None:
        self._clock = clock  # not a transport's: a collection takes real time, and one serves them all
        self._collect = collect
        self._blocks = blocks
        self._young_at = self._all_at = 0.0  # not before
        self._each = _SECONDS_EACH  # of a collection, for each block of memory
        self._young_in_vain = self._in_vain = 0
        self._busy = _thread.allocate_lock()
        self.found = False  # something, the last time

    def young(self) -> None:
        """Collect what was made lately."""
        now = self._clock()
        # Of two that collect at once one finds nothing, and would say that it was in vain.
        if now < self._young_at or not self._busy.acquire(blocking=False):
            return
        try:
            self.found = bool(self._collect(_YOUNG))
            self._young_in_vain = 0 if self.found else self._young_in_vain + 1
            took = self._clock() - now
            rest = min(_YOUNG_REST * took * 2 ** min(self._young_in_vain, _MOST_DOUBLED), _LONGEST_YOUNG_REST)
            self._young_at = 0.0 if self.found else now + rest
        finally:
            self._busy.release()

    def everything(self, at_most: float, *, is_last: bool) -> None:
        """Collect all there is, unless that was lately in vain, or would take more than `at_most` seconds."""
        if self._busy.acquire(blocking=False):
            try:
                self._everything(at_most, is_last=is_last)
            finally:
                self._busy.release()

    def _everything(self, at_most: float, *, is_last: bool) -> None:
        now = self._clock()
        if now < self._all_at and not (is_last and self._in_vain <= 1):
            return
        blocks = self._blocks()
        if blocks * self._each * _MARGIN > at_most:
            return
        found = self._collect(_ALL)
        took = self._clock() - now
        self._each = max(took / max(blocks, 1), self._each / 2)
        self.found = bool(found)
        self._in_vain = 0 if found else self._in_vain + 1
        self._all_at = now + min(_REST * took * 2 ** min(self._in_vain, _MOST_DOUBLED), _LONGEST_REST)


collector = Collector()


class Vigil:
    """One waiter's looks. `next` says when, `look` looks."""

    __slots__ = (
        "_clocks",
        "_collecting",
        "_engine",
        "_last_done",
        "_longest",
        "_look_at",
        "_looked",
        "_moved_at",
        "_pause",
        "_touched",
        "_waiter",
    )

    def __init__(self, engine: Engine, waiter: Waiter[Any], clocks: Clocks) -> None:
        self._engine = engine
        self._waiter = waiter
        self._clocks = clocks
        seldom = max(engine.ledger.pool.waiting_count / _A_FEW, 1.0)
        self._pause = seldom * (_FIRST_AFTER_A_FIND if collector.found else _FIRST_LOOK)
        self._longest = seldom * _LONGEST_PAUSE
        self._look_at = waiter.since + self._pause
        self._last_done = self._looked = self._collecting = False
        self._touched = -1
        self._moved_at = waiter.since

    def next(self, at: float | None) -> float | None:
        """Return when to look, at `at` (when the wait ends) at the latest."""
        if self._engine.options.gc_on_exhaustion is False and not self._may_deadlock:
            return at
        assert at is not None, "a wait that no clock bounds does not exist"
        if self._last_done or self._engine.options.gc_on_exhaustion is False:
            return min(self._look_at, at)
        return min(self._look_at, self._last_moment(at), at)

    def _last_moment(self, at: float) -> float:
        return at - min(_LAST_LOOK, (at - self._waiter.since) / 4)

    @property
    def _may_deadlock(self) -> bool:
        return self._engine.options.deadlock_check and self._clocks.is_unbounded

    def look(self, now: float, at: float | None) -> None:
        """Collect, if that may help; raise `PoolDeadlock` if nobody can go on."""
        wanted = self._engine.options.gc_on_exhaustion
        is_last = at is not None and not self._last_done and now >= self._last_moment(at)
        if wanted is not False and (is_last or now >= self._look_at):
            self._last_done = self._last_done or is_last
            self._collect(now, at, is_last=is_last, always=wanted is True)
        if now >= self._look_at:
            self._pause = min(self._pause * 4, self._longest)
            self._look_at = now + self._pause
        if self._may_deadlock and self._waiter.pending:
            self._check_deadlock(now)

    def _collect(self, now: float, at: float | None, *, is_last: bool, always: bool) -> None:
        unread = [lease.is_unread for lease in leases_of(self._engine, self._waiter.key)]
        if not (any(unread) if is_last else all(unread)) or self._collecting:
            return
        runtime = self._waiter.key.runtime  # type: ignore[attr-defined]
        # It must end before the wait does: a timeout that comes late is worse than one slot found late.
        at_most = math.inf if at is None or always else at - now
        if not always and runtime.name != "threads":
            at_most = min(at_most, _TOO_LONG_ON_A_LOOP)
        if not is_last and not self._looked:
            at_most = 0.0
        self._looked = self._collecting = True
        runtime.aside(partial(self._run, at_most, is_last=is_last))

    def _run(self, at_most: float, *, is_last: bool) -> None:
        """Collect the young, and everything if that does not help and may take `at_most` seconds."""
        kick = self._engine.ledger.kick
        try:
            collector.young()
            kick()
            if at_most and self._waiter.pending and self._waiter.dial is None:
                collector.everything(at_most, is_last=is_last)
                kick()
        finally:
            self._collecting = False

    def _check_deadlock(self, now: float) -> None:
        engine = self._engine
        touched = engine.ledger.pool.touched
        if touched != self._touched:
            self._touched, self._moved_at = touched, now
        elif now - self._moved_at >= _STILL and deadlocked(engine, self._waiter, certain=True) and self._claim():
            # All who wait see it, each in its thread; one of them fails, and with that it is over for the others.
            held = deadlocked(engine, self._waiter, certain=True)
            if held:
                raise PoolDeadlock(_text(self._waiter, held))
            engine.fails = None

    def _claim(self) -> bool:
        """Be the one that fails, unless another one is about to."""
        engine = self._engine
        with engine.ledger.looking():
            if engine.fails is not None and engine.fails.pending:
                return False
            engine.fails = self._waiter
            return True


def leases_of(engine: Engine, key: Any) -> list[Lease]:
    """Return the leases that hold slots of the limit which makes a waiter of `key` wait."""
    leases = tuple(engine.ledger.leases.values())
    if engine.options.max_conns is None:
        return [lease for lease in leases if lease.conn.key.host == key.host]
    return list(leases)


def deadlocked(engine: Engine, waiter: Waiter[Any], *, certain: bool) -> list[Lease]:
    """Return the leases by which everybody waits for everybody, or nothing. `certain`: and no clock will end it."""
    ledger = engine.ledger
    with ledger.looking():
        waiters = list(ledger.pool.waiters())
    tags = [other.tag for other in waiters]
    if certain and any(tag.clocks is None or not tag.clocks.is_unbounded for tag in tags):
        return []
    holders = [tag.holder for tag in tags if tag.holder is not None]
    key: Any = waiter.key
    everywhere = [lease for lease in tuple(ledger.leases.values()) if lease.is_open]
    here = [lease for lease in everywhere if lease.conn.key.host == key.host]
    for limit, leases in ((engine.options.max_conns_per_host, here), (engine.options.max_conns, everywhere)):
        if limit is None or len(leases) != limit or waiter.tag.holder not in [lease.holder for lease in leases]:
            continue
        if all(lease.is_unread and lease.holder in holders for lease in leases):
            return leases
    return []


def _text(waiter: Waiter[Any], held: Collection[Lease]) -> str:
    sites: dict[str, int] = {}
    for lease in held:
        sites[name_of(lease.site)] = sites.get(name_of(lease.site), 0) + 1
    told = ", ".join(f"{count} opened at {site}" for site, count in sites.items())
    key: Any = waiter.key
    return (
        f"nobody can ever get a connection to {key.origin}: each of the {len(held)} allowed is held by a thread or "
        f"task that waits for another one itself; {told} [{PoolDeadlock.code}]"
    )
