"""Corners of a body's life: read by two, closed under a reader, measured, cut."""

from __future__ import annotations

import errno
import gzip

import pytest

import pooltransport as pt
from pooltransport import ClientTrace, Request
from pooltransport.errors import DecodingError, ReadError, ReadTimeout, StreamConsumed
from pooltransport.testing.fakes import END, Answers, Cancelled
from tests.engine.scenarios import URL
from tests.support.responders import ok

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def opened(world, **fields):
    return world.runtime.run(world.transport.round_trip(Request("GET", URL, **fields)))


def reading(world, response):
    """Return a task that waits for more of the body."""
    parts = response.aiter_bytes()

    async def read():
        return await anext(parts)

    task = world.runtime.start(read())
    world.runtime.run_until_idle()
    assert not task.done
    return parts, task


def test_two_readers(make_world):
    world = make_world(Answers((HEAD,)))
    response = opened(world)
    parts, task = reading(world, response)
    with pytest.raises(StreamConsumed, match="at once"):
        world.runtime.run(anext(parts))
    world.runtime.streams[0].feed(b"abcdef")
    world.runtime.run_until_idle()
    assert task.outcome() == b"abcdef"
    assert world.transport.stats().idle == 1


@pytest.mark.parametrize("lazy", [False, True])
def test_closed_under_a_reader(make_world, lazy):
    told = []
    hooks = {name: (lambda info, name=name: told.append(name)) for name in ("body_closed", "drained", "put_idle_conn")}
    world = make_world(Answers((HEAD,)), runtime={"lazy_close": lazy})
    response = opened(world, trace=ClientTrace(**hooks))
    _, task = reading(world, response)
    world.runtime.run(response.aclose())
    world.runtime.run_until_idle()
    with pytest.raises(StreamConsumed, match="closed while its body was read"):
        task.outcome()
    assert world.transport.stats().closed == {"body_not_consumed": 1}
    assert sorted(told) == ["body_closed", "put_idle_conn"]


def test_closed_and_cancelled_in_one_moment(make_world):
    """Who is cancelled is told so, and the lease ends once."""
    world = make_world(Answers((HEAD,)))
    response = opened(world)
    parts, task = reading(world, response)
    task.cancel()

    async def close():
        await response.aclose()

    closing = world.runtime.start(close())
    world.runtime.run_until_idle()
    assert closing.done
    assert type(task.error) is Cancelled
    assert sum(world.transport.stats().closed.values()) == 1
    with pytest.raises((StreamConsumed, ReadError)):
        world.runtime.run(anext(parts))


def test_closed_by_one_that_runs_before_the_cancelled_reader(make_world):
    world = make_world(Answers((HEAD,)))
    response = opened(world)
    tasks = []

    async def close_and_cancel():
        await world.pause()
        await response.aclose()
        tasks[0].cancel()

    world.runtime.start(close_and_cancel())  # before the reader in every turn
    tasks.append(world.runtime.start(response.aread()))
    world.runtime.run_until_idle()
    assert type(tasks[0].error) is Cancelled
    assert world.transport.stats().closed == {"body_not_consumed": 1}


def test_the_last_byte_comes_as_it_is_closed(make_world):
    """The reader gets it; the connection goes, since nobody may say any more where the stream stands."""
    world = make_world(Answers((CHUNKED + b"1\r\na\r\n",)))
    response = opened(world)
    parts = response.aiter_bytes()
    assert world.runtime.run(anext(parts)) == b"a"

    async def read():
        return await anext(parts, None)

    task = world.runtime.start(read())
    world.runtime.run_until_idle()
    world.runtime.fault = lambda point: _close_now(point, response)
    world.runtime.streams[0].feed(b"0\r\n\r\n")
    world.runtime.run_until_idle()
    world.runtime.fault = None
    assert task.done
    assert world.transport.stats().leases == 0
    assert world.transport.stats().closed == {"body_not_consumed": 1}


def _close_now(point, response):
    """As another thread would: between the arrival of the bytes and the reader's look at them."""
    if point.kind == "receive" and point.when == "after":
        closing = response.aclose()
        with pytest.raises(StopIteration):
            closing.send(None)


