"""One test body for threads, asyncio and trio.

    def test_reuse(colour, server_factory):
        server = server_factory(ok())

        async def body(c):
            for _ in range(2):
                response = await c.get(server.url)
                assert await c.read(response) == b"hello"
            assert c.transport.stats().idle == 1

        run_colour(colour, body, max_conns_per_host=1)

`c` makes every call blocking on threads, where ``await`` then never suspends, and awaits it on the
loops. `c.transport` is made from the options and closed after the body; what `c.start` started must
have ended by then, and a failure in it that nobody asked for fails the test.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import math
import threading
import time
from typing import TYPE_CHECKING, Any

import trio

import pooltransport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    Thunk = Callable[[], Coroutine[Any, Any, Any]]

COLOURS = ["threads", "asyncio", "trio"]
PATIENCE = 10.0


def run_blocking(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Drive a coroutine that never suspends, and return its result."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    finally:
        coroutine.close()
    raise RuntimeError(f"{coroutine!r} suspended: on threads everything must go through `c`")


class Handle:
    """Something started in the background."""

    def __init__(self) -> None:
        self.value: Any = None
        self.error: BaseException | None = None
        self.asked = False
        self.done = False
        self.cancel: Callable[[], object] = self._cannot_cancel

    @staticmethod
    def _cannot_cancel() -> None:
        raise NotImplementedError("threads cannot be cancelled")

    async def run(self, thunk: Thunk) -> None:
        """Run to the end and keep what came of it; a cancellation passes through."""
        try:
            self.value = await thunk()
        except Exception as exc:
            self.error = exc
        except BaseException as exc:
            self.error, self.asked = exc, True
            raise
        finally:
            self.done = True

    def outcome(self) -> Any:
        """Return the result, or raise the error."""
        self.asked = True
        if self.error is not None:
            raise self.error
        return self.value


class Colour:
    """The calls that a test body makes; see the module's text. `name` is the colour."""

    name: str
    sync = False

    def __init__(self, options: dict[str, Any]) -> None:
        self.transport: Any = self.make_transport(**options)
        self._handles: list[Handle] = []
        self._transports = [self.transport]

    # Making things.

    def make_transport(self, **options: Any) -> Any:
        """Make a transport of this colour; the caller closes it with `close_transport`."""
        return (pooltransport.Transport if self.sync else pooltransport.AsyncTransport)(**options)

    def make_client(self, **options: Any) -> Any:
        """Make a client of this colour, over `c.transport` unless told otherwise."""
        options.setdefault("transport", self.transport)
        return (pooltransport.Client if self.sync else pooltransport.AsyncClient)(**options)

    # Calls.

    async def call(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call `fn`, and wait for it where its colour says so."""
        result = fn(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result

    async def call_named(self, target: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method by its name on threads; on loops the one with an ``a`` before, if there is one."""
        twin = None if self.sync else getattr(target, f"a{name}", None)
        return await self.call(twin or getattr(target, name), *args, **kwargs)

    async def round_trip(self, request: Any, transport: Any = None) -> Any:
        """Send a request; the response is streamed and yours to close."""
        return await self.call((transport or self.transport).round_trip, request)

    async def request(self, method: str, url: str, *, transport: Any = None, **fields: Any) -> Any:
        """Send a request made from its parts."""
        return await self.round_trip(pooltransport.Request(method, url, **fields), transport)

    async def get(self, url: str, **fields: Any) -> Any:
        """Send a GET."""
        return await self.request("GET", url, **fields)

    async def read(self, response: Any) -> bytes:
        """Read the whole body."""
        return await self.call_named(response, "read")

    async def fetch(self, url: str, **fields: Any) -> bytes:
        """Send a GET and read it to its end: the connection is free again."""
        response = await self.get(url, **fields)
        try:
            return await self.read(response)
        finally:
            await self.close(response)

    async def close(self, response: Any) -> None:
        """Close a response or a client."""
        await self.call_named(response, "close")

    def chunks(self, response: Any, size: int | None = None) -> _Chunks:
        """Iterate over the body with ``async for``, in all colours."""
        args = () if size is None else (size,)
        return _Chunks(iter(response.iter_bytes(*args)) if self.sync else aiter(response.aiter_bytes(*args)))

    async def close_transport(self, transport: Any = None, *args: Any, **kwargs: Any) -> None:
        """Close a transport, `c.transport` by default."""
        await self.call_named(transport or self.transport, "close", *args, **kwargs)

    # Time and company.

    async def sleep(self, seconds: float) -> None:
        """Pause."""
        raise NotImplementedError

    async def start(self, thunk: Thunk) -> Handle:
        """Run ``thunk()`` beside the body: in a thread, or in a task. ``handle.cancel()`` on loops only."""
        handle = Handle()
        self._handles.append(handle)
        self._start(handle, thunk)
        return handle

    def _start(self, handle: Handle, thunk: Thunk) -> None:
        raise NotImplementedError

    async def wait(self, handle: Handle) -> Any:
        """Wait for what was started; return its result or raise its error."""
        handle.asked = True
        await self.wait_until(lambda: handle.done)
        return handle.outcome()

    async def gather(self, *thunks: Thunk) -> list[Any]:
        """Run all at once; return their results in order, or raise the first error once all have ended.

        Only the time limit of the test bounds it.
        """
        handles = [await self.start(thunk) for thunk in thunks]
        for handle in handles:
            handle.asked = True
        await self.wait_until(lambda: all(handle.done for handle in handles), patience=math.inf)
        return [handle.outcome() for handle in handles]

    async def wait_until(self, condition: Callable[[], object], patience: float = PATIENCE) -> None:
        """Wait until `condition` holds; looked at every millisecond."""
        deadline = time.monotonic() + patience
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{inspect.getsource(condition).strip()} did not come true within {patience} s")
            await self.sleep(0.001)

    # The end.

    async def _main(self, body: Callable[[Any], Awaitable[Any]]) -> Any:
        try:
            return await body(self)
        finally:
            await self.close_transport()

    def _check_handles(self) -> None:
        running = sum(not handle.done for handle in self._handles)
        assert not running, f"{running} of the body's own tasks were still running at its end"
        for handle in self._handles:
            if not handle.asked:
                handle.outcome()


class _Chunks:
    """An iterator of either colour, as an asynchronous one; an object, so that leaving early is no matter."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __aiter__(self) -> _Chunks:
        return self

    async def __anext__(self) -> bytes:
        if hasattr(self._inner, "__anext__"):
            return await self._inner.__anext__()
        try:
            return next(self._inner)
        except StopIteration:
            raise StopAsyncIteration from None


class Threads(Colour):
    """Blocking calls and real threads."""

    name = "threads"
    sync = True

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__(options)
        self._threads: list[threading.Thread] = []

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def _start(self, handle: Handle, thunk: Thunk) -> None:
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(run_blocking, handle.run(thunk)), daemon=True)
        self._threads.append(thread)
        thread.start()

    def run(self, body: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
        """Run the body in this thread."""
        result = run_blocking(self._main(body))
        for thread in self._threads:
            thread.join(PATIENCE)
        self._check_handles()
        return result


class Asyncio(Colour):
    """Tasks of one asyncio loop, none of which may be left at the end."""

    name = "asyncio"

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def _start(self, handle: Handle, thunk: Thunk) -> None:
        task = asyncio.ensure_future(handle.run(thunk))
        handle.cancel = task.cancel
        # A task cancelled before its first step never runs `handle.run`.
        task.add_done_callback(lambda _: setattr(handle, "done", True))
        self._tasks.add(task)

    _tasks: set[asyncio.Future[None]]

    @classmethod
    def run_with(cls, options: dict[str, Any], body: Callable[[Any], Awaitable[Any]]) -> Any:
        """Run the body in a loop of its own."""
        return asyncio.run(cls._run(options, body))

    @classmethod
    async def _run(cls, options: dict[str, Any], body: Callable[[Any], Awaitable[Any]]) -> Any:
        colour = cls(options)
        colour._tasks = set()
        result = await colour._main(body)
        await asyncio.sleep(0)
        colour._check_handles()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if left:
            _, left = await asyncio.wait(left, timeout=2.0)
        assert not left, f"tasks were left on the loop: {left}"
        return result


class Uvloop(Asyncio):
    """The same on uvloop's loop."""

    name = "uvloop"

    @classmethod
    def run_with(cls, options: dict[str, Any], body: Callable[[Any], Awaitable[Any]]) -> Any:
        """Run the body in a uvloop of its own."""
        try:
            import uvloop
        except ImportError:
            raise RuntimeError("uvloop is needed for this: pip install -e '.[dev]'") from None
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(cls._run(options, body))


class Trio(Colour):
    """Tasks of one trio nursery."""

    name = "trio"
    _nursery: trio.Nursery

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)

    def _start(self, handle: Handle, thunk: Thunk) -> None:
        scope = trio.CancelScope()
        handle.cancel = scope.cancel

        async def run() -> None:
            with scope:
                await handle.run(thunk)

        self._nursery.start_soon(run)

    @classmethod
    def run_with(cls, options: dict[str, Any], body: Callable[[Any], Awaitable[Any]]) -> Any:
        """Run the body in a trio run of its own."""
        return trio.run(cls._run, options, body)

    @classmethod
    async def _run(cls, options: dict[str, Any], body: Callable[[Any], Awaitable[Any]]) -> Any:
        colour = cls(options)
        result = failure = None
        async with trio.open_nursery() as colour._nursery:
            try:
                result = await colour._main(body)
            except Exception as exc:  # raised outside the nursery, so that it is not wrapped in a group
                failure = exc
                colour._nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        colour._check_handles()
        return result


def run_colour(colour: str, body: Callable[[Any], Coroutine[Any, Any, Any]], **options: Any) -> Any:
    """Run ``body(c)`` in the colour named, with a transport made from `options`; return its result."""
    if colour == "threads":
        return Threads(options).run(body)
    return {"asyncio": Asyncio, "uvloop": Uvloop, "trio": Trio}[colour].run_with(options, body)
