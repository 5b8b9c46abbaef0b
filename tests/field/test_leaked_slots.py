"""Rows 1 to 6 of field-pains.md: slots and connections leaked."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import random
import socket
import threading
import time
import warnings

import pytest
import trio

import pooltransport as pt
from pooltransport.core.pool import QueueFull
from tests.core.pool_driver import Driver
from tests.support.colours import COLOURS, run_colour
from tests.support.field import broken_promises, ends_of, entered, run_cancelled_at, wait_quiet, watch
from tests.support.responders import Responder, big, chunked, head, ok, routes, stall

LOOPS = ["asyncio", "trio"]
LARGER_THAN_BUFFERS = 4_000_000


class Node:
    """Something that refers to itself, so that only the collector finds it."""

    def __init__(self, response):
        self.me = self
        self.response = response


# -- row 1 ---------------------------------------------------------------------------------------


@pytest.fixture
def quick_collections():
    """Leave what is there out of collections: a test may then collect a hundred times."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize(("how", "level"), [("last reference", "site"), ("cycle", "full")])
def test_row_1_dropped_responses_give_their_slots_back(colour, server_factory, quick_collections, how, level):
    """Row 1, as written: 100 dropped of limit 2; request 101 within 0.5 s, counted, told, warned with the line."""
    server = server_factory(routes({"/big": big(LARGER_THAN_BUFFERS), "/": ok()}))
    told = []

    async def body(c):
        for _ in range(100):
            response = await c.get(f"{server.url}/big?token=secret")
            if how == "cycle":
                Node(response)
            del response
            gc.collect()
        began = time.monotonic()
        assert await c.fetch(f"{server.url}/") == b"hello"
        assert time.monotonic() - began <= 0.5
        stats = c.transport.stats()
        assert stats.leaks == 100
        assert len(told) == 100, "the hook has been told of all once stats() returned"
        assert (await wait_quiet(c)).closed["leaked"] == 100

    options = {"max_conns_per_host": 2, "leak_detection": level, "trace": pt.ClientTrace(leaked=told.append)}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run_colour(colour, body, **options)
    assert server.peak <= 2
    mine = [warning for warning in caught if issubclass(warning.category, pt.UnclosedResponseWarning)]
    assert [report.number for report in told] == list(range(1, 101))
    assert len(mine) == 3, "the 1st, the 10th and the 100th of one line"
    text = str(mine[0].message)
    assert f"GET {server.url} [200]" in text
    assert " s after it was opened" in text
    assert f"{mine[0].filename}:{mine[0].lineno}" in text, "the line that opened it: a helper's, as all calls here"
    assert mine[0].filename == inspect.getsourcefile(run_colour)
    assert "secret" not in text + str(told)
    assert "/big" not in text + str(told)


def test_row_1_says_which_line_opened_it(server_factory):
    """Row 1: the warning is at the caller's own line, where a filter by module finds it."""
    server = server_factory(big(LARGER_THAN_BUFFERS))
    with pt.Transport() as transport, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        line = inspect.currentframe().f_lineno + 1
        transport.round_trip(pt.Request("GET", server.url))
        gc.collect()
        assert transport.stats().leaks == 1
    assert [(warning.filename, warning.lineno) for warning in caught] == [(__file__, line)]


def test_row_1_without_sites_all_the_rest_holds(colour, server_factory):
    """Row 1 with ``leak_detection="off"``: the slot still comes back and is counted."""
    server = server_factory(big(LARGER_THAN_BUFFERS))

    async def body(c):
        for _ in range(20):
            response = await c.get(server.url)
            del response
        gc.collect()
        await wait_quiet(c)
        assert c.transport.stats().leaks == 20

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        run_colour(colour, body, max_conns_per_host=2, leak_detection="off")


