"""The blocking leaf: every ``async def`` here blocks and never suspends.

Closing a socket that another thread is reading does not wake that thread, and the kernel may give
the same descriptor number to the next connection, whose bytes the reader would then get (contract
3.4). So `abort` marks the stream and shuts the socket down, and the descriptor is closed by whoever
leaves I/O last. `_inside` counts who is in; list operations are atomic and re-entrant, so that a
finalizer may abort. `threading.Event`, `Condition` and `Queue` are not, and have no place here.
"""

from __future__ import annotations

import _thread
import contextvars
import errno
import os
import socket
import ssl
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from pooltransport.stats import CloseReason

from . import workers
from .protocols import Address, Expired, NothingWritten, SocketOptions
from .sockets import ONE_RECORD, READ_SIZE, Probe, make_socket, names, tls_info, unsolicited

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from pooltransport.trace import TLSInfo

_monotonic = time.monotonic


class ThreadLatch:
    """A raw lock as a one-shot latch."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = _thread.allocate_lock()
        self._lock.acquire()

    def set(self) -> None:
        try:
            self._lock.release()
        except RuntimeError:
            return  # set before

    async def wait(self, at: float | None) -> bool:
        if at is None:
            return self._lock.acquire()
        return self._lock.acquire(timeout=max(at - _monotonic(), 0.0))


class ThreadTask:
    """A job on a worker. Cancelling is done by aborting what it waits for."""

    __slots__ = ()

    def cancel(self) -> None:
        """Do nothing: see the class."""


class ThreadStream:
    """A blocking socket, plain or TLS."""

    __slots__ = (
        "_aborted",
        "_closed",
        "_closer",
        "_inside",
        "_on_closed",
        "_probe",
        "_sock",
        "_timeout",
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
        self._probe = Probe(sock)
        self.remote_addr = self.local_addr = ""
        self.tls: TLSInfo | None = None
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
            wrapped = context.wrap_socket(self._sock, server_hostname=server_hostname, do_handshake_on_connect=False)
            # Published before the look at `_aborted`: an abort that shut down the old object has set it.
            self._sock = wrapped
            if self._aborted:
                raise OSError(errno.ECONNABORTED, "the connection was aborted")
            wrapped.do_handshake()
            self.tls = tls_info(wrapped, server_hostname)
        except TimeoutError as error:
            if error.errno is None:
                raise Expired from None
            raise
        finally:
            self._leave()

    async def send(self, data: bytes, stall: float | None, at: float | None) -> None:
        try:
            self._enter()
        except OSError as error:
            raise NothingWritten(error.errno, error.strerror) from error
        whole = len(data)
        try:
            while True:
                until = at if stall is None else _sooner(_monotonic() + stall, at)
                self._set_timeout(until)
                try:
                    sent = self._sock.send(data)
                except TimeoutError as error:
                    if error.errno is not None:
                        raise
                    if until is not None and _monotonic() < until:
                        continue
                    raise Expired from None
                except OSError as error:
                    if len(data) == whole <= ONE_RECORD:
                        raise NothingWritten(error.errno, error.strerror or str(error)) from error
                    raise
                if sent == len(data):
                    return
                data = memoryview(data)[sent:]  # type: ignore[assignment]
        finally:
            self._leave()

    async def receive(self, at: float | None) -> bytes:
        self._enter()
        try:
            while True:
                self._set_timeout(at)
                try:
                    data = self._sock.recv(READ_SIZE)
                except TimeoutError as error:
                    if error.errno is not None:
                        raise
                    if at is not None and _monotonic() < at:
                        continue
                    raise Expired from None
                if not data and self._aborted:
                    raise OSError(errno.ECONNABORTED, "the connection was aborted")
                return data
        finally:
            self._leave()

    def receive_nowait(self) -> bytes | None:
        return None

    def surplus(self) -> bool:
        return isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0

    def check(self) -> CloseReason | None:
        try:
            self._enter()
        except OSError:
            return CloseReason.BAD_STATE
        try:
            if isinstance(self._sock, ssl.SSLSocket):
                return self._check_tls(self._sock)
            return self._probe.check()
        finally:
            self._leave()

    def _check_tls(self, sock: ssl.SSLSocket) -> CloseReason | None:
        """A session ticket makes a healthy TLS 1.3 connection readable, so one read must decide
        (contract 3.5): "want read" is healthy, a byte is unsolicited, an end is an end.
        """
        if sock.pending():
            return CloseReason.UNSOLICITED_DATA
        if not self._probe.events():
            return None
        self._timeout = 0.0
        sock.settimeout(0.0)
        try:
            data = sock.recv(1)
        except ssl.SSLWantReadError:
            return None
        except OSError:
            return CloseReason.SERVER_CLOSED_IDLE
        return unsolicited(data)

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


def _sooner(a: float, b: float | None) -> float:
    return a if b is None or a < b else b


class ThreadRuntime:
    """The runtime of every sync transport of the process; it has no state."""

    name = "threads"
    polls_idle = True

    now = staticmethod(_monotonic)
    watch = staticmethod(workers.watch)

    def new_latch(self) -> ThreadLatch:
        return ThreadLatch()

    def spawn(
        self,
        context: contextvars.Context | None,
        fn: Callable[..., Coroutine[Any, Any, None]],
        *args: object,
    ) -> ThreadTask:
        job = partial((context or contextvars.Context()).run, _drive, fn, args)
        try:
            workers.submit(job)
        except RuntimeError:
            job()  # no thread can start: dial in the caller's own
        return ThreadTask()

    def post(self, fn: Callable[..., object], *args: object) -> bool:
        fn(*args)
        return True

    async def connect(
        self,
        address: Address,
        options: SocketOptions,
        at: float | None,
        register: Callable[[ThreadStream], None],
    ) -> ThreadStream:
        stream = ThreadStream(make_socket(address, options))
        try:
            register(stream)
            await stream.connect(address, at)
        except BaseException:
            stream.abort(_nothing)
            raise
        return stream

    async def adopt(self, sock: Any) -> ThreadStream:
        stream = ThreadStream(sock)
        stream.remote_addr, stream.local_addr = names(sock)
        return stream

    async def run_blocking(self, fn: Callable[[], Any], *, abandon: bool = False) -> Any:  # noqa: ARG002 - a worker's
        return fn()

    async def detach(self, fn: Callable[[], Coroutine[Any, Any, None]]) -> None:
        _drive(fn, ())

    async def settle(self) -> None:
        """Sockets are closed at once, or by who is inside; threads of ours are to go as well."""
        workers.look_now()

    def is_here(self) -> bool:
        return True

    def is_alive(self) -> bool:
        return True

    def on_shutdown(self, fn: Callable[[], None]) -> None:
        """Do nothing: threads have no loop that ends."""


def _nothing() -> None:
    return None


def _drive(fn: Callable[..., Coroutine[Any, Any, None]], args: tuple[object, ...]) -> None:
    coro = fn(*args)
    try:
        coro.send(None)
    except StopIteration:
        return
    finally:
        coro.close()
