"""A server on loopback for the demo: it misbehaves on request."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


class _Handler(BaseHTTPRequestHandler):
    """`/hello`, `/bytes/N`, and `/drip`, which sends one byte every tenth of a second."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def do_GET(self) -> None:
        self.server.barrier_wait()
        if self.path == "/drip":
            self._drip()
            return
        size = int(self.path.rpartition("/")[2]) if self.path.startswith("/bytes/") else 5
        self._send(b"hello" if size == 5 else b"x" * size)

    def _send(self, body: bytes) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        try:
            self.wfile.write(head + body)
        except OSError:
            self.close_connection = True

    def _drip(self) -> None:
        try:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            while not self.server.stopping.wait(0.1):
                self.wfile.write(b"x")
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.stopping = threading.Event()
        self.accepted = 0
        self._barrier: threading.Barrier | None = None

    def barrier_wait(self) -> None:
        """Hold the answer until as many requests are here as `together` said."""
        barrier = self._barrier
        if barrier is not None:
            barrier.wait(5.0)

    def together(self, n: int) -> None:
        """Answer only when `n` requests are there; 0 for at once."""
        self._barrier = threading.Barrier(n) if n else None

    def process_request(self, request: object, client_address: object) -> None:
        self.accepted += 1
        super().process_request(request, client_address)  # type: ignore[arg-type]

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that hang up are what this is about."""


class DemoServer:
    """The server, in a thread."""

    def __init__(self) -> None:
        self._server = _Server()
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def accepted(self) -> int:
        """Connections accepted so far."""
        return self._server.accepted

    def together(self, n: int) -> None:
        """Answer only when `n` requests are there; 0 for at once."""
        self._server.together(n)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._server.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
