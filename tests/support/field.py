"""What the field tests share: cancellation at a chosen await, the promises of a snapshot, quiet."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Generator

    from .colours import Colour


class Stepped:
    """Awaits a coroutine and calls `act` as it is about to wait for the `at`-th time (from 1).

    A cancellation asked for there arrives exactly at that await, on asyncio and on trio. `waits`
    counts how often it waited, `acted` tells whether it came to `at`.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any], at: int, act: Callable[[], object]) -> None:
        self._coroutine = coroutine
        self._at = at
        self._act = act
        self.waits = 0
        self.acted = False

    def __await__(self) -> Generator[Any, Any, Any]:
        send, value = self._coroutine.send, None
        try:
            while True:
                try:
                    waited_for = send(value)
                except StopIteration as stop:
                    return stop.value
                self.waits += 1
                if self.waits == self._at:
                    self.acted = True
                    self._act()
                try:
                    value = yield waited_for
                    send = self._coroutine.send
                except BaseException as error:
                    send, value = self._coroutine.throw, error
        finally:
            self._coroutine.close()


async def run_cancelled_at(colour: str, coroutine: Coroutine[Any, Any, Any], at: int) -> Stepped:
    """Run a request as a task of its own that is cancelled at its `at`-th await; its outcome does not matter."""
    if colour == "trio":
        import trio

        with trio.CancelScope() as scope:
            stepped = Stepped(coroutine, at, scope.cancel)
            await stepped
        return stepped

    async def run() -> None:
        await stepped

    task = asyncio.ensure_future(run())
    stepped = Stepped(coroutine, at, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return stepped


@contextlib.asynccontextmanager
async def entered(c: Colour, manager: Any) -> AsyncIterator[Any]:
    """Use a context manager of either colour: ``async with entered(c, client.stream(...)) as response:``."""
    if c.sync:
        with manager as value:
            yield value
    else:
        async with manager as value:
            yield value


def ends_of(stats: Any) -> str:
    """Return a short text of the gauges, for assertions."""
    names = ("active", "idle", "dialing", "draining", "closing", "waiting", "leases")
    return ", ".join(f"{name}={getattr(stats, name)}" for name in names)


def is_quiet(stats: Any) -> bool:
    """Report whether nothing is in use and nothing is under way."""
    return not (stats.active or stats.dialing or stats.draining or stats.closing or stats.waiting or stats.leases)


async def wait_quiet(c: Colour, transport: Any = None, patience: float = 10.0) -> Any:
    """Wait until nothing is in use; return the statistics then."""
    transport = transport or c.transport
    try:
        await c.wait_until(lambda: is_quiet(transport.stats()), patience)
    except TimeoutError:
        raise AssertionError(f"never quiet: {ends_of(transport.stats())}") from None
    return transport.stats()


def broken_promises(stats: Any) -> list[str]:
    """Return what a snapshot shows that must never be: a limit exceeded, a slot free while someone waits.

    A slot is a socket, coming or going ones included (contract 1.1); an idle connection of another
    host or an unused slot is no reason to wait (contract 1.3).
    """
    per_host, total = stats.limits["max_conns_per_host"], stats.limits["max_conns"]
    found = []
    held = stats.open + stats.dialing + stats.closing
    if total is not None and held > total:
        found.append(f"{held} sockets of {total}")
    eligible = 0  # waiters whose host may have another connection
    for origin, host in stats.hosts.items():
        held_here = host.open + host.dialing + host.closing
        if per_host is not None and held_here > per_host:
            found.append(f"{origin}: {held_here} sockets of {per_host}")
        room_here = host.waiting if per_host is None else min(host.waiting, per_host - held_here)
        if room_here > 0 and (total is None or held < total):
            found.append(f"{origin}: {host.waiting} wait and a slot is free ({held_here} here, {held} in all)")
        eligible += max(room_here, 0)
    # Slots that are becoming free are promised already, and nobody is evicted twice for one waiter.
    if stats.idle and eligible > stats.closing + stats.dialing:
        found.append(f"{eligible} wait, {stats.idle} idle connections are kept, {stats.closing} close")
    return found


async def watch(c: Colour, transport: Any, stop: Callable[[], object], pause: float = 0.0005) -> list[str]:
    """Look at snapshots until `stop()`; return every broken promise."""
    found: list[str] = []
    looked = 0
    while not stop() or not looked:
        found += broken_promises(transport.stats())
        looked += 1
        await c.sleep(pause)
    return found
