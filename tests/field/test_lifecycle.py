"""field-pains.md rows 26, 28b, 40-43: idle connections, closing, and transports that outlive a loop."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import warnings
from typing import TYPE_CHECKING

import pytest
import trio

import pooltransport as pt
from tests.support import kernel
from tests.support.colours import run_colour
from tests.support.leaks import open_sockets
from tests.support.responders import head, ok, slow
from tests.support.scripts import run_script

if TYPE_CHECKING:
    from pathlib import Path


def when_all_are_here(server_factory, count: int, **options):
    """Make a server that answers no request of the first `count` before all of them have come."""
    gate = threading.Event()

    def handler(conn):
        while (request := conn.read_request()) is not None:
            if server.requests >= count:
                gate.set()
            conn.wait_for(gate)
            conn.send(head(length=2) + b"ok")
            assert request

    server = server_factory(handler, **options)
    return server


async def burst(c, url: str, count: int) -> None:
    """Have `count` requests at once."""
    await c.gather(*[lambda: c.fetch(url) for _ in range(count)])


class TestRow26IdleReaping:
    def test_idle_sockets_go_without_traffic(self, colour, server_factory):
        server = when_all_are_here(server_factory, 15)

        async def body(c):
            await burst(c, server.url, 15)
            idle_since = time.monotonic()
            assert kernel.sockets_to(server.port, kernel.ESTABLISHED) == 15
            await c.wait_until(lambda: kernel.sockets_to(server.port) == 0)
            assert time.monotonic() - idle_since <= 0.5 + 0.5
            stats = c.transport.stats()
            assert (stats.idle, stats.open, stats.closed) == (0, 0, {"idle_timeout": 15})

        run_colour(colour, body, idle_conn_timeout=0.5)

    def test_connections_that_the_server_closed_do_not_pile_up(self, colour, server_factory):
        everybody, close = threading.Event(), threading.Event()

        def handler(conn):
            conn.read_request()
            if server.requests >= 15:
                everybody.set()
            conn.wait_for(everybody)
            conn.send(head(length=2) + b"ok")
            conn.wait_for(close)

        server = server_factory(handler)

        async def body(c):
            await burst(c, server.url, 15)
            assert c.transport.stats().idle == 15
            closed_at = time.monotonic()
            close.set()
            await c.wait_until(lambda: server.requests == 15 and not server_holds(server))
            await c.wait_until(lambda: kernel.sockets_to(server.port) == 0)
            # The period of the housekeeper, and a loaded machine's due.
            assert time.monotonic() - closed_at <= 1.0 + 1.0
            assert c.transport.stats().closed == {"server_closed_idle": 15}

        run_colour(colour, body)

    def test_no_thread_before_the_first_dial_and_none_after_close(self, server_factory, tmp_path):
        server = server_factory(ok())
        run_script(
            tmp_path / "app.py",
            """
            import sys, time
            import pooltransport as pt
            from tests.support import kernel

            alone = kernel.threads()
            transports = [pt.Transport() for _ in range(100)]
            assert kernel.threads() == alone, "a thread without any work"
            first, second = transports[:2]
            first.round_trip(pt.Request("GET", sys.argv[1])).read()
            second.round_trip(pt.Request("GET", sys.argv[1])).read()
            assert first.stats().idle == second.stats().idle == 1
            for transport in transports:
                transport.close()
            deadline = time.monotonic() + 0.5  # a thread needs a moment to end
            while kernel.threads() > alone and time.monotonic() < deadline:
                time.sleep(0.001)
            assert kernel.threads() == alone, f"{kernel.threads() - alone} threads left after close()"
            """,
            server.url,
        )


def server_holds(server) -> bool:
    """Report whether the server's own ends are still open."""
    return kernel.sockets_from(server.port) > 0


class TestRow28bNewestFirst:
    def test_a_burst_is_not_kept_alive_by_a_trickle(self, colour, server_factory, scaled):
        count, idle_timeout, gap = scaled(100, 20), scaled(5000, 500) / 1000, scaled(500, 50) / 1000
        server = when_all_are_here(server_factory, count)

        async def body(c):
            await burst(c, server.url, count)
            assert server.open == count
            until = time.monotonic() + idle_timeout + 0.3
            while time.monotonic() < until:
                await c.fetch(server.url)
                await c.sleep(gap)
            assert server.open <= 3
            assert c.transport.stats().idle == 1
            assert server.accepted == count

        run_colour(colour, body, idle_conn_timeout=idle_timeout)