# -- row 2 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [100_000, 1_000_000])
def test_row_2_blocks_left_early(colour, server_factory, scaled, size):
    """Row 2: 1,000 ``with`` blocks that read 10 of 100,000 bytes, limit 1; also above the drain limit."""
    server = server_factory(big(size))
    blocks = scaled(1000, 60)

    async def body(c):
        client = c.make_client()
        for _ in range(blocks):
            async with entered(c, client.stream("GET", server.url)) as response:
                async for chunk in c.chunks(response, 10):
                    assert chunk == b"x" * 10
                    break
        stats = await wait_quiet(c)
        assert sum(stats.acquired.values()) == blocks
        assert stats.leaks == 0
        await c.close(client)

    run_colour(colour, body, max_conns_per_host=1)
    assert server.requests == blocks
    # Above the drain limit each block closes its connection; the server may notice that after the next came.
    assert server.peak <= (1 if size <= 262_144 else 2)


# -- row 3 ---------------------------------------------------------------------------------------

PIECES = chunked(*[b"x" * 100] * 3)


@Responder
def in_pieces(conn, request):
    """Answer with a body that takes many receives."""
    conn.send(head(length=40))
    conn.send_pieces([b"x"] * 40, 0.0002)


@pytest.mark.parametrize(("path", "early"), [("/short", 3), ("/pieces", 10)])
def test_row_3_cancelled_at_any_await(loop_colour, server_factory, scaled, path, early):
    """Row 3: 10,000 requests, each cancelled at a random one of its first 50 awaits, limit 5."""
    server = server_factory(routes({"/short": PIECES, "/pieces": in_pieces}))
    rng = random.Random(3)
    count = scaled(10_000, 300) // 2
    cancelled = []

    async def body(c):
        async def worker(places):
            for place in places:
                stepped = await run_cancelled_at(c.name, c.fetch(server.url + path), place)
                cancelled.append(stepped.acted)

        # Most requests have fewer awaits than 50: half of the places are early ones.
        places = [rng.choice((rng.randrange(50), rng.randrange(early))) + 1 for _ in range(count)]
        await c.gather(*[lambda mine=places[i::20]: worker(mine) for i in range(20)])
        stats = await wait_quiet(c)
        assert stats.open <= 5
        assert await c.fetch(server.url + "/short") == b"x" * 300
        await c.wait_until(lambda: server.open == c.transport.stats().open)

    run_colour(loop_colour, body, max_conns_per_host=5)
    assert len(cancelled) == count
    assert sum(cancelled) > count / 20, "else this test tests nothing"
    assert server.peak <= 5


async def by_cancel(c, fetch, seconds):
    handle = await c.start(fetch)
    await c.sleep(seconds)
    handle.cancel()
    await c.wait_until(lambda: handle.done)


async def by_timeout(c, fetch, seconds):
    if c.name == "trio":
        with trio.move_on_after(seconds):
            await fetch()
    else:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await fetch()


async def by_wait_for(c, fetch, seconds):
    if c.name == "trio":
        with contextlib.suppress(trio.TooSlowError):
            with trio.fail_after(seconds):
                await fetch()
    else:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(fetch(), seconds)


class Enough(Exception):
    """Ends a group."""


async def by_group(c, fetch, seconds):
    with contextlib.suppress(BaseExceptionGroup):
        if c.name == "trio":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fetch)
                await c.sleep(seconds)
                raise Enough
        else:
            async with asyncio.TaskGroup() as group:
                group.create_task(fetch())
                await c.sleep(seconds)
                raise Enough


@pytest.mark.parametrize("by", [by_cancel, by_timeout, by_wait_for, by_group])
def test_row_3_whatever_cancels(loop_colour, server_factory, scaled, by):
    """Row 3: the same for ``asyncio.timeout``, ``wait_for``, task groups and trio's scopes."""
    server = server_factory(routes({"/pieces": in_pieces, "/": ok()}))
    rng = random.Random(33)
    count = scaled(2500, 100)

    async def body(c):
        async def worker(times):
            for seconds in times:
                await by(c, lambda: c.fetch(server.url + "/pieces"), seconds)

        times = [rng.uniform(0.0, 0.02) for _ in range(count)]
        await c.gather(*[lambda mine=times[i::20]: worker(mine) for i in range(20)])
        stats = await wait_quiet(c)
        assert stats.open <= 5
        assert await c.fetch(server.url + "/") == b"hello"

    run_colour(loop_colour, body, max_conns_per_host=5)
    assert server.peak <= 5


