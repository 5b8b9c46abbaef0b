"""TLS as the engine sees it: what is said after the handshake, files that change, ends that cut off."""

from __future__ import annotations

import errno
import os
import ssl

import pytest
import trustme

from pooltransport import Request
from pooltransport.errors import ConfigError, IncompleteBody, ServerClosedConnection, TLSError, WriteError
from pooltransport.runtime.protocols import NothingWritten
from pooltransport.testing.fakes import END, Answers
from tests.engine.scenarios import OK, TLS

URL = "https://192.0.2.1/"
RESET = ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\nhello"


def alert(reason="TLSV13_ALERT_CERTIFICATE_REQUIRED") -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}]")
    error.reason = reason
    return error


def fails(world, kind, **fields):
    with pytest.raises(kind) as caught:
        world.runtime.run(world.get(URL, **fields))
    assert world.transport.stats().open == 0
    return caught.value


class TestTheServersNo:
    @pytest.mark.parametrize("content", [None, b"x", b"x" * 100_000])
    def test_instead_of_the_answer(self, make_world, content):
        world = make_world(lambda dial: dial.accept().fail(alert()), ssl_context=TLS)
        error = fails(world, TLSError, content=content)
        assert "https://192.0.2.1:443 failed: the server wants a client certificate" in str(error)
        assert not error.may_have_been_processed
        assert world.transport.stats().retries == 0

    @pytest.mark.parametrize("content", [None, b"x", b"x" * 100_000])
    def test_behind_a_write_that_failed(self, make_world, content):
        def peer(dial):
            stream = dial.accept()
            stream.fail(alert())
            stream.break_writes = NothingWritten(errno.EPIPE, "Broken pipe")

        error = fails(make_world(peer, ssl_context=TLS), TLSError, content=content)
        assert "the server wants a client certificate" in str(error)

    @pytest.mark.parametrize("behind", ["reset", "end", "silence", "bytes"])
    def test_a_write_that_failed_without_one(self, make_world, behind):
        def peer(dial):
            stream = dial.accept()
            stream.break_writes = NothingWritten(errno.EPIPE, "Broken pipe")
            deed = {"reset": stream.fail, "end": stream.end, "silence": int, "bytes": lambda: stream.feed(b"?")}
            deed[behind]()

        fails(make_world(peer, ssl_context=TLS), WriteError)

    def test_a_reset_may_have_overtaken_it(self, make_world):
        error = fails(make_world(lambda dial: dial.accept().fail(RESET), ssl_context=TLS), ServerClosedConnection)
        assert "a server that wants a client certificate (client_cert=) may end it so" in str(error)

    @pytest.mark.parametrize(("url", "script"), [("http://192.0.2.1/", RESET), (URL, END)])
    def test_no_guess_elsewhere(self, make_world, url, script):
        world = make_world(Answers(script), ssl_context=TLS)
        with pytest.raises(ServerClosedConnection) as caught:
            world.runtime.run(world.get(url))
        assert "client_cert" not in str(caught.value)

    def test_no_guess_on_a_connection_that_was_used(self, make_world):
        world = make_world(Answers(OK), ssl_context=TLS)

        async def post():
            await world.get(URL)
            world.runtime.streams[0].on_sent = lambda stream: stream.fail()
            async with await world.transport.round_trip(Request("POST", URL)) as response:
                await response.aread()

        with pytest.raises(ServerClosedConnection) as caught:
            world.runtime.run(post())
        assert "client_cert" not in str(caught.value)

    def test_later_it_is_an_end_like_others(self, make_world):
        """A connection that has served requests was accepted by the server."""
        world = make_world(Answers(OK, OK), ssl_context=TLS)

        async def post():
            await world.get(URL)
            world.runtime.streams[0].on_sent = lambda stream: stream.fail(alert())
            async with await world.transport.round_trip(Request("POST", URL)) as response:
                await response.aread()

        with pytest.raises(ServerClosedConnection):
            world.runtime.run(post())

    def test_http2_was_not_asked_for(self, make_world):
        def peer(dial):
            dial.accept().alpn = "h2"

        assert "the server chose 'h2'" in str(fails(make_world(peer, ssl_context=TLS), TLSError))


class TestAnEndThatCutsOff:
    def peer(self, *, cut_off):
        def peer(dial):
            stream = dial.accept()

            def answer(stream):
                stream.feed(UNTIL_CLOSE)
                stream.end(cut_off=cut_off)

            stream.on_sent = answer

        return peer

    def test_of_a_body_until_close(self, make_world):
        error = fails(make_world(self.peer(cut_off=True), ssl_context=TLS), IncompleteBody)
        assert error.bytes_read == 5
        world = make_world(self.peer(cut_off=False), ssl_context=TLS)
        assert world.runtime.run(world.get(URL)) == b"hello"

    def test_before_the_header(self, make_world):
        error = fails(make_world(lambda dial: dial.accept().end(cut_off=True), ssl_context=TLS), ServerClosedConnection)
        assert "client_cert=" in str(error)


class TestFilesThatChange:
    @pytest.fixture
    def path(self, tmp_path):
        trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        return tmp_path / "ca.pem"

    def replace(self, path):
        trustme.CA().cert_pem.write_to_path(f"{path}.new")
        os.replace(f"{path}.new", path)

    def test_what_is_idle_is_retired(self, make_world, path):
        world = make_world(Answers(OK), ca_file=path)
        world.runtime.run(world.get(URL))
        world.runtime.run(world.get("http://192.0.2.1/"))
        world.runtime.advance(3.0)
        assert world.transport.stats().idle == 2
        self.replace(path)
        world.runtime.advance(1.1)
        assert world.transport.stats().closed == {"trust_changed": 1}
        world.runtime.run(world.get(URL))
        assert world.transport.stats().dials == 3

    def test_they_are_not_looked_at_before_https_is_used(self, make_world, path):
        world = make_world(Answers(OK), ca_file=path)
        world.runtime.run(world.get("http://192.0.2.1/"))
        path.unlink()
        world.runtime.advance(3.0)
        with pytest.raises(ConfigError, match=r"ca\.pem"):
            world.runtime.run(world.get(URL))
        assert world.transport.stats().dialing == 0

    def test_while_a_handshake_is_under_way(self, make_world, path):
        """The connection serves its request, and no other."""
        streams = []

        def peer(dial):
            stream = dial.accept()
            stream.hold_tls = not streams
            stream.on_sent = lambda stream: stream.feed(OK)
            streams.append(stream)

        world = make_world(peer, ca_file=path)
        first = world.runtime.start(world.get(URL))
        world.runtime.run_until_idle()
        self.replace(path)
        assert world.runtime.run(world.get(URL)) == b"hi"
        streams[0].hold_tls = False
        world.runtime.run_until_idle()
        assert first.outcome() == b"hi"
        assert world.transport.stats().closed == {"trust_changed": 1}
        assert world.transport.stats().idle == 1
