"""A span for each request: round-trippers that go around another one (see `otel.py`).

The span ends when the headers were read, as the semantic conventions want it; a body that is slow is in the metrics.
Path and query never become labels; `url.full` has the path, and neither query nor userinfo.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from opentelemetry import propagate, trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from pooltransport import __version__
from pooltransport.headers import Headers
from pooltransport.trace import ClientTrace, client_trace

if TYPE_CHECKING:
    from typing import Self

    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.trace import Span, Tracer

    from pooltransport.models import Request
    from pooltransport.response import AsyncResponse, Response
    from pooltransport.roundtripper import AsyncRoundTripper, RoundTripper

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"))
_MOST_TEXT = 200


class _Traced:
    """What both colours share."""

    def __init__(self, transport: Any, tracer: Tracer | None, propagator: TextMapPropagator | None) -> None:
        self.transport = transport
        self._tracer = tracer
        self._propagator = propagator

    def stats(self, *, detail: bool = False) -> Any:
        """Return the statistics of the transport inside."""
        return self.transport.stats(detail=detail)

    def _begin(self, request: Request) -> _Attempt:
        # Asked for at each request: the provider may be set after the transport was made.
        tracer = self._tracer or trace.get_tracer("pooltransport", __version__)
        return _Attempt(request, tracer, self._propagator or propagate.get_global_textmap())


class TracedTransport(_Traced):
    """A round-tripper that makes a CLIENT span for each request that it hands to `transport`.

    `tracer`: None is the global provider's. `propagator`: what puts the context into the headers; None is the global
    one (traceparent). Closing it closes `transport`.
    """

    def __init__(
        self, transport: RoundTripper, tracer: Tracer | None = None, *, propagator: TextMapPropagator | None = None
    ) -> None:
        super().__init__(transport, tracer, propagator)

    def round_trip(self, request: Request) -> Response:
        """As `Transport.round_trip`."""
        with self._begin(request) as attempt:
            response: Response = self.transport.round_trip(attempt.request)
            attempt.answered(response)
        return response

    def close(self) -> None:
        """Close the transport inside."""
        self.transport.close()


class AsyncTracedTransport(_Traced):
    """As `TracedTransport`, awaited."""

    def __init__(
        self, transport: AsyncRoundTripper, tracer: Tracer | None = None, *, propagator: TextMapPropagator | None = None
    ) -> None:
        super().__init__(transport, tracer, propagator)

    async def round_trip(self, request: Request) -> AsyncResponse:
        """As `AsyncTransport.round_trip`."""
        with self._begin(request) as attempt:
            response: AsyncResponse = await self.transport.round_trip(attempt.request)
            attempt.answered(response)
        return response

    async def aclose(self) -> None:
        """Close the transport inside."""
        await self.transport.aclose()


class _Attempt:
    """One request's span, the current one inside of the ``with``."""

    def __init__(self, request: Request, tracer: Tracer, propagator: TextMapPropagator) -> None:
        self._tracer = tracer
        known = request.method in _METHODS
        attributes: dict[str, str | int] = {
            "http.request.method": request.method if known else "_OTHER",
            "server.address": request.url.host,
            "server.port": request.url.port,
            "url.full": _redacted(request),
        }
        if not known:
            attributes["http.request.method_original"] = request.method
        name = request.method if known else "HTTP"
        self.span: Span = tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)
        self.request = _with_context(request, self.span, propagator)
        self._where = f"{request.url.host}:{request.url.port}"
        self._queued_at = 0
        self._current = trace.use_span(self.span, record_exception=False, set_status_on_exception=False)
        self._block: client_trace | None = None

    def __enter__(self) -> Self:
        self._current.__enter__()
        if self.span.is_recording():
            hooks = ClientTrace(acquire_queued=self._queued, acquire_done=self._waited, retried=self._retried)
            self._block = client_trace(hooks)
            self._block.__enter__()
        return self

    def __exit__(self, kind: object, error: BaseException | None, tb: object) -> None:
        if self._block is not None:
            self._block.__exit__(None, None, None)
        self._current.__exit__(None, None, None)
        if error is not None:
            text = str(error).partition("\n")[0][:_MOST_TEXT]
            self.span.set_attribute("error.type", type(error).__name__)
            self.span.set_status(Status(StatusCode.ERROR, text))
        self.span.end()

    def answered(self, response: Any) -> None:
        """Note what came."""
        status = response.status_code
        self.span.set_attribute("http.response.status_code", status)
        self.span.set_attribute("network.protocol.version", response.conn.protocol.removeprefix("http/"))
        if status >= 400:
            self.span.set_attribute("error.type", str(status))
            self.span.set_status(Status(StatusCode.ERROR))

    def _queued(self, _: Any) -> None:
        self._queued_at = time.time_ns()

    def _waited(self, info: Any) -> None:
        context = trace.set_span_in_context(self.span)
        name = f"HTTP wait_for_connection {self._where}"
        attributes = {"pooltransport.acquire.outcome": info.outcome}
        self._tracer.start_span(name, context, attributes=attributes, start_time=self._queued_at).end()

    def _retried(self, info: Any) -> None:
        self.span.add_event("retry", {"error.type": type(info.error).__name__})


def _with_context(request: Request, span: Span, propagator: TextMapPropagator) -> Request:
    fields: dict[str, str] = {}
    propagator.inject(fields, trace.set_span_in_context(span))
    if not fields:
        return request
    headers = Headers(request.headers)
    for name, value in fields.items():
        headers.set(name, value)
    return request.with_headers(headers)


def _redacted(request: Request) -> str:
    path = request.url.target.partition(b"?")[0].decode("latin-1")
    return request.url.redacted + path
