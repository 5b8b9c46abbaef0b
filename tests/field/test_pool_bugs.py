"""The 14 pool bugs of the field (style.md section 5): where each is tested, and those tested here, in public.

`TABLE` names for every bug the tests that cover it; `test_table_is_true` checks that they exist.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import os
import random
import signal
import socket
import ssl
import threading
import warnings
import weakref

import pytest

import pooltransport as pt
from tests.support.colours import run_colour
from tests.support.field import run_cancelled_at, wait_quiet
from tests.support.responders import Responder, big, head, ok, routes, slow, stall

CORE = "tests/core/test_pool.py::TestBugsOfTheField::"
HERE = "tests/field/test_pool_bugs.py::"
ORDER = "tests/field/test_order_and_cost.py::"

TABLE = {
    "1 assigned connection closed by another pass (httpcore#1110)": [
        CORE + "test_assigned_connection_is_not_closed_by_another_pass",
        ORDER + "test_row_20_nobody_gets_a_connection_that_is_being_closed",
    ],
    "2 idle limit counts busy connections (httpcore#1035)": [
        CORE + "test_idle_limit_does_not_count_busy_connections",
        HERE + "test_bug_2_idle_limit_does_not_count_busy_ones",
    ],
    "3 bookkeeping quadratic in connections (httpx2#1169)": [
        "tests/core/test_pool_cost.py::test_a_warm_request",
        ORDER + "test_row_18_idle_connections_cost_nothing",
    ],
    "4 a fresh caller steals the slot of a woken waiter (aiohttp#4936)": [
        CORE + "test_newcomer_does_not_steal_from_a_woken_waiter",
        ORDER + "test_row_16_a_greedy_loop_overtakes_at_most_once",
    ],
    "5 a woken waiter is cancelled and the wake-up lost (aiohttp#9670)": [
        CORE + "test_cancelled_after_the_wake_hands_on",
        HERE + "test_bug_5_cancelled_after_the_wake",
    ],
    "6 answered waiters are kept in queues (golang/go#33849)": [
        CORE + "test_no_queue_keeps_an_answered_waiter",
        HERE + "test_bug_6_nothing_keeps_an_answered_request",
    ],
    "7 counted down twice (Go transport.go:1738)": [
        CORE + "test_removed_twice_is_counted_once",
        HERE + "test_bug_7_closed_twice_is_counted_once",
    ],
    "8 connection lost that came to a waiter who had given up (psycopg)": [
        CORE + "test_delivered_between_timeout_and_cancel_goes_back",
        HERE + "test_bug_5_cancelled_after_the_wake",
    ],
    "9 semaphore and idle list disagree when a key is evicted (zapros)": [
        CORE + "test_state_of_a_key_is_made_anew",
        HERE + "test_bug_9_evicted_hosts_come_back",
    ],
    "10 connection leaked on BaseException (urllib3#644)": [
        HERE + "test_bug_10_cancelled_at_every_await",
        HERE + "test_bug_10_interrupted",
    ],
    "11 response opened, never read, its thread dies (urllib3#809)": [HERE + "test_bug_11_the_thread_dies"],
    "12 a bug in one colour only (websockets 17.0.1)": [
        HERE + "test_bug_12_these_tests_run_in_all_colours",
    ],
    "13 eviction racing with return (HikariCP)": [
        CORE + "test_eviction_racing_with_return",
        HERE + "test_bug_13_eviction_racing_with_return",
    ],
    "14 a dial outlives everybody (golang/go#76784)": [
        CORE + "test_dial_that_outlives_everybody",
        HERE + "test_bug_14_a_dial_that_nobody_waits_for",
        HERE + "test_bug_14_dials_of_a_black_hole_are_bounded",
    ],
}


def find_tests(path):
    """Return the names of the tests of a file, ``Class::name`` for methods."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    with open(os.path.join(root, path), encoding="utf-8") as file:
        tree = ast.parse(file.read())
    found = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            found.update({f"{node.name}::{n.name}": n for n in node.body if isinstance(n, ast.FunctionDef)})
        elif isinstance(node, ast.FunctionDef):
            found[node.name] = node
    return found


