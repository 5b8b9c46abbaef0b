"""The trio leaf, through anyio: non-blocking sockets that we own, and waits for readiness.

Background work runs in trio's system tasks, which must never raise; a clean-up that another thread
or a finalizer asks for goes through `TrioToken.run_sync_soon` (contract 3.1, 3.11).
"""

from __future__ import annotations

import contextlib
import time
import weakref
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import trio

from . import workers
from .sockets import make_socket, names
from .trio_stream import TrioStream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine
    from contextvars import Context

    from .protocols import Address, SocketOptions, Stream

_monotonic = time.monotonic


class TrioLatch:
    """An event that any thread may set, once."""

    __slots__ = ("_event", "_token")

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        self._token = token
        self._event = anyio.Event()

    def set(self) -> None:
        try:
            self._token.run_sync_soon(self._event.set)
        except trio.RunFinishedError:
            return  # nobody waits there any more

    async def wait(self, at: float | None) -> bool:
        if at is None:
            await self._event.wait()
            return True
        with anyio.move_on_after(max(at - _monotonic(), 0.0)):
            await self._event.wait()
        return self._event.is_set()


class TrioTask:
    """A cancel scope that any thread may cancel."""

    __slots__ = ("_runtime", "_scope")

    def __init__(self, runtime: TrioRuntime, scope: trio.CancelScope) -> None:
        self._runtime = runtime
        self._scope = scope

    def cancel(self) -> None:
        if self._runtime.is_here():
            self._scope.cancel()
        else:
            self._runtime.post(self._scope.cancel)


class TrioRuntime:
    """One `trio.run`."""

    name = "trio"
    polls_idle = True

    now = staticmethod(_monotonic)

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        self.loop = token
        self._over = False
        self.on_end: Callable[[], None] = _nothing

    def is_here(self) -> bool:
        return current_token() is self.loop

    def holder(self) -> object:
        try:
            return weakref.ref(trio.lowlevel.current_task())
        except RuntimeError:  # in none; `in_trio_task` came with 0.28
            return None

    def is_alive(self) -> bool:
        if not self._over:
            try:
                self.loop.run_sync_soon(_nothing, idempotent=True)
            except trio.RunFinishedError:
                self._over = True
        return not self._over

    def new_latch(self) -> TrioLatch:
        return TrioLatch(self.loop)

    def spawn(self, context: Context | None, fn: Callable[..., Coroutine[Any, Any, None]], *args: object) -> TrioTask:
        scope = trio.CancelScope()
        trio.lowlevel.spawn_system_task(_in_scope, scope, fn, args, context=context)
        return TrioTask(self, scope)

    def post(self, fn: Callable[..., object], *args: object) -> bool:
        try:
            self.loop.run_sync_soon(fn, *args)
        except trio.RunFinishedError:
            return False
        return True

    def watch(self, tick: Callable[[], float | None]) -> None:
        trio.lowlevel.spawn_system_task(_keep_house, tick)

    async def connect(
        self,
        address: Address,
        options: SocketOptions,
        at: float | None,
        register: Callable[[Stream], None],  # noqa: ARG002 - cancelling the task is enough here
    ) -> TrioStream:
        stream = TrioStream(self, make_socket(address, options))
        try:
            await stream.connect(address, at)
        except BaseException:
            stream.abort(_nothing)
            raise
        return stream

    async def adopt(self, sock: Any) -> TrioStream:
        stream = TrioStream(self, sock)
        stream.remote_addr, stream.local_addr = names(sock)
        return stream

    def aside(self, fn: Callable[[], None]) -> None:
        fn()

    async def run_blocking(self, fn: Callable[[], Any], *, abandon: bool = False) -> Any:
        if abandon:
            return await workers.call(self.new_latch(), fn)
        return await anyio.to_thread.run_sync(fn)

    async def detach(self, fn: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.spawn(None, fn)

    async def settle(self) -> None:
        """Do nothing: sockets are closed at once."""

    def on_shutdown(self, fn: Callable[[], None]) -> None:
        self.on_end = fn
        row = _runs.get(self.loop)
        if row is None:
            runtimes: weakref.WeakSet[TrioRuntime] = weakref.WeakSet()
            row = _runs[self.loop] = (_sentinel(self.loop, runtimes), runtimes)
            with contextlib.suppress(StopIteration):
                row[0].asend(None).send(None)
        row[1].add(self)


# trio closes the asynchronous generators that are still open at the end of a run, and warns of those
# that are collected before: so there is one for each run, and it is held here.
_runs: dict[trio.lowlevel.TrioToken, tuple[AsyncGenerator[None, None], weakref.WeakSet[TrioRuntime]]] = {}


async def _sentinel(
    token: trio.lowlevel.TrioToken, runtimes: weakref.WeakSet[TrioRuntime]
) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        _runs.pop(token, None)
        for runtime in tuple(runtimes):
            runtime.on_end()


async def _in_scope(
    scope: trio.CancelScope, fn: Callable[..., Coroutine[Any, Any, None]], args: tuple[object, ...]
) -> None:
    with scope:
        await fn(*args)


async def _keep_house(tick: Callable[[], float | None]) -> None:
    while (delay := tick()) is not None:  # noqa: ASYNC110 - it keeps house, it waits for nothing
        await anyio.sleep(delay)


def _nothing() -> None:
    return None


def current_token() -> trio.lowlevel.TrioToken | None:
    """Return the token of the running trio loop, or None outside of one."""
    try:
        return trio.lowlevel.current_trio_token()
    except RuntimeError:
        return None
