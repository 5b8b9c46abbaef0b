"""CANCEL: what a cancellation ends, and what it leaves alone."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref

import pytest

from pooltransport import ClientTrace, Request
from pooltransport.errors import ReadError, TransportTimeout
from pooltransport.testing.fakes import Answers, Cancelled
from tests.engine.scenarios import OK, TLS, URL
from tests.support.colours import run_colour
from tests.support.field import wait_quiet
from tests.support.responders import Responder, head, in_turn, ok, routes, slow, stall

HELD = (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab",)


@pytest.mark.go("CANCEL-01")
def test_cancelled_before_it_began(loop_colour, server_factory):
    """Nothing is sent, nothing is lost. (A cancellation comes at the first wait; a dial may have begun by then.)"""
    server = server_factory(ok())

    async def body(c):
        handle = await c.start(lambda: c.fetch(server.url))
        handle.cancel()
        await c.wait_until(lambda: handle.done)
        stats = await wait_quiet(c)
        assert (stats.leases, stats.waiting) == (0, 0)
        assert server.requests == 0
        assert await c.fetch(server.url) == b"hello"

    run_colour(loop_colour, body, max_conns_per_host=1)
    assert (server.accepted, server.requests) == (1, 1)


PHASES = ["queue", "connect", "tls", "write", "headers", "body"]


def in_phase(make_world, phase):
    """Return a world and a request that stands in `phase`."""
    options = {"ssl_context": TLS} if phase == "tls" else {}
    if phase == "queue":
        options["max_conns_per_host"] = 1
    peer = (lambda dial: None) if phase == "connect" else Answers(HELD)
    if phase == "tls":

        def peer(dial):
            dial.accept().hold_tls = True

    if phase == "write":

        def peer(dial):
            dial.accept().hold_writes = True

    if phase == "headers":
        peer = Answers(())
    world = make_world(peer, **options)
    if phase == "queue":
        world.held = world.runtime.run(world.transport.round_trip(Request("GET", URL)))
    task = world.runtime.start(world.get("https://192.0.2.1/" if phase == "tls" else URL))
    world.runtime.run_until_idle()
    assert not task.done
    return world, task


@pytest.mark.go("CANCEL-02", "CANCEL-03", "CANCEL-04", "CANCEL-06", "CANCEL-09", "CANCEL-15", "QUEUE-07")
@pytest.mark.parametrize("phase", PHASES)
def test_it_comes_out_as_it_went_in(make_world, phase):
    """At once, not wrapped, not chained; and no lease, waiter or note of the request is left."""
    world, task = in_phase(make_world, phase)
    before = world.runtime.now()
    task.cancel()
    world.runtime.run_until_idle()
    assert type(task.error) is Cancelled
    assert (task.error.__cause__, world.runtime.now()) == (None, before)
    stats = world.transport.stats()
    assert (stats.waiting, stats.leases, stats.retries) == (0, int(phase == "queue"), 0)
    if phase in ("write", "headers", "body"):
        assert (stats.closed, stats.open) == ({"cancelled": 1}, 0)
    elif phase in ("connect", "tls"):
        assert (stats.closed, stats.dialing) == ({}, 1)
    else:
        world.runtime.run(world.held.aclose())


@pytest.mark.go("CANCEL-02")
def test_the_message_of_a_cancellation_is_kept(server_factory):
    server = server_factory(slow(threading.Event()))

    async def body(c):
        task = asyncio.ensure_future(c.fetch(server.url))
        await c.wait_until(lambda: server.requests == 1)
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await task

    run_colour("asyncio", body)


@pytest.mark.go("CANCEL-04")
@pytest.mark.parametrize("phase", ["connect", "tls"])
@pytest.mark.parametrize("keep", [True, False])
def test_the_dial_goes_on(make_world, phase, keep):
    """Its connection is kept for the next, unless `close_idle_connections` is called after its request has gone."""
    world, task = in_phase(make_world, phase)
    if not keep:
        world.transport.close_idle_connections()  # aborts what nobody waits for: not this one yet
    task.cancel()
    world.runtime.run_until_idle()
    if not keep:
        world.transport.close_idle_connections()
        world.runtime.run_until_idle()
        assert (world.transport.stats().dialing, world.transport.stats().open) == (0, 0)
        return
    if phase == "connect":
        Answers(OK)(world.runtime.dials[0])
    else:
        world.runtime.streams[0].hold_tls = False
        Answers(OK).serve(world.runtime.streams[0])
    world.runtime.run_until_idle()
    assert world.transport.stats().idle == 1
    assert world.runtime.run(world.get("https://192.0.2.1/" if phase == "tls" else URL)) == b"hi"
    assert world.transport.stats().dials == 1


@pytest.mark.go("CANCEL-04")
def test_the_dial_goes_on_on_the_wire(loop_colour, server_factory, server_ssl_context, client_ssl_context):
    """Cancelled in the middle of a TLS handshake."""
    gate = threading.Event()
    inner = ok()

    def slowly(conn):
        conn.wait_for(gate)
        with conn.server._changed:
            conn.sock = server_ssl_context.wrap_socket(conn.sock, server_side=True)
        inner(conn)

    server = server_factory(slowly)
    url = server.url.replace("http:", "https:")
    started = threading.Event()

    async def body(c):
        trace = ClientTrace(tls_handshake_start=lambda info: started.set())
        handle = await c.start(lambda: c.fetch(url, trace=trace))
        await c.wait_until(started.is_set)
        handle.cancel()
        await c.wait_until(lambda: handle.done)
        assert c.transport.stats().dialing == 1
        gate.set()
        await c.wait_until(lambda: c.transport.stats().idle == 1)
        assert await c.fetch(url) == b"hello"

    run_colour(loop_colour, body, ssl_context=client_ssl_context)
    assert server.accepted == 1


@pytest.mark.go("CANCEL-05", "ERR-05")
@pytest.mark.parametrize("order", ["error_first", "cancel_first"])
def test_a_cancellation_beats_the_error_of_the_dial(make_world, order):
    world, task = in_phase(make_world, "connect")
    if order == "cancel_first":
        task.cancel()
    world.runtime.dials[0].refuse()
    if order == "error_first":
        task.cancel()
    world.runtime.run_until_idle()
    assert type(task.error) is Cancelled
    assert world.transport.stats().dialing == 0


@pytest.mark.go("CANCEL-06")
def test_before_the_answer_the_connection_is_closed(loop_colour, server_factory):
    """The server sees the end; a GET on a used connection is not done again."""
    gone = threading.Event()

    @Responder
    def wait(conn, request):
        assert conn.read_to_end() == b""
        gone.set()

    server = server_factory(in_turn(ok(), wait, ok()))

    async def body(c):
        await c.fetch(server.url)
        handle = await c.start(lambda: c.fetch(server.url))
        await c.wait_until(lambda: server.requests == 2)
        handle.cancel()
        await c.wait_until(gone.is_set)
        stats = await wait_quiet(c)
        assert (stats.closed, stats.retries, stats.idle) == ({"cancelled": 1}, 0, 0)
        assert await c.fetch(server.url) == b"hello"

    run_colour(loop_colour, body)
    assert (server.accepted, server.requests) == (2, 3)


@pytest.mark.go("CANCEL-07")
def test_a_body_that_never_goes_on_does_not_hold_it_up(loop_colour, server_factory):
    """Go waits for the writer, for ever; here the generator is cancelled where it waits, and closed."""
    head_seen = threading.Event()

    def handler(conn):
        conn.read_head()
        head_seen.set()
        with contextlib.suppress(ConnectionError):
            conn.read_to_end()

    server = server_factory(handler)
    closed = []

    async def body(c):
        async def chunks():
            try:
                yield b"one"
                await c.sleep(3600.0)
            finally:
                closed.append(True)

        handle = await c.start(lambda: c.request("POST", server.url, content=chunks()))
        await c.wait_until(head_seen.is_set)
        handle.cancel()
        await c.wait_until(lambda: handle.done, patience=2.0)
        assert closed == [True]
        assert (await wait_quiet(c)).closed == {"cancelled": 1}

    run_colour(loop_colour, body)


@pytest.mark.go("CANCEL-08", "CONC-06")
@pytest.mark.parametrize("what", ["header", "body"])
def test_cancelled_as_the_answer_comes(make_world, what):
    """Go returns the answer; a cancellation cannot be refused here. The connection is closed, not lost."""
    world, task = in_phase(make_world, "headers" if what == "header" else "body")
    world.runtime.streams[0].feed(OK if what == "header" else b"cd")
    task.cancel()
    world.runtime.run_until_idle()
    assert type(task.error) is Cancelled
    stats = world.transport.stats()
    assert (stats.leases, stats.open, stats.closed) == (0, 0, {"cancelled": 1})
    assert not world.runtime.streams[0].is_open


@pytest.mark.go("CANCEL-09", "CANCEL-10")
def test_while_the_body_is_read(loop_colour, server_factory):
    """The connection is closed; who reads on is told so, again and again, and gets no byte."""
    gone = threading.Event()

    @Responder
    def half(conn, request):
        conn.send(head(length=10) + b"hello")
        conn.read_to_end()
        gone.set()

    server = server_factory(half)

    async def body(c):
        response = await c.get(server.url)
        parts = c.chunks(response)
        assert await anext(parts) == b"hello"
        handle = await c.start(lambda: anext(parts))
        await c.sleep(0.02)
        handle.cancel()
        await c.wait_until(gone.is_set)
        for _ in range(3):
            with pytest.raises(ReadError, match="cancelled before"):
                await anext(parts)
        await c.close(response)
        assert (await wait_quiet(c)).closed == {"cancelled": 1}

    run_colour(loop_colour, body)


@pytest.mark.go("CANCEL-11")
@pytest.mark.parametrize("end", ["read", "bodiless"])
def test_after_the_end_it_reaches_nothing(loop_colour, server_factory, end):
    server = server_factory(ok(b"hello" if end == "read" else b""))

    async def body(c):
        done = threading.Event()

        async def fetch_and_wait():
            response = await c.get(server.url)
            if end == "read":
                await c.read(response)
            done.set()
            await c.sleep(60.0)

        handle = await c.start(fetch_and_wait)
        await c.wait_until(done.is_set)
        handle.cancel()
        await c.wait_until(lambda: handle.done)
        stats = c.transport.stats()
        assert (stats.idle, stats.closed) == (1, {})
        await c.fetch(server.url)

    run_colour(loop_colour, body)
    assert server.accepted == 1


@pytest.mark.go("CANCEL-12")
def test_two_that_use_one_connection_after_each_other(loop_colour, server_factory):
    """Cancelling the earlier one's task does nothing to the later one, nor the other way round."""
    gate = threading.Event()
    server = server_factory(routes({"/": ok(), "/slow": slow(gate), "/stuck": stall(threading.Event())}))

    async def body(c):
        first = {}

        async def early():
            first["response"] = await c.get(server.url + "/")
            first["body"] = await c.read(first["response"])
            await c.sleep(60.0)

        earlier = await c.start(early)
        await c.wait_until(lambda: "body" in first)
        later = await c.start(lambda: c.fetch(server.url + "/slow"))
        await c.wait_until(lambda: server.requests == 2)
        earlier.cancel()
        await c.wait_until(lambda: earlier.done)
        gate.set()
        assert await c.wait(later) == b"hello"
        assert server.accepted == 1

        stuck = await c.start(lambda: c.fetch(server.url + "/stuck"))
        await c.wait_until(lambda: server.requests == 3)
        stuck.cancel()
        await c.wait_until(lambda: stuck.done)
        assert first["body"] == await c.read(first["response"]) == b"hello"
        assert first["response"].is_closed

    run_colour(loop_colour, body)


