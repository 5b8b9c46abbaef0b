"""The blocking leaf: every ``async def`` here and in `thread_stream` blocks and never suspends.

`threading.Event`, `Condition` and `Queue` are not re-entrant, and have no place here: a finalizer may set
a latch or hand over a dial (contract 3.1).
"""

from __future__ import annotations

import _thread
import contextvars
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from . import workers
from .sockets import make_socket, names
from .thread_stream import ThreadStream

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from .protocols import Address, SocketOptions

_monotonic = time.monotonic


class ThreadLatch:
    """A raw lock as a one-shot latch."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = _thread.allocate_lock()
        self._lock.acquire()

    def set(self) -> None:
        try:
            self._lock.release()
        except RuntimeError:
            return  # set before

    async def wait(self, at: float | None) -> bool:
        if at is None:
            return self._lock.acquire()
        return self._lock.acquire(timeout=max(at - _monotonic(), 0.0))


class ThreadTask:
    """A job on a worker. Cancelling is done by aborting what it waits for."""

    __slots__ = ()

    def cancel(self) -> None:
        """Do nothing: see the class."""


class ThreadRuntime:
    """The runtime of every sync transport of the process; it has no state."""

    name = "threads"
    polls_idle = True

    now = staticmethod(_monotonic)
    holder = staticmethod(_thread.get_ident)
    watch = staticmethod(workers.watch)

    def new_latch(self) -> ThreadLatch:
        return ThreadLatch()

    def spawn(
        self,
        context: contextvars.Context | None,
        fn: Callable[..., Coroutine[Any, Any, None]],
        *args: object,
    ) -> ThreadTask:
        job = partial((context or contextvars.Context()).run, _drive, fn, args)
        try:
            workers.submit(job)
        except RuntimeError:
            job()  # no thread can start: dial in the caller's own
        return ThreadTask()

    def post(self, fn: Callable[..., object], *args: object) -> bool:
        fn(*args)
        return True

    async def connect(
        self,
        address: Address,
        options: SocketOptions,
        at: float | None,
        register: Callable[[ThreadStream], None],
    ) -> ThreadStream:
        stream = ThreadStream(make_socket(address, options))
        try:
            register(stream)
            await stream.connect(address, at)
        except BaseException:
            stream.abort(_nothing)
            raise
        return stream

    async def adopt(self, sock: Any) -> ThreadStream:
        stream = ThreadStream(sock)
        stream.remote_addr, stream.local_addr = names(sock)
        return stream

    def aside(self, fn: Callable[[], None]) -> None:
        try:
            workers.submit(fn)
        except RuntimeError:
            fn()  # no thread can start

    async def run_blocking(self, fn: Callable[[], Any], *, abandon: bool = False) -> Any:  # noqa: ARG002 - a worker's
        return fn()

    async def detach(self, fn: Callable[[], Coroutine[Any, Any, None]]) -> None:
        _drive(fn, ())

    async def settle(self) -> None:
        """Sockets are closed at once, or by who is inside; threads of ours are to go as well."""
        workers.look_now()

    def is_here(self) -> bool:
        return True

    def is_alive(self) -> bool:
        return True

    def on_shutdown(self, fn: Callable[[], None]) -> None:
        """Do nothing: threads have no loop that ends."""


def _nothing() -> None:
    return None


def _drive(fn: Callable[..., Coroutine[Any, Any, None]], args: tuple[object, ...]) -> None:
    coro = fn(*args)
    try:
        coro.send(None)
    except StopIteration:
        return
    finally:
        coro.close()
