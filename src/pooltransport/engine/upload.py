"""Sending one request's body while listening: a server may answer before it has come.

Rules (RFC 9110 section 10.1.1, RFC 9112 section 9.5; Go EARLY):

1. A final answer of 300 or more ends the upload: nothing more of the body is asked for or sent, the caller's
   generator is closed, and the connection is not used again, since its request was not sent whole.
2. A 2xx does not: the server may well work on what it gets. What it sends meanwhile is kept, so that neither
   side waits for the other; above a bound the body goes on without listening.
3. After a failed write the answer that is there already is still read: it may say why (a 413).
4. One control flow does both. Go has two threads for it; here a second one would share a TLS object with the
   first, and run the caller's generator behind the caller's back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pooltransport.core.http1 import request as wire
from pooltransport.errors import LocalProtocolError, WriteError
from pooltransport.runtime.protocols import Expired, NothingWritten

from .receiving import answer_after_write_error, hear, refusal_behind

if TYPE_CHECKING:
    from pooltransport.bodies import AsyncChunkIterator, Chunks
    from pooltransport.core.http1.codec import Head
    from pooltransport.core.http1.exchange import Exchange
    from pooltransport.lease import Lease
    from pooltransport.models import Request

    from .clocks import Clocks

# Up to this size a body in memory goes out in one write with its header: no answer can come before.
_ONE_WRITE = 65_536
# How much of a 2xx answer is kept while its request is still being sent, in bytes.
_MOST_KEPT = 1_048_576


class Sent:
    """Facts about one attempt, for the retry rule and for errors."""

    __slots__ = ("at", "bytes_written", "chunks", "connection_lost", "response_started")

    def __init__(self) -> None:
        self.chunks: _Chunks | None = None  # of the caller's body, to be closed
        self.bytes_written = 0
        self.at = 0.0  # when the request was written, all of it
        self.response_started = False
        self.connection_lost = False


async def write(data: bytes | memoryview, lease: Lease, clocks: Clocks, sent: Sent) -> None:
    """Send all of `data`; whatever goes wrong says how much of the request may have gone out."""
    try:
        await lease.conn.stream.send(data, clocks.settings.write.seconds, clocks.deadline)
    except (Expired, OSError) as error:
        conn, found = lease.conn, error
        if isinstance(error, NothingWritten) and conn.stream.tls is not None and not conn.requests_served:
            found = error if sent.bytes_written else await refusal_behind(conn, error)
        raise _write_failure(error, lease, clocks, sent) from found
    sent.bytes_written += len(data)


def _write_failure(error: Exception, lease: Lease, clocks: Clocks, sent: Sent) -> Exception:
    origin = lease.origin
    if isinstance(error, Expired):
        sent.bytes_written += 1  # some of it may have gone
        now = lease.conn.runtime.now()
        return clocks.expired("write", clocks.settings.write, now, where=origin, done=True)
    sent.connection_lost = True
    if not isinstance(error, NothingWritten):
        sent.bytes_written += 1  # how many is not known, but some may have gone
    assert isinstance(error, OSError), "I/O errors are"
    return WriteError(
        f"{origin}: sending failed after {sent.bytes_written} bytes: {error.strerror or error}",
        may_have_been_processed=sent.bytes_written > 0,
    )


class Upload:
    """One body on its way. `head` is the final header that came before its end."""

    __slots__ = ("_clocks", "_exchange", "_kept", "_lease", "_listens", "_request", "_sent", "head")

    def __init__(self, request: Request, lease: Lease, exchange: Exchange, clocks: Clocks, sent: Sent) -> None:
        body = request.body
        in_memory = body.length is not None and not body.is_file and not body.is_async and body.rewindable
        self._request = request
        self._lease = lease
        self._exchange = exchange
        self._clocks = clocks
        self._sent = sent
        self._listens = not in_memory or (body.length or 0) > _ONE_WRITE
        self._kept = 0
        self.head: Head | None = None

    async def run(self, data: bytes) -> bool:
        """Send `data`, the header if that is still to go, and the body. Report whether all of it was sent;
        if not, `head` is why.
        """
        chunks = self._sent.chunks = _Chunks(self._request, self._lease)
        try:
            if data and self._listens:
                # The server may answer before the body exists (Go WRITE-07).
                await write(data, self._lease, self._clocks, self._sent)
                data = b""
            error = None if await self._send_all(data, chunks) else self._stopped()
        except WriteError as failure:
            if self.head is None:
                self.head = await answer_after_write_error(self._lease, self._exchange, self._sent)
            if self.head is None:
                raise
            error = failure
        if error is not None and self._lease.hooks is not None:
            self._lease.hooks.tell("wrote_request", error)
        await chunks.close()
        return error is None

    def _stopped(self) -> WriteError:
        status = self.head.status if self.head is not None else 0
        return WriteError(
            f"{self._lease.origin}: answered with {status} before the request body was sent to its end; "
            f"{self._sent.bytes_written} bytes of the request were"
        )

    async def _send_all(self, data: bytes, chunks: _Chunks) -> bool:
        request = self._request
        declared = None if request.chunked else request.body.length
        total = 0
        while chunk := await chunks.next():
            total += len(chunk)
            if declared is not None and total > declared:
                raise LocalProtocolError(f"the body is longer than the Content-Length of {declared} bytes")
            piece = wire.chunk(chunk) if request.chunked else chunk
            if not await self._push(data + piece if data else piece):
                return False
            data = b""
            self._lease.moved_at = self._lease.conn.runtime.now()
        if declared is not None and total < declared:
            raise LocalProtocolError(f"the body ended after {total} of the {declared} bytes of its Content-Length")
        if request.chunked:
            data += wire.last_chunk(request)
        return not (data or self._listens) or await self._push(data)

    async def _push(self, data: bytes) -> bool:
        """Send `data` until the kernel has it; report whether to go on. With ``b""`` wait for what was taken."""
        lease, clocks, sent = self._lease, self._clocks, self._sent
        view = memoryview(data)
        while self._listens:
            try:
                taken, answered = await lease.conn.stream.send_until_answered(
                    view, clocks.settings.write.seconds, clocks.deadline
                )
            except (Expired, OSError) as error:
                raise _write_failure(error, lease, clocks, sent) from error
            sent.bytes_written += taken
            view = view[taken:]
            if not answered:
                return True
            if not await self._hear():
                return False
        await write(view, lease, clocks, sent)
        return True

    async def _hear(self) -> bool:
        """Receive what is there; report whether to go on sending."""
        if self.head is None:
            self.head = await hear(self._lease, self._exchange, self._clocks, self._sent)
            return self.head is None or self.head.status < 300
        try:
            data = await self._lease.conn.stream.receive(self._clocks.deadline)
        except (Expired, OSError):
            return False  # reading the body meets it again, and says so
        if data:
            self._exchange.feed(data)
            self._kept += len(data)
            self._listens = self._kept < _MOST_KEPT
        return bool(data)


class _Chunks:
    """The caller's body, piece by piece; files are read where they do not hold up a loop."""

    __slots__ = ("_async", "_body", "_sync", "_threaded")

    def __init__(self, request: Request, lease: Lease) -> None:
        self._body = request.body
        self._async: AsyncChunkIterator | None = None
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
        if not self._body.rewindable:
            await self._body.aclose()
        elif self._async is not None:
            await self._async.aclose()
        elif (close := getattr(self._sync, "close", None)) is not None:  # not of files: they are the caller's
            close()
