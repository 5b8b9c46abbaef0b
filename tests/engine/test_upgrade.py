"""The raw stream after 101: what it gives, its ends, its clocks, and who may still use it."""

from __future__ import annotations

import errno
import gc

import pytest

from pooltransport import Request
from pooltransport.errors import ReadError, ReadTimeout, StreamConsumed, TransportClosed, WriteError, WriteTimeout
from pooltransport.testing.fakes import END, Answers, Cancelled
from tests.engine.scenarios import TLS, URL
from tests.engine.told import Told

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
HEADERS = {"Connection": "upgrade", "Upgrade": "x"}
RESET = ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")


def opened(world, url=URL, **fields):
    return world.runtime.run(world.transport.round_trip(Request("GET", url, headers=HEADERS, **fields)))


def started(world, coro):
    """Start a call that has to wait."""
    task = world.runtime.start(coro)
    world.runtime.run_until_idle()
    assert not task.done
    return task


def test_read_as_a_body(make_world):
    """A response of 101 can be read as any other, up to the peer's end; that closes it."""
    world = make_world(Answers((SWITCH + b"first", b"second", END)))
    told = Told()
    response = opened(world, trace=told.trace)
    assert world.transport.stats().upgraded == 1
    assert world.runtime.run(response.aread()) == b"firstsecond"
    closed = told.info("body_closed")
    assert (closed.bytes_read, closed.complete) == (11, True)
    assert dict(response.trailers) == {}
    assert world.transport.stats().closed == {"upgraded": 1}
    assert world.runtime.open_streams == []


def test_the_end_is_told_again_and_again(make_world):
    world = make_world(Answers((SWITCH, END)))
    response = opened(world)
    parts = response.aiter_raw()
    assert world.runtime.run(anext(parts, b"")) == b""
    assert world.runtime.run(anext(parts, b"")) == b""
    assert response.stream.is_closed


def test_no_more_than_asked_for(make_world):
    world = make_world(Answers((SWITCH + b"abcdef",)))
    stream = opened(world).stream
    assert world.runtime.run(stream.aread(4)) == b"abcd"
    assert world.runtime.run(stream.aread(4)) == b"ef"
    world.runtime.run(stream.aclose())
    assert world.transport.stats().closed == {"upgraded": 1}


def test_one_direction_ends(make_world):
    """The peer's goes on, and has an end of its own."""
    world = make_world(Answers(SWITCH))
    stream = opened(world).stream
    stream.end_writing()
    peer = world.runtime.streams[0]
    assert peer.ended_writing
    peer.play((b"late", END))
    assert world.runtime.run(stream.aread()) == b"late"
    assert world.runtime.run(stream.aread()) == b""
    assert not stream.is_closed
    world.runtime.run(stream.aclose())
    world.runtime.run(stream.aclose())
    assert world.transport.stats().closed == {"upgraded": 1}


@pytest.mark.parametrize("url", [URL, "https://192.0.2.1/"])
def test_only_without_tls_it_may_be_half_open(make_world, url):
    world = make_world(Answers(SWITCH), ssl_context=TLS)
    world.runtime.run(opened(world, url).stream.aclose())
    assert world.runtime.streams[0].half_open is (url == URL)


class TestClocks:
    def test_reading_late_leaves_it_as_it_was(self, make_world):
        world = make_world(Answers(SWITCH), read_timeout=1.0)
        stream = opened(world).stream
        began = world.runtime.now()
        with pytest.raises(ReadTimeout, match=r"nothing came within 5 s \(timeout\), phase body") as caught:
            world.runtime.run(stream.aread(timeout=5.0))
        assert world.runtime.now() - began == 5.0
        assert (caught.value.phase, caught.value.setting, caught.value.seconds) == ("body", "timeout", 5.0)
        world.runtime.streams[0].feed(b"later")
        assert world.runtime.run(stream.aread(timeout=5.0)) == b"later"
        world.runtime.run(stream.aclose())

    def test_writing_late_ends_it(self, make_world):
        """Nobody knows how much went out."""
        world = make_world(Answers(SWITCH))
        stream = opened(world).stream
        world.runtime.streams[0].hold_writes = True
        began = world.runtime.now()
        with pytest.raises(WriteTimeout, match=r"not all of it was sent within 5 s \(timeout\)"):
            world.runtime.run(stream.awrite(b"x", timeout=5.0))
        assert world.runtime.now() - began == 5.0
        assert stream.is_closed
        assert world.transport.stats().closed == {"write_error": 1}
        with pytest.raises(WriteTimeout, match="not all of it"):
            world.runtime.run(stream.aread())

    def test_none_without_being_asked_for(self, make_world):
        world = make_world(Answers(SWITCH), read_timeout=1.0, write_timeout=1.0)
        stream = opened(world, timeout=2.0).stream
        task = started(world, stream.aread())
        world.runtime.advance(3600.0)
        assert not task.done
        world.runtime.streams[0].feed(b"at last")
        world.runtime.run_until_idle()
        assert task.outcome() == b"at last"
        world.runtime.run(stream.aclose())


