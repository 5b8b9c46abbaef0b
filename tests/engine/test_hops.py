"""Through proxies over the fake network: what each is asked, what may fail at each step, and what is told of it."""

from __future__ import annotations

import pytest

from pooltransport import ClientTrace, ConfigError, ConnectError, ConnectTimeout, ProxyError, Request, Timeout
from pooltransport.errors import TLSError, TLSHandshakeTimeout, TransportClosed
from pooltransport.testing.fakes import END, Answers, Cancelled
from tests.engine.scenarios import OK, TLS, URL
from tests.engine.tunnels import (
    ESTABLISHED,
    GRANTED,
    HTTP_PROXY,
    HTTPS_PROXY,
    SECURE,
    SOCKS_PROXY,
    Hop,
    client_context,
    connect,
    server_context,
    socks,
)

RESET = ConnectionResetError(104, "Connection reset by peer")
DENIED = b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 3\r\n\r\nwho"
CONNECT = b"CONNECT 192.0.2.1:443 HTTP/1.1\r\nHost: 192.0.2.1:443\r\n\r\n"
VIA = "https://192.0.2.1:443 via http://192.0.2.9:3128"


@pytest.fixture
def make(make_world):
    """Make a world whose transport trusts the tunnels' origins, and adds nothing to requests."""
    usual = {"ssl_context": client_context(), "disable_compression": True}
    return lambda peer, proxy, **options: make_world(peer, proxy=proxy, **{**usual, **options})


def refused(world, url=SECURE, kind=ProxyError, **fields):
    """Send a request that must fail; return the error. Nothing may be left."""
    with pytest.raises(kind) as caught:
        world.runtime.run(world.get(url, **fields))
    assert type(caught.value) is kind
    assert caught.value.may_have_been_processed is False
    stats = world.transport.stats()
    assert (stats.open, stats.dialing, stats.leases, stats.waiting) == (0, 0, 0, 0)
    assert world.runtime.open_streams == []
    return caught.value


class TestWhatIsAsked:
    def test_forward(self, make):
        peer = Answers(OK)
        world = make(peer, "http://user:pa%3Ass@192.0.2.9:3128")
        for url in ("http://a.test/path?q", "http://b.test:81/"):
            assert world.runtime.run(world.get(url, headers={"X-Mine": "1"})) == b"hi"
        fields = b"X-Mine: 1\r\nProxy-Authorization: Basic dXNlcjpwYTpzcw==\r\n\r\n"
        assert peer.requests == [
            b"GET http://a.test/path?q HTTP/1.1\r\nHost: a.test\r\n" + fields,
            b"GET http://b.test:81/ HTTP/1.1\r\nHost: b.test:81\r\n" + fields,
        ]
        assert [dial.address.text for dial in world.runtime.dials] == ["192.0.2.9:3128"]
        assert world.runtime.resolver.asked == []

    def test_the_callers_own_fields_stand(self, make):
        peer = Answers(OK)
        world = make(peer, "http://user:pass@192.0.2.9:3128")
        world.runtime.run(world.get(headers={"Host": "other.test", "proxy-authorization": "Bearer x"}))
        assert peer.requests == [
            b"GET http://192.0.2.1/ HTTP/1.1\r\nHost: other.test\r\nproxy-authorization: Bearer x\r\n\r\n"
        ]

    def test_connect(self, make):
        peer = connect()
        world = make(peer, "http://user:pass@192.0.2.9:3128", proxy_connect_headers={"User-Agent": "me", "X-Team": "a"})
        for _ in range(2):
            assert world.runtime.run(world.get(SECURE)) == b"hi"
        (asked,) = peer.asked
        assert asked == [
            CONNECT.removesuffix(b"\r\n")
            + b"User-Agent: me\r\nX-Team: a\r\nProxy-Authorization: Basic dXNlcjpwYXNz\r\n\r\n"
        ]
        # Nothing for the proxy is inside the tunnel.
        assert peer.origins[0].requests == [b"GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n"] * 2

    def test_socks_for_http(self, make):
        peer = socks(tls=False)
        world = make(peer, SOCKS_PROXY)
        world.runtime.resolver.names["192.0.2.9"] = RESET  # not asked: it is a literal, and the origin is the proxy's
        assert world.runtime.run(world.get("http://origin.test:8080/")) == b"hi"
        assert peer.asked == [[b"\x05\x01\x00", b"\x05\x01\x00\x03\x0borigin.test\x1f\x90"]]
        assert bytes(world.runtime.streams[0].sent).endswith(b"GET / HTTP/1.1\r\nHost: origin.test:8080\r\n\r\n")
        assert world.runtime.resolver.asked == []

    def test_socks_with_credentials(self, make):
        peer = socks(b"\x05\x02", b"\x01\x00", GRANTED)
        world = make(peer, "socks5h://user:pass@192.0.2.9")
        assert world.runtime.run(world.get(SECURE)) == b"hi"
        assert peer.asked == [
            [b"\x05\x02\x00\x02", b"\x01\x04user\x04pass", b"\x05\x01\x00\x01\xc0\x00\x02\x01\x01\xbb"]
        ]

    @pytest.mark.parametrize("status", [b"200 OK", b"201 Made", b"204 Nothing", b"299 Odd"])
    def test_any_2xx(self, make, status):
        fields = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"  # mean nothing here
        world = make(connect(b"HTTP/1.1 " + status + b"\r\n" + fields + b"\r\n"), HTTP_PROXY)
        assert world.runtime.run(world.get(SECURE)) == b"hi"

    def test_an_answer_in_pieces_behind_an_informational_one(self, make):
        whole = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\nX: y\r\n\r\n"
        world = make(connect([whole[i : i + 1] for i in range(len(whole))]), HTTP_PROXY)
        assert world.runtime.run(world.get(SECURE)) == b"hi"

    def test_a_name_is_looked_up_for_the_first_hop_only(self, make):
        world = make(connect(), "http://proxy.test:3128")
        world.runtime.resolver.names["proxy.test"] = ["192.0.2.9"]
        assert world.runtime.run(world.get("https://origin.test/")) == b"hi"
        assert world.runtime.resolver.asked == ["proxy.test"]


