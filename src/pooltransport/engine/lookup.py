"""A name's addresses, without holding a deadline hostage (contract 3.10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pooltransport.errors import DNSError
from pooltransport.resolver import Lookup, Resolver, default_resolver, normalise
from pooltransport.runtime.protocols import Address, Expired
from pooltransport.runtime.sockets import address_text
from pooltransport.trace import DNSDoneInfo, DNSStartInfo

from .reasons import dns_reason

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from pooltransport.runtime.protocols import Latch, Runtime, Task
    from pooltransport.trace import Hooks

    from .engine import Engine

# How often who waits asks whether the resolver needs one more worker, in seconds.
_LOOK_AGAIN = 1.0


class _Flight:
    """One look-up on a loop, and how many wait for it."""

    __slots__ = ("key", "lookup", "task", "waiting")

    def __init__(self, key: tuple[Runtime, str, int]) -> None:
        self.key = key
        self.lookup = Lookup()
        self.task: Task  # given as soon as it is spawned
        self.waiting = 1


class LoopResolver:
    """Look-ups by a coroutine function, on the loop of who asks; one in flight for each name and loop.

    Loops of several threads share it: each step is one operation on a dictionary, and a flight is
    touched only on its own loop.
    """

    def __init__(self, function: Callable[[str, int], Coroutine[Any, Any, Any]]) -> None:
        self._function = function
        self._inflight: dict[tuple[Runtime, str, int], _Flight] = {}

    def start(self, runtime: Runtime, host: str, port: int) -> tuple[_Flight, bool]:
        """Begin to look `host` up, or join who does; report whether it was joined. Then `leave`."""
        key = (runtime, host, port)
        flight = self._inflight.get(key)
        if flight is not None:
            flight.waiting += 1
            return flight, True
        flight = self._inflight[key] = _Flight(key)
        flight.task = runtime.spawn(None, self._run, flight)
        return flight, False

    def leave(self, flight: _Flight) -> None:
        """Wait for it no longer. A look-up that nobody waits for is cancelled."""
        flight.waiting -= 1
        if not (flight.waiting or flight.lookup.done):
            self._forget(flight)
            flight.task.cancel()

    def _forget(self, flight: _Flight) -> None:
        if self._inflight.get(flight.key) is flight:
            del self._inflight[flight.key]

    async def _run(self, flight: _Flight) -> None:
        _, host, port = flight.key
        addresses: Sequence[Any] = ()
        error: BaseException | None = None
        try:
            addresses = normalise(await self._function(host, port), port)
        except Exception as failure:  # noqa: BLE001 - the answer of this look-up, whatever it is
            error = failure
        except BaseException as failure:
            error = failure
            raise
        finally:
            self._forget(flight)
            flight.lookup.finish(addresses, error)
            del error  # its traceback has this frame: no cycle


def make_resolver(function: Callable[[str, int], Any] | None, *, is_async: bool) -> Resolver | LoopResolver:
    """Return what looks names up for a transport whose ``resolver=`` is `function`."""
    if function is None:
        return default_resolver()
    return LoopResolver(function) if is_async else Resolver(function)


class Search:
    """One dial's look-up. `latch` is what it waits for, to be set by who aborts the dial."""

    def __init__(self, engine: Engine, runtime: Runtime, hooks: Hooks | None) -> None:
        self._engine = engine
        self._runtime = runtime
        self._hooks = hooks
        self.latch: Latch | None = None

    async def run(self, host: str, port: int, at: float | None, check: Callable[[], None]) -> Sequence[Address]:
        """Return the addresses of `host`, at least one. Raises `DNSError`, `Expired` at the moment `at`,
        and what `check` raises, which is called whenever something happened.
        """
        if self._hooks is not None:
            self._hooks.tell("dns_start", DNSStartInfo(host))
        resolver = self._engine.resolver
        flight = None
        if isinstance(resolver, LoopResolver):
            flight, coalesced = resolver.start(self._runtime, host, port)
            lookup = flight.lookup
        else:
            lookup, coalesced = resolver.start(host, port)
        error: BaseException | None = None
        found: Sequence[Address] = ()
        try:
            await self._wait(lookup, at, check)
            if lookup.error is not None:
                raise DNSError(f"cannot resolve {host!r}: {dns_reason(lookup.error)}") from lookup.error
            found = [Address(family, address, address_text(address)) for family, address in lookup.addresses]
            if not found:
                raise DNSError(f"cannot resolve {host!r}: the resolver knows no address")
        except BaseException as failure:
            error = failure
            raise
        finally:
            self.latch = None
            if isinstance(resolver, LoopResolver) and flight is not None:
                resolver.leave(flight)
            if self._hooks is not None:
                texts = tuple(address.text for address in found)
                self._hooks.tell("dns_done", DNSDoneInfo(host, texts, coalesced, error))
            del error  # its traceback has this frame: no cycle
        return found

    async def _wait(self, lookup: Lookup, at: float | None, check: Callable[[], None]) -> None:
        if lookup.done:
            return
        engine = self._engine
        self.latch = latch = self._runtime.new_latch()
        lookup.on_done(latch.set)
        while not lookup.done:
            now = engine.now()
            await latch.wait(now + _LOOK_AGAIN if at is None else min(now + _LOOK_AGAIN, at))
            check()
            if at is not None and engine.now() >= at and not lookup.done:
                raise Expired
            if isinstance(engine.resolver, Resolver):
                engine.resolver.grow(engine.now())