class TestRow40Close:
    @pytest.mark.parametrize("ends_in_time", [True, False])
    def test_waiters_fail_at_once_and_leases_have_the_grace(self, colour, server_factory, ends_in_time):
        gate = threading.Event()
        server = server_factory(slow(gate))
        grace = 5.0 if ends_in_time else 0.3
        failed_at = []

        async def body(c):
            async def waiter():
                with pytest.raises(pt.TransportClosed):
                    await c.fetch(server.url)
                failed_at.append(time.monotonic())

            async def leased():
                return await c.fetch(server.url)

            held = await c.start(leased)
            await c.wait_until(lambda: server.requests == 1)
            waiters = [await c.start(waiter) for _ in range(2)]
            await c.wait_until(lambda: c.transport.stats().waiting == 2)
            began = time.monotonic()
            closing = await c.start(lambda: c.close_transport(grace=grace))
            for handle in waiters:
                await c.wait(handle)
            assert max(failed_at) - began < 0.2
            if ends_in_time:
                assert not held.done
                gate.set()
                assert await c.wait(held) == b"hello"
                await c.wait(closing)
                assert time.monotonic() - began < grace - 1
            else:
                with pytest.raises(pt.TransportClosed):
                    await c.wait(held)
                await c.wait(closing)
                assert grace - 0.01 <= time.monotonic() - began < grace + 0.5
            assert kernel.sockets_to(server.port) == 0
            await c.close_transport()  # idempotent
            with pytest.raises(pt.TransportClosed):
                await c.get(server.url)
            stats = c.transport.stats()
            assert (stats.open, stats.dialing, stats.closing, stats.waiting, stats.leases) == (0, 0, 0, 0, 0)
            assert server.requests == 1
            gate.set()

        run_colour(colour, body, max_conns_per_host=1)

    def test_nothing_is_open_when_close_returns(self, colour, server_factory):
        server = when_all_are_here(server_factory, 10)

        async def body(c):
            await burst(c, server.url, 10)
            held = [await c.get(server.url) for _ in range(3)]
            before = kernel.descriptors_to(server.port)
            assert len(before) >= 10
            await c.close_transport()
            assert not kernel.descriptors_to(server.port)
            for response in held:
                await c.close(response)

        run_colour(colour, body)

    def test_a_later_smaller_grace_shortens_it(self, colour, server_factory):
        gate = threading.Event()
        server = server_factory(slow(gate))

        async def body(c):
            async def leased():
                with pytest.raises(pt.TransportClosed):
                    await c.fetch(server.url)

            held = await c.start(leased)
            await c.wait_until(lambda: server.requests == 1)
            began = time.monotonic()
            patient = await c.start(lambda: c.close_transport(grace=30.0))
            # It has begun when nothing new is let in.
            await c.wait_until(lambda: "closed" in repr(c.transport))
            await c.close_transport(grace=0.05)
            await c.wait(patient)
            await c.wait(held)
            assert time.monotonic() - began < 5
            gate.set()

        run_colour(colour, body)

    def test_from_any_thread(self, server_factory):
        server = server_factory(slow(threading.Event()))
        transport = pt.Transport()
        outcomes = []

        def read():
            try:
                outcomes.append(transport.round_trip(pt.Request("GET", server.url)))
            except pt.TransportError as error:
                outcomes.append(error)

        readers = [threading.Thread(target=read) for _ in range(8)]
        for thread in readers:
            thread.start()
        server.wait_for_requests(8)
        closers = [threading.Thread(target=transport.close) for _ in range(4)]
        for thread in closers:
            thread.start()
        for thread in closers + readers:
            thread.join(5)
        assert [type(outcome) for outcome in outcomes] == [pt.TransportClosed] * 8
        server.wait_for_open(0)

    def test_a_cancelled_aclose_aborts_at_once(self, loop_colour, server_factory):
        gate = threading.Event()
        server = server_factory(slow(gate))

        async def body(c):
            async def leased():
                with pytest.raises(pt.TransportClosed):
                    await c.fetch(server.url)

            held = await c.start(leased)
            await c.wait_until(lambda: server.requests == 1)
            closing = await c.start(lambda: c.close_transport(grace=30.0))
            await c.wait_until(lambda: "closed" in repr(c.transport))
            closing.cancel()
            await c.wait_until(lambda: closing.done)
            await c.wait(held)
            assert c.transport.stats().open == 0
            gate.set()

        run_colour(loop_colour, body)


