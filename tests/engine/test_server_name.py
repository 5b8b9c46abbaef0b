"""`extensions["sni_hostname"]`: the name that TLS asks for and checks, for one request."""

from __future__ import annotations

import pytest

import pooltransport as pt
from tests.support.colours import run_colour
from tests.support.responders import ok


def test_it_is_asked_for_and_checked_and_apart(colour, server_factory, server_ssl_context, client_ssl_context):
    names = []
    server_ssl_context.sni_callback = lambda sock, name, context: names.append(name)
    server = server_factory(ok(), tls=server_ssl_context)
    url = f"https://127.0.0.1:{server.port}"

    async def body(c):
        for extensions in ({"sni_hostname": "localhost"}, {"sni_hostname": "localhost"}, {}, {"mine": 1}):
            assert await c.fetch(url, extensions=extensions) == b"hello"
        with pytest.raises(pt.TLSError, match=r"other\.test"):
            await c.fetch(url, extensions={"sni_hostname": "other.test"})
        with pytest.raises(pt.InvalidRequest, match="must be a str, not int"):
            await c.fetch(url, extensions={"sni_hostname": 1})

    run_colour(colour, body, ssl_context=client_ssl_context)
    assert names == ["localhost", None, "other.test"]  # an address is no name; other extensions are nobody's business


def test_plain_http_knows_no_such_name(colour, server_factory):
    server = server_factory(ok())

    async def body(c):
        await c.fetch(server.url)
        await c.fetch(server.url, extensions={"sni_hostname": "localhost"})

    run_colour(colour, body)
