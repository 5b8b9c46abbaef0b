"""LEAK: what is left of connections, requests and hosts when they have gone: nothing."""

from __future__ import annotations

import asyncio
import gc
import os
import threading

import pytest
import trio

from pooltransport import Timeout
from pooltransport.engine.connection import Connection
from pooltransport.errors import ConnectTimeout, LocalProtocolError, TransportError
from pooltransport.testing.fakes import Answers
from tests.engine.scenarios import OK
from tests.support.colours import run_colour
from tests.support.field import wait_quiet
from tests.support.responders import close_after, no_response_close, ok, raw, stall


def threads_of_ours():
    """Return how many threads there are that `threading` has not made: ours are made below it.

    One of ours that logs gets an entry there all the same, a dummy, which outlives it.
    """
    theirs = {str(t.native_id) for t in threading.enumerate() if not isinstance(t, threading._DummyThread)}
    return len(set(os.listdir("/proc/self/task")) - theirs)


@pytest.mark.go("LEAK-01")
@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="the kernel does not list threads")
def test_a_connection_costs_no_thread_and_no_task(colour, server_factory):
    """25 in use, dialed one after another, and then idle: on threads there are the housekeeper and one worker, or two
    or three, since one may be on its way to its next job when that comes.
    """
    gate = threading.Event()
    server = server_factory(stall(gate))

    async def body(c):
        before = threads_of_ours()
        responses = [await c.get(server.url) for _ in range(25)]
        for _ in range(2):
            assert c.transport.stats().open == 25
            assert threads_of_ours() - before <= 4
            if c.name == "asyncio":
                assert len(asyncio.all_tasks()) <= 2  # this one, and the housekeeper
            elif c.name == "trio":
                assert trio.lowlevel.current_statistics().tasks_living <= 8
            gate.set()
            for response in responses:
                await c.read(response)

    run_colour(colour, body)
    # The fixture `no_leaks` finds sockets that are left.


@pytest.mark.go("CI-08", "LEAK-01")
def test_25_at_once_leave_no_thread(server_factory):
    """Each was dialed by a worker; closing the transport ends these, too."""
    server = server_factory(ok())

    async def body(c):
        before = threads_of_ours()
        transport = c.make_transport()

        async def fetch():
            return await c.read(await c.request("GET", server.url, transport=transport))

        await c.gather(*[fetch] * 25)
        transport.close_idle_connections()
        await c.close_transport(transport)
        await c.wait_until(lambda: threads_of_ours() <= before, patience=5.0)

    run_colour("threads", body)


@pytest.mark.go("LEAK-02", "IDLE-01")
def test_a_server_that_says_keep_alive_and_closes(colour, server_factory):
    """Noticed without any request: no socket and no slot stays."""
    server = server_factory(close_after(1))

    async def body(c):
        for _ in range(3):
            await c.fetch(server.url)
        await c.wait_until(lambda: c.transport.stats().open == 0)
        await c.wait_until(lambda: server.open == 0)

    run_colour(colour, body)


def conns_alive():
    gc.collect()
    return sum(type(item) is Connection for item in gc.get_objects())


@pytest.mark.go("LEAK-03")
@pytest.mark.parametrize(
    "responder", [no_response_close, raw(b"nonsense\r\n\r\n"), raw(b"HTTP/1.1 200 OK\r\n\r\nx", then_close=True)]
)
def test_connections_that_never_idle_are_collectable(colour, server_factory, responder):
    server = server_factory(responder)

    async def body(c):
        before = conns_alive()
        for _ in range(10):
            try:
                await c.fetch(server.url)
            except TransportError:
                continue
        await wait_quiet(c)
        await c.wait_until(lambda: conns_alive() <= before)

    run_colour(colour, body)
    assert server.accepted == 10


