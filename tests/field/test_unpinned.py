"""Nothing that pool or loop can reach refers to a response: dropped in any state it is collected, and its slot is back.

The bodies are larger than every buffer on the way: a response whose end has been received is a harmless one.
"""

from __future__ import annotations

import contextlib
import gc
import subprocess
import sys
import threading
import weakref
import zlib

import pytest

import pooltransport as pt
from tests.support.colours import run_colour
from tests.support.responders import Responder, head, routes

SIZE = 6_000_000


@Responder
def big(conn, request):
    conn.send(head(length=SIZE))
    conn.send(b"x" * SIZE)


@Responder
def big_chunks(conn, request):
    conn.send(head("200 OK", ("Transfer-Encoding", "chunked")))
    for _ in range(60):
        conn.send(b"186A0\r\n" + b"x" * 100_000 + b"\r\n")
    conn.send(b"0\r\n\r\n")


@Responder
def until_close(conn, request):
    conn.send(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * SIZE)
    conn.close()


@Responder
def error(conn, request):
    conn.send(head("503 Service Unavailable", length=SIZE))
    conn.send(b"x" * SIZE)


@Responder
def packed(conn, request):
    import random

    data = random.Random(1).randbytes(SIZE)  # which gzip cannot make smaller
    squeezed = zlib.compress(data, wbits=31)
    conn.send(head("200 OK", ("Content-Encoding", "gzip"), length=len(squeezed)))
    conn.send(squeezed)


@Responder
def switching(conn, request):
    conn.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: talk\r\nConnection: Upgrade\r\n\r\n")
    conn.send(b"x" * SIZE)


@Responder
def early(conn, request):
    conn.send(head("413 Content Too Large", ("Connection", "close"), length=SIZE))
    conn.send(b"x" * SIZE)
    conn.close()


KINDS = {
    "/length": big,
    "/chunked": big_chunks,
    "/close": until_close,
    "/error": error,
    "/gzip": packed,
    "/upgrade": switching,
    "/early": early,
}
STATES = ["untouched", "partly read", "mid-chunk", "iterator suspended", "reader waiting once", "status error"]


async def enter(c, response, state):
    """Bring a response into a state; return what else the caller would hold."""
    if state == "untouched":
        return ()
    if state == "status error":
        with contextlib.suppress(pt.HTTPStatusError):
            await c.call(response.raise_for_status)
        return ()
    pieces = c.chunks(response, 10 if state == "mid-chunk" else None)
    await anext(pieces)
    if state == "partly read":
        return ()
    if state == "reader waiting once":
        for _ in range(3):
            await anext(pieces)
    return (pieces,)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("kind", KINDS)
def test_unpinned(colour, server_factory, kind, state):
    """Each kind of response in each state: collected at once, counted, and its slot serves the next request."""
    server = server_factory(
        routes({**KINDS, "/small": Responder(lambda conn, request: conn.send(head(length=2) + b"ok"))})
    )

    async def body(c):
        headers = {"Upgrade": "talk", "Connection": "Upgrade"} if kind == "/upgrade" else {}
        response = await c.request("GET", server.url + kind, headers=headers)
        held = await enter(c, response, state)
        ref = weakref.ref(response) if hasattr(type(response), "__weakref__") else None
        open_before = not response.is_closed
        del held, response
        gc.collect()
        if ref is not None:
            assert ref() is None, gc.get_referrers(ref())
        await c.wait_until(lambda: c.transport.stats().leases == 0)
        stats = c.transport.stats()
        assert stats.leaks == open_before
        assert await c.fetch(f"{server.url}/small", timeout=pt.Timeout(acquire=5.0)) == b"ok"

    run_colour(colour, body, max_conns_per_host=1)


def test_the_test_would_notice(colour, server_factory):
    """What holds a response is found: a test that cannot fail shows nothing."""
    server = server_factory(big)

    async def body(c):
        response = await c.get(server.url)
        kept = [response]
        del response
        gc.collect()
        assert c.transport.stats().leases == 1
        assert c.transport.stats().leaks == 0
        await c.close(kept[0])

    run_colour(colour, body, max_conns_per_host=1)


def test_six_threads_and_cycles(server_factory, scaled):
    """Twelve thousand acquisitions by 6 threads with limit 3, half of them leaked in cycles: every slot is back."""
    rounds = scaled(2_000, 150)
    server = server_factory(Responder(lambda conn, request: conn.send(head(length=50_000) + b"x" * 50_000)))
    failures = []
    with pt.Transport(max_conns_per_host=3, acquire_timeout=30.0) as transport:

        def work(number):
            try:
                for turn in range(rounds):
                    response = transport.round_trip(pt.Request("GET", server.url))
                    if (turn + number) % 2:
                        holder = [response]
                        holder.append(holder)
                        del holder
                    else:
                        response.read()
                    del response  # or this thread would hold it while it waits for the next
            except Exception as failure:
                failures.append(failure)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # A collection that is asked for while another thread's runs does nothing, and says nothing.
        for _ in range(1000):
            gc.collect()
            stats = transport.stats()
            if not stats.leases:
                break
        assert failures == []
        assert stats.leaks == 6 * rounds / 2
        assert (stats.leases, stats.active, stats.waiting, stats.rebuilds) == (0, 0, 0, 0)
        assert stats.leaks_by_found["gc"] + stats.leaks_by_found["rescue"] == stats.leaks


PROGRAM = """
import gc, sys, threading
import pooltransport as pt

url, rounds, runs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
failures, unraisable = [], []
sys.unraisablehook = lambda info: unraisable.append(info.exc_type)
gc.set_threshold(50)
for run in range(runs):
    with pt.Transport(max_conns_per_host=3, acquire_timeout=30.0) as transport:

        def work():
            try:
                for turn in range(rounds):
                    response = transport.round_trip(pt.Request("GET", url))
                    if turn % 2:
                        holder = [response]
                        holder.append(holder)
                        del holder
                    else:
                        response.read()
                    del response
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # A collection that is asked for while another thread's runs does nothing, and says nothing.
        for _ in range(1000):
            gc.collect()
            stats = transport.stats()
            if not stats.leases:
                break
        assert not failures, failures
        assert stats.leaks == 6 * (rounds // 2), (stats.leaks_by_found, stats.leases)
        assert (stats.leases, stats.active, stats.waiting) == (0, 0, 0)
print(len(unraisable), {kind.__name__ for kind in unraisable})
"""


@pytest.mark.parametrize("flags", [(), ("-W", "error")], ids=["as it is", "-W error"])
def test_no_deadlock_whatever_the_collector_does(server_factory, scaled, flags):
    """Fifty runs with the collector's threshold at 50; with warnings as errors every slot comes back as well."""
    server = server_factory(Responder(lambda conn, request: conn.send(head(length=50_000) + b"x" * 50_000)))
    done = subprocess.run(
        [sys.executable, *flags, "-c", PROGRAM, server.url, "40", str(scaled(50, 3))],
        capture_output=True,
        text=True,
        timeout=50 if scaled(50, 3) == 3 else 500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    count, _, kinds = done.stdout.strip().partition(" ")
    if flags:
        assert kinds == "{'UnclosedResponseWarning'}", "an error of the filter goes to sys.unraisablehook, nowhere else"
    else:
        assert count == "0"
