"""Who asks for a connection and goes away, comes too late, or is given one that cannot be asked how it is."""

from __future__ import annotations

import pytest

from pooltransport import ClientTrace, Request, Timeout
from pooltransport.errors import ConnectTimeout, TransportClosed
from pooltransport.testing.fakes import Answers, Cancelled
from tests.engine.scenarios import OK, TLS, URL


def test_an_interrupt_while_a_warm_connection_is_checked_costs_that_connection(make_world):
    def interrupted():
        raise KeyboardInterrupt

    world = make_world(Answers(OK), max_conns_per_host=1)
    world.runtime.run(world.get())
    (stream,) = world.runtime.streams
    stream.check = interrupted
    with pytest.raises(KeyboardInterrupt):
        world.runtime.run(world.get())
    stats = world.transport.stats()
    assert (stats.active, stats.leases, stats.closed) == (0, 0, {"bad_state": 1})
    assert not stream.is_open
    assert world.runtime.run(world.get()) == b"hi"  # the slot is back


def test_a_transport_closed_between_the_request_and_its_turn(make_world):
    world = make_world(Answers(OK))

    def close(_):
        world.runtime.start(world.transport.aclose()).turn()

    with pytest.raises(TransportClosed, match="this transport is closed"):
        world.runtime.run(world.get(trace=ClientTrace(get_conn=close)))
    assert world.runtime.dials == []
    assert world.transport.stats().waiting == 0


def test_who_is_cancelled_in_the_queue_is_told_of_as_done(make_world):
    world = make_world(Answers(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"), max_conns_per_host=1)
    held = world.runtime.run(world.transport.round_trip(Request("GET", URL)))
    told = []
    trace = ClientTrace(acquire_done=lambda info: told.append((info.origin, info.waited, info.outcome)))
    waiting = world.runtime.start(world.get(trace=trace))
    world.runtime.advance(2.0)
    assert world.transport.stats().waiting == 1
    waiting.cancel()
    world.runtime.run_until_idle()
    assert isinstance(waiting.error, Cancelled)
    assert told == [("http://192.0.2.1:80", 2.0, "Cancelled")]
    assert world.transport.stats().waiting == 0
    world.runtime.run(held.aclose())


@pytest.mark.parametrize("seconds", [2.0, 1.0])
def test_the_callers_clock_for_connecting_may_end_in_the_handshake(make_world, seconds):
    """It is not the handshake's own clock that fired: no `TLSHandshakeTimeout`, and the dial goes on."""
    world = make_world(lambda dial: setattr(dial.accept(), "hold_tls", True), ssl_context=TLS)
    with pytest.raises(ConnectTimeout, match=rf"within {seconds:g} s \(connect\), phase tls") as caught:
        world.runtime.run(world.get("https://192.0.2.1/", timeout=Timeout(connect=seconds)))
    assert type(caught.value) is ConnectTimeout
    assert (caught.value.phase, caught.value.setting, caught.value.seconds) == ("tls", "connect", seconds)
    assert world.transport.stats().timeouts == {"tls": 1}
    assert world.transport.stats().dialing == 1
