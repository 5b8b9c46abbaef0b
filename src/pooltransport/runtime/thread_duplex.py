"""One socket, two threads: one reads while another writes, after an upgrade.

A socket's timeout is one for both directions, and while it is being changed the other thread's call may find the
descriptor non-blocking and no timeout to wait for. And one TLS object serves no two threads at once. So each call is
non-blocking, with TLS under a lock, and the waits are outside of it.
"""

from __future__ import annotations

import _thread
import select
import ssl
import time
from typing import TYPE_CHECKING

from .protocols import Data, Expired
from .sockets import READ_SIZE, stalls_at

if TYPE_CHECKING:
    import socket


class ThreadDuplex:
    """The two directions of `sock`, which is made non-blocking for good."""

    __slots__ = ("_guard", "_sock")

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(0.0)
        self._sock = sock
        self._guard = _thread.allocate_lock()

    def receive(self, at: float | None) -> bytes:
        """Return some bytes, ``b""`` at the end; raise `Expired` at `at`."""
        while True:
            try:
                with self._guard:
                    return self._sock.recv(READ_SIZE)
            except (BlockingIOError, ssl.SSLWantReadError):
                self._wait(select.POLLIN, at)
            except ssl.SSLWantWriteError:
                self._wait(select.POLLOUT, at)

    def send(self, data: Data, stall: float | None, at: float | None) -> None:
        """Give all of `data` to the kernel; raise `Expired` at `at`, or after `stall` seconds without progress."""
        view = memoryview(data)
        until = stalls_at(stall, at)
        while view:
            try:
                with self._guard:
                    sent = self._sock.send(view)
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._wait(select.POLLOUT, until)
            except ssl.SSLWantReadError:
                self._wait(select.POLLIN, until)
            else:
                view = view[sent:]
                until = stalls_at(stall, at)

    def _wait(self, events: int, at: float | None) -> None:
        left = None if at is None else at - time.monotonic()
        if left is not None and left <= 0:
            raise Expired
        poller = select.poll()
        poller.register(self._sock.fileno(), events)
        poller.poll(None if left is None else left * 1000)
