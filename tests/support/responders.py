"""Ready handlers for `ScriptedServer`.

A `Responder` answers one request; as a handler it answers all requests of a connection, one after
another. Make your own with ``@Responder`` over a function ``(conn, request)``.
"""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .server import ServerConn, ServerRequest


class Responder:
    """Answers requests with `respond`, until the client ends the stream or the handler closed it."""

    def __init__(self, respond: Callable[[ServerConn, ServerRequest], object]) -> None:
        self.respond = respond

    def __call__(self, conn: ServerConn) -> None:
        while not conn.closed and (request := conn.read_request()) is not None:
            self.respond(conn, request)


def head(status: str = "200 OK", *headers: tuple[str, str], length: int | None = None) -> bytes:
    """Return the bytes of a response head."""
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers)]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def ok(body: bytes = b"hello", *headers: tuple[str, str], status: str = "200 OK") -> Responder:
    """Answer with `body` and its length."""
    whole = head(status, *headers, length=len(body))

    @Responder
    def respond(conn: ServerConn, request: ServerRequest) -> None:
        conn.send(whole if request.method == "HEAD" else whole + body)

    return respond


@Responder
def echo(conn: ServerConn, request: ServerRequest) -> None:
    """Answer with the body of the request; method and target come back in headers."""
    conn.send(head("200 OK", ("X-Method", request.method), ("X-Target", request.target), length=len(request.body)))
    conn.send(request.body)


def big(size: int) -> Responder:
    """Answer with `size` bytes."""
    return ok(b"x" * size)


def chunked(*pieces: bytes, trailers: Iterable[tuple[str, str]] = ()) -> Responder:
    """Answer with one chunk for each piece."""
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces if piece)
    end = "".join(f"{name}: {value}\r\n" for name, value in trailers).encode("latin-1")
    return raw(head("200 OK", ("Transfer-Encoding", "chunked")) + body + b"0\r\n" + end + b"\r\n")


def raw(*pieces: bytes, then_close: bool = False) -> Responder:
    """Answer with these bytes, each piece in a segment of its own."""

    @Responder
    def respond(conn: ServerConn, request: ServerRequest) -> None:
        conn.send_pieces(list(pieces))
        if then_close:
            conn.close()

    return respond


def until_close(body: bytes = b"hello") -> Responder:
    """Answer with a body that ends where the stream ends."""
    return raw(head("200 OK") + body, then_close=True)


def slow(event: threading.Event, body: bytes = b"hello") -> Responder:
    """Answer once the test has set `event`."""

    @Responder
    def respond(conn: ServerConn, request: ServerRequest) -> None:
        conn.wait_for(event)
        conn.send(head(length=len(body)) + body)

    return respond


def stall(event: threading.Event, body: bytes = b"hello", sent: int = 1) -> Responder:
    """Answer with the head and `sent` bytes of the body; the rest once the test has set `event`."""

    @Responder
    def respond(conn: ServerConn, request: ServerRequest) -> None:
        conn.send(head(length=len(body)) + body[:sent])
        conn.wait_for(event)
        conn.send(body[sent:])

    return respond


def drip(body: bytes, pause: float, size: int = 1) -> Responder:
    """Answer with `size` bytes of the body every `pause` seconds."""
    pieces = [body[i : i + size] for i in range(0, len(body), size)]

    @Responder
    def respond(conn: ServerConn, request: ServerRequest) -> None:
        conn.send(head(length=len(body)))
        conn.send_pieces(pieces, pause)

    return respond


def close_after(count: int, body: bytes = b"hello") -> Responder:
    """Answer `count` requests of a connection, then close it without having said so."""

    @Responder
    def respond(conn: ServerConn, request: ServerRequest) -> None:
        conn.send(head(length=len(body)) + body)
        if conn.requests >= count:
            conn.close()

    return respond


@Responder
def no_response_close(conn: ServerConn, request: ServerRequest) -> None:
    """Read the request and close, without a word."""
    conn.close()


@Responder
def no_response_reset(conn: ServerConn, request: ServerRequest) -> None:
    """Read the request and reset."""
    conn.reset()


def routes(table: Mapping[str, Responder]) -> Responder:
    """Answer by path; 404 for any other."""
    missing = ok(b"not found", status="404 Not Found")

    @Responder
    def respond(conn: ServerConn, request: ServerRequest) -> None:
        path = request.target.partition("?")[0]
        table.get(path, missing).respond(conn, request)

    return respond


def in_turn(*responders: Responder) -> Responder:
    """Answer the first request with the first, and so on; the last answers all that follow."""
    turns = itertools.chain(responders, itertools.repeat(responders[-1]))
    lock = threading.Lock()

    @Responder
    def respond(conn: ServerConn, request: ServerRequest) -> None:
        with lock:
            responder = next(turns)
        responder.respond(conn, request)

    return respond
