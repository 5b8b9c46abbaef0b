"""The asyncio leaf: a `Protocol` of our own on the loop's transports, with flow control.

No task, timer or event is made for a request that a warm connection serves: a wait is one future,
and a stream keeps one lazy timer, which is moved only when it fires too early. Everything that
another thread or a finalizer may call goes through `call_soon_threadsafe`; when the loop is closed
the raw descriptor is closed instead (contract 3.7).
"""

from __future__ import annotations

import asyncio
import time
from contextvars import copy_context
from typing import TYPE_CHECKING, Any
from weakref import ref

from . import workers
from .asyncio_stream import MOST_AT_ONCE, AsyncioStream
from .sockets import make_socket, names

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncGenerator, Callable, Coroutine
    from contextvars import Context

    from .protocols import Address, SocketOptions, Stream

_monotonic = time.monotonic
_running_loop = asyncio._get_running_loop  # noqa: SLF001 - documented for "low-level" use; None outside


class AsyncioLatch:
    """A future that any thread may set, once."""

    __slots__ = ("_future", "_loop", "_set")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._set = False
        self._future: asyncio.Future[None] | None = None

    def set(self) -> None:
        self._set = True
        if _running_loop() is self._loop:
            self._wake()
            return
        try:
            self._loop.call_soon_threadsafe(self._wake)
        except RuntimeError:
            return  # the loop is closed: nobody waits there any more

    def _wake(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def wait(self, at: float | None) -> bool:
        if self._set:
            return True
        self._future = self._loop.create_future()
        timer = None
        if at is not None:
            timer = self._loop.call_later(max(at - _monotonic(), 0.0), self._wake)
        try:
            await self._future
        finally:
            if timer is not None:
                timer.cancel()
        return self._set


class AsyncioTask:
    """A task that any thread may cancel."""

    __slots__ = ("_runtime", "_task")

    def __init__(self, runtime: AsyncioRuntime, task: asyncio.Task[None]) -> None:
        self._runtime = runtime
        self._task = task

    def cancel(self) -> None:
        if self._runtime.is_here():
            self._task.cancel()
        else:
            self._runtime.post(self._task.cancel)


class AsyncioRuntime:
    """One event loop."""

    name = "asyncio"
    polls_idle = False

    now = staticmethod(_monotonic)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._tasks: set[asyncio.Task[None]] = set()
        self._sentinel: AsyncGenerator[None, None] | None = None
        # All streams of a loop receive into it, and empty it before the loop can turn to another. A loop's own receive
        # asks for 256 KiB anew each time, which the allocator may fetch from the kernel and give back to it, for a
        # third of what a small request costs.
        self._scratch: memoryview | None = None

    def _stream(self, sock: socket.socket) -> AsyncioStream:
        if self._scratch is None:
            self._scratch = memoryview(bytearray(MOST_AT_ONCE))
        return AsyncioStream(self.loop, sock, self._scratch)

    def is_here(self) -> bool:
        return _running_loop() is self.loop

    def holder(self) -> object:
        task = asyncio.current_task(self.loop)
        return None if task is None else ref(task)

    def is_alive(self) -> bool:
        return not self.loop.is_closed()

    def new_latch(self) -> AsyncioLatch:
        return AsyncioLatch(self.loop)

    def spawn(
        self, context: Context | None, fn: Callable[..., Coroutine[Any, Any, None]], *args: object
    ) -> AsyncioTask:
        task = self.loop.create_task(fn(*args), context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return AsyncioTask(self, task)

    def post(self, fn: Callable[..., object], *args: object) -> bool:
        try:
            self.loop.call_soon_threadsafe(fn, *args)
        except RuntimeError:
            return False
        return True

    def watch(self, tick: Callable[[], float | None]) -> None:
        delay = tick()
        if delay is not None:
            self.loop.call_later(delay, self.watch, tick)

    async def connect(
        self,
        address: Address,
        options: SocketOptions,
        at: float | None,
        register: Callable[[Stream], None],  # noqa: ARG002 - cancelling the task is enough here
    ) -> AsyncioStream:
        sock = make_socket(address, options)
        sock.setblocking(False)
        stream = self._stream(sock)
        try:
            await stream.connect(address, at)
        except BaseException:
            sock.close()
            raise
        return stream

    async def adopt(self, sock: Any) -> AsyncioStream:
        sock.setblocking(False)
        stream = self._stream(sock)
        stream.remote_addr, stream.local_addr = names(sock)
        return stream

    def aside(self, fn: Callable[[], None]) -> None:
        fn()

    async def run_blocking(self, fn: Callable[[], Any], *, abandon: bool = False) -> Any:
        if abandon:
            return await workers.call(self.new_latch(), fn)
        # With the caller's context variables, as on the other colours.
        return await self.loop.run_in_executor(None, copy_context().run, fn)

    async def detach(self, fn: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.spawn(None, fn)

    async def settle(self) -> None:
        await asyncio.sleep(0)

    def on_shutdown(self, fn: Callable[[], None]) -> None:
        # An asynchronous generator that was started and not finished is closed by
        # `loop.shutdown_asyncgens()`, which `asyncio.run` calls: the one hook loops have for their end.
        self._sentinel = _sentinel(fn)
        start_sentinel(self._sentinel)


def start_sentinel(sentinel: AsyncGenerator[None, None]) -> None:
    """Run `sentinel` to its first yield, at once: it awaits nothing before."""
    try:
        sentinel.asend(None).send(None)
    except StopIteration:
        return


async def _sentinel(fn: Callable[[], None]) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        fn()
        await asyncio.sleep(0)  # the turn in which the aborted transports close their sockets
