"""HDR: how much of a header there may be, and what is none."""

from __future__ import annotations

import pytest

from pooltransport import Request
from pooltransport.errors import RemoteProtocolError
from pooltransport.testing.fakes import END, Answers
from tests.engine.scenarios import OK, URL
from tests.support.colours import run_colour
from tests.support.field import wait_quiet
from tests.support.responders import Responder, head, in_turn, ok, raw, routes

LIMIT = 4096


def fetch(world, *script, method="GET", **fields):
    world.runtime.on_dial = Answers(script)

    async def body():
        async with await world.transport.round_trip(Request(method, URL, **fields)) as response:
            await response.aread()
            return response

    return world.runtime.run(body())


def refused(world, *script, **fields):
    """Return the error of an answer that is none: it closes the connection, and is asked for once."""
    with pytest.raises(RemoteProtocolError) as caught:
        fetch(world, *script, **fields)
    assert world.runtime.open_streams == []
    stats = world.transport.stats()
    assert (stats.closed, stats.dials, stats.retries) == ({"protocol_error": 1}, 1, 0)
    assert caught.value.may_have_been_processed
    return caught.value


def padded(size):
    """Return a header section of `size` bytes, with a body of two."""
    start = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Pad: "
    return start + b"p" * (size - len(start) - 4) + b"\r\n\r\n"


