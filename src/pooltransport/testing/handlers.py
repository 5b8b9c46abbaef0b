"""`HandlerTransport` and `AsyncHandlerTransport`: a function answers, no network is there.

    def handler(request):
        assert request.json() == {"amount": 3}
        return testing.response(201, json={"id": 7})

    client = pt.Client(testing.HandlerTransport(handler))

Rules:

1. All that a client and a response do is done for real: redirects, cookies, decoding, iteration, status errors.
2. Nothing is dialed and no clock runs: for slow and broken peers there is `FaultTransport`.
3. What the handler raises comes out of the call as it is.
"""

from __future__ import annotations

import itertools
import logging
import time
from typing import TYPE_CHECKING, Any, TypeVar

from pooltransport import observers
from pooltransport.codings import codings_of
from pooltransport.engine.callables import is_coroutine_function
from pooltransport.engine.codings import accepted
from pooltransport.errors import InvalidRequest, TransportClosed
from pooltransport.lease import Watch
from pooltransport.options import TransportOptions
from pooltransport.response import AsyncResponse, Response
from pooltransport.trace import FirstByteInfo, GotConnInfo, TLSInfo, bind

from .handler_body import HandlerBody, open_lease, tell_end
from .replies import ReceivedRequest, Reply

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Self, TypeAlias, Unpack

    from pooltransport.lease import Lease
    from pooltransport.models import Request
    from pooltransport.options import OptionsDict

    Handler: TypeAlias = Callable[[ReceivedRequest], Reply]
    AsyncHandler: TypeAlias = Callable[[ReceivedRequest], Reply | Awaitable[Reply]]

R = TypeVar("R", Response, AsyncResponse)
_PARTIAL_CONTENT = 206


class _HandlerBase:
    """What both colours share. Not for use by itself."""

    _is_async = False

    def __init__(self, handler: Any, options: TransportOptions) -> None:
        if not callable(handler):
            raise TypeError(f"the handler must be a function of one request, not {type(handler).__name__}")
        self.options = options
        self.requests: list[ReceivedRequest] = []
        self.is_closed = False
        self._handler = handler
        self._ids = itertools.count(1)
        self._origins: dict[str, list[int]] = {}  # number, and requests served, of what stands for a connection
        level = options.leak_detection
        self._watch = Watch("full" if level == "site" else level, tuple(options.ignore_modules))

    def _begin(self, request: Request) -> Lease:
        if self.is_closed:
            raise TransportClosed("this transport is closed")
        hooks = bind(request.trace, request.client_trace, self.options.trace, _hook_error)
        if hooks is not None:
            hooks.tell("get_conn", f"{request.url.host}:{request.url.port}")
        return open_lease(request, hooks, self._watch, is_async=self._is_async)

    def _received(self, request: Request, lease: Lease, content: bytes) -> tuple[ReceivedRequest, GotConnInfo]:
        received = ReceivedRequest.of(request, content)
        self.requests.append(received)
        lease.bytes_sent = len(content)
        got = self._connection(request)
        if lease.hooks is not None:
            lease.hooks.tell("got_conn", got)
            lease.hooks.tell("wrote_request", None)
        return received, got

    def _connection(self, request: Request) -> GotConnInfo:
        """One for each origin, as if every answer were read before the next request."""
        url = request.url
        row = self._origins.setdefault(url.origin, [0, 0])
        served = row[1]
        if not served:
            row[0] = next(self._ids)
        row[1] += 1
        tls = TLSInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384", None, url.host) if url.scheme == "https" else None
        where = f"{url.host}:{url.port}"
        return GotConnInfo(where, "handler", served > 0, served > 0, 0.0, 0.0, "http/1.1", tls, 0.0, served, row[0])

    def _answer(self, kind: type[R], reply: object, lease: Lease, request: Request, got: GotConnInfo) -> R:
        if not isinstance(reply, Reply):
            raise TypeError(f"the handler returned {type(reply).__name__}: return pooltransport.testing.response(...)")
        elapsed = time.monotonic() - lease.opened_at
        if lease.hooks is not None:
            lease.hooks.tell("got_first_response_byte", FirstByteInfo(elapsed))
        if not self._is_async and hasattr(reply.body, "__anext__"):
            raise TypeError("an asynchronous iterable is content for AsyncHandlerTransport")
        body: Any = HandlerBody(reply, lease, self.options, _to_take_off(request, reply, self.options), tell_end)
        return kind(request, reply.head(), body, got, elapsed, self)

    def __repr__(self) -> str:
        name = getattr(self._handler, "__qualname__", repr(self._handler))
        state = "closed" if self.is_closed else f"{len(self.requests)} requests"
        return f"<{type(self).__name__} {name}, {state}>"