@pytest.mark.go("LEAK-04", "WRITE-08", "WRITE-09")
@pytest.mark.parametrize("content", [b"short", b"x" * 40], ids=["shorter", "longer"])
def test_20_bodies_of_the_wrong_length(colour, server_factory, content):
    def handler(conn):
        if conn.read_head() is not None:
            conn.read_to_end()

    server = server_factory(handler)

    async def body(c):
        for _ in range(20):
            with pytest.raises(LocalProtocolError, match="Content-Length of|of the 20 bytes"):
                await c.request("POST", server.url, content=iter([content]), headers={"Content-Length": "20"})
        stats = await wait_quiet(c)
        assert (stats.open, stats.closed) == (0, {"bad_state": 20})
        await c.wait_until(lambda: server.open == 0)

    run_colour(colour, body, max_conns_per_host=1)


@pytest.mark.go("LEAK-05")
@pytest.mark.parametrize("how", ["refused", "silent", "gone", "given_up"])
def test_a_connect_that_comes_to_nothing(colour, server_factory, how):
    """The proxy's socket is closed, and the slot is free: refused, without an answer, cut off, or no longer wanted."""
    reply = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"

    def handler(conn):
        assert conn.read_head().method == "CONNECT"
        if how == "refused":
            conn.send(reply)
        if how != "gone":
            conn.read_to_end()

    proxy = server_factory(handler)

    async def body(c):
        for turn in range(3):
            fields = {"timeout": Timeout(connect=0.02)} if how == "given_up" else {}
            with pytest.raises(TransportError):
                await c.fetch("https://192.0.2.1/", **fields)
            if how == "given_up":
                await c.wait_until(lambda turn=turn: c.transport.stats().dialing == 1)
                c.transport.close_idle_connections()
            await c.wait_until(lambda: proxy.open == 0)
            stats = await wait_quiet(c)
            assert (stats.open, stats.dials) == (0, turn + 1)

    run_colour(colour, body, proxy=proxy.url, max_conns_per_host=1, dial_timeout=0.1 if how == "silent" else 10.0)
    assert proxy.accepted == 3


@pytest.mark.go("LEAK-07")
def test_dead_hosts_leave_nothing_behind(make_world):
    """Their counters are remembered, for a bounded number of hosts; waiters and lanes are not."""
    world = make_world(lambda dial: dial.refuse())
    for number in range(1500):
        with pytest.raises(ConnectionError):
            world.runtime.run(world.get(f"http://10.{number >> 8}.{number & 255}.1/"))
    stats = world.transport.stats()
    assert (stats.dial_errors, stats.waiting, stats.dialing) == (1500, 0, 0)
    assert len(stats.hosts) <= 1024
    world.transport.check()


@pytest.mark.go("LEAK-08")
def test_dials_that_nobody_waits_for_are_bounded(make_world):
    """100 requests run out of time while their dials hang: no more than 8 of these go on."""
    world = make_world(lambda dial: None)
    for _ in range(4):
        tasks = [world.runtime.start(world.get(timeout=Timeout(connect=1.0))) for _ in range(25)]
        world.runtime.run_until_idle()
        world.runtime.advance(1.0)
        assert all(isinstance(task.error, ConnectTimeout) for task in tasks)
        assert world.transport.stats().dialing <= 8
    world.runtime.advance(60.0)  # dial_timeout
    assert (world.transport.stats().dialing, world.transport.stats().open) == (0, 0)


@pytest.mark.go("LEAK-08")
def test_over_all_hosts_they_are_bounded_too(make_world):
    world = make_world(lambda dial: None)
    for host in range(100):
        task = world.runtime.start(world.get(f"http://192.0.2.{host + 1}/"))
        world.runtime.run_until_idle()
        task.cancel()
        world.runtime.run_until_idle()
    assert world.transport.stats().dialing == 64


@pytest.mark.go("LEAK-01")
def test_nothing_is_kept_of_a_transport_that_was_used(make_world):
    """One that is not closed has its idle connections, and no more."""
    world = make_world(Answers(OK))
    for _ in range(5):
        world.runtime.run(world.get())
    world.transport.check()
    assert len(world.runtime.open_streams) == 1
