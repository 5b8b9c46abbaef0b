"""LIM: how many may be idle, how many may be open, and who goes when there are too many."""

from __future__ import annotations

import threading

import pytest

from pooltransport import ClientTrace, ConfigError, Request, TransportOptions
from pooltransport.core.pool import Limits, Pool, Waiter
from pooltransport.errors import ConnectError
from pooltransport.stats import CloseReason
from pooltransport.testing.fakes import END, Answers
from tests.engine.scenarios import OK, OTHER, URL
from tests.support.colours import run_colour
from tests.support.field import wait_quiet
from tests.support.responders import close_after, ok, slow

HELD = (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",)


def counters(world):
    stats = world.transport.stats()
    return stats.idle, dict(stats.closed)


def hold(world, count, url=URL, **fields):
    handles = [world.runtime.start(world.transport.round_trip(Request("GET", url, **fields))) for _ in range(count)]
    world.runtime.run_until_idle()
    return [handle.outcome() for handle in handles]


@pytest.mark.go("LIM-01")
def test_the_newcomer_is_closed_at_the_hosts_limit(make_world):
    closed = []
    trace = ClientTrace(conn_closed=lambda info: closed.append((info.conn.id, info.reason.value)))
    world = make_world(Answers(HELD), max_idle_conns_per_host=2, trace=trace)
    responses = hold(world, 3)
    for index in (2, 0, 1):
        world.runtime.streams[index].feed(b"hi")
        world.runtime.run(responses[index].aread())
    assert closed == [(responses[1].conn.id, "idle_limit_host")]
    assert counters(world) == (2, {"idle_limit_host": 1})


@pytest.mark.go("LIM-01")
def test_three_at_once_leave_two(colour, server_factory):
    gate = threading.Event()
    server = server_factory(slow(gate))

    async def body(c):
        handles = [await c.start(lambda: c.fetch(server.url)) for _ in range(3)]
        await c.wait_until(lambda: server.requests == 3)
        gate.set()
        for handle in handles:
            await c.wait(handle)
        stats = await wait_quiet(c)
        assert (stats.idle, stats.closed) == (2, {"idle_limit_host": 1})
        await c.wait_until(lambda: server.open == 2)

    run_colour(colour, body, max_idle_conns_per_host=2)


@pytest.mark.go("LIM-02")
def test_by_default_a_burst_keeps_its_connections(make_world):
    """Here we differ: as many as may be idle at all, not two."""
    world = make_world(Answers(HELD))
    responses = hold(world, 100)
    for response, stream in zip(responses, world.runtime.streams, strict=True):
        stream.feed(b"hi")
        world.runtime.run(response.aread())
    assert counters(world) == (100, {})
    (one_more,) = hold(world, 1)
    assert one_more.conn.was_idle
    world.runtime.run(one_more.aclose())


@pytest.mark.go("LIM-03", "LIM-07")
@pytest.mark.parametrize("name", ["max_idle_conns", "max_idle_conns_per_host"])
def test_0_keeps_nothing_and_less_is_refused(make_world, name):
    """Go's negative limits are 0 here: nothing is kept, no request says close, and every refusal is told."""
    told = []
    world = make_world(answers := Answers(OK), trace=ClientTrace(put_idle_conn=told.append), **{name: 0})
    for _ in range(3):
        world.runtime.run(world.get())
    assert counters(world) == (0, {"idle_limit_host": 3})
    assert [error.reason for error in told] == [CloseReason.IDLE_LIMIT_HOST] * 3
    assert not any(b"connection:" in request.lower() for request in answers.requests)
    with pytest.raises(ConfigError, match=f"{name}=-1"):
        TransportOptions(**{name: -1})


@pytest.mark.go("LIM-04")
def test_the_one_idle_longest_anywhere_goes(make_world):
    closed = []
    trace = ClientTrace(conn_closed=lambda info: closed.append(info.conn.origin))
    world = make_world(Answers(OK), max_idle_conns=4, trace=trace)
    urls = [f"http://192.0.2.{host}/" for host in range(1, 6)]
    for url in urls:
        world.runtime.run(world.get(url))
    assert closed == ["http://192.0.2.1:80"]
    world.runtime.run(world.get(urls[1]))  # used again, it is the newest
    world.runtime.run(world.get(urls[0]))
    assert closed == ["http://192.0.2.1:80", "http://192.0.2.3:80"]
    assert counters(world) == (4, {"idle_limit_total": 2})


@pytest.mark.go("LIM-05")
def test_the_idle_limit_is_not_about_active_ones(make_world):
    """No limit is None here, not 0."""
    world = make_world(Answers(HELD), max_idle_conns=1)
    responses = hold(world, 5)
    assert world.transport.stats().active == 5
    for response, stream in zip(responses, world.runtime.streams, strict=True):
        stream.feed(b"hi")
        world.runtime.run(response.aread())
    assert counters(world) == (1, {"idle_limit_host": 4})

    unlimited = make_world(Answers(HELD), max_idle_conns=None)
    responses = hold(unlimited, 120)
    for response, stream in zip(responses, unlimited.runtime.streams, strict=True):
        stream.feed(b"hi")
        unlimited.runtime.run(response.aread())
    assert counters(unlimited) == (120, {})


@pytest.mark.go("LIM-06")
def test_a_newcomer_refused_by_its_host_evicts_nobody(make_world):
    world = make_world(Answers(HELD), max_idle_conns=2, max_idle_conns_per_host=1)
    responses = hold(world, 1, OTHER) + hold(world, 2)
    for response, stream in zip(responses, world.runtime.streams, strict=True):
        stream.feed(b"hi")
        world.runtime.run(response.aread())
    assert counters(world) == (2, {"idle_limit_host": 1})
    hosts = world.transport.stats().hosts
    assert {origin: host.idle for origin, host in hosts.items()} == {"http://192.0.2.1:80": 1, "http://192.0.2.2:80": 1}


@pytest.mark.go("LIM-08")
def test_ten_requests_one_connection(colour, server_factory, server_ssl_context, client_ssl_context):
    server = server_factory(ok(), tls=server_ssl_context)
    fresh, handshakes = [], []
    trace = ClientTrace(got_conn=fresh.append, tls_handshake_done=handshakes.append)

    async def body(c):
        assert await c.gather(*[lambda: c.fetch(server.url)] * 10) == [b"hello"] * 10
        assert c.transport.stats().dials == 1

    run_colour(colour, body, max_conns_per_host=1, ssl_context=client_ssl_context, trace=trace)
    assert (server.accepted, server.requests, len(handshakes)) == (1, 10, 1)
    assert sorted(info.reused for info in fresh) == [False] + [True] * 9


@pytest.mark.go("LIM-09")
def test_a_dead_connection_gives_its_slot_back_once(colour, server_factory):
    server = server_factory(close_after(1))

    async def body(c):
        for turn in range(1, 4):
            await c.fetch(server.url)
            await c.wait_until(lambda: server.open == 0)
            c.transport.close_idle_connections()
            stats = await wait_quiet(c)
            assert (stats.open, stats.dials) == (0, turn)

    run_colour(colour, body, max_conns_per_host=1)
    assert server.accepted == 3


@pytest.mark.go("LIM-10", "LIM-11", "QUEUE-02")
def test_a_dial_counts_and_when_it_fails_the_oldest_waiter_dials(make_world):
    world = make_world(lambda dial: None, max_conns_per_host=1)
    tasks = [world.runtime.start(world.get()) for _ in range(3)]
    world.runtime.run_until_idle()
    stats = world.transport.stats()
    assert (len(world.runtime.dials), stats.dialing, stats.waiting) == (1, 1, 2)
    world.runtime.advance(5.0)
    assert len(world.runtime.dials) == 1
    before = world.runtime.now()
    world.runtime.dials[0].refuse()
    world.runtime.run_until_idle()
    assert isinstance(tasks[0].error, ConnectError)
    assert (len(world.runtime.dials), world.runtime.now()) == (2, before)
    assert not tasks[1].done
    Answers(HELD)(world.runtime.dials[1])
    world.runtime.run_until_idle()
    for index in (1, 2):
        world.runtime.streams[0].feed(b"hi")
        world.runtime.run_until_idle()
        assert [task.done for task in tasks] == [True, True, index == 2]
    assert len(world.runtime.dials) == 2


def _idle_timeout(world):
    world.runtime.advance(90.0)


def _server_ends(world):
    world.runtime.streams[0].end()


def _close_idle(world):
    world.transport.close_idle_connections()


@pytest.mark.go("LIM-12", "IDLE-14")
@pytest.mark.parametrize("ends", [_idle_timeout, _server_ends, _close_idle])
def test_an_idle_connection_that_goes_frees_its_slot(make_world, ends):
    world = make_world(Answers(OK), max_conns_per_host=1)
    world.runtime.run(world.get())
    ends(world)
    world.runtime.run_until_idle()
    assert world.transport.stats().open == 0
    assert world.runtime.run(world.get()) == b"hi"
    assert world.transport.stats().dials == 2


async def _closes(world, response):
    await response.aclose()


async def _fails(world, response):
    world.runtime.streams[0].end()
    with pytest.raises(Exception, match="closed the connection"):
        await response.aread()


@pytest.mark.go("LIM-12")
@pytest.mark.parametrize("lazy", [False, True], ids=["at_once", "a_turn_later"])
@pytest.mark.parametrize("ends", [_closes, _fails])
def test_a_used_connection_that_goes_gives_its_slot_to_the_oldest_waiter(make_world, ends, lazy):
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n"
    world = make_world(Answers((head,), OK), max_conns_per_host=1, runtime={"lazy_close": lazy})
    (response,) = hold(world, 1)
    order = []

    async def wait(number):
        await world.get()
        order.append(number)

    for number in range(3):
        world.runtime.start(wait(number))
    world.runtime.run_until_idle()
    assert order == []
    world.runtime.run(ends(world, response))
    world.runtime.run_until_idle()
    assert order == [0, 1, 2]
    assert world.transport.stats().dials == 2


@pytest.mark.go("LIM-12")
def test_a_cancelled_request_gives_its_slot_to_the_oldest_waiter(make_world):
    world = make_world(Answers((), OK), max_conns_per_host=1)
    first = world.runtime.start(world.get())
    world.runtime.run_until_idle()
    waiting = [world.runtime.start(world.get()) for _ in range(2)]
    world.runtime.run_until_idle()
    first.cancel()
    world.runtime.run_until_idle()
    assert [task.outcome() for task in waiting] == [b"hi", b"hi"]
    assert world.transport.stats().closed == {"cancelled": 1}


@pytest.mark.go("LIM-13")
def test_a_drain_that_fails_frees_its_slot(make_world):
    world = make_world(Answers(HELD, OK), max_conns_per_host=1)
    (response,) = hold(world, 1)
    waiting = world.runtime.start(world.get())
    world.runtime.run(response.aclose())
    world.runtime.run_until_idle()
    stats = world.transport.stats()
    assert (stats.draining, stats.waiting, waiting.done) == (1, 1, False)
    world.runtime.advance(0.05)
    assert waiting.outcome() == b"hi"
    assert world.transport.stats().closed == {"drain_timeout": 1}


@pytest.mark.go("LIM-15")
def test_a_limit_over_all_hosts(make_world):
    """Go has none; here `max_conns` holds, and an idle connection elsewhere gives way."""
    world = make_world(Answers(HELD), max_conns=2)
    held = hold(world, 1) + hold(world, 1, OTHER)
    third = world.runtime.start(world.get("http://192.0.2.3/"))
    world.runtime.run_until_idle()
    assert (world.transport.stats().open, world.transport.stats().waiting) == (2, 1)
    world.runtime.streams[0].feed(b"hi")
    world.runtime.run(held[0].aread())
    world.runtime.run_until_idle()
    assert world.transport.stats().closed == {"evicted_for_limit": 1}
    world.runtime.streams[2].feed(b"hi")
    world.runtime.run_until_idle()
    assert third.outcome() == b"hi"
    world.runtime.streams[1].feed(b"hi")
    world.runtime.run(held[1].aread())
    assert len(world.runtime.open_streams) == 2


@pytest.mark.go("LIM-16")
def test_a_slot_is_never_given_back_twice(make_world):
    """Whatever is reported twice counts once, so that nothing can fall below 0."""
    pool = Pool(Limits(max_conns_per_host=1), lambda key: key)
    assert pool.remove("never there", CloseReason.READ_ERROR) == ()
    assert pool.closed("never there", 0.0) == ()
    world = make_world(Answers(END, OK), max_conns_per_host=1)
    with pytest.raises(ConnectionError):
        world.runtime.run(world.get())
    for _ in range(3):
        world.runtime.streams[0].end()
        world.transport.close_idle_connections()
        world.runtime.run_until_idle()
    stats = world.transport.stats()
    assert (stats.open, stats.closing, stats.dialing, stats.closed) == (0, 0, 0, {"read_loop_exit": 1})
    assert world.runtime.run(world.get()) == b"hi"


@pytest.mark.go("LIM-16")
def test_giving_back_what_is_given_back_already_is_an_error_in_words():
    """One connection for two requests would be worse than a crash."""
    pool = Pool(Limits(), lambda key: key)
    waiter = Waiter("host", None)
    (dial,) = pool.get(waiter, 0.0)
    pool.dialed(dial.ticket, "conn", 0.0)
    pool.put_idle("conn", 0.0)
    with pytest.raises(AssertionError, match="given back twice"):
        pool.put_idle("conn", 0.0)
