"""RETRY: what is done again when a pooled connection turned out to be stale."""

from __future__ import annotations

import io
import threading

import pytest

import pooltransport as pt
from tests.support.colours import run_colour
from tests.support.responders import Responder, head, ok
from tests.support.stale import Stale


@pytest.mark.go("RETRY-01", "RETRY-14", "ERR-03")
@pytest.mark.parametrize("how", ["close", "reset"])
def test_the_failure_of_a_fresh_connection_is_final(colour, how, server_factory):
    server = server_factory(lambda conn: (conn.read_request(), getattr(conn, how)()))

    async def body(c):
        with pytest.raises(pt.ServerClosedConnection) as caught:
            await c.get(server.url)
        assert caught.value.reused is False
        assert server.accepted == 1
        assert c.transport.stats().retries == 0

    run_colour(colour, body)


@pytest.mark.go("RETRY-08")
def test_nothing_is_done_again_once_a_byte_of_the_answer_came(colour, server_factory):
    def handler(conn):
        while conn.read_request() is not None:
            if conn.requests > 1:
                conn.send(b"HTTP/1.1 2")
                conn.close()
                return
            conn.send(head(length=2) + b"ok")

    server = server_factory(handler)

    async def body(c):
        await c.fetch(server.url)
        with pytest.raises(pt.RemoteProtocolError, match="inside the response header"):
            await c.get(server.url)
        assert server.accepted == 1

    run_colour(colour, body)


@pytest.mark.go("RETRY-09", "RETRY-15")
@pytest.mark.parametrize("status", ["408 Request Timeout", "429 Too Many", "503 Unavailable"])
def test_an_answer_is_never_a_reason(colour, status, server_factory):
    server = server_factory(ok(status=status))

    async def body(c):
        for _ in range(2):
            await c.fetch(server.url)
        assert len(server.log) == 2
        assert c.transport.stats().retries == 0

    run_colour(colour, body)


@pytest.mark.go("RETRY-09")
def test_neither_is_a_timeout(colour, server_factory):
    gate = threading.Event()

    @Responder
    def respond(conn, request):
        if conn.requests > 1:
            conn.wait_for(gate)
        conn.send(head(length=2) + b"ok")

    server = server_factory(respond)

    async def body(c):
        await c.fetch(server.url)
        with pytest.raises(pt.ResponseHeaderTimeout):
            await c.get(server.url, timeout=pt.Timeout(response_header=0.05))
        assert len(server.log) == 2
        assert c.transport.stats().retries == 0
        gate.set()

    run_colour(colour, body)


@pytest.mark.go("RETRY-11", "RETRY-12", "RETRY-13")
@pytest.mark.parametrize("kind", ["bytes", "file", "list"])
def test_a_retry_is_the_same_request_from_its_first_byte(colour, kind, server_factory):
    stale = Stale(stale=1)
    server = server_factory(stale)
    order = []

    async def body(c):
        await c.fetch(server.url)
        file = io.BytesIO(b"skipped" + b"y" * 200_000)
        file.seek(7)
        content = {"bytes": b"y" * 200_000, "file": file, "list": [b"y" * 100_000] * 2}[kind]
        hooks = {name: lambda _, name=name: order.append(name) for name in ("get_conn", "got_conn", "retried")}
        request = pt.Request(
            "PUT", server.url, content=content, headers={"Idempotency-Key": "k"}, trace=pt.ClientTrace(**hooks)
        )
        response = await c.round_trip(request)
        assert await c.read(response) == b"ok"
        assert response.request is request
        first, second = stale.processed[0], server.log[-1]
        assert first.body == second.body == b"y" * 200_000
        assert first.headers == second.headers
        assert order == ["get_conn", "got_conn", "retried", "get_conn", "got_conn"]

    run_colour(colour, body)


@pytest.mark.go("RETRY-12")
def test_a_stream_that_was_begun_cannot_be_sent_again(colour, server_factory):
    server = server_factory(Stale())

    async def body(c):
        await c.fetch(server.url)
        with pytest.raises((pt.ServerClosedConnection, pt.WriteError)) as caught:
            await c.request("PUT", server.url, content=iter([b"a"]), headers={"Idempotency-Key": "k"})
        assert caught.value.may_have_been_processed

    run_colour(colour, body)


@pytest.mark.go("RETRY-02", "RETRY-06", "RETRY-16")
def test_a_connection_that_is_known_to_be_closed_is_not_used(colour, server_factory):
    """Nothing was written: any method goes on with another. Go fails a POST here whose sending was about to begin."""

    @Responder
    def respond(conn, request):
        conn.send(head(length=2) + b"ok")
        conn.close()

    server = server_factory(respond)

    async def body(c):
        for number in range(5):
            response = await c.request("POST", server.url, content=b"%d" % number)
            assert await c.read(response) == b"ok"
            await c.wait_until(lambda: server.open == 0)
        assert [request.body for request in server.log] == [b"0", b"1", b"2", b"3", b"4"]

    run_colour(colour, body)
