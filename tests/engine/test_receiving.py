"""Receiving a header: what comes while the request is still sent, and what is there after a write that failed."""

from __future__ import annotations

import errno
import ssl

import pytest

from pooltransport import Request
from pooltransport.errors import ResponseHeaderTimeout, ServerClosedConnection, TLSError, WriteError
from pooltransport.runtime.protocols import Expired
from tests.engine.scenarios import OK, TLS, URL
from tests.engine.told import Told

RESET = ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
EARLY = b"HTTP/1.1 103 Early Hints\r\n\r\n"
TOO_LARGE = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig"


async def post(world, content=b"x", **fields):
    async with await world.transport.round_trip(Request("POST", URL, content=content, **fields)) as response:
        return response.status_code, await response.aread()


def breaks_writes(*deeds):
    """Return a peer of whose stream no write comes through, and which has done `deeds`."""

    def peer(dial):
        stream = dial.accept()
        stream.break_writes = RESET
        for deed in deeds:
            deed(stream)

    return peer


class TestAfterAWriteThatFailed:
    @pytest.mark.parametrize("pieces", [(EARLY + TOO_LARGE,), (EARLY, TOO_LARGE), (EARLY[:9], EARLY[9:] + TOO_LARGE)])
    def test_the_answer_behind_informational_ones(self, make_world, pieces):
        world = make_world(breaks_writes(lambda stream: stream.feed(*pieces)))
        told = Told()
        assert world.runtime.run(post(world, trace=told.trace)) == (413, b"big")
        assert isinstance(told.info("wrote_request"), WriteError)
        assert world.runtime.open_streams == []

    def test_nothing_but_informational_ones(self, make_world):
        """They are no answer: what is raised is the write error."""
        world = make_world(breaks_writes(lambda stream: stream.feed(EARLY), lambda stream: stream.end()))
        with pytest.raises(WriteError, match="sending failed after 1 bytes: Connection reset"):
            world.runtime.run(post(world))
        assert world.transport.stats().closed == {"write_error": 1}

    @pytest.mark.parametrize(
        "deed",
        [
            lambda stream: stream.end(),
            lambda stream: stream.fail(),
            lambda stream: stream.feed(b"no HTTP\r\n\r\n"),
            lambda stream: None,
        ],
        ids=["end", "reset", "nonsense", "silence"],
    )
    def test_no_answer(self, make_world, deed):
        world = make_world(breaks_writes(deed))
        with pytest.raises(WriteError, match="Connection reset") as caught:
            world.runtime.run(post(world))
        assert not isinstance(caught.value, ServerClosedConnection)

    def test_an_alert_is_the_answer(self, make_world):
        """Whatever writing said: the server did not take our certificate."""
        alert = ssl.SSLError(1, "[SSL]")
        alert.reason = "TLSV1_ALERT_UNKNOWN_CA"
        world = make_world(breaks_writes(lambda stream: stream.fail(alert)), ssl_context=TLS)
        with pytest.raises(TLSError, match="does not accept the client certificate: it does not know who signed it"):
            world.runtime.run(world.transport.round_trip(Request("POST", "https://192.0.2.1/", content=b"x")))
        assert world.transport.stats().open == 0


class TestWhileSending:
    async def pieces(self, world):
        for _ in range(3):
            await world.pause()
            yield b"piece"

    def test_bytes_that_announce_themselves_and_do_not_come(self, make_world):
        """As a TLS record in pieces: the request's own clock ends the wait."""

        def peer(dial):
            dial.accept().on_sent = lambda stream: stream.feed(EARLY)

        def never(point):
            return Expired() if point.kind == "receive" and point.when == "before" else None

        world = make_world(peer)
        world.runtime.fault = never
        began = world.runtime.now()
        with pytest.raises(ResponseHeaderTimeout) as caught:
            world.runtime.run(post(world, self.pieces(world), timeout=5.0))
        error = caught.value
        assert (error.phase, error.setting, error.seconds) == ("headers", "timeout", 5.0)
        assert error.may_have_been_processed
        assert world.runtime.now() - began == 5.0
        assert world.transport.stats().closed == {"header_timeout": 1}
        world.runtime.fault = None

    def test_informational_ones_are_told_at_once(self, make_world):
        told = Told()
        seen = []

        def peer(dial):
            def answer(stream):
                seen.append(told.names.count("got_1xx_response"))
                stream.feed(OK if stream.sent.endswith(b"0\r\n\r\n") else EARLY)

            dial.accept().on_sent = answer

        world = make_world(peer)
        assert world.runtime.run(post(world, self.pieces(world), trace=told.trace)) == (200, b"hi")
        # Before each further piece the one that came after the piece before was told.
        assert seen == [0, 1, 2, 3, 4]
        assert told.names.count("got_first_response_byte") == 1


def test_a_request_without_hooks_hears_the_same(make_world):
    def peer(dial):
        dial.accept().on_sent = lambda stream: stream.feed(EARLY, EARLY, OK)

    world = make_world(peer)
    told = Told()
    assert world.runtime.run(world.get()) == b"hi"
    assert world.runtime.run(world.get(trace=told.trace)) == b"hi"
    assert told.names.count("got_1xx_response") == 2
