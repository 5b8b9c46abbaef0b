"""Rows 10 to 14 of field-pains.md: limits, and the queue behind them."""

from __future__ import annotations

import asyncio
import random
import threading
import time

import pytest

import pooltransport as pt
from tests.support.colours import run_colour
from tests.support.field import broken_promises, entered, wait_quiet, watch
from tests.support.responders import Responder, big, close_after, head, ok, routes, slow, until_close


async def park(c, server, count, gate, **fields):
    """Start `count` requests that stay unanswered until `gate` is set; return their handles."""
    return [await c.start(lambda: c.fetch(server.url + "/slow", **fields)) for _ in range(count)]


async def let_go(c, gate, handles):
    gate.set()
    for handle in handles:
        await c.wait(handle)


# -- row 10 --------------------------------------------------------------------------------------


def test_row_10_bounded_queue(colour, server_factory, scaled):
    """Row 10: with ``max_waiting=100`` one more fails at once (< 5 ms), and without a socket."""
    bound = scaled(100, 20)
    gate = threading.Event()
    server = server_factory(slow(gate))

    async def body(c):
        handles = await park(c, server, bound + 1, gate)
        await c.wait_until(lambda: c.transport.stats().waiting == bound)
        await c.wait_until(lambda: server.requests == 1)
        spent = []
        for _ in range(5):
            began = time.perf_counter()
            with pytest.raises(pt.PoolQueueFull, match=str(bound)) as caught:
                await c.get(server.url)
            spent.append(time.perf_counter() - began)
            assert not caught.value.may_have_been_processed
        assert min(spent) < 0.005
        stats = c.transport.stats()
        assert (stats.open, stats.dials, stats.waiting) == (1, 1, bound)
        await let_go(c, gate, handles)

    run_colour(colour, body, max_conns_per_host=1, max_waiting=bound)
    assert server.accepted == 1


# -- row 11 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0.3, pt.Timeout(0.3, connect=20.0, read=20.0), pt.Timeout(acquire=0.3)])
def test_row_11_queue_time_is_the_requests_time(colour, server_factory, timeout):
    """Row 11: 0.3 s for a request, all slots held: a queue error after 0.3 s (+0.05 s, the best of three)."""
    gate = threading.Event()
    server = server_factory(slow(gate))

    async def body(c):
        handles = await park(c, server, 2, gate)
        await c.wait_until(lambda: c.transport.stats().active == 2)
        spent = []
        while len(spent) < 3 and (not spent or min(spent) >= 0.35):
            began = time.monotonic()
            with pytest.raises(pt.PoolTimeout) as caught:
                await c.get(server.url, timeout=timeout)
            spent.append(time.monotonic() - began)
            error = caught.value
            assert (error.phase, error.seconds) == ("queue", 0.3)
            # `waited` begins with the question to the pool, the request's time a little before.
            assert 0.25 <= error.waited <= spent[-1]
            assert error.limit == 2
            assert not error.may_have_been_processed
            assert "2 of 2" in str(error).splitlines()[0]
        assert all(value >= 0.3 for value in spent)
        assert min(spent) < 0.35
        assert c.transport.stats().waiting == 0
        await let_go(c, gate, handles)

    run_colour(colour, body, max_conns_per_host=2)


# -- row 12 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", ["max_conns_per_host", "max_conns"])
def test_row_12_a_maximum_is_a_maximum(colour, server_factory, scaled, limit):
    """Row 12: the server never sees more than `limit` open sockets, whatever ends the connections."""
    server = server_factory(routes({"/": ok(), "/once": close_after(1), "/end": until_close(), "/big": big(1_000_000)}))
    rng = random.Random(12)
    requests = scaled(4000, 300)
    workers = 40

    async def body(c):
        async def worker(paths):
            for path in paths:
                if path == "/big":
                    response = await c.get(server.url + path)
                    async for _ in c.chunks(response, 10):
                        break
                    await c.close(response)
                else:
                    await c.fetch(server.url + path)

        paths = [rng.choice(("/", "/", "/once", "/end", "/big")) for _ in range(requests)]
        done = []

        async def all_of_them():
            await c.gather(*[lambda mine=paths[i::workers]: worker(mine) for i in range(workers)])
            done.append(1)

        watcher = await c.start(lambda: watch(c, c.transport, lambda: done))
        await all_of_them()
        assert await c.wait(watcher) == []
        await wait_quiet(c)

    run_colour(colour, body, **{limit: 10})
    # A retry after /once closed behind our back is a request more.
    assert server.requests >= requests
    assert server.peak <= 10  # the server may miss a short overlap, never invent one


# -- row 13 --------------------------------------------------------------------------------------


def test_row_13_idle_connections_count(colour, server_factory):
    """Row 13: ``max_conns=5``, 8 hosts in turn: 5 sockets, those of the hosts used last."""
    servers = [server_factory(ok()) for _ in range(8)]

    async def body(c):
        for server in servers:
            assert await c.fetch(server.url) == b"hello"
            assert sum(other.open for other in servers) <= 5
            assert c.transport.stats().open <= 5
        stats = c.transport.stats()
        assert stats.closed == {"evicted_for_limit": 3}
        assert [stats.hosts[server.url].idle for server in servers if server.url in stats.hosts][-5:] == [1] * 5
        assert [server.open for server in servers] == [0] * 3 + [1] * 5

    run_colour(colour, body, max_conns=5)
    assert [server.accepted for server in servers] == [1] * 8


