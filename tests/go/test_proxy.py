"""Area PROXY: what goes through which proxy, and how. More of the same with fakes: tests/engine/test_hops.py, and
the environment's rules as a table: tests/core/test_proxy.py.
"""

from __future__ import annotations

import ssl
import time

import pytest

import pooltransport as pt
from tests.support.colours import COLOURS, run_colour
from tests.support.proxies import ESTABLISHED, KINDS, HttpProxy, SocksProxy
from tests.support.responders import echo, head, ok

TUNNELS = [kind for kind in KINDS if kind not in {"http forward", "https forward"}]
CONNECTS = ["http CONNECT", "https CONNECT"]
FORWARDS = ["http forward", "https forward"]


class Way:
    """A proxy and an origin, and the options that lead to the one through the other."""

    def __init__(self, url, handler, proxy, origin, context):
        self.url, self.handler, self.proxy, self.origin = url, handler, proxy, origin
        self.options = {"proxy": url, "ssl_context": context}

    def known_as(self, text):
        scheme, _, place = self.url.partition("://")
        return {**self.options, "proxy": f"{scheme}://{text}@{place}"}


@pytest.fixture
def way(server_factory, server_ssl_context, client_ssl_context):
    """Make a proxy and an origin of the kind named: ``way("https CONNECT")``."""

    def make(kind, handler=None, origin=None, **options):
        scheme, target = kind.split()
        if handler is None:
            handler = SocksProxy(**options) if scheme == "socks5" else HttpProxy(**options)
        proxy = server_factory(handler, tls=server_ssl_context if scheme == "https" else None)
        tls = server_ssl_context if target in {"CONNECT", "https"} else None
        server = server_factory(origin or ok(), tls=tls)
        return Way(f"{scheme}://127.0.0.1:{proxy.port}", handler, proxy, server, client_ssl_context)

    return make


@pytest.mark.go("PROXY-01", "PROXY-02", "PROXY-22")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("colour", [*COLOURS, "uvloop"])
def test_every_kind_works_and_keeps_its_connection(colour, way, kind):
    through = way(kind, origin=echo)
    data = bytes(range(256)) * 4000

    async def body(c):
        for number in range(3):
            response = await c.request("POST", f"{through.origin.url}/some?q", content=data)
            assert await c.read(response) == data
            assert response.conn.reused is (number > 0)
            assert response.conn.remote_addr == f"127.0.0.1:{through.proxy.port}"
            # With http over an https proxy it is the proxy's TLS.
            assert (response.conn.tls is None) is (kind in {"http forward", "socks5 http"})
        assert (c.transport.stats().dials, c.transport.stats().idle) == (1, 1)

    run_colour(colour, body, **through.options)
    assert (through.proxy.accepted, through.origin.requests) == (1, 3)
    assert {request.target for request in through.origin.log} == {"/some?q"}
    (asked, *_) = through.handler.asked
    if kind in FORWARDS:
        assert asked.target == f"{through.origin.url}/some?q"
        assert asked.header("host") == f"127.0.0.1:{through.origin.port}"
    elif kind in CONNECTS:
        assert (asked.method, asked.target) == ("CONNECT", f"127.0.0.1:{through.origin.port}")


@pytest.mark.go("PROXY-02")
@pytest.mark.parametrize("kind", TUNNELS)
def test_an_early_answer_comes_through_a_tunnel(colour, way, kind):
    """The upload stops, and what came with the tunnel's TLS is told apart from it (EARLY)."""

    def origin(conn):
        conn.read_head()
        conn.send(head("413 Content Too Large", length=3) + b"413")
        conn.server.stopping.wait(10)

    through = way(kind, origin=origin)
    asked = 0

    def pieces():
        nonlocal asked
        for _ in range(320):
            asked += 1
            yield b"x" * 65_536

    async def body(c):
        began = time.monotonic()
        response = await c.request("POST", through.origin.url, content=pieces())
        assert response.status_code == 413
        assert time.monotonic() - began < 5
        assert await c.read(response) == b"413"

    run_colour(colour, body, **through.options)
    assert asked < 320


