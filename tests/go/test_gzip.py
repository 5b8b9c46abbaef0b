"""GZIP: the transport asks for gzip where nobody has said a word, and takes it off again."""

from __future__ import annotations

import gzip
import zlib

import pytest

import pooltransport as pt
from tests.support.colours import run_colour
from tests.support.responders import Responder, chunked, head, raw

TEXT = b"the quick brown fox " * 5000
PACKED = gzip.compress(TEXT)


def packed(body=PACKED, coding="gzip", *, pieces=None):
    """Answer with gzip to whoever takes it; in chunks if `pieces`."""
    size = len(body) // (pieces or 1) + 1
    parts = [body[i : i + size] for i in range(0, len(body), size)]

    @Responder
    def respond(conn, request):
        headers = [("Content-Encoding", coding), ("X-Kept", "yes")]
        if pieces:
            conn.send(head("200 OK", *headers, ("Transfer-Encoding", "chunked")))
            conn.send_pieces([b"%x\r\n%b\r\n" % (len(part), part) for part in parts] + [b"0\r\n\r\n"])
        else:
            conn.send(head("200 OK", *headers, length=len(body)))
            if request.method != "HEAD":
                conn.send(body)

    return respond


@pytest.mark.go("GZIP-01")
@pytest.mark.parametrize(
    ("method", "fields", "options", "asked"),
    [
        ("GET", {}, {}, "gzip"),
        ("POST", {"content": b"x"}, {}, "gzip"),
        ("HEAD", {}, {}, None),
        ("GET", {"headers": {"Range": "bytes=0-9"}}, {}, None),
        ("GET", {"headers": {"accept-encoding": "br"}}, {}, "br"),
        ("GET", {"headers": {"Accept-Encoding": ""}}, {}, ""),
        ("GET", {}, {"disable_compression": True}, None),
    ],
)
def test_when_it_is_asked_for(method, fields, options, asked, server_factory):
    server = server_factory(raw(head(length=0)))

    async def body(c):
        request = pt.Request(method, server.url, **fields)
        before = request.headers.raw
        await c.read(await c.round_trip(request))
        assert server.log[0].header("accept-encoding") == asked
        assert request.headers.raw == before

    run_colour("threads", body, **options)


@pytest.mark.go("GZIP-02", "GZIP-06", "POOL-10")
@pytest.mark.parametrize("pieces", [None, 1, 7, 400], ids=["length", "one", "seven", "many"])
@pytest.mark.parametrize("coding", ["gzip", "GZip"])
def test_it_is_taken_off_and_the_connection_is_free(colour, coding, pieces, server_factory):
    server = server_factory(packed(coding=coding, pieces=pieces))

    async def body(c):
        response = await c.get(server.url)
        assert response.decoded
        assert "content-encoding" not in response.headers
        assert "content-length" not in response.headers
        assert response.headers["x-kept"] == "yes"
        assert await c.read(response) == TEXT
        assert c.transport.stats().idle == 1, "free at the end, without a close"
        response = await c.get(server.url)
        assert b"".join([chunk async for chunk in c.chunks(response, 1000)]) == TEXT
        assert server.accepted == 1

    run_colour(colour, body)


@pytest.mark.go("GZIP-03")
def test_who_asks_for_it_gets_it_raw(colour, server_factory):
    server = server_factory(packed())

    async def body(c):
        response = await c.get(server.url, headers={"Accept-Encoding": "gzip"})
        assert not response.decoded
        assert response.headers["content-encoding"] == "gzip"
        assert response.headers["content-length"] == str(len(PACKED))
        assert await c.read(response) == PACKED

    run_colour(colour, body)


@pytest.mark.go("GZIP-04")
def test_it_is_taken_off_once(colour, server_factory):
    server = server_factory(packed(gzip.compress(PACKED)))

    async def body(c):
        response = await c.get(server.url)
        assert await c.read(response) == PACKED

    run_colour(colour, body)


