"""EARLY: the server answers before the request body has come. Row 38 of field-pains.md is in tests/field."""

from __future__ import annotations

import threading

import pytest

import pooltransport as pt
from tests.support.colours import run_colour
from tests.support.responders import head
from tests.support.uploads import PIECE, PIECES, Source


@pytest.mark.go("EARLY-01", "EARLY-06")
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_a_2xx_does_not_end_the_upload(colour, secure, server_factory, server_ssl_context, client_ssl_context):
    """The server echoes as it reads: neither waits for the other, and the connection can be used again."""
    count, got = 20, []

    def handler(conn):
        while (request := conn.read_head()) is not None:
            conn.server.note_request(request)
            conn.send(head("200 OK", length=int(request.header("x-length"))))
            left = int(request.header("x-length"))
            while left:
                line = conn._read_line()
                data = conn.read_exactly(int(line, 16) + 2)[:-2]
                got.append(len(data))
                conn.send(data)
                left -= len(data)
            assert conn.read_exactly(5) == b"0\r\n\r\n"

    server = server_factory(handler, tls=server_ssl_context if secure else None)

    async def body(c):
        for _ in range(2):
            source = Source(count)
            response = await c.request(
                "POST", server.url, content=source.sync(), headers={"X-Length": str(count * len(PIECE))}
            )
            assert await c.read(response) == PIECE * count
            assert source.closed
        assert [request.conn for request in server.log] == [1, 1]
        assert sum(got) == 2 * count * len(PIECE)

    run_colour(colour, body, ssl_context=client_ssl_context)


def test_a_2xx_that_never_ends_does_not_fill_the_memory(colour, server_factory):
    """What is kept of an answer during its upload is bounded; the rest waits in the kernel."""
    sent = threading.Event()

    def handler(conn):
        request = conn.read_head()
        conn.server.note_request(request)
        conn.send(head("200 OK", length=1 << 22))
        pump = threading.Thread(target=conn.send, args=(b"y" * (1 << 22),))
        pump.start()
        for _ in range(40):
            conn.read_exactly(int(conn._read_line(), 16) + 2)
        conn.read_exactly(5)
        sent.set()
        pump.join()

    server = server_factory(handler)

    async def body(c):
        response = await c.request("POST", server.url, content=Source(40).sync())
        assert sent.wait(10.0)
        assert len(await c.read(response)) == 1 << 22

    run_colour(colour, body)


@pytest.mark.go("EARLY-03", "EARLY-04")
@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_an_early_answer_without_a_body_ends_the_exchange(colour, status, server_factory):
    """Go waits up to 50 ms for its writer. There is no second thread here: 204 waits for the upload, 304 stops it."""

    def handler(conn):
        while (request := conn.read_head()) is not None:
            conn.server.note_request(request)
            conn.send(head(status))
            if request.method == "POST":
                conn.read_body(request)

    server = server_factory(handler)
    is_2xx = status.startswith("2")

    async def body(c):
        source = Source(40 if is_2xx else PIECES)
        response = await c.request("POST", server.url, content=source.sync())
        assert response.status_code == int(status[:3])
        assert await c.read(response) == b""
        assert source.closed
        assert (source.asked == 40) if is_2xx else (source.asked < PIECES)
        assert c.transport.stats().idle == int(is_2xx)

    # A server whose client goes away inside a body says so.
    run_colour(colour, body)
    if not is_2xx:
        server.errors.clear()


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_1xx_during_the_upload_are_told_and_do_not_end_it(colour, kind, server_factory):
    if colour == "threads":
        kind = "sync"

    def handler(conn):
        request = conn.read_head()
        conn.server.note_request(request)
        conn.send(head("102 Processing"))
        body = conn.read_body(request)
        conn.send(head("200 OK", length=2) + b"ok")
        assert len(body) == 10 * len(PIECE)
        conn.read_to_end()

    server = server_factory(handler)
    codes = []

    async def body(c):
        trace = pt.ClientTrace(got_1xx_response=lambda info: codes.append(info.status_code))
        response = await c.request("POST", server.url, content=Source(10).of(kind), trace=trace)
        assert await c.read(response) == b"ok"
        assert codes == [102]
        assert c.transport.stats().idle == 1

    run_colour(colour, body)


def test_a_server_that_ends_inside_the_upload_is_named(colour, server_factory):
    def handler(conn):
        conn.read_head()
        conn.half_close()
        conn.server.stopping.wait(10.0)

    server = server_factory(handler)
    source = Source()

    async def body(c):
        with pytest.raises((pt.ServerClosedConnection, pt.WriteError)) as caught:
            await c.request("POST", server.url, content=source.sync())
        assert caught.value.may_have_been_processed
        assert source.closed

    run_colour(colour, body)
