"""Where an answer ends, and whether its connection may be used again (RFC 9112 sections 6, 9; contract section 8)."""

from __future__ import annotations

import pytest

from pooltransport.core.http1.exchange import Exchange, Framing, parse_keep_alive
from pooltransport.errors import IncompleteBody, RemoteProtocolError
from tests.support.codecs import CODEC_NAMES, CODECS

LIMIT = 262_144
Codec = CODECS[0]


@pytest.fixture(autouse=True, params=CODECS, ids=CODEC_NAMES)
def codec_type(request, monkeypatch):
    """Let every test of this module run over each codec."""
    monkeypatch.setitem(globals(), "Codec", request.param)


class Reading:
    """One answer, read as the engine reads it: the pieces go in one by one."""

    def __init__(self, method="GET", limit=LIMIT, *, close_sent=False, request_sent=True):
        self.exchange = Exchange(Codec(limit), method, limit, close_sent=close_sent)
        self.exchange.request_sent = request_sent
        self.heads = []
        self.body = b""

    @property
    def head(self):
        return self.heads[-1] if self.heads and self.heads[-1].status >= 200 else None

    def feed(self, *pieces):
        for piece in pieces:
            self.exchange.feed(piece)
            while self.head is None and (head := self.exchange.next_head()) is not None:
                self.heads.append(head)
            while self.head is not None and (data := self.exchange.next_data()):
                self.body += data
        return self

    def end(self):
        self.exchange.end_of_stream(len(self.body))
        return self


def pieces(data, how):
    return [data] if how == "whole" else [data[i : i + 1] for i in range(len(data))]


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
HINTS = b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 E\r\nA: b\r\n\r\n"
#      name, method, answer, body, framing
BOUNDED = [
    ("length", "GET", HEAD + b"Content-Length: 5\r\n\r\nhello", b"hello", Framing.LENGTH),
    ("length 0", "GET", HEAD + b"Content-Length: 0\r\n\r\n", b"", Framing.LENGTH),
    ("length twice the same", "GET", HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi", b"hi", Framing.LENGTH),
    (
        "chunked",
        "GET",
        CHUNKED + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        b"hello",
        Framing.CHUNKED,
    ),
    ("chunked, empty", "GET", HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"", Framing.CHUNKED),
    ("HEAD", "HEAD", HEAD + b"Content-Length: 5\r\n\r\n", b"", Framing.NONE),
    ("HEAD, chunked", "HEAD", HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"", Framing.NONE),
    ("HEAD, nothing said", "HEAD", HEAD + b"\r\n", b"", Framing.NONE),
    ("204", "GET", b"HTTP/1.1 204 No Content\r\n\r\n", b"", Framing.NONE),
    ("304 with a length", "GET", b"HTTP/1.1 304 Same\r\nContent-Length: 9\r\n\r\n", b"", Framing.NONE),
    (
        "1xx before",
        "GET",
        HINTS + HEAD + b"Content-Length: 2\r\n\r\nhi",
        b"hi",
        Framing.LENGTH,
    ),
]
CASES = pytest.mark.parametrize(
    ("method", "data", "body", "framing"), [r[1:] for r in BOUNDED], ids=[r[0] for r in BOUNDED]
)
HOW = pytest.mark.parametrize("how", ["whole", "byte by byte"])


@CASES
@HOW
def test_ends_where_it_says(method, data, body, framing, how):
    reading = Reading(method).feed(*pieces(data, how))
    exchange = reading.exchange
    assert reading.body == body
    assert exchange.framing is framing
    assert exchange.complete
    assert exchange.reusable
    assert not exchange.has_surplus
    assert exchange.left == 0


@CASES
def test_bytes_behind_the_end(method, data, body, framing):
    """They belong to no answer, and the connection is not used again."""
    reading = Reading(method).feed(data + b"HTTP/1.1 200 Smuggled\r\n\r\n")
    assert reading.body == body
    assert reading.exchange.complete
    assert reading.exchange.has_surplus
    assert not reading.exchange.reusable


@CASES
def test_not_one_byte_early(method, data, body, framing):
    reading = Reading(method).feed(*pieces(data[:-1], "byte by byte"))
    assert not reading.exchange.complete
    assert not reading.exchange.reusable


@HOW
def test_until_close(how):
    reading = Reading().feed(*pieces(HEAD + b"\r\nhello", how))
    assert reading.exchange.framing is Framing.UNTIL_CLOSE
    assert not reading.exchange.complete
    assert not reading.exchange.may_be_reusable
    reading.end()
    assert reading.body == b"hello"
    assert reading.exchange.complete
    assert not reading.exchange.reusable


def test_trailers():
    reading = Reading().feed(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-T: v\r\n\r\n")
    assert reading.exchange.trailers == [(b"X-T", b"v")]
    assert reading.exchange.reusable


@pytest.mark.parametrize(
    ("framing", "sent", "text"),
    [
        (b"Content-Length: 9", b"abc", "after 3 of 9 body bytes"),
        (b"Transfer-Encoding: chunked", b"3\r\nabc\r\n", "inside a chunked body, after 3 bytes"),
    ],
)
def test_the_end_inside_a_body(framing, sent, text):
    reading = Reading().feed(HEAD + framing + b"\r\n\r\n" + sent)
    with pytest.raises(IncompleteBody, match=text) as caught:
        reading.end()
    assert caught.value.bytes_read == 3
    assert not reading.exchange.reusable


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (b"Content-Length: 3\r\nTransfer-Encoding: chunked", "both Content-Length and Transfer-Encoding"),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 3", "both Content-Length and Transfer-Encoding"),
        (b"Content-Length: 3\r\nContent-Length: 4", "."),
        (b"Content-Length: 3, 4", "."),
        (b"Content-Length: +3", "."),
        (b"Content-Length: -3", "."),
        (b"Content-Length: 0x3", "."),
        (b"Content-Length: ", "."),
        (b"Transfer-Encoding: identity", "."),
        (b"Transfer-Encoding: chunked, gzip", "."),
    ],
)
def test_an_end_that_cannot_be_trusted(fields, text):
    # contract 8.2
    reading = Reading()
    with pytest.raises(RemoteProtocolError, match=text):
        reading.feed(HEAD + fields + b"\r\n\r\nabc")
    assert not reading.exchange.reusable