@pytest.mark.go("HDR-01", "HDR-02")
@pytest.mark.parametrize("pieces", [1, 10])
def test_the_limit_to_the_byte(make_world, pieces):
    for size in (LIMIT, LIMIT + 1):
        header = padded(size)
        assert len(header) == size
        step = -(-len(header) // pieces)
        script = [header[i : i + step] for i in range(0, len(header), step)]
        world = make_world(max_response_header_bytes=LIMIT)
        if size == LIMIT:
            assert fetch(world, *script, b"hi").content == b"hi"
        else:
            error = refused(world, *script, b"hi")
            assert str(error) == "the server's response headers exceeded 4096 bytes (max_response_header_bytes)"


@pytest.mark.go("HDR-01")
def test_informational_answers_count(make_world):
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: " + b"l" * 1000 + b"\r\n\r\n"
    assert fetch(make_world(max_response_header_bytes=LIMIT), hints, hints, hints, OK).content == b"hi"
    assert "exceeded 4096 bytes" in str(refused(make_world(max_response_header_bytes=LIMIT), *[hints] * 4, OK))
    assert "exceeded 4096 bytes" in str(refused(make_world(max_response_header_bytes=LIMIT), hints * 4 + OK))


@pytest.mark.go("HDR-01")
def test_a_header_without_end(colour, server_factory):
    """The default limit, and a server that would go on for ever."""

    @Responder
    def endless(conn, request):
        conn.send(b"HTTP/1.1 200 OK\r\n")
        while not conn.server.stopping.is_set():
            conn.send(b"X-More: " + b"m" * 1000 + b"\r\n")

    server = server_factory(endless)

    async def body(c):
        with pytest.raises(RemoteProtocolError, match="exceeded 262144 bytes"):
            await c.fetch(server.url)
        await c.wait_until(lambda: server.open == 0)
        assert (await wait_quiet(c)).closed == {"protocol_error": 1}

    run_colour(colour, body)
    assert server.accepted == 1


@pytest.mark.go("HDR-02")
def test_it_is_not_asked_for_again(colour, server_factory):
    """Not even a GET on a connection that was used before."""
    server = server_factory(routes({"/": ok(), "/big": raw(padded(LIMIT + 1) + b"hi")}))

    async def body(c):
        await c.fetch(server.url + "/")
        with pytest.raises(RemoteProtocolError):
            await c.fetch(server.url + "/big")
        assert c.transport.stats().retries == 0

    run_colour(colour, body, max_response_header_bytes=LIMIT)
    assert server.requests == 2


@pytest.mark.go("HDR-03")
def test_many_small_fields(make_world):
    fields = b"".join(b"X-%d: %d\r\n" % (i, i) for i in range(5000))
    response = fetch(make_world(), b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + fields + b"\r\nhi")
    assert len(response.headers) == 5001


@pytest.mark.go("HDR-04")
@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_the_body_is_not_counted(make_world, coding):
    size = 10 * LIMIT
    world = make_world(max_response_header_bytes=LIMIT)
    if coding == "length":
        answer = head(length=size) + b"x" * size  # in one piece with the header
    else:
        answer = head("200 OK", ("Transfer-Encoding", "chunked")) + b"%x\r\n" % size + b"x" * size + b"\r\n0\r\n\r\n"
    assert fetch(world, answer).content == b"x" * size
    assert world.transport.stats().idle == 1


@pytest.mark.go("HDR-05", "HDR-06")
@pytest.mark.parametrize(
    "line",
    [
        b"hello",
        b"",
        b"HTTP/1.1",
        b"HTTP/1.1 ",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 2x0 OK",
        b"HTTP/1.1 -20 OK",
        b"HTTP/1.1 000 OK",
        b"HTTP/1.1 099 OK",
        b"HTTP 200 OK",
        b"HTTP/1 200 OK",
        b"HTTP/11 200 OK",
        b"HTTP/1.10 200 OK",
        b"HTTP/x.1 200 OK",
        b"http/1.1 200 OK",
        b"HTTPS/1.1 200 OK",
        b"SSH-2.0-OpenSSH_9.6",
        b"\x16\x03\x01\x02\x00",
    ],
)
def test_status_lines_that_are_none(make_world, line):
    """000 to 099 are none either, here: RFC 9110 section 15 begins at 100."""
    error = refused(make_world(), line + b"\r\nContent-Length: 2\r\n\r\nhi")
    assert "not valid HTTP/1.1" in str(error)
    assert error.__cause__ is not None


@pytest.mark.go("HDR-06")
@pytest.mark.parametrize(
    ("line", "status", "reason"),
    [
        (b"HTTP/1.1 200", 200, ""),
        (b"HTTP/1.1 200 ", 200, ""),
        (b"HTTP/1.1 999 Whatever this is", 999, "Whatever this is"),
        ("HTTP/1.1 418 Th\u00e9".encode("latin-1"), 418, "Th\u00e9"),
    ],
)
def test_status_lines_that_are_fine(make_world, line, status, reason):
    response = fetch(make_world(), line + b"\r\nContent-Length: 2\r\n\r\nhi")
    assert (response.status_code, response.reason, response.content) == (status, reason, b"hi")


@pytest.mark.go("HDR-05")
def test_the_requests_body_is_closed_once(colour, server_factory):
    """Also where the answer is nonsense."""
    server = server_factory(raw(b"nonsense\r\n\r\n"))
    closed = []

    def chunks():
        try:
            yield b"one"
            yield b"two"
        finally:
            closed.append(True)

    async def body(c):
        with pytest.raises(RemoteProtocolError):
            await c.request("POST", server.url, content=chunks())
        assert closed == [True]

    run_colour(colour, body)
    assert closed == [True]


@pytest.mark.go("HDR-07")
@pytest.mark.parametrize("blank", [b" ", b"\t"])
def test_a_first_line_that_is_a_continuation(make_world, blank):
    refused(make_world(), b"HTTP/1.1 200 OK\r\n" + blank + b"X: y\r\nContent-Length: 2\r\n\r\nhi")


@pytest.mark.go("HDR-07")
def test_folded_lines_are_one_value(make_world):
    answer = b"HTTP/1.1 200 OK\r\nX: a\r\n  b\r\n\tc\r\nContent-Length: 2\r\n\r\nhi"
    assert fetch(make_world(), answer).headers["x"] == "a b c"


@pytest.mark.go("HDR-08")
@pytest.mark.parametrize(
    "line", [b"Foo : bar", b"F oo: bar", b": bar", b"Foo", b"F\x00o: bar", b"Foo: b\x00r", b"F\xf6o: bar"]
)
def test_names_and_values_that_are_none(make_world, line):
    """Go takes `Foo : bar` for a field of the name "Foo "; here it is an error (RFC 9112 section 5.1)."""
    refused(make_world(), b"HTTP/1.1 200 OK\r\n" + line + b"\r\nContent-Length: 2\r\n\r\nhi")


@pytest.mark.go("HDR-09")
def test_pragma_adds_nothing(make_world):
    """Go adds a Cache-Control to it; here a response has what the server sent."""
    response = fetch(make_world(), b"HTTP/1.1 200 OK\r\nPragma: no-cache\r\nContent-Length: 2\r\n\r\nhi")
    assert response.headers.multi_items() == [("Pragma", "no-cache"), ("Content-Length", "2")]


CUTS = [b"H", b"HTTP/1.1 20", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\nA: b\r\n"]


@pytest.mark.go("HDR-10", "RETRY-08")
@pytest.mark.parametrize("cut", CUTS)
def test_a_header_that_breaks_off_is_final(make_world, cut):
    """A GET on a connection that was used before, and still it is not asked for again."""
    world = make_world(Answers(OK, (cut, END), OK))
    world.runtime.run(world.get())
    with pytest.raises(RemoteProtocolError, match="inside the response header"):
        world.runtime.run(world.get())
    stats = world.transport.stats()
    assert (stats.dials, stats.retries, stats.closed) == (1, 0, {"protocol_error": 1})


@pytest.mark.go("HDR-10")
def test_a_header_that_breaks_off_on_the_wire(colour, server_factory):
    server = server_factory(in_turn(ok(), raw(b"HTTP/1.1 200 OK\r\nContent-Le", then_close=True), ok()))

    async def body(c):
        await c.fetch(server.url)
        with pytest.raises(RemoteProtocolError, match="inside the response header"):
            await c.fetch(server.url)
        assert await c.fetch(server.url) == b"hello"

    run_colour(colour, body)
    assert (server.accepted, server.requests) == (2, 3)