class TestConnectFails:
    def test_407(self, make):
        error = refused(make(connect(DENIED), HTTP_PROXY))
        assert (error.status_code, error.headers["proxy-authenticate"]) == (407, "Basic")
        assert f"{VIA}: the proxy answered 407 Proxy Authentication Required to CONNECT 192.0.2.1:443" in str(error)

    @pytest.mark.parametrize("status", [301, 400, 403, 500, 503])
    def test_not_2xx(self, make, status):
        error = refused(make(connect(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status), HTTP_PROXY))
        assert error.status_code == status

    def test_no_reason_phrase(self, make):
        assert refused(make(connect(b"HTTP/1.1 502\r\n\r\n"), HTTP_PROXY)).status_code == 502

    @pytest.mark.parametrize(
        ("reply", "why"),
        [
            (END, "closed the connection without answering"),
            ((b"HTTP/1.1 200 OK\r\nX:", END), "closed the connection inside its answer"),
            (RESET, "ended the connection (Connection reset by peer"),
            (b"SSH-2.0-OpenSSH\r\n\r\n", "cannot be used"),
            (b"\x05\x00", "cannot be used"),
            (ESTABLISHED + b"x", "sent bytes behind its answer"),
        ],
    )
    def test_what_is_no_answer(self, make, reply, why):
        error = refused(make(connect((reply, END) if reply == b"\x05\x00" else reply), HTTP_PROXY))
        assert error.status_code is None
        assert f"{VIA}: the proxy" in str(error)
        if reply != b"\x05\x00":
            assert why in str(error)

    def test_a_header_without_end(self, make):
        error = refused(
            make(
                connect([b"HTTP/1.1 200 OK\r\n", *[b"X: " + b"y" * 995 + b"\r\n"] * 100]),
                HTTP_PROXY,
                max_response_header_bytes=5000,
            )
        )
        assert "5000 bytes (max_response_header_bytes)" in str(error)

    def test_silence(self, make):
        world = make(connect(None), HTTP_PROXY, dial_timeout=4.0)
        began = world.runtime.now()
        error = refused(world, kind=ConnectTimeout)
        assert (error.phase, error.setting, error.seconds) == ("proxy", "dial_timeout", 4.0)
        assert world.runtime.now() - began == pytest.approx(4.0)

    def test_the_callers_own_bound(self, make):
        world = make(connect(None), HTTP_PROXY)
        with pytest.raises(ConnectTimeout) as caught:
            world.runtime.run(world.get(SECURE, timeout=Timeout(connect=2.0)))
        assert (caught.value.phase, caught.value.setting) == ("proxy", "connect")
        assert world.transport.stats().timeouts == {"proxy": 1}
        world.runtime.streams[0].feed(ESTABLISHED)  # the dial goes on without it, and its work is not lost
        world.runtime.run_until_idle()
        assert world.transport.stats().idle == 1

    @pytest.mark.parametrize("proxy", [HTTP_PROXY, SOCKS_PROXY])
    def test_it_takes_nothing(self, make, proxy):
        world = make(lambda dial: setattr(dial.accept(), "hold_writes", True), proxy, dial_timeout=4.0)
        assert refused(world, kind=ConnectTimeout).phase == "proxy"

    def test_writing_fails(self, make):
        world = make(lambda dial: setattr(dial.accept(), "break_writes", RESET), HTTP_PROXY)
        assert "the proxy ended the connection" in str(refused(world))