CORRECT_CODE = {
    "threads": """
        import sys
        import pooltransport as pt

        for _ in range(int(sys.argv[3])):
            with pt.Transport() as transport:
                transport.round_trip(pt.Request("GET", sys.argv[1])).read()
                with transport.round_trip(pt.Request("GET", sys.argv[1])) as response:
                    response.read()
        """,
    "asyncio": """
        import asyncio, sys
        import pooltransport as pt

        async def main():
            asyncio.get_running_loop().slow_callback_duration = 10  # a loaded machine is no fault of ours
            async with pt.AsyncTransport() as transport:
                for _ in range(2):
                    async with await transport.round_trip(pt.Request("GET", sys.argv[1])) as response:
                        await response.aread()

        for _ in range(int(sys.argv[3])):
            asyncio.run(main())
        """,
    "trio": """
        import sys
        import trio
        import pooltransport as pt

        async def main():
            async with pt.AsyncTransport() as transport:
                for _ in range(2):
                    async with await transport.round_trip(pt.Request("GET", sys.argv[1])) as response:
                        await response.aread()

        for _ in range(int(sys.argv[3])):
            trio.run(main)
        """,
    "asyncio, a client and no close": """
        import asyncio, sys
        import pooltransport as pt

        async def main():
            asyncio.get_running_loop().slow_callback_duration = 10  # a loaded machine is no fault of ours
            client = pt.AsyncClient()
            assert (await client.get(sys.argv[1])).content == b"hello"
            async with pt.AsyncClient() as client:
                assert (await client.get(sys.argv[1])).content == b"hello"

        for _ in range(int(sys.argv[3])):
            asyncio.run(main())
        """,
    "trio, a client and no close": """
        import sys
        import trio
        import pooltransport as pt

        async def main():
            client = pt.AsyncClient()
            assert (await client.get(sys.argv[1])).content == b"hello"

        for _ in range(int(sys.argv[3])):
            trio.run(main)
        """,
    "threads, a client and no close": """
        import sys
        import pooltransport as pt

        for _ in range(int(sys.argv[3])):
            client = pt.Client()
            assert client.get(sys.argv[1]).content == b"hello"
            with pt.Client() as client:
                assert client.get(sys.argv[1]).content == b"hello"
        """,
}


class TestRow41NoWarningsOnCorrectCode:
    @pytest.mark.parametrize("secure", [True, False], ids=["tls", "plain"])
    @pytest.mark.parametrize("program", CORRECT_CODE)
    def test_dev_mode_has_nothing_to_say(
        self, program, secure, server_factory, server_ssl_context, tls_ca, tmp_path: Path, scaled
    ):
        server = server_factory(ok(), tls=server_ssl_context if secure else None)
        ca = tmp_path / "ca.pem"
        tls_ca.cert_pem.write_to_path(str(ca))
        done = run_script(
            tmp_path / "app.py",
            CORRECT_CODE[program],
            server.url,
            ca,
            scaled(100, 3),
            flags=("-W", "error", "-X", "dev"),
            env={"SSL_CERT_FILE": str(ca)},
            timeout=300,
        )
        assert done.stderr == ""
        server.wait_for_open(0)


