"""Proxies for `ScriptedServer`: forward and CONNECT in one handler, and SOCKS5. What they were asked is kept."""

from __future__ import annotations

import base64
import contextlib
import http.client
import select
import socket
import ssl
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from .responders import head
from .server import TIMEOUT

if TYPE_CHECKING:
    from .server import ServerConn, ServerRequest

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
KINDS = ["http forward", "http CONNECT", "https forward", "https CONNECT", "socks5 http", "socks5 https"]


class HttpProxy:
    """A handler: forwards what comes in absolute-form, and makes tunnels. `reply` is its answer to CONNECT."""

    def __init__(self, *, user: str | None = None, password: str = "", reply: bytes = ESTABLISHED) -> None:
        self._wanted = None if user is None else f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
        self.reply = reply
        self.asked: list[ServerRequest] = []

    def __call__(self, conn: ServerConn) -> None:
        while (request := conn.read_request()) is not None:
            self.asked.append(request)
            if self._wanted is not None and request.header("proxy-authorization") != self._wanted:
                conn.send(head("407 Who are you", ("Proxy-Authenticate", 'Basic realm="tests"'), length=3) + b"who")
            elif request.method == "CONNECT":
                self._tunnel(conn, request)
                return
            else:
                _forward(conn, request)

    def _tunnel(self, conn: ServerConn, request: ServerRequest) -> None:
        host, _, port = request.target.rpartition(":")
        if not self.reply.startswith(b"HTTP/1.1 2"):
            conn.send(self.reply)
            return
        with socket.create_connection((host.strip("[]"), int(port)), TIMEOUT) as upstream:
            conn.send(self.reply)
            relay(conn, upstream)


def _forward(conn: ServerConn, request: ServerRequest) -> None:
    url = urlsplit(request.target)
    assert url.scheme == "http", f"a forward proxy is asked in absolute-form, not for {request.target!r}"
    origin = http.client.HTTPConnection(url.hostname or "", url.port or 80, timeout=TIMEOUT)
    try:
        path = f"{url.path or '/'}{'?' if url.query else ''}{url.query}"
        headers = {k: v for k, v in request.headers if not k.startswith("proxy-")}
        origin.request(request.method, path, request.body, headers)
        answer = origin.getresponse()
        body = answer.read()
        conn.send(head(f"{answer.status} {answer.reason}", ("Via", "1.1 scripted"), length=len(body)) + body)
    finally:
        origin.close()


class SocksRequest(NamedTuple):
    """What a SOCKS proxy was asked for."""

    greeting: bytes
    user: str | None
    password: str | None
    kind: int  # 1 IPv4, 3 name, 4 IPv6
    host: str
    port: int


class SocksProxy:
    """A handler: SOCKS5 with or without credentials. `reply` is the code of its answer; names are looked up by
    `hosts`, as nobody else could."""

    def __init__(
        self, *, user: str | None = None, password: str = "", reply: int = 0, hosts: dict[str, str] | None = None
    ):
        self._user, self._password = user, password
        self._reply = reply
        self._hosts = hosts or {}
        self.asked: list[SocksRequest] = []

    def __call__(self, conn: ServerConn) -> None:
        start = conn.read_exactly(2)
        greeting = start + conn.read_exactly(start[1])
        user = password = None
        if self._user is None:
            conn.send(b"\x05\x00")
        elif 2 not in greeting[2:]:
            conn.send(b"\x05\xff")
            return
        else:
            conn.send(b"\x05\x02")
            conn.read_exactly(1)
            user = conn.read_exactly(conn.read_exactly(1)[0]).decode()
            password = conn.read_exactly(conn.read_exactly(1)[0]).decode()
            good = (user, password) == (self._user, self._password)
            conn.send(b"\x01\x00" if good else b"\x01\x01")
            if not good:
                return
        kind, host = self._target(conn)
        port = int.from_bytes(conn.read_exactly(2), "big")
        self.asked.append(SocksRequest(greeting, user, password, kind, host, port))
        conn.send(bytes((5, self._reply, 0, 1, 0, 0, 0, 0, 0, 0)))
        if not self._reply:
            with socket.create_connection((self._hosts.get(host, host), port), TIMEOUT) as upstream:
                relay(conn, upstream)

    @staticmethod
    def _target(conn: ServerConn) -> tuple[int, str]:
        version, command, _, kind = conn.read_exactly(4)
        assert (version, command) == (5, 1)
        if kind == 3:
            return kind, conn.read_exactly(conn.read_exactly(1)[0]).decode("ascii")
        family, size = (socket.AF_INET, 4) if kind == 1 else (socket.AF_INET6, 16)
        return kind, socket.inet_ntop(family, conn.read_exactly(size))


def relay(conn: ServerConn, upstream: socket.socket) -> None:
    """Carry bytes both ways until one side ends. One thread: a TLS object serves no two at once. A side that takes
    nothing holds up what goes to it, and not what comes from it.
    """
    waiting = {conn.sock: b"", upstream: conn._buffer}  # what is still to be sent to each
    conn._buffer = b""
    other = {conn.sock: upstream, upstream: conn.sock}
    for sock in other:
        sock.settimeout(0)
    while not conn.server.stopping.is_set():
        sources = [sock for sock in other if not waiting[other[sock]]]
        pending = conn.sock in sources and isinstance(conn.sock, ssl.SSLSocket) and conn.sock.pending() > 0
        readable, writable, _ = select.select(
            sources, [sock for sock in other if waiting[sock]], [], 0 if pending else 0.1
        )
        for sock in {*readable, *([conn.sock] if pending else [])}:
            data = _take(sock)
            if data == b"":
                return
            waiting[other[sock]] += data or b""
        for sock in writable:
            with contextlib.suppress(BlockingIOError, ssl.SSLWantWriteError):
                waiting[sock] = waiting[sock][sock.send(waiting[sock]) :]


def _take(sock: socket.socket) -> bytes | None:
    try:
        return sock.recv(65536)
    except (BlockingIOError, ssl.SSLWantReadError):
        return None
    except (ConnectionError, ssl.SSLEOFError):
        return b""
