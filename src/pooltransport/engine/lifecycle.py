"""Closing, draining and warming a transport (contract 5.3, 5.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pooltransport import witness
from pooltransport.core.pool import Waiter
from pooltransport.stats import CloseReason

from .acquire import Tag, wait_for

if TYPE_CHECKING:
    from pooltransport.models import Request
    from pooltransport.runtime.protocols import Latch, Runtime

    from .clocks import Clocks
    from .connection import Connection
    from .engine import Engine


_LOOK_AGAIN = 0.05


class Closing:
    """The end of one transport: asked for once or often, by any thread, with more or less patience."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._at: float | None = None
        self._latches: list[Latch] = []

    async def close(self, grace: float, runtime: Runtime) -> None:
        """Let nothing new in; give open responses `grace` seconds, then abort them."""
        engine, ledger = self._engine, self._engine.ledger
        ledger.check_process()
        now = engine.now()
        if self._at is None or now + grace < self._at:
            self._at = now + grace
            for latch in self._latches:
                latch.set()  # who waits looks at the shorter grace
        engine.is_closed = True
        ledger.apply(ledger.pool.close, now)
        try:
            while ledger.leases and engine.now() < self._at:
                latch = runtime.new_latch()
                self._latches.append(latch)
                ledger.when_quiet(latch.set)
                await latch.wait(self._at)
                self._latches.remove(latch)
        finally:
            self.abort()
            ledger.safe_point()
        await runtime.settle()

    def abort(self) -> None:
        """Close every connection now. Its reader gets `TransportClosed`."""
        engine, ledger = self._engine, self._engine.ledger
        engine.is_closed = True
        ledger.apply(ledger.pool.close, engine.now())
        for conn in ledger.open_conns():
            ledger.apply(ledger.pool.remove, conn, CloseReason.POOL_CLOSED)


async def drain(engine: Engine, timeout: float | None, runtime: Runtime) -> bool:
    """Let nothing new in and wait until no response is open; report whether that came in time."""
    engine.is_draining = True
    ledger = engine.ledger
    ledger.check_process()
    until = None if timeout is None else engine.now() + timeout
    while ledger.leases or ledger.snapshot().waiting:
        if until is not None and engine.now() >= until:
            return False
        latch = runtime.new_latch()
        if ledger.leases:
            ledger.when_quiet(latch.set)
        # A waiter becomes a lease, and that ends: between the two a look now and then will do.
        soon = engine.now() + _LOOK_AGAIN
        await latch.wait(soon if until is None else min(soon, until))
    ledger.apply(ledger.pool.close_idle, engine.now())
    return True


async def warm(engine: Engine, request: Request, n: int, runtime: Runtime, clocks: Clocks) -> None:
    """Dial until `n` connections lie ready for `request`'s origin."""
    key = engine.key_for(request, runtime)
    if witness.gate is not None:
        witness.gate.check(key)
    ledger = engine.ledger
    waiters: list[Waiter[Connection]] = []
    try:
        for _ in range(n):
            waiter: Waiter[Connection] = Waiter(key, runtime.new_latch(), Tag(None, None, clocks.settings.tls))
            waiters.append(waiter)
            ledger.apply(ledger.pool.get, waiter, engine.now())
        for waiter in waiters:
            await wait_for(engine, waiter, clocks)
            if waiter.error is not None:
                raise waiter.error
    finally:
        for waiter in waiters:
            if waiter.conn is not None:
                waiter.conn.reused = True
                waiter.conn.idle_since = engine.now()
                waiter.conn.stream.on_idle_event = waiter.conn.on_idle_event
            ledger.apply(ledger.pool.cancel, waiter, engine.now())
