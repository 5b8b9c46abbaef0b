"""What is left of an exchange after 101 (Switching Protocols) or a 2xx to CONNECT: a raw stream, both ways.

The connection keeps its slot until it is closed (contract 1.1; Go lets it leave the count), is never pooled, and
no clock runs: a WebSocket may be silent for hours. What the caller passes as a timeout bounds one call. Dropped
unclosed it is a leak as any other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pooltransport.errors import ReadError, ReadTimeout, StreamConsumed, TransportTimeout, WriteError, WriteTimeout
from pooltransport.leaks import Guard
from pooltransport.runtime.protocols import Expired
from pooltransport.stats import CloseReason
from pooltransport.trace import BodyClosedInfo

from .body import State, text_of

if TYPE_CHECKING:
    from pooltransport.core.http1.codec import RawHeaders
    from pooltransport.lease import Lease

    from .engine import Engine


class Upgraded:
    """The raw stream. To a response it is a body like any other; `receive`, `send` and `end_writing` are for its
    `stream`. `first` is what came behind the header.
    """

    __slots__ = ("_engine", "_error", "_first", "_guard", "_lease", "state")

    trailers: RawHeaders = []  # noqa: RUF012 - there are none, ever
    max_body_bytes: int | None = None
    max_decoded_bytes: int | None = None
    drain_limit = 0  # what is read for an error's sake: an answer that upgrades is none
    codings: tuple[bytes, ...] = ()

    def __init__(self, engine: Engine, lease: Lease, first: bytes) -> None:
        self._engine = engine
        self._lease = lease
        self._first = first
        self._error: Exception | None = None
        self.state = State.OPEN
        lease.is_stream = True  # it may be silent for hours
        engine.ledger.note(engine.ledger.pool.set_upgraded, lease.conn)
        lease.conn.stream.go_duplex(half_open=lease.conn.stream.tls is None)
        self._guard: Guard | None = Guard(engine.ledger.abandon, lease)

    def hold_long(self, declared: bool) -> None:
        """It is, whatever is said: another protocol may be silent for hours."""

    def take_whole(self) -> bytes | None:
        """It has no length."""

    async def read_some(self) -> bytes:
        """Return the next bytes; at the end of the stream, which closes it, ``b""``."""
        if self.state is State.COMPLETE:
            return b""
        data = await self.receive(65_536, None)
        if not data:
            self._end(CloseReason.UPGRADED, State.COMPLETE)
        return data

    async def receive(self, most: int, timeout: float | None) -> bytes:
        """Return `most` bytes or fewer, ``b""`` once the peer has ended its direction."""
        self._check_open()
        data = self._first
        if not data:
            at = None if timeout is None else self._engine.now() + timeout
            try:
                data = await self._lease.conn.stream.receive(at)
            except Expired:
                raise self._late(ReadTimeout, "nothing came", timeout) from None
            except OSError as error:
                raise self._fail(ReadError(f"{self._lease.origin}: receiving failed: {text_of(error)}")) from error
            except BaseException:
                self._end(CloseReason.CANCELLED, State.FAILED)
                raise
        data, self._first = data[:most], data[most:]
        self._lease.bytes_read += len(data)
        return data

    async def send(self, data: bytes, timeout: float | None) -> None:
        """Send all of `data`."""
        self._check_open()
        at = None if timeout is None else self._engine.now() + timeout
        try:
            await self._lease.conn.stream.send(data, None, at)
        except Expired:
            late = self._late(WriteTimeout, "not all of it was sent", timeout)
            raise self._fail(late) from None
        except OSError as error:
            raise self._fail(WriteError(f"{self._lease.origin}: sending failed: {text_of(error)}")) from error
        except BaseException:
            self._end(CloseReason.CANCELLED, State.FAILED)
            raise
        self._lease.bytes_sent += len(data)

    def end_writing(self) -> None:
        """End our direction; the peer's may go on (Go UPG-04)."""
        self._check_open()
        self._lease.conn.stream.end_writing()

    async def close(self, *, wait: bool = False) -> None:  # noqa: ARG002 - a body's signature
        """Close it, and let the slot go."""
        if self.state is State.OPEN:
            self._end(CloseReason.UPGRADED, State.CLOSED)

    def _check_open(self) -> None:
        self._engine.ledger.check_process()
        if self._error is not None:
            raise self._error
        if self.state is not State.OPEN:
            raise StreamConsumed("the stream was closed before")

    def _late(self, kind: type[TransportTimeout], what: str, timeout: float | None) -> TransportTimeout:
        seconds = timeout or 0.0
        text = f"{self._lease.origin}: {what} within {seconds:g} s (timeout), phase body"
        return kind(text, phase="body", setting="timeout", seconds=seconds)

    def _fail(self, error: Exception) -> Exception:
        if self.state is State.CLOSED:
            return StreamConsumed("the stream was closed while it was used")
        reason = CloseReason.READ_ERROR if isinstance(error, ReadError) else CloseReason.WRITE_ERROR
        self._end(reason, State.FAILED)
        explained = self._engine.explain(error, self._lease.conn)
        self._error = self._error or explained
        return explained

    def _end(self, reason: CloseReason, state: State) -> None:
        guard, self._guard = self._guard, None
        if guard is None:
            return  # it has ended: the other direction broke, or somebody closed it
        guard.disarm()
        self.state = state
        self._engine.ledger.discard(self._lease, reason, answered=True)
        hooks = self._lease.hooks
        if hooks is not None:
            complete = state is State.COMPLETE
            hooks.tell("body_closed", BodyClosedInfo(self._lease.bytes_read, None, complete, self._lease.bytes_sent))