def test_table_is_true():
    """All 14 have a test, and every test named exists."""
    assert [int(name.split()[0]) for name in TABLE] == list(range(1, 15))
    for name, tests in TABLE.items():
        assert tests, name
        for test in tests:
            path, _, inner = test.partition("::")
            assert inner in find_tests(path), f"{name}: {test} is gone"


def test_bug_12_these_tests_run_in_all_colours():
    """Bug 12: every field test of sockets takes its colour from a fixture, or says here why not."""
    exempt = {
        "test_row_1_says_which_line_opened_it": "about the caller's own line",
        "test_row_6_model": "the pool alone",
        "test_row_13_closing_counts_over_loops": "two loops at once",
        "test_row_17_nodes_touched": "the pool alone",
        "test_bug_10_interrupted": "signals",
        "test_bug_13_eviction_racing_with_return": "real threads",
        "test_bug_11_the_thread_dies": "threads",
    }
    for name in ("test_leaked_slots", "test_limits", "test_order_and_cost", "test_pool_bugs"):
        for test, node in find_tests(f"tests/field/{name}.py").items():
            arguments = {argument.arg for argument in node.args.args}
            if "server_factory" in arguments and test not in exempt:
                assert {"colour", "loop_colour"} & arguments, f"{name}.py::{test} runs in one colour only"


def test_bug_2_idle_limit_does_not_count_busy_ones(colour, server_factory):
    """Bug 2: 5 leased and 1 idle with an idle limit of 1: nothing is closed."""
    gate = threading.Event()
    server = server_factory(routes({"/slow": slow(gate), "/": ok()}))

    async def body(c):
        handles = [await c.start(lambda: c.fetch(server.url + "/slow")) for _ in range(5)]
        await c.wait_until(lambda: server.requests == 5)
        for _ in range(3):
            await c.fetch(server.url + "/")
        stats = c.transport.stats()
        assert (stats.active, stats.idle, stats.closed, stats.dials) == (5, 1, {}, 6)
        gate.set()
        for handle in handles:
            await c.wait(handle)
        assert (await wait_quiet(c)).idle == 1

    run_colour(colour, body, max_idle_conns=1)


def test_bug_5_cancelled_after_the_wake(loop_colour, server_factory, scaled):
    """Bugs 5 and 8: the connection is delivered, and its waiter cancelled in the same turn: the next has it."""
    server = server_factory(big(100_000))

    async def body(c):
        for _ in range(scaled(300, 30)):
            response = await c.get(server.url)
            first = await c.start(lambda: c.fetch(server.url))
            await c.wait_until(lambda: c.transport.stats().waiting == 1)
            second = await c.start(lambda: c.fetch(server.url))
            await c.wait_until(lambda: c.transport.stats().waiting == 2)
            await c.read(response)
            first.cancel()  # answered at once by the return above, and not yet run
            assert len(await c.wait(second)) == 100_000
            await c.wait_until(lambda first=first: first.done)
        assert (await wait_quiet(c)).idle == 1

    run_colour(loop_colour, body, max_conns_per_host=1)


