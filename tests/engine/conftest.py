"""What the tests of the engine share: worlds that are closed after the test."""

from __future__ import annotations

import pytest

from tests.engine.bench import Bench
from tests.engine.scenarios import World


@pytest.fixture
def make_world():
    """Make a `World`; after the test the transport is closed, and nothing may be left."""
    worlds = []

    def make(*args, **options):
        worlds.append(World(*args, **options))
        return worlds[-1]

    yield make
    for world in worlds:
        world.transport.check()
        world.runtime.run(world.transport.aclose())
        world.transport.check()
        assert world.runtime.open_streams == []
        assert world.transport.stats().dialing == 0


@pytest.fixture
def make_bench():
    """Make a `Bench`; after the test it ends."""
    made = []

    def make(*answers, **options):
        made.append(Bench(*answers, **options))
        return made[-1]

    yield make
    for bench in made:
        bench.end()
