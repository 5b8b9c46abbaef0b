"""The exchange's own decisions, whatever the codec lets through: rules 1, 3 and 5 of `exchange.py`."""

from __future__ import annotations

import pytest

from pooltransport.core.http1.codec import Head
from pooltransport.core.http1.exchange import Exchange, Framing, parse_keep_alive
from pooltransport.errors import IncompleteBody, RemoteProtocolError


class LaxCodec:
    """Gives the head and the chunks of a test, and checks nothing."""

    name = "lax"

    def __init__(self, head=None, chunks=()):
        self.head = head
        self.chunks = list(chunks)
        self.rest = b""

    def begin(self, method):
        self.method = method

    def feed(self, data):
        self.fed = data

    def next_head(self):
        return self.head

    def unused(self):
        return 0

    def take_rest(self):
        return self.rest

    def next_chunk(self):
        chunk = self.chunks.pop(0) if self.chunks else None
        if isinstance(chunk, Exception):
            raise chunk
        return chunk

    def trailers(self):
        return [(b"X-T", b"v")]


def exchange_of(*fields, status=200, version="1.1", method="GET", chunks=()):
    exchange = Exchange(LaxCodec(Head(status, "", version, list(fields)), chunks), method, 10_000)
    exchange.request_sent = True
    exchange.feed(b"x")
    exchange.next_head()
    return exchange


@pytest.mark.parametrize(
    "value",
    [b"", b"+5", b"5x", b" 5", b"\xb25", b"5,6", b"5, 5, 6", b"5,", b"9223372036854775808", b"0" * 20],
)
def test_lengths_that_are_none(value):
    with pytest.raises(RemoteProtocolError, match="Content-Length"):
        exchange_of((b"Content-Length", value))


@pytest.mark.parametrize(
    "fields",
    [
        [(b"Content-Length", b"5")],
        [(b"Content-Length", b"5"), (b"content-length", b" 5")],
        [(b"CONTENT-LENGTH", b"5 , 5")],
    ],
)
def test_lengths_that_agree(fields):
    exchange = exchange_of(*fields)
    assert (exchange.framing, exchange.left) == (Framing.LENGTH, 5)


def test_the_longest():
    assert exchange_of((b"Content-Length", b"9223372036854775807")).left == 2**63 - 1


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_length_and_coding_together(version):
    with pytest.raises(RemoteProtocolError, match="both"):
        exchange_of((b"Content-Length", b"5"), (b"Transfer-Encoding", b"chunked"), version=version)


@pytest.mark.parametrize(
    ("version", "connection", "kept"),
    [
        ("0.9", b"keep-alive", False),
        ("1.0", b"", False),
        ("1.0", b"keep-alive", True),
        ("1.0", b"keep-alive, close", False),
        ("1.1", b"", True),
        ("1.1", b"x,CLOSE", False),
        ("2.0", b"", True),
    ],
)
def test_who_keeps_a_connection(version, connection, kept):
    exchange = exchange_of((b"Connection", connection), (b"Content-Length", b"0"), version=version)
    assert (exchange.reusable, exchange.wants_close) == (kept, not kept)


def test_http_1_0_with_a_coding_is_never_kept():
    exchange = exchange_of((b"Connection", b"keep-alive"), (b"Transfer-Encoding", b"chunked"), version="1.0")
    assert (exchange.framing, exchange.wants_close) == (Framing.UNTIL_CLOSE, True)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (b"timeout=5, max=100", (5.0, 100)),
        (b'TIMEOUT="5"', (5.0, None)),
        (b"max = 3", (None, 3)),
        (b"other=5, timeout", (None, None)),
        (b"timeout=-1, max=1e3, timeout=9999999999", (None, None)),
    ],
)
def test_keep_alive_hints(value, hint):
    assert parse_keep_alive(value) == hint
    exchange = exchange_of((b"Keep-Alive", value), (b"Content-Length", b"0"))
    assert (exchange.hint_timeout, exchange.hint_max) == hint


class TestUpgrades:
    UPGRADE = ((b"Upgrade", b"x"), (b"Connection", b"keep-alive"), (b"connection", b"Upgrade"))

    def test_101(self):
        exchange = exchange_of(*self.UPGRADE, status=101)
        assert (exchange.upgraded, exchange.complete, exchange.reusable) == (True, True, False)

    @pytest.mark.parametrize("fields", [(), UPGRADE[:1], UPGRADE[1:]])
    def test_101_that_does_not_say_to_what(self, fields):
        assert not exchange_of(*fields, status=101).upgraded

    def test_first_bytes_of_the_other_protocol(self):
        codec = LaxCodec(Head(200, "", "1.1", [(b"Content-Length", b"9")]))
        codec.rest = b"hello"
        exchange = Exchange(codec, "CONNECT", 10_000)
        exchange.feed(b"x")
        exchange.next_head()
        assert exchange.upgraded
        assert (exchange.take_rest(), exchange.take_rest()) == (b"hello", b"")

    def test_connect_refused(self):
        exchange = exchange_of((b"Content-Length", b"0"), status=405, method="CONNECT")
        assert (exchange.upgraded, exchange.complete, exchange.reusable) == (False, True, False)


CHUNKED = (b"Transfer-Encoding", b"chunked")


class TestChunks:
    def test_the_end_is_known_with_the_last_chunk(self):
        exchange = exchange_of(CHUNKED, chunks=[b"abc", b"def", b""])
        assert (exchange.next_data(), exchange.complete) == (b"abc", False)
        assert exchange.may_be_reusable
        assert (exchange.next_data(), exchange.complete) == (b"def", True)
        assert exchange.trailers == [(b"X-T", b"v")]
        assert exchange.reusable
        assert not exchange.may_be_reusable  # there is no rest
        assert exchange.next_data() == b""

    def test_more_is_needed(self):
        exchange = exchange_of(CHUNKED, chunks=[b"abc", None, b"def", None, b""])
        assert [exchange.next_data() for _ in range(4)] == [b"abc", b"def", b"", b""]

    def test_bytes_before_an_error_are_good(self):
        """They are given; the error comes when more is asked for."""
        exchange = exchange_of(CHUNKED, chunks=[b"abc", RemoteProtocolError("nonsense")])
        assert exchange.next_data() == b"abc"
        with pytest.raises(RemoteProtocolError, match="nonsense"):
            exchange.next_data()
        assert not exchange.complete

    def test_talk_is_measured_when_all_is_seen(self):
        exchange = exchange_of(CHUNKED, chunks=[b"x" * 100, None])
        exchange.feed(b"e" * 16_384 + b"x" * 300 + b"1" * 16)
        assert exchange.next_data() == b"x" * 100
        exchange.feed(b"e")
        with pytest.raises(RemoteProtocolError, match="more than 16384 bytes that are not data"):
            exchange.next_data()

    def test_an_end_that_came_makes_it_no_matter(self):
        """The section of the end counts while it is on its way; once it is there it was read."""
        exchange = exchange_of(CHUNKED, chunks=[b""])
        exchange.feed(b"e" * 20_000)
        assert exchange.next_data() == b""
        assert exchange.complete


@pytest.mark.parametrize("cut_off", [False, True])
def test_the_end_of_a_body_until_close(cut_off):
    """TLS that ended without a word may have been cut off (RFC 9112 section 9.8)."""
    exchange = exchange_of()
    if cut_off:
        with pytest.raises(IncompleteBody, match="cut off") as caught:
            exchange.end_of_stream(7, cut_off=True)
        assert caught.value.bytes_read == 7
    else:
        exchange.end_of_stream(7)
    assert exchange.complete is not cut_off
