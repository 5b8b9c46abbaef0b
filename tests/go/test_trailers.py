"""TRAIL: fields behind a chunked body, both ways."""

from __future__ import annotations

import hashlib

import pytest

from pooltransport import InvalidRequest, Request
from pooltransport.errors import IncompleteBody, RemoteProtocolError
from pooltransport.testing.fakes import END, Answers
from tests.engine.scenarios import URL
from tests.support.colours import run_colour
from tests.support.responders import head, raw

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"


def fetch(world, *script):
    world.runtime.on_dial = Answers(script)

    async def body():
        async with await world.transport.round_trip(Request("GET", URL)) as response:
            await response.aread()
            return response

    return world.runtime.run(body())


@pytest.mark.go("TRAIL-01", "TRAIL-02")
def test_they_are_there_when_the_body_has_ended(colour, server_factory):
    """Announced or not; until then there are none (Go has the announced names with no value)."""
    answer = head("200 OK", ("Transfer-Encoding", "chunked"), ("Trailer", "X-Sum, X-Never"))
    answer += b"5\r\nhello\r\n"
    server = server_factory(raw(answer, b"0\r\nX-Sum: 1\r\nX-More: 2\r\nx-more: 3\r\n\r\n"))

    async def body(c):
        for _ in range(2):
            response = await c.get(server.url)
            assert dict(response.trailers) == {}
            assert response.headers["trailer"] == "X-Sum, X-Never"  # as it came
            assert await c.read(response) == b"hello"
            assert response.trailers.multi_items() == [("X-Sum", "1"), ("X-More", "2"), ("x-more", "3")]
            assert response.trailers["x-more"] == "2, 3"
            assert "x-sum" not in response.headers

    run_colour(colour, body)
    assert server.accepted == 1


@pytest.mark.go("TRAIL-03")
def test_announced_without_chunks(make_world):
    response = fetch(make_world(), b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nContent-Length: 2\r\n\r\nhi")
    assert response.headers["trailer"] == "X-Sum"
    assert dict(response.trailers) == {}


@pytest.mark.go("TRAIL-04")
@pytest.mark.parametrize("name", ["Content-Length", "Transfer-Encoding", "Trailer", "Host", "Cookie"])
def test_names_that_frame_a_message(make_world, name):
    """Here we differ: they mean nothing in a trailer section, which is kept apart from the headers.

    A request with such a trailer is refused.
    """
    world = make_world()
    value = {"Content-Length": "3", "Transfer-Encoding": "chunked"}.get(name, "x")
    script = CHUNKED + f"Trailer: {name}\r\n\r\n5\r\nhello\r\n0\r\n{name}: {value}\r\n\r\n".encode()
    response = fetch(world, script)
    assert response.content == b"hello"
    assert name.lower() not in {key.lower() for key, _ in response.headers.multi_items()} - {
        "transfer-encoding",
        "trailer",
    }
    assert world.transport.stats().idle == 1
    with pytest.raises(InvalidRequest, match="cannot be a trailer"):
        Request("POST", URL, content=iter([b"x"]), trailers={name: value})


@pytest.mark.go("TRAIL-05")
def test_a_trailer_section_without_measure(make_world):
    """Go bounds it by the read buffer; here it is part of what a chunked body may cost beside its data."""
    world = make_world()
    lines = [b"X-%d: " % i + b"t" * 1000 + b"\r\n" for i in range(20)]
    with pytest.raises(RemoteProtocolError, match="trailers without measure"):
        fetch(world, CHUNKED + b"\r\n5\r\nhello\r\n0\r\n", *lines, b"\r\n")
    assert world.transport.stats().closed == {"protocol_error": 1}
    small = make_world()
    assert len(fetch(small, CHUNKED + b"\r\n5\r\nhello\r\n0\r\n", *lines[:10], b"\r\n").trailers) == 10


@pytest.mark.go("TRAIL-05")
@pytest.mark.parametrize("cut", [b"X", b"X-Sum: 1", b"X-Sum: 1\r\n"])
def test_a_trailer_section_that_breaks_off(make_world, cut):
    world = make_world()
    with pytest.raises(IncompleteBody):
        fetch(world, CHUNKED + b"\r\n5\r\nhello\r\n0\r\n" + cut, END)
    assert world.transport.stats().closed == {"protocol_error": 1}


@pytest.mark.go("TRAIL-05")
@pytest.mark.parametrize("line", [b"no colon", b"X : y", b": y"])
def test_a_trailer_that_is_no_field(make_world, line):
    with pytest.raises(RemoteProtocolError):
        fetch(make_world(), CHUNKED + b"\r\n5\r\nhello\r\n0\r\n" + line + b"\r\n\r\n")


@pytest.mark.go("TRAIL-06")
@pytest.mark.parametrize("known", [True, False], ids=["known_length", "generator"])
def test_a_request_with_trailers(colour, server_factory, known):
    """The values may be set while the body is read. A body of known length goes out in chunks as well,
    where Go would drop the trailers without a word.
    """
    wire = []

    def handler(conn):
        request = conn.read_head()
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            data += conn.read_exactly(1)
        wire.append((request, data))
        conn.send(head(length=0))
        conn.read_to_end()

    server = server_factory(handler)

    async def body(c):
        request = None

        def chunks():
            digest = hashlib.sha256()
            for piece in (b"some", b"bytes"):
                digest.update(piece)
                yield piece
            request.trailers["X-Sum"] = digest.hexdigest()

        content = b"somebytes" if known else chunks()
        request = Request("POST", server.url, content=content, trailers={"X-Sum": "0", "A-First": "1"})
        response = await c.round_trip(request)
        assert await c.read(response) == b""

    run_colour(colour, body)
    ((request, data),) = wire
    assert (request.header("transfer-encoding"), request.header("content-length")) == ("chunked", None)
    assert request.header("trailer") == "X-Sum, A-First"  # in the caller's order; Go sorts them
    value = b"0" if known else hashlib.sha256(b"somebytes").hexdigest().encode()
    fields = dict(line.split(b": ") for line in data.rpartition(b"\r\n0\r\n")[2].strip().split(b"\r\n"))
    assert fields == {b"X-Sum": value, b"A-First": b"1"}


@pytest.mark.go("TRAIL-06")
@pytest.mark.parametrize("fields", [{"headers": {"Content-Length": "1"}, "content": b"x"}, {}])
def test_trailers_that_have_no_place(fields):
    """Told before anything is dialed, not dropped."""
    with pytest.raises(InvalidRequest, match="trailers"):
        Request("POST", URL, trailers={"X-Sum": "1"}, **fields)


@pytest.mark.go("TRAIL-07")
@pytest.mark.parametrize("trailers", [{"bad name": "x"}, {"": "x"}, {"X": "a\r\nb"}, {"X": "a\0b"}, {"X\n": "a"}])
def test_trailers_that_are_no_fields(trailers):
    with pytest.raises(InvalidRequest):
        Request("POST", URL, content=iter([b"x"]), trailers=trailers)


@pytest.mark.go("TRAIL-07")
def test_a_trailer_set_late_is_checked_as_well(make_world):
    request = Request("POST", URL, content=iter([b"x"]), trailers={"X-Sum": "0"})
    with pytest.raises(InvalidRequest):
        request.trailers["X-Sum"] = "a\r\nX-Evil: b"
