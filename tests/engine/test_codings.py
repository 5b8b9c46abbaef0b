"""Which codings are asked for, and which are taken off: Go's rule, the client's, and the adapters' (contract 4.4)."""

from __future__ import annotations

import pytest

from pooltransport.codings import accept_encoding, codings_of, known_codings
from pooltransport.core.http1.exchange import Exchange
from pooltransport.core.http1.h11_codec import H11Codec
from pooltransport.engine.codings import accepted, to_take_off
from pooltransport.models import Request
from pooltransport.options import TransportOptions

OPTIONS = TransportOptions()


def request(decode, method="GET", **headers):
    return Request(
        method, "http://a.test/", headers={k.replace("_", "-"): v for k, v in headers.items()}, decode=decode
    )


def taken_off(decode, *values, asked=b"gzip", status=200, method="GET"):
    exchange = Exchange(H11Codec(10_000), method, 10_000)
    exchange.feed(b"HTTP/1.1 %d OK\r\n" % status)
    exchange.feed(b"".join(b"Content-Encoding: %b\r\n" % value for value in values) + b"\r\n")
    assert exchange.next_head() is not None
    return to_take_off(request(decode), asked, status, exchange.coded)


class TestAsked:
    @pytest.mark.parametrize(
        ("decode", "expected"), [(None, b"gzip"), (True, b"gzip, deflate, br, zstd"), (False, b"")]
    )
    def test_by_rule(self, decode, expected):
        assert accepted(request(decode), OPTIONS) == expected

    @pytest.mark.parametrize("decode", [None, True])
    def test_of_whom_not(self, decode):
        assert accepted(request(decode, method="HEAD"), OPTIONS) == b""
        assert accepted(request(decode, Range="bytes=1-"), OPTIONS) == b""
        assert accepted(request(decode, accept_encoding="identity"), OPTIONS) == b""
        assert accepted(request(decode), TransportOptions(disable_compression=True)) == b""


class TestTakenOff:
    @pytest.mark.parametrize(
        ("values", "unseen", "client"),
        [
            ([b"gzip"], (b"gzip",), (b"gzip",)),
            ([b" X-GZip "], (b"gzip",), (b"gzip",)),
            ([b"gzip, gzip"], (), (b"gzip", b"gzip")),
            ([b"gzip", b"br"], (), (b"gzip", b"br")),
            ([b"deflate, identity"], (), (b"deflate",)),
            ([b"gzip, secret"], (), ()),
            ([], (), ()),
            ([b""], (), ()),
        ],
    )
    def test_by_rule(self, values, unseen, client):
        assert taken_off(None, *values) == unseen
        assert taken_off(True, *values) == client
        assert taken_off(False, *values) == ()

    def test_nobody_asked(self):
        assert taken_off(None, b"gzip", asked=b"") == ()
        assert taken_off(True, b"gzip", asked=b"") == (b"gzip",)

    @pytest.mark.parametrize("decode", [None, True])
    def test_no_body(self, decode):
        assert taken_off(decode, b"gzip", method="HEAD") == ()
        assert taken_off(decode, b"gzip", status=204) == ()

    def test_a_part_has_no_beginning(self):
        assert taken_off(True, b"gzip", status=206) == ()


def test_known():
    assert known_codings() == (b"gzip", b"deflate", b"br", b"zstd")
    assert accept_encoding() == b"gzip, deflate, br, zstd"


def test_more_than_five_are_the_callers():
    assert codings_of([b"gzip, " * 4 + b"gzip"]) == (b"gzip",) * 5
    assert codings_of([b"gzip, " * 5 + b"gzip"]) == ()
