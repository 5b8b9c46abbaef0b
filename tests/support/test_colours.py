"""One body runs in three colours, and what goes wrong in it is not lost."""

from __future__ import annotations

import threading

import pytest

from tests.support import responders
from tests.support.colours import run_colour
from tests.support.responders import ok


def test_requests(colour, server_factory):
    server = server_factory(ok(b"hello"))

    async def body(c):
        assert await c.fetch(server.url) == b"hello"
        response = await c.get(server.url)
        assert [chunk async for chunk in c.chunks(response, 2)] == [b"he", b"ll", b"o"]
        await c.close(response)
        return c.name

    assert run_colour(colour, body) == colour
    assert (server.accepted, server.requests) == (1, 2)


def test_tls(colour, server_factory, server_ssl_context, client_ssl_context):
    server = server_factory(ok(), tls=server_ssl_context)

    async def body(c):
        assert await c.fetch(server.url) == b"hello"

    run_colour(colour, body, ssl_context=client_ssl_context)


def test_at_once(colour, server_factory):
    event = threading.Event()
    server = server_factory(responders.slow(event))

    async def body(c):
        first = await c.start(lambda: c.fetch(server.url))
        await c.wait_until(lambda: server.requests == 1)
        assert not first.done
        event.set()
        assert await c.wait(first) == b"hello"
        assert await c.gather(*[lambda: c.fetch(server.url)] * 5) == [b"hello"] * 5

    run_colour(colour, body, max_conns_per_host=2)
    assert server.peak <= 2


def test_client(colour, server_factory):
    server = server_factory(ok())

    async def body(c):
        client = c.make_client()
        response = await c.call(client.get, server.url)
        assert response.content == b"hello"
        await c.close(client)

    run_colour(colour, body)


def test_cancel(loop_colour, server_factory):
    server = server_factory(responders.slow(threading.Event()))

    async def body(c):
        handle = await c.start(lambda: c.fetch(server.url))
        await c.wait_until(lambda: server.requests == 1)
        handle.cancel()
        await c.wait_until(lambda: handle.done)
        await c.wait_until(lambda: server.open == 0)

    run_colour(loop_colour, body)


async def fail():
    raise ValueError("a mistake in the test")


def test_an_error_in_the_body(colour):
    async def body(c):
        await fail()

    with pytest.raises(ValueError, match="a mistake in the test"):
        run_colour(colour, body)


def test_an_error_beside_the_body_that_nobody_asked_for(colour):
    async def body(c):
        handle = await c.start(fail)
        await c.wait_until(lambda: handle.done)

    with pytest.raises(ValueError, match="a mistake in the test"):
        run_colour(colour, body)


def test_an_error_in_gather(colour):
    async def body(c):
        with pytest.raises(ValueError, match="a mistake in the test"):
            await c.gather(fail, fail)

    run_colour(colour, body)


def test_suspending_on_threads():
    class Suspend:
        def __await__(self):
            yield

    async def body(c):
        await Suspend()

    with pytest.raises(RuntimeError, match="suspended"):
        run_colour("threads", body)
