"""`FaultTransport` and `AsyncFaultTransport`: a peer that fails as told, step by step, for the degraded paths.

    transport = testing.FaultTransport([pt.PoolTimeout, testing.slow(2.0), testing.ok])

Rules:

1. Each request takes the next step. The last one stays, unless `repeat` begins again.
2. What ends a wait is the request's own clocks, by the engine's rules (contract section 2): the error is the one that
   the network would have given.
3. With `sleep` given nobody sleeps: it is told the seconds, and the clock here goes on by them.
"""

from __future__ import annotations

import _thread
import math
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from pooltransport.engine.body import State
from pooltransport.engine.clocks import Clocks, settle
from pooltransport.engine.sync import run_sync
from pooltransport.errors import IncompleteBody
from pooltransport.options import TransportOptions
from pooltransport.response import AsyncResponse, Response

from .fault_errors import make_error
from .handlers import AsyncHandlerTransport, HandlerTransport
from .leak_check import sleep as sleep_on_loop
from .replies import Reply, response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import Self, Unpack

    from pooltransport.engine.clocks import Setting
    from pooltransport.headers import HeadersInput
    from pooltransport.models import Request
    from pooltransport.options import OptionsDict
    from pooltransport.roundtripper import AsyncRoundTripper, RoundTripper

    from .handlers import AsyncHandler, Handler


class Step(NamedTuple):
    """One step: wait `before` s, let the peer answer, and end its body after `most` bytes, if that is given: by silence
    (`silent`), or by the end of the connection.
    """

    before: float = 0.0
    most: int | None = None
    silent: bool = False


FaultStep: TypeAlias = Step | Reply | BaseException | type[BaseException]
ok = Step()


def slow(seconds: float) -> Step:
    """Answer after `seconds` (0 or more), unless a timeout of the request is over before."""
    if not seconds >= 0:
        raise ValueError(f"slow({seconds!r}): give seconds, 0 or more")
    return Step(before=seconds)


def stall(after: int | None = None) -> Step:
    """Never answer; with `after` (bytes, 0 or more): answer, and go silent after so many bytes of the body.

    Ends by a timeout of the request or of the transport's options; without any the request raises `RuntimeError`.
    """
    return Step(before=math.inf) if after is None else Step(most=_size("stall", after), silent=True)


def drop_after(size: int) -> Step:
    """Answer, and close the connection after `size` bytes of the body (0 or more), or at the end of a shorter one:
    `IncompleteBody`.
    """
    return Step(most=_size("drop_after", size))


def status(code: int, *, headers: HeadersInput = None, content: bytes | str | None = None, json: Any = None) -> Reply:
    """Answer with this status: ``status(503, headers={"Retry-After": "1"})``. As `response`, which does more."""
    return response(code, headers=headers, content=content, json=json)


def _size(name: str, size: Any) -> int:
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ValueError(f"{name}({size!r}): give a number of bytes, 0 or more")
    return size


