"""The pool that our transports put in the place of httpcore's: its requests in, its responses out."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import anyio

from pooltransport.errors import ConnectError, ConnectTimeout, Error
from pooltransport.models import UNSET, Request, Timeout
from pooltransport.option_checks import MOST_SECONDS
from pooltransport.url import parse_url

from .errors import raise_theirs
from .mocks import refuse_half_mocked, told_respx
from .streams import AsyncBody, AsyncWire, Body, Wire
from .told import ANSWER, AsyncTold, Told

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from pooltransport.response import AsyncResponse, Response
    from pooltransport.roundtripper import AsyncRoundTripper, RoundTripper

    from .errors import Library

_SCHEMES = {b"http": "http", b"https": "https", b"ws": "http", b"wss": "https"}
_OURS = frozenset(
    ("timeout", "trace", "target")
)  # of the extensions; the others are notes for whoever is given the request
_FIELDS = ("pool", "connect", "read", "write")
_MOST_TIMEOUTS = 256
_SOON = 1e-6  # httpx takes 0 for a timeout, and means that nothing may be waited for


class _PoolBase:
    """What both colours share."""

    def __init__(self, transport: Any, library: Library, *, owned: bool, retries: int) -> None:
        self.transport = transport
        self._library = library
        self._owned = owned
        self._retries = retries
        self._timeouts: dict[tuple[Any, ...], Timeout] = {}
        explicit = getattr(getattr(transport, "options", None), "explicit", ())
        self._own_tls = "tls_handshake_timeout" in explicit
        self._own_header = "response_header_timeout" in explicit

    def _translate(self, request: Any, body: Any, told: Told | None) -> Request:
        """Return the request as ours. Raises `InvalidRequest`."""
        url = request.url
        scheme = _SCHEMES.get(url.scheme)
        if scheme is None:
            self._unsupported(url.scheme)
        if url.port is not None and not 0 < url.port < 65_536:
            raise self._library.client.ConnectError(f"cannot connect to port {url.port}: ports are 1 to 65535")
        host = url.host.decode("ascii")
        place = f"[{host}]" if ":" in host else host
        port = "" if url.port is None else f":{url.port}"
        target, headers, extensions = url.target, request.headers, request.extensions
        method = request.method.decode("ascii")
        if target[:1] == b"/":
            where = parse_url(f"{scheme}://{place}{port}{target.decode('latin-1')}")
        else:  # "*", or another place: as it is
            where = parse_url(f"{scheme}://{place}{port}").with_target(target)
            if method == "CONNECT":
                # What is asked for is its Host as well (RFC 9112 section 3.2.3); httpx's is that of the proxy.
                headers = [(b"Host", target), *(item for item in headers if item[0].lower() != b"host")]
        if body is None and any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in headers):
            body = b""
        return Request(
            method,
            where,
            headers=headers,
            content=body,
            timeout=self._timeout(extensions.get("timeout")),
            trace=None if told is None else told.hooks(),
            decode=False,
            extensions={name: value for name, value in extensions.items() if name not in _OURS} or None,
        )

    def _unsupported(self, scheme: bytes) -> None:
        shown = scheme.decode("latin-1")  # in the words of httpcore
        if shown:
            raise self._library.client.UnsupportedProtocol(f"Request URL has an unsupported protocol '{shown}://'.")
        raise self._library.client.UnsupportedProtocol("Request URL is missing an 'http://' or 'https://' protocol.")

    def _timeout(self, given: Any) -> Timeout:
        """Return httpx's four clocks as ours. Its ``read`` also bounds the wait for the headers, its ``connect`` each
        handshake: our defaults for these give way, options that were given stay.
        """
        if not given:
            return Timeout()
        values = tuple(given.get(name, UNSET) for name in _FIELDS)
        timeout = self._timeouts.get(values)
        if timeout is None:
            acquire, connect, read, write = (_seconds(value) for value in values)
            timeout = Timeout(
                acquire=acquire,
                connect=connect,
                tls=UNSET if self._own_tls else connect,
                response_header=UNSET if self._own_header or read is UNSET else None,
                read=read,
                write=write,
            )
            if len(self._timeouts) >= _MOST_TIMEOUTS:
                self._timeouts.clear()
            self._timeouts[values] = timeout
        return timeout

    def _content(self, request: Any) -> Any:
        """Return bytes that can be sent again, or the stream, or None for no body."""
        stream = request.stream
        if isinstance(stream, self._library.client.ByteStream):
            return b"".join(stream) or None
        return stream

    def _answer(self, response: Any, body: Any, wire: Any) -> Any:
        reason = response.reason.encode("latin-1", "replace")
        version = response.http_version.encode("ascii")
        return self._library.core.Response(
            response.status_code,
            headers=list(response.headers.raw),
            content=body,
            extensions={
                "http_version": version,
                "reason_phrase": reason,
                "network_stream": wire,
                "pooltransport.conn": response.conn,
            },
        )

    def _may_retry(self, error: Error, attempt: int) -> bool:
        return attempt < self._retries and isinstance(error, (ConnectError, ConnectTimeout))


def _summary(answer: Any) -> tuple[Any, ...]:
    """Return what httpcore says of an answer in its trace."""
    known = answer.extensions
    return known["http_version"], answer.status, known["reason_phrase"], answer.headers


def _seconds(value: Any) -> Any:
    if value is UNSET or value is None:
        return value
    return None if value > MOST_SECONDS else max(value, _SOON)


def _pause(attempt: int) -> float:
    """Return httpcore's: 0, 0.5, 1, 2, ... seconds."""
    return 0.5 * 2.0 ** (attempt - 1) if attempt else 0.0


