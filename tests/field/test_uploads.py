"""Rows 38 and 39 of field-pains.md: answers that come before the request body was sent."""

from __future__ import annotations

import time

import pytest

import pooltransport as pt
from tests.support.colours import run_colour
from tests.support.responders import head
from tests.support.uploads import PIECE, PIECES, Short, Source

EXPECT = {"Expect": "100-continue"}
TOO_LARGE = head("413 Content Too Large", length=3) + b"413"


def answers_and(then):
    """Read the head, answer 413, then do `then` with the connection."""

    def handler(conn):
        while (request := conn.read_head()) is not None and request.method == "GET":
            conn.send(head(length=2) + b"ok")
        conn.send(TOO_LARGE)
        then(conn)

    return handler


def stop_reading(conn):
    conn.server.stopping.wait(10.0)


def close(conn):
    """Close with unread bytes in the buffer: the kernel sends a reset behind the answer."""
    conn.close()


def take_all(conn):
    conn.read_to_end()


@pytest.mark.parametrize("kind", ["sync", "async", "bytes", "file"])
@pytest.mark.parametrize("then", [stop_reading, close, take_all])
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.go("EARLY-01", "EARLY-02", "EARLY-05", "EARLY-07", "WRITE-07")
def test_row_38_the_answer_comes_and_the_upload_stops(
    colour, kind, then, secure, server_factory, server_ssl_context, client_ssl_context, tmp_path
):
    if colour == "threads" and kind == "async":
        kind = "sync"
    if secure and then is close:
        then = take_all  # the reset overtakes the record: TLS hands out nothing that it has not seen whole
    server = server_factory(answers_and(then), tls=server_ssl_context if secure else None)
    source = Source()
    told = []
    path = tmp_path / "upload"

    async def body(c):
        assert await c.fetch(server.url) == b"ok"  # a dial and a handshake are not what is timed
        if kind == "bytes":
            content = PIECE * PIECES
        elif kind == "file":
            path.write_bytes(PIECE * PIECES)
            content = path.open("rb")
        else:
            content = source.of(kind)
        trace = pt.ClientTrace(wrote_request=told.append)
        began = time.monotonic()
        response = await c.request("POST", server.url, content=content, trace=trace)
        elapsed = time.monotonic() - began
        assert response.status_code == 413
        assert await c.read(response) == b"413"
        await c.close(response)
        assert elapsed < 1.0, "0.2 s as written, on a machine that does nothing else"
        if kind in ("sync", "async"):
            assert source.closed
            assert source.asked < PIECES
        if kind == "file":
            assert not content.closed, "the caller's file stays open"
            content.close()
        stats = c.transport.stats()
        assert (stats.active, stats.idle, stats.leases) == (0, 0, 0), "its request was not sent whole"
        (error,) = told
        assert isinstance(error, pt.WriteError)
        assert "413" in str(error) or "sending failed" in str(error)

    run_colour(colour, body, ssl_context=client_ssl_context)


@pytest.mark.go("EXP-03")
def test_row_39_silence_means_that_the_body_is_sent_anyway(colour, server_factory):
    def handler(conn):
        request = conn.read_head()
        body = conn.read_body(request)
        conn.server.note_request(request._replace(body=body))
        conn.send(head(length=0))
        conn.read_to_end()

    server = server_factory(handler)

    async def body(c):
        began = time.monotonic()
        await c.read(await c.request("POST", server.url, headers=EXPECT, content=b"late"))
        assert time.monotonic() - began >= 0.2
        assert server.log[0].body == b"late"

    run_colour(colour, body, expect_continue_timeout=0.2)


@pytest.mark.go("EXP-04", "EXP-05", "EXP-06", "WRITE-04")
@pytest.mark.parametrize("close", [False, True], ids=["keep", "close"])
@pytest.mark.parametrize("status", ["401 Unauthorized", "417 Expectation Failed", "500 Oops"])
def test_row_39_a_final_answer_before_the_body_means_that_none_is_sent(colour, status, close, server_factory):
    """Of Go only where the server says close. A body nobody wants is worth more than a connection: row 39."""
    rest = []

    def handler(conn):
        conn.server.note_request(conn.read_head())
        conn.send(head(status, *([("Connection", "close")] if close else []), length=2) + b"no")
        rest.append(conn.read_to_end())

    server = server_factory(handler)
    errors = []

    async def body(c):
        source = Short()
        trace = pt.ClientTrace(wrote_request=errors.append)
        response = await c.request("POST", server.url, headers=EXPECT, content=source, trace=trace)
        assert response.status_code == int(status[:3])
        assert await c.read(response) == b"no"
        assert (source.asked, source.closed) == (0, True)
        assert c.transport.stats().open == 0, "its request was not sent whole"
        await c.wait_until(lambda: rest)
        assert rest == [b""]
        assert errors == [None]

    run_colour(colour, body, expect_continue_timeout=10.0)
