"""RETRY: what is done again when a pooled connection turned out to be stale. Rows 21 to 23 of field-pains.md."""

from __future__ import annotations

import io
import random
import threading

import pytest

import pooltransport as pt
from tests.support.colours import run_colour
from tests.support.responders import Responder, head, ok


class Stale:
    """Keeps the first request of each connection alive; on the second reads it, counts it and closes."""

    def __init__(self, stale=None):
        self.processed = []
        self._stale = stale  # how many connections do so; None: all
        self._lock = threading.Lock()

    def __call__(self, conn):
        with self._lock:
            is_stale = self._stale is None or conn.number <= self._stale
        while (request := conn.read_request()) is not None:
            if is_stale and conn.requests > 1:
                self.processed.append(request)
                conn.close()
                return
            conn.send(head(length=2) + b"ok")


async def make_idle(c, server, count):
    """Leave `count` idle connections, each of which has served one request."""
    held = [await c.get(server.url + "/held") for _ in range(count)]
    for response in held:
        await c.read(response)
    assert c.transport.stats().idle == count


class Held(Stale):
    """As `Stale`, but answers to ``/held`` come in two pieces, so that many can be open at once."""

    def __call__(self, conn):
        is_stale = self._stale is None or conn.number <= self._stale
        while (request := conn.read_request()) is not None:
            if request.target == "/held":
                conn.send(head(length=2) + b"o")
                conn.server.wait_stopping(0.002)
                conn.send(b"k")
            elif is_stale and conn.requests > 1:
                self.processed.append(request)
                conn.close()
                return
            else:
                conn.send(head(length=2) + b"ok")


@pytest.mark.go("RETRY-03", "RETRY-04", "RETRY-05", "RETRY-14", "ERR-03", "ERR-06")
@pytest.mark.parametrize(
    ("method", "fields", "again"),
    [
        ("GET", {}, True),
        ("HEAD", {}, True),
        ("OPTIONS", {}, True),
        ("TRACE", {}, True),
        ("POST", {"content": b"x"}, False),
        ("PUT", {"content": b"x"}, False),
        ("DELETE", {}, False),
        ("POST", {"content": b"x", "headers": {"Idempotency-Key": "1"}}, True),
        ("POST", {"content": b"x", "headers": {"X-Idempotency-Key": "1"}}, True),
        ("PUT", {"content": [b"a", b"b"], "headers": {"Idempotency-Key": "1"}}, True),
        ("GET", {"retry_stale": False}, False),
    ],
)
def test_row_21_written_and_not_answered(colour, method, fields, again, server_factory):
    stale = Stale(stale=1)
    server = server_factory(stale)

    async def body(c):
        await c.fetch(server.url)
        if again:
            response = await c.request(method, server.url, **fields)
            await c.read(response)
            assert response.status_code == 200
            assert response.conn.reused is False
            assert c.transport.stats().retries == 1
        else:
            with pytest.raises(pt.ServerClosedConnection) as caught:
                await c.request(method, server.url, **fields)
            error = caught.value
            assert error.reused
            assert error.may_have_been_processed
            assert error.bytes_written > 0
            assert error.idle_time >= 0
            assert "1 requests" in str(error)
            assert isinstance(error, ConnectionError)
            assert c.transport.stats().retries == 0
        assert len(stale.processed) == 1

    run_colour(colour, body)


@pytest.mark.go("RETRY-10", "RETRY-01")
def test_row_22_fifty_stale_connections(colour, server_factory):
    """One GET succeeds, after at most 51 attempts, without a pause."""
    stale = Held(stale=50)
    server = server_factory(stale)
    attempts = []

    async def body(c):
        await make_idle(c, server, 50)
        trace = pt.ClientTrace(get_conn=attempts.append)
        response = await c.get(server.url + "/", trace=trace)
        assert await c.read(response) == b"ok"
        assert 2 <= len(attempts) <= 51
        stats = c.transport.stats()
        assert stats.retries == len(stale.processed) == len(attempts) - 1 == 50

    run_colour(colour, body)


@pytest.mark.go("RETRY-04")
def test_row_22_it_can_be_turned_off(colour, server_factory):
    server = server_factory(Stale())

    async def body(c):
        await c.fetch(server.url)
        with pytest.raises(pt.ServerClosedConnection):
            await c.get(server.url)
        await c.fetch(server.url)
        assert await c.fetch(server.url, retry_stale=True) == b"ok", "the request's word stands over the transport's"

    run_colour(colour, body, retry_stale=False)


@pytest.mark.go("RETRY-16")
def test_row_23_nothing_is_processed_twice(colour, server_factory, scaled):
    """A server that processes and then closes, now and then: each POST is there at most once, and its caller knows."""
    rng = random.Random(23)
    seen = []
    lock = threading.Lock()

    def handler(conn):
        while (request := conn.read_request()) is not None:
            with lock:
                seen.append(request.body)
                mood = rng.random()
            if mood < 0.2:
                conn.close()
                return
            if mood < 0.3:
                conn.reset()
                return
            conn.send(head(length=2) + b"ok")
            if mood < 0.4:
                conn.close()
                return

    server = server_factory(handler)
    count = scaled(1000, 150)

    async def body(c):
        answered, innocent = [], []
        for number in range(count):
            mine = b"%d" % number
            try:
                response = await c.request("POST", server.url, content=mine)
                assert await c.read(response) == b"ok"
                answered.append(mine)
            except pt.TransportError as error:
                if not error.may_have_been_processed:
                    innocent.append(mine)
        assert len(seen) == len(set(seen)), "a POST was processed twice"
        assert set(answered) <= set(seen)
        assert not set(innocent) & set(seen), "what may be done again has not been done"
        assert len(answered) > count / 2

    run_colour(colour, body)


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