class Pool(_PoolBase):
    """In the place of `httpcore.ConnectionPool`."""

    transport: RoundTripper

    def handle_request(self, request: Any) -> Any:
        """Send `request`, httpcore's, and return its response, whose stream is the caller's to close."""
        if told_respx():
            return self.handle_request(request)
        refuse_half_mocked(self._library)
        trace = request.extensions.get("trace")
        told = None if trace is None else Told(trace, request)
        response = self._send(request, told)
        try:
            answer = self._answer(response, Body(response, self._library, told), Wire(response, self._library.core))
            if told is not None:
                told.complete(ANSWER, _summary(answer))
                told.check()
        except BaseException:
            response.close()
            raise
        return answer

    def _send(self, request: Any, told: Told | None) -> Response:
        attempt = 0
        while True:
            content = self._content(request)
            if content is not None and not isinstance(content, bytes):
                content = iter(content)  # once: nobody knows whether it can be had again
            try:
                return self.transport.round_trip(self._translate(request, content, told))
            except Error as error:
                if self._may_retry(error, attempt):
                    time.sleep(_pause(attempt))
                    attempt += 1
                    continue
                if told is not None:
                    told.failed(error)
                    told.check()
                raise_theirs(error, self._library.client)

    def close(self) -> None:
        """Close the transport, unless it was handed in."""
        if self._owned:
            self.transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._owned:
            self.transport.__exit__(kind, error, tb)  # type: ignore[attr-defined]


class AsyncPool(_PoolBase):
    """In the place of `httpcore.AsyncConnectionPool`."""

    transport: AsyncRoundTripper

    async def handle_async_request(self, request: Any) -> Any:
        """As `Pool.handle_request`."""
        if told_respx():
            return await self.handle_async_request(request)
        refuse_half_mocked(self._library)
        trace = request.extensions.get("trace")
        told = None if trace is None else AsyncTold(trace, request)
        response = await self._send(request, told)
        try:
            body, wire = AsyncBody(response, self._library, told), AsyncWire(response, self._library.core)
            answer = self._answer(response, body, wire)
            if told is not None:
                told.complete(ANSWER, _summary(answer))
                await told.settle()
        except BaseException:
            await response.aclose()
            raise
        return answer

    async def _send(self, request: Any, told: AsyncTold | None) -> AsyncResponse:
        attempt = 0
        while True:
            content = self._content(request)
            if content is not None and not isinstance(content, bytes):
                content = aiter(content)  # as in `Pool`
            try:
                return await self.transport.round_trip(self._translate(request, content, told))
            except Error as error:
                if self._may_retry(error, attempt):
                    await anyio.sleep(_pause(attempt))
                    attempt += 1
                    continue
                if told is not None:
                    told.failed(error)
                    await told.settle()
                raise_theirs(error, self._library.client)

    async def aclose(self) -> None:
        """As `Pool.close`."""
        if self._owned:
            await self.transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._owned:
            await self.transport.__aexit__(kind, error, tb)  # type: ignore[attr-defined]
