"""A span for each request: round-trippers that go around another one, an observer of all transports (see `otel.py`).

A request has one span. Where the instrumentation of a client above (httpx, requests) has made one, or a transport of
these around another, the inner one adds to it what it knows and makes none; where instrumentation is suppressed, it
says nothing.
The span ends when the headers were read, as the semantic conventions want it; a body that is slow is in the metrics.
Path and query never become labels; `url.full` has the path, and neither query nor userinfo.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from opentelemetry import context, propagate, trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from pooltransport import __version__
from pooltransport.errors import InvalidRequest
from pooltransport.headers import Headers
from pooltransport.observers import Observer, Recorder
from pooltransport.trace import ClientTrace, client_trace
from pooltransport.url import parse_url

if TYPE_CHECKING:
    from typing import Self

    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.trace import Span, Tracer, TracerProvider

    from pooltransport.models import Request
    from pooltransport.response import AsyncResponse, Response
    from pooltransport.roundtripper import AsyncRoundTripper, RoundTripper

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"))
_MOST_TEXT = 200
# What `opentelemetry.instrumentation` sets where nothing is to be traced: the plain text, and keys that are made anew
# in each process.
_SUPPRESSED = (
    "suppress_instrumentation",
    getattr(context, "_SUPPRESS_INSTRUMENTATION_KEY", "suppress_instrumentation"),
    getattr(context, "_SUPPRESS_HTTP_INSTRUMENTATION_KEY", "suppress_http_instrumentation"),
)


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
        return _Attempt(request, self._tracer, self._propagator)


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


class SpanObserver(Observer):
    """A span for each request of each transport in this process; `otel.instrument_spans` adds it."""

    def __init__(self, provider: TracerProvider | None, propagator: TextMapPropagator | None) -> None:
        self._provider = provider
        self._propagator = propagator

    def begin(self, request: Request, options: object) -> Recorder | None:  # noqa: ARG002 - one for all transports
        """Begin a span, or add to the one that is there."""
        tracer = None if self._provider is None else self._provider.get_tracer("pooltransport", __version__)
        return _SpanRecorder(_Attempt(request, tracer, self._propagator))


class _SpanRecorder(Recorder):
    __slots__ = ("_attempt", "acquire_done", "acquire_queued", "instead", "retried")

    hooks = True

    def __init__(self, attempt: _Attempt) -> None:
        self._attempt = attempt
        self.instead = attempt.request
        is_told = attempt.span.is_recording()
        self.acquire_queued = attempt.queued if is_told else None
        self.acquire_done = attempt.waited if is_told else None
        self.retried = attempt.retried if is_told else None

    def answered(self, response: Any) -> None:
        self._attempt.answered(response)
        self._attempt.end(None)

    def failed(self, error: BaseException) -> None:
        self._attempt.end(error)


class _Attempt:
    """One request's span, the current one inside of the ``with``. Somebody else's, if there is one for this request:
    that is added to, and neither named nor ended here.
    """

    def __init__(self, request: Request, tracer: Tracer | None, propagator: TextMapPropagator | None) -> None:
        self._tracer = tracer or trace.get_tracer("pooltransport", __version__)
        self._where = f"{request.url.host}:{request.url.port}"
        self._queued_at = 0
        self._block: client_trace | None = None
        self.span: Span = trace.get_current_span()
        self._is_ours = False
        self.request = request
        if any(context.get_value(key) for key in _SUPPRESSED):
            self.span = trace.INVALID_SPAN
        elif not _is_for(self.span, request):
            self._is_ours = True
            self.span = _started(request, self._tracer)
            self.request = _with_context(request, self.span, propagator or propagate.get_global_textmap())
        self._current = trace.use_span(self.span, record_exception=False, set_status_on_exception=False)

    def __enter__(self) -> Self:
        if self._is_ours:
            self._current.__enter__()
        if self.span.is_recording():
            hooks = ClientTrace(acquire_queued=self.queued, acquire_done=self.waited, retried=self.retried)
            self._block = client_trace(hooks)
            self._block.__enter__()
        return self

    def __exit__(self, kind: object, error: BaseException | None, tb: object) -> None:
        if self._block is not None:
            self._block.__exit__(None, None, None)
        if self._is_ours:
            self._current.__exit__(None, None, None)
        self.end(error)

    def end(self, error: BaseException | None) -> None:
        """The request has ended: so does its span."""
        if not self._is_ours:
            return
        if error is not None:
            text = str(error).partition("\n")[0][:_MOST_TEXT]
            self.span.set_attribute("error.type", type(error).__name__)
            self.span.set_status(Status(StatusCode.ERROR, text))
        self.span.end()

    def answered(self, response: Any) -> None:
        """Note what came."""
        if not self._is_ours:
            return
        status = response.status_code
        self.span.set_attribute("http.response.status_code", status)
        self.span.set_attribute("network.protocol.version", response.conn.protocol.removeprefix("http/"))
        if status >= 400:
            self.span.set_attribute("error.type", str(status))
            self.span.set_status(Status(StatusCode.ERROR))

    def queued(self, _: Any) -> None:
        """It waits for a connection."""
        self._queued_at = time.time_ns()

    def waited(self, info: Any) -> None:
        """It waits no more."""
        context = trace.set_span_in_context(self.span)
        name = f"HTTP wait_for_connection {self._where}"
        attributes = {"pooltransport.acquire.outcome": info.outcome}
        self._tracer.start_span(name, context, attributes=attributes, start_time=self._queued_at).end()

    def retried(self, info: Any) -> None:
        """It is done again, on another connection."""
        self.span.add_event("retry", {"error.type": type(info.error).__name__})


def _started(request: Request, tracer: Tracer) -> Span:
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
    return tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)


def _is_for(span: Span, request: Request) -> bool:
    """Report whether `span` is a client's, for just this request: in the words of either convention. A span for
    something else, such as a call of an SDK that makes several requests, is a parent like any other.
    """
    attributes = getattr(span, "attributes", None)
    if not attributes or getattr(span, "kind", None) is not SpanKind.CLIENT or not span.is_recording():
        return False
    url = attributes.get("url.full") or attributes.get("http.url")
    if not isinstance(url, str):
        return False
    try:
        theirs = parse_url(url)
    except InvalidRequest:
        return False
    ours = request.url
    return theirs.origin == ours.origin and theirs.target.partition(b"?")[0] == ours.target.partition(b"?")[0]


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
