"""A response body that no network brings: what a handler gave, in the shape that a response asks of the engine's.

Its lease is one like any other for who looks for leaks: `no_leaks` and the pytest plugin see a response that the code
under test forgets to close, also where no connection is behind it.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from pooltransport import witness
from pooltransport.engine.body import State
from pooltransport.errors import IncompleteBody, NotPooled, StreamConsumed
from pooltransport.leaks import Guard
from pooltransport.lease import Lease, Watch
from pooltransport.stats import CloseReason
from pooltransport.trace import BodyClosedInfo

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from pooltransport.core.http1.codec import RawHeaders
    from pooltransport.models import Request
    from pooltransport.options import TransportOptions
    from pooltransport.trace import Hooks

    from .replies import Reply

_ids = itertools.count(1)


class _Named(NamedTuple):
    """As much of a key, and of a runtime, as a report of a leak asks for."""

    origin: str
    name: str


class _NoConnection(NamedTuple):
    """What a lease holds where no connection is."""

    key: _Named
    runtime: _Named


def open_lease(request: Request, hooks: Hooks | None, watch: Watch, *, is_async: bool) -> Lease:
    """Return the lease of a request that a handler answers, known to whoever looks on."""
    now = time.monotonic()
    named = _Named(request.url.origin, "a loop" if is_async else "threads")
    conn = _NoConnection(named, named)
    site = watch.site()
    lease = Lease(next(_ids), conn, request.method, hooks, site, now, now, 0, None)
    lease.detail = watch.detail(site)
    if (onlooker := witness.current) is not None:
        onlooker.lease_opened(lease)
    return lease


def _lost(lease: Lease) -> None:
    """The response was dropped unclosed. In a finalizer."""
    if lease.end() and (onlooker := witness.current) is not None:
        lease.dropped_at = time.monotonic()
        onlooker.lease_lost(lease)


class HandlerBody:
    """The body of one reply; as `pooltransport.engine.body.Body`, without a connection."""

    __slots__ = (
        "_error",
        "_expected",
        "_guard",
        "_lease",
        "_options",
        "_source",
        "_told",
        "_trailers",
        "codings",
        "state",
    )

    def __init__(
        self,
        reply: Reply,
        lease: Lease,
        options: TransportOptions,
        codings: tuple[bytes, ...],
        told: Callable[[Lease, State], None],
    ) -> None:
        self._options = options
        self._lease = lease
        self._told = told
        self._trailers = reply.trailers.raw
        self._source: Iterator[bytes] | AsyncIterator[bytes] = iter(())
        self._expected: int | None = None
        self._error: BaseException | None = None
        self._guard: Guard | None = None
        self.codings = codings
        self.state = State.OPEN
        lease.status_code = reply.status
        lease.headers = reply.headers.raw
        lease.headers_at = time.monotonic()
        if not reply.has_body(lease.method) or reply.body == b"":
            lease.bytes_expected = 0
            self._end(State.COMPLETE)
            return
        length = reply.headers.get("content-length")
        self._expected = lease.bytes_expected = int(length) if length is not None and length.isdigit() else None
        self._source = _iterate(reply.body)
        self._guard = Guard(_lost, lease)

    def hold_long(self, declared: bool) -> None:
        """Say whether it is meant to be held for long."""
        self._lease.is_stream = declared

    @property
    def max_body_bytes(self) -> int | None:
        """The bound of calls that read everything."""
        return self._options.max_body_bytes

    @property
    def max_decoded_bytes(self) -> int | None:
        """The bound of what decoding may give."""
        return self._options.max_decoded_bytes

    @property
    def drain_limit(self) -> int:
        """How much `raise_for_status` may read."""
        return self._options.drain_limit

    @property
    def trailers(self) -> RawHeaders:
        """The trailer section, once the body was read to its end."""
        return list(self._trailers) if self.state is State.COMPLETE else []

    def take_whole(self) -> bytes | None:
        """It comes piece by piece."""

    async def read_some(self) -> bytes:
        """Return the next piece, ``b""`` at the end. Errors are sticky."""
        if self.state is State.COMPLETE:
            return b""
        if self._error is not None:
            raise self._error
        if self.state is not State.OPEN:
            raise StreamConsumed("the response was closed before its body was read to the end")
        try:
            data = await self._next()
            self._check_length(ended=not data)
        except BaseException as error:
            self._error = error
            self._end(State.FAILED)
            raise
        if not data:
            self._end(State.COMPLETE)
        return data

    async def _next(self) -> bytes:
        while (piece := await self._pull()) is not None:
            if not isinstance(piece, (bytes, bytearray, memoryview)):
                raise TypeError(f"the handler's content gave {type(piece).__name__} where bytes were expected")
            if piece:
                data = bytes(piece)
                self._lease.bytes_read += len(data)
                return data
        return b""

    async def _pull(self) -> Any:
        source: Any = self._source
        if not hasattr(source, "__anext__"):
            return next(source, None)
        try:
            return await anext(source)
        except StopAsyncIteration:
            return None

    def _check_length(self, *, ended: bool) -> None:
        expected, read = self._expected, self._lease.bytes_read
        if expected is None or (read < expected and not ended) or read == expected:
            return
        if read > expected:
            raise ValueError(f"the handler's content has more than the {expected} bytes that its Content-Length says")
        raise IncompleteBody(
            f"the server closed the connection after {read} of {expected} body bytes",
            bytes_read=read,
            bytes_expected=expected,
        )

    async def close(self, *, wait: bool = False) -> None:  # noqa: ARG002 - there is no drain to wait for
        """End it now. What is left of the handler's iterable is never asked for; a generator is closed."""
        if self.state is State.OPEN:
            if self._lease.detail is not None:
                self._lease.detail.close()
            self._end(State.CLOSED)
        source, self._source = self._source, iter(())
        if (aclose := getattr(source, "aclose", None)) is not None:
            await aclose()
        elif (close := getattr(source, "close", None)) is not None:
            close()

    def _end(self, state: State) -> None:
        self.state = state
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.disarm()
        self._lease.end()
        self._told(self._lease, state)


def tell_end(lease: Lease, state: State) -> None:
    """Tell the hooks of a request that its response has ended."""
    hooks = lease.hooks
    if hooks is None:
        return
    left = None if lease.bytes_expected is None else max(lease.bytes_expected - lease.bytes_read, 0)
    complete = state is State.COMPLETE
    hooks.tell("body_closed", BodyClosedInfo(lease.bytes_read, left, complete, lease.bytes_sent))
    reason = CloseReason.READ_ERROR if state is State.FAILED else CloseReason.BODY_NOT_CONSUMED
    hooks.tell("put_idle_conn", None if complete else NotPooled(reason))


def _iterate(body: Any) -> Any:
    if isinstance(body, bytes):
        return iter((body,))
    if isinstance(body, AsyncIterable):
        return aiter(body)
    assert isinstance(body, Iterable), "response() lets nothing else pass"
    return iter(body)