class TestBroken:
    def test_while_reading(self, make_world):
        world = make_world(Answers(SWITCH))
        stream = opened(world).stream
        world.runtime.streams[0].fail(RESET)
        for _ in range(2):  # it is sticky
            with pytest.raises(ReadError, match=r"http://192\.0\.2\.1:80: receiving failed: Connection reset by peer"):
                world.runtime.run(stream.aread())
        with pytest.raises(ReadError):
            stream.end_writing()
        assert world.transport.stats().closed == {"read_error": 1}

    def test_while_writing(self, make_world):
        world = make_world(Answers(SWITCH))
        stream = opened(world).stream
        world.runtime.streams[0].break_writes = RESET
        with pytest.raises(WriteError, match=r"http://192\.0\.2\.1:80: sending failed: Connection reset by peer"):
            world.runtime.run(stream.awrite(b"x"))
        with pytest.raises(WriteError):
            world.runtime.run(stream.aread())
        assert world.transport.stats().closed == {"write_error": 1}

    def test_by_its_transport(self, make_world):
        world = make_world(Answers(SWITCH))
        stream = opened(world).stream
        task = started(world, stream.aread())
        world.runtime.run(world.transport.aclose())
        with pytest.raises(TransportClosed, match="the transport was closed while"):
            task.outcome()


@pytest.mark.parametrize("call", ["read", "write"])
def test_closed_while_it_is_used(make_world, call):
    """By another task: who uses it is told so, now and later, and the hooks once."""
    world = make_world(Answers(SWITCH))
    told = Told()
    stream = opened(world, trace=told.trace).stream
    world.runtime.streams[0].hold_writes = True
    task = started(world, stream.aread() if call == "read" else stream.awrite(b"x"))
    world.runtime.run(stream.aclose())
    with pytest.raises(StreamConsumed, match="the stream was closed while it was used"):
        task.outcome()
    with pytest.raises(StreamConsumed, match="the stream was closed before"):
        world.runtime.run(stream.aread())
    assert not told.info("body_closed").complete
    assert world.transport.stats().closed == {"upgraded": 1}


def test_both_directions_break_at_once(make_world):
    """Each caller is told its own, and the connection ends once."""
    world = make_world(Answers(SWITCH))
    told = Told()
    stream = opened(world, trace=told.trace).stream
    peer = world.runtime.streams[0]
    peer.hold_writes = True
    reading, writing = started(world, stream.aread()), started(world, stream.awrite(b"x"))
    peer.break_writes = RESET
    peer.fail(RESET)
    world.runtime.run_until_idle()
    assert (type(reading.error), type(writing.error)) == (ReadError, WriteError)
    assert told.info("body_closed").bytes_read == 0
    assert world.transport.stats().closed == {"read_error": 1}
    with pytest.raises(ReadError):
        world.runtime.run(stream.aread())


@pytest.mark.parametrize("call", ["read", "write"])
def test_a_cancelled_call_closes_it(make_world, call):
    world = make_world(Answers(SWITCH))
    stream = opened(world).stream
    world.runtime.streams[0].hold_writes = True
    task = started(world, stream.aread() if call == "read" else stream.awrite(b"x"))
    task.cancel()
    world.runtime.run_until_idle()
    assert type(task.error) is Cancelled
    assert world.transport.stats().closed == {"cancelled": 1}
    with pytest.raises(StreamConsumed):
        world.runtime.run(stream.aread())


def test_used_after_it_was_closed(make_world):
    world = make_world(Answers(SWITCH + b"more"))
    stream = opened(world).stream
    world.runtime.run(stream.aclose())
    for use in (stream.aread, lambda: stream.awrite(b"x")):
        with pytest.raises(StreamConsumed, match="the stream was closed before"):
            world.runtime.run(use())
    with pytest.raises(StreamConsumed):
        stream.end_writing()


def test_dropped_unclosed_it_is_a_leak(make_world):
    world = make_world(Answers(SWITCH))
    told = Told()
    response = opened(world, trace=told.trace)
    del response
    gc.collect()
    world.runtime.run_until_idle()
    with pytest.warns(ResourceWarning, match="response never closed"):
        assert world.transport.stats().leaks == 1
    assert told.info("leaked").status_code == 101
    assert world.transport.stats().closed == {"leaked": 1}
    assert world.runtime.open_streams == []
