"""``dial=``: what it may return, and when; in every colour. TLS stays ours (contract 5.6)."""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import pytest
import trio

import pooltransport as pt
from pooltransport.testing.fakes import FakeRuntime, FakeTransport
from tests.support import kernel
from tests.support.colours import run_colour
from tests.support.dialer import Dialer
from tests.support.field import wait_quiet
from tests.support.lag import Lag
from tests.support.responders import ok


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=5)


@pytest.fixture
def server(server_factory):
    return server_factory(ok())


def test_it_makes_the_socket(colour, server):
    asked = []

    def dial(request):
        asked.append(request)
        return connect(server.port)

    async def body(c):
        for _ in range(2):
            assert await c.fetch("http://made-up.test:81/") == b"hello"

    run_colour(colour, body, dial=dial)
    (request,) = asked
    assert (request.host, request.port, request.purpose) == ("made-up.test", 81, "origin")
    assert server.log[0].header("host") == "made-up.test:81"


def test_tls_is_ours(colour, server_factory, server_ssl_context, client_ssl_context):
    server = server_factory(ok(), tls=server_ssl_context)

    async def body(c):
        got = []
        assert await c.fetch("https://localhost/", trace=pt.ClientTrace(got_conn=got.append)) == b"hello"
        assert got[0].tls.server_hostname == "localhost"

    run_colour(colour, body, dial=lambda request: connect(server.port), ssl_context=client_ssl_context)


def test_an_unix_socket_is_a_socket(colour, server_factory, tmp_path):
    server = server_factory(ok(), uds=str(tmp_path / "s"))

    def dial(request):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(server.uds)
        return sock

    async def body(c):
        assert await c.fetch("http://unix.test/") == b"hello"

    run_colour(colour, body, dial=dial)


@pytest.mark.parametrize("error", [OSError(111, "made up"), ValueError("made up"), ZeroDivisionError("made up")])
def test_what_it_raises_is_that_requests(colour, server, error):
    def dial(request):
        if request.host == "bad.test":
            raise error
        return connect(server.port)

    async def body(c):
        with pytest.raises(pt.ConnectError, match="cannot connect to http://bad.test:80: .*made up") as caught:
            await c.fetch("http://bad.test/")
        assert caught.value.__cause__ is error
        assert await c.fetch("http://good.test/") == b"hello"
        assert (await wait_quiet(c)).dial_errors == 1

    run_colour(colour, body, dial=dial)


@pytest.mark.parametrize(("setting", "fields"), [("dial_timeout", {}), ("timeout", {"timeout": 0.4})])
def test_one_that_blocks_holds_no_deadline(colour, server, setting, fields):
    options = {"dial_timeout": 0.4} if setting == "dial_timeout" else {}

    async def body(c):
        with Lag() as lag, pytest.raises(pt.ConnectTimeout) as caught:
            await c.fetch(server.url, **fields)
        assert lag.within(0.4, 0.1)
        assert (caught.value.phase, caught.value.setting) == ("connect", setting)
        dialer.calls[0].finish()
        # Nobody asked for the slot meanwhile: what came late is kept.
        await c.wait_until(lambda: c.transport.stats().idle == 1)

    with Dialer(server.port) as dialer:
        run_colour(colour, body, dial=dialer, **options)


def test_one_that_blocks_holds_up_nobody_else(colour, server):
    async def body(c):
        handle = await c.start(lambda: c.fetch("http://slow.test/"))
        await dialer.wait_for(c, 1)
        dialer.at_once = True
        for _ in range(3):
            assert await c.fetch("http://fast.test/") == b"hello"
        assert not handle.done
        dialer.calls[0].finish()
        assert await c.wait(handle) == b"hello"

    with Dialer(server.port) as dialer:
        run_colour(colour, body, dial=dialer)


@pytest.mark.parametrize("name", ["threads", "asyncio", "trio"])
def test_one_that_is_stuck_holds_up_neither_loop_nor_others(name, server):
    """Not the end of the loop, and no thread of asyncio's or anyio's own pools: more are stuck than these have."""
    with Dialer(server.port) as dialer:
        count = 50

        async def stuck(c, number):
            with pytest.raises(pt.ConnectTimeout):
                await c.fetch(f"http://stuck{number}.test/", timeout=0.5)

        async def body(c):
            handles = [await c.start(lambda n=n: stuck(c, n)) for n in range(count)]
            await dialer.wait_for(c, count)
            if c.name == "asyncio":
                assert await asyncio.to_thread(len, "abc") == 3
            elif c.name == "trio":
                assert await trio.to_thread.run_sync(len, "abc") == 3
            dialer.at_once = True
            assert await c.fetch("http://good.test/", timeout=5.0) == b"hello"
            for handle in handles:
                await c.wait(handle)

        run_colour(name, body, dial=dialer)
        assert not any(call.ended for call in dialer.calls[:count])
    eventually(lambda: all(call.ended for call in dialer.calls))


def eventually(condition):
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_what_comes_after_the_end_of_the_transport_is_closed(colour, server):
    async def body(c):
        handle = await c.start(lambda: c.fetch(server.url))
        await dialer.wait_for(c, 1)
        await c.close_transport()
        with pytest.raises(pt.TransportClosed):
            await c.wait(handle)
        dialer.calls[0].finish()
        await c.wait_until(lambda: server.accepted == 1 and server.open == 0)
        assert kernel.sockets_to(server.port) == 0
        await wait_quiet(c)

    with Dialer(server.port) as dialer:
        run_colour(colour, body, dial=dialer)