@pytest.mark.go("PROXY-02")
@pytest.mark.parametrize("kind", TUNNELS)
def test_the_raw_stream_after_an_upgrade(colour, way, kind):
    def shout(conn):
        conn.read_request()
        conn.send(head("101 Switching Protocols", ("Connection", "Upgrade"), ("Upgrade", "shout")) + b"HELLO")
        while data := conn.sock.recv(65536):
            conn.send(data.upper())

    through = way(kind, origin=shout)
    word = b"word " * 50_000

    async def body(c):
        response = await c.get(through.origin.url, headers={"Connection": "Upgrade", "Upgrade": "shout"})
        stream = response.stream
        await c.call_named(stream, "write", word)
        said = b""
        while len(said) < 5 + len(word):
            said += await c.call_named(stream, "read")
        assert said == b"HELLO" + word.upper()
        await c.call_named(stream, "close")
        assert c.transport.stats().open == 0

    run_colour(colour, body, **through.options)


@pytest.mark.go("PROXY-02")
@pytest.mark.parametrize("kind", FORWARDS)
def test_a_tunnel_of_the_callers_own(colour, way, kind):
    """CONNECT as a request: a forward proxy is asked for it as it stands, and the raw stream is the caller's."""
    through = way(kind, user="known", password="x")

    async def body(c):
        response = await c.request("CONNECT", f"http://127.0.0.1:{through.origin.port}/")
        assert response.status_code == 200
        stream = response.stream
        await c.call_named(stream, "write", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await c.call_named(stream, "read")).startswith(b"HTTP/1.1 200 OK")
        await c.call_named(stream, "close")

    run_colour(colour, body, **through.known_as("known:x"))
    (asked,) = through.handler.asked
    assert (asked.method, asked.target) == ("CONNECT", f"127.0.0.1:{through.origin.port}")


@pytest.mark.go("PROXY-03")
@pytest.mark.parametrize("password", ["open", "", "p:a/s%s"])
@pytest.mark.parametrize("kind", KINDS)
def test_credentials(colour, way, kind, password):
    through = way(kind, user="us@er", password=password)
    encoded = {"p:a/s%s": "p%3Aa%2Fs%25s"}.get(password, password)

    async def body(c):
        for _ in range(2):
            assert await c.fetch(through.origin.url) == b"hello"

    run_colour(colour, body, **through.known_as(f"us%40er:{encoded}"))
    assert len(through.handler.asked) == (2 if kind in FORWARDS else 1)
    assert all(request.header("proxy-authorization") is None for request in through.origin.log)


@pytest.mark.go("PROXY-04")
@pytest.mark.parametrize("kind", CONNECTS)
def test_connect_headers(colour, way, kind):
    through = way(kind)
    headers = {"User-Agent": "me", "X-Team": "a"}

    async def body(c):
        headers["X-Team"] = "changed"  # too late: taken when the transport was made
        assert await c.fetch(through.origin.url) == b"hello"

    run_colour(colour, body, **through.options, proxy_connect_headers=headers)
    (asked,) = through.handler.asked
    assert (asked.header("user-agent"), asked.header("x-team")) == ("me", "a")
    assert through.origin.log[0].header("x-team") is None


@pytest.mark.go("PROXY-05", "PROXY-06")
@pytest.mark.parametrize("kind", CONNECTS)
def test_a_refused_connect_says_everything(colour, way, kind):
    through = way(kind, user="known", password="secret")

    async def body(c):
        with pytest.raises(pt.ProxyError, match="407 Who are you") as caught:
            await c.get(f"{through.origin.url}/hidden")
        assert caught.value.status_code == 407
        assert caught.value.headers["proxy-authenticate"] == 'Basic realm="tests"'
        for secret in ("mistaken", "secret", "hidden"):
            assert secret not in str(caught.value)
        await c.wait_until(lambda: through.proxy.open == 0)

    run_colour(colour, body, **through.known_as("known:mistaken"))
    assert through.origin.accepted == 0


