"""``extensions["trace"]``: httpcore's events, from our hooks."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time

import pytest

import pooltransport as pt
from tests.support.colours import run_colour
from tests.support.responders import close_after, no_response_close, ok, stall

EXCHANGE = [
    "http11.send_request_headers.started",
    "http11.send_request_headers.complete",
    "http11.send_request_body.started",
    "http11.send_request_body.complete",
    "http11.receive_response_headers.started",
    "http11.receive_response_headers.complete",
    "http11.receive_response_body.started",
    "http11.receive_response_body.complete",
    "http11.response_closed.started",
    "http11.response_closed.complete",
]
CONNECT = ["connection.connect_tcp.started", "connection.connect_tcp.complete"]
TLS = ["connection.start_tls.started", "connection.start_tls.complete"]


class Told:
    """A callable of the colour that writes down what it is told."""

    def __init__(self, c):
        self.events = []
        self.call = self.plain if c.sync else self.coroutine

    @property
    def names(self):
        return [name for name, _ in self.events]

    def __getitem__(self, name):
        return next(info for found, info in self.events if found == name)

    def plain(self, name, info):
        self.events.append((name, info))

    async def coroutine(self, name, info):
        self.events.append((name, info))


def test_the_events_of_two_requests(colour, kit, server_factory, server_ssl_context, client_ssl_context):
    server = server_factory(ok(b"hello", ("X-One", "1")), tls=server_ssl_context)

    async def body(c):
        told = Told(c)
        client = kit.client(c)
        await c.call(client.get, server.url, extensions={"trace": told.call})
        assert told.names == [*CONNECT, *TLS, *EXCHANGE]
        assert told["connection.connect_tcp.started"] == {"host": "127.0.0.1", "port": server.port}
        met = told["connection.connect_tcp.complete"]["return_value"]
        assert met.get_extra_info("server_addr") == ("127.0.0.1", server.port)
        assert met.get_extra_info("ssl_object") is None
        tls = told["connection.start_tls.complete"]["return_value"].get_extra_info("ssl_object")
        assert (tls.version(), tls.cipher()[1], tls.selected_alpn_protocol()) == ("TLSv1.3", "TLSv1.3", None)
        assert tls.getpeercert() is None
        assert told["http11.send_request_headers.started"]["request"].method == b"GET"
        assert told["http11.receive_response_headers.complete"]["return_value"] == (
            b"HTTP/1.1",
            200,
            b"OK",
            [(b"X-One", b"1"), (b"Content-Length", b"5")],
        )
        told.events.clear()
        await c.call(client.get, server.url, extensions={"trace": told.call})
        assert told.names == EXCHANGE
        await c.close(client)

    run_colour(colour, body, ssl_context=client_ssl_context)


def test_the_same_names_as_the_librarys_own(colour, kit, server_factory):
    """On one server, with one request each: so that what was written for httpcore's events goes on."""
    server = server_factory(ok())

    async def body(c):
        names = []
        theirs = kit.lib.HTTPTransport() if c.sync else kit.lib.AsyncHTTPTransport()
        for transport in (theirs, None):
            told = Told(c)
            client = kit.client(c, transport)
            await c.call(client.post, server.url, content=b"x", extensions={"trace": told.call})
            await c.close(client)
            names.append([name for name in told.names if not name.startswith("connection.close")])
        assert names[0] == names[1]

    run_colour(colour, body)


def test_a_refused_connection(colour, kit):
    async def body(c):
        told = Told(c)
        client = kit.client(c)
        with pytest.raises(kit.lib.ConnectError):
            await c.call(client.get, "http://127.0.0.1:1/", extensions={"trace": told.call})
        assert told.names == ["connection.connect_tcp.started", "connection.connect_tcp.failed"]
        assert isinstance(told["connection.connect_tcp.failed"]["exception"], OSError)
        await c.close(client)

    run_colour(colour, body)


def test_no_answer(colour, kit, server_factory):
    server = server_factory(no_response_close)

    async def body(c):
        told = Told(c)
        client = kit.client(c)
        with pytest.raises(kit.lib.RemoteProtocolError):
            await c.call(client.get, server.url, extensions={"trace": told.call})
        assert told.names[-4:] == [
            "http11.receive_response_headers.started",
            "http11.receive_response_headers.failed",
            "http11.response_closed.started",
            "http11.response_closed.complete",
        ]
        await c.close(client)

    run_colour(colour, body)


