"""A scripted HTTP/1.1 server on loopback, for tests: every byte it sends is the test's own choice.

Each accepted connection is given to ``handler(conn)`` in a thread of its own; when the handler returns,
the connection is closed. `tests.support.responders` has ready handlers. An error in a handler, other
than the client going away, is raised again by `ScriptedServer.stop`, so that no test passes over it.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import struct
import sys
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from typing import Self

    Handler = Callable[["ServerConn"], None]

TIMEOUT = 10.0  # nothing in a test waits longer than this
GONE = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR


class ServerRequest(NamedTuple):
    """One request as it was received."""

    method: str
    target: str
    headers: list[tuple[str, str]]  # names in lower case
    body: bytes
    conn: int  # number of its connection, from 1

    def header(self, name: str) -> str | None:
        """Return the values of `name`, joined as HTTP does, or None."""
        values = [value for key, value in self.headers if key == name.lower()]
        return ", ".join(values) if values else None


def on_a_loop() -> bool:
    """Report whether this thread runs an asyncio loop or trio."""
    trio = sys.modules.get("trio")
    if asyncio._get_running_loop() is not None or trio is None:
        return asyncio._get_running_loop() is not None
    try:
        trio.lowlevel.current_trio_token()
    except RuntimeError:
        return False
    return True


class ServerConn:
    """One accepted connection, as a handler sees it."""

    def __init__(self, server: ScriptedServer, sock: socket.socket, number: int) -> None:
        self.server = server
        self.sock = sock
        self.number = number
        self.requests = 0
        self.closed = False
        self.peer = sock.getpeername()
        self._buffer = b""

    # Reading.

    def read_request(self, *, send_continue: bool = True) -> ServerRequest | None:
        """Read a whole request; None when the client has ended the stream before one began."""
        head = self.read_head()
        if head is None:
            return None
        if send_continue and (head.header("expect") or "").lower() == "100-continue":
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        request = head._replace(body=self.read_body(head))
        self.server.note_request(request)
        return request

    def read_head(self) -> ServerRequest | None:
        """Read up to the empty line. A handler that stops here calls `server.note_request` itself."""
        while b"\r\n\r\n" not in self._buffer:
            if not self._fill():
                if self._buffer:
                    raise ConnectionResetError(f"the client ended inside a request head: {self._buffer!r}")
                return None
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _version = first.split(" ")
        pairs = [line.partition(":") for line in lines]
        self.requests += 1
        return ServerRequest(method, target, [(k.lower(), v.strip()) for k, _, v in pairs], b"", self.number)

    def read_body(self, head: ServerRequest) -> bytes:
        """Read the body that `head` announces."""
        if "chunked" in (head.header("transfer-encoding") or "").lower():
            return self._read_chunked()
        return self.read_exactly(int(head.header("content-length") or 0))

    def read_exactly(self, size: int) -> bytes:
        """Read `size` bytes."""
        while len(self._buffer) < size:
            if not self._fill():
                raise ConnectionResetError(f"the client ended after {len(self._buffer)} of {size} body bytes")
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def read_to_end(self) -> bytes:
        """Read until the client ends the stream; also how a handler waits for that."""
        while self._fill():
            pass
        data, self._buffer = self._buffer, b""
        return data

    def _read_chunked(self) -> bytes:
        pieces = []
        while size := int(self._read_line().partition(b";")[0], 16):
            pieces.append(self.read_exactly(size))
            self.read_exactly(2)
        while self._read_line():
            pass  # trailers
        return b"".join(pieces)

    def _read_line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            if not self._fill():
                raise ConnectionResetError("the client ended inside a chunked body")
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def _fill(self) -> bool:
        data = self.sock.recv(65536)
        self._buffer += data
        return bool(data)

    # Writing.

    def send(self, data: bytes) -> None:
        """Send all of `data`."""
        self.sock.sendall(data)

    def send_pieces(self, pieces: list[bytes], pause: float = 0.0) -> None:
        """Send each piece in a segment of its own, `pause` seconds apart."""
        for piece in pieces:
            self.send(piece)
            if pause and self.server.wait_stopping(pause):
                return

    def wait_for(self, event: threading.Event) -> None:
        """Wait for an event of the test; it is set by force when the server stops."""
        self.server.release_on_stop(event)
        event.wait()

    # Ending.

    def close(self) -> None:
        """End both directions in good order, and release the descriptor."""
        self.server.close_conn(self)

    def half_close(self) -> None:
        """Send FIN and go on reading."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Send RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def peer_is_gone(self) -> bool:
        """Report whether the client has closed, without reading. The server's lock must be held."""
        poll = select.poll()
        poll.register(self.sock, getattr(select, "POLLRDHUP", 0))
        return any(events & GONE for _, events in poll.poll(0))