def test_bug_6_nothing_keeps_an_answered_request(colour, server_factory):
    """Bug 6: what a request refers to is collected after its answer, its cancellation or its timeout."""
    gate = threading.Event()
    server = server_factory(routes({"/slow": slow(gate), "/": ok()}))

    class Hook:
        def __call__(self, info):
            return None

    async def body(c):
        refs = []

        async def fetch(path, **fields):
            hook = Hook()
            refs.append(weakref.ref(hook))
            await c.fetch(server.url + path, trace=pt.ClientTrace(got_conn=hook, acquire_queued=hook), **fields)

        holder = await c.start(lambda: fetch("/slow"))
        await c.wait_until(lambda: server.requests == 1)
        answered = await c.start(lambda: fetch("/"))
        await c.wait_until(lambda: c.transport.stats().waiting == 1)
        for _ in range(5):
            with contextlib.suppress(pt.PoolTimeout):
                await fetch("/", timeout=0.001)
        if not c.sync:
            await run_cancelled_at(c.name, fetch("/"), 1)  # at its first await, which is in the queue
        assert c.transport.stats().waiting == 1
        await c.sleep(0.001)  # the loop itself keeps the last error that it resumed this task with
        gc.collect()
        # Who gave up is forgotten while the holder and the one behind it are still there.
        kept = sum(ref() is not None for ref in refs)
        assert kept == 2, f"{kept} of {len(refs)} requests are kept, two are under way"
        gate.set()
        await c.wait(holder)
        await c.wait(answered)
        await c.fetch(server.url + "/")
        gc.collect()
        assert [ref() for ref in refs] == [None] * len(refs)

    run_colour(colour, body, max_conns_per_host=1)


def test_bug_7_closed_twice_is_counted_once(colour, server_factory):
    """Bug 7: a response closed, read, closed and dropped again ends its lease once."""
    server = server_factory(routes({"/": ok(), "/huge": big(1_000_000)}))

    async def body(c):
        for path in ("/", "/huge") * 5:
            response = await c.get(server.url + path)
            await c.close(response)
            await c.close(response)
            with contextlib.suppress(pt.StreamConsumed):
                await c.read(response)
            await c.close(response)
            del response
        gc.collect()
        stats = await wait_quiet(c)
        assert stats.leaks == 0
        assert sum(stats.acquired.values()) == 10
        assert stats.open + sum(stats.closed.values()) == stats.dials - stats.dial_errors
        # If a slot had been counted down twice, two would fit where one may be.
        held = await c.get(server.url + "/huge")
        with pytest.raises(pt.PoolTimeout):
            await c.get(server.url, timeout=0.05)
        await c.close(held)

    run_colour(colour, body, max_conns_per_host=1)
    assert server.peak == 1


def test_bug_9_evicted_hosts_come_back(colour, server_factory):
    """Bug 9: hosts are forgotten and come back, one over another: always served, never above the limit."""
    servers = [server_factory(ok()) for _ in range(4)]

    async def body(c):
        for _ in range(5):
            for server in servers:
                assert await c.fetch(server.url, timeout=5.0) == b"hello"
                stats = c.transport.stats()
                assert stats.idle == stats.open == (1 if server is servers[0] else 2)
            c.transport.close_idle_connections()
            await wait_quiet(c)
            assert c.transport.stats().open == 0
        assert await c.gather(*[lambda s=s: c.fetch(s.url, timeout=5.0) for s in servers * 5]) == [b"hello"] * 20

    run_colour(colour, body, max_conns=2, max_conns_per_host=1)
    assert max(server.peak for server in servers) == 1


@Responder
def slowly(conn, request):
    """Answer so that every part needs a wait of its own."""
    conn.server.wait_stopping(0.001)
    conn.send(head(length=3))
    for _ in range(3):
        conn.server.wait_stopping(0.001)
        conn.send(b"x")


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_bug_10_cancelled_at_every_await(loop_colour, server_factory, server_ssl_context, client_ssl_context, secure):
    """Bug 10: a cancellation at every await of a request, one by one, on a new and on a used connection."""

    def handler(conn):
        with contextlib.suppress(ssl.SSLError):  # the client went away inside TLS, which is the test
            slowly(conn)

    server = server_factory(handler, tls=server_ssl_context if secure else None)
    acted = []

    async def body(c):
        for warm in (False, True):
            for place in range(1, 200):
                if warm:
                    await c.fetch(server.url)
                else:
                    c.transport.close_idle_connections()
                stepped = await run_cancelled_at(c.name, c.request("POST", server.url, content=b"x" * 100_000), place)
                await wait_quiet_or_leak(c)
                if not stepped.acted:
                    acted.append(place - 1)
                    break
            assert await c.fetch(server.url) == b"xxx"
        stats = c.transport.stats()
        assert (stats.active, stats.leases, stats.open) == (0, 0, 1)

    async def wait_quiet_or_leak(c):
        gc.collect()  # a response that was returned is nobody's: that place was the last one
        await wait_quiet(c)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        run_colour(loop_colour, body, max_conns_per_host=1, ssl_context=client_ssl_context if secure else None)
    # On a busy machine a whole answer may be there at the first look; the exact points are in tests/engine.
    assert max(acted) >= 1, "nothing was cancelled"
    assert server.peak == 1