def test_row_13_a_connection_in_flight_is_not_two(colour, server_factory, scaled):
    """Row 13: limit 1 with one in flight: the second request waits; never two at once."""
    flying, most = [0], [0]
    lock = threading.Lock()
    gate = threading.Event()

    @Responder
    def respond(conn, request):
        with lock:
            flying[0] += 1
            most[0] = max(most[0], flying[0])
        conn.wait_for(gate)
        with lock:
            flying[0] -= 1
        conn.send(head(length=2) + b"ok")

    server = server_factory(respond)
    count = scaled(200, 20)

    async def body(c):
        first = await c.start(lambda: c.fetch(server.url))
        await c.wait_until(lambda: server.requests == 1)
        others = [await c.start(lambda: c.fetch(server.url)) for _ in range(count)]
        await c.wait_until(lambda: c.transport.stats().waiting == count)
        assert server.requests == 1
        await let_go(c, gate, [first, *others])

    run_colour(colour, body, max_conns=1)
    assert most == [1]
    assert server.accepted == 1


def test_row_13_dialing_counts(colour, server_factory):
    """Row 13: a dial holds a slot; who wants another host waits for its end."""
    server = server_factory(ok())
    gate = threading.Event()
    called = []

    def dial(wish):
        called.append(wish.port)
        gate.wait(10)
        import socket

        return socket.create_connection((wish.host, server.port))

    async def body(c):
        first = await c.start(lambda: c.fetch(server.url))
        await c.wait_until(lambda: called)
        other = await c.start(lambda: c.fetch("http://127.0.0.1:9"))
        await c.wait_until(lambda: c.transport.stats().waiting == 1)
        stats = c.transport.stats()
        assert (stats.dialing, stats.dials, stats.open) == (1, 1, 0)
        assert called == [server.port]
        await let_go(c, gate, [first, other])

    run_colour(colour, body, max_conns=1, dial=dial)
    assert called == [server.port, 9]
    assert server.peak == 1


def test_row_13_closing_counts_over_loops(server_factory):
    """Row 13: a socket that its loop has not closed yet counts; another loop's dial waits for that (contract 1.1)."""
    never = threading.Event()
    server = server_factory(routes({"/slow": slow(never), "/": ok()}))
    seen = []

    def hold_up(info):
        if info.reason.value == "cancelled":
            time.sleep(0.1)  # before the loop, on which this runs, has another turn
            seen.append(server.accepted)

    transport = pt.AsyncTransport(max_conns=1, trace=pt.ClientTrace(conn_closed=hold_up))
    other_waits = threading.Event()

    async def other():
        waiting = asyncio.ensure_future(transport.round_trip(pt.Request("GET", server.url + "/")))
        while not transport.stats().waiting:
            await asyncio.sleep(0.001)
        other_waits.set()
        response = await waiting
        assert await response.aread() == b"hello"

    async def body():
        task = asyncio.ensure_future(transport.round_trip(pt.Request("GET", server.url + "/slow")))
        while not server.requests:
            await asyncio.sleep(0.001)
        thread = threading.Thread(target=asyncio.run, args=(other(),))
        thread.start()
        assert await asyncio.to_thread(other_waits.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(thread.join, 10)
        await transport.aclose()

    asyncio.run(body())
    assert seen == [1]
    assert server.peak == 1


# -- row 14 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [{"max_conns": 10, "max_conns_per_host": 5}, {"max_conns_per_host": 5}])
def test_row_14_a_slow_host_does_not_starve_another(colour, server_factory, scaled, limits):
    """Row 14: 200 requests parked on A (5 of 10 slots): B's GET completes within 50 ms (the best of three)."""
    gate = threading.Event()
    a = server_factory(slow(gate))
    b = server_factory(ok())
    count = scaled(200, 30)

    async def body(c):
        handles = await park(c, a, count, gate)
        await c.wait_until(lambda: c.transport.stats().waiting == count - 5)
        spent = []
        for _ in range(3):
            began = time.perf_counter()
            async with entered(c, await c.get(b.url)) as response:
                assert await c.read(response) == b"hello"
            spent.append(time.perf_counter() - began)
        assert min(spent) < 0.05
        assert not a.requests > 5
        assert broken_promises(c.transport.stats()) == []
        await let_go(c, gate, handles)

    run_colour(colour, body, **limits)
    assert a.peak == 5


def test_row_14_without_a_limit_per_host_it_waits_its_turn_only(colour, server_factory, scaled):
    """Row 14 with a total alone: B, that holds nothing, gets the next connection that comes back."""
    gates = [threading.Event() for _ in range(10)]
    number = iter(gates)
    lock = threading.Lock()
    open_gate = threading.Event()
    open_gate.set()

    @Responder
    def respond(conn, request):
        with lock:
            gate = next(number, open_gate)
        conn.wait_for(gate)
        conn.send(head(length=2) + b"ok")

    a = server_factory(respond)
    b = server_factory(ok())
    count = scaled(200, 30)

    async def body(c):
        handles = [await c.start(lambda: c.fetch(a.url)) for _ in range(10)]
        await c.wait_until(lambda: a.requests == 10)
        wanted = await c.start(lambda: c.fetch(b.url))
        await c.wait_until(lambda: c.transport.stats().waiting == 1)
        handles += [await c.start(lambda: c.fetch(a.url)) for _ in range(count)]
        await c.wait_until(lambda: c.transport.stats().waiting == count + 1)
        gates[0].set()
        assert await c.wait(wanted) == b"hello"
        assert c.transport.stats().closed == {"evicted_for_limit": 1} or a.requests >= 10
        for gate in gates:
            gate.set()
        for handle in handles:
            await c.wait(handle)

    run_colour(colour, body, max_conns=10)
    assert a.peak + b.peak <= 11
    assert b.accepted == 1