@pytest.mark.go("PROXY-07")
def test_an_answer_without_end(colour, way):
    def endless(conn):
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\n")
        while True:
            conn.send(b"X-More: and more\r\n" * 100)

    through = way("http CONNECT", handler=endless)

    async def body(c):
        with pytest.raises(pt.ProxyError, match=r"exceeded 10000 bytes \(max_response_header_bytes\)"):
            await c.get(through.origin.url)
        await c.wait_until(lambda: through.proxy.open == 0)

    run_colour(colour, body, **through.options, max_response_header_bytes=10_000)


@pytest.mark.go("PROXY-08", "PROXY-14")
@pytest.mark.parametrize("kind", TUNNELS)
def test_a_silent_proxy_is_given_up_within_the_dial(colour, way, kind):
    through = way(kind, handler=lambda conn: conn.read_to_end())

    async def body(c):
        began = time.monotonic()
        with pytest.raises(pt.ConnectTimeout) as caught:
            await c.get(through.origin.url)
        assert 0.2 <= time.monotonic() - began < 1.0
        assert (caught.value.phase, caught.value.setting) == ("proxy", "dial_timeout")
        await c.wait_until(lambda: through.proxy.open == 0)

    run_colour(colour, body, **through.options, dial_timeout=0.3)


@pytest.mark.parametrize("where", ["CONNECT", "TLS"])
@pytest.mark.parametrize("kind", CONNECTS)
def test_closing_ends_a_hop_that_hangs(colour, way, kind, where):
    silent = None if where == "TLS" else (lambda conn: conn.read_to_end())
    through = way(kind, handler=silent)
    through.origin.tls = None
    through.origin.handler = lambda conn: conn.read_to_end()
    url = through.origin.url.replace("http:", "https:")

    async def body(c):
        async def ask():
            with pytest.raises(pt.TransportClosed):
                await c.get(url)

        asking = await c.start(ask)
        last = through.proxy if where == "CONNECT" else through.origin
        await c.wait_until(lambda: last.accepted == 1 and c.transport.stats().dialing == 1)
        began = time.monotonic()
        await c.close_transport()
        await c.wait(asking)
        await c.wait_until(lambda: through.proxy.open == 0)
        assert time.monotonic() - began < 2

    run_colour(colour, body, **through.options)


@pytest.mark.go("PROXY-09")
@pytest.mark.parametrize("kind", CONNECTS)
def test_bytes_behind_the_answer(colour, way, kind):
    through = way(kind, reply=ESTABLISHED + b"evil")

    async def body(c):
        with pytest.raises(pt.ProxyError, match="sent bytes behind its answer"):
            await c.get(through.origin.url)

    run_colour(colour, body, **through.options)


@pytest.mark.go("PROXY-10")
@pytest.mark.parametrize("kind", KINDS)
def test_an_error_of_the_first_hop_names_the_proxy(colour, way, kind):
    through = way(kind)
    through.proxy.stop()

    async def body(c):
        with pytest.raises(pt.ConnectError) as caught:
            await c.get(through.origin.url)
        assert f" via {through.url}: " in str(caught.value)
        assert "Connection refused" in str(caught.value)
        assert isinstance(caught.value.__cause__, ConnectionRefusedError)

    run_colour(colour, body, **through.options)


@pytest.mark.go("PROXY-10", "PROXY-19")
@pytest.mark.parametrize("kind", ["https forward", "https CONNECT"])
def test_the_proxys_certificate_is_verified(colour, way, kind):
    through = way(kind)

    async def body(c):
        with pytest.raises(pt.TLSError, match="TLS handshake with the proxy of .* the certificate is not accepted"):
            await c.get(through.origin.url)

    run_colour(colour, body, proxy=through.url)


