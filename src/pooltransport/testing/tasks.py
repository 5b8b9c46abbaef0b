"""Time and tasks of `fakes.FakeRuntime`: a clock moved by hand, and coroutines stepped one after another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pooltransport.runtime.protocols import Expired

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from contextvars import Context

    from .fakes import FakeRuntime

# Far from any real clock's value, so that code which asks a real one shows at once.
_START = 1_000_000.0


class Cancelled(BaseException):
    """Thrown into a task that is cancelled, as asyncio's CancelledError."""


class Stuck(AssertionError):
    """Nothing can happen any more, and what was waited for has not happened."""


class ManualClock:
    """Time that goes on only when told to. Call it to read it."""

    def __init__(self, start: float = _START) -> None:
        self._now = start

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Go on by `seconds`, 0 or more."""
        self.move_to(self._now + seconds)

    def move_to(self, moment: float) -> None:
        """Go on to `moment`; a clock never goes back."""
        self._now = max(self._now, moment)


class Point(NamedTuple):
    """An await point: what `fault` is told. `when` is ``before`` the wait, or ``after`` it came true."""

    task: str
    kind: str
    at: float | None
    when: str


class Wait:
    """One wait of one task: over when `ready()`, or at the moment `at`."""

    __slots__ = ("at", "kind", "ready")

    def __init__(self, kind: str, ready: Callable[[], bool], at: float | None) -> None:
        self.kind = kind
        self.ready = ready
        self.at = at

    def __await__(self) -> Generator[Wait, bool, bool]:
        return (yield self)


class FakeTask:
    """A coroutine on its way. `done`, `result` and `error` say how it ended; `outcome` gives or raises it."""

    def __init__(self, runtime: FakeRuntime, coro: Coroutine[Any, Any, Any], name: str, context: Context) -> None:
        self._runtime = runtime
        self._coro = coro
        self._context = context
        self._wait: Wait | None = None
        self._thrown: BaseException | None = None
        self.name = name
        self.started = self.done = self.is_running = False
        self.result: Any = None
        self.error: BaseException | None = None

    def cancel(self) -> None:
        """Throw `Cancelled` at its await point, in its next turn."""
        if not self.done:
            self._thrown = Cancelled(f"{self.name} was cancelled")

    def outcome(self) -> Any:
        """Return the result or raise the error of a task that is done."""
        assert self.done, f"{self!r} is not done"
        if self.error is not None:
            raise self.error
        return self.result

    @property
    def waits_until(self) -> float | None:
        """The moment at which its wait ends by itself."""
        return None if self.done or self._wait is None else self._wait.at

    def turn(self) -> bool:
        """Go on if it can; report whether it did."""
        if self.done:
            return False
        if self._thrown is not None:
            error, self._thrown = self._thrown, None
            self._step(error, value=False)
            return True
        wait = self._wait
        if wait is None:
            self._step(None, value=False)
            return True
        if wait.ready():
            self._resume(wait, value=True)
            return True
        if wait.at is not None and wait.at <= self._runtime.now():
            self._step(None, value=False)
            return True
        return False

    def _resume(self, wait: Wait, *, value: bool) -> None:
        error = self._ask(wait, "after")
        if isinstance(error, Expired):
            error, value = None, False
        self._step(error, value=value)

    def _ask(self, wait: Wait, when: str) -> BaseException | None:
        fault = self._runtime.fault
        if fault is None:
            return None
        error = fault(Point(self.name, wait.kind, wait.at, when))
        if isinstance(error, Expired) and wait.at is not None:
            self._runtime.clock.move_to(wait.at)
        return error

    def _step(self, error: BaseException | None, *, value: bool) -> None:
        self._wait = None
        first, self.started = not self.started, True
        self.is_running = True
        try:
            if first and error is not None:
                self._coro.close()
                raise error
            if error is not None:
                wait = self._context.run(self._coro.throw, error)
            else:
                wait = self._context.run(self._coro.send, None if first else value)
        except StopIteration as stop:
            self.done, self.result = True, stop.value
            return
        except BaseException as failure:  # noqa: BLE001 - kept for who asks for the outcome
            self.done, self.error = True, failure
            return
        finally:
            self.is_running = False
        assert isinstance(wait, Wait), f"{self.name} awaits {wait!r}, which is not of this runtime"
        self._wait = wait
        early = self._ask(wait, "before")
        if isinstance(early, Expired):
            self._step(None, value=False)
        elif early is not None:
            self._thrown = early

    def __repr__(self) -> str:
        if self.done:
            state = "done" if self.error is None else f"failed with {self.error!r}"
        else:
            state = "new" if self._wait is None else f"waits for {self._wait.kind} until {self._wait.at}"
        return f"<FakeTask {self.name} {state}>"
