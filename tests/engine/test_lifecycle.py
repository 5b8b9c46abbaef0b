"""Closing with more or less patience."""

from __future__ import annotations

import pytest

from pooltransport import Request
from pooltransport.errors import TransportClosed
from pooltransport.testing.fakes import Answers
from tests.engine.scenarios import URL

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"


@pytest.mark.parametrize(("second", "after"), [(1.0, 1.0), (200.0, 100.0)])
def test_a_later_smaller_grace_shortens_the_first(make_world, second, after):
    world = make_world(Answers(HEAD))
    held = world.runtime.run(world.transport.round_trip(Request("GET", URL)))
    patient = world.runtime.start(world.transport.aclose(grace=100.0))
    world.runtime.run_until_idle()
    other = world.runtime.start(world.transport.aclose(grace=second))
    world.runtime.advance(after - 0.1)
    assert not patient.done
    assert not other.done
    assert world.transport.stats().leases == 1
    world.runtime.advance(0.1)
    assert patient.done
    assert other.done
    with pytest.raises(TransportClosed):
        world.runtime.run(held.aread())


def test_closing_ends_as_soon_as_nothing_is_open(make_world):
    world = make_world(Answers(HEAD))
    held = world.runtime.run(world.transport.round_trip(Request("GET", URL)))
    closers = [world.runtime.start(world.transport.aclose(grace=100.0)) for _ in range(2)]
    world.runtime.advance(3.0)
    world.runtime.streams[0].feed(b"hi")
    assert world.runtime.run(held.aread()) == b"hi"
    world.runtime.run_until_idle()
    assert all(task.done for task in closers)
