"""Expect: 100-continue: what is sent, and what hooks are told, when the body is wanted and when it is not."""

from __future__ import annotations

import pytest

from pooltransport.testing.fakes import Answers
from tests.engine.scenarios import OK
from tests.engine.told import Told, request

EXPECT = {"Expect": "100-continue"}
REFUSAL = b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno"


class Pieces:
    """A body that remembers how often it was asked for more, and that it was closed."""

    def __init__(self, *pieces):
        self.left = list(pieces)
        self.asked = self.closed = 0

    def __aiter__(self):
        return self

    async def __anext__(self):
        self.asked += 1
        if not self.left:
            raise StopAsyncIteration
        return self.left.pop(0)

    async def aclose(self):
        self.closed += 1


def answers_header(script):
    """Return a peer that plays `script` when the header is there, and answers 200 to all of the request."""

    def peer(dial):
        def after_header(stream):
            stream.on_sent = lambda s: s.play(OK) if s.sent.endswith((b"body", b"0\r\n\r\n")) else None
            stream.play(script)

        dial.accept().on_sent = after_header

    return peer


async def post(world, content, trace=None):
    req = request("POST", content=content, headers=EXPECT, trace=trace)
    async with await world.transport.round_trip(req) as response:
        return response.status_code, await response.aread()


@pytest.mark.parametrize("traced", [True, False])
def test_a_body_that_is_not_wanted(make_world, traced):
    """It is closed without being asked for, and the connection is not used again: its request was not sent whole."""
    world = make_world(answers_header(REFUSAL))
    body, told = Pieces(b"body"), Told()
    assert world.runtime.run(post(world, body, told.trace if traced else None)) == (417, b"no")
    assert (body.asked, body.closed) == (0, 1)
    assert world.runtime.streams[0].sent.endswith(b"\r\n\r\n")
    assert world.transport.stats().closed == {"bad_state": 1}
    if traced:
        # As in Go, no error: all that was wanted of the request was sent.
        assert told.info("wrote_request") is None
        assert told.info("wait_100_continue").timeout == world.transport.options.expect_continue_timeout
        assert "got_100_continue" not in told.names
        assert told.names.index("got_first_response_byte") < told.names.index("wrote_request")


def test_a_body_that_is_wanted(make_world):
    world = make_world(answers_header(b"HTTP/1.1 100 Continue\r\n\r\n"))
    body, told = Pieces(b"body"), Told()
    assert world.runtime.run(post(world, body, told.trace)) == (200, b"hi")
    assert body.left == []
    assert told.names.index("got_100_continue") < told.names.index("wrote_request")
    assert world.transport.stats().idle == 1


def test_other_words_than_100_are_not_it(make_world):
    """103 neither ends the wait nor is it told as 100."""
    world = make_world(Answers(OK), expect_continue_timeout=2.0)
    world.runtime.on_dial = answers_header(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    told, began = Told(), world.runtime.now()
    assert world.runtime.run(post(world, b"body", told.trace)) == (200, b"hi")
    assert world.runtime.now() - began == 2.0
    assert [info.status_code for name, info in told.calls if name == "got_1xx_response"] == [103]
    assert "got_100_continue" not in told.names