@pytest.mark.go("GZIP-05")
@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (PACKED[:-6], "ended too early"),
        (PACKED[:3], "ended too early"),
        (b"no gzip at all", "broken gzip"),
        (PACKED + b"something else", "broken gzip"),
        (PACKED[:50] + b"\0\0\0\0" + PACKED[54:], "gzip"),
    ],
    ids=["cut", "cut in the header", "none", "surplus", "damaged"],
)
def test_what_is_broken_is_found_while_reading(colour, sent, text, server_factory):
    server = server_factory(packed(sent))

    async def body(c):
        response = await c.get(server.url)
        assert response.status_code == 200
        with pytest.raises(pt.DecodingError, match=text):
            await c.read(response)
        assert response.is_closed
        assert c.transport.stats().leases == 0

    run_colour(colour, body)


@pytest.mark.go("GZIP-05")
def test_a_stream_that_is_cut_by_the_connection_is_an_incomplete_body(colour, server_factory):
    server = server_factory(
        raw(head("200 OK", ("Content-Encoding", "gzip"), length=500) + PACKED[:100], then_close=True)
    )

    async def body(c):
        with pytest.raises(pt.IncompleteBody):
            await c.read(await c.get(server.url))

    run_colour(colour, body)


@pytest.mark.go("GZIP-07")
def test_an_answer_without_a_body_is_left_alone(colour, server_factory):
    server = server_factory(packed())

    async def body(c):
        response = await c.request("HEAD", server.url)
        assert response.headers["content-encoding"] == "gzip"
        assert response.headers["content-length"] == str(len(PACKED))
        assert await c.read(response) == b""

    run_colour(colour, body)


def test_an_empty_body_that_says_gzip(colour, server_factory):
    server = server_factory(packed(b""))

    async def body(c):
        assert await c.read(await c.get(server.url)) == b""

    run_colour(colour, body)


def test_several_members(colour, server_factory):
    server = server_factory(packed(PACKED + gzip.compress(b"and more"), pieces=9))

    async def body(c):
        assert await c.read(await c.get(server.url)) == TEXT + b"and more"

    run_colour(colour, body)


def test_other_codings_are_not_ours(colour, server_factory):
    body_of = zlib.compress(TEXT)
    server = server_factory(packed(body_of, "deflate"))

    async def body(c):
        response = await c.get(server.url)
        assert not response.decoded
        assert await c.read(response) == body_of

    run_colour(colour, body)


def test_the_wire_bytes_can_be_had(colour, server_factory):
    server = server_factory(packed())

    async def body(c):
        response = await c.get(server.url)
        if c.sync:
            assert b"".join(response.iter_raw()) == PACKED
        else:
            assert b"".join([chunk async for chunk in response.aiter_raw()]) == PACKED
        response = await c.get(server.url)
        await c.read(response)
        with pytest.raises(pt.StreamConsumed):
            _ = response.iter_raw() if c.sync else response.aiter_raw()

    run_colour(colour, body)


def test_a_bomb_is_defused(colour, server_factory):
    """10 MB of zeros fit 10 KB: above the bound it is an error, and no piece is larger than a megabyte."""
    bomb = gzip.compress(bytes(10_000_000))
    server = server_factory(packed(bomb))

    async def body(c):
        response = await c.get(server.url)
        sizes = [len(chunk) async for chunk in c.chunks(response)]
        assert sum(sizes) == 10_000_000
        assert max(sizes) <= 1_048_576
        small = c.make_transport(max_decoded_bytes=5_000_000)
        response = await c.get(server.url, transport=small)
        with pytest.raises(pt.DecodingError, match="max_decoded_bytes"):
            await c.read(response)
        await c.close_transport(small)

    run_colour(colour, body)


def test_the_error_of_a_status_is_decoded_too(server_factory):
    server = server_factory(chunked(b"x"))
    server.handler = Responder(
        lambda conn, request: conn.send(
            head("500 Oops", ("Content-Encoding", "gzip"), length=len(PACKED)) + PACKED,
        )
    )

    async def body(c):
        response = await c.get(server.url)
        with pytest.raises(pt.HTTPStatusError):
            response.raise_for_status()
        assert response.content == TEXT

    run_colour("threads", body)