@pytest.mark.go("PROXY-11")
def test_what_the_callable_raises(colour, way):
    through = way("http forward")

    def choose(request):
        if request.url.target == b"/bad":
            raise LookupError("no such way")
        return through.url

    async def body(c):
        with pytest.raises(pt.ProxyError, match="LookupError: no such way") as caught:
            await c.get(f"{through.origin.url}/bad")
        assert isinstance(caught.value.__cause__, LookupError)
        assert await c.fetch(through.origin.url) == b"hello"

    run_colour(colour, body, proxy=choose)


@pytest.mark.go("PROXY-12")
@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
@pytest.mark.parametrize("target", ["http", "https"])
def test_socks_is_told_the_name(colour, way, scheme, target):
    through = way(f"socks5 {target}", hosts={"localhost": "127.0.0.1"})

    def resolve(host, port):
        raise AssertionError("the proxy resolves")

    async def body(c):
        for host in ("localhost", "127.0.0.1"):
            assert await c.fetch(f"{target}://{host}:{through.origin.port}/") == b"hello"

    options = {**through.options, "proxy": through.url.replace("socks5", scheme)}
    run_colour(colour, body, **options, resolver=resolve)
    port = through.origin.port
    assert [(a.greeting, a.kind, a.host, a.port) for a in through.handler.asked] == [
        (b"\x05\x01\x00", 3, "localhost", port),
        (b"\x05\x01\x00", 1, "127.0.0.1", port),
    ]


@pytest.mark.go("PROXY-13")
@pytest.mark.parametrize("target", ["http", "https"])
def test_socks_refuses(colour, way, target):
    through = way(f"socks5 {target}", reply=5, user="u", password="p")

    async def body(c):
        with pytest.raises(pt.ProxyError, match=r"connection refused \(5\)"):
            await c.get(through.origin.url)
        await c.wait_until(lambda: through.proxy.open == 0)

    run_colour(colour, body, **through.known_as("u:p"))
    (asked,) = through.handler.asked
    assert (asked.greeting, asked.user, asked.password) == (b"\x05\x02\x00\x02", "u", "p")


@pytest.mark.go("PROXY-13")
@pytest.mark.parametrize("credentials", [":p", f"{'u' * 256}:p", f"u:{'p' * 256}"])
def test_socks_credentials_of_an_impossible_length(credentials):
    with pytest.raises(pt.ConfigError, match="255"):
        pt.Transport(proxy=f"socks5://{credentials}@127.0.0.1")


class Environment:
    """Two proxies that answer themselves, and an origin whose name is not this machine's."""

    def __init__(self, server_factory, monkeypatch):
        self.first, self.second = server_factory(ok()), server_factory(ok())
        self.urls = [self.first.url, self.second.url]
        self.origin = server_factory(ok())
        self.set = monkeypatch.setenv

    def ask(self, colour, url, **options):
        """Send a request; return how many times each proxy was asked, and the origin's answer or the error."""

        async def body(c):
            try:
                response = await c.get(url)
            except pt.Error as error:
                return error
            await c.close(response)
            return response.status_code

        outcome = run_colour(colour, body, resolver=lambda host, port: ["127.0.0.1"], **options)
        return self.first.requests, self.second.requests, outcome


@pytest.fixture
def env(server_factory, monkeypatch):
    return Environment(server_factory, monkeypatch)


