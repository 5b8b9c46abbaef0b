"""The byte stream of the asyncio leaf: a `Protocol` of our own on the loop's transport, with flow control."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import time
from typing import TYPE_CHECKING

from pooltransport.stats import CloseReason

from .asyncio_tls import LoopTLS, handshake, until
from .protocols import Address, Data, Expired, NothingWritten
from .sockets import Probe, names, stalls_at, tls_info, unsolicited

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable

    from pooltransport.trace import TLSInfo

_monotonic = time.monotonic
_running_loop = asyncio._get_running_loop  # noqa: SLF001 - documented for "low-level" use; None outside
MOST_AT_ONCE = 262_144
_HIGH_WATER = 262_144  # reading pauses above it, and goes on below the next
_LOW_WATER = 65_536
_ONE_MOMENT = 0.05  # s, for what has come already and only waits for the loop
# One to ask the kernel, one to run the reader; uvloop takes one more. With TLS it may have been a session ticket.
_TURNS_TO_DELIVER = 3


class AsyncioStream(asyncio.BufferedProtocol):
    """A socket driven by the loop's transport, plain or TLS. `scratch` is what the loop receives into."""

    __slots__ = (
        "_aborted",
        "_buffered",
        "_chunks",
        "_ended",
        "_error",
        "_flushed",
        "_handed_over",
        "_hearing",
        "_loop",
        "_probe",
        "_read_at",
        "_reading_paused",
        "_scratch",
        "_sock",
        "_loop_tls",
        "_timer",
        "_timer_at",
        "_transport",
        "_unproven",
        "_waiter",
        "_writing_paused",
        "cut_off",
        "_half_open",
        "local_addr",
        "on_idle_event",
        "remote_addr",
        "tls",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, scratch: memoryview) -> None:
        self._loop = loop
        self._scratch = scratch
        self._sock = sock
        self._transport: asyncio.Transport | None = None
        self._probe = Probe(sock)
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._waiter: asyncio.Future[bool] | None = None
        self._flushed: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._loop_tls: LoopTLS | None = None
        self._read_at: float | None = None
        self._ended = self._aborted = self._reading_paused = self._writing_paused = False
        self._unproven = False  # with TLS: the server has yet to say anything in it
        self._hearing = False  # whoever waits for the flush also waits for something to receive
        self._handed_over = False  # the socket belongs to the loop's transport, made or being made
        self._error: BaseException | None = None
        self.remote_addr = self.local_addr = ""
        self.tls: TLSInfo | None = None
        self.cut_off = False
        self.on_idle_event: Callable[[CloseReason], None] | None = None
        self._half_open = False

    # -- making it ------------------------------------------------------------------------------

    async def connect(self, address: Address, at: float | None) -> None:
        await until(at, self._loop.sock_connect(self._sock, address.sockaddr))
        self.remote_addr, self.local_addr = names(self._sock)
        self.remote_addr = self.remote_addr or address.text

    async def open(self) -> None:
        self._handed_over = True
        await self._loop.create_connection(lambda: self, sock=self._sock)
        if self._transport is not None and not type(self._transport).__module__.startswith("uvloop"):
            # So that `send` returns after the flush. uvloop writes at the end of its turn, and would
            # cost every request another turn.
            self._transport.set_write_buffer_limits(0)

    async def start_tls(self, context: ssl.SSLContext, server_hostname: str, at: float | None) -> None:
        self._handed_over = True
        self._loop_tls = tls = await handshake(self._loop, self, self._sock, context, server_hostname, at)
        if tls.made is not None and self._transport is not None:
            self.tls = tls_info(tls.made, server_hostname)
            self._unproven = True

    # -- what the loop tells --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        if self._aborted:
            self._transport.abort()  # type: ignore[union-attr]

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the loop's signature
        return self._scratch

    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(self._scratch[:nbytes])
        self._unproven = False
        self._chunks.append(data)
        self._buffered += len(data)
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(True)
        elif self.on_idle_event is not None:
            self._tell_idle(unsolicited(data[:16]))
        elif self._hearing:
            self._wake_writer()
        elif self._buffered >= _HIGH_WATER and not self._reading_paused and self._transport is not None:
            self._reading_paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._note_cut_off()
        self._end(None)
        return self._half_open  # the loop closes the other direction too unless told otherwise

    def _note_cut_off(self) -> None:
        if self._loop_tls is not None and not self._ended:
            self.cut_off = self._loop_tls.is_cut_off()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._transport = None
        self._note_cut_off()  # uvloop tells of no end before, if TLS did not
        if exc is not None and self.tls is None and not self._aborted:
            self._salvage()
        self._end(exc)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake_writer()

    def _salvage(self) -> None:
        """Take what came before a failed write broke it, and the loop forgot to read: it may say why (a 413)."""
        with contextlib.suppress(OSError):
            while self._buffered < _HIGH_WATER and (data := self._sock.recv(_LOW_WATER)):
                self._chunks.append(data)
                self._buffered += len(data)

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._wake_writer()

    def _wake_writer(self) -> None:
        if self._flushed is not None and not self._flushed.done():
            self._flushed.set_result(None)

    def _end(self, error: BaseException | None) -> None:
        self._ended = True
        if error is not None and self._error is None:
            self._error = error
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(True)
        if self._hearing:
            self._wake_writer()
        self._tell_idle(CloseReason.SERVER_CLOSED_IDLE)

    def _tell_idle(self, reason: CloseReason) -> None:
        tell, self.on_idle_event = self.on_idle_event, None
        if tell is not None:
            tell(reason)

    # -- I/O ------------------------------------------------------------------------------------

    async def send(self, data: Data, stall: float | None, at: float | None) -> None:
        if self._unproven:
            await self._hear_refusal()
        transport = self._writable()
        transport.write(data)
        while self._writing_paused:
            await self._flush(transport, stall, at)
        if self._transport is None and self._error is not None:
            raise self._broken()

    async def _hear_refusal(self) -> None:
        """Let the loop read the alert by which the server refuses the handshake, if it has come: what is
        written now would be answered by a reset, and that would be all that is known.
        """
        if self._probe.events() and self._probe.tls_end_waits():
            self._unproven = False
            with contextlib.suppress(Expired, OSError):
                await self.receive(_monotonic() + _ONE_MOMENT)

    def _writable(self) -> asyncio.Transport:
        transport = self._transport
        if transport is None or (self._ended and not self._half_open) or transport.is_closing():
            error = self._broken()
            raise NothingWritten(error.errno, error.strerror or str(error)) from error
        return transport

    async def send_until_answered(self, data: Data, stall: float | None, at: float | None) -> tuple[int, bool]:
        view = memoryview(data)
        if self._unproven:
            await self._hear_refusal()
        self._hearing = True
        try:
            while True:
                answered = await self._has_answer()
                if answered or not (view or self._writing_paused):
                    return len(data) - len(view), answered
                transport = self._writable()
                if self._writing_paused:
                    await self._flush(transport, stall, at)
                else:
                    transport.write(view[:_LOW_WATER])
                    view = view[_LOW_WATER:]
        finally:
            self._hearing = False

    async def _has_answer(self) -> bool:
        """Report whether `receive` has something at once. Writing to a connection that the peer has reset
        would lose what came before, so the loop gets the turns that it takes to deliver that.
        """
        for _ in range(_TURNS_TO_DELIVER):
            if self._chunks or self._ended:
                return True
            if not self._probe.events():
                return False
            await asyncio.sleep(0)
        return bool(self._chunks) or self._ended

    async def _flush(self, transport: asyncio.Transport, stall: float | None, at: float | None) -> None:
        """Wait until the buffer is empty; `stall` seconds without any byte taken are too many."""
        before = transport.get_write_buffer_size()
        now = _monotonic()
        until = stalls_at(stall, at)
        self._flushed = self._loop.create_future()
        timer = None
        if until is not None:
            timer = self._loop.call_later(max(until - now, 0.0), self._wake_writer)
        try:
            await self._flushed
        finally:
            self._flushed = None
            if timer is not None:
                timer.cancel()
        if self._transport is None:
            raise self._broken()
        if not self._writing_paused or until is None or _monotonic() < until:
            return
        if transport.get_write_buffer_size() >= before or (at is not None and _monotonic() >= at):
            raise Expired

    async def receive(self, at: float | None) -> bytes:
        while not self._chunks:
            if self._ended:
                if self._error is not None or self._aborted:
                    raise self._broken()
                return b""
            self._waiter = waiter = self._loop.create_future()
            self._arm(at)
            try:
                if not await waiter:
                    raise Expired
            finally:
                self._waiter = None
        return self._take()

    def go_duplex(self, *, half_open: bool) -> None:
        self._half_open = half_open

    def end_writing(self) -> None:
        transport = self._writable()
        if not transport.can_write_eof():
            raise OSError(errno.EOPNOTSUPP, "a TLS connection ends in both directions at once")
        transport.write_eof()

    def receive_nowait(self) -> bytes | None:
        return self._take() if self._chunks else None

    def read_ready(self) -> bytes | None:
        if self._chunks:
            return self._take()
        transport = self._transport
        over = self._ended or transport is None or transport.is_closing() or self._probe.gone()
        return b"" if over else None

    def _take(self) -> bytes:
        data = self._chunks.pop(0)
        self._buffered -= len(data)
        if self._reading_paused and self._buffered <= _LOW_WATER and self._transport is not None:
            self._reading_paused = False
            self._transport.resume_reading()
        return data

    def _arm(self, at: float | None) -> None:
        """Make sure that the one timer fires at `at` or earlier; early firing only re-arms it."""
        self._read_at = at
        if at is None or (self._timer is not None and self._timer_at <= at):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_later(max(at - _monotonic(), 0.0), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        waiter = self._waiter
        if waiter is None or waiter.done() or self._read_at is None:
            return
        if _monotonic() >= self._read_at:
            waiter.set_result(False)
        else:
            self._arm(self._read_at)

    def surplus(self) -> bool:
        return bool(self._chunks)

    def check(self) -> CloseReason | None:
        """The loop tells of ends, but only when it gets its turn: code that held it up for a moment
        may find a connection that ended meanwhile. One poll closes that gap; with TLS a readable
        socket may be a session ticket, so only an end counts, the kernel's or TLS's.
        """
        if self._chunks:
            return unsolicited(self._chunks[0][:16])
        transport = self._transport
        if self._ended or transport is None or transport.is_closing():
            return CloseReason.SERVER_CLOSED_IDLE
        if self.tls is None:
            return self._probe.check()
        ended = self._probe.gone() or (self._probe.events() and self._probe.tls_end_waits())
        return CloseReason.SERVER_CLOSED_IDLE if ended else None

    def hung_up(self) -> bool:
        return False  # the loop tells

    # -- the end --------------------------------------------------------------------------------

    def abort(self, on_closed: Callable[[], None]) -> None:
        if _running_loop() is self._loop:
            self._abort_here(on_closed)
            return
        try:
            self._loop.call_soon_threadsafe(self._abort_here, on_closed)
        except RuntimeError:
            self.drop()
            on_closed()

    def _abort_here(self, on_closed: Callable[[], None]) -> None:
        self._aborted = True
        self.on_idle_event = None
        if self._transport is not None:
            # The socket is closed in the next turn, by a callback of the loop's; ours comes behind it.
            # Until then the slot is not free: another loop could dial in it at once.
            self._transport.abort()
            self._end(None)
            self._loop.call_soon(on_closed)
            return
        if not self._handed_over:
            self._sock.close()  # otherwise the loop closes it with the call that it ends
        on_closed()

    def drop(self) -> None:
        self._aborted = self._ended = True
        self.on_idle_event = None
        fd = self._sock.detach()
        if fd >= 0:
            os.close(fd)

    def _broken(self) -> OSError:
        if isinstance(self._error, OSError):
            return self._error
        if self._aborted:
            return OSError(errno.ECONNABORTED, "the connection was aborted")
        return BrokenPipeError(errno.EPIPE, "the peer closed the connection")
