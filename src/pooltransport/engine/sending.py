"""Sending one request: header, body, and what is known afterwards of how much went out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pooltransport.core.http1 import request as wire
from pooltransport.errors import LocalProtocolError, WriteError
from pooltransport.runtime.protocols import Expired, NothingWritten
from pooltransport.trace import Wait100ContinueInfo, WroteHeaderFieldInfo, WroteHeadersInfo

from .receiving import answer_after_write_error, receive_head, refusal_behind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pooltransport.bodies import Chunks
    from pooltransport.core.http1.codec import Head
    from pooltransport.core.http1.exchange import Exchange
    from pooltransport.leaks import Lease
    from pooltransport.models import Request
    from pooltransport.options import TransportOptions

    from .clocks import Clocks

# Up to this size a body in memory goes out in one write with its header.
_ONE_WRITE = 65_536


class Sent:
    """Facts about one attempt, for the retry rule and for errors."""

    __slots__ = ("at", "bytes_written", "connection_lost", "response_started")

    def __init__(self) -> None:
        self.bytes_written = 0
        self.at = 0.0  # when the request was written, all of it
        self.response_started = False
        self.connection_lost = False


async def send(
    request: Request,
    lease: Lease,
    exchange: Exchange,
    clocks: Clocks,
    sent: Sent,
    options: TransportOptions,
    *,
    close: bool,
) -> Head | None:
    """Send `request`. Return None, or the final header if that came before the body was wanted."""
    data = wire.head(request, close=close)
    hooks = lease.hooks
    if hooks is not None:
        _tell_headers(hooks, data)
    body = request.body
    if body.is_empty:
        # A body that was given and is empty may still have to be ended in chunked coding.
        await _write(data + wire.last_chunk(request) if request.chunked else data, lease, clocks, sent)
    elif wire.expects_continue(request):
        await _write(data, lease, clocks, sent)
        head = await _await_continue(lease, exchange, clocks, sent, options.expect_continue_timeout)
        if head is not None:
            return head
        if (early := await _send_body(b"", request, lease, exchange, clocks, sent)) is not None:
            return early
    elif (early := await _send_body(data, request, lease, exchange, clocks, sent)) is not None:
        return early
    exchange.request_sent = True
    sent.at = lease.conn.runtime.now()
    if hooks is not None:
        hooks.tell("wrote_request", None)
    return None


def _tell_headers(hooks: object, data: bytes) -> None:
    tell = hooks.tell  # type: ignore[attr-defined]
    if hooks.wants("wrote_header_field"):  # type: ignore[attr-defined]
        fields: dict[str, list[str]] = {}
        for line in data.split(b"\r\n")[1:-2]:
            name, _, value = line.decode("latin-1").partition(": ")
            fields.setdefault(name, []).append(value)
        for name, values in fields.items():
            tell("wrote_header_field", WroteHeaderFieldInfo(name, tuple(values)))
    tell("wrote_headers", WroteHeadersInfo(len(data)))


async def _send_body(
    data: bytes, request: Request, lease: Lease, exchange: Exchange, clocks: Clocks, sent: Sent
) -> Head | None:
    """Send `data`, the header if that is still to go, and the body."""
    body = request.body
    in_memory = body.length is not None and not body.is_file and not body.is_async and body.rewindable
    if data and not in_memory:
        # The server may answer before the body exists (Go WRITE-07).
        await _write(data, lease, clocks, sent)
        data = b""
    declared = None if request.chunked else body.length
    total = 0
    chunks = _Chunks(request, lease)
    try:
        while chunk := await chunks.next():
            total += len(chunk)
            if declared is not None and total > declared:
                raise LocalProtocolError(f"the body is longer than the Content-Length of {declared} bytes")
            piece = wire.chunk(chunk) if request.chunked else chunk
            if data:
                if len(piece) <= _ONE_WRITE:
                    piece = data + piece
                else:
                    await _write(data, lease, clocks, sent)
                data = b""
            await _write(piece, lease, clocks, sent)
        if declared is not None and total < declared:
            raise LocalProtocolError(f"the body ended after {total} of the {declared} bytes of its Content-Length")
        if request.chunked:
            data += wire.last_chunk(request)
        if data:
            await _write(data, lease, clocks, sent)
    except WriteError as error:
        # What refused the body may have said why: the answer already sent is still read.
        head = await answer_after_write_error(lease, exchange, sent)
        if head is None:
            raise
        if lease.hooks is not None:
            lease.hooks.tell("wrote_request", error)
        await chunks.close()
        return head
    await chunks.close()
    return None


class _Chunks:
    """The caller's body, piece by piece; files are read where they do not hold up a loop."""

    __slots__ = ("_async", "_body", "_sync", "_threaded")

    def __init__(self, request: Request, lease: Lease) -> None:
        self._body = request.body
        self._async: AsyncIterator[bytes] | None = None
        self._sync: Chunks | None = None
        if self._body.is_async:
            self._async = self._body.achunks()
        else:
            self._sync = self._body.chunks()
        self._threaded = lease.conn.runtime if self._body.is_file else None

    async def next(self) -> bytes:
        if self._async is not None:
            try:
                return await self._async.__anext__()
            except StopAsyncIteration:
                return b""
        assert self._sync is not None, "a body is one or the other"
        if self._threaded is not None:
            return await self._threaded.run_blocking(self._sync.read)  # type: ignore[no-any-return]
        return self._sync.read()

    async def close(self) -> None:
        if self._async is not None:
            await self._body.aclose()
        else:
            self._body.close()


async def _write(data: bytes, lease: Lease, clocks: Clocks, sent: Sent) -> None:
    conn = lease.conn
    setting = clocks.settings.write
    try:
        await conn.stream.send(data, setting.seconds, clocks.deadline)
    except Expired:
        now = conn.runtime.now()
        sent.bytes_written += 1  # some of it may have gone
        raise clocks.expired("write", setting, now, where=conn.key.origin, done=True) from None
    except OSError as error:
        sent.connection_lost = True
        if not isinstance(error, NothingWritten):
            sent.bytes_written += 1  # how many is not known, but some may have gone
        elif conn.stream.tls is not None and not (sent.bytes_written or conn.requests_served):
            error = await refusal_behind(conn, error)
        done = sent.bytes_written > 0
        text = f"{conn.key.origin}: sending failed after {sent.bytes_written} bytes: {error.strerror or error}"
        raise WriteError(text, may_have_been_processed=done) from error
    sent.bytes_written += len(data)


async def _await_continue(lease: Lease, exchange: Exchange, clocks: Clocks, sent: Sent, timeout: float) -> Head | None:
    """Wait for 100 (Continue). Silence means that the body is sent anyway; a final answer that it is not."""
    if lease.hooks is not None:
        lease.hooks.tell("wait_100_continue", Wait100ContinueInfo(timeout))
    sent.at = lease.conn.runtime.now()
    try:
        head = await receive_head(lease, exchange, clocks, sent, continue_until=sent.at + timeout)
    except Expired:
        return None
    if head.status >= 200:
        if lease.hooks is not None:
            lease.hooks.tell("wrote_request", None)
        return head
    return None