class TestRow42ForgottenTransport:
    @staticmethod
    def caught(recorded) -> list[warnings.WarningMessage]:
        return [w for w in recorded if issubclass(w.category, ResourceWarning)]

    def test_one_warning_with_the_line_that_made_it(self, colour, server_factory):
        server = server_factory(ok())

        async def body(c):
            with warnings.catch_warnings(record=True) as recorded:
                warnings.simplefilter("always")
                forgotten = (pt.Transport if c.sync else pt.AsyncTransport)()
                line = body.__code__.co_firstlineno + 3
                for _ in range(2):
                    assert await c.read(await c.request("GET", server.url, transport=forgotten)) == b"hello"
                del forgotten
                gc.collect()
                await c.wait_until(lambda: server.open == 0)
                c.transport.stats()  # a safe point of any transport
                await c.wait_until(lambda: self.caught(recorded))
                c.transport.stats()
            (warning,) = self.caught(recorded)
            assert issubclass(warning.category, pt.UnclosedTransportWarning)
            assert (warning.filename, warning.lineno) == (__file__, line)
            assert "1 open connection" in str(warning.message)

        run_colour(colour, body)

    def test_none_if_it_never_dialed_or_is_empty(self, colour, server_factory):
        server = server_factory(ok())

        async def body(c):
            with warnings.catch_warnings(record=True) as recorded:
                warnings.simplefilter("always")
                c.make_transport()
                emptied = c.make_transport()
                await c.read(await c.request("GET", server.url, transport=emptied))
                emptied.close_idle_connections()
                await c.wait_until(lambda: server.open == 0)
                closed = c.make_transport()
                await c.read(await c.request("GET", server.url, transport=closed))
                await c.close_transport(closed)
                del emptied, closed
                gc.collect()
                c.transport.stats()
            assert [str(w.message) for w in self.caught(recorded)] == []

        run_colour(colour, body)


class TestRow43Loops:
    @pytest.mark.parametrize("secure", [True, False], ids=["tls", "plain"])
    @pytest.mark.parametrize("runner", ["asyncio", "trio"])
    def test_three_loops_one_after_another(
        self, runner, secure, server_factory, server_ssl_context, client_ssl_context
    ):
        server = server_factory(ok(), tls=server_ssl_context if secure else None)
        before = open_sockets()
        transport = pt.AsyncTransport(max_conns=1, ssl_context=client_ssl_context)

        async def once():
            response = await transport.round_trip(pt.Request("GET", server.url))
            assert response.status_code == 200
            assert await response.aread() == b"hello"
            response = await transport.round_trip(pt.Request("GET", server.url))
            assert await response.aread() == b"hello"

        for number in range(1, 4):
            asyncio.run(once()) if runner == "asyncio" else trio.run(once)
            assert server.accepted == number
            server.wait_for_open(0)
        assert transport.stats().open == 0
        server.wait_until(lambda: not open_sockets() - before)  # the server's own ends are among them
        self.close(transport)

    def test_asyncio_then_trio_then_asyncio(self, server_factory):
        server = server_factory(ok())
        transport = pt.AsyncTransport(max_conns=1)

        async def once():
            assert await (await transport.round_trip(pt.Request("GET", server.url))).aread() == b"hello"

        for run in (lambda: asyncio.run(once()), lambda: trio.run(once)) * 2:
            run()
        assert server.accepted == 4
        server.wait_for_open(0)
        self.close(transport)

    @pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")
    def test_a_loop_that_was_closed_without_its_shutdown(self, server_factory):
        """`loop.close()` alone: nobody tells us, so it is noticed by who comes next."""
        server = server_factory(ok())
        transport = pt.AsyncTransport(max_conns=1)

        async def once():
            assert await (await transport.round_trip(pt.Request("GET", server.url))).aread() == b"hello"

        for number in range(1, 4):
            loop = asyncio.new_event_loop()
            loop.run_until_complete(once())
            loop.close()
            assert server.accepted == number
        self.close(transport)
        gc.collect()
        server.wait_for_open(0)

    @staticmethod
    def close(transport) -> None:
        asyncio.run(transport.aclose())

    @pytest.mark.parametrize("others", ["asyncio", "trio"])
    def test_two_live_loops_never_share_a_connection(self, others, server_factory, scaled):
        server = server_factory(ok())
        transport = pt.AsyncTransport()
        rounds = scaled(500, 50)
        both = threading.Barrier(2, timeout=10)
        failures = []

        async def ask(name):
            for _ in range(rounds):
                request = pt.Request("GET", server.url, headers={"X-Loop": name})
                assert await (await transport.round_trip(request)).aread() == b"hello"
            both.wait()  # so that neither loop ends before the other has made its requests

        def run(name, kind):
            try:
                asyncio.run(ask(name)) if kind == "asyncio" else trio.run(ask, name)
            except BaseException as error:
                failures.append(error)
                both.abort()

        threads = [
            threading.Thread(target=run, args=("a", "asyncio")),
            threading.Thread(target=run, args=("b", others)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not failures
        used = {(request.conn, request.header("x-loop")) for request in server.log}
        assert sorted(used) in ([(1, "a"), (2, "b")], [(1, "b"), (2, "a")])
        server.wait_for_open(0)
        self.close(transport)
