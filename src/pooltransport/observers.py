"""Who is told of requests, dials and ends of connections as they happen, wherever in this process.

Rules:

1. `anybody` is a tuple, replaced as a whole: who has no observers pays one test for each request.
2. Nobody is told under a mutex or in a finalizer: of requests where they run, of dials and closed connections at the
   next safe point.
3. An `Exception` of an observer is swallowed, and logged once for each kind of observer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .trace import HOOK_NAMES, client_trace

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from .models import Request

anybody: tuple[Observer, ...] = ()
_all: dict[Observer, None] = {}
_told: set[str] = set()


class Dialed(NamedTuple):
    """A dial that ended. `host`: (proxy, scheme, host, port). `error`: its type, or None. `phases`: seconds by phase;
    `name` was looked up, None if nothing was.
    """

    host: Any
    seconds: float
    error: str | None
    phases: tuple[tuple[str, float], ...]
    name: str | None


class Closed(NamedTuple):
    """A connection that was closed: how old it was, in seconds, and how many requests it had served."""

    host: Any
    age: float
    requests: int


class Recorder:
    """One request, as an observer follows it. Attributes with names of hooks are called as these, if `hooks`."""

    __slots__ = ()

    hooks = False
    instead: Request | None = None  # what is to be sent: a copy with more headers

    def answered(self, response: Any) -> None:
        """The headers were read."""

    def failed(self, error: BaseException) -> None:
        """An error came instead, or it was cancelled."""


for _name in HOOK_NAMES:
    setattr(Recorder, _name, None)


class Observer:
    """Who is told. `options` are the transport's own, which tell transports apart."""

    def begin(self, request: Request, options: object) -> Recorder | None:  # noqa: ARG002 - for others
        """A request begins: return who follows it, or None."""
        return None

    def dialed(self, dial: Dialed, options: object) -> None:
        """A dial ended."""

    def closed(self, conn: Closed, options: object) -> None:
        """A connection was closed."""


def add(observer: Observer) -> None:
    """Tell `observer` from now on."""
    _all[observer] = None
    _settle()


def remove(observer: Observer) -> None:
    """Tell `observer` no more."""
    _all.pop(observer, None)
    _settle()


def _settle() -> None:
    # Without a lock, which a child process might find held: who comes last is right, and everybody looks again.
    global anybody  # noqa: PLW0603 - this is where they live
    while (wanted := tuple(_all)) != anybody:
        anybody = wanted


def tell(event: Dialed | Closed, options: object) -> None:
    """Tell everybody of a dial or a connection."""
    for observer in anybody:
        _call(observer, observer.dialed if isinstance(event, Dialed) else observer.closed, event, options)


class watching:  # noqa: N801 - a context manager reads like a verb
    """Around one request: who follows it, whose hooks are told first."""

    __slots__ = ("_blocks", "_recorders", "request")

    def __init__(self, request: Request, options: object) -> None:
        self._recorders: list[Recorder] = []
        self.request = request
        for observer in anybody:
            recorder = _call(observer, observer.begin, self.request, options)
            if recorder is not None:
                self._recorders.append(recorder)
                self.request = recorder.instead or self.request
        self._blocks: list[client_trace] = []

    def __enter__(self) -> Self:
        for recorder in self._recorders:
            if recorder.hooks:
                block = client_trace(recorder)  # type: ignore[arg-type]
                block.__enter__()
                self._blocks.append(block)
        return self

    def __exit__(self, kind: object, error: BaseException | None, tb: object) -> None:
        for block in reversed(self._blocks):
            block.__exit__(None, None, None)
        if error is not None:
            for recorder in self._recorders:
                _call(recorder, recorder.failed, error)

    def answered(self, response: Any) -> None:
        """Tell that the headers were read."""
        for recorder in self._recorders:
            _call(recorder, recorder.answered, response)


def _call(who: object, method: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return method(*arguments)
    except Exception as error:
        kind = type(who).__qualname__
        if kind not in _told:
            _told.add(kind)
            import logging  # noqa: PLC0415 - only a broken observer pays for it

            logger = logging.getLogger("pooltransport.pool")
            extra = {"pool_name": None, "observer": kind}
            logger.warning("%s raised %r", kind, error, exc_info=error, extra=extra)
        return None
