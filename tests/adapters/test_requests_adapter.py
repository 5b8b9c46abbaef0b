"""What goes out and what comes back through `HTTPAdapter`: requests' users find what they know."""

from __future__ import annotations

import gzip
import io
import threading
import zlib

import brotli
import pytest
import requests
from urllib3.exceptions import DecodeError

import pooltransport as pt
from tests.support.requests_kit import session_over
from tests.support.responders import Responder, chunked, echo, head, in_turn, ok, raw, routes, stall, until_close

BIG = b"0123456789" * 20_000


def deflated(data: bytes, wbits: int) -> bytes:
    packer = zlib.compressobj(wbits=wbits)
    return packer.compress(data) + packer.flush()


class TestAnswers:
    def test_is_a_real_response_and_the_connection_is_kept(self, server_factory):
        server = server_factory(ok(b'{"a": 1}', ("Content-Type", "application/json; charset=utf-8"), ("X-Two", "1")))
        with session_over() as session:
            for _ in range(3):
                response = session.get(server.url + "/path?q=1")
                assert type(response) is requests.Response
                assert (response.status_code, response.reason, response.json()) == (200, "OK", {"a": 1})
                assert (response.encoding, response.url) == ("utf-8", server.url + "/path?q=1")
                assert response.headers["x-two"] == "1"
                assert response.connection is session.adapter
                assert response.elapsed.total_seconds() > 0
                assert response.raw.isclosed()
                assert response.raw.closed
            stats = session.adapter.transport.stats()
            assert (stats.idle, stats.active, stats.dials) == (1, 0, 1)
        assert server.accepted == 1
        assert [request.target for request in server.log] == ["/path?q=1"] * 3
        server.wait_for_open(0)  # the adapter's own transport went with the session

    def test_nothing_is_added_to_what_requests_sends(self, server_factory):
        server = server_factory(ok())
        with session_over() as session:
            session.headers = {"X-Only": "this"}
            session.get(server.url)
            session.get(server.url, headers={"Host": "other.example", "Accept-Encoding": "x"})
        first, second = server.log
        assert [name for name, _ in first.headers] == ["host", "x-only"]
        assert second.header("host") == "other.example"
        assert second.header("accept-encoding") == "x"

    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "DELETE", "PATCH", "PUT", "PROPFIND"])
    def test_methods(self, method, server_factory):
        server = server_factory(ok(b"body"))
        with session_over() as session:
            response = session.request(method, server.url)
            assert response.content == (b"" if method == "HEAD" else b"body")
            assert session.adapter.transport.stats().idle == 1
        assert server.log[0].method == method

    @pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
    def test_answers_without_a_body(self, status, server_factory):
        server = server_factory(raw(head(status)))
        with session_over() as session:
            response = session.get(server.url, stream=True)
            assert response.raw.isclosed()
            assert (response.content, session.adapter.transport.stats().idle) == (b"", 1)

    def test_cookies_of_several_fields_and_redirects_are_requests_own(self, server_factory):
        found = raw(
            head("302 Found", ("Location", "/there"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2; Path=/"), length=4)
            + b"gone"
        )
        server = server_factory(routes({"/": found, "/there": ok(b"here", ("Set-Cookie", "c=3"))}))
        with session_over() as session:
            response = session.get(server.url + "/")
            assert response.content == b"here"
            assert [(old.status_code, old.content) for old in response.history] == [(302, b"gone")]
            assert session.cookies.get_dict() == {"a": "1", "b": "2", "c": "3"}
            assert dict(response.history[0].cookies) == {"a": "1", "b": "2"}
            assert response.history[0].raw.headers.getlist("set-cookie") == ["a=1", "b=2; Path=/"]
        assert server.log[1].header("cookie") == "a=1; b=2"
        assert server.accepted == 1

    def test_raw_is_urllib3s_as_far_as_its_users_know_it(self, server_factory):
        server = server_factory(in_turn(ok(b"0123456789", ("X-A", "1"), ("X-A", "2")), until_close(b"old")))
        with session_over() as session, session.get(server.url, stream=True) as response:
            body = response.raw
            assert (body.status, body.reason, body.version, body.version_string) == (200, "OK", 11, "HTTP/1.1")
            assert body.headers.getlist("x-a") == ["1", "2"]
            assert body.headers["X-A"] == "1, 2"
            assert not body.isclosed()
            assert body.read(3) == b"012"
            assert (body.tell(), body.length_remaining) == (3, 7)
            assert body.readinto(buffer := bytearray(2)) == 2
            assert bytes(buffer) == b"34"
            assert body.read(0) == b""
            assert io.BufferedReader(body, 4).read() == b"56789"
            assert (body.read(), body.read(5)) == (b"", b"")
            assert body.isclosed()
            assert isinstance(body.inner, pt.Response)
            assert not body.inner.conn.reused
            assert session.get(server.url, stream=True).raw.data == b"old"


class TestCodings:
    @pytest.mark.parametrize(
        ("coding", "coded"),
        [
            ("gzip", gzip.compress(BIG)),
            ("x-gzip", gzip.compress(BIG)),
            ("gzip", gzip.compress(BIG[:150]) + gzip.compress(BIG[150:])),
            ("gzip", gzip.compress(BIG) + b"garbage that urllib3 passes over"),
            ("deflate", deflated(BIG, 15)),
            ("deflate", deflated(BIG, -15)),
            ("br", brotli.compress(BIG)),
            ("deflate, gzip", gzip.compress(deflated(BIG, 15))),
        ],
        ids=["gzip", "x-gzip", "members", "garbage", "deflate", "bare deflate", "br", "two"],  # gzip has the time in it
    )
    @pytest.mark.parametrize("way", ["content", "iter", "raw"])
    def test_is_decoded_once(self, coding, coded, way, server_factory):
        server = server_factory(ok(coded, ("Content-Encoding", coding)))
        with session_over() as session, session.get(server.url, stream=True) as response:
            if way == "content":
                assert response.content == BIG
            elif way == "iter":
                assert b"".join(response.iter_content(100)) == BIG
            else:
                assert response.raw.read(decode_content=True) == BIG
            assert response.headers["content-encoding"] == coding
            assert response.headers["content-length"] == str(len(coded))
            assert session.adapter.transport.stats().idle == 1

    def test_raw_bytes_are_the_wires(self, server_factory):
        coded = gzip.compress(BIG)
        server = server_factory(ok(coded, ("Content-Encoding", "gzip")))
        with session_over() as session, session.get(server.url, stream=True) as response:
            assert response.raw.read() == coded

    def test_an_unknown_coding_is_left_as_it_is(self, server_factory):
        server = server_factory(ok(b"as it is", ("Content-Encoding", "unheard-of")))
        with session_over() as session:
            assert session.get(server.url).content == b"as it is"

    def test_broken(self, server_factory):
        server = server_factory(ok(b"not gzip at all", ("Content-Encoding", "gzip")))
        with session_over() as session:
            with pytest.raises(requests.exceptions.ContentDecodingError):
                session.get(server.url)
            assert session.adapter.transport.stats().active == 0

    @pytest.mark.parametrize("coding", ["gzip", "br", "deflate"])
    def test_a_bomb_stops_at_the_bound(self, coding, server_factory):
        size = 4_000_000
        bomb = {"gzip": gzip.compress, "br": brotli.compress, "deflate": zlib.compress}[coding](bytes(size))
        server = server_factory(ok(bomb, ("Content-Encoding", coding)))
        with session_over(max_decoded_bytes=1_000_000) as session:
            with pytest.raises(requests.exceptions.ContentDecodingError, match="max_decoded_bytes: 1000000"):
                session.get(server.url)
            with session.get(server.url, stream=True) as response, pytest.raises(DecodeError):
                response.raw.read(decode_content=True)
            assert session.adapter.transport.stats().active == 0

    def test_the_bound_of_reading_everything_is_not_one_of_streams(self, server_factory):
        server = server_factory(ok(b"x" * 1000))
        with session_over(max_body_bytes=999) as session:
            with pytest.raises(requests.exceptions.ChunkedEncodingError, match=r"max_body_bytes"):
                session.get(server.url)
            with session.get(server.url, stream=True) as response:
                assert len(response.content) == 1000


class TestStreams:
    def test_a_piece_is_given_as_soon_as_it_has_come(self, server_factory):
        event = threading.Event()

        @Responder
        def feed(conn, request):
            conn.send(head("200 OK", ("Transfer-Encoding", "chunked")) + b"4\r\none\n\r\n")
            conn.wait_for(event)
            conn.send(b"4\r\ntwo\n\r\n0\r\n\r\n")

        server = server_factory(feed)
        with session_over() as session, session.get(server.url, stream=True) as response:
            lines = response.iter_lines()
            assert next(lines) == b"one"
            event.set()
            assert list(lines) == [b"two"]
            assert session.adapter.transport.stats().idle == 1

    def test_a_body_of_known_length_is_not_waited_for_either(self, server_factory):
        event = threading.Event()
        server = server_factory(stall(event, b"hello", sent=2))
        with session_over() as session, session.get(server.url, stream=True) as response:
            pieces = response.iter_content(100)
            assert next(pieces) == b"he"
            event.set()
            assert list(pieces) == [b"llo"]

    @pytest.mark.parametrize("size", [1, 3, 4096, None])
    def test_pieces_are_of_that_size_at_most(self, size, server_factory):
        server = server_factory(chunked(b"abcdef", b"gh", b"i" * 5000))
        with session_over() as session, session.get(server.url, stream=True) as response:
            pieces = list(response.iter_content(size))
            assert b"".join(pieces) == b"abcdefgh" + b"i" * 5000
            assert all(pieces)
            if size is not None:
                assert max(map(len, pieces)) <= size

    @pytest.mark.parametrize("how", ["with", "close", "release_conn", "drain_conn"])
    def test_left_early_the_connection_comes_back(self, how, server_factory):
        server = server_factory(ok(BIG))
        with session_over(max_conns_per_host=1, drain_timeout=1.0) as session:
            for _ in range(3):
                response = session.get(server.url, stream=True)
                assert response.raw.read(10) == BIG[:10]
                if how == "with":
                    with response:
                        pass
                elif how == "close":
                    response.close()
                else:
                    getattr(response.raw, how)()
                assert response.raw.isclosed()
                stats = session.adapter.transport.stats()
                assert (stats.idle, stats.active, stats.leaks) == (1, 0, 0)
        assert server.accepted == 1

    def test_a_stream_outlives_the_session_that_requests_get_makes(self, server_factory):
        event = threading.Event()
        server = server_factory(stall(event))
        with session_over(max_conns_per_host=1) as session:
            response = session.get(server.url, stream=True)
        event.set()
        assert response.content == b"hello"
        del session
        server.wait_for_open(0)

    def test_a_session_may_be_used_again_after_it_was_closed(self, server_factory):
        server = server_factory(ok())
        with session_over(name="mine") as session:
            first = session.adapter.transport
            for _ in range(2):
                assert session.get(server.url).content == b"hello"
                session.close()
            assert session.adapter.transport is not first
            assert session.adapter.transport.options.name == "mine"


class TestBodies:
    @pytest.mark.parametrize(
        ("data", "sent"),
        [
            (b"bytes", b"bytes"),
            ("t\u00e9xt", "t\u00e9xt".encode()),
            ({"a": "b c"}, b"a=b+c"),
            (io.BytesIO(b"file"), b"file"),
            (io.StringIO("text file"), b"text file"),
        ],
    )
    def test_of_known_length(self, data, sent, server_factory):
        server = server_factory(echo)
        with session_over() as session:
            assert session.post(server.url, data=data).content == sent
        assert server.log[0].header("content-length") == str(len(sent))
        assert server.log[0].header("transfer-encoding") is None

    @pytest.mark.parametrize("kind", ["generator", "iterable"])
    def test_of_unknown_length_go_out_in_chunks(self, kind, server_factory):
        class Pieces:
            def __iter__(self):
                return iter([b"a", "\u00e9", b"", b"c"])

        server = server_factory(echo)
        with session_over() as session:
            body = iter(Pieces()) if kind == "generator" else Pieces()
            assert session.post(server.url, data=body).content == "a\u00e9c".encode()
        assert server.log[0].header("transfer-encoding") == "chunked"
        assert server.log[0].header("content-length") is None

    def test_a_generator_is_closed_and_its_error_is_the_callers(self, server_factory):
        closed = []

        def body():
            try:
                yield b"a"
                raise LookupError("mine")
            finally:
                closed.append(True)

        server = server_factory(echo)
        with session_over() as session:
            with pytest.raises(LookupError, match="mine"):
                session.post(server.url, data=body())
            assert session.adapter.transport.stats().active == 0
        assert closed == [True]

    def test_a_generator_that_is_never_sent_is_closed(self):
        closed = []

        def body():
            try:
                yield b"a"
            finally:
                closed.append(True)

        chunks = body()
        next(chunks)
        with session_over() as session, pytest.raises(requests.ConnectionError):
            session.post("http://127.0.0.1:1", data=chunks)
        assert closed == [True]

    def test_files(self, server_factory, tmp_path):
        path = tmp_path / "file.bin"
        path.write_bytes(BIG)
        server = server_factory(echo)
        with session_over() as session:
            with path.open("rb") as file:
                file.seek(5)
                assert session.put(server.url, data=file).content == BIG[5:]
            with path.open("rb") as file:
                body = session.post(server.url, files={"f": ("name.bin", file)}, data={"x": "y"}).content
        assert b'filename="name.bin"' in body
        assert BIG in body
        assert server.log[1].header("content-type").startswith("multipart/form-data; boundary=")

    def test_a_body_is_sent_again_by_a_redirect(self, server_factory):
        server = server_factory(
            routes({"/": raw(head("307 Away", ("Location", "/echo"), length=0)), "/echo": echo}),
        )
        with session_over() as session:
            assert session.post(server.url + "/", data=io.BytesIO(b"twice")).content == b"twice"
