"""``resolver=``: what it returns and raises, on which loop it runs, and when it is asked again. In every colour."""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import pytest
import trio

import pooltransport as pt
from tests.support.colours import run_colour
from tests.support.field import wait_quiet
from tests.support.responders import ok


async def pause(seconds):
    """Sleep on whichever loop this is."""
    if asyncio._get_running_loop() is not None:
        await asyncio.sleep(seconds)
    else:
        await trio.sleep(seconds)


@pytest.mark.parametrize(
    "answer",
    [
        ["127.0.0.1"],
        ("127.0.0.1",),
        [(socket.AF_INET, ("127.0.0.1", "port"))],
        ["127.0.0.1", "127.0.0.1"],
        "getaddrinfo",
        "generator",
    ],
)
def test_what_it_may_return(colour, server_factory, answer):
    server = server_factory(ok())

    def resolver(host, port):
        if answer == "getaddrinfo":
            return socket.getaddrinfo("127.0.0.1", port, type=socket.SOCK_STREAM)
        if answer == "generator":
            return (text for text in ["127.0.0.1"])
        return [(row[0], (row[1][0], port)) if isinstance(row, tuple) else row for row in answer]

    async def body(c):
        told = []
        trace = pt.ClientTrace(dns_done=told.append)
        calls = [lambda: c.fetch(f"http://a.test:{server.port}/", trace=trace) for _ in range(4)]
        assert await c.gather(*calls) == [b"hello"] * 4
        assert {info.addresses for info in told} == {(f"127.0.0.1:{server.port}",)}

    run_colour(colour, body, resolver=resolver)


NONSENSE = [
    None,
    42,
    "127.0.0.1",
    b"127.0.0.1",
    ["localhost"],
    [None],
    [b"127.0.0.1"],
    ["127.0.0.1", 7],
    [(socket.AF_INET, "127.0.0.1")],
    [(socket.AF_INET, ("localhost", 80))],
    [(socket.AF_INET, ("127.0.0.1", "80"))],
    [(socket.AF_UNIX, "/tmp/x")],
    [(1, 2, 3)],
    [([], ())],
    [[]],
]


@pytest.mark.parametrize("answer", NONSENSE, ids=repr)
def test_nonsense_fails_that_request_only(colour, server_factory, answer):
    server = server_factory(ok())

    async def body(c):
        with pytest.raises(pt.DNSError, match="cannot resolve 'bad.test': .*the resolver returned") as caught:
            await c.fetch(f"http://bad.test:{server.port}/")
        assert isinstance(caught.value.__cause__, (TypeError, ValueError))
        assert await c.fetch(f"http://good.test:{server.port}/") == b"hello"
        assert (await wait_quiet(c)).dial_errors == 1

    run_colour(colour, body, resolver=lambda host, port: answer if host == "bad.test" else ["127.0.0.1"])


def test_no_address(colour):
    async def body(c):
        with pytest.raises(pt.DNSError, match="cannot resolve 'a.test': the resolver knows no address"):
            await c.fetch("http://a.test/")

    run_colour(colour, body, resolver=lambda host, port: [])


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "unknown name: Name or service not known"),
        (socket.gaierror(socket.EAI_AGAIN, "Try again"), "no name server answered: Try again"),
        (OSError(24, "Too many open files"), "Too many open files"),
        (KeyError("a.test"), "KeyError: 'a.test'"),
        (SystemExit(3), "SystemExit: 3"),
    ],
    ids=repr,
)
def test_what_it_raises_is_chained(colour, server_factory, error, said):
    server = server_factory(ok())

    def resolver(host, port):
        if host == "a.test":
            raise error
        return ["127.0.0.1"]

    async def body(c):
        for _ in range(6):  # more often than there are workers: none of them was lost
            with pytest.raises(pt.DNSError, match=f"cannot resolve 'a.test': {said}") as caught:
                await c.fetch("http://a.test/", timeout=2.0)
            assert caught.value.__cause__ is error
        assert await c.fetch(f"http://good.test:{server.port}/", timeout=2.0) == b"hello"

    run_colour(colour, body, resolver=resolver)


def test_the_systems_own(colour, server_factory):
    server = server_factory(ok())

    async def body(c):
        assert await c.fetch(f"http://localhost:{server.port}/") == b"hello"
        with pytest.raises(pt.DNSError, match="cannot resolve 'no-such-name.invalid'"):
            await c.fetch("http://no-such-name.invalid/", timeout=5.0)

    run_colour(colour, body)


