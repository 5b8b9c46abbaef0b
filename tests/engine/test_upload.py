"""Answers that come before the body has: what goes on, what ends, and what is said of it."""

from __future__ import annotations

import errno
import io

import pytest

from pooltransport import Request
from pooltransport.errors import IncompleteBody, ReadError, WriteError
from pooltransport.testing.fakes import Answers
from tests.engine.scenarios import OK, URL
from tests.engine.told import Told

RESET = ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
CREATED = b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n"
TOO_LARGE = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig"


class Pieces:
    """A body of `count` pieces that tells `on_piece` before each; it remembers how often it was asked and closed."""

    def __init__(self, world, count=4, on_piece=None):
        self.world = world
        self.count = count
        self.on_piece = on_piece
        self.asked = self.closed = 0

    def __aiter__(self):
        return self

    async def __anext__(self):
        self.asked += 1
        if self.asked > self.count:
            raise StopAsyncIteration
        if self.on_piece is not None:
            self.on_piece(self.asked, self.world.runtime.streams[-1])
        await self.world.pause()
        return b"piece%d" % self.asked

    async def aclose(self):
        self.closed += 1


async def put(world, content, trace=None):
    async with await world.transport.round_trip(Request("PUT", URL, content=content, trace=trace)) as response:
        return response.status_code, await response.aread()


def test_a_refusal_ends_it(make_world):
    world = make_world(lambda dial: dial.accept())
    body = Pieces(world, on_piece=lambda number, stream: stream.feed(TOO_LARGE) if number == 2 else None)
    told = Told()
    assert world.runtime.run(put(world, body, told.trace)) == (413, b"big")
    error = told.info("wrote_request")
    assert isinstance(error, WriteError)
    written = len(world.runtime.streams[0].sent)
    assert f"answered with 413 before the request body was sent to its end; {written} bytes" in str(error)
    assert (body.asked, body.closed) == (2, 1)
    assert b"piece2" not in world.runtime.streams[0].sent
    assert world.transport.stats().closed == {"bad_state": 1}


class TestAnAnswerThatGoesOnMeanwhile:
    def test_is_kept_for_who_reads_it(self, make_world):
        """One part of a 2xx before each piece of the body: neither side waits for the other."""
        world = make_world(lambda dial: dial.accept())

        def answer(number, stream):
            stream.feed(CREATED % 12 if number == 1 else b"part")

        body, told = Pieces(world, on_piece=answer), Told()
        assert world.runtime.run(put(world, body, told.trace)) == (201, b"partpartpart")
        assert told.info("wrote_request") is None
        assert world.runtime.streams[0].sent.endswith(b"piece4\r\n0\r\n\r\n")
        assert world.transport.stats().idle == 1

    def test_above_a_bound_nobody_listens(self, make_world):
        """What is more than a megabyte stays with the kernel until the body is sent."""
        world = make_world(lambda dial: dial.accept())
        part = b"x" * 600_000

        def answer(number, stream):
            if number < 5:
                stream.feed(CREATED % (3 * len(part)) if number == 1 else part)

        body = Pieces(world, count=5, on_piece=answer)
        unread = []
        world.runtime.on_dial = lambda dial: setattr(dial.accept(), "on_sent", lambda s: unread.append(s.surplus()))
        status, data = world.runtime.run(put(world, body))
        assert (status, len(data)) == (201, 3 * len(part))
        # Header and two parts were received before their piece went out, the third was not.
        assert unread == [False, False, False, False, True, True, True]
        assert world.transport.stats().idle == 1

    @pytest.mark.parametrize(
        ("end", "kind", "text"),
        [
            (lambda stream: stream.end(), IncompleteBody, "after 4 of 12 body bytes"),
            (lambda stream: stream.fail(RESET), ReadError, "failed after 4 bytes: Connection reset"),
        ],
    )
    def test_breaks_off(self, make_world, end, kind, text):
        """The body goes no further; what is wrong is said to who reads the answer, and to the hook."""
        world = make_world(lambda dial: dial.accept())

        def answer(number, stream):
            {1: lambda: stream.feed(CREATED % 12), 2: lambda: stream.feed(b"part"), 3: lambda: end(stream)}[number]()

        body, told = Pieces(world, on_piece=answer), Told()
        with pytest.raises(kind, match=text):
            world.runtime.run(put(world, body, told.trace))
        assert "answered with 201 before" in str(told.info("wrote_request"))
        assert (body.asked, body.closed) == (3, 1)
        assert b"piece3" not in world.runtime.streams[0].sent


def test_a_file_is_read_in_a_worker(make_world):
    """Each piece of it, and the look for its end; nothing else is."""
    peer = Answers(OK)
    world = make_world(peer)
    seen = []
    world.runtime.fault = lambda point: seen.append(point.kind) if point.when == "before" else None
    assert world.runtime.run(put(world, io.BytesIO(b"x" * 100_000))) == (200, b"hi")
    world.runtime.fault = None
    assert seen.count("run_blocking") == 3
    assert peer.requests[0].endswith(b"x" * 100_000)
    world.runtime.fault = lambda point: seen.append(point.kind) if point.when == "before" else None
    seen.clear()
    assert world.runtime.run(put(world, [b"x" * 100_000])) == (200, b"hi")
    assert "run_blocking" not in seen
    world.runtime.fault = None