def test_a_body_that_breaks(colour, kit, server_factory):
    server = server_factory(stall(threading.Event()))

    async def body(c):
        told = Told(c)
        client = kit.client(c, timeout=0.1)
        with pytest.raises(kit.lib.ReadTimeout):
            await c.call(client.get, server.url, extensions={"trace": told.call})
        assert told.names[-3] == "http11.receive_response_body.failed"
        assert isinstance(told.events[-3][1]["exception"], pt.ReadTimeout)
        await c.close(client)

    run_colour(colour, body)


def test_a_request_done_again_is_told_again(kit, server_factory):
    """A connection that had gone stale unseen: what failed on it, and then all of the other."""
    server = server_factory(close_after(1))
    seen = []
    with kit.lib.Client(transport=kit.adapter.HTTPTransport()) as client:
        for _ in range(5):
            client.get(server.url, extensions={"trace": lambda name, info: seen.append(name)})
    assert seen.count("http11.receive_response_body.complete") == 5
    assert seen.count("http11.response_closed.started") == seen.count("http11.response_closed.complete")


def test_what_raises_ends_its_request(colour, kit, server_factory):
    server = server_factory(ok())

    async def body(c):
        names = []

        def fail(name):
            names.append(name)
            if name.endswith("headers.complete"):
                raise LookupError("mine")

        if c.sync:

            def trace(name, info):
                fail(name)
        else:

            async def trace(name, info):
                fail(name)

        client = kit.client(c)
        with pytest.raises(LookupError, match="mine"):
            await c.call(client.get, server.url, extensions={"trace": trace})
        assert names == [*CONNECT, *EXCHANGE[:2]], "and it is told nothing more"
        assert c.transport.stats().active == 0
        assert (await c.call(client.get, server.url)).text == "hello"
        await c.close(client)

    run_colour(colour, body)


def test_a_coroutine_function_for_a_blocking_client(kit, server_factory):
    server = server_factory(ok())

    async def trace(name, info):
        raise AssertionError("never awaited")

    with kit.lib.Client(transport=kit.adapter.HTTPTransport()) as client:
        with pytest.raises(TypeError, match="normal function"):
            client.get(server.url, extensions={"trace": trace})


def test_a_plain_function_on_a_loop_is_called_at_once(loop_colour, kit, server_factory):
    server = server_factory(ok())

    async def body(c):
        names = []
        client = kit.client(c)
        await client.get(server.url, extensions={"trace": lambda name, info: names.append(name)})
        assert names == [*CONNECT, *EXCHANGE]
        await client.aclose()

    run_colour(loop_colour, body)


def test_a_callable_that_waits_holds_up_the_request_and_keeps_its_order(loop_colour, kit, server_factory):
    server = server_factory(ok())
    name_of_user = contextvars.ContextVar("name_of_user")

    async def body(c):
        seen = []
        name_of_user.set("ada")

        async def trace(name, info):
            began = time.monotonic()
            await c.sleep(0.002)
            seen.append((name, name_of_user.get(), time.monotonic() - began > 0.001))

        client = kit.client(c)
        await client.get(server.url, extensions={"trace": trace})
        assert seen == [(name, "ada", True) for name in (*CONNECT, *EXCHANGE)]
        await client.aclose()

    run_colour(loop_colour, body)


def test_it_is_told_while_the_request_waits(loop_colour, kit, server_factory):
    """Not afterwards: who measures phases gets their times."""
    gate = threading.Event()
    server = server_factory(stall(gate, sent=0))

    async def body(c):
        told = Told(c)
        handle = await c.start(lambda: kit.get(c, server.url, extensions={"trace": told.call}))
        await c.wait_until(lambda: "http11.receive_response_body.started" in told.names)
        gate.set()
        await c.wait(handle)

    run_colour(loop_colour, body)


def test_a_cancelled_request_leaves_nothing_behind(kit, server_factory):
    server = server_factory(stall(threading.Event()))

    async def main():
        never = asyncio.Event()

        async def trace(name, info):
            if name.endswith("headers.complete"):
                await never.wait()

        async with kit.lib.AsyncClient(transport=kit.adapter.AsyncHTTPTransport()) as client:
            task = asyncio.create_task(client.get(server.url, extensions={"trace": trace}))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with asyncio.timeout(5):
                while client._transport.transport.stats().leases:
                    await asyncio.sleep(0.001)  # what is left of the body is drained meanwhile
            never.set()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
