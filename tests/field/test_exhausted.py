"""A dry pool, on real sockets: garbage gives its slots back, a deadlock ends for one, leases have an end."""

from __future__ import annotations

import gc
import threading
import time

import pytest

import pooltransport as pt
from pooltransport import Timeout
from tests.support.colours import run_colour
from tests.support.responders import Responder, head, ok, routes, stall

BIG = Responder(lambda conn, request: conn.send(head(length=6_000_000) + b"x" * 6_000_000))  # more than buffers hold


@pytest.fixture
def no_gc():
    """Let nothing be collected but by who waits; what was made before is left out."""
    gc.collect()
    gc.freeze()
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


@pytest.mark.usefixtures("no_gc")
def test_garbage_in_cycles_gives_its_slots_back(colour, server_factory):
    """Everybody waits, nothing allocates: the collector would never run."""
    server = server_factory(routes({"/big": BIG, "/": ok()}))

    async def body(c):
        for turn in range(3):
            for _ in range(2):
                holder = [await c.get(server.url + "/big")]
                holder.append(holder)
                del holder
            began = time.monotonic()
            assert await c.fetch(server.url, timeout=Timeout(acquire=10.0)) == b"hello"
            assert time.monotonic() - began < 5.0
            stats = c.transport.stats()
            assert stats.leaks_by_found["rescue"] == stats.leaks >= turn + 1
        assert c.transport.stats().timeouts == {}

    run_colour(colour, body, max_conns_per_host=2)


@pytest.mark.usefixtures("no_gc")
def test_without_the_rescue_it_is_a_timeout(colour, server_factory):
    server = server_factory(routes({"/big": BIG, "/": ok()}))

    async def body(c):
        holder = [await c.get(server.url + "/big")]
        holder.append(holder)
        del holder
        with pytest.raises(pt.PoolTimeout):
            await c.fetch(server.url, timeout=Timeout(acquire=0.3))
        gc.collect()
        assert await c.fetch(server.url, timeout=Timeout(acquire=10.0)) == b"hello"
        assert c.transport.stats().leaks_by_found["gc"] == 1

    run_colour(colour, body, max_conns_per_host=1, gc_on_exhaustion=False)


@pytest.mark.parametrize("limit", ["max_conns_per_host", "max_conns"])
def test_a_deadlock_ends_for_one_of_them(colour, server_factory, limit):
    """Four each hold one of four and want another: one fails, with its error the others go on."""
    server = server_factory(routes({"/big": BIG, "/": ok()}))
    failures = []

    async def body(c):
        holding = []

        async def greedy():
            response = await c.get(server.url + "/big")
            try:
                holding.append(response)
                await c.wait_until(lambda: len(holding) == 4)
                return await c.fetch(server.url)
            except pt.PoolDeadlock as error:
                failures.append(error)
            finally:
                await c.close(response)

        began = time.monotonic()
        results = await c.gather(*[greedy] * 4)
        assert sorted(map(str, results)) == ["None", *["b'hello'"] * 3]
        assert 1.0 <= time.monotonic() - began < 20.0
        assert c.transport.stats().acquire_failures["pool_deadlock"] == 1

    run_colour(colour, body, **{limit: 4}, drain_limit=0)
    assert len(failures) == 1
    assert "each of the 4 allowed" in str(failures[0])
    assert "4 opened at " in str(failures[0])


def test_many_deadlocks_fail_one_each(server_factory, scaled):
    """Threads that look at the same moment do not both fail."""
    server = server_factory(routes({"/big": BIG, "/": ok()}))
    turns = scaled(50, 2)
    failures = []
    with pt.Transport(max_conns=6, drain_limit=0) as transport:
        for _ in range(turns):
            gate = threading.Barrier(6)
            failed = []

            def work(gate=gate, failed=failed):
                with transport.round_trip(pt.Request("GET", server.url + "/big")):
                    gate.wait(20)
                    try:
                        with transport.round_trip(pt.Request("GET", server.url)) as response:
                            response.read()
                    except pt.PoolDeadlock as error:
                        failed.append(error)

            threads = [threading.Thread(target=work) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
            failures.append(len(failed))
    assert failures == [1] * turns


def test_lease_max_ends_a_held_response(colour, server_factory):
    """Whoever reads it then is told; whoever waits for a connection gets one."""
    server = server_factory(routes({"/big": BIG, "/": ok()}))

    async def body(c):
        held = await c.get(server.url + "/big")
        began = time.monotonic()
        assert await c.fetch(server.url, timeout=Timeout(acquire=10.0)) == b"hello"
        assert 0.2 <= time.monotonic() - began < 5.0
        with pytest.raises(pt.LeaseExpired, match=r"longer than 0.3 s \(lease_max\)"):
            await c.read(held)
        assert c.transport.stats().closed["lease_expired"] == 1
        assert (c.transport.stats().leaks, c.transport.stats().leases) == (0, 0)

    run_colour(colour, body, max_conns_per_host=1, lease_max=0.3)


def test_lease_max_wakes_a_reader_that_waits(colour, server_factory):
    gate = threading.Event()
    server = server_factory(stall(gate))

    async def body(c):
        response = await c.get(server.url)
        began = time.monotonic()
        with pytest.raises(pt.LeaseExpired):
            await c.read(response)
        assert time.monotonic() - began < 5.0
        gate.set()

    run_colour(colour, body, lease_max=0.3)


def test_lease_max_leaves_a_declared_stream_alone(colour, server_factory):
    gate = threading.Event()
    server = server_factory(routes({"/stall": stall(gate), "/": ok()}))

    async def body(c):
        response = await c.get(server.url + "/stall")
        response.long_lived()
        other = await c.get(server.url + "/stall")
        await c.wait_until(lambda: c.transport.stats().closed.get("lease_expired") == 1)
        assert c.transport.stats().leases == 1
        gate.set()
        assert await c.read(response)
        with pytest.raises(pt.LeaseExpired):
            await c.read(other)

    run_colour(colour, body, lease_max=0.3)
