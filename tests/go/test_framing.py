"""FRAME: where a body ends. What is doubtful is an error, and its connection is closed."""

from __future__ import annotations

import threading

import pytest

from pooltransport import Request
from pooltransport.errors import IncompleteBody, RemoteProtocolError
from pooltransport.testing.fakes import END, Answers
from tests.engine.scenarios import URL
from tests.support.colours import run_colour
from tests.support.field import wait_quiet
from tests.support.responders import Responder, chunked, head, in_turn, ok, raw

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def fetch(world, *script, method="GET"):
    """Return the response after reading it."""
    world.runtime.on_dial = Answers(script)

    async def body():
        async with await world.transport.round_trip(Request(method, URL)) as response:
            await response.aread()
            return response

    return world.runtime.run(body())


def refused(world, *script, method="GET"):
    """Return the error of an answer that cannot be trusted; its connection is closed, and it was asked once."""
    with pytest.raises(RemoteProtocolError) as caught:
        fetch(world, *script, method=method)
    assert world.runtime.open_streams == []
    stats = world.transport.stats()
    assert (stats.closed, stats.retries) == ({"protocol_error": 1}, 0)
    assert caught.value.may_have_been_processed
    return caught.value


@pytest.mark.go("FRAME-01", "FRAME-02", "FRAME-18")
@pytest.mark.parametrize("fields", [b"Content-Length: 512000", b"Transfer-Encoding: chunked", b"X: y"])
def test_head_has_no_body(colour, server_factory, fields):
    """Whatever the header announces; what it says of the length can be read there."""
    server = server_factory(raw(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n\r\n"))

    async def body(c):
        for _ in range(5):
            response = await c.request("HEAD", server.url)
            assert await c.read(response) == b""
            assert response.headers.get("content-length") == ("512000" if b"Length" in fields else None)
        assert c.transport.stats().idle == 1

    run_colour(colour, body)
    assert server.accepted == 1


@pytest.mark.go("FRAME-03", "IDLE-05")
def test_head_with_a_body_all_the_same(colour, server_factory):
    """Its bytes are nobody's answer: the next request does not see them."""
    bad = raw(head(length=5) + b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad")
    server = server_factory(in_turn(bad, ok(b"good")))

    async def body(c):
        response = await c.request("HEAD", server.url)
        assert await c.read(response) == b""
        assert await c.fetch(server.url) == b"good"
        stats = await wait_quiet(c)
        assert stats.closed == {"unsolicited_data": 1}

    run_colour(colour, body)
    assert server.accepted == 2


@pytest.mark.go("FRAME-04", "FRAME-05")
@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
@pytest.mark.parametrize("fields", ["Content-Length: 5", "Transfer-Encoding: chunked", "X: y"])
def test_no_content_has_no_body(colour, server_factory, status, fields):
    server = server_factory(raw(f"HTTP/1.1 {status}\r\n{fields}\r\n\r\n".encode()))

    async def body(c):
        for _ in range(5):
            assert await c.fetch(server.url) == b""

    run_colour(colour, body)
    assert server.accepted == 1


@pytest.mark.go("FRAME-05")
def test_a_stray_last_chunk_behind_304(make_world):
    world = make_world()
    answer = b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    assert fetch(world, answer).content == b""
    assert world.transport.stats().closed == {"unsolicited_data": 1}


@pytest.mark.go("FRAME-06")
def test_fewer_bytes_than_declared(colour, server_factory):
    """They are delivered, then comes the error; the connection is gone."""
    server = server_factory(raw(head(length=10) + b"hello", then_close=True))

    async def body(c):
        response = await c.get(server.url)
        got = b""
        with pytest.raises(IncompleteBody, match="after 5 of 10 body bytes") as caught:
            async for part in c.chunks(response):
                got += part
        assert (got, caught.value.bytes_read, caught.value.bytes_expected) == (b"hello", 5, 10)
        with pytest.raises(IncompleteBody):
            await c.fetch(server.url)
        assert (await wait_quiet(c)).closed == {"protocol_error": 2}

    run_colour(colour, body)


@pytest.mark.go("FRAME-07")
@pytest.mark.parametrize("apart", [False, True])
def test_more_bytes_than_declared(colour, server_factory, apart):
    """The caller gets what was declared; the rest is never taken for the next answer."""
    pieces = [head(length=5) + b"hello", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad"]
    sent = threading.Event()

    @Responder
    def too_much(conn, request):
        for piece in pieces if apart else [b"".join(pieces)]:
            conn.send(piece)
        sent.set()

    server = server_factory(in_turn(too_much, ok(b"good")))

    async def body(c):
        assert await c.fetch(server.url) == b"hello"
        # It is seen as soon as it is there, and at the latest by who takes the connection.
        await c.wait_until(sent.is_set)
        await c.sleep(0.01)
        assert await c.fetch(server.url) == b"good"
        assert (await wait_quiet(c)).closed == {"unsolicited_data": 1}

    run_colour(colour, body)
    assert server.accepted == 2


@pytest.mark.go("FRAME-08")
@pytest.mark.parametrize(
    "cut", [b"5\r\nhel", b"5\r\nhello", b"5\r\nhello\r\n", b"5\r\nhello\r\n0", b"5\r\nhello\r\n0\r\n"]
)
def test_a_chunked_body_that_breaks_off(make_world, cut):
    error = refused(make_world(), CHUNKED, cut, END)
    assert isinstance(error, IncompleteBody)
    assert error.bytes_read == (3 if cut == b"5\r\nhel" else 5)


@pytest.mark.go("FRAME-08")
def test_a_chunked_body_that_breaks_off_on_the_wire(colour, server_factory):
    server = server_factory(raw(CHUNKED + b"5\r\nhello\r\n", then_close=True))

    async def body(c):
        with pytest.raises(IncompleteBody, match="inside a chunked body, after 5 bytes"):
            await c.fetch(server.url)

    run_colour(colour, body)


@pytest.mark.go("FRAME-09")
@pytest.mark.parametrize(
    "fields", [b"Content-Length: 5\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: chunked\r\nContent-Length: 5"]
)
def test_length_and_chunks_together(make_world, fields):
    """Here we differ: two ends are one too many (RFC 9112 section 6.3), and a proxy may have taken the other."""
    error = refused(make_world(), b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    assert "Content-Length" in str(error)


@pytest.mark.go("FRAME-10")
@pytest.mark.parametrize("status", [b"200 OK", b"204 No Content", b"304 Not Modified"])
@pytest.mark.parametrize(
    ("values", "good"),
    [
        ((b"5", b"5"), True),
        ((b"5", b" 5 "), True),
        ((b"5, 5",), True),
        ((b"5", b"6"), False),
        ((b"5, 6",), False),
    ],
)
def test_repeated_lengths(make_world, status, values, good):
    fields = b"".join(b"Content-Length: %b\r\n" % value for value in values)
    answer = b"HTTP/1.1 %b\r\n%b\r\n" % (status, fields) + (b"hello" if status == b"200 OK" else b"")
    world = make_world()
    if good:
        assert fetch(world, answer).content == (b"hello" if status == b"200 OK" else b"")
        assert world.transport.stats().idle == 1
    else:
        assert "Content-Length" in str(refused(world, answer))


@pytest.mark.go("FRAME-11")
@pytest.mark.parametrize(
    "value",
    [b"+3", b"-3", b"3x", b"0x3", b"3 3", b"", b" ", b"9223372036854775808", b"1" * 30, b"3,", "\u0663".encode()],
)
def test_lengths_that_are_none(make_world, value):
    error = refused(make_world(), b"HTTP/1.1 200 OK\r\nContent-Length: %b\r\n\r\nabc" % value)
    assert "Content-Length" in str(error)


@pytest.mark.go("FRAME-12")
@pytest.mark.parametrize(
    "fields",
    [
        b"Transfer-Encoding: gzip",
        b"Transfer-Encoding: chunked, chunked",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunkedx",
        b"Transfer-Encoding:",
    ],
)
def test_transfer_encodings_that_are_not_chunked(make_world, fields):
    error = refused(make_world(), b"HTTP/1.1 200 OK\r\n%b\r\n\r\n5\r\nhello\r\n0\r\n\r\n" % fields)
    assert "ransfer-" in str(error)


@pytest.mark.go("FRAME-12")
@pytest.mark.parametrize("value", [b"chunked", b"CHUNKED", b"Chunked "])
def test_chunked_in_any_case(make_world, value):
    world = make_world()
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: %b\r\n\r\n5\r\nhello\r\n0\r\n\r\n" % value
    assert fetch(world, answer).content == b"hello"
    assert world.transport.stats().idle == 1


@pytest.mark.go("FRAME-13")
def test_http_1_0_knows_no_chunks(make_world):
    """The body lasts until the end of the connection, chunk lines and all."""
    world = make_world()
    answer = b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    assert fetch(world, answer, END).content == b"5\r\nhello\r\n0\r\n\r\n"
    assert world.transport.stats().idle == 0


@pytest.mark.go("FRAME-13")
def test_http_1_0_with_both_is_an_error(make_world):
    """Go goes by the length; here it is as doubtful as in 1.1."""
    refused(make_world(), b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello")


@pytest.mark.go("FRAME-14")
@pytest.mark.parametrize(
    "chunks",
    [
        b"5\nhello\r\n0\r\n\r\n",
        b"5\rhello\r\n0\r\n\r\n",
        b"\r\nhello\r\n0\r\n\r\n",
        b"x\r\nhello\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"1" * 21 + b"\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhelloXX0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"4\r\nhello\r\n0\r\n\r\n",
    ],
)
def test_broken_chunks(make_world, chunks):
    error = refused(make_world(), CHUNKED, chunks, END)
    assert not isinstance(error, IncompleteBody)


@pytest.mark.go("FRAME-14")
@pytest.mark.parametrize(
    ("extension", "codec"), [(b";", "h11"), (b";a", "auto"), (b";a=b", "auto"), (b';a="b;c"', "auto")]
)
def test_chunk_extensions_are_passed_over(make_world, extension, codec):
    """One that is none is an error to llhttp."""
    world = make_world(codec=codec)
    assert fetch(world, CHUNKED, b"5%b\r\nhello\r\n0%b\r\n\r\n" % (extension, extension)).content == b"hello"
    assert world.transport.stats().idle == 1


@pytest.mark.go("FRAME-14")
def test_sizes_of_more_digits_than_go_takes(make_world):
    """17 to 20 hexadecimal digits: numbers have no size here, and so long a chunk never ends."""
    error = refused(make_world(codec="h11"), CHUNKED, b"1" * 17 + b"\r\nhello", END)
    assert isinstance(error, IncompleteBody)
    error = refused(make_world(codec="httptools"), CHUNKED, b"1" * 17 + b"\r\nhello", END)
    assert not isinstance(error, IncompleteBody)


@pytest.mark.go("FRAME-15")
def test_a_byte_in_each_chunk_is_fine(make_world):
    world = make_world()
    pieces = [b"1\r\nx\r\n" * 1000] * 20
    assert fetch(world, CHUNKED, *pieces, b"0\r\n\r\n").content == b"x" * 20_000
    assert world.transport.stats().idle == 1


@pytest.mark.go("FRAME-15")
@pytest.mark.parametrize("together", [True, False])
def test_too_much_that_is_no_data(make_world, together):
    """Each chunk says a little and carries a byte: after 16 KiB of such talk it is over."""
    piece = b"1;" + b"e" * 2000 + b"\r\nx\r\n"
    pieces = [piece * 20] if together else [piece] * 20
    assert "that are not data" in str(refused(make_world(), CHUNKED, *pieces, b"0\r\n\r\n"))


@pytest.mark.go("FRAME-15")
def test_talk_is_measured_against_the_data(make_world):
    world = make_world()
    piece = b"800;" + b"e" * 2000 + b"\r\n" + b"x" * 2048 + b"\r\n"
    assert fetch(world, CHUNKED, *[piece] * 50, b"0\r\n\r\n").content == b"x" * 102_400
    assert world.transport.stats().idle == 1


@pytest.mark.go("FRAME-16")
def test_a_chunk_line_without_end(make_world):
    """Go allows 4,096 bytes for one; here it is part of the 16 KiB of FRAME-15."""
    assert "that are not data" in str(refused(make_world(), CHUNKED, b"5;", *[b"e" * 5000] * 4, END))


@pytest.mark.go("FRAME-16")
def test_a_chunk_line_without_end_on_the_wire(colour, server_factory):
    """The server never stops; the client does."""

    @Responder
    def endless(conn, request):
        conn.send(CHUNKED + b"5;")
        while not conn.server.stopping.is_set():
            conn.send(b"e" * 1000)

    server = server_factory(endless)

    async def body(c):
        with pytest.raises(RemoteProtocolError, match="that are not data"):
            await c.fetch(server.url)
        await c.wait_until(lambda: server.open == 0)

    run_colour(colour, body)


@pytest.mark.go("FRAME-17")
def test_a_body_until_close_may_have_been_cut(make_world):
    """Nobody can tell: its end is an end."""
    world = make_world()
    assert fetch(world, b"HTTP/1.1 200 OK\r\n\r\n", b"hel", END).content == b"hel"


@pytest.mark.go("FRAME-17")
def test_a_reset_is_not_an_end(make_world):
    """That much can be told."""
    world = make_world()
    with pytest.raises(ConnectionError, match="after 3 bytes"):
        fetch(world, b"HTTP/1.1 200 OK\r\n\r\n", b"hel", ConnectionResetError(104, "Connection reset by peer"))
    assert world.transport.stats().closed == {"read_error": 1}


@pytest.mark.go("FRAME-18")
@pytest.mark.parametrize("responder", [ok(b""), chunked(), raw(b"HTTP/1.1 204 No Content\r\n\r\n")])
def test_there_is_always_a_body_to_read(colour, server_factory, responder):
    server = server_factory(responder)

    async def body(c):
        response = await c.get(server.url)
        assert [part async for part in c.chunks(response)] == []
        assert await c.fetch(server.url) == b""

    run_colour(colour, body)
