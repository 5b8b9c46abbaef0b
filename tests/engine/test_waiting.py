"""Limits, order, late binding and orphans, as hooks and `stats()` show them (contract section 1)."""

from __future__ import annotations

import errno

import pytest

from pooltransport import ClientTrace, Request, Timeout
from pooltransport.errors import ConnectError, ConnectTimeout, PoolQueueFull, TransportClosed
from pooltransport.testing.fakes import Answers
from tests.engine.scenarios import OK, OTHER, URL


def gauges(world):
    stats = world.transport.stats()
    return {k: v for k in ("active", "idle", "dialing", "waiting", "leases", "closing") if (v := getattr(stats, k))}


def got_conns():
    told = []
    return told, ClientTrace(got_conn=told.append)


def test_a_limit_is_never_exceeded_and_order_is_kept(make_world):
    world = make_world(Answers(OK), max_conns_per_host=2)
    done = []

    async def one(number):
        async with await world.transport.round_trip(Request("GET", URL)) as response:
            await world.runtime.sleep(1.0)
            stats = world.transport.stats()
            assert stats.open + stats.dialing + stats.closing <= 2
            await response.aread()
            done.append(number)

    for number in range(8):
        world.runtime.start(one(number))
    world.runtime.run_until_idle()
    world.runtime.advance(10)
    assert done == list(range(8))
    assert len(world.runtime.streams) == 2
    stats = world.transport.stats()
    # An answer that is there with its header gives its connection back before it is read (Go POOL-09).
    assert stats.acquired["dialed"] == 2
    assert sum(stats.acquired.values()) == 8


