"""The byte stream of the blocking leaf: a socket, plain or TLS, that any thread may abort.

Closing a socket that another thread is reading does not wake that thread, and the kernel may give
the same descriptor number to the next connection, whose bytes the reader would then get (contract
3.4). So `abort` marks the stream and shuts the socket down, and the descriptor is closed by whoever
leaves I/O last. `_inside` counts who is in; list operations are atomic and re-entrant, so that a
finalizer may abort.
"""

from __future__ import annotations

import _thread
import errno
import os
import select
import socket
import ssl
import time
from typing import TYPE_CHECKING

from pooltransport.stats import CloseReason

from .protocols import Address, Data, Expired, NothingWritten
from .sockets import ONE_RECORD, READ_SIZE, Probe, names, stalls_at, tls_info, unsolicited
from .thread_duplex import ThreadDuplex
from .tls import note_shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from pooltransport.trace import TLSInfo

_monotonic = time.monotonic


class ThreadStream:
    """A blocking socket, plain or TLS."""

    __slots__ = (
        "_aborted",
        "_closed",
        "_closer",
        "_duplex",
        "_early",
        "_inside",
        "_on_closed",
        "_probe",
        "_sock",
        "_timeout",
        "cut_off",
        "local_addr",
        "on_idle_event",
        "remote_addr",
        "tls",
    )

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._inside: list[None] = []
        self._aborted = False
        self._closer = _thread.allocate_lock()
        self._closed = False
        # A list: a dial that is aborted as it ends is aborted by two, and both must hear of it.
        self._on_closed: list[Callable[[], None]] = []
        self._timeout: float | None = -1.0
        self._duplex: ThreadDuplex | None = None
        self._early: bytes | None = None  # received while sending, by `send_until_answered`
        self._probe = Probe(sock)
        self.remote_addr = self.local_addr = ""
        self.tls: TLSInfo | None = None
        self.cut_off = False
        self.on_idle_event: Callable[[CloseReason], None] | None = None

    async def connect(self, address: Address, at: float | None) -> None:
        self._enter()
        try:
            self._set_timeout(at)
            self._sock.connect(address.sockaddr)
            self.remote_addr, self.local_addr = names(self._sock)
            self.remote_addr = self.remote_addr or address.text
        except TimeoutError as error:
            if error.errno is None:
                raise Expired from None
            raise
        finally:
            self._leave()

    async def open(self) -> None:
        """Do nothing: a connected socket is ready."""

    async def start_tls(self, context: ssl.SSLContext, server_hostname: str, at: float | None) -> None:
        self._enter()
        try:
            self._set_timeout(at)
            wrapped = context.wrap_socket(
                self._sock,
                server_hostname=server_hostname,
                do_handshake_on_connect=False,
                suppress_ragged_eofs=False,  # see `cut_off`
            )
            # Published before the look at `_aborted`: an abort that shut down the old object has set it.
            self._sock = wrapped
            if self._aborted:
                raise OSError(errno.ECONNABORTED, "the connection was aborted")
            self._shake_hands(wrapped, at)
            self.tls = tls_info(wrapped, server_hostname)
        except TimeoutError as error:
            if error.errno is None:
                raise Expired from None
            raise
        finally:
            self._leave()

    def _shake_hands(self, sock: ssl.SSLSocket, at: float | None) -> None:
        """Handshake without blocking inside of it: a truststore context is locked while a handshake of
        its is under way, and one dead server would hold up all others.
        """
        self._timeout = 0.0
        sock.settimeout(0.0)
        while True:
            try:
                sock.do_handshake()
            except ssl.SSLWantReadError:
                self._probe.wait(at)
            except ssl.SSLWantWriteError:
                self._probe.wait(at, writable=True)
            except ssl.SSLError as error:
                note_shown(error, sock)
                raise
            else:
                return

    async def send(self, data: Data, stall: float | None, at: float | None) -> None:
        self._enter_to_write()
        whole = len(data)
        try:
            if self._duplex is not None:
                self._duplex.send(data, stall, at)
                return
            while data:
                until = stalls_at(stall, at)
                self._set_timeout(until)
                try:
                    sent = self._sock.send(data)
                except TimeoutError as error:
                    if error.errno is not None:
                        raise
                    if until is None or _monotonic() < until:
                        continue
                    raise Expired from None
                except OSError as error:
                    if len(data) == whole <= ONE_RECORD:
                        raise NothingWritten(error.errno, error.strerror or str(error)) from error
                    raise
                if sent == len(data):
                    return
                data = memoryview(data)[sent:]
        finally:
            self._leave()

    async def send_until_answered(self, data: Data, stall: float | None, at: float | None) -> tuple[int, bool]:
        self._enter_to_write()
        view = memoryview(data)
        try:
            self._timeout = 0.0
            self._sock.settimeout(0.0)
            until = stalls_at(stall, at)
            while not (answered := self._has_answer()) and view:
                try:
                    view = view[self._sock.send(view) :]
                except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                    self._wait_both_ways(until)
                except OSError as error:
                    if len(view) == len(data) <= ONE_RECORD:
                        raise NothingWritten(error.errno, error.strerror or str(error)) from error
                    raise
                else:
                    until = stalls_at(stall, at)
            return len(data) - len(view), answered
        finally:
            self._leave()

    def _has_answer(self) -> bool:
        """Report whether `receive` has something at once. With TLS only a read can tell a session ticket
        from the answer; what it gives is kept.
        """
        if self._early is not None:
            return True
        sock = self._sock
        if not isinstance(sock, ssl.SSLSocket):
            return bool(self._probe.events())
        if not self._probe.events() and not sock.pending():
            return False
        try:
            self._early = sock.recv(READ_SIZE)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        return True

    def _wait_both_ways(self, until: float | None) -> None:
        """Wait until the socket takes or has bytes."""
        if self._aborted:
            raise OSError(errno.ECONNABORTED, "the connection was aborted")
        left = None if until is None else until - _monotonic()
        if left is not None and left <= 0:
            raise Expired
        poller = select.poll()
        poller.register(self._sock.fileno(), select.POLLIN | select.POLLOUT)
        poller.poll(None if left is None else left * 1000)

    async def receive(self, at: float | None) -> bytes:
        self._enter()
        try:
            if self._early is not None:
                data, self._early = self._early, None
                return data
            while True:
                try:
                    data = self._recv(at)
                except TimeoutError as error:
                    if error.errno is not None:
                        raise
                    if at is None or _monotonic() < at:
                        continue
                    raise Expired from None
                except ssl.SSLEOFError:
                    data, self.cut_off = b"", True
                if not data and self._aborted:
                    raise OSError(errno.ECONNABORTED, "the connection was aborted")
                return data
        finally:
            self._leave()

    def _recv(self, at: float | None) -> bytes:
        if self._duplex is not None:
            return self._duplex.receive(at)
        self._set_timeout(at)
        return self._sock.recv(READ_SIZE)

    def go_duplex(self, *, half_open: bool) -> None:  # noqa: ARG002 - a socket is that by itself
        self._duplex = ThreadDuplex(self._sock)

    def end_writing(self) -> None:
        self._enter_to_write()
        try:
            if self.tls is not None:
                raise OSError(errno.EOPNOTSUPP, "a TLS connection ends in both directions at once")
            self._sock.shutdown(socket.SHUT_WR)
        finally:
            self._leave()

    def receive_nowait(self) -> bytes | None:
        return None

    def surplus(self) -> bool:
        return bool(self._early) or (isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0)

    def check(self) -> CloseReason | None:
        try:
            self._enter()
        except OSError:
            return CloseReason.BAD_STATE
        try:
            if not isinstance(self._sock, ssl.SSLSocket):
                return self._probe.check()
            # A session ticket makes a healthy TLS 1.3 connection readable, so one read must decide
            # (contract 3.5): "want read" is healthy, a byte is unsolicited, an end is an end.
            data = self.read_ready()
            return None if data is None else unsolicited(data[:16])
        finally:
            self._leave()

    def read_ready(self) -> bytes | None:
        try:
            self._enter()
        except OSError:
            return b""
        try:
            if self._early is not None:
                data, self._early = self._early, None
                return data
            sock = self._sock
            if not (isinstance(sock, ssl.SSLSocket) and sock.pending()) and not self._probe.events():
                return None
            self._timeout = 0.0
            sock.settimeout(0.0)
            return sock.recv(READ_SIZE)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        except OSError:
            return b""
        finally:
            self._leave()

    def hung_up(self) -> bool:
        try:
            self._enter()
        except OSError:
            return True
        try:
            return self._probe.gone()
        finally:
            self._leave()

    def abort(self, on_closed: Callable[[], None]) -> None:
        self._on_closed.append(on_closed)
        self._inside.append(None)  # holds the descriptor open while it is shut down
        self._aborted = True
        try:
            if len(self._inside) > 1:
                # The plain method: SSLSocket's would forget its TLS state under the reader, who
                # would then take ciphertext for text.
                socket.socket.shutdown(self._sock, socket.SHUT_RDWR)
        except OSError:
            pass  # not connected any more: nobody can be blocked on it
        finally:
            self._leave()

    def drop(self) -> None:
        self._aborted = True
        if self._closer.acquire(blocking=False):
            fd = self._sock.detach()
            if fd >= 0:
                os.close(fd)
            self._closed = True
            self._tell_closed()

    def _enter(self) -> None:
        self._inside.append(None)
        if self._aborted:
            self._leave()
            raise OSError(errno.ECONNABORTED, "the connection was aborted")

    def _enter_to_write(self) -> None:
        try:
            self._enter()
        except OSError as error:
            raise NothingWritten(error.errno, error.strerror) from error

    def _leave(self) -> None:
        self._inside.pop()
        if self._aborted and not self._inside and self._closer.acquire(blocking=False):
            self._sock.close()
            self._closed = True
        if self._closed:
            self._tell_closed()

    def _tell_closed(self) -> None:
        while self._on_closed:
            try:
                tell = self._on_closed.pop()
            except IndexError:
                return  # told by another thread
            tell()

    def _set_timeout(self, at: float | None) -> None:
        """Set the socket's timeout unless it is right to a few milliseconds: most calls on a warm
        connection ask for the same one, and each change is a system call.
        """
        if at is None:
            if self._timeout is not None:
                self._timeout = None
                self._sock.settimeout(None)
            return
        left = at - _monotonic()
        if left <= 0:
            raise Expired
        current = self._timeout
        if current is None or not left - 0.002 <= current <= left + 0.002:
            self._timeout = left
            self._sock.settimeout(left)