def test_a_body_that_was_not_decoded_in_full(make_world):
    """The bound of what decoding may give."""
    data = gzip.compress(b"x" * 100_000)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(data)
    world = make_world(Answers((head, data)), max_decoded_bytes=10_000)
    with pytest.raises(DecodingError):
        world.runtime.run(world.get())
    assert world.transport.stats().leases == 0


def test_more_than_may_be_read_at_once(make_world):
    world = make_world(Answers((HEAD, b"abcdef")), max_body_bytes=3)
    with pytest.raises(ReadError, match="max_body_bytes"):
        world.runtime.run(world.get())


def test_trailers(make_world):
    world = make_world(Answers(CHUNKED + b"1\r\na\r\n0\r\nX: y\r\n\r\n"))
    response = opened(world)
    assert dict(response.trailers) == {}
    world.runtime.run(response.aread())
    assert dict(response.trailers) == {"x": "y"}


@pytest.mark.parametrize("more", [0, 100])
def test_an_error_status_is_read_for_the_error(server_factory, more):
    """On threads `raise_for_status` keeps what the drain limit allows."""
    server = server_factory(ok(b"why not" + b"?" * more, status="404 Not Found"))
    with pt.Transport(drain_limit=10) as transport:
        response = transport.round_trip(Request("GET", server.url))
        with pytest.raises(pt.HTTPStatusError):
            response.raise_for_status()
        assert response.is_closed
        assert response.content.startswith(b"why not")


class TestRate:
    def test_fast_enough_for_a_window_and_then_not(self, make_world):
        """Each window is measured anew."""
        world = make_world(Answers((b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n",)), min_rate=(100, 5.0))

        async def send():
            for size in (600, 600, 10, 10, 10):
                await world.runtime.sleep(3.0)
                for stream in world.runtime.open_streams:
                    stream.feed(b"x" * size)

        world.runtime.start(send())
        began = world.runtime.now()
        with pytest.raises(ReadTimeout, match="min_rate"):
            world.runtime.run(world.get())
        assert world.runtime.now() - began == 15.0

    def test_nothing_at_all(self, make_world):
        """The window ends, and so does the wait; the read timeout has its own clock."""
        world = make_world(Answers((HEAD,)), min_rate=(100, 5.0), read_timeout=20.0)
        began = world.runtime.now()
        with pytest.raises(ReadTimeout, match="min_rate"):
            world.runtime.run(world.get())
        assert world.runtime.now() - began == 5.0

    def test_the_read_timeout_is_first(self, make_world):
        world = make_world(Answers((HEAD,)), min_rate=(100, 5.0), read_timeout=2.0)
        with pytest.raises(ReadTimeout, match="read_timeout") as caught:
            world.runtime.run(world.get())
        assert caught.value.seconds == 2.0


@pytest.mark.parametrize("end", [END, OSError(errno.EIO, "I/O error"), b"no chunk\r\n"])
def test_a_drain_that_fails(make_world, end):
    """Told to nobody but hooks and counters."""
    world = make_world(Answers((CHUNKED, b"1\r\na\r\n")))
    response = opened(world)
    world.runtime.run(response.aclose())
    world.runtime.streams[0].play(end)
    world.runtime.run_until_idle()
    stats = world.transport.stats()
    assert (stats.drains["error"], stats.closed) == (1, {"read_error": 1})


def test_a_drain_that_finds_more_than_the_body(make_world):
    world = make_world(Answers((HEAD, b"abc")))
    response = opened(world)
    world.runtime.run(response.aclose())
    world.runtime.streams[0].feed(b"defSURPLUS")
    world.runtime.run_until_idle()
    stats = world.transport.stats()
    assert (stats.drains["error"], stats.closed) == (1, {"unsolicited_data": 1})


def test_nothing_may_be_drained(make_world):
    world = make_world(Answers((HEAD, b"abc")), drain_limit=0)
    response = opened(world)
    world.runtime.run(response.aclose())
    stats = world.transport.stats()
    assert (stats.drains["limit"], stats.closed) == (1, {"drain_limit": 1})


def test_reading_what_was_closed(make_world):
    world = make_world(Answers((HEAD, b"abc")))
    response = opened(world)
    world.runtime.run(response.aclose())
    with pytest.raises(StreamConsumed, match="closed before its body was read"):
        world.runtime.run(response.aread())
