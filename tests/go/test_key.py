"""Area KEY: which requests may share a connection, and which share a budget."""

from __future__ import annotations

import pytest

import pooltransport as pt
from tests.support.colours import run_colour
from tests.support.proxies import HttpProxy, SocksProxy
from tests.support.responders import ok

LOCAL = {"resolver": lambda host, port: ["127.0.0.1"]}


def share(colour, urls, **options):
    """Ask for each address in turn; report whether one connection did for all."""
    fields = options.pop("fields", [{}] * len(urls))

    async def body(c):
        for url, more in zip(urls, fields, strict=True):
            await c.fetch(url, **more)
        return c.transport.stats()

    stats = run_colour(colour, body, **{**LOCAL, **options})
    assert stats.dials in {1, len(urls)}
    return stats.dials == 1


@pytest.mark.go("KEY-01")
@pytest.mark.parametrize(
    ("other", "shared"),
    [
        ("http://a.test:{port}/", True),
        ("http://b.test:{port}/", False),
        ("http://a.test:{second}/", False),
        ("https://a.test:{secure}/", False),
    ],
)
def test_scheme_host_and_port(colour, server_factory, server_ssl_context, client_ssl_context, other, shared):
    first, second = server_factory(ok()), server_factory(ok())
    secure = server_factory(ok(), tls=server_ssl_context)
    urls = [f"http://a.test:{first.port}/", other.format(port=first.port, second=second.port, secure=secure.port)]
    assert share(colour, urls, ssl_context=client_ssl_context, server_hostname="localhost") is shared


@pytest.mark.go("KEY-02")
def test_the_port_is_always_there(colour, server_factory):
    server = server_factory(ok())
    told = []

    async def body(c):
        for url in ("http://h.test/", "http://h.test:80/", "http://h.test:/"):
            await c.fetch(url)
        return list(c.transport.stats().hosts)

    def dial(wish):
        import socket

        told.append((wish.host, wish.port, wish.purpose))
        return socket.create_connection(("127.0.0.1", server.port))

    assert run_colour(colour, body, dial=dial) == ["http://h.test:80"]
    assert told == [("h.test", 80, "origin")]


@pytest.mark.go("KEY-02")
@pytest.mark.parametrize(
    ("proxy", "first_hop"),
    [
        ("http://p.test", "p.test:80"),
        ("https://p.test", "p.test:443"),
        ("socks5://p.test", "p.test:1080"),
        ("socks5h://p.test", "p.test:1080"),
    ],
)
def test_a_proxys_port_too(colour, proxy, first_hop):
    told = []

    def dial(wish):
        told.append((f"{wish.host}:{wish.port}", wish.purpose))
        raise OSError("no further")

    async def body(c):
        with pytest.raises(pt.ConnectError, match="no further"):
            await c.get("http://h.test/", trace=pt.ClientTrace(get_conn=lambda text: told.append((text, "get_conn"))))

    run_colour(colour, body, dial=dial, proxy=proxy)
    assert told == [(first_hop, "get_conn"), (first_hop, "proxy")]


@pytest.mark.go("KEY-03", "KEY-04")
def test_names_have_one_form(colour, server_factory):
    server = server_factory(ok())
    asked, told = [], []

    def resolve(host, port):
        asked.append(host)
        return ["127.0.0.1"]

    names = ["b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.test", "XN--bcher-KVA.test", "xn--bcher-kva.TEST"]
    urls = [f"http://{name}:{server.port}/" for name in names]
    fields = [{"trace": pt.ClientTrace(get_conn=told.append)}] * 3
    assert share(colour, urls, resolver=resolve, fields=fields)
    assert asked == ["xn--bcher-kva.test"]
    assert set(told) == {f"xn--bcher-kva.test:{server.port}"}
    assert {request.header("host") for request in server.log} == {f"xn--bcher-kva.test:{server.port}"}


@pytest.mark.go("KEY-05")
def test_what_is_not_in_it(colour, server_factory):
    server = server_factory(ok())
    place = f"h.test:{server.port}"
    urls = [f"http://{place}/", f"http://{place}/path?q", f"http://user:pass@{place}/", f"http://{place}/"]
    assert share(colour, urls, fields=[{}, {}, {}, {"headers": {"Host": "virtual.test"}}])
    assert server.log[3].header("host") == "virtual.test"


@pytest.mark.go("KEY-06")
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_forward_proxys_connection_is_for_every_host(
    colour, server_factory, server_ssl_context, client_ssl_context, scheme
):
    origins = [server_factory(ok()), server_factory(ok())]
    proxy = server_factory(HttpProxy(), tls=server_ssl_context if scheme == "https" else None)
    url = f"{scheme}://127.0.0.1:{proxy.port}"

    async def body(c):
        for origin in origins:
            await c.fetch(origin.url)
        stats = c.transport.stats()
        assert (stats.dials, list(stats.hosts)) == (1, [f"http://* via {url}"])
        # And it is one budget: a second one waits.
        response = await c.get(origins[0].url)
        with pytest.raises(pt.PoolTimeout):
            await c.get(origins[1].url, timeout=0.1)
        await c.close(response)

    run_colour(colour, body, proxy=url, ssl_context=client_ssl_context, max_conns_per_host=1)
    assert proxy.accepted == 1


@pytest.mark.go("KEY-07")
@pytest.mark.parametrize("kind", ["http CONNECT", "https CONNECT", "socks5 http", "socks5 https"])
def test_a_tunnel_is_for_one_origin(colour, server_factory, server_ssl_context, client_ssl_context, kind):
    scheme, target = kind.split()
    tls = None if target == "http" else server_ssl_context
    origins = [server_factory(ok(), tls=tls), server_factory(ok(), tls=tls)]
    handler = SocksProxy() if scheme == "socks5" else HttpProxy()
    proxy = server_factory(handler, tls=server_ssl_context if scheme == "https" else None)

    async def body(c):
        for origin in (*origins, *origins):
            await c.fetch(origin.url)
        stats = c.transport.stats()
        assert (stats.dials, len(stats.hosts)) == (2, 2)

    options = {"proxy": f"{scheme}://127.0.0.1:{proxy.port}", "ssl_context": client_ssl_context}
    run_colour(colour, body, **options, max_conns_per_host=1)


@pytest.mark.go("KEY-08")
@pytest.mark.parametrize("kind", ["http forward", "http CONNECT", "socks5 http"])
def test_two_users_of_a_proxy_share_no_connection(colour, server_factory, server_ssl_context, client_ssl_context, kind):
    scheme, target = kind.split()
    origin = server_factory(ok(), tls=server_ssl_context if target == "CONNECT" else None)
    place = f"127.0.0.1:{server_factory(SocksProxy() if scheme == 'socks5' else HttpProxy()).port}"
    users = iter(["a:x", "b:x", "a:y", "a:x"])

    async def body(c):
        for _ in range(4):
            await c.fetch(origin.url)
        stats = c.transport.stats()
        assert stats.dials == 3
        assert len(stats.hosts) == 1  # but a budget (contract 1.2)

    run_colour(colour, body, proxy=lambda _: f"{scheme}://{next(users)}@{place}", ssl_context=client_ssl_context)