@pytest.mark.go("CANCEL-13")
def test_the_callers_own_scope_is_left_alone(loop_colour, server_factory):
    """A request that runs out of time ends with an error and nothing else; its caller goes on."""
    server = server_factory(slow(threading.Event()))

    async def body(c):
        async def caller():
            for fields in ({"timeout": 0.05}, {"timeout": 0.05}):
                with pytest.raises(TransportTimeout):
                    await c.fetch(server.url, **fields)
            await c.sleep(0)
            if c.name == "asyncio":
                assert asyncio.current_task().cancelling() == 0
            return "went on"

        if c.name == "trio":
            import trio

            with trio.CancelScope() as scope:
                assert await caller() == "went on"
            assert not scope.cancel_called
        else:
            async with asyncio.timeout(10.0) as scope:
                assert await caller() == "went on"
            assert not scope.expired()

    run_colour(loop_colour, body)


@pytest.mark.go("CANCEL-15", "LEAK-03")
@pytest.mark.parametrize("phase", PHASES)
def test_nothing_keeps_a_cancelled_request(make_world, phase):
    world, task = in_phase(make_world, phase)

    class Note:
        pass

    note = Note()
    ref = weakref.ref(note)
    other = world.runtime.start(world.get(extensions={"note": note}) if phase != "tls" else world.get())
    del note
    world.runtime.run_until_idle()
    for one in (task, other):
        one.cancel()
    world.runtime.run_until_idle()
    del task, other, one
    gc.collect()
    assert ref() is None
    if phase == "queue":
        world.runtime.run(world.held.aclose())


@pytest.mark.go("CANCEL-16")
def test_cancelled_twice(loop_colour, server_factory):
    server = server_factory(slow(threading.Event()))

    async def body(c):
        for turn in range(2):
            handle = await c.start(lambda: c.fetch(server.url))
            await c.wait_until(lambda turn=turn: server.requests == turn + 1)
            handle.cancel()
            handle.cancel()
            await c.wait_until(lambda handle=handle: handle.done)
            handle.cancel()
            await wait_quiet(c)
        assert c.transport.stats().closed == {"cancelled": 2}

    run_colour(loop_colour, body)
