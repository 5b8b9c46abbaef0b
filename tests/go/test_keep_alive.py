"""KA: when a connection is kept, and who says that it is not."""

from __future__ import annotations

import contextlib
import ssl
import threading

import pytest

from pooltransport import Request
from pooltransport.testing.fakes import END, Answers
from tests.engine.scenarios import OK, URL
from tests.support.colours import run_colour
from tests.support.field import wait_quiet
from tests.support.responders import Responder, head, in_turn, ok, until_close

BODY = b"Content-Length: 2\r\n\r\nhi"


def kept(world, answer, **fields):
    """Report whether the connection is idle after `answer` was read."""
    world.runtime.on_dial = Answers(answer)
    method = fields.pop("method", "GET")

    async def body():
        response = await world.transport.round_trip(Request(method, URL, **fields))
        return response, await response.aread()

    response, _ = world.runtime.run(body())
    return response, world.transport.stats().idle == 1


@pytest.mark.go("KA-01")
@pytest.mark.parametrize(
    "field",
    [
        b"Connection: close",
        b"connection: CLOSE",
        b"Connection: foo, Close",
        b"Connection: keep-alive\r\nConnection:\tclose ",
    ],
)
def test_the_server_says_close(make_world, field):
    world = make_world()
    _, is_kept = kept(world, b"HTTP/1.1 200 OK\r\n%b\r\n%b" % (field, BODY))
    assert not is_kept
    assert world.transport.stats().closed == {"server_close_header": 1}


@pytest.mark.go("KA-01")
@pytest.mark.parametrize("field", [b"Connection: closed", b"X-Connection: close", b"Connection: not-close, x"])
def test_what_only_looks_like_close(make_world, field):
    _, is_kept = kept(make_world(), b"HTTP/1.1 200 OK\r\n%b\r\n%b" % (field, BODY))
    assert is_kept


@pytest.mark.go("KA-01", "KA-11")
def test_two_requests_two_connections(colour, server_factory):
    """A large body is complete all the same."""
    big = b"x" * 20_000
    server = server_factory(ok(big, ("Connection", "close")))

    async def body(c):
        for _ in range(2):
            assert await c.fetch(server.url) == big
        await c.wait_until(lambda: server.open == 0)

    run_colour(colour, body)
    assert server.accepted == 2


@pytest.mark.go("KA-02")
def test_headers_stay_as_they_came(make_world):
    """Go takes Connection away where it said close; here a response has what the server sent."""
    response, _ = kept(make_world(), b"HTTP/1.1 200 OK\r\nConnection: close, x\r\n" + BODY)
    assert response.headers["connection"] == "close, x"


@pytest.mark.go("KA-03", "KA-05")
@pytest.mark.parametrize("value", ["close", "Close", "foo, close"])
def test_the_request_says_close(colour, server_factory, value):
    """Said once, and kept to, although the server would go on. (Go needs `Request.Close` for that.)"""
    server = server_factory(ok())

    async def body(c):
        await c.fetch(server.url, headers={"Connection": value})
        await c.wait_until(lambda: server.open == 0)
        await c.fetch(server.url)

    run_colour(colour, body)
    assert [request.conn for request in server.log] == [1, 2]
    assert [request.header("connection") for request in server.log] == [value, None]


@pytest.mark.go("KA-04")
def test_without_keep_alives_every_request_says_close_once(colour, server_factory):
    server = server_factory(ok())

    async def body(c):
        await c.fetch(server.url)
        await c.fetch(server.url, headers={"Connection": "close"})
        await c.fetch(server.url)

    run_colour(colour, body, disable_keep_alives=True)
    assert [request.conn for request in server.log] == [1, 2, 3]
    assert [[v for k, v in request.headers if k == "connection"] for request in server.log] == [["close"]] * 3


