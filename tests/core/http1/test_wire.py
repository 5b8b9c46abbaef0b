"""Corners of what goes out."""

from __future__ import annotations

import pytest

from pooltransport import Request
from pooltransport.core.http1 import request as wire
from pooltransport.proxy_url import parse_proxy


def head(*args, close=False, accept_encoding=b"", proxy=None, **fields):
    return wire.head(Request(*args, **fields), close=close, accept_encoding=accept_encoding, proxy=proxy)


class TestTargets:
    @pytest.mark.parametrize(
        ("url", "headers", "target"),
        [
            ("http://a.test/ignored", None, b"a.test:80"),
            ("https://a.test/", None, b"a.test:443"),
            ("http://a.test:8080/", None, b"a.test:8080"),
            ("http://[::1]/", None, b"[::1]:80"),
            ("http://a.test/", {"Host": "other.test:5"}, b"other.test:5"),
        ],
    )
    def test_connect_asks_for_host_and_port(self, url, headers, target):
        assert head("CONNECT", url, headers=headers).startswith(b"CONNECT %b HTTP/1.1\r\n" % target)

    def test_every_other_asks_for_the_path(self):
        assert head("GET", "http://a.test/x?y").startswith(b"GET /x?y HTTP/1.1\r\nHost: a.test\r\n")


class TestForwarded:
    PROXY = parse_proxy("http://user:word@proxy.test:3128")

    def test_the_whole_address_and_who_asks(self):
        data = head("GET", "http://a.test:81/x", proxy=self.PROXY, headers={"Host": "b.test"})
        assert data.startswith(b"GET http://a.test:81/x HTTP/1.1\r\nHost: b.test\r\n")
        assert b"\r\nProxy-Authorization: Basic dXNlcjp3b3Jk\r\n" in data

    def test_the_caller_says_who_asks(self):
        data = head("GET", "http://a.test/", proxy=self.PROXY, headers={"proxy-authorization": "mine"})
        assert data.lower().count(b"proxy-authorization") == 1

    def test_a_tunnel_of_the_callers_own(self):
        assert head("CONNECT", "http://a.test/", proxy=self.PROXY).startswith(b"CONNECT a.test:80 HTTP/1.1\r\n")


class TestClose:
    def test_said_once(self):
        assert head("GET", "http://a.test/", close=True).count(b"Connection: close") == 1
        again = head("GET", "http://a.test/", headers={"connection": "x, Close"}, close=True)
        assert again.lower().count(b"close") == 1

    def test_not_beside_a_proposal_to_upgrade(self):
        """KA-06"""
        data = head("GET", "http://a.test/", headers={"Connection": "Upgrade", "Upgrade": "x"}, close=True)
        assert b"close" not in data


class TestGzip:
    @pytest.mark.parametrize("name", ["Accept-Encoding", "RANGE"])
    def test_not_where_the_caller_spoke(self, name):
        assert not wire.may_ask_for_codings(Request("GET", "http://a.test/", headers={name: "x"}))

    def test_not_without_a_body(self):
        assert not wire.may_ask_for_codings(Request("HEAD", "http://a.test/"))

    def test_else_it_is_asked_for(self):
        assert wire.may_ask_for_codings(Request("GET", "http://a.test/"))
        assert head("GET", "http://a.test/", accept_encoding=b"gzip").endswith(b"\r\nAccept-Encoding: gzip\r\n\r\n")
