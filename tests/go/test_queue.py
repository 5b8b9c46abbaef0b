"""QUEUE: who waits, in which order, and what ends a wait."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from pooltransport import ClientTrace, Request, Timeout
from pooltransport.errors import PoolTimeout
from pooltransport.testing.fakes import Answers, Cancelled
from tests.engine.scenarios import OK, TLS, URL
from tests.support.colours import run_colour
from tests.support.field import wait_quiet
from tests.support.responders import Responder, head, slow

HELD = (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",)


def hold(world, url=URL):
    return world.runtime.run(world.transport.round_trip(Request("GET", url)))


def give_back(world, response, stream):
    stream.feed(b"hi")
    world.runtime.run(response.aread())
    world.runtime.run_until_idle()


@pytest.mark.go("QUEUE-01")
def test_first_come_first_served(make_world):
    """For a connection that comes back; the newest waiter's own dial does not change that."""
    world = make_world(Answers(OK), max_conns_per_host=1)
    order = []

    async def wait(number):
        await world.get()
        order.append(number)

    answers, world.runtime.on_dial = Answers(HELD, OK), None
    first = world.runtime.start(world.transport.round_trip(Request("GET", URL)))
    world.runtime.run_until_idle()
    answers(world.runtime.dials[0])
    world.runtime.run_until_idle()
    for number in range(5):
        world.runtime.start(wait(number))
    world.runtime.run_until_idle()
    give_back(world, first.outcome(), world.runtime.streams[0])
    assert order == [0, 1, 2, 3, 4]
    assert world.transport.stats().dials == 1


@pytest.mark.go("QUEUE-01")
def test_first_come_first_served_while_all_dial(make_world):
    """Without a limit each dials; a connection that comes back goes to the one that asked first."""
    world = make_world(lambda dial: None)
    first = world.runtime.start(world.transport.round_trip(Request("GET", URL)))
    world.runtime.run_until_idle()
    Answers(HELD)(world.runtime.dials[0])
    world.runtime.run_until_idle()
    waiting = [world.runtime.start(world.get()) for _ in range(3)]
    world.runtime.run_until_idle()
    assert len(world.runtime.dials) == 4
    give_back(world, first.outcome(), world.runtime.streams[0])
    for number in range(3):
        world.runtime.streams[0].feed(b"hi")
        world.runtime.run_until_idle()
        assert [task.done for task in waiting] == [index <= number for index in range(3)]
    assert world.transport.stats().acquired["handed_over"] == 3


@pytest.mark.go("QUEUE-02")
def test_free_slots_go_in_order_too(make_world):
    """Connections that cannot be used again: each leaves its slot to the next, who dials."""
    close = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi"
    world = make_world(lambda dial: None, max_conns_per_host=1)
    tasks = [world.runtime.start(world.get()) for _ in range(4)]
    world.runtime.run_until_idle()
    for number in range(4):
        assert len(world.runtime.dials) == number + 1
        Answers(close)(world.runtime.dials[number])
        world.runtime.run_until_idle()
        assert [task.done for task in tasks] == [index <= number for index in range(4)]


@pytest.mark.go("QUEUE-03")
@pytest.mark.parametrize("first", ["returned", "dialed"])
def test_the_waiter_takes_what_comes_first(make_world, first):
    """A slot became free and its dial is slow: a returned connection is as welcome."""
    world = make_world(Answers(HELD), max_conns_per_host=2)
    one, two = hold(world), hold(world)
    world.runtime.on_dial = None
    waiting = world.runtime.start(world.get())
    world.runtime.run_until_idle()
    assert world.transport.stats().waiting == 1
    world.runtime.streams[0].end()
    with pytest.raises(Exception, match="closed the connection"):
        world.runtime.run(one.aread())
    world.runtime.run_until_idle()
    assert (world.transport.stats().waiting, world.transport.stats().dialing) == (0, 1)
    if first == "returned":
        give_back(world, two, world.runtime.streams[1])
        world.runtime.streams[1].feed(b"hi")
        world.runtime.run_until_idle()
        assert waiting.outcome() == b"hi"
        assert world.transport.stats().acquired["handed_over"] == 1
        world.runtime.dials[2].refuse()
    else:
        Answers(OK)(world.runtime.dials[2])
        world.runtime.run_until_idle()
        assert waiting.outcome() == b"hi"
        give_back(world, two, world.runtime.streams[1])
    assert world.transport.stats().leases == 0


