"""Who is named when no connection becomes free."""

from __future__ import annotations

import pytest

from pooltransport import Request, Timeout
from pooltransport.errors import PoolTimeout
from pooltransport.testing.fakes import Answers
from tests.engine.scenarios import OTHER, URL

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"


@pytest.mark.parametrize(
    ("options", "scope", "limit", "holders"),
    [({"max_conns_per_host": 1}, "per_host", 1, [1]), ({"max_conns": 2}, "total", 2, [1, 1])],
)
def test_only_those_who_hold_what_is_waited_for(make_world, options, scope, limit, holders):
    world = make_world(Answers(HEAD), **options)
    other = world.runtime.run(world.transport.round_trip(Request("GET", OTHER)))
    world.runtime.clock.advance(5.0)
    mine = world.runtime.run(world.transport.round_trip(Request("GET", URL)))
    with pytest.raises(PoolTimeout) as caught:
        world.runtime.run(world.get(timeout=Timeout(acquire=1.0)))
    error = caught.value
    assert (error.limit_scope, error.limit) == (scope, limit)
    assert [count for _, count, _ in error.holders] == holders
    # The other host's is older: it would come first.
    ages = [round(age) for _, _, age in error.holders]
    assert ages == ([1] if scope == "per_host" else [6, 1])
    assert f"{limit} of {limit} in use, 1 waiting; 1 held since up to {ages[0]} s" in str(error)
    for response in (mine, other):
        world.runtime.run(response.aclose())
