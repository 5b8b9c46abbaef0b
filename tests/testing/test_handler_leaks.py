"""A response of `HandlerTransport` that nobody closes is found, though no connection is behind it."""

from __future__ import annotations

import pytest

import pooltransport as pt
from pooltransport import testing
from pooltransport.testing import PoolLeakError, no_leaks, response
from tests.support.colours import COLOURS, run_colour

pytestmark = pytest.mark.parametrize("colour", COLOURS)


def over(c, handler):
    """Make a transport of the colour over `handler`."""
    return (testing.HandlerTransport if c.sync else testing.AsyncHandlerTransport)(handler)


def test_a_response_left_open_is_a_leak(colour):
    async def body(c):
        transport = over(c, lambda _: response(text="hello"))
        with no_leaks():
            await c.call(c.make_client(transport=transport).get, "http://a.example/")
        with pytest.raises(PoolLeakError, match=r"GET http://a\.example:80 \[200\], 0 of 5 body bytes read") as caught:
            async with no_leaks():
                kept.append(await c.call(transport.round_trip, pt.Request("GET", "http://a.example/")))
        assert "test_handler_leaks.py" in str(caught.value)
        with pytest.raises(PoolLeakError, match="found by the garbage collector"):
            async with no_leaks():
                await c.call(transport.round_trip, pt.Request("GET", "http://a.example/"))
        await c.close(kept.pop())

    kept = []
    run_colour(colour, body) if colour != "threads" else _threads_leak()


def _threads_leak():
    transport = testing.HandlerTransport(lambda _: response(text="hello"))
    with pytest.raises(PoolLeakError, match=r"0 of 5 body bytes read.*\n.*test_handler_leaks.py"), no_leaks():
        kept = transport.round_trip(pt.Request("GET", "http://a.example/"))
    kept.close()
    with no_leaks(), transport.round_trip(pt.Request("GET", "http://a.example/")):
        pass


def test_a_handler_that_raises_leaves_nothing_open(colour):
    async def body(c):
        transport = over(c, lambda _: 1 / 0)
        async with no_leaks():
            with pytest.raises(ZeroDivisionError):
                await c.call(transport.round_trip, pt.Request("GET", "http://a.example/"))

    run_colour(colour, body) if colour != "threads" else _threads_raise()


def _threads_raise():
    with no_leaks(), pytest.raises(ZeroDivisionError):
        testing.HandlerTransport(lambda _: 1 / 0).round_trip(pt.Request("GET", "http://a.example/"))
