"""The floors: a socket, and an asyncio protocol, that know just enough of HTTP to read these answers.

They look for the end of the head and for Content-Length, and check nothing: what no client can be faster than.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from . import Calls, Setting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

PIECE = 262_144


def head(method: str, url: str, length: int | None = None) -> tuple[tuple[str, int], bytes]:
    """Return the address, and the head of a request."""
    parts = urlsplit(url)
    sized = "" if length is None else f"Content-Length: {length}\r\n"
    text = f"{method} {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\n{sized}\r\n"
    return (parts.hostname or "", parts.port or 80), text.encode()


def length_of(answer: bytes) -> int:
    """Return the Content-Length of a head."""
    return int(answer.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])


@contextlib.contextmanager
def sock(setting: Setting) -> Iterator[Calls]:
    """One socket a thread, read in place."""
    local = threading.local()
    opened = []

    def ask(url: str, method: str = "GET", body: bytes | None = None) -> tuple[int, bytes]:
        """Return the length of the answer, and what of it came with the head."""
        address, request = head(method, url, None if body is None else len(body))
        if not hasattr(local, "conn"):
            local.conn, local.buffer = socket.create_connection(address), bytearray(PIECE)
            local.conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            opened.append(local.conn)
        local.conn.sendall(request)
        if body is not None:
            local.conn.sendall(body)
        data = local.conn.recv(PIECE)
        while b"\r\n\r\n" not in data:
            data += local.conn.recv(PIECE)
        top, _, rest = data.partition(b"\r\n\r\n")
        return length_of(top), rest

    def get(url: str) -> int:
        size, rest = ask(url)
        got = len(rest)
        while got < size:
            got += local.conn.recv_into(local.buffer)
        return got

    def upload(url: str, body: bytes) -> int:
        size, rest = ask(url, "POST", body)
        while len(rest) < size:
            rest += local.conn.recv(PIECE)
        return int(rest)

    yield Calls(get, get, upload)
    for conn in opened:
        conn.close()


class _Protocol(asyncio.Protocol):
    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.answer: asyncio.Future[int]
        self.seen = b""
        self.missing = -1
        self.size = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def ask(self, request: bytes) -> asyncio.Future[int]:
        self.answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self.answer

    def data_received(self, data: bytes) -> None:
        if self.missing < 0:
            self.seen += data
            top, end, rest = self.seen.partition(b"\r\n\r\n")
            if not end:
                return
            self.seen = b""
            self.size = self.missing = length_of(top)
            self.missing -= len(rest)
        else:
            self.missing -= len(data)
        if self.missing <= 0:
            self.missing = -1
            self.answer.set_result(self.size)

    def connection_lost(self, error: Exception | None) -> None:
        if hasattr(self, "answer") and not self.answer.done():
            self.answer.set_exception(error or ConnectionError("closed"))


@contextlib.asynccontextmanager
async def protocol(setting: Setting) -> AsyncIterator[Calls]:
    """Connections in a list, taken from its end."""
    idle: list[_Protocol] = []
    opened: list[_Protocol] = []
    loop = asyncio.get_running_loop()

    async def get(url: str) -> int:
        address, request = head("GET", url)
        if idle:
            conn = idle.pop()
        else:
            _, conn = await loop.create_connection(_Protocol, *address)
            opened.append(conn)
        size = await conn.ask(request)
        idle.append(conn)
        return size

    yield Calls(get, get)
    for conn in opened:
        conn.transport.abort()
