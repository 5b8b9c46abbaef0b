"""Is anything left open? Asked at the end of a test, or of a block; with patience for what is ending already.

Rules:

1. First a look. Only if something is open, one collection, which finds what lies in reference cycles; then up to
   twenty looks more, 1 ms after the first, twice as long after each, 0.1 s at most.
2. What a collection gave back was leaked all the same: the slot came back, but only by luck of the collector.
3. Other connections than those of responses count too: in use by nobody, left in a transport, or lost by a count.
"""

from __future__ import annotations

import gc
import sys
import time
from typing import TYPE_CHECKING

from pooltransport import census
from pooltransport.engine.statistics import broken_invariant

from .leak_scopes import inside, onlooker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

    from .leak_scopes import Scope

_LOOKS = 20
_FIRST_PAUSE = 0.001
_LONGEST_PAUSE = 0.1


class PoolLeakError(AssertionError):
    """Responses or transports were left open. The text says which, where they were opened, and what to write."""


def pauses(scope: Scope, *, clients: bool) -> Iterator[float]:
    """Yield how long to wait before the next look, until nothing is open, or for as long as is worth it."""
    if _is_clean(scope, clients=clients):
        return
    gc.collect()
    pause = _FIRST_PAUSE
    for _ in range(_LOOKS):
        if _is_clean(scope, clients=clients):
            return
        yield pause
        pause = min(pause * 2, _LONGEST_PAUSE)


def _is_clean(scope: Scope, *, clients: bool) -> bool:
    if scope.open_leases():
        return False
    transports = list(scope.transports)
    return not any(in_use_by_nobody(transport) or (clients and _sockets(transport)) for transport in transports)


def problems(scope: Scope, *, clients: bool, allowed: int = 0) -> list[str]:
    """Return a text for each thing that is wrong with `scope`, whose `pauses` are over.

    `clients`: its transports must have no connection left. `allowed`: so many responses may be left open.
    """
    texts = []
    leaks = scope.leaks()
    if len(leaks) > allowed:
        were = "1 response was" if len(leaks) == 1 else f"{len(leaks)} responses were"
        allowance = f", {allowed} allowed" if allowed else ""
        texts.append("\n".join((f"{were} never closed{allowance}:", *map(str, leaks))))
    for transport, made_at in list(scope.transports.items()):
        stats = transport.stats()
        nobody, sockets = in_use_by_nobody(transport), _sockets(transport)
        if nobody:
            texts.append(f"{transport!r}: {_connections(nobody)} in use at the end, by no response")
        elif clients and sockets and not stats.leases:
            what = f"{type(transport).__name__} made at {made_at}"
            texts.append(f"{what} was left open with {_connections(sockets)}, {stats.idle} of them idle. {_FIX}")
    if clients:
        while scope.lost_transports:
            what, site, sockets = scope.lost_transports.popleft()
            where = "" if site is None else f" made at {site}"
            texts.append(f"{what}{where} was dropped unclosed with {_connections(sockets)}. {_FIX}")
    return texts


_FIX = "Fix: `with` it, or close() it."


def damage(scope: Scope) -> list[str]:
    """Return what the books of the pools that are alive say against them, of the time since `scope` began."""
    texts = []
    for transport in census.transports():
        rebuilds = transport.stats().rebuilds - scope.rebuilds.get(transport, 0)
        if rebuilds > 0:
            texts.append(f"{transport!r}: its counts had to be taken anew, rebuilds = {rebuilds}")
        broken = broken_invariant(transport._engine)  # noqa: SLF001 - for tests alone: users have stats()
        if broken is not None:
            texts.append(f"{transport!r}: its books do not agree: {broken}")
    return texts


def in_use_by_nobody(transport: object) -> int:
    """Return how many connections are in use that no response holds."""
    stats = transport.stats()  # type: ignore[attr-defined]
    return max(int(stats.active + stats.draining + stats.upgraded - stats.leases), 0)


def _sockets(transport: object) -> int:
    stats = transport.stats()  # type: ignore[attr-defined]
    return int(stats.open + stats.dialing + stats.closing)


def _connections(count: int) -> str:
    return f"{count} connection{'' if count == 1 else 's'}"


async def settle(scope: Scope, *, clients: bool) -> None:
    """Wait on the loop that runs here for what is ending."""
    for pause in pauses(scope, clients=clients):
        await sleep(pause)


async def settle_drains(scope: Scope) -> None:
    """Wait for the bodies that the loop reads away in the background: it may stand still after this."""
    for pause in pauses(scope, clients=False) if _is_draining(scope) else ():
        await sleep(pause)
        if not _is_draining(scope):
            return


def _is_draining(scope: Scope) -> bool:
    return bool(scope.open_leases()) and any(transport.stats().draining for transport in census.transports())


async def sleep(seconds: float) -> None:
    """Sleep on asyncio or trio."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and asyncio._get_running_loop() is not None:  # noqa: SLF001 - documented
        await asyncio.sleep(seconds)
        return
    import trio  # noqa: PLC0415 - there is no third one

    await trio.sleep(seconds)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


class no_leaks:  # noqa: N801 - a context manager reads like a verb
    """Raise `PoolLeakError` at the end of the block if it left responses open, or transports with connections.

    ``with no_leaks():`` or ``async with no_leaks():``, which lets the loop go on while it waits, up to 1.5 s, for what
    is ending. `max`: so many responses may be left open (0 or more). `clients`: whether transports that the block made
    must be closed by its end. An error raised in the block passes, and nothing is checked.

    Transports made in the block look closely (``leak_detection="full"``), unless told otherwise. In a `unittest` case:
    ``self.enterContext(no_leaks())`` in `setUp`.
    """

    def __init__(self, *, max: int = 0, clients: bool = True) -> None:  # noqa: A002 - as the pytest marker has it
        if not _is_count(max):
            raise ValueError(f"no_leaks(max={max!r}): must be a whole number, 0 or more")
        self._max = max
        self._clients = clients
        self._held: Scope | None = None
        self._inside = inside(None)

    def __enter__(self) -> Self:
        if self._held is not None:
            raise RuntimeError("this no_leaks() is entered already: make another one")
        self._held = onlooker.begin("a block")
        self._inside = inside(self._held)
        self._inside.__enter__()
        return self

    def _leave(self, error: BaseException | None) -> Scope | None:
        scope, self._held = self._held, None
        assert scope is not None, "left once for each time it was entered"
        self._inside.__exit__(None, None, None)
        if error is None:
            return scope
        scope.excused = True
        onlooker.end(scope)
        return None

    def _check(self, scope: Scope) -> None:
        try:
            texts = problems(scope, clients=self._clients, allowed=self._max) + damage(scope)
        finally:
            scope.forget_leaks()
            onlooker.end(scope)
        if texts:
            raise PoolLeakError("\n".join(texts))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        scope = self._leave(error)
        if scope is not None:
            for pause in pauses(scope, clients=self._clients):
                time.sleep(pause)
            self._check(scope)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        scope = self._leave(error)
        if scope is not None:
            await settle(scope, clients=self._clients)
            self._check(scope)
