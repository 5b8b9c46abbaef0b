"""A runtime whose clock, network and scheduling are moved by hand: no thread, socket, loop or sleep.

    runtime = FakeRuntime(on_dial=Answers(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nhi"))
    transport = FakeTransport(runtime, max_conns_per_host=1)

    async def body():
        response = await transport.round_trip(Request("GET", "http://192.0.2.1/"))
        assert await response.aread() == b"hi"

    runtime.run(body())

Rules:

1. Deterministic: tasks run one after another in the order in which they were started, each to its
   next await point; what was posted goes first. Nothing happens but inside of `run`,
   `run_until_idle` and `advance`.
2. Every wait of a leaf is an await point, also one that is over at once: the worst loop there could be.
   `fault` is asked before and after each, and may end it with an error.
3. A task that is cancelled before its first step never runs, as on asyncio.
"""

from __future__ import annotations

from collections import deque
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import ref

from pooltransport.runtime.protocols import Expired
from pooltransport.transport import AsyncTransport

from .streams import END, Answers, FakeDial, FakeResolver, FakeStream
from .tasks import Cancelled, FakeTask, ManualClock, Point, Stuck, Wait

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Unpack

    from pooltransport.options import OptionsDict
    from pooltransport.runtime.protocols import Address, Runtime, SocketOptions, Stream

__all__ = [
    "END",
    "Answers",
    "Cancelled",
    "FakeDial",
    "FakeResolver",
    "FakeRuntime",
    "FakeStream",
    "FakeTask",
    "FakeTransport",
    "ManualClock",
    "Point",
    "Stuck",
    "Wait",
]

T = TypeVar("T")


class FakeLatch:
    """A wake-up."""

    __slots__ = ("_runtime", "is_set")

    def __init__(self, runtime: FakeRuntime) -> None:
        self._runtime = runtime
        self.is_set = False

    def set(self) -> None:
        """Wake who waits."""
        self.is_set = True

    async def wait(self, at: float | None) -> bool:
        """Wait until it is set, or `at`."""
        await self._runtime.wait("latch", lambda: self.is_set, at)
        return self.is_set


