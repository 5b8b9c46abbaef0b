"""Rows 21 to 23 of field-pains.md: stale connections, and what is done again on another."""

from __future__ import annotations

import random
import threading

import pytest

import pooltransport as pt
from tests.support.colours import run_colour
from tests.support.responders import head
from tests.support.stale import Held, Stale, make_idle


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
