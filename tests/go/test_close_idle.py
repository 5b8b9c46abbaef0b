"""CI: `close_idle_connections`, and what it does to those in use at that moment."""

from __future__ import annotations

import pytest

from pooltransport import ClientTrace, Request
from pooltransport.testing.fakes import Answers
from tests.engine.scenarios import OK, OTHER, URL
from tests.support.colours import run_colour
from tests.support.field import wait_quiet
from tests.support.responders import Responder, head, ok

HELD = (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",)


def hold(world, url=URL, **fields):
    return world.runtime.run(world.transport.round_trip(Request("GET", url, **fields)))


@pytest.mark.go("CI-01")
def test_everything_idle_goes(colour, server_factory):
    servers = [server_factory(ok()) for _ in range(3)]

    async def body(c):
        for server in servers:
            await c.fetch(server.url)
        assert c.transport.stats().idle == 3
        c.transport.close_idle_connections()
        assert c.transport.stats().idle == 0
        assert (await wait_quiet(c)).closed == {"close_idle_called": 3}
        for server in servers:
            await c.wait_until(lambda server=server: server.open == 0)
            assert await c.fetch(server.url) == b"hello"
        assert c.transport.stats().idle == 3

    run_colour(colour, body)
    assert [server.accepted for server in servers] == [2, 2, 2]


@pytest.mark.go("CI-02", "CI-03")
@pytest.mark.parametrize("asked", [False, True], ids=["nobody_asks", "somebody_asks"])
def test_those_in_use_go_on_and_are_closed_when_they_come_back(make_world, asked):
    """Until somebody asks for a connection: then all is as before."""
    told = []
    trace = ClientTrace(put_idle_conn=told.append)
    world = make_world(Answers(HELD))
    response = hold(world, trace=trace)
    world.transport.close_idle_connections()
    assert world.runtime.streams[0].is_open
    if asked:
        other = hold(world, OTHER)
    world.runtime.streams[0].feed(b"hi")
    assert world.runtime.run(response.aread()) == b"hi"
    stats = world.transport.stats()
    if asked:
        assert (stats.idle, stats.closed, told) == (1, {}, [None])
        world.runtime.run(other.aclose())
    else:
        assert (stats.idle, stats.closed) == (0, {"close_idle_called": 1})
        assert [str(error) for error in told] == ["close_idle_connections() was called"]
        world.runtime.on_dial = Answers(OK)
        world.runtime.run(world.get())
        assert world.transport.stats().idle == 1


@pytest.mark.go("CI-04")
def test_without_keep_alives_it_has_nothing_to_do(make_world):
    world = make_world(Answers(OK), disable_keep_alives=True)
    world.runtime.run(world.get())
    world.transport.close_idle_connections()
    assert world.runtime.run(world.get()) == b"hi"
    assert world.transport.stats().closed == {"keepalive_disabled": 2}


@pytest.mark.go("CI-05")
def test_dials_that_nobody_wants_are_aborted(make_world):
    """Those whose request has gone, or has got another connection; the others go on."""
    world = make_world(lambda dial: None)
    cancelled = world.runtime.start(world.get())
    served = world.runtime.start(world.get())
    wanted = world.runtime.start(world.get(OTHER))
    world.runtime.run_until_idle()
    cancelled.cancel()
    world.runtime.run_until_idle()
    Answers(OK)(world.runtime.dials[0])  # adopted by nobody: `served` has a dial, but takes what comes first
    world.runtime.run_until_idle()
    assert served.outcome() == b"hi"
    assert world.transport.stats().dialing == 2
    world.transport.close_idle_connections()
    world.runtime.run_until_idle()
    assert (world.transport.stats().dialing, world.transport.stats().idle) == (1, 0)
    assert [dial.pending for dial in world.runtime.dials] == [False, False, True]
    Answers(OK)(world.runtime.dials[2])
    world.runtime.run_until_idle()
    assert wanted.outcome() == b"hi"


@pytest.mark.go("CI-06")
def test_who_waits_is_not_concerned(make_world):
    world = make_world(Answers(HELD), max_conns_per_host=1)
    response = hold(world)
    waiting = [world.runtime.start(world.get()) for _ in range(2)]
    world.runtime.run_until_idle()
    world.transport.close_idle_connections()
    world.runtime.streams[0].feed(b"hi")
    world.runtime.run(response.aread())
    for task in waiting:
        world.runtime.run_until_idle()
        world.runtime.streams[0].feed(b"hi")
        world.runtime.run_until_idle()
        assert task.outcome() == b"hi"
    assert world.transport.stats().dials == 1


@pytest.mark.go("CI-02", "CI-08")
def test_in_the_middle_of_traffic(colour, server_factory, scaled):
    """Called from the server's own handlers, in their threads: no request fails, and every slot comes back.

    The bodies can be sent only once: a request that got a connection on its way out would fail.
    """
    transports = []

    @Responder
    def respond(conn, request):
        transports[0].close_idle_connections()
        conn.send(head(length=len(request.body)) + request.body)

    server = server_factory(respond)
    rounds = scaled(40, 8)

    async def body(c):
        transports.append(c.transport)

        async def some(number):
            for turn in range(rounds):
                content = b"%d-%d" % (number, turn)
                response = await c.request("POST", server.url, content=iter([content]))
                assert await c.read(response) == content

        await c.gather(*[lambda number=number: some(number) for number in range(25)])
        c.transport.close_idle_connections()
        stats = await wait_quiet(c)
        assert (stats.open, stats.retries) == (0, 0)
        # A dial that was aborted as it ended was nobody's.
        assert set(stats.closed) <= {"close_idle_called", "dial_unused"}
        await c.wait_until(lambda: server.open == 0)

    run_colour(colour, body, max_conns_per_host=10)
    assert server.requests == 25 * rounds
