"""A small body that came with its header, taken at once: what may come between."""

from __future__ import annotations

import pytest

import pooltransport as pt
from tests.engine.bench import Bench
from tests.engine.told import Told

WHOLE = (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",)


def test_closed_meanwhile_it_ends_once():
    """By another thread: here it comes while the clock is asked."""
    bench, told = Bench(WHOLE), Told()
    body = bench.open(trace=told.trace, timeout=10.0)
    clock, calls = bench.runtime.clock, []

    class Closing:
        def __call__(self):
            if not calls:
                calls.append(1)
                with pytest.raises(StopIteration):
                    body.close().send(None)
            return clock()

        def __getattr__(self, name):
            return getattr(clock, name)

    bench.runtime.clock = Closing()
    assert body.take_whole() == b"hello"
    assert calls
    assert [name for name, _ in told.calls].count("body_closed") == 1
    assert bench.stats.leases == 0
    bench.end()


class Chunks:
    def __init__(self):
        self.closed = False

    def __aiter__(self):
        return self

    async def __anext__(self):
        raise StopAsyncIteration

    async def aclose(self):
        self.closed = True


def test_outside_of_a_loop_the_body_is_closed_all_the_same():
    chunks = Chunks()
    sending = pt.AsyncTransport().round_trip(pt.Request("POST", "http://192.0.2.1/", content=chunks))
    with pytest.raises(RuntimeError, match="from within asyncio or trio"):
        sending.send(None)
    assert chunks.closed