class TestEnvironment:
    @pytest.mark.go("PROXY-15")
    def test_the_upper_case_name_first(self, colour, env):
        env.set("HTTP_PROXY", env.urls[0])
        env.set("http_proxy", env.urls[1])
        assert env.ask(colour, f"http://origin.test:{env.origin.port}/", proxy=None) == (0, 0, 200)
        first, second, _ = env.ask(colour, "http://origin.test/")
        assert (first, second) == (1, 0)

    @pytest.mark.go("PROXY-15")
    def test_one_for_each_scheme(self, colour, env):
        env.set("http_proxy", env.urls[0])
        first, second, outcome = env.ask(colour, f"https://origin.test:{env.origin.port}/", dial_timeout=0.2)
        assert (first, second) == (0, 0)
        assert outcome.phase == "tls"  # it went to the origin, which speaks none
        env.set("HTTPS_PROXY", env.urls[1])
        assert env.ask(colour, "https://origin.test/")[:2] == (0, 1)

    @pytest.mark.go("PROXY-16")
    def test_without_a_scheme(self, colour, env):
        env.set("HTTP_PROXY", env.urls[0].removeprefix("http://"))
        assert env.ask(colour, "http://origin.test/")[:2] == (1, 0)

    @pytest.mark.go("PROXY-17")
    @pytest.mark.parametrize(
        ("no_proxy", "asked"),
        [
            ("", 1),
            ("origin.test", 0),
            ("other.test, .test", 0),
            (".origin.test", 1),
            ("origin.test:1", 1),
            ("*", 0),
        ],
    )
    def test_no_proxy(self, env, no_proxy, asked):
        env.set("HTTP_PROXY", env.urls[0])
        env.set("NO_PROXY", no_proxy)
        assert env.ask("threads", f"http://origin.test:{env.origin.port}/")[0] == asked

    @pytest.mark.go("PROXY-17")
    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
    def test_this_machine_itself(self, colour, env, host):
        env.set("HTTP_PROXY", env.urls[0])
        assert env.ask(colour, f"http://{host}:{env.origin.port}/") == (0, 0, 200)

    @pytest.mark.go("PROXY-18")
    def test_cgi(self, colour, env):
        env.set("HTTP_PROXY", env.urls[0])
        env.set("REQUEST_METHOD", "GET")
        first, _, error = env.ask(colour, "http://origin.test/")
        assert isinstance(error, pt.ConfigError)
        assert "refusing to use HTTP_PROXY" in str(error)
        assert first == 0


@pytest.mark.go("PROXY-19")
def test_each_layer_is_verified_by_its_own_name(colour, server_factory, tls_ca, client_ssl_context):
    names = []

    def context_for(name):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls_ca.issue_cert(name).configure_cert(context)
        context.sni_callback = lambda _, asked, __: names.append(asked)
        return context

    proxy = server_factory(HttpProxy(), tls=context_for("localhost"))
    origin = server_factory(ok(), tls=context_for("origin.test"))

    async def body(c):
        assert await c.fetch(f"https://127.0.0.1:{origin.port}/") == b"hello"

    options = {"proxy": f"https://localhost:{proxy.port}", "server_hostname": "origin.test"}
    run_colour(colour, body, **options, ssl_context=client_ssl_context)
    assert names == ["localhost", "origin.test"]


@pytest.mark.go("PROXY-20")
@pytest.mark.parametrize("kind", FORWARDS)
def test_407_to_a_forwarded_request_is_an_answer(colour, way, kind):
    through = way(kind, user="known", password="x")

    async def body(c):
        response = await c.get(through.origin.url)
        assert (response.status_code, await c.read(response)) == (407, b"who")
        assert c.transport.stats().idle == 1

    run_colour(colour, body, **through.options)


@pytest.mark.go("PROXY-21")
def test_a_proxy_is_not_spoken_to_in_http_2(colour, server_factory, server_cert, tls_ca):
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_cert.configure_cert(server_context)
    server_context.set_alpn_protocols(["h2", "http/1.1"])
    handler = HttpProxy()
    proxy = server_factory(handler, tls=server_context)
    context = ssl.create_default_context()
    tls_ca.configure_trust(context)
    context.set_alpn_protocols(["h2", "http/1.1"])

    async def body(c):
        with pytest.raises(pt.TLSError, match="TLS handshake with the proxy of .* chose 'h2'"):
            await c.get("http://origin.test/")

    run_colour(colour, body, proxy=f"https://127.0.0.1:{proxy.port}", ssl_context=context)
    assert handler.asked == []
