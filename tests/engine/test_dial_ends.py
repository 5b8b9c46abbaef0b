"""How a dial ends whose loop, task, clock or memory fails it: once, with its slot given back and its socket closed."""

from __future__ import annotations

import socket

import pytest

from pooltransport import Request
from pooltransport.errors import ConnectError, ConnectTimeout, TransportClosed
from pooltransport.testing.fakes import Answers, Cancelled, FakeRuntime, FakeTransport
from tests.engine.scenarios import OK, TLS, URL

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"


class OtherLoop(FakeRuntime):
    """A loop of another thread, on the one clock that all share."""

    def __init__(self, first, *args):
        super().__init__(*args)
        self.clock = first.clock

    def is_here(self):
        return False


def test_a_dial_for_another_loop_begins_there(make_world):
    world = make_world(Answers(HEAD, OK), max_conns=1)
    held = world.runtime.run(world.transport.round_trip(Request("GET", URL)))
    world.transport.runtime = other = OtherLoop(world.runtime, Answers(OK))
    queued = other.start(world.get())
    other.run_until_idle()
    world.transport.runtime = world.runtime
    world.runtime.streams[0].feed(b"hi")
    world.runtime.run(held.aread())  # its slot is the other loop's now
    assert world.transport.stats().dialing == 1
    assert other.dials == []
    other.run_until_idle()
    assert queued.outcome() == b"hi"
    assert len(world.runtime.dials) == len(other.dials) == 1


class TestALoopThatIsGone:
    def test_before_the_dial_was_decided(self, make_world):
        world = make_world(Answers(HEAD, OK), max_conns=1)
        held = world.runtime.run(world.transport.round_trip(Request("GET", URL)))
        world.transport.runtime = other = OtherLoop(world.runtime)
        queued = other.start(world.get())
        other.run_until_idle()
        assert world.transport.stats().waiting == 1
        other.alive = False
        world.transport.runtime = world.runtime
        world.runtime.streams[0].feed(b"hi")
        world.runtime.run(held.aread())  # its slot is the other loop's now
        stats = world.transport.stats()
        assert (stats.waiting, stats.dialing, stats.dial_errors, other.dials) == (0, 0, 1, [])
        assert world.runtime.run(world.get()) == b"hi"
        other.run_until_idle()  # it was not gone altogether
        with pytest.raises(ConnectError, match="http://192.0.2.1:80: the event loop of the dial is closed"):
            queued.outcome()

    def test_before_its_first_step(self, make_world):
        world = make_world(Answers(OK))
        world.transport.runtime = other = FakeRuntime(Answers(OK))
        other.clock = world.runtime.clock
        task = other.start(world.get())
        task.turn()
        assert world.transport.stats().dialing == 1
        other.alive = False
        world.transport.runtime = world.runtime
        world.runtime.run(world.transport.aclose())
        stats = world.transport.stats()
        assert (stats.dialing, stats.waiting) == (0, 0)
        other.run_until_idle()
        assert isinstance(task.error, TransportClosed)
        assert other.dials == []


def test_where_a_cancellation_is_only_a_wish_the_end_is_told_once(make_world):
    """As on threads: the dial begins after it was aborted, and its end has been told by then."""

    class Wish:
        def cancel(self):
            """Go on."""

    class Threads(FakeRuntime):
        def spawn(self, context, fn, *args):
            super().spawn(context, fn, *args)
            return Wish()

    world = make_world(Answers(OK), max_conns=1)
    world.runtime.__class__ = Threads
    task = world.runtime.start(world.get())
    task.turn()
    task.cancel()
    task.turn()
    world.transport.close_idle_connections()  # and who dials for nobody
    assert world.transport.stats().dialing == 1
    assert world.runtime.run(world.get()) == b"hi"
    assert isinstance(task.error, Cancelled)
    assert len(world.runtime.dials) == 1
    stats = world.transport.stats()
    assert (stats.dialing, stats.idle, stats.dials) == (0, 1, 2)


def test_what_fails_between_the_dial_and_the_pool_costs_that_connection():
    class Runtime(FakeRuntime):
        broken = False

        def now(self):
            if self.broken:
                self.broken = False
                raise MemoryError("made up")
            return super().now()

    def strike(point):
        if (point.kind, point.when) == ("open", "after"):
            runtime.fault, runtime.broken = None, True

    runtime = Runtime(Answers(OK))
    transport = FakeTransport(runtime, max_conns=1)
    runtime.fault = strike
    with pytest.raises(ConnectError, match="cannot connect to http://192.0.2.1:80: made up") as caught:
        runtime.run(transport.round_trip(Request("GET", URL)))
    assert isinstance(caught.value.__cause__, MemoryError)
    assert len(runtime.streams) == 1
    assert runtime.open_streams == []
    stats = transport.stats()
    assert (stats.dialing, stats.open, stats.dial_errors) == (0, 0, 1)
    runtime.run(transport.aclose())


def test_a_callable_that_outlives_its_cancellation_has_its_socket_closed():
    runtime = FakeRuntime()
    ours, theirs = socket.socketpair()

    async def dial(request):
        try:
            await runtime.sleep(60.0)
        except Cancelled:
            await runtime.sleep(1.0)
            return ours

    transport = FakeTransport(runtime, dial=dial)
    task = runtime.start(transport.round_trip(Request("GET", URL)))
    runtime.run_until_idle()
    with theirs:
        runtime.run(transport.aclose())
        assert transport.stats().dialing == 1
        runtime.advance(1.0)
        assert ours.fileno() == -1
    with pytest.raises(TransportClosed):
        task.outcome()
    assert transport.stats().dialing == 0


def test_without_a_clock_of_its_own_the_handshake_has_the_dials(make_world):
    options = {"tls_handshake_timeout": None, "dial_timeout": 50.0}
    world = make_world(lambda dial: setattr(dial.accept(), "hold_tls", True), ssl_context=TLS, **options)
    began = world.runtime.now()
    with pytest.raises(ConnectTimeout, match=r"within 50 s \(dial_timeout\), phase tls") as caught:
        world.runtime.run(world.get("https://192.0.2.1/"))
    assert (caught.value.phase, caught.value.setting) == ("tls", "dial_timeout")
    assert world.runtime.now() - began == pytest.approx(50.0)
    assert world.runtime.open_streams == []
