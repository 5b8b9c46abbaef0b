"""`Transport` and `AsyncTransport`: the two façades over the engine, and the default ones."""

from __future__ import annotations

import _thread
import os
import sys
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from . import census, observers, witness
from .colours import current_loop, make_runtime, refuse_gevent, thread_runtime
from .engine.callables import is_coroutine_function
from .engine.clocks import Clocks, seconds_asleep
from .engine.engine import Engine
from .engine.lifecycle import Closing, drain, warm
from .engine.statistics import DEFAULT_NAME, snapshot
from .engine.sync import run_sync
from .errors import ConfigError, InvalidRequest
from .leaks import Guard
from .lease import find_site
from .models import Request
from .options import LEAK_DETECTION_VARIABLE, TransportOptions
from .reports import warn_left
from .response import AsyncResponse, Response
from .stats import LeakFound

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self, Unpack

    from .options import OptionsDict
    from .runtime.protocols import Runtime
    from .stats import PoolStats
    from .trace import ConnInfo
    from .url import URL

__all__ = [
    "AsyncResponse",
    "AsyncTransport",
    "Response",
    "Transport",
    "default_async_transport",
    "default_transport",
    "set_default_transport",
]

_LEVELS = ("off", "site", "full")
# How long `stats` waits for a report that another thread, the housekeeper, is telling at that moment, in seconds.
_PATIENCE = 0.5


class _TransportBase:
    """What both colours share. Not for use by itself."""

    _now: Callable[[], float] = staticmethod(time.monotonic)
    _asleep: Callable[[], float] = staticmethod(seconds_asleep)

    def __init__(self, options: TransportOptions) -> None:
        self.options = options
        level = options.leak_detection
        if "leak_detection" not in options.explicit:
            fallback = "full" if sys.flags.dev_mode else level
            if (onlooker := witness.current) is not None:
                fallback = onlooker.leak_detection
            level = os.environ.get(LEAK_DETECTION_VARIABLE) or fallback
            if level not in _LEVELS:
                raise ConfigError(f"{LEAK_DETECTION_VARIABLE}={level!r}: must be one of {', '.join(_LEVELS)} [PTC117]")
        self._engine = Engine(options, level, self._now, self._asleep)
        self._closing = Closing(self._engine)
        self._site = find_site(tuple(options.ignore_modules))
        # The ledger, not this façade: what the loop reaches must not keep the façade alive.
        drop = partial(self._engine.ledger.abandon_all, type(self).__name__)
        self._guard = Guard(drop, self._site)
        census.transport_made(self, str(self._site), self._engine.ledger)
        if (onlooker := witness.current) is not None:
            self._engine.ledger.reports.scope = onlooker.transport_made(self)

    def _find_runtime(self) -> Runtime:
        raise AssertionError("each colour says where it runs")

    @classmethod
    def from_options(cls, options: TransportOptions) -> Self:
        """Make a transport from a `TransportOptions`."""
        return cls(**{name: getattr(options, name) for name in options.explicit})

    def stats(self, *, detail: bool = False) -> PoolStats:
        """Return gauges, counters, measurements, hosts and findings; consistent, and from any thread.

        `detail`: and a row for each lease, waiter and idle connection. A safe point: reports of dropped responses
        have been told when it returns. Work grows with hosts and leases; a scrape each few seconds is what it is for.
        """
        self._engine.ledger.safe_point(_PATIENCE)
        return snapshot(self._engine, self, detail=detail)

    def connections(self) -> tuple[ConnInfo, ...]:
        """Return what is known of each open connection: where from, where to, how old. From any thread."""
        ledger = self._engine.ledger
        ledger.check_process()
        now = self._now()
        return tuple(conn.info(now) for conn in ledger.open_conns())

    def close_idle_connections(self) -> None:
        """Close what is idle, and what comes back before the next request starts; abort dials that
        nobody waits for (Go CI-01 to CI-06). The transport stays usable. From any thread.
        """
        ledger = self._engine.ledger
        ledger.check_process()
        ledger.apply(ledger.pool.close_idle, self._now())

    def _warn_if_open(self) -> None:
        leases = tuple(self._engine.ledger.leases.values())
        held = sum(lease.is_open and not lease.given_back for lease in leases)
        self._engine.ledger.report_open(LeakFound.CLOSE)
        if held:
            warn_left(type(self).__name__, self._site, held)

    def _warm_plan(self, url: str | URL, n: int) -> tuple[Request, Clocks]:
        if n < 1:
            raise ConfigError(f"warm(url, {n!r}): must be a whole number of connections, 1 or more [PTC101]")
        self._engine.ledger.check_process()
        self._engine.check_open()
        request = Request("GET", url)
        return request, Clocks(self._engine.settings_of(request.timeout), self._now())

    def __repr__(self) -> str:
        name = f" {self.options.name!r}" if self.options.name else ""
        stats = self._engine.ledger.snapshot()
        state = "closed" if self._engine.is_closed else f"{stats.active} active, {stats.idle} idle"
        return f"<{type(self).__name__}{name} {state}, {stats.waiting} waiting>"


