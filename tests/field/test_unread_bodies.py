"""Rows 35 and 36 of field-pains.md: bodies that nobody reads to their end."""

from __future__ import annotations

import statistics
import time

import pytest

import pooltransport as pt
from tests.support.colours import run_colour
from tests.support.responders import Responder, big, chunked, head


@pytest.mark.parametrize("size", [500, 200_000])
def test_row_35_ten_unread_bodies_cost_one_connection(colour, size, server_factory):
    server = server_factory(big(size))

    async def body(c):
        for _ in range(10):
            await c.close(await c.get(server.url))
            await c.wait_until(lambda: c.transport.stats().idle == 1)  # on loops it is drained in the background
        assert server.accepted == 1
        assert c.transport.stats().drains["reused"] == 10

    run_colour(colour, body)


def test_row_35_ten_large_ones_cost_ten_and_no_time(colour, server_factory):
    """10 × 10 MB: ten connections, and closing each takes less than 5 ms (the median, of a busy machine)."""
    server = server_factory(big(10_000_000))

    async def body(c):
        spent = []
        for _ in range(10):
            response = await c.get(server.url)
            began = time.perf_counter()
            await c.close(response)
            spent.append(time.perf_counter() - began)
        assert server.accepted == 10
        assert statistics.median(spent) < 0.005
        stats = c.transport.stats()
        assert (stats.open, stats.drains["limit"]) == (0, 10)

    run_colour(colour, body)


def test_row_36_an_endless_body_is_given_up(colour, server_factory):
    """Closing it takes the drain's 50 ms at most, on loops none of them; the next request goes on at once."""

    @Responder
    def respond(conn, request):
        if request.target == "/endless":
            conn.send(head("302 Found", ("Location", "/"), ("Transfer-Encoding", "chunked")))
            while not conn.server.wait_stopping(0.002):
                conn.send(b"1\r\nx\r\n")
        else:
            conn.send(head(length=2) + b"ok")

    server = server_factory(respond)

    async def body(c):
        spent = []
        for _ in range(3):
            response = await c.get(server.url + "/endless")
            began = time.perf_counter()
            await c.close(response)
            assert await c.fetch(server.url + "/") == b"ok"
            spent.append(time.perf_counter() - began)
        assert min(spent) < 0.1
        await c.wait_until(lambda: c.transport.stats().draining == 0)
        assert c.transport.stats().drains["timeout"] == 3

    run_colour(colour, body)


def test_row_36_what_has_come_is_not_waited_for(colour, server_factory):
    server = server_factory(chunked(b"a" * 1000, b"b" * 1000))

    async def body(c):
        for _ in range(5):
            await c.close(await c.get(server.url))
            await c.wait_until(lambda: c.transport.stats().idle == 1)
        assert server.accepted == 1

    run_colour(colour, body)


def test_what_is_drained_in_the_background_is_nobodys_leak(loop_colour, server_factory):
    """It was closed: who leaves the transport's block at once is not told that it was forgotten."""

    @Responder
    def respond(conn, request):
        conn.send(head(length=10) + b"x")
        conn.server.wait_stopping(10)

    server = server_factory(respond)

    async def body(c):
        async with pt.AsyncTransport() as transport:
            await (await transport.round_trip(pt.Request("GET", server.url))).aclose()
            stats = transport.stats(detail=True)
            assert (stats.draining, stats.lease_list[0].unread_s) == (1, None)
        assert transport.stats().leaks == 0

    run_colour(loop_colour, body)
