"""Row 51: options that are dropped without a word where a proxy is used. Every dialing option with every kind of proxy
is honoured, or refused with a reason; an option that is new must be tried here.
"""

from __future__ import annotations

import socket
import ssl
import time
from typing import NamedTuple

import pytest

import pooltransport as pt
from tests.support.colours import run_colour
from tests.support.kernel import options_to
from tests.support.neighbours import black_hole
from tests.support.proxies import KINDS, HttpProxy, SocksProxy
from tests.support.responders import ok

# What has nothing to do with how a connection is made.
NOT_DIALING = {
    *("max_idle_conns", "max_idle_conns_per_host", "max_conns_per_host", "max_conns", "max_waiting", "acquire_timeout"),
    *("idle_conn_timeout", "max_conn_lifetime", "honor_keep_alive_hint", "response_header_timeout", "read_timeout"),
    *("write_timeout", "expect_continue_timeout", "min_rate", "disable_keep_alives", "max_body_bytes", "drain_limit"),
    *(
        "drain_timeout",
        "retry_stale",
        "codec",
        "leak_detection",
        "ignore_modules",
        "name",
        "proxy",
        "disable_compression",
    ),
    "max_decoded_bytes",
    *("lease_warn_after", "lease_max", "gc_on_exhaustion", "deadlock_check", "show_paths"),
}
TUNNELS = [kind for kind in KINDS if kind not in {"http forward", "https forward"}]
CONNECTS = ["http CONNECT", "https CONNECT"]
OVER_TLS = [kind for kind in KINDS if kind not in {"http forward", "socks5 http"}]


class Setting(NamedTuple):
    """A proxy and an origin of one kind."""

    kind: str
    proxy: object
    origin: object
    handler: object
    context: ssl.SSLContext

    @property
    def scheme(self):
        return self.kind.split()[0]

    def url(self, host="127.0.0.1"):
        return f"{self.scheme}://{host}:{self.proxy.port}"

    def run(self, colour, body=None, **options):
        """Run `body`, or one request that must succeed, through the proxy."""

        async def once(c):
            return await c.fetch(self.origin.url)

        options = {"proxy": self.url(), "ssl_context": self.context, **options}
        return run_colour(colour, body or once, **options)


@pytest.fixture
def setting(server_factory, server_ssl_context, client_ssl_context):
    def make(kind, handler=None, origin_tls=server_ssl_context, proxy_tls=server_ssl_context):
        scheme, target = kind.split()
        handler = handler or (SocksProxy() if scheme == "socks5" else HttpProxy())
        proxy = server_factory(handler, tls=proxy_tls if scheme == "https" else None)
        origin = server_factory(ok(), tls=origin_tls if target in {"CONNECT", "https"} else None)
        return Setting(kind, proxy, origin, handler, client_ssl_context)

    return make


TRIED: set[str] = set()


def tries(option, kinds=KINDS):
    """Mark a test as the one of an option; it runs for each kind of proxy in each colour."""
    TRIED.add(option)
    return pytest.mark.parametrize("kind", kinds)


@tries("local_address")
def test_row_51_local_address(colour, setting, kind):
    through = setting(kind)
    seen = []
    handler = through.proxy.handler
    through.proxy.handler = lambda conn: (seen.append(conn.peer[0]), handler(conn))
    assert through.run(colour, local_address="127.0.0.7") == b"hello"
    assert seen == ["127.0.0.7"]


@tries("uds")
def test_row_51_uds_is_refused(kind):
    with pytest.raises(pt.ConfigError, match="uds and proxy exclude each other"):
        pt.Transport(uds="/run/x.sock", proxy=f"{kind.split()[0]}://127.0.0.1:1")
    with pytest.raises(pt.ConfigError, match="uds and proxy exclude each other"):
        pt.Transport(uds="/run/x.sock", proxy=lambda request: None)


@tries("dial")
def test_row_51_dial(colour, setting, kind):
    through = setting(kind)
    wishes = []

    def dial(wish):
        wishes.append(wish)
        return socket.create_connection((wish.host, wish.port))

    assert through.run(colour, dial=dial) == b"hello"
    assert [(w.host, w.port, w.purpose) for w in wishes] == [("127.0.0.1", through.proxy.port, "proxy")]


@tries("resolver")
def test_row_51_resolver(colour, setting, kind):
    through = setting(kind)
    asked = []

    def resolve(host, port):
        asked.append((host, port))
        return ["127.0.0.1"]

    assert through.run(colour, resolver=resolve, proxy=through.url("localhost")) == b"hello"
    assert asked == [("localhost", through.proxy.port)]