class Transport(_TransportBase):
    """A pool of connections for blocking code: Go's `http.Transport`. Share one; it is thread-safe.

    Options are keywords; see `TransportOptions`. Raises `ConfigError` naming every problem.
    """

    def __init__(self, **options: Unpack[OptionsDict]) -> None:
        refuse_gevent()
        checked = TransportOptions(**options)
        if checked.dial is not None and is_coroutine_function(checked.dial):
            raise ConfigError(
                "dial: a coroutine function cannot dial for a blocking Transport; use AsyncTransport [PTC115]"
            )
        if checked.resolver is not None and is_coroutine_function(checked.resolver):
            raise ConfigError("resolver: a coroutine function needs a loop to run on; use AsyncTransport [PTC115]")
        super().__init__(checked)

    def _find_runtime(self) -> Runtime:
        return thread_runtime()

    def round_trip(self, request: Request) -> Response:
        """Send one request and return its answer, streamed: yours to close (Go: RoundTrip).

        No redirects, cookies or status errors here. Raises `InvalidRequest` before anything is
        dialed, `TransportError` for what network and pool did.
        """
        if request.body.is_async:
            raise InvalidRequest("an async iterable cannot be the body of a blocking request; use AsyncTransport")
        if observers.anybody:
            with observers.watching(request, self.options) as watched:
                response = self._send(watched.request)
                watched.answered(response)
            return response
        return self._send(request)

    def _send(self, request: Request) -> Response:
        began = self._now()
        head, body, got = run_sync(self._engine.round_trip(request, self._find_runtime))
        return Response(request, head, body, got, self._now() - began, self)

    def warm(self, url: str | URL, n: int) -> None:
        """Dial until `n` (1 or more) connections lie ready for the origin of `url`; limits hold.

        Raises what a request to it would.
        """
        request, clocks = self._warm_plan(url, n)
        run_sync(warm(self._engine, request, n, self._find_runtime(), clocks))

    def drain(self, timeout: float | None = None) -> bool:
        """Let nothing new in, wait `timeout` seconds at most (None: for ever) until no response is
        open, and close what is idle. Report whether none was left.
        """
        return run_sync(drain(self._engine, timeout, self._find_runtime()))

    def close(self, grace: float = 0.0) -> None:
        """End it: new and waiting requests get `TransportClosed`, idle connections and dials go; open
        responses have `grace` seconds (0 or more), then they are aborted and their readers, in other
        threads too, get `TransportClosed`. Final and idempotent; a later smaller grace shortens it.
        """
        self._guard.disarm()
        run_sync(self._closing.close(grace, self._find_runtime()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._warn_if_open()
        self.close()


class AsyncTransport(_TransportBase):
    """A pool of connections for asyncio and trio; as `Transport`. It serves any number of event loops,
    one after another and at once; a connection belongs to its loop, the limits count over all.

    ``async with`` is optional. The runtime is chosen at the first await.
    """

    def __init__(self, **options: Unpack[OptionsDict]) -> None:
        self._runtimes: list[Any] = []
        self._last: Any = None
        self._guard_runtimes = _thread.allocate_lock()
        super().__init__(TransportOptions(**options))

    def _find_runtime(self) -> Runtime:
        loop = current_loop()
        last = self._last
        if last is not None and last.loop is loop:
            return last  # type: ignore[no-any-return]
        if loop is None:
            raise RuntimeError("AsyncTransport must be used from within asyncio or trio")
        with self._guard_runtimes:
            found = next((runtime for runtime in self._runtimes if runtime.loop is loop), None)
            gone = [] if found is not None else [r for r in self._runtimes if not r.is_alive()]
            if found is None:
                found = make_runtime(loop)
                self._runtimes.append(found)
                found.on_shutdown(partial(_forget, weakref.ref(self), weakref.ref(found)))
        for runtime in gone:
            self._forget(runtime)
        self._last = found
        return found  # type: ignore[no-any-return]

    def _forget(self, runtime: Any) -> None:
        if self._last is runtime:
            self._last = None
        with self._guard_runtimes:
            if runtime in self._runtimes:
                self._runtimes.remove(runtime)
        self._engine.forget_runtime(runtime)

    async def round_trip(self, request: Request) -> AsyncResponse:
        """As `Transport.round_trip`. A cancellation, however timed, loses no slot."""
        if observers.anybody:
            return await self._send_watched(request)
        began = self._now()
        head, body, got = await self._engine.round_trip(request, self._find_runtime)
        return AsyncResponse(request, head, body, got, self._now() - began, self)

    async def _send_watched(self, request: Request) -> AsyncResponse:
        began = self._now()
        with observers.watching(request, self.options) as watched:
            head, body, got = await self._engine.round_trip(watched.request, self._find_runtime)
            response = AsyncResponse(watched.request, head, body, got, self._now() - began, self)
            watched.answered(response)
        return response

    async def warm(self, url: str | URL, n: int) -> None:
        """As `Transport.warm`."""
        request, clocks = self._warm_plan(url, n)
        await warm(self._engine, request, n, self._find_runtime(), clocks)

    async def drain(self, timeout: float | None = None) -> bool:
        """As `Transport.drain`."""
        return await drain(self._engine, timeout, self._find_runtime())

    async def aclose(self, grace: float = 0.0) -> None:
        """As `Transport.close`. Cancelled within its grace it aborts at once."""
        self._guard.disarm()
        await self._closing.close(grace, self._find_runtime())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._warn_if_open()
        await self.aclose()


def _forget(transport: weakref.ref[AsyncTransport], runtime: weakref.ref[Any]) -> None:
    owner, ended = transport(), runtime()
    if owner is not None and ended is not None:
        owner._forget(ended)  # noqa: SLF001 - the same thing in two pieces, so that the loop does not hold it


# -- the default transports (contract 5.1) ------------------------------------------------------

_default: Transport | None = None
_async_defaults: dict[object, AsyncTransport] = {}
_defaults_guard = _thread.allocate_lock()


def default_transport() -> Transport:
    """Return the process-wide transport that clients without one borrow, as Go's do."""
    global _default  # noqa: PLW0603 - this is where it lives
    with _defaults_guard:
        if _default is None:
            _default = Transport(name=DEFAULT_NAME)
        return _default


def set_default_transport(transport: Transport | None) -> None:
    """Make `transport` the default (None: a new one on next use). The former is left open."""
    global _default  # noqa: PLW0603 - this is where it lives
    if transport is not None and not isinstance(transport, Transport):
        raise ConfigError(f"the default transport must be a Transport, not {type(transport).__name__} [PTC115]")
    with _defaults_guard:
        _default = transport


def default_async_transport() -> AsyncTransport:
    """Return the transport that async clients without one borrow: one for each event loop, which is
    closed with its loop. Raises `RuntimeError` outside of one.
    """
    loop = current_loop()
    transport = _async_defaults.get(loop)
    if transport is not None:
        return transport
    if loop is None:
        raise RuntimeError("AsyncClient must be used from within asyncio or trio")
    with _defaults_guard:
        for other in [other for other, kept in _async_defaults.items() if not _is_alive(kept)]:
            del _async_defaults[other]
        return _async_defaults.setdefault(loop, _DefaultAsyncTransport(name=DEFAULT_NAME))


def _is_alive(transport: AsyncTransport) -> bool:
    return all(runtime.is_alive() for runtime in transport._runtimes)  # noqa: SLF001 - the same room


class _DefaultAsyncTransport(AsyncTransport):
    """Goes with its loop, and says nothing about it."""

    def _forget(self, runtime: Any) -> None:
        super()._forget(runtime)
        self._guard.disarm()
        _async_defaults.pop(runtime.loop, None)
