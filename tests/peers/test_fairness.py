"""Issue 2: no host, and no request, is held up by others for longer than the rules allow."""

from __future__ import annotations

import threading
import time

import pytest

import pooltransport as pt
from tests.support.colours import run_colour
from tests.support.responders import Responder, head, slow

pytestmark = pytest.mark.peers


def test_a_stuck_host_with_its_own_limit_does_not_hold_up_another(nginx, colour, server_factory):
    """Two of four slots are stuck for ever; the other host has the other two for itself."""
    event = threading.Event()
    stuck = server_factory(slow(event))

    async def body(c):
        held = [await c.start(lambda: c.fetch(stuck.url)) for _ in range(20)]
        await c.wait_until(lambda: stuck.requests == 2 and c.transport.stats().waiting == 18)

        async def work():
            for number in range(25):
                began = time.monotonic()
                assert await c.fetch(f"{nginx.url}/echo?{number}") == str(number).encode()
                assert time.monotonic() - began < 2.0

        await c.gather(*[work] * 4)
        assert (stuck.requests, c.transport.stats().waiting) == (2, 18)
        event.set()
        for handle in held:
            assert await c.wait(handle) == b"hello"

    run_colour(colour, body, max_conns=4, max_conns_per_host=2)
    assert stuck.peak <= 2


def test_a_slow_host_without_its_own_limit_does_not_hold_up_another(nginx, colour, server_factory):
    """Contract 1.3: a host that holds no connection is served within as many releases as there are slots."""
    limit = 4
    order: list[str] = []

    @Responder
    def respond(conn, request):
        if not conn.server.wait_stopping(0.04):
            conn.send(head(length=2) + b"ok")

    slow_host = server_factory(respond)
    theirs, ours = note_in(order, "slow"), note_in(order, "fast")

    async def body(c):
        ended = False

        async def keep_busy():
            while not ended:
                assert await c.fetch(slow_host.url, trace=theirs) == b"ok"

        busy = [await c.start(keep_busy) for _ in range(20)]
        await c.wait_until(lambda: slow_host.requests >= limit)
        for number in range(20):
            assert await c.fetch(f"{nginx.url}/echo?{number}", trace=ours) == str(number).encode()
        ended = True
        for handle in busy:
            await c.wait(handle)

    run_colour(colour, body, max_conns=limit)
    assert slow_host.peak <= limit
    passed = overtaken(order, "fast", "slow")
    assert len(passed) > 10
    # Besides, each slot may have been promised before the wait began, and be told of only during it.
    assert max(passed) <= 2 * limit, passed


def note_in(order: list[str], name: str) -> pt.ClientTrace:
    """Return hooks that write down who waits and who has a connection."""
    return pt.ClientTrace(
        acquire_queued=lambda info: order.append(f"{name} waits"), got_conn=lambda info: order.append(f"{name} has")
    )


def overtaken(order: list[str], name: str, other: str) -> list[int]:
    """Return for each wait of `name` how many of `other` had a connection meanwhile."""
    counts = []
    for place, event in enumerate(order):
        if event == f"{name} waits":
            counts.append(order[place : order.index(f"{name} has", place)].count(f"{other} has"))
    return counts


def test_a_greedy_loop_overtakes_a_waiter_at_most_once(nginx, colour, scaled):
    """One slot; one gives it back and asks again at once, without end. The other one waits, then has it."""
    turns = scaled(1_000, 100)
    order: list[str] = []
    greedy, patient = note_in(order, "greedy"), note_in(order, "patient")

    async def body(c):
        ended = False

        async def grab():
            while not ended:
                await c.fetch(f"{nginx.url}/echo?greedy", trace=greedy)

        handle = await c.start(grab)
        for _ in range(turns):
            assert await c.fetch(f"{nginx.url}/echo?patient", trace=patient) == b"patient"
        ended = True
        await c.wait(handle)

    run_colour(colour, body, max_conns_per_host=1)
    counts = overtaken(order, "patient", "greedy")
    assert len(counts) > turns // 2, "it hardly ever had to wait: this test shows nothing"
    assert max(counts) <= 1


async def read_ten(c, client, url: str) -> bytes:
    """Read 10 bytes in a `with client.stream()` block of the colour."""
    if c.sync:
        with client.stream("GET", url) as response:
            return next(iter(response.iter_bytes(10)))
    async with client.stream("GET", url) as response:
        return await anext(response.aiter_bytes(10))


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_stream_blocks_that_leave_early_all_finish(nginx, colour, scheme, client_ssl_context):
    """1,000 blocks that read 10 of 100,000 bytes, with one slot."""
    total = 1_000
    url = f"{nginx.https_url if scheme == 'https' else nginx.url}/bytes/100k"

    async def body(c):
        client = c.make_client()
        for _ in range(total):
            assert await read_ten(c, client, url) == b"x" * 10
        await c.wait_until(lambda: c.transport.stats().draining == c.transport.stats().closing == 0)
        return c.transport.stats()

    stats = run_colour(colour, body, max_conns_per_host=1, ssl_context=client_ssl_context)
    assert (stats.active, stats.leases, stats.waiting, stats.leaks) == (0, 0, 0, 0)
    assert sum(stats.acquired.values()) == total
    assert sum(stats.drains.values()) <= total
    # What is left fits the drain limit: nearly every connection is used again.
    assert stats.dials <= total // 10, (stats.drains, stats.closed)


def test_many_at_once_that_leave_early_all_finish(nginx, colour):
    """The same from 20 at once: each waits for what the one before left."""

    async def body(c):
        client = c.make_client()

        async def work():
            for _ in range(10):
                assert await read_ten(c, client, f"{nginx.url}/bytes/100k") == b"x" * 10

        await c.gather(*[work] * 20)
        await c.wait_until(lambda: c.transport.stats().open == c.transport.stats().idle)

    run_colour(colour, body, max_conns_per_host=1)