class TestFirstHopFails:
    def test_refused(self, make):
        world = make(lambda dial: dial.refuse(), HTTP_PROXY)
        error = refused(world, kind=ConnectError)
        assert str(error).startswith(f"cannot connect to {VIA}: 192.0.2.9:3128: Connection refused")
        assert [attempt.address for attempt in error.attempts] == ["192.0.2.9:3128"]

    def test_tls_with_an_https_proxy(self, make):
        def peer(dial):
            dial.accept().fail_tls = RESET

        error = refused(make(peer, HTTPS_PROXY), kind=TLSError)
        assert "TLS handshake with the proxy of https://192.0.2.1:443 via https://192.0.2.9:3129 failed" in str(error)

    def test_tls_with_an_https_proxy_is_too_slow(self, make):
        world = make(lambda dial: setattr(dial.accept(), "hold_tls", True), HTTPS_PROXY, tls_handshake_timeout=3.0)
        assert refused(world, URL, kind=TLSHandshakeTimeout).seconds == 3.0


class TestSocksFails:
    @pytest.mark.parametrize(
        ("replies", "why"),
        [
            ((b"\x05\xff",), "needs credentials"),
            ((b"\x04\x5a",), "not SOCKS5"),
            ((END,), "closed the connection inside the SOCKS5 handshake"),
            (((b"\x05", END),), "closed the connection inside the SOCKS5 handshake"),
            ((b"\x05\x00", b"\x05\x05\x00\x01" + bytes(6)), "connection refused (5)"),
            ((b"\x05\x00", b"\x05\x00\x00\x07\x00"), "unknown type 7"),
            ((b"\x05\x00", GRANTED + b"x"), "bytes before the tunnel was used"),
            ((b"\x05\x00", RESET), "ended the connection"),
        ],
    )
    def test_what_it_says(self, make, replies, why):
        error = refused(make(Hop(*replies), SOCKS_PROXY))
        assert why in str(error)
        assert "https://192.0.2.1:443 via socks5://192.0.2.9:1080" in str(error)

    @pytest.mark.parametrize("replies", [(None,), (b"\x05\x00", None), (b"\x05\x00", GRANTED[:6])])
    def test_silence(self, make, replies):
        # Go has no limit here at all (PROXY-14).
        world = make(Hop(*replies), SOCKS_PROXY, dial_timeout=4.0)
        error = refused(world, kind=ConnectTimeout)
        assert (error.phase, error.setting) == ("proxy", "dial_timeout")


class TestTLSInTheTunnel:
    @pytest.mark.parametrize("proxy", [HTTP_PROXY, HTTPS_PROXY])
    def test_a_certificate_for_another_name(self, make, proxy):
        error = refused(make(connect(context=server_context("other.test")), proxy), kind=TLSError)
        assert "certificate is not accepted" in str(error)
        assert "the proxy of" not in str(error)

    def test_an_authority_that_is_not_trusted(self, make):
        assert "not accepted" in str(refused(make(connect(), HTTP_PROXY, ssl_context=TLS), kind=TLSError))

    def test_no_tls(self, make):
        error = refused(make(connect(tls=False), HTTP_PROXY), kind=TLSError)
        assert "does not speak TLS" in str(error)

    def test_the_end_inside_the_handshake(self, make):
        peer = Hop(ESTABLISHED, END)
        assert "TLS handshake with https://192.0.2.1:443" in str(refused(make(peer, HTTP_PROXY), kind=TLSError))

    def test_silence(self, make):
        world = make(Hop(ESTABLISHED, None), HTTP_PROXY)
        error = refused(world, kind=TLSHandshakeTimeout)
        assert (error.phase, error.setting, error.seconds) == ("tls", "tls_handshake_timeout", 10.0)

    def test_silence_within_the_dial(self, make):
        error = refused(make(Hop(ESTABLISHED, None), HTTP_PROXY, dial_timeout=4.0), kind=ConnectTimeout)
        assert (error.phase, error.setting) == ("tls", "dial_timeout")