class Interrupt(BaseException):
    """What the signal handler raises, as Python's does KeyboardInterrupt."""


@pytest.mark.parametrize("phase", ["connect", "queue", "headers", "body"])
def test_bug_10_interrupted(server_factory, phase):
    """Bug 10: ctrl-C in a blocking wait loses no slot."""
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals come to the main thread only")
    gate = threading.Event()
    server = server_factory(
        routes({"/headers": slow(gate), "/body": stall(gate, b"x" * 10), "/": ok(), "/connect": ok(), "/queue": ok()})
    )
    dialed = threading.Event()

    def dial(wish):
        dialed.set()
        if phase == "connect":
            gate.wait(10)
        return socket.create_connection((wish.host, wish.port))

    armed = [True]

    def on_signal(number, frame):
        if armed[0]:
            armed[0] = False
            raise Interrupt

    def interrupt():
        (dialed.wait if phase == "connect" else ready)(10)
        threading.Event().wait(0.05)  # from "about to wait" into the wait itself
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    def ready(seconds):
        if phase == "queue":
            server.wait_until(lambda: transport.stats().waiting == 1)
        else:
            server.wait_for_requests(1)

    before = signal.signal(signal.SIGUSR1, on_signal)
    helper = threading.Thread(target=interrupt)
    try:
        # On a busy machine the signal may come after a second, when it is certain that nobody can go on; and one that
        # lands in a callback of the collector is lost, as always in Python.
        options = {"deadlock_check": False, "gc_on_exhaustion": False}
        with pt.Transport(max_conns=1, dial=dial, **options) as transport:
            held = transport.round_trip(pt.Request("GET", server.url + "/body")) if phase == "queue" else None
            helper.start()
            with pytest.raises(Interrupt):
                with transport.round_trip(pt.Request("GET", f"{server.url}/{phase}")) as response:
                    response.read()
            gate.set()
            if held is not None:
                assert held.read() == b"x" * 10
            server.wait_until(lambda: transport.stats().leases == transport.stats().dialing == 0)
            with transport.round_trip(pt.Request("GET", server.url + "/", timeout=5.0)) as response:
                assert response.read() == b"hello"
            stats = transport.stats()
            assert (stats.active, stats.waiting, stats.dialing, stats.leases) == (0, 0, 0, 0)
    finally:
        armed[0] = False
        gate.set()
        helper.join(10)
        signal.signal(signal.SIGUSR1, before)
    assert server.peak == 1


def test_bug_11_the_thread_dies(server_factory):
    """Bug 11: a thread opens a response and ends: warned with its line, the slot is there for another."""
    server = server_factory(routes({"/big": big(4_000_000), "/": ok()}))
    with warnings.catch_warnings(record=True) as caught, pt.Transport(max_conns_per_host=1) as transport:
        warnings.simplefilter("always")

        def work():
            response = transport.round_trip(pt.Request("GET", server.url + "/big"))
            next(response.iter_bytes())

        thread = threading.Thread(target=work, name="short-lived")
        thread.start()
        thread.join(10)
        with transport.round_trip(pt.Request("GET", server.url + "/", timeout=5.0)) as response:
            assert response.read() == b"hello"
        assert transport.stats().leaks == 1
    (warning,) = caught
    assert issubclass(warning.category, pt.UnclosedResponseWarning)
    assert (warning.filename, warning.lineno) == (__file__, work.__code__.co_firstlineno + 1)