class FakeRuntime:
    """The scheduler, the clock and the network. See the module's text.

    `on_dial` is told each `FakeDial`, to answer it or not; without it, `dials` are answered by hand.
    `streams` are all that were made. `detaches=False`: background work of a caller is done at once,
    as on threads. `idle_events=False`: the end of an idle stream is only found by asking.
    """

    name = "fake"

    def __init__(
        self,
        on_dial: Callable[[FakeDial], object] | None = None,
        *,
        detaches: bool = True,
        idle_events: bool = True,
        lazy_close: bool = False,
    ) -> None:
        self.clock = ManualClock()
        self.seconds_asleep = 0.0  # a test adds to it: the machine was suspended, and the clock stood still
        self.resolver = FakeResolver()
        self.on_dial = on_dial
        self.dials: list[FakeDial] = []
        self.streams: list[FakeStream] = []
        self.tasks: list[FakeTask] = []
        self.fault: Callable[[Point], BaseException | None] | None = None
        self.polls_idle = not idle_events
        self.lazy_close = lazy_close
        self.alive = True
        self._detaches = detaches
        self._posted: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()
        self._ticks: list[tuple[float, Callable[[], float | None]]] = []
        self._on_shutdown: list[Callable[[], None]] = []
        self._running = False
        self._made = 0

    # -- for tests ------------------------------------------------------------------------------

    @property
    def open_streams(self) -> list[FakeStream]:
        """The streams that nobody has closed."""
        return [stream for stream in self.streams if stream.is_open]

    def start(self, coro: Coroutine[Any, Any, Any], name: str = "main") -> FakeTask:
        """Start a task; it takes its first step when the runtime runs."""
        return self._add(coro, name, copy_context())

    def run(self, coro: Coroutine[Any, Any, T]) -> T:
        """Run `coro` to its end and return its result. When nothing else can happen, time jumps to the
        next moment that somebody waits for. Raises `Stuck` if there is none.
        """
        task = self.start(coro)
        self.run_until_idle()
        while not task.done:
            at = self._next_moment()
            if at is None:
                raise Stuck(f"nothing can happen any more: {[t for t in self.tasks if not t.done]}")
            self.clock.move_to(at)
            self.run_until_idle()
        return task.outcome()  # type: ignore[no-any-return]

    def run_until_idle(self) -> None:
        """Let everything go on as far as it can without time passing."""
        assert not self._running, "the runtime runs already"
        self._running = True
        try:
            while self._turn():
                continue
        finally:
            self._running = False
        self.tasks = [task for task in self.tasks if not task.done]

    def advance(self, seconds: float) -> None:
        """Let time pass, moment by moment."""
        target = self.now() + seconds
        self.run_until_idle()
        while (at := self._next_moment()) is not None and at <= target:
            self.clock.move_to(at)
            self.run_until_idle()
        self.clock.move_to(target)
        self.run_until_idle()

    def shut_down(self) -> None:
        """End the loop: tasks are cancelled, then who asked for it is told."""
        for task in self.tasks:
            task.cancel()
        self.run_until_idle()
        for fn in self._on_shutdown:
            fn()
        self.run_until_idle()
        self.alive = False

    def wait(self, kind: str, ready: Callable[[], bool], at: float | None) -> Wait:
        """Return an await point: True when `ready()`, False when `at` comes first."""
        return Wait(kind, ready, at)

    async def sleep(self, seconds: float) -> None:
        """Wait; for bodies and scripts of tests."""
        await self.wait("sleep", lambda: False, self.now() + seconds)

    def _turn(self) -> bool:
        went_on = bool(self._posted)
        while self._posted:
            fn, args = self._posted.popleft()
            fn(*args)
        due = [tick for at, tick in self._ticks if at <= self.now()]
        self._ticks = [row for row in self._ticks if row[0] > self.now()]
        for tick in due:
            went_on = True
            delay = tick()
            if delay is not None:
                self._ticks.append((self.now() + max(delay, 0.001), tick))
        for task in tuple(self.tasks):
            went_on = task.turn() or went_on
        return went_on

    def _next_moment(self) -> float | None:
        moments = [task.waits_until for task in self.tasks] + [at for at, _ in self._ticks]
        return min((at for at in moments if at is not None), default=None)

    def _add(self, coro: Coroutine[Any, Any, Any], name: str, context: Context) -> FakeTask:
        task = FakeTask(self, coro, name, context)
        self.tasks.append(task)
        return task

    # -- `runtime.protocols.Runtime` --------------------------------------------------------------

    def now(self) -> float:
        """Return the manual clock's time."""
        return self.clock()

    def holder(self) -> object:
        """Return the task that takes its step now, weakly."""
        current = next((task for task in self.tasks if task.is_running), None)
        return None if current is None else ref(current)

    def new_latch(self) -> FakeLatch:
        """Make a latch."""
        return FakeLatch(self)

    def spawn(self, context: Context | None, fn: Callable[..., Coroutine[Any, Any, None]], *args: object) -> FakeTask:
        """Start a background task, named by its function and number."""
        self._made += 1
        name = f"{getattr(fn, '__qualname__', 'task')}-{self._made}"
        return self._add(fn(*args), name, Context() if context is None else context)

    def post(self, fn: Callable[..., object], *args: object) -> bool:
        """Call `fn` in the next turn."""
        if self.alive:
            self._posted.append((fn, args))
        return self.alive

    def watch(self, tick: Callable[[], float | None]) -> None:
        """Call `tick` in the next turn, and then when it asked to be."""
        self._ticks.append((self.now(), tick))

    async def connect(
        self,
        address: Address,
        options: SocketOptions,
        at: float | None,
        register: Callable[[Stream], None],  # noqa: ARG002 - cancelling the task is enough here
    ) -> FakeStream:
        """Make a `FakeDial` and wait for its answer."""
        dial = FakeDial(self, address, options, at)
        self.dials.append(dial)
        if self.on_dial is not None:
            self.on_dial(dial)
        try:
            if not await self.wait("connect", lambda: not dial.pending, at):
                raise Expired
            if dial.error is not None:
                raise dial.error
        except BaseException:
            if dial.stream is not None:
                dial.stream.drop()
            raise
        finally:
            dial.ended = True
        assert dial.stream is not None, "answered without an error"
        return dial.stream

    async def adopt(self, sock: Any) -> FakeStream:
        """Refuse: there are no sockets here."""
        raise NotImplementedError(f"the fake network cannot adopt {sock!r}")

    def aside(self, fn: Callable[[], None]) -> None:
        """Call `fn` at once."""
        fn()

    async def run_blocking(self, fn: Callable[[], Any], *, abandon: bool = False) -> Any:  # noqa: ARG002 - no thread
        """Call `fn`, in a turn of its own."""
        await self.wait("run_blocking", lambda: True, None)
        return fn()

    async def detach(self, fn: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do `fn` in the background, or at once."""
        if self._detaches:
            self.spawn(None, fn)
        else:
            await fn()

    async def settle(self) -> None:
        """Give up one turn."""
        await self.wait("settle", lambda: True, None)

    def is_here(self) -> bool:
        """Return True: there is one thread."""
        return True

    def is_alive(self) -> bool:
        """Report whether `shut_down` was not called yet."""
        return self.alive

    def on_shutdown(self, fn: Callable[[], None]) -> None:
        """Call `fn` in `shut_down`."""
        self._on_shutdown.append(fn)


class FakeTransport(AsyncTransport):
    """An `AsyncTransport` on a `FakeRuntime`, with its clock and its look-ups."""

    def __init__(self, runtime: FakeRuntime, **options: Unpack[OptionsDict]) -> None:
        self.runtime = runtime
        self._now = runtime.now
        self._asleep = lambda: runtime.seconds_asleep
        super().__init__(**options)
        if "resolver" not in options:
            self._engine.resolver = runtime.resolver  # type: ignore[assignment]  # the half of it that is used

    def _find_runtime(self) -> Runtime:
        return self.runtime

    def check(self) -> None:
        """Check every invariant of the pool, and that each open stream is accounted for by it."""
        pool = self._engine.ledger.pool
        pool.check()
        known = {id(getattr(conn.stream, "inner", conn.stream)) for conn, _, _ in pool.conns()}
        dialing = {id(dial.stream) for dial in self.runtime.dials if not dial.ended}
        strays = [s for s in self.runtime.open_streams if id(s) not in known | dialing]
        stats = self.stats()
        assert len(strays) <= stats.dialing, f"open, and in nobody's books: {strays}; {stats}"