@tries("happy_eyeballs_delay")
def test_row_51_happy_eyeballs_delay(colour, setting, kind):
    """The proxy's name has an address that is silent: the other one is tried after the delay."""
    through = setting(kind)
    silent = socket.socket()
    silent.bind(("127.0.0.2", through.proxy.port))
    with black_hole(silent):
        options = {"proxy": through.url("localhost"), "resolver": lambda host, port: ["127.0.0.2", "127.0.0.1"]}
        began = time.monotonic()
        assert through.run(colour, happy_eyeballs_delay=0.1, **options) == b"hello"
        assert 0.1 <= time.monotonic() - began < 1.0


@tries("socket_options")
def test_row_51_socket_options(colour, setting, kind):
    through = setting(kind)
    seen = []

    async def body(c):
        response = await c.get(through.origin.url)
        seen.extend(options_to(through.proxy.port, (socket.SOL_SOCKET, socket.SO_PRIORITY)))
        await c.close(response)

    through.run(colour, body, socket_options=[(socket.SOL_SOCKET, socket.SO_PRIORITY, 3)])
    assert seen == [(3,)]


@tries("tcp_keepalive")
@pytest.mark.parametrize("wanted", [True, False])
def test_row_51_tcp_keepalive(colour, setting, kind, wanted):
    through = setting(kind)
    seen = []

    async def body(c):
        response = await c.get(through.origin.url)
        seen.extend(options_to(through.proxy.port, (socket.SOL_SOCKET, socket.SO_KEEPALIVE)))
        await c.close(response)

    through.run(colour, body, tcp_keepalive=wanted)
    assert seen == [(int(wanted),)]


@tries("server_hostname")
def test_row_51_server_hostname(colour, setting, kind, tls_ca):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls_ca.issue_cert("origin.test").configure_cert(context)
    through = setting(kind, origin_tls=context)
    assert through.run(colour, server_hostname="origin.test") == b"hello"
    if through.origin.tls:
        with pytest.raises(pt.TLSError):
            through.run(colour)


@tries("ssl_context")
def test_row_51_ssl_context(colour, setting, kind):
    through = setting(kind)
    nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if kind in OVER_TLS:
        with pytest.raises(pt.TLSError, match="the certificate is not accepted"):
            through.run(colour, ssl_context=nobody)
    assert through.run(colour) == b"hello"


@tries("ca_file")
def test_row_51_ca_file(colour, setting, kind, tls_ca, tmp_path):
    through = setting(kind)
    file = tmp_path / "ca.pem"
    tls_ca.cert_pem.write_to_path(str(file))
    if kind in OVER_TLS:
        with pytest.raises(pt.TLSError, match="the certificate is not accepted"):
            through.run(colour, ssl_context=None)
    assert through.run(colour, ssl_context=None, ca_file=file) == b"hello"


@tries("client_cert")
def test_row_51_client_cert(colour, setting, kind, tls_ca, tmp_path):
    """Each layer of TLS on the way asks for it."""
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls_ca.issue_cert("127.0.0.1").configure_cert(asking)
    tls_ca.configure_trust(asking)
    asking.verify_mode = ssl.CERT_REQUIRED
    ca, mine = tmp_path / "ca.pem", tmp_path / "mine.pem"
    tls_ca.cert_pem.write_to_path(str(ca))
    tls_ca.issue_cert("me.test").private_key_and_cert_chain_pem.write_to_path(str(mine))
    through = setting(kind, origin_tls=asking, proxy_tls=asking)
    if kind in OVER_TLS:
        with pytest.raises(pt.TransportError):
            through.run(colour, ssl_context=None, ca_file=ca)
    assert through.run(colour, ssl_context=None, ca_file=ca, client_cert=mine) == b"hello"


@tries("dial_timeout", TUNNELS)
def test_row_51_dial_timeout(colour, setting, kind):
    through = setting(kind, handler=lambda conn: conn.read_to_end())
    began = time.monotonic()
    with pytest.raises(pt.ConnectTimeout) as caught:
        through.run(colour, dial_timeout=0.2)
    assert 0.15 < time.monotonic() - began < 1.2
    assert (caught.value.phase, caught.value.setting) == ("proxy", "dial_timeout")


@tries("tls_handshake_timeout", OVER_TLS)
def test_row_51_tls_handshake_timeout(colour, setting, kind):
    """The first layer of TLS on the way stays silent: the proxy's, or the origin's in the tunnel."""
    through = setting(kind, proxy_tls=None)
    through.origin.tls = None
    through.origin.handler = lambda conn: conn.read_to_end()
    if kind.startswith("https"):
        through.proxy.handler = lambda conn: conn.read_to_end()
    url = through.origin.url if kind == "https forward" else through.origin.url.replace("http:", "https:")

    async def body(c):
        with pytest.raises(pt.TLSHandshakeTimeout) as caught:
            await c.get(url)
        assert (caught.value.phase, caught.value.setting) == ("tls", "tls_handshake_timeout")

    began = time.monotonic()
    through.run(colour, body, tls_handshake_timeout=0.2)
    assert 0.15 < time.monotonic() - began < 1.2


