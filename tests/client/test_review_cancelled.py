"""A caller that goes away in the middle of an exchange, wherever that is, takes its connection with it."""

from __future__ import annotations

import threading

import pytest

import pooltransport as pt
from tests.support.colours import run_colour
from tests.support.responders import Responder, head
from tests.support.routes import routes


async def cancelled_at(c, server, ready, **options):
    client = c.make_client(timeout=30.0, **options)
    handle = await c.start(lambda: c.call(client.get, server.url))
    await c.wait_until(ready)
    handle.cancel()
    await c.wait_until(lambda: handle.done)
    await c.wait_until(lambda: c.transport.stats().leases == c.transport.stats().waiting == 0)
    assert c.transport.stats().leaks == 0


@pytest.mark.parametrize("status", [302, 401, 503])
def test_while_an_answer_is_read_away(loop_colour, server_factory, status):
    """A redirect, a challenge, an answer to be repeated: its rest is drained, and only begins to come."""
    go = threading.Event()

    @Responder
    def respond(conn, request):
        fields = [("Location", "/b"), ("WWW-Authenticate", 'Digest realm="r", nonce="n"')]
        conn.send(head(f"{status} Some", *fields, length=1000) + b"x")
        conn.wait_for(go)

    server = server_factory(respond)

    async def body(c):
        retry = pt.Retry(1, status_forcelist={503}, backoff_factor=0)
        try:
            await cancelled_at(c, server, lambda: server.requests, auth=pt.DigestAuth("u", "p"), retry=retry)
        finally:
            go.set()

    run_colour(loop_colour, body, drain_timeout=20.0)


def test_while_it_waits_to_try_again(loop_colour, server_factory):
    server = server_factory(routes({"/": (503, {}, b"x")}))

    async def body(c):
        retry = pt.Retry(1, status_forcelist={503}, backoff_factor=20)
        await cancelled_at(c, server, lambda: server.requests and not c.transport.stats().leases, retry=retry)
        assert c.transport.stats().idle == 1

    run_colour(loop_colour, body)


@pytest.mark.parametrize("method", ["authorize", "answer"])
def test_while_an_auth_thinks(loop_colour, server_factory, method):
    server = server_factory(routes({"/": (401, {}, b"x" * 300_000)}))

    async def body(c):
        asked = []

        async def think(*args):
            asked.append(args)
            await c.sleep(20.0)

        auth = type("Thinks", (pt.Auth,), {method: lambda self, *args: think(*args)})()
        await cancelled_at(c, server, lambda: asked, auth=auth)

    run_colour(loop_colour, body)