class ScriptedServer:
    """The server; use it as a context manager, or get it from the fixture `server_factory`."""

    def __init__(
        self,
        handler: Handler,
        *,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        uds: str | None = None,
        backlog: int = 1024,
        bound: socket.socket | None = None,
    ) -> None:
        self.handler = handler
        self.tls = tls
        self.uds = uds
        self.host = host
        self.log: list[ServerRequest] = []
        self.errors: list[BaseException] = []  # of handlers
        self.handshake_errors: list[OSError] = []
        self.accepted = 0
        self.peak = 0  # most connections open at once
        self.stopping = threading.Event()
        self._changed = threading.Condition()
        self._conns: list[ServerConn] = []
        self._threads: list[threading.Thread] = []
        self._events: list[threading.Event] = []
        self._listener = self._listen(backlog, bound)
        self.port = 0 if uds else self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept_all, name="scripted-accept", daemon=True)
        self._acceptor.start()

    def _listen(self, backlog: int, bound: socket.socket | None) -> socket.socket:
        if bound is not None:
            listener = bound  # ours from now on
        elif self.uds:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(self.uds)
        else:
            listener = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET)
            listener.bind((self.host, 0))
        listener.listen(backlog)
        return listener

    # What tests ask.

    @property
    def url(self) -> str:
        """The server's root, without a slash at the end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"

    @property
    def open(self) -> int:
        """Connections open now. One whose client has closed does not count, even if nobody read that yet."""
        with self._changed:
            return self._count_open()

    @property
    def requests(self) -> int:
        """Requests received so far."""
        return len(self.log)

    def wait_until(self, condition: Callable[[], bool], what: str = "condition") -> None:
        """Wait until `condition` holds; it is looked at again whenever something happened here.

        Blocks. A body that may run on a loop asks ``await c.wait_until(lambda: server.requests == 1)`` instead.
        """
        if on_a_loop():
            raise RuntimeError(f"waiting for {what} here would stop the loop: use `await c.wait_until(...)`")
        deadline = time.monotonic() + TIMEOUT
        with self._changed:
            # The short timeout is for what the kernel does not tell us: a client closing.
            while not condition():
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{what} did not come true within {TIMEOUT} s: {self!r}")
                self._changed.wait(0.005)

    def wait_for_requests(self, count: int) -> None:
        """Wait until `count` requests were received."""
        self.wait_until(lambda: len(self.log) >= count, f"{count} requests")

    def wait_for_accepted(self, count: int) -> None:
        """Wait until `count` connections were accepted."""
        self.wait_until(lambda: self.accepted >= count, f"{count} connections accepted")

    def wait_for_open(self, count: int) -> None:
        """Wait until exactly `count` connections are open."""
        self.wait_until(lambda: self._count_open() == count, f"{count} connections open")

    def __repr__(self) -> str:
        return f"<ScriptedServer {self.url} accepted={self.accepted} open={len(self._conns)} requests={len(self.log)}>"

    # What connections ask.

    def note_request(self, request: ServerRequest) -> None:
        """Write down a request."""
        with self._changed:
            self.log.append(request)
            self._changed.notify_all()

    def release_on_stop(self, event: threading.Event) -> None:
        """Set `event` when the server stops, so that nobody waits for it in vain."""
        with self._changed:
            self._events.append(event)
        if self.stopping.is_set():
            event.set()

    def wait_stopping(self, seconds: float) -> bool:
        """Pause; report whether the server is stopping."""
        return self.stopping.wait(seconds)

    def close_conn(self, conn: ServerConn) -> None:
        """Close `conn`, once, under the lock: its descriptor may be looked at by `_count_open`."""
        with self._changed:
            if conn.closed:
                return
            conn.closed = True
            self._conns.remove(conn)
            conn.sock.close()
            self._changed.notify_all()

    def _count_open(self) -> int:
        return sum(not conn.peer_is_gone() for conn in self._conns)

    # Threads.

    def _accept_all(self) -> None:
        while not self.stopping.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return  # stopped
            try:
                if not self.uds:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                conn = ServerConn(self, sock, self.accepted + 1)
            except OSError:
                sock.close()  # reset before it was looked at
                continue
            with self._changed:
                self.accepted += 1
                self._conns.append(conn)
                self.peak = max(self.peak, self._count_open())
                thread = threading.Thread(target=self._run, args=(conn,), name=f"scripted-{conn.number}", daemon=True)
                self._threads.append(thread)
                thread.start()
                self._changed.notify_all()

    def _run(self, conn: ServerConn) -> None:
        try:
            if self.tls and not self._handshake(conn, self.tls):
                return
            self.handler(conn)
        except ConnectionError:
            pass  # the client went away: its right
        except BaseException as exc:  # carried to stop()
            if not self.stopping.is_set() and not conn.closed:
                self.errors.append(exc)
        finally:
            conn.close()

    def _handshake(self, conn: ServerConn, context: ssl.SSLContext) -> bool:
        try:
            with self._changed:  # wrapping detaches the plain socket, which `_count_open` may look at
                conn.sock = context.wrap_socket(conn.sock, server_side=True, do_handshake_on_connect=False)
            conn.sock.do_handshake()
        except OSError as exc:  # SSLError is one
            self.handshake_errors.append(exc)
            return False
        return True

    def stop_listening(self) -> None:
        """Refuse new connections; those that are there go on."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(TIMEOUT)
        self._listener.close()

    def stop(self) -> None:
        """Close everything, wait for every thread, and raise what handlers raised."""
        if self.stopping.is_set():
            return
        self.stopping.set()
        self.stop_listening()
        with self._changed:
            for event in self._events:
                event.set()
            for conn in self._conns:
                with contextlib.suppress(OSError):
                    # Not SSLSocket.shutdown, which takes the TLS object away from the thread that reads.
                    socket.socket.shutdown(conn.sock, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(TIMEOUT)
        alive = [thread.name for thread in (self._acceptor, *self._threads) if thread.is_alive()]
        if alive:
            raise RuntimeError(f"these threads of the scripted server do not end: {alive}")
        if self.errors:
            raise BaseExceptionGroup("handlers of the scripted server failed", self.errors)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