def test_an_older_connection_is_replaced_after_a_new_look_up(colour, server_factory):
    old, new = server_factory(ok(b"old")), server_factory(ok(b"new"))
    port = {"now": old.port}
    asked = []

    def resolver(host, number):
        asked.append(host)
        return [(socket.AF_INET, ("127.0.0.1", port["now"]))]

    async def body(c):
        assert await c.fetch("http://a.test/") == b"old"
        port["now"] = new.port
        assert await c.fetch("http://a.test/") == b"old"
        await c.sleep(0.35)
        assert await c.fetch("http://a.test/") == b"new"
        assert c.transport.stats().closed == {"max_lifetime": 1}

    run_colour(colour, body, resolver=resolver, max_conn_lifetime=0.3)
    assert asked == ["a.test"] * 2


class TestOnTheLoop:
    """A coroutine function, for `AsyncTransport`."""

    def test_it_runs_there_and_is_shared(self, loop_colour, server_factory):
        server = server_factory(ok())
        asked = []

        async def resolver(host, port):
            asked.append((host, threading.get_ident()))
            await pause(0.05)
            return ["127.0.0.1"]

        async def body(c):
            told = []
            trace = pt.ClientTrace(dns_done=lambda info: told.append(info.coalesced))
            calls = [lambda: c.fetch(f"http://a.test:{server.port}/", trace=trace) for _ in range(20)]
            assert await c.gather(*calls) == [b"hello"] * 20
            assert sorted(told) == [False] + [True] * 19

        run_colour(loop_colour, body, resolver=resolver)
        assert asked == [("a.test", threading.get_ident())]

    def test_it_holds_no_deadline_and_is_cancelled_when_nobody_waits(self, loop_colour, server_factory):
        server = server_factory(ok())
        begun, ends = [], []

        async def resolver(host, port):
            if host == "good.test":
                return ["127.0.0.1"]
            try:
                begun.append(host)
                await pause(30)
            except BaseException as error:
                ends.append(type(error).__name__)
                raise

        async def body(c):
            began = time.monotonic()
            with pytest.raises(pt.ConnectTimeout) as caught:
                await c.fetch("http://stuck.test/")
            # Its own clock; who waits would give it half a second more.
            assert 0.29 <= time.monotonic() - began <= 0.7
            assert caught.value.phase == "dns"
            await c.wait_until(lambda: len(ends) == 1)
            assert await c.fetch(f"http://good.test:{server.port}/") == b"hello"
            handle = await c.start(lambda: c.fetch("http://stuck.test/"))
            await c.wait_until(lambda: len(begun) == 2)  # one that is not begun has nothing to end
            await c.close_transport()
            with pytest.raises(pt.TransportClosed):
                await c.wait(handle)
            await c.wait_until(lambda: len(ends) == 2)

        run_colour(loop_colour, body, resolver=resolver, dial_timeout=0.3)

    @pytest.mark.parametrize("answer", [None, "127.0.0.1", [7], KeyError("x")], ids=repr)
    def test_nonsense_and_errors(self, loop_colour, answer):
        async def resolver(host, port):
            if isinstance(answer, Exception):
                raise answer
            return answer

        async def body(c):
            for _ in range(2):
                with pytest.raises(pt.DNSError, match="cannot resolve 'a.test'") as caught:
                    await c.fetch("http://a.test/")
                assert isinstance(caught.value.__cause__, (TypeError, ValueError, KeyError))

        run_colour(loop_colour, body, resolver=resolver)

    def test_two_loops_at_once(self, server_factory):
        server = server_factory(ok())
        asked = []

        async def resolver(host, port):
            asked.append(threading.get_ident())
            await asyncio.sleep(0.05)
            return ["127.0.0.1"]

        async def use():
            responses = await asyncio.gather(*[transport.round_trip(request()) for _ in range(3)])
            for response in responses:
                await response.aread()
            transport.close_idle_connections()

        def request():
            return pt.Request("GET", f"http://a.test:{server.port}/")

        transport = pt.AsyncTransport(resolver=resolver)
        threads = [threading.Thread(target=asyncio.run, args=(use(),)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        asyncio.run(transport.aclose())
        assert len(asked) == len(set(asked)) == 2

    def test_threads_refuse_it(self):
        async def resolver(host, port):
            return ["127.0.0.1"]

        with pytest.raises(pt.ConfigError, match="a coroutine function needs a loop to run on; use AsyncTransport"):
            pt.Transport(resolver=resolver)
