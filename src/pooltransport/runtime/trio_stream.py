"""The byte stream of the trio leaf: a non-blocking socket that is ours, with TLS over memory.

The socket is ours, so that an idle one can be asked about and a dead loop's one can be closed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import trio

from .protocols import Address, Data, Expired, NothingWritten
from .sockets import ONE_RECORD, READ_SIZE, Probe, names, stalls_at, unsolicited
from .tls import TLSPump

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pooltransport.stats import CloseReason
    from pooltransport.trace import TLSInfo

    from .anyio import TrioRuntime

_monotonic = time.monotonic
# After so many calls that had their data at once, others get a turn.
_TURNS = 16


class TrioStream:
    """A non-blocking socket, with TLS over memory when asked for."""

    __slots__ = (
        "_aborted",
        "_early",
        "_pump",
        "_runtime",
        "_probe",
        "_sock",
        "_turns",
        "_unsent",
        "local_addr",
        "on_idle_event",
        "remote_addr",
        "tls",
    )

    def __init__(self, runtime: TrioRuntime, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._runtime = runtime
        self._sock = sock
        self._probe = Probe(sock)
        self._pump: TLSPump | None = None
        self._aborted = False
        self._turns = 0
        self._early: bytes | None = None  # received while sending, by `send_until_answered`
        self._unsent = b""  # encrypted, and to go out before anything else
        self.remote_addr = self.local_addr = ""
        self.tls: TLSInfo | None = None
        self.on_idle_event: Callable[[CloseReason], None] | None = None

    async def connect(self, address: Address, at: float | None) -> None:
        code = self._sock.connect_ex(address.sockaddr)
        if code == errno.EINPROGRESS:
            await self._ready(anyio.wait_writable, at)
            code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        self.remote_addr, self.local_addr = names(self._sock)
        self.remote_addr = self.remote_addr or address.text

    async def open(self) -> None:
        """Do nothing: a connected socket is ready."""

    async def start_tls(self, context: ssl.SSLContext, server_hostname: str, at: float | None) -> None:
        pump = TLSPump(context, server_hostname)
        try:
            while not pump.handshake(server_hostname):
                await self._send_raw(pump.take(), None, at)
                pump.feed(await self._receive_raw(at))
        except ssl.SSLError:
            self._say(pump.take())  # the alert that says why not
            raise
        await self._send_raw(pump.take(), None, at)
        self._pump = pump
        self.tls = pump.info

    def _say(self, alert: bytes) -> None:
        try:
            self._socket().send(alert)
        except OSError:
            return  # the peer has gone: it needs no reason

    async def send(self, data: Data, stall: float | None, at: float | None) -> None:
        if self._pump is not None:
            if data:
                self._pump.write(data)
            data, self._unsent = self._unsent + self._pump.take(), b""
        await self._send_raw(data, stall, at)

    async def send_until_answered(self, data: Data, stall: float | None, at: float | None) -> tuple[int, bool]:
        view = memoryview(data)
        if self._pump is None:
            left = await self._send_or_hear(view, stall, at)
            return len(data) - len(left), self._has_answer()
        while True:
            self._unsent = bytes(await self._send_or_hear(memoryview(self._unsent), stall, at))
            if self._unsent or not view or self._has_answer():
                return len(data) - len(view), self._has_answer()
            # What is encrypted must go out: so it is one record at a time.
            self._pump.write(view[:ONE_RECORD])
            self._unsent += self._pump.take()
            view = view[ONE_RECORD:]

    async def _send_or_hear(self, view: memoryview, stall: float | None, at: float | None) -> memoryview:
        """Send on the wire until there is an answer; return what is left."""
        whole = len(view)
        await self._turn()
        while view and not self._has_answer():
            try:
                view = view[self._socket().send(view) :]
            except BlockingIOError:
                await self._ready_both_ways(stalls_at(stall, at))
            except OSError as error:
                if len(view) == whole <= ONE_RECORD:
                    raise NothingWritten(error.errno, error.strerror or str(error)) from error
                raise
        return view

    def _has_answer(self) -> bool:
        """Report whether `receive` has something at once; with TLS, what tells so is kept for it."""
        if self._early is not None:
            return True
        pump = self._pump
        if pump is None:
            return bool(self._probe.events())
        self._early = pump.read()
        while self._early is None and self._probe.events():
            try:
                pump.feed(self._socket().recv(READ_SIZE))
            except BlockingIOError:
                break
            self._early = pump.read()
        self._unsent += pump.take()  # a key update, for instance
        return self._early is not None

    async def _send_raw(self, data: Data, stall: float | None, at: float | None) -> None:
        view = memoryview(data)
        await self._turn()
        while view:
            try:
                view = view[self._socket().send(view) :]
            except BlockingIOError:
                pass
            except OSError as error:
                if len(view) == len(data) <= ONE_RECORD:
                    raise NothingWritten(error.errno, error.strerror or str(error)) from error
                raise
            else:
                continue
            await self._ready(anyio.wait_writable, stalls_at(stall, at))

    async def receive(self, at: float | None) -> bytes:
        pump = self._pump
        if self._early is not None:
            await self._turn()
            data, self._early = self._early, None
            return data
        if pump is None:
            return await self._receive_raw(at)
        while True:
            received = pump.read()
            if received is not None:
                return received
            pump.feed(await self._receive_raw(at))
            reply = pump.take()  # a key update, for instance
            if reply:
                await self._send_raw(reply, None, at)

    async def _receive_raw(self, at: float | None) -> bytes:
        await self._turn()
        while True:
            try:
                return self._socket().recv(READ_SIZE)
            except BlockingIOError:
                await self._ready(anyio.wait_readable, at)

    def go_duplex(self, *, half_open: bool) -> None:
        """Do nothing: each direction waits for itself."""

    def end_writing(self) -> None:
        if self.tls is not None:
            raise OSError(errno.EOPNOTSUPP, "a TLS connection ends in both directions at once")
        self._socket().shutdown(socket.SHUT_WR)

    def receive_nowait(self) -> bytes | None:
        return None

    @property
    def cut_off(self) -> bool:
        return self._pump is not None and self._pump.cut_off

    def surplus(self) -> bool:
        return bool(self._early)

    async def _turn(self) -> None:
        """Be a checkpoint often enough, without a trip through the scheduler for each call."""
        self._turns += 1
        if self._turns >= _TURNS:
            self._turns = 0
            await anyio.lowlevel.checkpoint()
        else:
            await anyio.lowlevel.checkpoint_if_cancelled()

    async def _ready(self, wait: Callable[[Any], Awaitable[None]], at: float | None) -> None:
        self._turns = 0
        try:
            if at is None:
                await wait(self._socket())
                return
            with anyio.move_on_after(max(at - _monotonic(), 0.0)) as scope:
                await wait(self._socket())
            if scope.cancelled_caught:
                raise Expired
        except (anyio.ClosedResourceError, anyio.BusyResourceError) as error:
            raise OSError(errno.ECONNABORTED, "the connection was aborted") from error

    async def _ready_both_ways(self, at: float | None) -> None:
        """Wait until the socket takes or has bytes."""
        self._turns = 0
        sock = self._socket()

        async def first(wait: Callable[[Any], Awaitable[None]]) -> None:
            with contextlib.suppress(anyio.ClosedResourceError):  # aborted: found out by the next call
                await wait(sock)
            group.cancel_scope.cancel()

        with anyio.move_on_after(None if at is None else max(at - _monotonic(), 0.0)) as limit:
            async with anyio.create_task_group() as group:
                group.start_soon(first, anyio.wait_writable)
                group.start_soon(first, anyio.wait_readable)
        if limit.cancelled_caught:
            raise Expired

    def _socket(self) -> socket.socket:
        if self._aborted:
            raise OSError(errno.ECONNABORTED, "the connection was aborted")
        return self._sock

    def check(self) -> CloseReason | None:
        """As on threads: with TLS a readable socket may be a session ticket; one read decides."""
        if self._aborted:
            return _closed_idle()
        if self._pump is None:
            return self._probe.check()
        data = self.read_ready()
        return None if data is None else unsolicited(data[:16])

    def read_ready(self) -> bytes | None:
        if self._aborted:
            return b""
        pump = self._pump
        data, self._early = self._early, None
        try:
            if data is None and pump is not None:
                data = pump.read()
            while data is None and self._probe.events():
                data = self._sock.recv(READ_SIZE)
                if pump is not None:
                    pump.feed(data)
                    data = pump.read()
        except BlockingIOError:
            return None
        except OSError:
            return b""
        return data

    def hung_up(self) -> bool:
        return not self._aborted and self._probe.gone()

    def abort(self, on_closed: Callable[[], None]) -> None:
        if self._runtime.is_here():
            self._abort_here(on_closed)
            return
        try:
            self._runtime.loop.run_sync_soon(self._abort_here, on_closed)
        except trio.RunFinishedError:
            self.drop()
            on_closed()

    def _abort_here(self, on_closed: Callable[[], None]) -> None:
        if not self._aborted:
            self._aborted = True
            if self._sock.fileno() >= 0:
                anyio.notify_closing(self._sock)
            self._sock.close()
        on_closed()

    def drop(self) -> None:
        self._aborted = True
        fd = self._sock.detach()
        if fd >= 0:
            os.close(fd)


def _closed_idle() -> CloseReason:
    return unsolicited(b"")