class _FaultBase:
    """What both colours share. Not for use by itself."""

    _pause: Callable[[float], Awaitable[None]]
    _kind: type[Response | AsyncResponse]

    def __init__(
        self,
        steps: Sequence[FaultStep],
        inner: Any,
        options: TransportOptions,
        *,
        repeat: bool,
        sleep: Callable[[float], object] | None,
    ) -> None:
        self._steps = tuple(map(_checked, steps))
        if not self._steps:
            raise ValueError("FaultTransport needs one step at least: ok")
        self.options = options
        self.inner = inner
        self._repeat = repeat
        self._sleep = sleep
        self._virtual = 0.0
        self._taken = 0
        self._guard = _thread.allocate_lock()

    @property
    def taken(self) -> int:
        """How many requests came."""
        return self._taken

    def now(self) -> float:
        """Return the time: the machine's, or with ``sleep=`` the sum of what was waited."""
        return time.monotonic() if self._sleep is None else self._virtual

    def _next_step(self) -> Any:
        with self._guard:
            number = self._taken
            self._taken += 1
        last = len(self._steps)
        return self._steps[number % last if self._repeat else min(number, last - 1)]

    async def _play(self, request: Request, send: Callable[[Request], Awaitable[Any]], answer: Any) -> Any:
        clocks = Clocks(settle(self.options, request.timeout), self.now(), request.spent)
        step = self._next_step()
        if isinstance(step, BaseException):
            raise step
        if isinstance(step, type):
            raise make_error(step, request, clocks, self.options)
        if isinstance(step, Reply):
            return await answer(step)(request)
        if step.before:
            await self._wait(step.before, clocks, "headers", request)
        waited = self.now() - clocks.started if step.before else 0.0
        got = await send(request.with_spent(request.spent + waited) if waited else request)
        got.request = request
        got._elapsed += waited  # noqa: SLF001 - ours
        if step.most is None or got.is_closed:  # an answer without a body cannot break in it
            return got
        body: Any = _FaultyBody(got._body, step, self, clocks, request)  # noqa: SLF001 - ours
        made = self._kind(request, got._head, body, got.conn, got._elapsed, self)  # noqa: SLF001 - ours
        made.history = got.history
        return made

    async def _wait(self, seconds: float, clocks: Clocks, phase: str, request: Request) -> None:
        """Wait, and raise what the engine would when a clock of the request is over before."""
        began = self.now()
        settings = clocks.settings
        setting: Setting = settings.read if phase == "body" else settings.response_header
        at = clocks.until(setting, began)
        if phase == "headers" and settings.read.seconds is not None:
            read_at = began + settings.read.seconds
            if at is None or read_at < at:
                at, setting = read_at, settings.read
        until = min(began + seconds, math.inf if at is None else at)
        if until == math.inf:
            raise RuntimeError(f"{request.url.origin}: stall() without any timeout would wait for ever")
        while (left := until - self.now()) > 0:
            await self._pause_for(left)
        if at is not None and at <= began + seconds:
            raise clocks.expired(phase, setting, max(self.now(), at), where=request.url.origin, done=True)

    async def _pause_for(self, seconds: float) -> None:
        if self._sleep is None:
            await self._pause(seconds)
        else:
            self._sleep(seconds)
            self._virtual += seconds

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._taken} requests, {len(self._steps)} steps>"


def _checked(step: object) -> Any:
    if isinstance(step, (Step, Reply, BaseException)):
        return step
    if isinstance(step, type) and issubclass(step, BaseException):
        return step
    if step in (slow, stall, drop_after, status):
        raise TypeError(f"{step.__name__} is a function: call it")
    raise TypeError(
        f"a step is an error, an error's class, ok, slow(), stall(), drop_after(), status() or response(), not {step!r}"
    )


class _FaultyBody:
    """The body of the peer's response up to so many bytes; all else is asked of that."""

    def __init__(self, body: Any, step: Step, transport: _FaultBase, clocks: Clocks, request: Request) -> None:
        self._inner = body
        self._left = step.most or 0
        self._read = 0
        self._step = step
        self._transport = transport
        self._clocks = clocks
        self._request = request
        self._error: BaseException | None = None
        self._closed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @property
    def state(self) -> State:
        if self._error is not None:
            return State.FAILED
        # That the connection breaks is still to come.
        return State.OPEN if self._inner.state is State.COMPLETE and not self._closed else self._inner.state

    def take_whole(self) -> bytes | None:
        """It goes piece by piece, to where it breaks."""

    async def read_some(self) -> bytes:
        if self._error is not None:
            raise self._error
        if self._closed:
            return await self._inner.read_some()  # type: ignore[no-any-return]
        data: bytes = await self._inner.read_some() if self._left else b""
        data, self._left = data[: self._left], self._left - len(data[: self._left])
        self._read += len(data)
        if data:
            return data
        try:
            await self._break()
        except BaseException as error:
            self._error = error
            await self._inner.close()
            raise
        raise AssertionError("a wait without end ends by an error")

    async def close(self, *, wait: bool = False) -> None:
        self._closed = True
        await self._inner.close(wait=wait)

    async def _break(self) -> None:
        if self._step.silent:
            await self._transport._wait(math.inf, self._clocks, "body", self._request)  # noqa: SLF001 - one class in two
        expected = self._inner._lease.bytes_expected  # noqa: SLF001 - ours
        of = "inside a chunked body, after" if expected is None else "after"
        all_of = "" if expected is None else f" of {expected} body"
        raise IncompleteBody(
            f"the server closed the connection {of} {self._read}{all_of} bytes",
            bytes_read=self._read,
            bytes_expected=expected,
        )


