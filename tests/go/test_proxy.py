"""Area PROXY: what goes through which proxy, and how. The environment's rules are in tests/core/test_proxy.py."""

from __future__ import annotations

import pytest

from tests.support.colours import run_colour
from tests.support.proxies import KINDS, HttpProxy, SocksProxy
from tests.support.responders import echo, ok


@pytest.fixture
def world(server_factory, server_ssl_context, client_ssl_context):
    """Give what makes a proxy and an origin of the kind named: ``(proxy url, handler, origin)``."""

    def make(kind, handler=None, origin=None, **options):
        way, target = kind.split()
        if handler is None:
            handler = SocksProxy(**options) if way == "socks5" else HttpProxy(**options)
        proxy = server_factory(handler, tls=server_ssl_context if way == "https" else None)
        tls = server_ssl_context if target in ("CONNECT", "https") else None
        server = server_factory(origin or ok(), tls=tls)
        return Setting(f"{way}://127.0.0.1:{proxy.port}", handler, proxy, server, client_ssl_context)

    return make


class Setting:
    def __init__(self, url, handler, proxy, origin, context):
        self.url, self.handler, self.proxy, self.origin = url, handler, proxy, origin
        self.options = {"proxy": url, "ssl_context": context}

    def with_credentials(self, text):
        scheme, _, place = self.url.partition("://")
        return {**self.options, "proxy": f"{scheme}://{text}@{place}"}


@pytest.mark.go("PROXY-01", "PROXY-02")
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_works_and_keeps_its_connection(colour, world, kind):
    way = world(kind, origin=echo)
    data = bytes(range(256)) * 4000

    async def body(c):
        for number in range(3):
            response = await c.request("POST", f"{way.origin.url}/some?q", content=data)
            assert await c.read(response) == data
            assert response.conn.reused is (number > 0)
            assert response.conn.remote_addr == f"127.0.0.1:{way.proxy.port}"
            assert (response.conn.tls is None) is (kind in ("http forward", "socks5 http"))
        assert (c.transport.stats().dials, c.transport.stats().idle) == (1, 1)

    run_colour(colour, body, **way.options)
    assert (way.proxy.accepted, way.origin.requests) == (1, 3)
    assert {request.target for request in way.origin.log} == {"/some?q"}
