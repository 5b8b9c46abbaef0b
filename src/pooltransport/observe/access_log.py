"""One log line for each request, when its response has ended: read, closed, dropped, or failed.

    client = pt.Client(transport=AccessLog(pt.Transport()))

Rules:

1. It sits on the seam `RoundTripper`, and knows what the hooks of a trace of its own tell it; the caller's traces
   are told as before. A redirect is a request of its own.
2. Neither path nor query, neither header nor body is ever in a line.
3. What a trace holds is held by the connection in use: it must not refer to the response, or to the request.
4. As long as the logger is not enabled for INFO a request costs one look at its level.
"""

from __future__ import annotations

import _thread
import logging
import sys
import time
from typing import TYPE_CHECKING, Any

from pooltransport.leaks import hand_over
from pooltransport.stats import CloseReason
from pooltransport.trace import ClientTrace, client_trace

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from pooltransport.models import Request
    from pooltransport.response import AsyncResponse, Response
    from pooltransport.roundtripper import AsyncRoundTripper, RoundTripper
    from pooltransport.stats import PoolStats
    from pooltransport.trace import (
        AcquireDoneInfo,
        BodyClosedInfo,
        ConnectDoneInfo,
        DNSDoneInfo,
        DrainedInfo,
        FirstByteInfo,
        GotConnInfo,
        LeakReport,
        TLSHandshakeDoneInfo,
    )

    TraceId = Callable[[], str | None]

__all__ = ["AccessLog", "AsyncAccessLog"]

LOGGER = "pooltransport.access"
_FAILURES = frozenset(
    (
        CloseReason.READ_ERROR,
        CloseReason.BODY_TIMEOUT,
        CloseReason.PROTOCOL_ERROR,
        CloseReason.CANCELLED,
        CloseReason.POOL_CLOSED,
        CloseReason.LEASE_EXPIRED,
    )
)


def otel_trace_id() -> str | None:
    """Return the trace id of OpenTelemetry's current span, 32 hexadecimal digits; None without that package, or a span.

    Looked for only where the program has loaded `opentelemetry.trace` itself.
    """
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None