class FaultTransport(_FaultBase):
    """A `RoundTripper` that fails as told: each request takes the next of `steps`, the last of which stays.

    A step is an error (raised as it is), a class of errors (made with the text and the fields that it would have:
    `phase`, `setting`, `seconds`, `may_have_been_processed`, `attempts`, ...), `ok`, `slow(seconds)`, `stall()`,
    `drop_after(size)`, `status(code)`, or what `response` makes. `inner` answers where a step lets the peer do so: a
    `RoundTripper` or a handler as of `HandlerTransport`; None answers 200 with the text ``ok``. `repeat`: begin
    again after the last step. `sleep`: called with the seconds instead of sleeping, as ``waited.append``. `options` are
    those of `Transport`: its timeouts and limits stand behind what is raised.

    Closing it closes `inner`. Raises `TypeError` for a step that is none, `ValueError` for no steps.
    """

    _kind = Response

    def __init__(
        self,
        steps: Sequence[FaultStep],
        inner: RoundTripper | Handler | None = None,
        *,
        repeat: bool = False,
        sleep: Callable[[float], object] | None = None,
        **options: Unpack[OptionsDict],
    ) -> None:
        made: Any = inner if hasattr(inner, "round_trip") else HandlerTransport(inner or _answer_ok, **options)
        super().__init__(steps, made, TransportOptions(**options), repeat=repeat, sleep=sleep)
        self._options = options

    async def _pause(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 - this colour blocks

    def round_trip(self, request: Request) -> Response:
        """Take the next step with `request`."""

        async def send(request: Request) -> Response:
            return self.inner.round_trip(request)  # type: ignore[no-any-return]

        def answer(reply: Reply) -> Any:
            async def from_reply(request: Request) -> Response:
                return HandlerTransport(lambda _: reply, **self._options).round_trip(request)

            return from_reply

        return run_sync(self._play(request, send, answer))  # type: ignore[no-any-return]

    def close(self) -> None:
        """Close what answers."""
        self.inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class AsyncFaultTransport(_FaultBase):
    """As `FaultTransport`, an `AsyncRoundTripper` on asyncio and trio. `sleep` stays a plain function."""

    _kind = AsyncResponse

    def __init__(
        self,
        steps: Sequence[FaultStep],
        inner: AsyncRoundTripper | AsyncHandler | None = None,
        *,
        repeat: bool = False,
        sleep: Callable[[float], object] | None = None,
        **options: Unpack[OptionsDict],
    ) -> None:
        made: Any = inner if hasattr(inner, "round_trip") else AsyncHandlerTransport(inner or _answer_ok, **options)
        super().__init__(steps, made, TransportOptions(**options), repeat=repeat, sleep=sleep)
        self._options = options

    async def _pause(self, seconds: float) -> None:
        await sleep_on_loop(seconds)

    async def round_trip(self, request: Request) -> AsyncResponse:
        """As `FaultTransport.round_trip`."""

        def answer(reply: Reply) -> Any:
            return AsyncHandlerTransport(lambda _: reply, **self._options).round_trip

        return await self._play(request, self.inner.round_trip, answer)  # type: ignore[no-any-return]

    async def aclose(self) -> None:
        """As `FaultTransport.close`."""
        await self.inner.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()


def _answer_ok(_: object) -> Reply:
    return response(text="ok")