@pytest.mark.go("KA-07")
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (b"Content-Length: 2\r\n", False),
        (b"Connection: keep-alive\r\nContent-Length: 2\r\n", True),
        (b"Connection: Keep-Alive\r\nContent-Length: 2\r\n", True),
        (b"Connection: keep-alive, close\r\nContent-Length: 2\r\n", False),
        (b"Connection: keep-alive\r\n", False),  # its end is the end of the connection
    ],
)
def test_http_1_0(make_world, fields, expected):
    world = make_world()
    answer = b"HTTP/1.0 200 OK\r\n%b\r\nhi" % fields
    if b"Content-Length" not in fields:
        answer = (answer, END)
    response, is_kept = kept(world, answer)
    assert (is_kept, response.content, response.http_version) == (expected, b"hi", "HTTP/1.0")


@pytest.mark.go("KA-08")
@pytest.mark.parametrize(
    ("version", "expected"),
    [("0.9", False), ("1.1", True), ("1.2", True), ("1.9", True), ("2.0", True), ("9.9", True)],
)
def test_other_versions(make_world, version, expected):
    """Older than 1 is closed even where it says keep-alive; what is newer speaks as 1.1 does."""
    fields = "Connection: keep-alive\r\n" if version < "1" else ""
    answer = f"HTTP/{version} 200 OK\r\n{fields}".encode() + BODY
    response, is_kept = kept(make_world(), answer)
    assert (response.content, response.http_version, is_kept) == (b"hi", f"HTTP/{version}", expected)


@pytest.mark.go("KA-09")
def test_a_body_until_close(colour, server_factory):
    """Its end is a clean end, and the connection's."""
    server = server_factory(until_close(b"x" * 20_000))

    async def body(c):
        for _ in range(2):
            assert await c.fetch(server.url) == b"x" * 20_000
        assert (await wait_quiet(c)).closed == {"server_close_header": 2}

    run_colour(colour, body)
    assert server.accepted == 2


@pytest.mark.go("KA-10")
@pytest.mark.parametrize(("honor", "dials"), [(True, 2), (False, 1)])
def test_the_hint_of_the_server(make_world, honor, dials):
    """Go ignores it; here it holds unless the option says otherwise."""
    world = make_world(honor_keep_alive_hint=honor)
    kept(world, b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5, max=100\r\n" + BODY)
    world.runtime.advance(4.9)
    world.runtime.run(world.get())
    assert world.transport.stats().dials == dials


@pytest.mark.go("KA-12")
def test_connect_is_never_reused(colour, server_factory):
    """Neither after a refusal, however complete."""
    closed = threading.Event()

    @Responder
    def refuse(conn, request):
        conn.send(head("405 Method Not Allowed", length=0))
        assert conn.read_to_end() == b""
        closed.set()

    server = server_factory(in_turn(refuse, ok()))

    async def body(c):
        response = await c.request("CONNECT", server.url)
        assert response.status_code == 405
        assert await c.read(response) == b""
        await c.wait_until(closed.is_set)
        assert (await wait_quiet(c)).idle == 0
        await c.fetch(server.url)

    run_colour(colour, body)
    assert server.accepted == 2


@pytest.mark.go("KA-13")
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("how", ["plain", "tls"])
def test_the_end_came_with_the_answer(colour, server_factory, server_ssl_context, client_ssl_context, how, method):
    """FIN, or close_notify and FIN, in one piece with a complete answer: the next request is not tried on it.

    The POST has a body that cannot be sent again: it would fail if it were.
    """

    @Responder
    def last(conn, request):
        conn.send(head(length=5) + b"hello")
        if how == "tls":
            conn.sock.settimeout(0.0)
            with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLEOFError):  # the client may be gone already
                conn.sock.unwrap()  # says its own close_notify, and would wait for the client's
        conn.close()

    server = server_factory(last, tls=server_ssl_context if how == "tls" else None)

    async def body(c):
        for turn in range(3):
            content = iter([b"once"]) if method == "POST" else None
            response = await c.request(method, server.url, content=content)
            assert await c.read(response) == b"hello"
            # The server's word is on its way; on loopback it is there when its handler has ended.
            await c.wait_until(lambda turn=turn: server.requests == turn + 1 and server.open == 0)
        assert c.transport.stats().retries == 0

    run_colour(colour, body, ssl_context=client_ssl_context)
    assert server.accepted == 3


@pytest.mark.go("KA-13")
def test_a_kept_connection_is_kept(make_world):
    _, is_kept = kept(make_world(), OK)
    assert is_kept