@pytest.mark.go("QUEUE-04")
def test_nobody_barges_in(make_world):
    """A newcomer that asks between the hand-over and the waiter's waking gets nothing before it."""
    world = make_world(Answers(HELD), max_conns_per_host=1)
    response = hold(world)
    waiting = world.runtime.start(world.transport.round_trip(Request("GET", URL)))
    world.runtime.run_until_idle()
    world.runtime.streams[0].feed(b"hi")

    async def give_back_and_ask():
        await response.aread()
        return await world.transport.round_trip(Request("GET", URL))

    # Given back and asked for again in one turn: the waiter has not woken yet.
    newcomer = world.runtime.start(give_back_and_ask())
    world.runtime.run_until_idle()
    assert (waiting.done, newcomer.done) == (True, False)
    give_back(world, waiting.outcome(), world.runtime.streams[0])
    assert newcomer.done
    give_back(world, newcomer.outcome(), world.runtime.streams[0])
    assert world.transport.stats().dials == 1


@pytest.mark.go("QUEUE-05")
def test_without_keep_alives_everybody_dials(make_world):
    """No late binding: who waits takes only its own dial."""
    close = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
    world = make_world(lambda dial: None, disable_keep_alives=True)
    tasks = [world.runtime.start(world.get()) for _ in range(2)]
    world.runtime.run_until_idle()
    Answers(close)(world.runtime.dials[0])
    world.runtime.run_until_idle()
    assert [task.done for task in tasks] == [True, False]
    Answers(close)(world.runtime.dials[1])
    world.runtime.run_until_idle()
    assert tasks[1].outcome() == b"hi"
    assert world.transport.stats().acquired == {"reused": 0, "dialed": 2, "handed_over": 0}


@pytest.mark.go("QUEUE-06")
@pytest.mark.parametrize(
    ("options", "fields", "seconds", "setting"),
    [
        ({}, {}, 60.0, "the default bound"),
        ({"acquire_timeout": 3.0}, {}, 3.0, "acquire_timeout"),
        ({}, {"timeout": Timeout(acquire=2.0)}, 2.0, "acquire"),
        ({}, {"timeout": 5.0}, 5.0, "timeout"),
    ],
)
def test_waiting_is_bounded(make_world, options, fields, seconds, setting):
    """Here we differ: there is a clock of its own, and where no clock is set the wait ends after a minute."""
    world = make_world(Answers(HELD), max_conns_per_host=1, response_header_timeout=None, **options)
    response = hold(world)
    began = world.runtime.now()
    with pytest.raises(PoolTimeout) as caught:
        world.runtime.run(world.get(**fields))
    assert world.runtime.now() - began == pytest.approx(seconds)
    assert (caught.value.phase, caught.value.seconds) == ("queue", seconds)
    assert setting in caught.value.setting
    give_back(world, response, world.runtime.streams[0])


@pytest.mark.go("QUEUE-07", "CANCEL-03")
def test_a_cancelled_waiter_leaves_at_once_and_takes_nothing(loop_colour, server_factory):
    gate = threading.Event()
    server = server_factory(slow(gate))

    async def body(c):
        first = await c.start(lambda: c.fetch(server.url))
        await c.wait_until(lambda: server.requests == 1)
        cancelled = await c.start(lambda: c.fetch(server.url))
        behind = await c.start(lambda: c.fetch(server.url))
        await c.wait_until(lambda: c.transport.stats().waiting == 2)
        cancelled.cancel()
        await c.wait_until(lambda: cancelled.done)
        assert c.transport.stats().waiting == 1
        gate.set()
        assert [await c.wait(first), await c.wait(behind)] == [b"hello", b"hello"]
        await wait_quiet(c)

    run_colour(loop_colour, body, max_conns_per_host=1)
    assert (server.accepted, server.requests) == (1, 2)


@pytest.mark.go("QUEUE-07")
def test_the_cancellation_comes_out_as_it_went_in(make_world):
    world = make_world(Answers(HELD), max_conns_per_host=1)
    response = hold(world)
    waiting = world.runtime.start(world.get())
    world.runtime.run_until_idle()
    waiting.cancel()
    world.runtime.run_until_idle()
    assert type(waiting.error) is Cancelled
    assert waiting.error.__cause__ is None
    give_back(world, response, world.runtime.streams[0])
    assert (world.transport.stats().dials, world.transport.stats().idle) == (1, 1)