class TestNobodyWaits:
    def test_a_cancelled_request_leaves_a_dial_that_is_used(self, make):
        world = make(connect(None), HTTP_PROXY)
        task = world.runtime.start(world.get(SECURE))
        world.runtime.run_until_idle()
        task.cancel()
        world.runtime.run_until_idle()
        assert isinstance(task.error, Cancelled)
        assert world.transport.stats().dialing == 1
        world.runtime.streams[0].feed(ESTABLISHED)
        world.runtime.run_until_idle()
        assert world.runtime.run(world.get(SECURE)) == b"hi"
        assert world.transport.stats().dials == 1

    @pytest.mark.parametrize("peer", [connect(None), Hop(ESTABLISHED, None), Hop(None)])
    def test_closing_ends_it(self, make, peer):
        world = make(peer, HTTP_PROXY)
        task = world.runtime.start(world.get(SECURE))
        world.runtime.run_until_idle()
        world.runtime.run(world.transport.aclose())
        assert isinstance(task.error, TransportClosed)
        assert world.runtime.open_streams == []


class TestHooks:
    def test_each_hop_is_told(self, make):
        told = []
        trace = ClientTrace(
            get_conn=lambda text: told.append(("get_conn", text)),
            connect_start=lambda info: told.append(("connect", info.address)),
            tls_handshake_start=lambda info: told.append(("tls", info.server_hostname)),
            tls_handshake_done=lambda info: told.append(("tls done", info.tls.server_hostname)),
            got_conn=lambda info: told.append(("got", info.remote_addr, info.tls.server_hostname)),
        )
        world = make(connect(), "https://proxy.test:3129", server_hostname="origin.test")
        world.runtime.resolver.names["proxy.test"] = ["192.0.2.9"]
        world.runtime.run(world.get(SECURE, trace=trace))
        assert told == [
            ("get_conn", "proxy.test:3129"),
            ("connect", "192.0.2.9:3129"),
            ("tls", "proxy.test"),
            ("tls done", "proxy.test"),
            ("tls", "origin.test"),
            ("tls done", "origin.test"),
            ("got", "192.0.2.9:3129", "origin.test"),
        ]

    def test_the_error_of_each_handshake(self, make):
        told = []
        trace = ClientTrace(
            tls_handshake_done=lambda info: told.append((info.server_hostname, type(info.error).__name__))
        )
        refused(make(connect(context=server_context("other.test")), HTTPS_PROXY), kind=TLSError, trace=trace)
        assert told == [("192.0.2.9", "NoneType"), ("192.0.2.1", "SSLCertVerificationError")]


class TestCallable:
    def test_decides_for_each_request(self, make):
        asked = []

        def choose(request):
            asked.append(request.url.host)
            return {"192.0.2.1": HTTP_PROXY, "192.0.2.2": None}[request.url.host]

        world = make(Answers(OK), choose)
        for url in ("http://192.0.2.1/", "http://192.0.2.2/", "http://192.0.2.1/"):
            world.runtime.run(world.get(url))
        assert asked == ["192.0.2.1", "192.0.2.2", "192.0.2.1"]
        assert [dial.address.text for dial in world.runtime.dials] == ["192.0.2.9:3128", "192.0.2.2:80"]

    def test_is_asked_again_for_a_retry(self, make):
        # RETRY-11
        answers = iter([HTTP_PROXY, HTTP_PROXY, None])
        world = make(Answers(OK, END, OK), lambda _: next(answers))
        for _ in range(2):
            assert world.runtime.run(world.get(URL)) == b"hi"
        assert [dial.address.text for dial in world.runtime.dials] == ["192.0.2.9:3128", "192.0.2.1:80"]
        assert world.transport.stats().retries == 1

    @pytest.mark.parametrize(
        ("answer", "why"),
        [
            (17, "returned int: it must be a URL text or None"),
            (b"http://p", "returned bytes"),
            ("p:3128", "has no scheme"),
            ("http://user:secret@p:x", "invalid port"),
        ],
    )
    def test_nonsense(self, make, answer, why):
        error = refused(make(Answers(OK), lambda _: answer))
        assert why in str(error)
        assert "secret" not in str(error)

    def test_a_coroutine(self, make):
        async def choose(request):
            return None

        assert "returned coroutine" in str(refused(make(Answers(OK), choose)))

    def test_raises(self, make):
        def careful(request):
            if request.url.host == "192.0.2.1":
                raise KeyError("config")

        error = refused(make(Answers(OK), careful))
        assert isinstance(error.__cause__, KeyError)
        world = make(Answers(OK), careful)
        with pytest.raises(ProxyError):
            world.runtime.run(world.get(URL))
        assert world.runtime.run(world.get("http://192.0.2.2/")) == b"hi"  # that request only

    def test_more_answers_than_are_remembered(self, make):
        users = iter(range(1100))
        world = make(Answers(OK), lambda _: f"http://u{next(users)}:p@192.0.2.9:3128", max_idle_conns=1)
        for _ in range(1100):
            assert world.runtime.run(world.get(URL)) == b"hi"
        assert world.transport.stats().idle == 1

    def test_its_time_is_the_requests(self, make):
        def slow(request):
            world.runtime.clock.move_to(world.runtime.now() + 1.5)

        world = make(lambda dial: None, slow)
        began = world.runtime.now()
        with pytest.raises(ConnectTimeout):
            world.runtime.run(world.get(URL, timeout=2.0))
        assert world.runtime.now() - began == pytest.approx(2.0)

    def test_is_not_asked_once_closed(self, make):
        asked = []
        world = make(Answers(OK), asked.append)
        world.runtime.run(world.transport.aclose())
        with pytest.raises(TransportClosed):
            world.runtime.run(world.get(URL))
        assert asked == []


