"""Contract section 3: finalizers, aborts, staleness, loops and processes; each item answers a reproduced failure.

Item 8 is in tests/field/test_processes_threads.py, row 44.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
import threading
import time
import traceback
import warnings

import pytest
import trio

import pooltransport as pt
from pooltransport.runtime.sockets import Probe
from tests.support import kernel
from tests.support.colours import run_colour
from tests.support.responders import Responder, head, ok, routes
from tests.support.scripts import run_script

BIG = 3_000_000  # larger than every buffer between server and reader


def endless(seconds: float = 10.0, byte: bytes = b"A"):
    """Answer with a body that goes on until the client is gone."""

    @Responder
    def respond(conn, request):
        conn.send(head("200 OK", ("Transfer-Encoding", "chunked")))
        piece = b"400\r\n" + byte * 1024 + b"\r\n"
        until = time.monotonic() + seconds
        with contextlib.suppress(ssl.SSLError):  # the client went away
            while time.monotonic() < until and not conn.server.stopping.is_set():
                conn.send(piece)

    return respond


# -- 1 ------------------------------------------------------------------------------------------

COLLECT_ALWAYS = {
    "threads": """
        import gc, sys, threading, warnings
        import pooltransport as pt

        warnings.simplefilter("ignore")
        url, rounds = sys.argv[1], int(sys.argv[2])
        transport = pt.Transport(max_conns=2, acquire_timeout=30)
        failures = []

        def user():
            try:
                for number in range(rounds):
                    response = transport.round_trip(pt.Request("GET", url))
                    if number % 2:
                        cycle = [response]  # found by the collector only, in whichever thread
                        cycle.append(cycle)
                        del cycle
                    else:
                        response.read()
                    del response
            except BaseException as error:
                failures.append(error)

        def collect():  # what has grown old, while everybody waits
            while not over.wait(0.005):
                gc.collect()

        over = threading.Event()
        other = threading.Thread(target=collect)
        other.start()
        gc.set_threshold(1)
        threads = [threading.Thread(target=user) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        gc.set_threshold(700)
        over.set()
        other.join()
        gc.collect()
        assert not failures, failures
        stats = transport.stats()
        assert stats.leaks == 6 * (rounds // 2), stats
        assert (stats.active, stats.leases, stats.waiting) == (0, 0, 0), stats
        transport.close()
        """,
    "asyncio": """
        import asyncio, gc, sys, threading, warnings
        import pooltransport as pt

        warnings.simplefilter("ignore")
        url, rounds = sys.argv[1], int(sys.argv[2])

        def collect(over):  # what has grown old, while everybody waits
            while not over.wait(0.005):
                gc.collect()

        async def main():
            transport = pt.AsyncTransport(max_conns=2, acquire_timeout=30)

            async def user():
                for number in range(rounds):
                    response = await transport.round_trip(pt.Request("GET", url))
                    if number % 2:
                        cycle = [response]
                        cycle.append(cycle)
                        del cycle
                    else:
                        await response.aread()
                    del response

            over = threading.Event()

            other = threading.Thread(target=collect, args=(over,))
            other.start()
            gc.set_threshold(1)
            try:
                await asyncio.gather(*[user() for _ in range(6)])
            finally:
                gc.set_threshold(700)
                over.set()
                other.join()
            gc.collect()
            stats = transport.stats()
            assert stats.leaks == 6 * (rounds // 2), stats
            await asyncio.sleep(0.05)  # what another thread's finalizer has posted to the loop
            stats = transport.stats()
            assert (stats.active, stats.leases, stats.waiting, stats.closing) == (0, 0, 0, 0), stats
            await transport.aclose()

        asyncio.run(main())
        """,
}
COLLECT_ALWAYS["trio"] = (
    COLLECT_ALWAYS["asyncio"]
    .replace("import asyncio, ", "import trio, ")
    .replace(
        "await asyncio.gather(*[user() for _ in range(6)])",
        "async with trio.open_nursery() as nursery:\n                    for _ in range(6):\n"
        "                        nursery.start_soon(user)",
    )
    .replace("asyncio.sleep", "trio.sleep")
    .replace("asyncio.run(main())", "trio.run(main)")
)


class TestItem1Reentrant:
    @pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
    def test_a_collection_inside_every_wait_and_set_never_deadlocks(
        self, colour, secure, server_factory, server_ssl_context, tls_ca, tmp_path, scaled
    ):
        ca = tmp_path / "ca.pem"
        tls_ca.cert_pem.write_to_path(str(ca))
        server = server_factory(ok(b"x" * 100), tls=server_ssl_context if secure else None)
        rounds = scaled(100, 6)
        run_script(
            tmp_path / "app.py",
            COLLECT_ALWAYS[colour],
            server.url,
            rounds,
            env={"SSL_CERT_FILE": str(ca)},
            timeout=300 if rounds > 50 else 55,
        )
        assert server.requests == 6 * rounds


# -- 2 and 3 ------------------------------------------------------------------------------------


def drop_here(box: list) -> None:
    """The last reference goes, here and now."""
    box.clear()


def drop_in_a_thread(box: list) -> None:
    """The last reference goes in another thread."""
    thread = threading.Thread(target=box.clear)
    thread.start()
    thread.join()


def drop_in_a_cycle(box: list) -> None:
    """Only the collector finds it."""
    cycle = [box.pop()]
    cycle.append(cycle)
    del cycle
    gc.collect()


def drop_in_a_cycle_in_a_thread(box: list) -> None:
    """The collector finds it in another thread."""
    thread = threading.Thread(target=drop_in_a_cycle, args=(box,))
    thread.start()
    thread.join()


class TestItem2And3Finalizer:
    @pytest.mark.parametrize(
        "drop", [drop_here, drop_in_a_thread, drop_in_a_cycle, drop_in_a_cycle_in_a_thread], ids=lambda f: f.__name__
    )
    def test_the_slot_is_back_at_once_and_the_word_comes_at_a_safe_point(self, colour, drop, server_factory, caplog):
        server = server_factory(ok(b"x" * BIG))
        told = []

        def leaked(report):
            told.append((report, "".join(traceback.format_stack())))

        async def body(c):
            box = [await c.get(server.url)]
            assert c.transport.stats().active == 1
            with warnings.catch_warnings(record=True) as recorded:
                warnings.simplefilter("always")
                drop(box)
                # `repr` is no safe point, but it counts.
                assert "0 active" in repr(c.transport)
                stats = c.transport.stats()
                assert (stats.leaks, stats.active, stats.leases) == (1, 0, 0)
                assert [report.origin for report, _ in told] == [server.url]
                assert "__del__" not in told[0][1]  # user code never runs in a finalizer
                assert [w.category for w in recorded] == [pt.UnclosedResponseWarning]
                assert recorded[0].filename == told[0][0].site.rpartition(":")[0]
            records = [record for record in caplog.records if record.name == "pooltransport.leak"]
            assert [record.levelname for record in records] == ["WARNING"]
            assert server.url in records[0].getMessage()
            await c.wait_until(lambda: server.open == 0)
            await c.wait_until(lambda: c.transport.stats().closing == 0)

        run_colour(colour, body, max_conns=1, trace=pt.ClientTrace(leaked=leaked))

    def test_the_housekeeper_delivers_when_nobody_else_does(self, colour, server_factory):
        server = server_factory(ok(b"x" * BIG))
        told = []

        async def body(c):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                box = [await c.get(server.url)]
                dropped_at = time.monotonic()
                drop_here(box)
                await c.wait_until(lambda: told)
                assert time.monotonic() - dropped_at <= 1.0 + 0.5

        run_colour(colour, body, trace=pt.ClientTrace(leaked=told.append))

    @pytest.mark.parametrize("body_size", [100, BIG])
    def test_a_hundred_dropped_with_limit_2(self, colour, body_size, server_factory, caplog):
        server = server_factory(ok(b"x" * body_size))
        told = []

        async def body(c):
            with warnings.catch_warnings(record=True) as recorded:
                warnings.simplefilter("always")
                for _ in range(100):
                    await c.get(server.url)  # dropped
                gc.collect()
                began = time.monotonic()
                assert len(await c.fetch(server.url)) == body_size
                assert time.monotonic() - began <= 0.5
                stats = c.transport.stats()
            assert stats.leaks == 100
            assert len(told) == 100
            assert (stats.active, stats.leases) == (0, 0)
            assert 1 <= sum(w.category is pt.UnclosedResponseWarning for w in recorded) <= 4  # the 1st, 10th, 100th
            assert server.peak <= 2
            assert server.accepted == 101

        run_colour(colour, body, max_conns=2, trace=pt.ClientTrace(leaked=told.append))
        assert 1 <= sum(record.name == "pooltransport.leak" for record in caplog.records) <= 4

    @pytest.mark.parametrize("stop", ["read in part", "after the end", "head only"])
    def test_whatever_was_read_before(self, colour, stop, server_factory):
        server = server_factory(ok(b"x" * BIG))

        async def body(c):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                response = await c.get(server.url)
                if stop == "read in part":
                    async for _ in c.chunks(response, 10):
                        break
                elif stop == "after the end":
                    await c.read(response)
                del response
                gc.collect()
                stats = c.transport.stats()
            assert stats.leaks == (0 if stop == "after the end" else 1)
            assert stats.active == 0

        run_colour(colour, body, max_conns=1)


# -- 4 ------------------------------------------------------------------------------------------

SECRET = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nSECRET"


class Occupied:
    """Socket pairs that take every descriptor that comes free; each has somebody else's bytes to read."""

    def __init__(self) -> None:
        self.stack = contextlib.ExitStack()
        self.numbers: set[int] = set()

    def take(self, count: int) -> None:
        """Take `count` pairs more."""
        for _ in range(count):
            pair = socket.socketpair()
            for sock in pair:
                self.stack.enter_context(sock)
                sock.send(SECRET)
                self.numbers.add(sock.fileno())


class TestItem4Abort:
    @pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
    @pytest.mark.parametrize("asleep", [True, False], ids=["asleep", "busy"])
    def test_never_a_byte_of_another_connection(
        self, colour, secure, asleep, server_factory, server_ssl_context, client_ssl_context, scaled
    ):
        gate = threading.Event()

        @Responder
        def stall(conn, request):
            conn.send(head(length=100) + b"A" * 10)
            conn.wait_for(gate)

        server = server_factory(stall if asleep else endless(), tls=server_ssl_context if secure else None)
        reused = []

        async def body(c):
            for _ in range(scaled(200, 8)):
                transport = c.make_transport(ssl_context=client_ssl_context)
                response = await c.request("GET", server.url, transport=transport)
                (number,) = kernel.descriptors_to(server.port)
                got = bytearray()

                async def read(response=response, got=got):
                    with pytest.raises(pt.TransportClosed):
                        async for chunk in c.chunks(response):
                            got += chunk

                reader = await c.start(read)
                await c.wait_until(lambda got=got: len(got) >= (10 if asleep else 10_000))
                occupied = Occupied()
                with occupied.stack:
                    await c.close_transport(transport)
                    occupied.take(4)
                    await c.wait(reader)
                    occupied.take(4)
                    reused.append(number in occupied.numbers)
                assert set(got) <= set(b"A")
            gate.set()

        run_colour(colour, body)
        assert any(reused)  # it was put to the test


# -- 5 ------------------------------------------------------------------------------------------


class TestItem5Staleness:
    def test_session_tickets_keep_an_idle_connection(
        self, colour, server_factory, server_ssl_context, client_ssl_context
    ):
        server = server_factory(ok(), tls=server_ssl_context)

        async def body(c):
            # Dialed ahead, so nobody has read what the server sends after its handshake.
            await c.call(c.transport.warm, server.url, 1)
            await c.wait_until(lambda: server.accepted == 1)
            for _ in range(3):
                response = await c.request("POST", server.url, content=b"x")
                assert response.conn.tls.version == "TLSv1.3"
                assert response.conn.reused
                assert await c.read(response) == b"hello"
                await c.close(response)
            assert server.accepted == 1
            assert c.transport.stats().dials == 1

        run_colour(colour, body, ssl_context=client_ssl_context)

    @pytest.mark.parametrize("what", ["close_notify", "a byte", "the end"])
    @pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
    def test_what_an_idle_connection_says_makes_it_stale(
        self, colour, what, secure, server_factory, server_ssl_context, client_ssl_context
    ):
        """A POST on it would be lost, and could not be retried."""
        if what == "close_notify" and not secure:
            return
        said, wait = threading.Event(), threading.Event()

        @Responder
        def respond(conn, request):
            conn.send(head(length=2) + b"ok")
            if conn.number > 1:
                return
            if what == "close_notify":
                conn.sock.setblocking(False)
                with contextlib.suppress(OSError):
                    conn.sock.unwrap()  # sends its own, and does not wait for the other
            elif what == "a byte":
                conn.send(b"?")
            else:
                conn.half_close()
            kernel.wait_received(conn.sock)
            said.set()
            conn.wait_for(wait)
            conn.close()

        server = server_factory(respond, tls=server_ssl_context if secure else None)

        async def body(c):
            assert await c.fetch(server.url) == b"ok"
            await c.wait_until(said.is_set)
            if c.name == "asyncio":  # the loop tells, once it had its turn
                await c.wait_until(lambda: c.transport.stats().idle == 0)
            response = await c.request("POST", server.url, content=b"x")
            assert await c.read(response) == b"ok"
            await c.close(response)
            assert [request.conn for request in server.log] == [1, 2]
            assert c.transport.stats().retries == 0
            wait.set()

        run_colour(colour, body, ssl_context=client_ssl_context)

    def test_two_threads_may_ask_about_one_socket_at_once(self):
        """The housekeeper and a request that takes the connection; and TLS has taken the socket object's descriptor."""
        ours, theirs = socket.socketpair()
        failures = []
        with ours, theirs:
            probe = Probe(ours)
            number = ours.detach()  # as `wrap_socket` does
            again = socket.socket(fileno=number)

            def ask() -> None:
                try:
                    for _ in range(20_000):
                        assert not probe.gone()
                except BaseException as error:
                    failures.append(error)

            with again:
                threads = [threading.Thread(target=ask) for _ in range(3)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
        assert not failures


# -- 7 ------------------------------------------------------------------------------------------


def in_loops(*mains, kinds=("asyncio", "trio", "asyncio")) -> list:
    """Run each of `mains` in a loop and a thread of its own; return their failures."""
    failures = []

    def run(main, kind):
        try:
            asyncio.run(main()) if kind == "asyncio" else trio.run(main)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=pair) for pair in zip(mains, kinds, strict=False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
    assert not any(thread.is_alive() for thread in threads), "a loop waits for ever"
    return failures


class TestItem7Loops:
    def test_limits_count_over_all_loops_at_once(self, server_factory, scaled):
        server = server_factory(ok())
        transport = pt.AsyncTransport(max_conns=2)
        rounds = scaled(300, 30)

        async def main():
            for _ in range(rounds):
                response = await transport.round_trip(pt.Request("GET", server.url))
                assert await response.aread() == b"hello"

        assert in_loops(main, main, main) == []
        assert server.peak <= 2
        assert server.requests == 3 * rounds
        stats = transport.stats()
        assert (stats.active, stats.waiting, stats.dialing) == (0, 0, 0)
        asyncio.run(transport.aclose())

    @pytest.mark.parametrize("kinds", [("asyncio", "asyncio"), ("asyncio", "trio"), ("trio", "asyncio")])
    @pytest.mark.parametrize("way", ["read", "closed", "dropped", "dropped elsewhere", "the loop ends"])
    def test_a_slot_given_back_in_one_loop_wakes_who_waits_in_another(self, kinds, way, server_factory):
        server = server_factory(routes({"/big": ok(b"x" * BIG), "/": ok()}))
        transport = pt.AsyncTransport(max_conns=1)
        taken, released = threading.Event(), []

        async def pause():
            await (asyncio.sleep(0.002) if asyncio._get_running_loop() else trio.sleep(0.002))

        async def holder():
            box = [await transport.round_trip(pt.Request("GET", f"{server.url}/big"))]
            taken.set()
            while transport.stats().waiting == 0:
                await pause()
            released.append(time.monotonic())
            if way == "read":
                await box[0].aread()
            elif way == "closed":
                await box[0].aclose()
            elif way == "dropped":
                box.clear()
            elif way == "dropped elsewhere":
                drop_in_a_thread(box)
            else:
                return
            if way != "read":
                while transport.stats().waiting:
                    await pause()

        async def waiter():
            while not taken.is_set():
                await pause()
            response = await transport.round_trip(pt.Request("GET", f"{server.url}/"))
            assert await response.aread() == b"hello"
            assert time.monotonic() - released[0] < 2.0

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert in_loops(holder, waiter, kinds=kinds) == []
            stats = transport.stats()
        assert (stats.active, stats.waiting, stats.dialing) == (0, 0, 0)
        assert server.peak <= 1
        asyncio.run(transport.aclose())

    def test_closing_from_one_loop_ends_what_another_does(self, server_factory):
        gate = threading.Event()

        @Responder
        def stall(conn, request):
            conn.send(head(length=10) + b"x")
            conn.wait_for(gate)

        server = server_factory(stall)
        transport = pt.AsyncTransport()
        reading = []

        async def reader():
            response = await transport.round_trip(pt.Request("GET", server.url))
            reading.append(1)
            with pytest.raises(pt.TransportClosed):
                await response.aread()

        async def closer():
            while len(reading) < 2:
                await asyncio.sleep(0.002)
            await transport.aclose()

        assert in_loops(reader, reader, closer, kinds=("asyncio", "trio", "asyncio")) == []
        server.wait_for_open(0)
        gate.set()