def test_what_comes_as_its_task_is_cancelled_is_closed():
    """On asyncio a worker's result and a cancellation may meet in one turn of the loop."""

    class Runtime(FakeRuntime):
        async def run_blocking(self, fn, *, abandon=False):
            result = fn()
            await self.wait("delivery", lambda: False, None)
            return result

    ours, theirs = socket.socketpair()
    runtime = Runtime()
    transport = FakeTransport(runtime, dial=lambda request: ours)
    task = runtime.start(transport.round_trip(pt.Request("GET", "http://a.test/")))
    runtime.run_until_idle()
    assert ours.fileno() >= 0
    runtime.run(transport.aclose())
    runtime.run_until_idle()
    assert ours.fileno() == -1
    theirs.close()
    with pytest.raises(pt.TransportClosed):
        task.outcome()


@pytest.mark.parametrize("what", ["not connected", "closed", "a listener"])
def test_a_socket_that_is_not_connected(colour, server, what):
    made = []

    def dial(request):
        sock = socket.socket()
        if what == "closed":
            sock.close()
        elif what == "a listener":
            sock.bind(("127.0.0.1", 0))
            sock.listen()
        made.append(sock)
        return sock

    async def body(c):
        with pytest.raises(pt.ConnectError, match="returned a socket that is not connected"):
            await c.fetch(server.url, timeout=5.0)
        await wait_quiet(c)
        await c.wait_until(lambda: made[0].fileno() == -1)

    run_colour(colour, body, dial=dial)


class TestCoroutineFunction:
    def test_it_runs_on_the_loop(self, loop_colour, server):
        threads = []

        async def dial(request):
            threads.append(threading.get_ident())
            if loop_colour == "trio":
                stream = await trio.open_tcp_stream("127.0.0.1", server.port)
                sock = socket.socket(fileno=stream.socket.detach())
            else:
                sock = socket.socket()
                sock.setblocking(False)
                await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", server.port))
            return sock

        async def body(c):
            for _ in range(2):
                assert await c.fetch("http://a.test/") == b"hello"

        run_colour(loop_colour, body, dial=dial)
        assert threads == [threading.get_ident()]

    def test_it_is_cancelled_when_nobody_needs_it(self, loop_colour):
        ends = []

        async def dial(request):
            try:
                await (asyncio.sleep(30) if loop_colour == "asyncio" else trio.sleep(30))
            except BaseException as error:
                ends.append(type(error).__name__)
                raise

        async def body(c):
            with pytest.raises(pt.ConnectTimeout):
                await c.fetch("http://a.test/", timeout=0.2)
            assert ends == []  # the dial goes on
            c.transport.close_idle_connections()
            await c.wait_until(lambda: len(ends) == 1)
            assert (await wait_quiet(c)).dialing == 0

        run_colour(loop_colour, body, dial=dial)

    @pytest.mark.parametrize("made", [None, "text"])
    def test_nonsense(self, loop_colour, made):
        async def dial(request):
            return made

        async def body(c):
            with pytest.raises(pt.ConnectError, match="not a connected socket"):
                await c.fetch("http://a.test/")

        run_colour(loop_colour, body, dial=dial)

    def test_threads_refuse_it(self):
        async def dial(request):
            raise NotImplementedError

        with pytest.raises(pt.ConfigError, match="use AsyncTransport"):
            pt.Transport(dial=dial)


@pytest.mark.parametrize(
    "other",
    [
        {"uds": "/tmp/x"},
        {"local_address": "127.0.0.1"},
        {"socket_options": [(1, 2, 3)]},
        {"resolver": print},
        {"tcp_keepalive": (1, 1, 1)},
        {"happy_eyeballs_delay": 0.1},
    ],
    ids=lambda row: next(iter(row)),
)
def test_what_has_no_effect_beside_it_is_refused(other):
    with pytest.raises(pt.ConfigError, match=f"{next(iter(other))} has no effect with dial="):
        pt.TransportOptions(dial=print, **other)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"happy_eyeballs_delay": 0}, "0.01 or more"),
        ({"happy_eyeballs_delay": True}, "must be None"),
        ({"tcp_keepalive": (0, 1, 1)}, "from 1 to 32767"),
        ({"tcp_keepalive": (15, 15)}, "whole numbers"),
        ({"tcp_keepalive": 1}, "must be True, False"),
        ({"tcp_keepalive": (15.0, 15, 9)}, "whole numbers"),
        ({"local_address": "localhost"}, "an IP address of this machine"),
        ({"local_address": ("127.0.0.1", 70_000)}, "an IP address"),
        ({"local_address": ("127.0.0.1", "80")}, "an IP address"),
        ({"socket_options": [(1, 2, "x")]}, "the value a whole number or bytes"),
        ({"uds": "/tmp/x", "resolver": print}, "a Unix socket has no name"),
        ({"uds": "/tmp/x", "local_address": "::1"}, "exclude each other"),
    ],
)
def test_options_that_cannot_work(options, said):
    with pytest.raises(pt.ConfigError, match=said):
        pt.TransportOptions(**options)


def test_options_that_work():
    options = pt.TransportOptions(
        socket_options=None, tcp_keepalive=False, happy_eyeballs_delay=None, local_address=("::1%lo", 0), uds=None
    )
    assert options.local_address == ("::1%lo", 0)