class TestEnvironment:
    def test_is_read_when_the_transport_is_made(self, make_world, monkeypatch):
        monkeypatch.setenv("HTTP_PROXY", HTTP_PROXY)
        monkeypatch.setenv("NO_PROXY", "192.0.2.2")
        world = make_world(Answers(OK))
        monkeypatch.delenv("HTTP_PROXY")
        for url in (URL, "http://192.0.2.2/", "http://127.0.0.1/"):
            world.runtime.run(world.get(url))
        assert [dial.address.text for dial in world.runtime.dials] == ["192.0.2.9:3128", "192.0.2.2:80", "127.0.0.1:80"]

    @pytest.mark.parametrize("options", [{"proxy": None}, {"uds": "/run/x.sock"}])
    def test_is_not_used(self, make_world, monkeypatch, options):
        monkeypatch.setenv("HTTP_PROXY", HTTP_PROXY)
        world = make_world(Answers(OK), **options)
        world.runtime.run(world.get(URL))
        assert world.runtime.dials[0].address.text != "192.0.2.9:3128"
        assert list(world.transport.stats().hosts) == ["http://192.0.2.1:80"]

    def test_a_bad_value(self, make_world, monkeypatch):
        monkeypatch.setenv("HTTP_PROXY", "ftp://192.0.2.9")
        world = make_world(Answers(OK))
        with pytest.raises(ConfigError, match="the environment variable HTTP_PROXY"):
            world.runtime.run(world.get(URL))
        assert world.runtime.run(world.get("http://127.0.0.1/")) == b"hi"

    def test_cgi(self, make_world, monkeypatch):
        monkeypatch.setenv("HTTP_PROXY", HTTP_PROXY)
        monkeypatch.setenv("REQUEST_METHOD", "GET")
        world = make_world(Answers(OK))
        with pytest.raises(ConfigError, match="CGI"):
            world.runtime.run(world.get(URL))
        assert world.runtime.dials == []


class TestBudget:
    # contract 1.2
    def test_forward_counts_as_the_proxy(self, make):
        world = make(Answers(OK), HTTP_PROXY, max_conns_per_host=1)
        first = world.runtime.run(world.transport.round_trip(Request("GET", "http://a.test/")))
        second = world.runtime.start(world.get("http://b.test/"))
        world.runtime.run_until_idle()
        assert world.transport.stats().waiting == 1
        world.runtime.run(first.aread())
        world.runtime.run_until_idle()
        assert second.outcome() == b"hi"
        assert list(world.transport.stats().hosts) == ["http://* via http://192.0.2.9:3128"]
        assert world.transport.stats().dials == 1

    def test_tunnels_count_as_their_origins(self, make):
        world = make(connect(context=server_context("192.0.2.1", "192.0.2.2")), HTTP_PROXY, max_conns_per_host=1)
        first = world.runtime.run(world.transport.round_trip(Request("GET", SECURE)))
        assert world.runtime.run(world.get("https://192.0.2.2/")) == b"hi"
        world.runtime.run(first.aclose())
        assert len(world.transport.stats().hosts) == 2

    def test_credentials_are_kept_apart_within_one_budget(self, make):
        users = iter(["a", "b", "a"])
        world = make(Answers(OK), lambda _: f"http://{next(users)}:pw@192.0.2.9:3128", max_conns_per_host=2)
        for _ in range(3):
            world.runtime.run(world.get(URL))
        assert world.transport.stats().dials == 2
        assert list(world.transport.stats().hosts) == ["http://* via http://192.0.2.9:3128"]
