"""The environment's rules as Go reads them, proxy URLs, CONNECT requests and SOCKS5 handshakes, as values and bytes."""

from __future__ import annotations

import sys

import pytest

from pooltransport.core.keys import ConnectKey, host_of
from pooltransport.core.proxy import (
    Proxy,
    Refused,
    Socks5,
    authority,
    connect_request,
    from_environment,
    parse_proxy,
)
from pooltransport.errors import ConfigError


class TestURL:
    @pytest.mark.parametrize(
        ("text", "parsed"),
        [
            ("http://proxy", Proxy("http", "proxy", 80)),
            ("https://proxy", Proxy("https", "proxy", 443)),
            ("socks5://proxy", Proxy("socks5", "proxy", 1080)),
            ("socks5h://proxy/", Proxy("socks5h", "proxy", 1080)),
            ("HTTP://Proxy.Example:3128", Proxy("http", "proxy.example", 3128)),
            ("http://[::1]:3128", Proxy("http", "::1", 3128)),
            ("http://user@proxy:1", Proxy("http", "proxy", 1, "user")),
            ("http://us%40er:p%3Aa%2Fss@proxy:1", Proxy("http", "proxy", 1, "us@er", "p:a/ss")),
            ("http://user:@proxy:1", Proxy("http", "proxy", 1, "user", "")),
            ("http://b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example", Proxy("http", "xn--bcher-kva.example", 80)),
        ],
    )
    def test_parsed(self, text, parsed):
        assert parse_proxy(text) == parsed

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("proxy:3128", "has no scheme"),
            ("", "has no scheme"),
            ("ftp://proxy", "'ftp' are not known"),
            ("socks4://proxy", "'socks4' are not known"),
            ("http://", "no host"),
            ("http://:3128", "no host"),
            ("http://proxy:0", "port"),
            ("http://proxy:70000", "port"),
            ("http://pro xy", "blank"),
            ("http://proxy\r\nX: y", "control character"),
            ("http://proxy\\x", "backslash"),
            ("http://proxy/proxy.pac", "PAC"),
            ("http://user:pa/ss@proxy", "percent-encode"),
            ("http://user:pa%0Ass@proxy", "control character"),
            ("http://us%3Aer:pass@proxy", "colon"),
            ("socks5://:pass@proxy", "1 to 255 bytes"),
            (f"socks5://user:{'x' * 256}@proxy", "up to 255"),
            (f"socks5://{'x' * 256}@proxy", "1 to 255"),
        ],
    )
    def test_refused(self, text, why):
        with pytest.raises(ConfigError, match=why) as caught:
            parse_proxy(text)
        assert "pass" not in str(caught.value).replace("password", "")

    def test_no_credentials_in_texts(self):
        proxy = parse_proxy("http://somebody:secret@proxy:3128")
        assert str(proxy) == "http://proxy:3128"
        assert f"{proxy!r}" == "Proxy('http://proxy:3128', with credentials)"

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("http://proxy", None),
            ("http://user:pass@proxy", b"Basic dXNlcjpwYXNz"),
            ("http://user@proxy", b"Basic dXNlcjo="),
            ("http://user:@proxy", b"Basic dXNlcjo="),
            ("http://u:%C3%BC@proxy", b"Basic dTrDvA=="),
        ],
    )
    def test_authorization(self, text, value):
        assert parse_proxy(text).authorization == value


HTTP = {"HTTP_PROXY": "http://p:1"}
BOTH = {**HTTP, "HTTPS_PROXY": "https://q"}


def via(env, scheme="http", host="example.com", port=80):
    """Return the proxy as text, or None."""
    rules = from_environment(env)
    proxy = None if rules is None else rules.proxy_for(scheme, host, port)
    return None if proxy is None else str(proxy)


