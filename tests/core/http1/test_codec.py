"""The contract of `Http1Codec`, and what goes out: `request`. Every codec must pass the first half."""

from __future__ import annotations

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pooltransport import InvalidRequest, Request
from pooltransport.core.http1 import request as wire
from pooltransport.errors import RemoteProtocolError
from tests.support.codecs import CODEC_NAMES, CODECS, each_codec


@pytest.fixture(params=CODECS, ids=CODEC_NAMES)
def codec(request):
    return request.param(262_144)


def split(data, how):
    return [data] if how == "whole" else [data[i : i + 1] for i in range(len(data))]


def read_head(codec, data, how="whole"):
    """Feed `data`; return the first head that comes, and how much was fed by then."""
    fed = 0
    for piece in split(data, how):
        codec.feed(piece)
        fed += len(piece)
        head = codec.next_head()
        if head is not None:
            return head, fed
    return None, fed


@pytest.mark.parametrize("how", ["whole", "byte by byte"])
class TestReading:
    def test_head(self, codec, how):
        codec.begin("GET")
        head, _ = read_head(codec, b"HTTP/1.1 404 Not Here\r\nX-A: 1\r\nx-a:  2 \r\n\r\n", how)
        assert head == (404, "Not Here", "1.1", [(b"X-A", b"1"), (b"x-a", b"2")])

    def test_rest_is_given_back_as_it_came(self, codec, how):
        codec.begin("GET")
        codec.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcSURPLUS")
        assert codec.next_head().status == 200
        assert codec.unused() == 10
        assert codec.take_rest() == b"abcSURPLUS"

    def test_an_informational_head_first(self, codec, how):
        codec.begin("GET")
        head, _ = read_head(codec, b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n", how)
        assert head.status == 103
        head, _ = read_head(codec, b"HTTP/1.1 204 No\r\n\r\n", how)
        assert head.status == 204

    def test_chunks_and_trailers(self, codec, how):
        codec.begin("GET")
        head, _ = read_head(codec, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", how)
        assert head.status == 200
        got = b""
        for piece in split(b"3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nX-T: v\r\n\r\n", how):
            codec.feed(piece)
            while chunk := codec.next_chunk():
                got += chunk
        assert chunk == b""
        assert got == b"abcde"
        assert codec.trailers() == [(b"X-T", b"v")]

    def test_a_codec_is_used_again(self, codec, how):
        for number in (1, 2):
            codec.begin("GET")
            head, _ = read_head(codec, b"HTTP/1.1 200 N%d\r\nContent-Length: 0\r\n\r\n" % number, how)
            assert head.reason == f"N{number}"
            assert codec.take_rest() == b""
            assert codec.trailers() == []


class TestLife:
    """What is asked in the wrong order is told so; the exchange never does."""

    def test_a_header_is_asked_for_once(self, codec):
        codec.begin("GET")
        codec.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        codec.next_head()
        with pytest.raises(RemoteProtocolError, match="expected a response header"):
            codec.next_head()

    def test_there_are_no_chunks_behind_the_end(self, codec):
        codec.begin("GET")
        codec.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n")
        codec.next_head()
        assert codec.next_chunk() == b""
        assert codec.unused() == 19
        with pytest.raises(RemoteProtocolError, match="expected a chunk"):
            codec.next_chunk()

    @pytest.mark.parametrize("question", ["unused", "take_rest", "next_head", "next_chunk"])
    def test_forgotten_it_has_no_answer(self, codec, question):
        codec.begin("GET")
        codec.feed(b"HTTP/1.1 204 No\r\n\r\n")
        codec.next_head()
        codec.take_rest()
        with pytest.raises(AssertionError, match="told to forget"):
            codec.feed(b"x")
        with pytest.raises(AssertionError, match="told to forget"):
            getattr(codec, question)()

    def test_methods_without_number(self, codec):
        """What is prepared for each method is kept for 64 of them."""
        for number in [*range(80), *range(80)]:
            codec.begin(f"METHOD{number}")
            codec.feed(b"HTTP/1.1 204 No\r\n\r\n")
            assert codec.next_head().status == 204

    def test_a_header_without_end_is_given_up(self):
        for kind in CODECS:
            codec = kind(1000)
            codec.begin("GET")
            codec.feed(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 500_000)
            assert codec.next_head() is None
            codec.feed(b"x" * 30_000)
            with pytest.raises(RemoteProtocolError, match=r"not valid HTTP/1\.1: ."):
                codec.next_head()

    def test_what_came_before_an_error_is_good(self, codec):
        codec.begin("GET")
        codec.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n3\r\nyou\r\nzz\r\n")
        codec.next_head()
        assert [codec.next_chunk(), codec.next_chunk()] == [b"hi", b"you"]
        with pytest.raises(RemoteProtocolError, match=r"not valid HTTP/1\.1: ."):
            codec.next_chunk()

    def test_it_is_no_part_of_a_cycle(self, codec):
        """A connection that is dropped takes its parser with it at once."""
        codec.begin("GET")
        codec.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe")
        codec.next_head()
        codec.next_chunk()
        assert not any(row is codec for part in gc.get_referents(codec) for row in gc.get_referents(part))

    def test_refusing_leaves_no_cycle(self, codec):
        gc.collect()
        before = [row for row in gc.get_objects() if isinstance(row, RemoteProtocolError)]  # those of other tests
        codec.begin("GET")
        codec.feed(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n")
        with pytest.raises(RemoteProtocolError):
            codec.next_head()
        del codec
        after = [row for row in gc.get_objects() if isinstance(row, RemoteProtocolError)]
        assert [row for row in after if not any(row is other for other in before)] == []


NONSENSE = [
    b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    b"HTTP/1.1 2x0 OK\r\n\r\n",
    b"HTTP/1.1 20 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nBad Name: x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"\x16\x03\x01\x02\x00\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n",
]


@pytest.mark.parametrize("data", NONSENSE)
def test_nonsense(codec, data):
    codec.begin("GET")
    with pytest.raises(RemoteProtocolError, match="not valid HTTP/1.1: ."):
        read_head(codec, data)


@pytest.mark.parametrize("data", [b"zz\r\nabc\r\n", b"-1\r\na\r\n", b"3\r\nabcd\r\n", b"0\r\nbad trailer\r\n\r\n"])
def test_nonsense_chunks(codec, data):
    codec.begin("GET")
    codec.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    codec.next_head()
    codec.feed(data)
    with pytest.raises(RemoteProtocolError):
        while codec.next_chunk() is not None:
            continue


@each_codec
@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_head_an_error_or_not_enough(codec_type, data):
    codec = codec_type(262_144)
    codec.begin("GET")
    try:
        head, _ = read_head(codec, b"HTTP/1.1 " + data + b"\r\n\r\n", "byte by byte")
    except RemoteProtocolError:
        return
    assert head is None or 100 <= head.status <= 999


# -- requests -----------------------------------------------------------------------------------


def written(request, *, close=False):
    return wire.head(request, close=close)


class TestRequests:
    def test_order_and_case(self):
        request = Request("GET", "http://a.test:8080/p?q=1", headers=[("X-b", "2"), ("X-A", "1")])
        assert written(request) == b"GET /p?q=1 HTTP/1.1\r\nHost: a.test:8080\r\nX-b: 2\r\nX-A: 1\r\n\r\n"

    def test_default_port_is_left_out(self):
        assert b"\r\nHost: a.test\r\n" in written(Request("GET", "https://a.test:443/"))

    def test_host_override(self):
        head = written(Request("GET", "http://a.test/", headers={"host": "b.test"}))
        assert head.count(b"ost: ") == 1
        assert b"Host: b.test\r\n" in head

    @pytest.mark.parametrize(
        ("method", "content", "framing"),
        [
            ("GET", None, None),
            ("DELETE", None, None),
            ("POST", None, b"Content-Length: 0"),
            ("PUT", None, b"Content-Length: 0"),
            ("PATCH", None, b"Content-Length: 0"),
            ("GET", b"", b"Content-Length: 0"),
            ("GET", b"abc", b"Content-Length: 3"),
            ("POST", [b"a"], b"Transfer-Encoding: chunked"),
        ],
    )
    def test_framing(self, method, content, framing):
        # Go WRITE-05
        lines = written(Request(method, "http://a.test/", content=content)).split(b"\r\n")
        found = [x for x in lines if x.lower().startswith((b"content-length", b"transfer-encoding"))]
        assert found == ([] if framing is None else [framing])

    def test_close(self):
        assert b"\r\nConnection: close\r\n" in written(Request("GET", "http://a.test/"), close=True)
        own = Request("GET", "http://a.test/", headers={"Connection": "close"})
        assert written(own, close=True).lower().count(b"close") == 1
        assert own.fields.close

    def test_expect(self):
        headers = {"Expect": "100-Continue"}
        assert wire.expects_continue(Request("POST", "http://a.test/", headers=headers, content=b"x"))
        assert not wire.expects_continue(Request("POST", "http://a.test/", headers=headers))

    def test_chunks_and_trailers(self):
        request = Request("POST", "http://a.test/", content=[b"x"], trailers={"X-T": "v"})
        assert b"\r\nTrailer: X-T\r\n" in written(request)
        assert wire.chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
        assert wire.last_chunk(request) == b"0\r\nX-T: v\r\n\r\n"
        assert wire.last_chunk(Request("POST", "http://a.test/", content=[b"x"])) == b"0\r\n\r\n"


ANY = st.text(st.characters(codec="latin-1"), max_size=12)
SHARP = st.text(st.sampled_from("\r\n\0 :aZ\t"), max_size=8)
TEXT = st.one_of(ANY, SHARP)


@given(method=TEXT, path=TEXT, name=TEXT, value=TEXT)
def test_nothing_can_be_injected(method, path, name, value):
    """CR, LF and NUL never reach the wire: what is accepted has the lines it ought to have, and no more."""
    for changes in ({"method": method}, {"path": path}, {"name": name}, {"value": value}):
        parts = {"method": "GET", "path": "", "name": "X-A", "value": "v"} | changes
        try:
            url = f"http://a.test/{parts['path']}"
            request = Request(parts["method"], url, headers=[(parts["name"], parts["value"])])
        except InvalidRequest:
            continue
        head = written(request)
        assert head.endswith(b"\r\n\r\n")
        lines = head[:-4].split(b"\r\n")
        assert len(lines) <= 4  # request line, Host, the field, a length
        assert lines[0].count(b" ") == 2
        for line in lines:
            assert not set(line) & set(b"\r\n\0")