def test_bug_13_eviction_racing_with_return(server_factory, scaled):
    """Bug 13: 10,000 rounds of real threads: return, eviction by another host, by the idle limit, by a call."""
    servers = [server_factory(ok()) for _ in range(3)]
    rounds = scaled(10_000, 300)
    failures = []
    with pt.Transport(max_conns=2, max_idle_conns=1, idle_conn_timeout=0.001) as transport:

        def work(seed):
            rng = random.Random(seed)
            try:
                for number in range(rounds // 6):
                    request = pt.Request("GET", rng.choice(servers).url, timeout=20.0)
                    with transport.round_trip(request) as response:
                        assert response.read() == b"hello"
                    if number % 7 == 0:
                        transport.close_idle_connections()
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(300)
        assert failures == []
        transport.close_idle_connections()
        servers[0].wait_until(lambda: transport.stats().closing == 0)
        stats = transport.stats()
        assert (stats.open, stats.leases, stats.waiting, stats.rebuilds) == (0, 0, 0, 0)
        # A dial that was overtaken by a returned connection, and aborted, is none of either.
        assert sum(stats.closed.values()) <= stats.dials - stats.dial_errors
    assert all(server.peak <= 2 for server in servers)


@pytest.mark.parametrize("wanted", ["nobody", "the next request"])
def test_bug_14_a_dial_that_nobody_waits_for(colour, server_factory, wanted):
    """Bug 14: the request has timed out, its dial goes on: the next one adopts it, or finds it idle."""
    server = server_factory(ok())
    gate = threading.Event()
    called = []

    def dial(wish):
        called.append(wish)
        gate.wait(10)
        return socket.create_connection((wish.host, wish.port))

    async def body(c):
        with pytest.raises(pt.ConnectTimeout):
            await c.get(server.url, timeout=pt.Timeout(connect=0.05))
        assert c.transport.stats().dialing == 1
        if wanted == "nobody":
            gate.set()
            await c.wait_until(lambda: c.transport.stats().idle == 1)
            assert await c.fetch(server.url) == b"hello"
        else:
            handle = await c.start(lambda: c.fetch(server.url))
            await c.wait_until(lambda: c.transport.stats().waiting or not c.transport.stats().hosts or len(called))
            gate.set()
            assert await c.wait(handle) == b"hello"
        stats = c.transport.stats()
        assert (stats.dials, stats.idle, stats.dialing) == (1, 1, 0)

    run_colour(colour, body, dial=dial, max_conns_per_host=1)
    assert len(called) == server.accepted == 1


def test_bug_14_dials_of_a_black_hole_are_bounded(loop_colour, scaled):
    """Bug 14: many requests of 50 ms to a host that never answers: 8 orphans at most, and none for ever."""
    import asyncio

    import trio

    under_way = [0, 0]

    async def dial(wish):
        under_way[0] += 1
        under_way[1] = max(under_way)
        try:
            await (trio.sleep(3600) if loop_colour == "trio" else asyncio.sleep(3600))
        finally:
            under_way[0] -= 1

    async def body(c):
        async def one():
            with contextlib.suppress(pt.TransportTimeout):
                await c.get("http://black-hole.invalid/", timeout=0.05)

        for _ in range(scaled(100, 4)):
            await c.gather(*[one] * 20)
            stats = c.transport.stats()
            assert stats.waiting == 0
            await c.wait_until(lambda: c.transport.stats().dialing <= 8)
        assert under_way[1] <= 20 + 8
        await c.close_transport()
        await c.wait_until(lambda: under_way[0] == 0)
        assert c.transport.stats().dialing == 0

    run_colour(loop_colour, body, dial=dial)