class _Line:
    """What is known of one request so far. Hooks come from any thread, each once, and in order."""

    __slots__ = (
        "_began",
        "_closed",
        "_dial_at",
        "_drained",
        "_fields",
        "_first_byte_at",
        "_got",
        "_latch",
        "_logger",
        "_reason",
        "_returned",
        "_started",
    )

    def __init__(self, logger: logging.Logger, request: Request, pool_name: str | None, trace_id: str | None) -> None:
        url = request.url
        self._logger = logger
        self._latch = _thread.allocate_lock()
        self._began = time.monotonic()
        self._returned = False
        self._fields: dict[str, Any] = {
            "pool_name": pool_name,
            "method": request.method,
            "origin": url.origin,
            "server_address": url.host,
            "server_port": url.port,
            "status_code": None,
            "outcome": None,
            "error": None,
            "retries": 0,
            "trace_id": trace_id,
        }
        self._begin_attempt()

    def _begin_attempt(self) -> None:
        self._got: GotConnInfo | None = None
        self._closed: BodyClosedInfo | None = None
        self._drained = False
        self._reason: CloseReason | None = None
        self._dial_at: float | None = None
        self._first_byte_at: float | None = None
        self._started: dict[str, float] = {}
        self._fields |= dict.fromkeys(("reused", "queue_ms", "dns_ms", "connect_ms", "tls_ms", "first_byte_ms"))

    def trace(self) -> ClientTrace:
        """Return the hooks by which it learns what happens."""
        return ClientTrace(
            get_conn=self._get_conn,
            acquire_done=self._acquire_done,
            dns_start=lambda _: self._start("dns"),
            dns_done=self._dns_done,
            connect_start=lambda _: self._start("connect"),
            connect_done=self._connect_done,
            tls_handshake_start=lambda _: self._start("tls"),
            tls_handshake_done=self._tls_done,
            got_conn=self._got_conn,
            got_first_response_byte=self._first_byte,
            drained=self._drain_done,
            put_idle_conn=self._put_idle,
            body_closed=self._body_closed,
            retried=self._retried,
            leaked=self._leaked,
        )

    # -- what the hooks tell ---------------------------------------------------------------------

    def _get_conn(self, _: str) -> None:
        self._begin_attempt()
        self._started["acquire"] = time.monotonic()

    def _acquire_done(self, info: AcquireDoneInfo) -> None:
        self._fields["queue_ms"] = info.waited * 1000.0

    def _start(self, what: str) -> None:
        now = time.monotonic()
        if self._dial_at is None:
            self._dial_at = now
        self._started.setdefault(what, now)

    def _ended(self, what: str) -> None:
        began = self._started.get(what)
        if began is not None:
            self._fields[f"{what}_ms"] = (time.monotonic() - began) * 1000.0

    def _dns_done(self, _: DNSDoneInfo) -> None:
        self._ended("dns")

    def _connect_done(self, info: ConnectDoneInfo) -> None:
        if info.error is None or self._fields["connect_ms"] is None:
            self._ended("connect")

    def _tls_done(self, _: TLSHandshakeDoneInfo) -> None:
        self._ended("tls")

    def _got_conn(self, info: GotConnInfo) -> None:
        self._got = info
        fields = self._fields
        fields["reused"] = info.reused
        queued = info.queue_time
        if info.reused:  # a dial of its own may have begun, and be another request's by now
            fields |= dict.fromkeys(("dns_ms", "connect_ms", "tls_ms"))
        elif self._dial_at is not None:
            queued = max(self._dial_at - self._started["acquire"], 0.0)
        fields["queue_ms"] = queued * 1000.0

    def _first_byte(self, info: FirstByteInfo) -> None:
        self._first_byte_at = time.monotonic()
        self._fields["first_byte_ms"] = info.elapsed * 1000.0

    def _retried(self, _: object) -> None:
        self._fields["retries"] += 1

    def _drain_done(self, _: DrainedInfo) -> None:
        self._drained = True

    def _put_idle(self, error: Any) -> None:
        self._reason = None if error is None else error.reason

    def _body_closed(self, info: BodyClosedInfo) -> None:
        self._closed = info
        if self._returned:
            self._end_as_told(info)

    def _leaked(self, report: LeakReport) -> None:
        self._fields["status_code"] = report.status_code or None
        self._emit("dropped", None, None, report.bytes_read, (report.age - (time.monotonic() - self._began)) * 1000.0)

    # -- the end ---------------------------------------------------------------------------------

    def returned(self, status_code: int) -> None:
        """The answer's header is with the caller."""
        self._fields["status_code"] = status_code
        self._returned = True
        closed = self._closed
        if closed is not None:
            self._end_as_told(closed)
        elif self._got is None:
            # It did not come through a pool: a cache, say. Nothing more will be told of it.
            self._emit("complete", None, None, None)

    def failed(self, error: BaseException) -> None:
        """There is no answer."""
        sent = getattr(error, "bytes_written", None)
        self._emit("failed", type(error).__name__, sent, 0)

    def _end_as_told(self, info: BodyClosedInfo) -> None:
        reason = self._reason
        if info.complete or self._drained or reason is None or reason not in _FAILURES:
            self._emit("complete" if info.complete else "closed", None, info.bytes_sent, info.bytes_read)
        else:
            self._emit("failed", reason.value, info.bytes_sent, info.bytes_read)

    def _emit(
        self, outcome: str, error: str | None, sent: int | None, received: int | None, shift_ms: float = 0.0
    ) -> None:
        """Write the line, once. `shift_ms`: by how much it is told too late (negative)."""
        if not self._latch.acquire(blocking=False):
            return
        now = time.monotonic()
        body = None if self._first_byte_at is None else max((now - self._first_byte_at) * 1000.0 + shift_ms, 0.0)
        fields = self._fields
        fields |= {
            "outcome": outcome,
            "error": error,
            "body_ms": body,
            "total_ms": (now - self._began) * 1000.0 + shift_ms,
            "bytes_sent": sent,
            "bytes_received": received,
        }
        _log(self._logger, logging.INFO, _text(fields), fields)


def _log(logger: logging.Logger, level: int, text: str, extra: dict[str, Any], error: Exception | None = None) -> None:
    """Tell `logger`. A filter or a handler of the user's that raises breaks no request."""
    try:
        logger.log(level, "%s", text, extra=extra, exc_info=error)
    except Exception as failure:  # noqa: BLE001 - see above
        hand_over(failure)


