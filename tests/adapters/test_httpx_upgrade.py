"""The raw stream after 101 and CONNECT."""

from __future__ import annotations

import pytest

from tests.support.colours import run_colour
from tests.support.responders import Responder, head, ok

SWITCH = {"Connection": "Upgrade", "Upgrade": "shout"}


@Responder
def shout(conn, request):
    """Switch, and answer what comes in upper case; end after ``bye``."""
    if request.method == "CONNECT":
        conn.send(b"HTTP/1.1 200 There\r\n\r\n")
    else:
        conn.send(head("101 Switching Protocols", *SWITCH.items()) + b"early")
    while data := conn.sock.recv(1000):
        if data == b"bye":
            break
        if data == b"wait":
            continue
        conn.send(data.upper())
    conn.close()


async def close(c, wire):
    await c.call_named(wire, "close")


@pytest.mark.parametrize("method", ["GET", "CONNECT"])
def test_both_ways(colour, kit, server_factory, method):
    server = server_factory(shout)

    async def body(c):
        client = kit.client(c)
        fields = {"headers": SWITCH} if method == "GET" else {"extensions": {"target": b"a.example:443"}}
        response = await kit.open(c, client, method, server.url, **fields)
        wire = response.extensions["network_stream"]
        assert c.transport.stats().upgraded == 1
        if method == "GET":
            assert response.status_code == 101
            assert await c.call(wire.read, 3) == b"ear"
            assert await c.call(wire.read, 100, 5.0) == b"ly"
        await c.call(wire.write, b"hello")
        assert await c.call(wire.read, 100) == b"HELLO"
        assert wire.get_extra_info("server_addr") == ("127.0.0.1", server.port)
        await c.call(wire.write, b"wait")
        with pytest.raises(kit.core.ReadTimeout):
            await c.call(wire.read, 100, timeout=0.02)
        with pytest.raises(NotImplementedError, match="proxy="):
            await c.call(wire.start_tls, None)
        await c.call(wire.write, b"bye")
        assert await c.call(wire.read, 100) == b""
        await close(c, wire)
        assert c.transport.stats().open == 0
        with pytest.raises(kit.core.ReadError):
            await c.call(wire.read, 100)
        with pytest.raises(kit.core.WriteError):
            await c.call(wire.write, b"x")
        await c.close(response)
        await c.close(client)

    run_colour(colour, body)
    if method == "CONNECT":
        assert server.log[0].target == "a.example:443"
        assert server.log[0].header("host") == "a.example:443"


def test_read_as_a_body_it_is_empty(colour, kit, server_factory):
    """As httpcore's: what follows is in the raw stream, and a client that reads all must not wait for its end."""
    server = server_factory(shout)

    async def body(c):
        client = kit.client(c)
        response = await c.call(client.get, server.url, headers=SWITCH)
        assert (response.status_code, response.content) == (101, b"")
        assert c.transport.stats().open == 0, "and its end closes it"
        await c.close(client)

    run_colour(colour, body)


def test_a_proposal_that_is_not_taken(colour, kit, server_factory):
    server = server_factory(ok())

    async def body(c):
        response = await kit.get(c, server.url, headers=SWITCH)
        assert (response.status_code, response.text) == (200, "hello")
        assert c.transport.stats().idle == 1

    run_colour(colour, body)