class HandlerTransport(_HandlerBase):
    """A `RoundTripper` whose answers come from `handler`, a function of one request: for tests, without a network.

    `handler` is given a `ReceivedRequest` and returns what `response` makes; from several threads at once, if the
    client is used so. What it raises comes out of the call. `options` are those of `Transport`: trace,
    max_body_bytes, max_decoded_bytes and drain_limit act as there, the others are taken and have nothing to act on.

    `requests`: all that came, in order. Hooks are told get_conn, got_conn, wrote_request, got_first_response_byte,
    body_closed and put_idle_conn. A response that is not closed is found by `no_leaks` and the pytest plugin.

    Raises `TypeError` for a handler that cannot be called, or is asynchronous, and of a request whose handler returned
    something else; `ConfigError` as `Transport`.
    """

    def __init__(self, handler: Handler, **options: Unpack[OptionsDict]) -> None:
        if is_coroutine_function(handler):
            raise TypeError("an asynchronous handler is for AsyncHandlerTransport")
        super().__init__(handler, TransportOptions(**options))

    def round_trip(self, request: Request) -> Response:
        """Have the handler answer `request`; the response is yours to close."""
        if request.body.is_async:
            raise InvalidRequest("an async iterable cannot be the body of a blocking request; use AsyncTransport")
        if not observers.anybody:
            return self._send(request)
        with observers.watching(request, self.options) as watched:
            response = self._send(request)
            watched.answered(response)
        return response

    def _send(self, request: Request) -> Response:
        lease = self._begin(request)
        try:
            try:
                content = b"".join(request.body.chunks())
            finally:
                request.body.close()
            received, got = self._received(request, lease, content)
            return self._answer(Response, self._handler(received), lease, request, got)
        except BaseException:
            lease.end()
            raise

    def close(self) -> None:
        """Take no more requests. Idempotent."""
        self.is_closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class AsyncHandlerTransport(_HandlerBase):
    """As `HandlerTransport`, an `AsyncRoundTripper` on asyncio and trio. `handler` may be a coroutine function."""

    _is_async = True

    def __init__(self, handler: AsyncHandler, **options: Unpack[OptionsDict]) -> None:
        super().__init__(handler, TransportOptions(**options))

    async def round_trip(self, request: Request) -> AsyncResponse:
        """As `HandlerTransport.round_trip`."""
        if not observers.anybody:
            return await self._send(request)
        with observers.watching(request, self.options) as watched:
            response = await self._send(request)
            watched.answered(response)
        return response

    async def _send(self, request: Request) -> AsyncResponse:
        lease = self._begin(request)
        try:
            try:
                content = await _read(request)
            finally:
                await request.body.aclose()
            received, got = self._received(request, lease, content)
            reply = self._handler(received)
            if hasattr(reply, "__await__"):
                reply = await reply
            return self._answer(AsyncResponse, reply, lease, request, got)
        except BaseException:
            lease.end()
            raise

    async def aclose(self) -> None:
        """As `HandlerTransport.close`."""
        self.is_closed = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()


async def _read(request: Request) -> bytes:
    body = request.body
    if not body.is_async:
        return b"".join(body.chunks())
    chunks = body.achunks()
    parts: list[bytes] = []
    while part := await anext(chunks, b""):
        parts.append(part)
    return b"".join(parts)


def _to_take_off(request: Request, reply: Reply, options: TransportOptions) -> tuple[bytes, ...]:
    """Return the codings that the response decodes; as for one from the network (`engine.codings`)."""
    if request.decode is False or not reply.has_body(request.method) or reply.status == _PARTIAL_CONTENT:
        return ()
    asked = accepted(request, options)
    codings = codings_of(list(reply.headers.raw_values(b"content-encoding")))
    if request.decode is None:
        return codings if asked and codings == (b"gzip",) else ()
    return codings


def _hook_error(name: str, error: Exception) -> None:
    logging.getLogger("pooltransport.pool").warning("the hook %s raised %r", name, error, exc_info=error)