def test_row_3_deadlines_of_every_length(colour, server_factory, scaled):
    """Row 3 for threads, which cannot be cancelled: the request's own deadline, in any phase."""
    server = server_factory(routes({"/pieces": in_pieces, "/": ok()}))
    rng = random.Random(333)
    count = scaled(5000, 200)
    late = []

    async def body(c):
        async def worker(times):
            for seconds in times:
                try:
                    await c.fetch(server.url + "/pieces", timeout=seconds)
                except pt.TransportTimeout as error:
                    late.append(error.phase)

        times = [rng.uniform(0.0001, 0.03) for _ in range(count)]
        await c.gather(*[lambda mine=times[i::20]: worker(mine) for i in range(20)])
        stats = await wait_quiet(c)
        assert stats.open <= 5
        assert sum(stats.timeouts.values()) == len(late)
        assert await c.fetch(server.url + "/") == b"hello"

    run_colour(colour, body, max_conns_per_host=5)
    assert len(late) > count / 10, "else this test tests nothing"
    assert {"queue", "body"} <= set(late)
    assert server.peak <= 5


# -- row 4 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ticks", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("cancelled_in", ["read", "close", "anywhere"])
def test_row_4_cancelled_twice(loop_colour, server_factory, scaled, cancelled_in, ticks):
    """Row 4: two cancels 0, 1, 2, 3 or 5 ticks apart, 200 trials each: no record and no socket is left."""
    never = threading.Event()
    server = server_factory(stall(never, b"x" * 1000))
    rng = random.Random(ticks)
    trials = scaled(200, 10)

    async def body(c):
        state = {}

        async def use():
            response = await c.get(server.url)
            state["at"] = "read"
            try:
                if cancelled_in == "close":
                    state["at"] = "close"
                    await c.close(response)
                    while True:
                        await c.sleep(0)
                await c.read(response)
            finally:
                await c.close(response)

        for _ in range(trials):
            state["at"] = "start"
            inner = trio.CancelScope()

            async def scoped(inner=inner):
                with inner:
                    await use()

            handle = await c.start(scoped if c.name == "trio" else use)
            first = inner.cancel if c.name == "trio" else handle.cancel
            if cancelled_in == "anywhere":
                for _ in range(rng.randrange(40)):
                    await c.sleep(0)
            else:
                await c.wait_until(lambda: state["at"] == cancelled_in)
            first()
            for _ in range(ticks):
                await c.sleep(0)
            handle.cancel()
            await c.wait_until(lambda handle=handle: handle.done)
        stats = await wait_quiet(c)
        assert stats.leaks == 0
        assert stats.open == stats.idle, ends_of(stats)  # a dial that lost its request may have become one
        await c.wait_until(lambda: server.open == c.transport.stats().idle)
        if cancelled_in != "anywhere":
            assert stats.open == 0

    run_colour(loop_colour, body, max_conns_per_host=3)
    assert server.peak <= 3


# -- row 5 ---------------------------------------------------------------------------------------


