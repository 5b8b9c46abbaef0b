"""Installing `speed` makes no accepted answer different, and refuses only what is listed (contract 8.2)."""

from __future__ import annotations

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pooltransport.core.http1 import plain_head
from pooltransport.core.http1.h11_codec import H11Codec
from pooltransport.core.http1.httptools_codec import HttptoolsCodec
from tests.support.codecs import CODEC_NAMES, CODECS, REFUSED, read

from .odd_messages import ALIKE, CHUNKED, OK, STRICTER

METHODS = ["GET", "HEAD", "CONNECT"]


def in_pieces(message, size):
    return [message[at : at + size] for at in range(0, len(message), size)]


@pytest.mark.parametrize("codec_type", CODECS[1:], ids=CODEC_NAMES[1:])
@pytest.mark.parametrize("method", METHODS)
def test_all_read_them_alike(method, codec_type):
    different = []
    for message in ALIKE:
        expected = read(H11Codec, [message], method)
        if read(codec_type, [message], method) != expected:
            different.append(message)
        for size in (1, 2, 7):
            if len(message) < 2000 and read(codec_type, in_pieces(message, size), method) != expected:
                different.append((size, message))
    assert different == []


def plain_sections(messages):
    """The header sections among `messages` that are read by neither parser, and what is read in them."""
    for message in messages:
        end = plain_head.SECTION_END.search(message)
        plain = None if end is None else plain_head.read(message[: end.end()])
        if plain is not None and not plain.coded:
            yield message[: end.end()], plain.head


def test_llhttp_reads_what_is_plain_alike():
    """And h11 does, by the tests beside this one."""
    sections = list(plain_sections(ALIKE))
    assert len(sections) > 40
    assert [section for section, head in sections if by_llhttp(section) != (head.status, head.headers)] == []


def by_llhttp(section):
    fields = []

    class Sink:
        def on_header(self, name, value):
            fields.append((name, value))

    parser = httptools.HttpResponseParser(Sink())
    parser.feed_data(section)
    return parser.get_status_code(), fields


def test_the_table_is_not_blind():
    accepted = sum(read(H11Codec, [message]) != REFUSED for message in ALIKE)
    assert accepted > 150
    assert len(ALIKE) - accepted > 150


@pytest.mark.parametrize("what", STRICTER)
def test_httptools_refuses_what_h11_accepts(what):
    for message in STRICTER[what]:
        assert read(H11Codec, [message]) != REFUSED, message
        assert read(HttptoolsCodec, [message]) == REFUSED, message
        assert read(HttptoolsCodec, in_pieces(message, 1)) == REFUSED, message


SHARP = st.sampled_from([bytes((code,)) for code in b'\r\n \t:;,="0123aAfFxX-+_\x00\x01\x0b\x7f\x80\xff'])
BITS = st.one_of(
    SHARP,
    st.sampled_from(
        [
            b"\r\n",
            b"\n",
            b"\r\n\r\n",
            b"\r\n ",
            b"0\r\n\r\n",
            b"00000000000000000000",
            b"1 ;x",
            b"chunked",
            b"\r\n0",
            b"\r\n0\r\n",
        ]
    ),
    st.sampled_from([b"Content-Length: 2\r\n", b"Transfer-Encoding: chunked\r\n", b"HTTP/1.1 100 C\r\n\r\n"]),
)
BASES = [
    OK + b"Server: x\r\nContent-Length: 2\r\n\r\nhi",
    b"HTTP/1.1 103 Early\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y\r\n\r\nhi",
    CHUNKED + b"2\r\nhi\r\n5;x=1\r\nthere\r\n0\r\n\r\nHTTP/1.1",
    CHUNKED + b"3\r\n\r\n0\r\n2;x\r\nhi\r\n5\r\n\r\n0\r\n\r\n00\r\n\r\n0\r\n\r\n",
    CHUNKED + b"8\r\n\r\n1 ;x\r\n\r\n00a\r\n0123456789\r\n0\r\nX: y\r\nZ: a b\r\n\r\n",
    b"HTTP/1.0 304 Not Modified\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n",
]


@st.composite
def nearly_good(draw):
    message = draw(st.sampled_from(BASES))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(message)))
        gone = draw(st.integers(0, 2))
        message = message[:at] + draw(BITS) + message[at + gone :]
    return message


@given(nearly_good(), st.sampled_from(METHODS))
def test_what_is_plain_is_to_h11_and_to_llhttp(message, method):
    assert read(CODECS[1], [message], method) == read(H11Codec, [message], method)
    for section, head in plain_sections([message]):
        assert by_llhttp(section) == (head.status, head.headers)


@given(nearly_good(), st.sampled_from(METHODS))
@example(CHUNKED + b"2\r\nhi\r\n" + b"0" * 21 + b"\r\n\r\n", "GET")
@example(OK + b"X: a\r\n\t b\r\nContent-Length: 1, 1\r\n\r\nx", "GET")
def test_what_both_accept_is_the_same_and_nothing_else_is_accepted(message, method):
    found = read(HttptoolsCodec, [message], method)
    assert found in (REFUSED, read(H11Codec, [message], method))


@given(nearly_good(), st.lists(st.integers(1, 12), min_size=1, max_size=8))
def test_it_does_not_matter_how_the_bytes_come(message, sizes):
    pieces, at = [], 0
    while at < len(message):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(message[at : at + size])
        at += size
    assert read(HttptoolsCodec, pieces) == read(HttptoolsCodec, [message])
