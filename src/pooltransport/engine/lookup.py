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


class LoopResolver:
    """Look-ups by a coroutine function, on the loop of who asks; one in flight for each name and loop."""

    def __init__(self, function: Callable[[str, int], Coroutine[Any, Any, Any]]) -> None:
        self._function = function
        self._inflight: dict[tuple[Runtime, str, int], Lookup] = {}
        self._tasks: dict[Lookup, Task] = {}
        self._waiting: dict[Lookup, int] = {}

    def start(self, runtime: Runtime, host: str, port: int) -> tuple[Lookup, bool]:
        """Begin to look `host` up, or join who does; report whether it was joined. Then `leave`."""
        key = (runtime, host, port)
        lookup = self._inflight.get(key)
        if lookup is not None:
            self._waiting[lookup] += 1
            return lookup, True
        lookup = self._inflight[key] = Lookup()
        self._waiting[lookup] = 1
        self._tasks[lookup] = runtime.spawn(None, self._run, key, lookup)
        return lookup, False

    def leave(self, lookup: Lookup) -> None:
        """Wait for it no longer. A look-up that nobody waits for is cancelled."""
        self._waiting[lookup] -= 1
        if self._waiting[lookup]:
            return
        del self._waiting[lookup]
        task = self._tasks.pop(lookup)
        if not lookup.done:
            self._forget(lookup)
            task.cancel()

    def _forget(self, lookup: Lookup) -> None:
        for key in [key for key, found in self._inflight.items() if found is lookup]:
            del self._inflight[key]

    async def _run(self, key: tuple[Runtime, str, int], lookup: Lookup) -> None:
        _, host, port = key
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
            self._forget(lookup)
            lookup.finish(addresses, error)


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
        if isinstance(resolver, LoopResolver):
            lookup, coalesced = resolver.start(self._runtime, host, port)
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
            if isinstance(resolver, LoopResolver):
                resolver.leave(lookup)
            if self._hooks is not None:
                texts = tuple(address.text for address in found)
                self._hooks.tell("dns_done", DNSDoneInfo(host, texts, coalesced, error))
        return found

    async def _wait(self, lookup: Lookup, at: float | None, check: Callable[[], None]) -> None:
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
