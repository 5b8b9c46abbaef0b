"""POOL: what is kept, who gets it, and when it is back."""

from __future__ import annotations

import threading

import pytest

from pooltransport import ClientTrace, NotPooled, Request, Timeout
from pooltransport.errors import ConnectTimeout
from pooltransport.testing.fakes import END, Answers
from tests.engine.scenarios import OK, URL
from tests.support.colours import run_colour
from tests.support.responders import Responder, chunked, head, ok, slow

HELD = (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",)  # the body is the test's to send


def got_conns():
    told = []
    return told, ClientTrace(got_conn=told.append)


def open_responses(world, count, url=URL, **fields):
    """Start `count` requests whose answers have no body yet; return the responses in order."""
    handles = [world.runtime.start(world.transport.round_trip(Request("GET", url, **fields))) for _ in range(count)]
    world.runtime.run_until_idle()
    return [handle.outcome() for handle in handles]


def finish(world, response, stream):
    stream.feed(b"hi")
    assert world.runtime.run(response.aread()) == b"hi"


@pytest.mark.go("POOL-01")
def test_two_requests_one_connection(colour, server_factory):
    server = server_factory(ok())

    async def body(c):
        for _ in range(2):
            assert await c.fetch(server.url) == b"hello"

    run_colour(colour, body)
    assert [request.conn for request in server.log] == [1, 1]


@pytest.mark.go("POOL-02")
def test_no_pipelining(colour, server_factory):
    gate = threading.Event()
    server = server_factory(slow(gate))

    async def body(c):
        handles = [await c.start(lambda: c.fetch(server.url)) for _ in range(2)]
        # Both are at the server before either is answered: on a connection each.
        await c.wait_until(lambda: server.requests == 2)
        gate.set()
        for handle in handles:
            await c.wait(handle)

    run_colour(colour, body)
    assert sorted(request.conn for request in server.log) == [1, 2]


@pytest.mark.go("POOL-02")
def test_nothing_is_written_before_the_answer_before_has_ended(make_world):
    """The header alone does not make the connection free."""
    world = make_world(Answers(HELD), max_conns_per_host=1)
    (first,) = open_responses(world, 1)
    second = world.runtime.start(world.get())
    world.runtime.run_until_idle()
    (stream,) = world.runtime.streams
    assert stream.sent.count(b"GET ") == 1
    finish(world, first, stream)
    world.runtime.run_until_idle()
    assert stream.sent.count(b"GET ") == 2
    stream.feed(b"ho")
    world.runtime.run_until_idle()
    assert second.outcome() == b"ho"


@pytest.mark.go("POOL-03")
def test_last_in_first_out(make_world):
    world = make_world(Answers(HELD))
    responses = open_responses(world, 3)
    ids = [response.conn.id for response in responses]
    for index in (1, 2, 0):
        finish(world, responses[index], world.runtime.streams[index])
    again = open_responses(world, 3)
    assert [response.conn.id for response in again] == [ids[0], ids[2], ids[1]]
    for response, index in zip(again, (0, 2, 1), strict=True):
        finish(world, response, world.runtime.streams[index])


@pytest.mark.go("POOL-04")
@pytest.mark.parametrize("broken", [2, 3])
def test_broken_ones_are_passed_over(make_world, broken):
    """Nobody told the pool: they are found out one after another, newest first."""
    world = make_world(Answers(HELD), runtime={"idle_events": False})
    responses = open_responses(world, 3)
    for response, stream in zip(responses, world.runtime.streams, strict=True):
        finish(world, response, stream)
    for stream in world.runtime.streams[3 - broken :]:
        stream.end()
    (response,) = open_responses(world, 1)
    stats = world.transport.stats()
    assert stats.closed == {"server_closed_idle": broken}
    assert (stats.dials, stats.idle) == ((3, 0) if broken == 2 else (4, 0))
    assert stats.retries == 0
    if broken == 2:
        assert response.conn.id == responses[0].conn.id
    finish(world, response, world.runtime.open_streams[0])


@pytest.mark.go("POOL-05")
def test_handed_over_without_being_idle(make_world):
    """The oldest waiter gets it at the moment of its return, although not one may be kept idle."""
    world = make_world(Answers(HELD), max_conns_per_host=1, max_idle_conns=0, idle_conn_timeout=1e-3)
    told, trace = got_conns()
    (first,) = open_responses(world, 1, trace=trace)
    (stream,) = world.runtime.streams
    waiting = [world.runtime.start(world.get(trace=trace)) for _ in range(2)]
    world.runtime.run_until_idle()
    finish(world, first, stream)
    assert world.transport.stats().idle == 0
    world.runtime.run_until_idle()
    world.runtime.advance(5.0)  # no idle timer runs
    assert [task.done for task in waiting] == [False, False]
    for task in waiting:
        stream.feed(b"hi")
        world.runtime.run_until_idle()
        assert task.outcome() == b"hi"
    assert [(info.id, info.reused, info.was_idle, info.idle_time) for info in told] == [
        (told[0].id, index > 0, False, 0.0) for index in range(3)
    ]
    assert world.transport.stats().closed == {"idle_limit_host": 1}  # the last return had nobody to go to


@pytest.mark.go("POOL-05", "POOL-06", "POOL-07")
def test_a_waiter_comes_before_every_refusal(make_world):
    """`close_idle_connections` was called and nothing may be idle: who waits gets it all the same."""
    world = make_world(Answers(HELD), max_conns_per_host=1, max_idle_conns_per_host=0)
    (first,) = open_responses(world, 1)
    second = world.runtime.start(world.transport.round_trip(Request("GET", URL)))
    world.runtime.run_until_idle()
    world.transport.close_idle_connections()
    finish(world, first, world.runtime.streams[0])
    world.runtime.run_until_idle()
    assert second.outcome().conn.id == first.conn.id
    finish(world, second.outcome(), world.runtime.streams[0])
    assert world.transport.stats().dials == 1


@pytest.mark.go("POOL-06")
@pytest.mark.parametrize(
    ("answer", "close_idle", "options", "reason"),
    [
        ((b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n",), True, {}, "server_close_header"),
        (HELD, True, {"max_idle_conns_per_host": 0, "max_idle_conns": 0}, "close_idle_called"),
        (HELD, False, {"max_idle_conns_per_host": 0, "max_idle_conns": 0}, "idle_limit_host"),
        (HELD, False, {"max_idle_conns_per_host": 1, "max_idle_conns": 1}, None),
    ],
)
def test_order_of_the_checks_on_return(make_world, answer, close_idle, options, reason):
    """Not reusable, then close_idle_connections, then the host's limit, then the total's."""
    world = make_world(Answers(answer), **options)
    told = []
    (response,) = open_responses(world, 1, trace=ClientTrace(put_idle_conn=told.append))
    if close_idle:
        world.transport.close_idle_connections()
    finish(world, response, world.runtime.streams[0])
    assert world.transport.stats().closed == ({} if reason is None else {reason: 1})
    assert [error if error is None else error.reason.value for error in told] == [reason]
    assert all(error is None or isinstance(error, NotPooled) for error in told)


@pytest.mark.go("POOL-06")
def test_keep_alives_disabled_comes_first(make_world):
    world = make_world(Answers(HELD), disable_keep_alives=True, max_conns_per_host=1)
    (first,) = open_responses(world, 1)
    second = world.runtime.start(world.transport.round_trip(Request("GET", URL)))
    world.runtime.run_until_idle()
    world.transport.close_idle_connections()
    finish(world, first, world.runtime.streams[0])
    world.runtime.run_until_idle()
    assert second.outcome().conn.id != first.conn.id  # not even handed over
    finish(world, second.outcome(), world.runtime.streams[1])
    assert world.transport.stats().closed == {"keepalive_disabled": 2}


@pytest.mark.go("POOL-08")
def test_an_abandoned_dial_gives_a_reused_connection(make_world):
    """It never carried a request, but what fails on it is done again; on an own dial it is not."""
    world = make_world(lambda dial: None)
    with pytest.raises(ConnectTimeout):
        world.runtime.run(world.get(timeout=Timeout(connect=1.0)))
    Answers(END)(world.runtime.dials[0])
    world.runtime.run_until_idle()
    assert world.transport.stats().idle == 1
    world.runtime.advance(2.0)
    world.runtime.on_dial = Answers(OK)
    told, trace = got_conns()
    assert world.runtime.run(world.get(trace=trace)) == b"hi"
    assert [(info.reused, info.was_idle, info.idle_time, info.requests_served) for info in told] == [
        (True, True, 2.0, 0),
        (False, False, 0.0, 0),
    ]
    assert world.transport.stats().retries == 1


@pytest.mark.go("POOL-08")
def test_the_dial_of_another_gives_a_reused_connection(make_world):
    """Handed over as it ends, it was never idle and never used, and counts as reused all the same."""
    world = make_world(lambda dial: None)
    told, trace = got_conns()
    first = world.runtime.start(world.get())
    second = world.runtime.start(world.get(trace=trace))
    world.runtime.run_until_idle()
    first.cancel()
    world.runtime.run_until_idle()
    Answers(OK)(world.runtime.dials[0])
    world.runtime.run_until_idle()
    assert second.outcome() == b"hi"
    assert [(info.reused, info.was_idle, info.idle_time, info.requests_served) for info in told] == [
        (True, False, 0.0, 0)
    ]
    assert world.transport.stats().acquired["handed_over"] == 1


BODILESS = {
    "/head": Responder(lambda conn, request: conn.send(head(length=5))),
    "/204": Responder(lambda conn, request: conn.send(head("204 No Content"))),
    "/304": Responder(lambda conn, request: conn.send(head("304 Not Modified", length=5))),
    "/empty": Responder(lambda conn, request: conn.send(head(length=0))),
}


@pytest.mark.go("POOL-09")
@pytest.mark.parametrize("closing", [True, False], ids=["closed", "not_closed"])
@pytest.mark.parametrize("path", BODILESS)
def test_back_in_the_pool_before_an_answer_without_body_returns(colour, server_factory, path, closing):
    server = server_factory(BODILESS[path])

    async def body(c):
        for _ in range(25):
            response = await c.request("HEAD" if path == "/head" else "GET", server.url + path)
            assert (c.transport.stats().idle, c.transport.stats().leases) == (1, 0)
            assert response.is_closed
            if closing:
                await c.close(response)

    run_colour(colour, body)
    assert (server.accepted, server.requests) == (1, 25)


@pytest.mark.go("POOL-10")
@pytest.mark.parametrize("responder", [ok(), chunked(b"hel", b"lo")], ids=["length", "chunked"])
def test_back_in_the_pool_before_the_read_that_tells_the_end_returns(colour, server_factory, responder):
    server = server_factory(responder)

    async def body(c):
        for _ in range(25):
            response = await c.get(server.url)
            assert await c.read(response) == b"hello"  # and never closed
            assert (c.transport.stats().idle, c.transport.stats().leases) == (1, 0)

    run_colour(colour, body)
    assert server.accepted == 1


@pytest.mark.go("POOL-11")
def test_the_last_byte_recycles(make_world):
    """Reading exactly as many bytes as were declared is enough; nobody has to ask for the end."""
    world = make_world(Answers((b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc", b"def")))

    async def read():
        response = await world.transport.round_trip(Request("GET", URL))
        parts = response.aiter_bytes()
        assert await anext(parts) == b"abc"
        assert world.transport.stats().idle == 0
        assert await anext(parts) == b"def"
        assert world.transport.stats().idle == 1
        assert response.is_closed

    world.runtime.run(read())


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.go("POOL-11")
def test_the_last_chunk_recycles_if_the_end_came_with_it(make_world):
    world = make_world(Answers((CHUNKED, b"3\r\nabc\r\n3\r\ndef\r\n0\r\nX-T: y\r\n\r\n")))

    async def read():
        response = await world.transport.round_trip(Request("GET", URL))
        parts = response.aiter_bytes()
        got = b""
        while got != b"abcdef":
            assert world.transport.stats().idle == 0
            got += await anext(parts)
        assert world.transport.stats().idle == 1
        assert response.is_closed
        assert response.trailers["x-t"] == "y"

    world.runtime.run(read())


@pytest.mark.go("POOL-11")
def test_the_last_chunk_does_not_wait_for_an_end_that_comes_later(make_world):
    world = make_world(Answers((CHUNKED, b"3\r\nabc\r\n")))

    async def read():
        response = await world.transport.round_trip(Request("GET", URL))
        parts = response.aiter_bytes()
        assert await anext(parts) == b"abc"
        assert world.transport.stats().idle == 0
        world.runtime.streams[0].feed(b"0\r\n\r\n")
        assert [part async for part in parts] == []
        assert world.transport.stats().idle == 1

    world.runtime.run(read())


@pytest.mark.go("POOL-12")
def test_transports_share_nothing(colour, server_factory):
    server = server_factory(ok())

    async def body(c):
        other = c.make_transport()
        for transport in (c.transport, other, c.transport, other):
            await c.read(await c.request("GET", server.url, transport=transport))
        await c.close_transport(other)
        assert c.transport.stats().idle == 1

    run_colour(colour, body)
    assert [request.conn for request in server.log] == [1, 2, 1, 2]


@pytest.mark.go("POOL-13")
@pytest.mark.parametrize("options", [{"disable_keep_alives": True}, {}], ids=["close", "keep_alive"])
def test_nobody_is_left_in_a_queue(make_world, options):
    world = make_world(Answers(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), **options)
    for host in range(5):
        world.runtime.run(world.get(f"http://192.0.2.{host + 1}/"))
    stats = world.transport.stats()
    assert (stats.waiting, stats.dialing, stats.leases) == (0, 0, 0)
    assert stats.idle == (0 if options else 5)
    world.transport.check()  # no waiter in any table
