"""Getting a connection: a warm one at once, or a wait for a dial, a returned one, or a slot.

Every wait is bounded (contract 1.6, 2); whoever stops waiting gives back what it was given.
"""

from __future__ import annotations

from contextvars import copy_context
from typing import TYPE_CHECKING, NamedTuple

from pooltransport import witness
from pooltransport.core.pool import PoolClosedError, QueueFull, Waiter
from pooltransport.errors import ConnectTimeout, PoolQueueFull, PoolTimeout, TransportClosed
from pooltransport.stats import AcquireSource, CloseReason
from pooltransport.trace import AcquireDoneInfo, AcquireQueuedInfo

from .clocks import Setting
from .vigil import Vigil

if TYPE_CHECKING:
    from contextvars import Context

    from pooltransport.core.keys import ConnectKey
    from pooltransport.runtime.protocols import Runtime
    from pooltransport.trace import GotConnInfo, Hooks

    from .clocks import Clocks
    from .connection import Connection
    from .engine import Engine

# A dial reports its own timeout; who waits for it gives it this long to do so, in seconds.
_GRACE = 0.5


class Tag(NamedTuple):
    """What the engine knows of a waiter: whose hooks its dial tells, who waits, and how long."""

    hooks: Hooks | None
    context: Context | None
    tls: Setting
    holder: object = None
    clocks: Clocks | None = None


async def acquire(
    engine: Engine, key: ConnectKey, runtime: Runtime, clocks: Clocks, hooks: Hooks | None
) -> tuple[Connection, GotConnInfo]:
    """Return a connection for one exchange, leased from the moment of the pool's decision."""
    ledger = engine.ledger
    began = engine.now()
    if witness.gate is not None:
        witness.gate.check(key)
    while True:
        ledger.wake_up()
        conn = ledger.take(key, engine.now())
        source = AcquireSource.REUSED
        if conn is None:
            conn, source = await _wait_for(engine, key, runtime, clocks, hooks)
        if source is AcquireSource.REUSED:
            try:
                stale = conn.stream.check()
            except BaseException:
                ledger.apply(ledger.pool.remove, conn, CloseReason.BAD_STATE)
                raise
            if stale is not None:
                ledger.apply(ledger.pool.remove, conn, stale)
                continue
        elif source is AcquireSource.HANDED_OVER:
            conn.reused = True
        now = engine.now()
        info = conn.got_info(now, now - began, was_idle=source is AcquireSource.REUSED)
        if hooks is not None:
            hooks.tell("got_conn", info)
        return conn, info


async def _wait_for(
    engine: Engine, key: ConnectKey, runtime: Runtime, clocks: Clocks, hooks: Hooks | None
) -> tuple[Connection, AcquireSource]:
    ledger = engine.ledger
    tag = Tag(hooks, copy_context(), clocks.settings.tls, runtime.holder(), clocks)
    waiter: Waiter[Connection] = Waiter(key, runtime.new_latch(), tag)
    try:
        ledger.apply(ledger.pool.get, waiter, engine.now())
    except QueueFull:
        full = PoolQueueFull()
        engine.exhaustion.explain_full(full, key, engine.now())
        raise full from None
    except PoolClosedError:
        raise TransportClosed("this transport is closed") from None
    queued = waiter.pending and waiter.dial is None
    if queued and hooks is not None:
        hooks.tell("acquire_queued", AcquireQueuedInfo(key.origin, ledger.pool.waiting_position(waiter)))
    try:
        await wait_for(engine, waiter, clocks)
    except BaseException as error:
        if waiter.conn is not None:
            waiter.conn.reused = True
            waiter.conn.idle_since = engine.now()
            waiter.conn.stream.on_idle_event = waiter.conn.on_idle_event
        ledger.apply(ledger.pool.cancel, waiter, engine.now())
        if queued and hooks is not None:
            hooks.tell("acquire_done", _done(engine, waiter, type(error).__name__))
        raise
    if queued and hooks is not None:
        hooks.tell("acquire_done", _done(engine, waiter, None))
    if waiter.error is not None:
        answer, waiter.error = waiter.error, None
        try:
            if isinstance(answer, PoolClosedError):
                raise TransportClosed("the transport was closed while the request waited for a connection") from None
            raise answer
        finally:
            del answer  # its traceback has this frame: no cycle
    assert waiter.conn is not None, "an answer is a connection or an error"
    assert waiter.source is not None, "a connection comes from somewhere"
    waiter.conn.stream.on_idle_event = None
    return waiter.conn, waiter.source


def _done(engine: Engine, waiter: Waiter[Connection], outcome: str | None) -> AcquireDoneInfo:
    if outcome is None:
        outcome = waiter.source.value if waiter.source is not None else type(waiter.error).__name__
    return AcquireDoneInfo(waiter.key.origin, engine.now() - waiter.since, outcome)  # type: ignore[attr-defined]


async def wait_for(engine: Engine, waiter: Waiter[Connection], clocks: Clocks) -> None:
    """Wait for the answer. Which clock runs depends on whether a dial was permitted meanwhile."""
    vigil: Vigil | None = None
    while waiter.pending:
        at, _ = _bound(engine, waiter, clocks)
        look_at = at
        if waiter.dial is None:
            vigil = vigil or Vigil(engine, waiter, clocks)
            look_at = vigil.next(at)
        if await waiter.latch.wait(look_at):
            return
        now = engine.now()
        if vigil is not None and waiter.dial is None:
            vigil.look(now, at)
            now = engine.now()
        at, setting = _bound(engine, waiter, clocks)
        if at is not None and now >= at and waiter.pending:
            raise _late(engine, waiter, clocks, setting, now)


def _bound(engine: Engine, waiter: Waiter[Connection], clocks: Clocks) -> tuple[float | None, Setting]:
    settings = clocks.settings
    dial = waiter.dial
    if dial is None or dial.tag is None:
        return clocks.until(settings.acquire, waiter.since), settings.acquire
    began = max(dial.started, waiter.since)
    at = clocks.until(settings.connect, began)
    if engine.options.dial_timeout is not None:
        # The dial's own clock, but for a dial= callable, which nobody can make come back.
        grace = _GRACE if engine.options.dial is None else 0.0
        last = dial.started + engine.options.dial_timeout + grace
        if at is None or last < at:
            return last, Setting(engine.options.dial_timeout, "dial_timeout")
    return at, settings.connect


def _late(engine: Engine, waiter: Waiter[Connection], clocks: Clocks, setting: Setting, now: float) -> BaseException:
    key: ConnectKey = waiter.key  # type: ignore[assignment]
    job = None if waiter.dial is None else waiter.dial.tag
    error = clocks.expired("queue" if job is None else job.phase, setting, now, where=key.origin, done=False)
    engine.ledger.note(engine.ledger.pool.note_timeout, key.host, error.phase)
    if job is None:
        assert isinstance(error, PoolTimeout), "who has no dial waits in the queue"
        engine.exhaustion.explain(error, waiter, now)
    else:
        assert isinstance(error, ConnectTimeout), "the clock of one handshake is the dial's own"
        job.add_attempts(error)
    return error