def test_queue_hooks(make_world):
    world = make_world(Answers((b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",)), max_conns_per_host=1)
    told = []
    trace = ClientTrace(
        acquire_queued=lambda info: told.append(("queued", info.origin, info.position)),
        acquire_done=lambda info: told.append(("done", round(info.waited, 3), info.outcome)),
        got_conn=lambda info: told.append(("got", info.reused, info.was_idle, round(info.queue_time, 3))),
    )
    first = world.runtime.run(world.transport.round_trip(Request("GET", URL, trace=trace)))
    assert told == [("got", False, False, 0.0)]  # it did not wait for a slot
    second = world.runtime.start(world.transport.round_trip(Request("GET", URL, trace=trace)))
    world.runtime.run_until_idle()
    assert gauges(world) == {"active": 1, "waiting": 1, "leases": 1}
    world.runtime.advance(3.0)
    world.runtime.streams[0].feed(b"hi")
    world.runtime.run(first.aread())
    world.runtime.run_until_idle()
    host = "http://192.0.2.1:80"
    assert told[1:] == [("queued", host, 1), ("done", 3.0, "handed_over"), ("got", True, False, 3.0)]
    world.runtime.streams[0].feed(b"hi")
    world.runtime.run(second.outcome().aread())


def test_queue_full(make_world):
    world = make_world(Answers(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"), max_conns_per_host=1, max_waiting=1)
    held = world.runtime.run(world.transport.round_trip(Request("GET", URL)))
    waiting = world.runtime.start(world.get())
    world.runtime.run_until_idle()
    with pytest.raises(PoolQueueFull, match="1 requests wait already"):
        world.runtime.run(world.get())
    waiting.cancel()
    world.runtime.run_until_idle()
    assert gauges(world) == {"active": 1, "leases": 1}
    world.runtime.run(held.aclose())


def test_late_binding_and_the_second_dial_goes_idle(make_world):
    # Go: the request takes what comes first; contract 1.4
    world = make_world(lambda dial: None)
    told, trace = got_conns()
    first = world.runtime.start(world.get(trace=trace))
    second = world.runtime.start(world.get(trace=trace))
    world.runtime.run_until_idle()
    assert gauges(world) == {"dialing": 2}
    answers = Answers(OK)
    answers(world.runtime.dials[0])
    world.runtime.run_until_idle()
    assert first.outcome() == second.outcome() == b"hi"
    assert [info.reused for info in told] == [False, True]
    assert told[0].id == told[1].id
    assert gauges(world) == {"idle": 1, "dialing": 1}
    answers(world.runtime.dials[1])
    world.runtime.run_until_idle()
    assert gauges(world) == {"idle": 2}


def test_an_orphan_dial_is_adopted(make_world):
    world = make_world(lambda dial: None)
    with pytest.raises(ConnectTimeout):
        world.runtime.run(world.get(timeout=Timeout(connect=1.0)))
    assert gauges(world) == {"dialing": 1}
    told, trace = got_conns()
    adopter = world.runtime.start(world.get(trace=trace))
    world.runtime.run_until_idle()
    assert len(world.runtime.dials) == 1
    Answers(OK)(world.runtime.dials[0])
    world.runtime.run_until_idle()
    assert adopter.outcome() == b"hi"
    assert world.transport.stats().dials == 1
    assert told[0].reused is False


def test_an_orphan_gives_way_to_who_needs_its_slot(make_world):
    dials = []
    world = make_world(dials.append, max_conns=1)
    orphaned = world.runtime.start(world.get())
    world.runtime.run_until_idle()
    orphaned.cancel()
    world.runtime.run_until_idle()
    assert gauges(world) == {"dialing": 1}
    world.runtime.on_dial = Answers(OK)
    assert world.runtime.run(world.get(OTHER)) == b"hi"
    assert not dials[0].pending
    assert gauges(world) == {"idle": 1}


def test_an_orphan_that_never_took_its_first_step_gives_way_too(make_world):
    """asyncio drops a task that is cancelled before it ran: its dial must be reported all the same."""
    world = make_world(Answers(OK), max_conns=1)
    ahead = world.runtime.start(world.transport.round_trip(Request("GET", URL)))
    ahead.turn()  # its dial is started, and has not run yet
    assert gauges(world) == {"dialing": 1}
    ahead.cancel()
    ahead.turn()
    assert world.runtime.run(world.get(OTHER)) == b"hi"
    assert gauges(world) == {"idle": 1}
    assert world.transport.stats().timeouts == {}


def test_an_idle_connection_of_another_host_is_evicted(make_world):
    world = make_world(Answers(OK), max_conns=1, runtime={"lazy_close": True})
    world.runtime.run(world.get())
    world.runtime.run(world.get(OTHER))
    assert world.transport.stats().closed == {"evicted_for_limit": 1}
    assert len(world.runtime.open_streams) == 1


def test_a_failed_dial_is_its_own_requests(make_world):
    world = make_world(lambda dial: dial.refuse())
    with pytest.raises(ConnectError, match="cannot connect to http://192.0.2.1:80: .*refused") as caught:
        world.runtime.run(world.get())
    (attempt,) = caught.value.attempts
    assert (attempt.address, attempt.errno, attempt.phase) == ("192.0.2.1:80", errno.ECONNREFUSED, "connect")
    assert caught.value.may_have_been_processed is False
    assert (world.transport.stats().dial_errors, gauges(world)) == (1, {})


def test_close_ends_waiters_dials_and_after_the_grace_readers(make_world):
    world = make_world(Answers(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"), max_conns_per_host=1)

    async def read():
        async with await world.transport.round_trip(Request("GET", URL)) as response:
            await response.aread()

    reader = world.runtime.start(read())
    waiter = world.runtime.start(world.get())
    dialing = world.runtime.start(world.get("http://192.0.2.9/"))
    world.runtime.run_until_idle()
    closing = world.runtime.start(world.transport.aclose(grace=2.0))
    world.runtime.run_until_idle()
    assert isinstance(waiter.error, TransportClosed)
    assert not reader.done
    assert not closing.done
    with pytest.raises(TransportClosed):
        world.runtime.run(world.get())
    world.runtime.advance(2.0)
    assert closing.outcome() is None
    assert isinstance(reader.error, TransportClosed)
    assert dialing.done
    assert world.runtime.open_streams == []
    assert gauges(world) == {}


def test_drain_waits_for_leases(make_world):
    world = make_world(Answers((b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",)))
    held = world.runtime.run(world.transport.round_trip(Request("GET", URL)))
    assert world.runtime.run(world.transport.drain(1.0)) is False
    draining = world.runtime.start(world.transport.drain(5.0))
    world.runtime.run_until_idle()
    world.runtime.streams[0].feed(b"hi")
    world.runtime.run(held.aread())
    world.runtime.run_until_idle()
    assert draining.outcome() is True
    assert gauges(world) == {}


def test_warm(make_world):
    world = make_world(Answers(OK))
    world.runtime.run(world.transport.warm(URL, 3))
    assert gauges(world) == {"idle": 3}
    told, trace = got_conns()
    world.runtime.run(world.get(trace=trace))
    assert (told[0].reused, told[0].requests_served) == (True, 0)