@tries("max_response_header_bytes")
def test_row_51_max_response_header_bytes(colour, setting, kind):
    through = setting(kind, handler=_long_headers if kind in CONNECTS else None)
    if kind not in CONNECTS:
        through.origin.handler = _long_headers
        if kind in {"http forward", "https forward"}:
            through.proxy.handler = _long_headers
    with pytest.raises((pt.ProxyError, pt.RemoteProtocolError), match=r"1000 bytes \(max_response_header_bytes\)"):
        through.run(colour, max_response_header_bytes=1000)


def _long_headers(conn):
    conn.read_request()
    conn.send(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 2000 + b"\r\n\r\n")
    conn.read_to_end()


@tries("proxy_connect_headers")
def test_row_51_proxy_connect_headers(colour, setting, kind):
    through = setting(kind)
    if through.scheme == "socks5":
        with pytest.raises(pt.ConfigError, match="there is no CONNECT request"):
            through.run(colour, proxy_connect_headers={"X-Team": "a"})
        return
    assert through.run(colour, proxy_connect_headers={"X-Team": "a"}) == b"hello"
    (asked,) = through.handler.asked
    assert asked.header("x-team") == ("a" if kind in CONNECTS else None)
    assert through.origin.log[0].header("x-team") is None


@tries("trace")
def test_row_51_trace(colour, setting, kind):
    through = setting(kind)
    told = []
    trace = pt.ClientTrace(
        get_conn=told.append,
        connect_done=lambda info: told.append(info.address),
        tls_handshake_done=lambda info: told.append("tls"),
        got_conn=lambda info: told.append(info.remote_addr),
    )
    assert through.run(colour, trace=trace) == b"hello"
    place = f"127.0.0.1:{through.proxy.port}"
    layers = through.kind.startswith("https") + (through.origin.tls is not None)
    assert told == [place, place, *["tls"] * layers, place]


TRIED.add("allow_address_through_proxy")


@tries("allow_address")
def test_row_51_allow_address(colour, setting, kind):
    through = setting(kind)
    asked = []

    async def body(c):
        with pytest.raises(pt.AddressRefused, match=f"would go through the proxy {through.url()}, where allow_address"):
            await c.fetch(through.origin.url)

    # A static proxy is refused with the options, one that a callable names with the request.
    with pytest.raises(pt.ConfigError, match="allow_address and proxy exclude each other"):
        through.run(colour, allow_address=asked.append)
    through.run(colour, body, proxy=lambda request: through.url(), allow_address=asked.append)
    assert through.proxy.accepted == 0
    assert through.run(colour, allow_address=asked.append, allow_address_through_proxy=True) == b"hello"
    assert asked == []


@tries("https_only")
def test_row_51_https_only(colour, setting, kind):
    through = setting(kind)
    if through.origin.tls is not None:
        assert through.run(colour, https_only=True) == b"hello"
        return
    with pytest.raises(pt.InvalidRequest, match="is plain http"):
        through.run(colour, https_only=True)
    assert through.proxy.accepted == 0


def test_row_51_nothing_is_left_out():
    options = set(pt.TransportOptions().as_dict())
    assert options - NOT_DIALING - TRIED == set(), "try each with every kind of proxy, or say that it dials nothing"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"proxy": "127.0.0.1:3128"}, "has no scheme"),
        ({"proxy": "socks4://h"}, "'socks4' are not known"),
        ({"proxy": "http://user:secret@h:x"}, "invalid port"),
        ({"proxy": 17}, "must be 'environment', None, a URL text, or a callable, not int"),
        ({"proxy_connect_headers": {"Bad Name": "x"}}, "Bad Name"),
        ({"proxy_connect_headers": {"Content-Length": "0"}}, "leave Content-Length out"),
        ({"proxy_connect_headers": 7}, "proxy_connect_headers"),
        ({"proxy_connect_headers": {"X": "y"}, "proxy": None}, "no CONNECT request"),
    ],
)
def test_what_cannot_work_is_refused_at_once(options, why):
    with pytest.raises(pt.ConfigError, match=why) as caught:
        pt.TransportOptions(**options)
    assert "secret" not in str(caught.value)


def test_credentials_are_not_shown():
    options = pt.TransportOptions(
        proxy="http://user:secret@h:1", proxy_connect_headers={"Proxy-Authorization": "Bearer hidden"}
    )
    assert repr(options) == "TransportOptions(proxy='http://h:1', proxy_connect_headers=...)"