def _text(fields: dict[str, Any]) -> str:
    times = ("queue", "dns", "connect", "tls", "first_byte", "body", "total")
    words = [
        fields["method"],
        fields["origin"],
        str(fields["status_code"] or fields["error"] or "-"),
        fields["outcome"] if fields["error"] is None or fields["status_code"] is None else f"failed:{fields['error']}",
        {True: "reused", False: "new", None: "-"}[fields["reused"]],
        *(f"{name}={'-' if (ms := fields[f'{name}_ms']) is None else f'{ms:.1f}ms'}" for name in times),
        *(f"{name}={'-' if (count := fields[f'bytes_{name}']) is None else count}" for name in ("sent", "received")),
        f"retries={fields['retries']}",
        f"trace={fields['trace_id'] or '-'}",
    ]
    return " ".join(words)


class _AccessLogBase:
    """What both colours share. Not for use by itself."""

    def __init__(
        self, transport: Any, logger: str | logging.Logger = LOGGER, *, trace_id: TraceId | None = None
    ) -> None:
        self.transport = transport
        self._logger = logging.getLogger(logger) if isinstance(logger, str) else logger
        self._trace_id = otel_trace_id if trace_id is None else trace_id
        self._is_told = False

    def _begin(self, request: Request) -> _Line | None:
        if not self._logger.isEnabledFor(logging.INFO):
            return None
        options = getattr(self.transport, "options", None)
        return _Line(self._logger, request, getattr(options, "name", None), self._ask_trace_id())

    def _ask_trace_id(self) -> str | None:
        try:
            return self._trace_id()
        except Exception as error:  # noqa: BLE001 - a line in a log is not worth a request
            if not self._is_told:
                self._is_told = True
                name = getattr(getattr(self.transport, "options", None), "name", None)
                extra = {"pool_name": name, "hook": "trace_id"}
                _log(self._logger, logging.WARNING, f"trace_id raised {error!r}: the lines go on without", extra, error)
            return None

    def stats(self, *, detail: bool = False) -> PoolStats:
        """Return what `transport.stats` does."""
        return self.transport.stats(detail=detail)  # type: ignore[no-any-return]

    def close_idle_connections(self) -> None:
        """Do what `transport.close_idle_connections` does."""
        self.transport.close_idle_connections()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._logger.name!r} over {self.transport!r}>"


class AccessLog(_AccessLogBase):
    """A `RoundTripper` that writes a line for each request of `transport`, a `Transport` or another round tripper.

    `logger`: its name, or the logger itself; lines are INFO, with the fields of docs/logging.md as `extra`.
    `trace_id`: called once for each request that will be told of, before it is sent; by default the id of
    OpenTelemetry's current span. If it raises, that is logged once, and the lines go on without.

    `close` and ``with`` are those of `transport`. What sends one request several times (a hedge, a retry by status)
    belongs above it, so that each time has its line.
    """

    transport: RoundTripper

    def round_trip(self, request: Request) -> Response:
        """Send `request` through the transport; raises what that does."""
        line = self._begin(request)
        if line is None:
            return self.transport.round_trip(request)
        try:
            with client_trace(line.trace()):
                response = self.transport.round_trip(request)
        except BaseException as error:
            line.failed(error)
            raise
        line.returned(response.status_code)
        return response

    def close(self, *args: Any, **kwargs: Any) -> None:
        """Close the transport."""
        self.transport.close(*args, **kwargs)

    def __enter__(self) -> Self:
        enter = getattr(self.transport, "__enter__", None)
        if enter is not None:
            enter()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        leave = getattr(self.transport, "__exit__", None)
        if leave is not None:
            leave(kind, error, tb)
        else:
            self.transport.close()


class AsyncAccessLog(_AccessLogBase):
    """As `AccessLog`, over an `AsyncTransport` or another `AsyncRoundTripper`."""

    transport: AsyncRoundTripper

    async def round_trip(self, request: Request) -> AsyncResponse:
        """As `AccessLog.round_trip`. A cancelled request is told of as failed."""
        line = self._begin(request)
        if line is None:
            return await self.transport.round_trip(request)
        try:
            with client_trace(line.trace()):
                response = await self.transport.round_trip(request)
        except BaseException as error:
            line.failed(error)
            raise
        line.returned(response.status_code)
        return response

    async def aclose(self, *args: Any, **kwargs: Any) -> None:
        """Close the transport."""
        await self.transport.aclose(*args, **kwargs)

    async def __aenter__(self) -> Self:
        enter = getattr(self.transport, "__aenter__", None)
        if enter is not None:
            await enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        leave = getattr(self.transport, "__aexit__", None)
        if leave is not None:
            await leave(kind, error, tb)
        else:
            await self.transport.aclose()