@pytest.mark.go("QUEUE-08")
@pytest.mark.parametrize("cancelled", [(0,), (1,), (0, 1, 2), (3,)])
def test_a_cancelled_one_is_gone_from_the_queue(make_world, cancelled):
    """At the front, in the middle, at the end: who stands behind moves up, and nothing of it is kept."""
    positions = []
    world = make_world(Answers(HELD), max_conns_per_host=1)
    response = hold(world)
    trace = ClientTrace(acquire_queued=lambda info: positions.append(info.position))
    tasks = [world.runtime.start(world.get(trace=trace)) for _ in range(4)]
    world.runtime.run_until_idle()
    for index in cancelled:
        tasks[index].cancel()
    world.runtime.run_until_idle()
    assert world.transport.stats().waiting == 4 - len(cancelled)
    newcomer = world.runtime.start(world.get(trace=trace))
    world.runtime.run_until_idle()
    assert positions == [1, 2, 3, 4, 5 - len(cancelled)]
    give_back(world, response, world.runtime.streams[0])
    for index in [index for index in range(4) if index not in cancelled]:
        assert not tasks[index].done
        world.runtime.streams[0].feed(b"hi")
        world.runtime.run_until_idle()
        assert tasks[index].outcome() == b"hi"
    world.runtime.streams[0].feed(b"hi")
    world.runtime.run_until_idle()
    assert newcomer.outcome() == b"hi"


@pytest.mark.go("QUEUE-09")
def test_cancelled_between_permission_and_dial(make_world):
    """The slot was granted, the socket before it is still closing: no dial is made, and the slot goes on."""
    close = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n"
    world = make_world(Answers((close,), OK), max_conns_per_host=1, runtime={"lazy_close": True})
    response = hold(world)
    cancelled, behind = (world.runtime.start(world.get()) for _ in range(2))
    world.runtime.run_until_idle()

    async def give_back_and_cancel():
        await response.aclose()
        stats = world.transport.stats()
        assert (stats.closing, stats.dials) == (1, 1)
        cancelled.cancel()

    world.runtime.run(give_back_and_cancel())
    world.runtime.run_until_idle()
    assert isinstance(cancelled.error, Cancelled)
    assert behind.outcome() == b"hi"
    assert (len(world.runtime.dials), world.transport.stats().dials) == (2, 2)


@pytest.mark.go("QUEUE-10")
@pytest.mark.parametrize("keep_alives", [True, False])
def test_cancelled_after_the_delivery(make_world, keep_alives):
    """What it was given is given back; kept, unless keep-alives are off."""
    world = make_world(Answers(OK), disable_keep_alives=not keep_alives)
    world.runtime.on_dial = None
    task = world.runtime.start(world.get())
    world.runtime.run_until_idle()
    dial = world.runtime.dials[0]

    async def answer_and_cancel():
        """The dial's task delivers in its turn, before that of the caller."""
        Answers(OK)(dial)
        while not world.transport.stats().active:
            await world.pause()
        task.cancel()

    world.runtime.run(answer_and_cancel())
    world.runtime.run_until_idle()
    assert isinstance(task.error, Cancelled)
    stats = world.transport.stats()
    assert (stats.idle, stats.leases, stats.dials) == (int(keep_alives), 0, 1)
    assert stats.closed == ({} if keep_alives else {"keepalive_disabled": 1})
    assert not world.runtime.streams[0].sent
    if keep_alives:
        assert world.runtime.run(world.get()) == b"hi"
        assert world.transport.stats().dials == 1


@pytest.mark.go("QUEUE-11")
def test_64_posts_one_connection_and_nothing_is_kept(colour, server_factory):
    @Responder
    def echo(conn, request):
        conn.send(head(length=len(request.body)) + request.body)

    server = server_factory(echo)
    kept = []

    class Note:
        """Lives as long as the request that has it among its extensions."""

    async def post(c, number):
        note = Note()
        kept.append(weakref.ref(note))
        content = b"%d" % number
        response = await c.request("POST", server.url, content=content, extensions={"note": note})
        assert await c.read(response) == content

    async def body(c):
        await c.gather(*[lambda number=number: post(c, number) for number in range(64)])
        gc.collect()
        assert len(kept) == 64
        await c.wait_until(lambda: not gc.collect() and not any(ref() for ref in kept))

    run_colour(colour, body, max_conns_per_host=1)
    assert (server.accepted, server.requests) == (1, 64)


@pytest.mark.go("QUEUE-12")
def test_another_scheme_is_another_queue(make_world):
    """One host name, two budgets."""
    world = make_world(Answers(HELD), max_conns_per_host=1, ssl_context=TLS)
    plain, tls = hold(world, "http://192.0.2.1:8000/"), hold(world, "https://192.0.2.1:8000/")
    waiting = world.runtime.start(world.get("http://192.0.2.1:8000/"))
    world.runtime.run_until_idle()
    assert world.transport.stats().waiting == 1
    give_back(world, tls, world.runtime.streams[1])
    assert (world.transport.stats().waiting, world.transport.stats().idle) == (1, 1)
    give_back(world, plain, world.runtime.streams[0])
    world.runtime.streams[0].feed(b"hi")
    world.runtime.run_until_idle()
    assert waiting.outcome() == b"hi"