@pytest.mark.parametrize(
    ("env", "http", "https"),
    [
        ({}, None, None),
        ({"NO_PROXY": "*"}, None, None),
        ({"HTTP_PROXY": ""}, None, None),
        (HTTP, "http://p:1", None),
        ({"HTTPS_PROXY": "http://q:2"}, None, "http://q:2"),
        (BOTH, "http://p:1", "https://q:443"),
        ({"http_proxy": "http://l:1", "https_proxy": "http://l:2"}, "http://l:1", "http://l:2"),
        ({**HTTP, "http_proxy": "http://lower:1"}, "http://p:1", None),
        ({"HTTP_PROXY": "", "http_proxy": "http://lower:1"}, "http://lower:1", None),
        # PROXY-16
        ({"HTTP_PROXY": "p:3128"}, "http://p:3128", None),
        ({"HTTP_PROXY": "p"}, "http://p:80", None),
        ({"HTTP_PROXY": " p:1 "}, "http://p:1", None),
        ({"HTTP_PROXY": "http://p:1/path"}, "http://p:1", None),
        ({"HTTP_PROXY": "user:pass@p:1"}, "http://p:1", None),
        ({"HTTPS_PROXY": "socks5://s"}, None, "socks5://s:1080"),
        ({"HTTPS_PROXY": "socks5h://s:9"}, None, "socks5h://s:9"),
        # ours: what has no variable of its own
        ({"ALL_PROXY": "socks5://s"}, "socks5://s:1080", "socks5://s:1080"),
        ({"all_proxy": "socks5://s"}, "socks5://s:1080", "socks5://s:1080"),
        ({**HTTP, "ALL_PROXY": "http://all"}, "http://p:1", "http://all:80"),
    ],
)
def test_which_variable(env, http, https):
    assert (via(env), via(env, "https", port=443)) == (http, https)


@pytest.mark.parametrize("url", ["ftp://p", "http://", "http://p:x", "http://user:secret@p:x"])
def test_a_bad_value_fails_what_it_is_about(url):
    env = {"HTTP_PROXY": url, "HTTPS_PROXY": "http://q:2", "NO_PROXY": "inside"}
    assert via(env, "https") == "http://q:2"
    assert via(env, host="inside") is None
    with pytest.raises(ConfigError, match="the environment variable HTTP_PROXY: ") as caught:
        via(env)
    assert "secret" not in str(caught.value)


class TestCGI:
    # PROXY-18
    @pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy"])
    def test_http_proxy_is_refused(self, name):
        env = {name: "http://p:1", "HTTPS_PROXY": "http://q:2", "REQUEST_METHOD": "GET"}
        with pytest.raises(ConfigError, match="CGI"):
            via(env)
        assert via(env, "https") == "http://q:2"

    def test_others_are_not(self):
        assert via({"ALL_PROXY": "http://p:1", "REQUEST_METHOD": "GET"}) == "http://p:1"
        assert via({**HTTP, "REQUEST_METHOD": ""}) == "http://p:1"


NO_PROXY = [
    # entry, host, port, whether without a proxy
    ("", "example.com", 80, False),
    ("*", "example.com", 80, True),
    ("foo, *", "example.com", 80, True),
    ("example.com", "example.com", 80, True),
    ("EXAMPLE.com", "example.com", 80, True),
    ("example.com", "a.b.example.com", 80, True),
    ("example.com", "badexample.com", 80, False),
    ("example.com", "example.org", 80, False),
    ("example.com", "example.com.", 80, True),
    ("example.com.", "example.com", 80, True),
    (".example.com", "example.com", 80, False),
    (".example.com", "a.example.com", 80, True),
    ("*.example.com", "example.com", 80, False),
    ("*.example.com", "a.example.com", 80, True),
    ("*example.com", "a.example.com", 80, False),
    ("a, b.c,,example.com", "example.com", 80, True),
    ("example.com:80", "example.com", 80, True),
    ("example.com:80", "a.example.com", 80, True),
    ("example.com:443", "example.com", 80, False),
    (".example.com:80", "a.example.com", 80, True),
    ("example.com:", "example.com", 80, True),
    ("192.168.1.1", "192.168.1.1", 80, True),
    ("192.168.1.1", "192.168.1.2", 80, False),
    ("192.168.1.1:81", "192.168.1.1", 80, False),
    ("192.168.1.1:80", "192.168.1.1", 80, True),
    ("192.168.1.1", "::ffff:192.168.1.1", 80, True),
    ("10.0.0.0/8", "10.20.30.40", 80, True),
    ("10.1.2.3/8", "10.20.30.40", 80, True),
    ("10.0.0.0/8", "11.0.0.1", 80, False),
    ("10.0.0.0/255.0.0.0", "10.0.0.1", 80, False),
    ("10.0.0.0/99", "10.0.0.1", 80, False),
    ("10.0.0.0/8", "10.example.com", 80, False),
    ("2001:db8::1", "2001:db8::1", 80, True),
    ("2001:DB8::1", "2001:db8::1", 80, True),
    ("[2001:db8::1]", "2001:db8::1", 80, True),
    ("[2001:db8::1]:80", "2001:db8::1", 80, True),
    ("[2001:db8::1]:81", "2001:db8::1", 80, False),
    ("2001:db8::/32", "2001:db8:1::1", 80, True),
    ("2001:db8::/32", "2001:db9::1", 80, False),
    ("fe80::/10", "fe80::1%eth0", 80, True),
    ("10.0.0.0/8", "2001:db8::1", 80, False),
    (".", "example.com", 80, False),
    (":80", "example.com", 80, False),
    ("b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example", "xn--bcher-kva.example", 80, True),
    ("b\N{SNOWMAN}\N{SNOWMAN}..example", "example", 80, False),
    # this machine itself, always
    ("", "localhost", 80, True),
    ("", "127.0.0.1", 80, True),
    ("", "127.200.0.1", 80, True),
    ("", "::1", 80, True),
    ("", "::ffff:127.0.0.1", 80, True),
    ("", "localhost.example", 80, False),
    ("", "a.localhost", 80, False),
    ("", "1.2.3", 80, False),
]