@pytest.fixture
def deaf():
    """Give the URL of a listener that accepts nobody: its backlog is full."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    held = []
    for _ in range(20):
        sock = socket.socket()
        sock.settimeout(0.1)
        held.append(sock)
        try:
            sock.connect(listener.getsockname())
        except TimeoutError:
            break
    else:
        pytest.skip("the system accepts without end")
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    for sock in [*held, listener]:
        sock.close()


@pytest.mark.parametrize("limit", ["max_conns", "max_conns_per_host"])
def test_row_5_connect_failures_do_not_poison(colour, server_factory, scaled, deaf, limit):
    """Row 5: 20 threads x 200 GETs to a listener that never accepts, limit 1, then a healthy host."""
    server = server_factory(ok())
    workers, gets = scaled(20, 6), scaled(200, 3)
    errors = []

    async def body(c):
        async def worker():
            for _ in range(gets):
                try:
                    await c.get(deaf, timeout=pt.Timeout(acquire=0.05, connect=0.05))
                except pt.TransportTimeout as error:
                    errors.append(error)

        await c.gather(*[worker] * workers)
        assert await c.fetch(server.url, timeout=5.0) == b"hello"
        stats = c.transport.stats()
        assert (stats.waiting, stats.leases) == (0, 0)
        assert broken_promises(stats) == []
        c.transport.close_idle_connections()
        await wait_quiet(c)

    run_colour(colour, body, **{limit: 1})
    assert len(errors) == workers * gets
    assert {error.phase for error in errors} <= {"queue", "connect"}
    assert any(isinstance(error, pt.ConnectTimeout) for error in errors)


# -- row 6 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [(1, 1), (3, 2), (5, 2), (4, None), (None, 2)])
def test_row_6_model(scaled, limits):
    """Row 6: 100,000 random steps over 5 hosts; no limit is exceeded, nobody waits beside a free slot."""
    total, per_host = limits
    rng = random.Random(f"row 6 {limits}")
    driver = Driver(max_conns=total, max_conns_per_host=per_host, max_waiting=30, idle_conn_timeout=50.0)
    peak_waiting = 0

    def ask():
        with contextlib.suppress(QueueFull):
            driver.ask(rng.choice("abcde"))

    def pick(items, act):
        if items:
            act(rng.choice(items))

    def expire():
        driver.now += rng.choice((0.1, 1.0, 60.0))
        driver.apply(driver.pool.expire(driver.now))

    steps = [
        *[ask] * 6,
        *[lambda: pick(driver.leases, driver.put)] * 3,
        lambda: pick(driver.leases, driver.remove),
        lambda: pick(driver.waiting, driver.cancel),
        lambda: pick(driver.woken, lambda waiter: (driver.woken.remove(waiter), driver.cancel(waiter))),
        *[lambda: pick(driver.dials, driver.dialed)] * 3,
        lambda: pick(driver.dials, driver.dial_failed),
        *[lambda: pick(list(driver.closing), driver.closed)] * 3,
        expire,
        lambda: driver.apply(driver.pool.close_idle(driver.now)) if rng.random() < 0.05 else None,
    ]
    for _ in range(scaled(100_000, 3000) // 5):
        rng.choice(steps)()
        del driver.woken[:-5]  # the others took what they were given
        stats = driver.stats
        assert broken_promises(stats) == []
        peak_waiting = max(peak_waiting, stats.waiting)
    assert peak_waiting > 3, "else this test tests nothing"
    driver.drain()


def test_row_6_limits_and_timeouts_end_to_end(colour, server_factory, scaled):
    """Row 6 over sockets: 5 hosts, both limits, deadlines of every length; nothing hangs."""
    servers = [server_factory(routes({"/pieces": in_pieces, "/": ok()})) for _ in range(5)]
    rng = random.Random(6)
    count = scaled(3000, 200)

    async def body(c):
        ended = []

        async def worker(plan):
            for server, path, seconds in plan:
                with contextlib.suppress(pt.TransportTimeout):
                    await c.fetch(server.url + path, timeout=seconds)
            ended.append(1)

        watcher = await c.start(lambda: watch(c, c.transport, lambda: len(ended) == 16))
        plan = [
            (rng.choice(servers), rng.choice(("/", "/pieces")), rng.choice((5.0, rng.uniform(0.0005, 0.03))))
            for _ in range(count)
        ]
        await c.gather(*[lambda mine=plan[i::16]: worker(mine) for i in range(16)])
        assert await c.wait(watcher) == []
        for server in servers:
            assert await c.fetch(server.url + "/", timeout=5.0) == b"hello"
        await wait_quiet(c)

    run_colour(colour, body, max_conns=4, max_conns_per_host=2)
    assert max(server.peak for server in servers) <= 2


def test_every_colour_is_there():
    """Rows 1 to 6 are promises to all three."""
    assert set(COLOURS) >= {"threads", *LOOPS}