class TestReuse:
    @pytest.mark.parametrize(
        ("version", "fields", "expected"),
        [
            (b"1.1", b"", True),
            (b"1.1", b"Connection: keep-alive\r\n", True),
            (b"1.1", b"Connection: close\r\n", False),
            (b"1.1", b"Connection: CLOSE\r\n", False),
            (b"1.1", b"Connection: foo, close\r\n", False),
            (b"1.1", b"Connection: foo\r\nConnection: close\r\n", False),
            (b"1.1", b"Connection: closed\r\n", True),
            (b"1.0", b"", False),
            (b"1.0", b"Connection: keep-alive\r\n", True),
            (b"1.0", b"Connection: Keep-Alive, x\r\n", True),
            (b"1.0", b"Connection: keep-alive, close\r\n", False),
        ],
    )
    def test_what_the_server_says(self, version, fields, expected):
        reading = Reading().feed(b"HTTP/" + version + b" 200 OK\r\nContent-Length: 2\r\n" + fields + b"\r\nhi")
        assert reading.body == b"hi"
        assert reading.exchange.reusable is expected
        assert reading.exchange.wants_close is not expected

    def test_we_said_close(self):
        assert not Reading(close_sent=True).feed(HEAD + b"Content-Length: 0\r\n\r\n").exchange.reusable

    def test_the_request_is_not_sent_whole(self):
        reading = Reading(request_sent=False).feed(HEAD + b"Content-Length: 0\r\n\r\n")
        assert reading.exchange.complete
        assert not reading.exchange.reusable

    def test_not_in_the_middle(self):
        reading = Reading().feed(HEAD + b"Content-Length: 3\r\n\r\na")
        assert reading.exchange.may_be_reusable
        assert reading.exchange.left == 2
        assert not reading.exchange.reusable

    def test_an_upgrade_ends_http(self):
        exchange = Exchange(Codec(LIMIT), "GET", LIMIT)
        exchange.request_sent = True
        exchange.feed(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
        try:
            head = exchange.next_head()
        except RemoteProtocolError:
            head = None  # nobody asked for one
        assert head is None or not exchange.reusable
        assert not exchange.reusable


class TestLimit:
    @HOW
    def test_one_header(self, how):
        data = HEAD + b"X: " + b"a" * 2_000 + b"\r\nContent-Length: 0\r\n\r\n"
        assert Reading(limit=len(data)).feed(*pieces(data, how)).exchange.complete
        with pytest.raises(RemoteProtocolError, match=rf"exceeded {len(data) - 1} bytes \(max_response_header_bytes"):
            Reading(limit=len(data) - 1).feed(*pieces(data, how))

    @HOW
    def test_all_informational_ones_together(self, how):
        one = b"HTTP/1.1 103 E\r\nX: " + b"a" * 500 + b"\r\n\r\n"
        reading = Reading(limit=2_000)
        with pytest.raises(RemoteProtocolError, match="exceeded 2000 bytes"):
            reading.feed(*pieces(one * 5, how))
        assert len(reading.heads) <= 3

    def test_the_body_does_not_count(self):
        data = HEAD + b"Content-Length: 9000\r\n\r\n"
        assert Reading(limit=100).feed(data + b"x" * 9_000).exchange.reusable

    def test_a_header_without_end(self):
        reading = Reading(limit=1_000)
        with pytest.raises(RemoteProtocolError, match="exceeded 1000 bytes"):
            for _ in range(100):
                reading.feed(b"a" * 100 if reading.exchange.started else HEAD + b"X: ")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"timeout=5, max=100", (5.0, 100)),
        (b"timeout=5", (5.0, None)),
        (b"MAX = 7", (None, 7)),
        (b'timeout="3"', (3.0, None)),
        (b"timeout=-1, max=x", (None, None)),
        (b"timeout=99999999999", (None, None)),
        (b"", (None, None)),
        (b"=,;=", (None, None)),
    ],
)
def test_keep_alive_hint(value, expected):
    assert parse_keep_alive(value) == expected