@pytest.mark.parametrize(("entry", "host", "port", "direct"), NO_PROXY)
@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_no_proxy(name, entry, host, port, direct):
    assert (via({**HTTP, name: entry}, host=host, port=port) is None) is direct


class TestKey:
    FORWARD = host_of("http", "a.example", 81, Proxy("http", "p", 3128, "user", "secret"))

    @pytest.mark.parametrize(
        ("scheme", "proxy", "text"),
        [
            ("https", None, "https://a.example:81"),
            ("http", "http://u:secret@p:3128", "http://* via http://p:3128"),
            ("http", "https://p:3128", "http://* via https://p:3128"),
            ("https", "http://u:secret@p:3128", "https://a.example:81 via http://p:3128"),
            ("http", "socks5://[::1]", "http://a.example:81 via socks5://[::1]:1080"),
        ],
    )
    def test_budget(self, scheme, proxy, text):
        # contract 1.2
        assert str(host_of(scheme, "a.example", 81, None if proxy is None else parse_proxy(proxy))) == text

    def test_credentials_are_not_in_the_budget(self):
        assert host_of("http", "b.example", 80, Proxy("http", "p", 3128)) == self.FORWARD

    def test_first_hop(self):
        proxy = Proxy("http", "::1", 3128)
        key = ConnectKey(
            host_of("https", "a.example", 443, proxy),
            trust=1,
            server_hostname=None,
            uds=None,
            runtime=None,
            proxy=proxy,
        )
        assert (key.first_hop, key.host_port, key.is_tls, key.forward) == (("::1", 3128), "[::1]:3128", True, None)


class TestConnect:
    def test_bare(self):
        request = connect_request(Proxy("http", "p", 1), "a.example", 443, [])
        assert request == b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n"

    def test_headers_and_credentials(self):
        request = connect_request(Proxy("http", "p", 1, "u", "p"), "::1", 80, [(b"User-Agent", b"me")])
        assert request == (
            b"CONNECT [::1]:80 HTTP/1.1\r\nHost: [::1]:80\r\nUser-Agent: me\r\nProxy-Authorization: Basic dTpw\r\n\r\n"
        )

    def test_given_ones_stand_instead(self):
        given = [(b"host", b"h"), (b"proxy-authorization", b"Bearer x")]
        request = connect_request(Proxy("http", "p", 1, "u", "p"), "a", 443, given)
        assert request == b"CONNECT a:443 HTTP/1.1\r\nhost: h\r\nproxy-authorization: Bearer x\r\n\r\n"

    def test_a_zone_is_nobody_elses_business(self):
        assert authority("fe80::1%eth0", 443) == "[fe80::1]:443"


PLAIN = Proxy("socks5", "p", 1080)
KNOWN = Proxy("socks5", "p", 1080, "user", "pw")
DONE = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"


