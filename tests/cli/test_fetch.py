"""`get` and `head`: what came, byte for byte; and what did not come, in one sentence."""

from __future__ import annotations

import gzip

import pytest

from tests.support.responders import echo, head, ok, raw

BINARY = bytes(range(256)) * 100
BAD = ok(b"nothing here", status="404 Not\x1b[31mFound")


class TestGet:
    def test_writes_the_body_and_nothing_else(self, run, server_factory):
        done = run("get", server_factory(ok(BINARY)).url)
        assert (done.status, done.out, done.err) == (0, BINARY, "")

    def test_decoded(self, run, server_factory):
        server = server_factory(ok(gzip.compress(BINARY), ("Content-Encoding", "gzip")))
        assert run("get", server.url).out == BINARY

    def test_include(self, run, server_factory):
        server = server_factory(ok(b"hello", ("X-Colour", "\x9b31mred"), status="200 OK"))
        done = run("get", "-i", server.url)
        assert done.text == "HTTP/1.1 200 OK\nX-Colour: \\x9b31mred\nContent-Length: 5\n\nhello"

    def test_output(self, run, server_factory, tmp_path):
        path = tmp_path / "body"
        done = run("get", server_factory(ok(BINARY)).url, "--output", str(path))
        assert (done.status, done.out, done.err) == (0, b"", "")
        assert path.read_bytes() == BINARY

    def test_output_that_cannot_be_written(self, run, server_factory, tmp_path):
        done = run("get", server_factory(ok()).url, "-o", str(tmp_path / "no" / "body"))
        assert done.status == 1
        assert done.err.startswith("pooltransport: it cannot be written: ")

    def test_headers_and_credentials_are_sent(self, run, server_factory):
        server = server_factory(echo)
        url = server.url.replace("://", "://user:s3cret@")
        assert run("get", url, "-H", "X-One: 1", "--header", "User-Agent: me:2").status == 0
        (request,) = server.log
        assert (request.header("x-one"), request.header("user-agent")) == ("1", "me:2")
        assert request.header("authorization") == "Basic dXNlcjpzM2NyZXQ="

    def test_a_bad_status_is_an_answer_unless_said(self, run, server_factory):
        server = server_factory(BAD)
        assert run("get", server.url) == (0, b"nothing here", "")
        done = run("get", "--fail", server.url)
        assert (done.status, done.out) == (7, b"")
        assert done.err == f"the server answered 404 Not\\x1b[31mFound to GET {server.url}\n"

    def test_ends_too_early(self, run, server_factory):
        done = run("get", server_factory(raw(head(length=9) + b"abc", then_close=True)).url)
        assert (done.status, done.out) == (1, b"abc")
        assert done.err.startswith("pooltransport: the answer ended too early: ")

    def test_tls(self, run, server_factory, server_ssl_context, ca_file):
        server = server_factory(ok(), tls=server_ssl_context)
        assert run("get", server.url, "--ca-file", ca_file) == (0, b"hello", "")
        assert run("get", server.url, "--insecure") == (0, b"hello", "")
        done = run("get", server.url)
        assert (done.status, done.out) == (5, b"")
        assert "there is no safe connection: TLS handshake with" in done.err


@pytest.mark.parametrize("command", ["get", "head"])
def test_redirects(run, server_factory, command):
    there = server_factory(ok(b"there", ("X-There", "yes")))
    server = server_factory(ok(b"moved", ("Location", there.url), status="302 Found"))
    followed = run(command, server.url)
    assert followed.status == 0
    assert ("X-There: yes" if command == "head" else "there") in followed.text
    shown = run(command, server.url, "--no-follow")
    assert shown.status == 0
    assert (f"Location: {there.url}" if command == "head" else "moved") in shown.text
    assert there.requests == 1


class TestHead:
    def test_prints_status_line_and_headers(self, run, server_factory):
        server = server_factory(ok(b"hello", ("X-A", "b")))
        assert run("head", server.url) == (0, b"HTTP/1.1 200 OK\nX-A: b\nContent-Length: 5\n\n", "")
        assert server.log[0].method == "HEAD"

    @pytest.mark.parametrize(("flags", "status"), [((), 0), (("--fail",), 7)])
    def test_a_bad_status(self, run, server_factory, flags, status):
        done = run("head", server_factory(BAD).url, *flags)
        assert done.status == status
        assert done.text.startswith("HTTP/1.1 404 Not\\x1b[31mFound\n")


@pytest.mark.parametrize("command", ["get", "head"])
def test_a_server_that_is_down(run, command):
    done = run(command, "http://user:s3cret@127.0.0.1:1/?token=s3cret")
    assert (done.status, done.out) == (4, b"")
    assert done.err == (
        "pooltransport: there is no connection: cannot connect to http://127.0.0.1:1: 127.0.0.1:1: "
        "Connection refused (errno 111)\n"
    )
