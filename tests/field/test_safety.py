"""`allow_address` and `https_only` over real sockets, in every colour (contract 5.8)."""

from __future__ import annotations

import ipaddress

import pytest

import pooltransport as pt
from tests.support.colours import run_colour
from tests.support.field import wait_quiet
from tests.support.responders import ok

HERE = ipaddress.ip_address("127.0.0.1")


def only_here(peer: pt.PeerAddress) -> bool:
    """Stand for `public_only`, with one address of loopback as the public one."""
    return peer.ip == HERE


def test_what_is_not_public_is_never_connected_to(colour, server_factory):
    server = server_factory(ok())

    async def body(c):
        for host in ("127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]"):
            with pytest.raises(pt.AddressRefused, match=r"allow_address refused .* \[PT-ADDRESS-REFUSED\]$") as caught:
                await c.fetch(f"http://{host}:{server.port}/")
            assert caught.value.refused
        stats = await wait_quiet(c)
        assert (stats.open, stats.dial_errors) == (0, 6)

    run_colour(colour, body, allow_address=pt.public_only)
    assert server.accepted == 0


def test_a_redirect_into_the_inside(colour, server_factory):
    inside = server_factory(ok(b"credentials"))
    moved = ok(b"", ("Location", f"http://127.0.0.2:{inside.port}/latest/meta-data/"), status="302 Found")
    server = server_factory(moved)

    async def body(c):
        client = c.make_client(retry=pt.Retry(3, backoff_factor=0))
        with pytest.raises(pt.AddressRefused) as caught:
            await c.call(client.get, server.url)
        assert caught.value.refused == ("127.0.0.2",)
        assert (await wait_quiet(c)).dial_errors == 1  # never repeated

    run_colour(colour, body, allow_address=only_here)
    assert inside.accepted == 0


@pytest.mark.parametrize("delay", [None, 0.01])
def test_a_name_that_changes_its_answer(colour, server_factory, delay):
    server = server_factory(ok(b"hello", ("Connection", "close")))
    answers = [["127.0.0.1"], ["127.0.0.2", "::1", "127.0.0.1"], ["127.0.0.2", "::1"]]

    async def body(c):
        url = f"http://rebind.test:{server.port}/"
        for _ in range(2):
            assert await c.fetch(url) == b"hello"
        with pytest.raises(pt.AddressRefused) as caught:
            await c.fetch(url)
        assert caught.value.refused == ("127.0.0.2", "::1")
        assert str(caught.value) == (
            f"cannot connect to http://rebind.test:{server.port}: allow_address refused 127.0.0.2, ::1 "
            "[PT-ADDRESS-REFUSED]"
        )

    options = {"allow_address": only_here, "happy_eyeballs_delay": delay}
    run_colour(colour, body, resolver=lambda host, port: answers.pop(0), **options)
    assert server.accepted == 2


def test_https_only(colour, server_factory, server_ssl_context, client_ssl_context):
    plain, secure = server_factory(ok()), server_factory(ok(), tls=server_ssl_context)
    moved = ok(b"", ("Location", plain.url), status="308 Permanent Redirect")
    downgrading = server_factory(moved, tls=server_ssl_context)

    async def body(c):
        assert await c.fetch(secure.url) == b"hello"
        with pytest.raises(pt.InvalidRequest, match=f"https_only: http://127.0.0.1:{plain.port} is plain http"):
            await c.fetch(plain.url)
        with pytest.raises(pt.InvalidRequest, match=f"https_only: http://127.0.0.1:{plain.port} is plain http"):
            await c.call(c.make_client().get, downgrading.url)
        assert (await wait_quiet(c)).idle == 2

    run_colour(colour, body, https_only=True, ssl_context=client_ssl_context)
    assert plain.accepted == 0