def converse(proxy, *replies, host="example.com", port=443):
    """Return what was sent, the greeting first; each reply is fed byte by byte."""
    handshake = Socks5(proxy, host, port)
    sent = [handshake.first]
    for reply in replies:
        assert not handshake.done
        answers = [handshake.feed(reply[i : i + 1]) for i in range(len(reply))]
        assert not any(answers[:-1])
        sent.append(answers[-1])
    return handshake.done, sent


class TestSocks5:
    # PROXY-12, PROXY-13
    NAME = b"\x05\x01\x00\x03\x0bexample.com\x01\xbb"

    def test_without_credentials(self):
        assert converse(PLAIN, b"\x05\x00", DONE) == (True, [b"\x05\x01\x00", self.NAME, b""])

    def test_with_credentials(self):
        done, sent = converse(KNOWN, b"\x05\x02", b"\x01\x00", DONE)
        assert done
        assert sent == [b"\x05\x02\x00\x02", b"\x01\x04user\x02pw", self.NAME, b""]

    def test_credentials_that_are_not_asked_for(self):
        assert converse(KNOWN, b"\x05\x00", DONE)[1] == [b"\x05\x02\x00\x02", self.NAME, b""]

    def test_an_empty_password(self):
        assert converse(Proxy("socks5h", "p", 1, "u"), b"\x05\x02")[1][1] == b"\x01\x01u\x00"

    @pytest.mark.parametrize(
        ("host", "sent"),
        [
            ("192.0.2.1", b"\x01\xc0\x00\x02\x01"),
            ("2001:db8::1", b"\x04 \x01\r\xb8" + bytes(11) + b"\x01"),
            ("fe80::1%eth0", b"\x04\xfe\x80" + bytes(13) + b"\x01"),
            ("1.2.3", b"\x03\x051.2.3"),
        ],
    )
    def test_literals_are_bytes(self, host, sent):
        assert converse(PLAIN, b"\x05\x00", host=host, port=80)[1][1] == b"\x05\x01\x00" + sent + b"\x00\x50"

    @pytest.mark.parametrize("address", [b"\x01" + bytes(4), b"\x03\x03abc", b"\x03\x00", b"\x04" + bytes(16)])
    def test_the_replys_address_may_be_of_any_kind(self, address):
        assert converse(PLAIN, b"\x05\x00", b"\x05\x00\x00" + address + b"\x00\x50")[0]

    def test_replies_in_one_piece(self):
        handshake = Socks5(PLAIN, "example.com", 443)
        assert handshake.feed(b"\x05\x00" + DONE) == self.NAME
        assert handshake.done

    @pytest.mark.parametrize(
        ("proxy", "replies", "why"),
        [
            (PLAIN, [b"\x05\xff"], "needs credentials"),
            (KNOWN, [b"\x05\xff"], "takes no user name"),
            (PLAIN, [b"\x05\x02"], "username_password, which was not offered"),
            (PLAIN, [b"\x05\x01"], "gssapi, which was not offered"),
            (PLAIN, [b"\x05\x77"], "is not SOCKS5"),
            (PLAIN, [b"H\x00"], "is not SOCKS5"),
            (KNOWN, [b"\x05\x02", b"\x05\x00"], "is not SOCKS5"),
            (KNOWN, [b"\x05\x02", b"\x01\x01"], "refused the user name or password"),
            (PLAIN, [b"\x05\x00", b"\x05\x05" + DONE[2:]], r"connection refused \(5\)"),
            (PLAIN, [b"\x05\x00", b"\x05\x02" + DONE[2:]], "not allowed by ruleset"),
            (PLAIN, [b"\x05\x00", b"\x05\x63" + DONE[2:]], "is not SOCKS5"),
            (PLAIN, [b"\x05\x00", b"\x04" + DONE[1:]], "is not SOCKS5"),
            (PLAIN, [b"\x05\x00", b"\x05\x00\x00\x09\x00"], "unknown type 9"),
            (PLAIN, [b"\x05\x00", DONE + b"x"], "before the tunnel was used"),
        ],
    )
    def test_refused(self, proxy, replies, why):
        handshake = Socks5(proxy, "example.com", 443)
        with pytest.raises(Refused, match=why):
            for reply in replies:
                handshake.feed(reply)

    def test_the_library_is_missing(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "socksio", None)
        with pytest.raises(ConfigError, match=r"pip install pooltransport\[socks\]"):
            Socks5(PLAIN, "example.com", 443)
