"""Through real proxies: squid, haproxy's TLS before it, and microsocks; to a real nginx."""

from __future__ import annotations

from urllib.parse import quote

import pytest

import pooltransport as pt
from tests.support.colours import run_colour
from tests.support.proxy_peers import PASSWORD, USER, Haproxy, Microsocks, Squid, start
from tests.support.responders import echo

pytestmark = pytest.mark.peers

WAYS = ["http", "https", "socks5"]
TARGETS = ["http", "https"]


@pytest.fixture(scope="module")
def proxies(server_cert):
    """Give the running proxies, by the scheme of their URL."""
    pem = server_cert.private_key_and_cert_chain_pem.bytes()
    with start(Squid) as squid, start(lambda: Haproxy(squid, pem)) as haproxy:
        with start(Microsocks) as microsocks:
            yield {"http": squid, "https": haproxy, "socks5": microsocks}


@pytest.fixture
def open_proxy(proxies):
    return lambda way: f"{way}://127.0.0.1:{proxies[way].open_port}"


@pytest.fixture
def guarded_proxy(proxies):
    def make(way, password=PASSWORD):
        return f"{way}://{USER}:{quote(password, safe='')}@127.0.0.1:{proxies[way].guarded_port}"

    return make


def root_of(nginx, target):
    return nginx.https_url if target == "https" else nginx.url


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("way", WAYS)
def test_bodies_and_reuse(
    colour, nginx, open_proxy, client_ssl_context, server_factory, server_ssl_context, way, target
):
    # A server that reads the body before it answers: squid gives up on one that nginx answers early.
    server = server_factory(echo, tls=server_ssl_context if target == "https" else None)
    data = bytes(range(256)) * 4000

    async def body(c):
        for size, length in (("100", 100), ("1M", 1_000_000), ("10k", 10_000)):
            assert len(await c.fetch(f"{root_of(nginx, target)}/bytes/{size}")) == length
        assert c.transport.stats().dials == 1
        for _ in range(2):
            response = await c.request("POST", server.url, content=data)
            assert await c.read(response) == data
        # The connection to a forward proxy is the proxy's, a tunnel is for one origin.
        forward = target == "http" and way != "socks5"
        assert c.transport.stats().dials == (1 if forward else 2)

    run_colour(colour, body, proxy=open_proxy(way), ssl_context=client_ssl_context)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("way", WAYS)
def test_credentials(colour, nginx, guarded_proxy, client_ssl_context, way, target):
    async def body(c):
        for _ in range(2):
            assert await c.fetch(f"{root_of(nginx, target)}/") == b"hello"
        assert c.transport.stats().dials == 1

    run_colour(colour, body, proxy=guarded_proxy(way), ssl_context=client_ssl_context)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("way", WAYS)
def test_wrong_credentials(colour, nginx, guarded_proxy, client_ssl_context, way, target):
    async def body(c):
        if (way, target) in {("http", "http"), ("https", "http")}:
            response = await c.get(f"{nginx.url}/")
            assert response.status_code == 407  # an ordinary answer (PROXY-20)
            await c.close(response)
            return
        with pytest.raises(pt.ProxyError) as caught:
            await c.get(f"{root_of(nginx, target)}/secret")
        assert caught.value.status_code == (407 if way != "socks5" else None)
        if way != "socks5":
            assert "basic" in caught.value.headers["Proxy-Authenticate"].lower()
        for hidden in ("mistaken", USER, "secret"):
            assert hidden not in str(caught.value)
        assert not caught.value.may_have_been_processed
        assert (c.transport.stats().open, c.transport.stats().dialing) == (0, 0)

    run_colour(colour, body, proxy=guarded_proxy(way, "mistaken"), ssl_context=client_ssl_context)


@pytest.mark.parametrize("way", WAYS)
def test_many_at_once(colour, nginx, open_proxy, client_ssl_context, way):
    async def body(c):
        async def work(number):
            url = root_of(nginx, TARGETS[number % 2])
            for _ in range(5):
                assert await c.fetch(f"{url}/echo?{number}") == str(number).encode()

        await c.gather(*[lambda number=number: work(number) for number in range(20)])
        stats = c.transport.stats()
        assert max(host.dials for host in stats.hosts.values()) <= 10
        assert (stats.leases, stats.active, stats.waiting) == (0, 0, 0)

    run_colour(colour, body, proxy=open_proxy(way), ssl_context=client_ssl_context, max_conns_per_host=4)


@pytest.mark.parametrize("way", WAYS)
def test_an_origin_that_refuses(colour, open_proxy, client_ssl_context, refused_port, way):
    async def body(c):
        with pytest.raises(pt.ProxyError) as caught:
            await c.get(f"https://127.0.0.1:{refused_port}/")
        assert caught.value.status_code == (503 if way != "socks5" else None)
        assert f"127.0.0.1:{refused_port}" in str(caught.value)

    run_colour(colour, body, proxy=open_proxy(way), ssl_context=client_ssl_context)


@pytest.fixture
def refused_port():
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@pytest.mark.parametrize("way", WAYS)
def test_idle_tunnels_are_seen_to_end(colour, nginx, open_proxy, client_ssl_context, way):
    """The origin closes the idle connection, the proxy passes that on: the next request notices."""

    async def body(c):
        url = root_of(nginx, "https")
        for _ in range(3):
            assert await c.fetch(f"{url}/brief") == b"brief"
            await c.wait_until(lambda: c.transport.stats().idle == 0)
        stats = c.transport.stats()
        assert stats.closed == {"server_closed_idle": 3}
        assert stats.retries == 0

    run_colour(colour, body, proxy=open_proxy(way), ssl_context=client_ssl_context)
