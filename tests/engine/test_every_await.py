"""Every await point of the engine, one by one, ended by a cancellation, a second one, a timeout, an I/O error.

Each time every slot must come back (design 2.3): no gauge in use, no socket but the idle ones, the next GET 200.
"""

from __future__ import annotations

import pytest

from pooltransport.errors import TransportError
from pooltransport.runtime.protocols import Expired
from pooltransport.testing.fakes import Cancelled
from tests.engine import scenarios

STREAM_LEAVES = {"connect", "open", "start_tls", "send", "receive"}
GAUGES = ("active", "dialing", "draining", "upgraded", "closing", "waiting", "leases")


class Injection:
    """A fault at the `number`-th await point of the world; with `twice`, at the same task's next one as well."""

    def __init__(self, number, make, *, twice=False):
        self.number = number
        self.make = make
        self.twice = twice
        self.seen = []
        self.victim = None
        self.hits = 0

    def __call__(self, point):
        self.seen.append(point)
        if len(self.seen) == self.number:
            self.victim = point.task
        elif not (self.twice and self.hits == 1 and point.task == self.victim):
            return None
        self.hits += 1
        return self.make()


def play(scenario, number=0, make=Cancelled, *, twice=False):
    """Run the scenario with one injection (none for 0); return the world and the injection."""
    world = scenario()
    injection = Injection(number, make, twice=twice)
    world.runtime.fault = injection
    world.runtime.run_until_idle()
    world.runtime.fault = None
    answers = world.runtime.on_dial = world.next_peer
    for stream in world.runtime.open_streams:
        # A tunnel's peer knows what was said before, and goes on by itself.
        if all(task.done for task in world.callers) and isinstance(answers, scenarios.Answers):
            answers.serve(stream)
    for dial in world.runtime.dials:
        if dial.pending:
            answers(dial)
    # Enough for every clock of a drain; far less than any other: nobody may be left to time out.
    world.runtime.advance(1.5)
    return world, injection


def check(world):
    """Nothing is lost, and the next request is served."""
    assert [task for task in world.callers if not task.done] == []
    unexpected = [t.error for t in world.callers if isinstance(t.error, (AssertionError, TypeError, AttributeError))]
    assert unexpected == []
    if world.ends:
        world.runtime.run(world.transport.aclose())
    check_books(world)
    if world.ends:
        assert world.runtime.open_streams == []
        return
    assert world.runtime.run(next_status(world)) == 200
    check_books(world)
    world.runtime.run(world.transport.aclose())
    assert world.runtime.open_streams == []
    assert [task for task in world.runtime.tasks if not task.done] == []


def check_books(world):
    world.transport.check()
    stats = world.transport.stats()
    assert {name: getattr(stats, name) for name in GAUGES} == dict.fromkeys(GAUGES, 0)
    assert len(world.runtime.open_streams) == stats.idle
    assert (stats.leaks, stats.rebuilds, stats.hook_errors) == (0, 0, 0)


async def next_status(world):
    request = scenarios.Request("GET", world.next_url)
    async with await world.transport.round_trip(request) as response:
        await response.aread()
        return response.status_code


def points_of(scenario):
    """Return the await points of an undisturbed run, which must succeed."""
    world, injection = play(scenario)
    if not world.ends:
        assert [task.error for task in world.callers] == [None] * len(world.callers)
    check(world)
    return injection.seen


FAULTS = {
    "cancelled": (Cancelled, False, lambda point: point.task != "peer"),
    "cancelled twice": (Cancelled, True, lambda point: point.task != "peer"),
    "expired": (Expired, False, lambda point: point.at is not None),
    "io error": (lambda: ConnectionResetError(104, "injected"), False, lambda point: point.kind in STREAM_LEAVES),
}

# How many points there were when this was written, less a few: so that the test cannot shrink unseen.
FLOORS = {"cancelled": 690, "cancelled twice": 690, "expired": 530, "io error": 490}


@pytest.mark.parametrize("scenario", scenarios.ALL, ids=lambda scenario: scenario.__name__)
@pytest.mark.parametrize("fault", FAULTS)
def test_every_await_point(scenario, fault):
    make, twice, fits = FAULTS[fault]
    failures = []
    for number, point in enumerate(points_of(scenario), start=1):
        if fits(point):
            world, injection = play(scenario, number, make, twice=twice)
            try:
                assert injection.hits >= 1, "the run is not deterministic"
                check(world)
            except (AssertionError, TransportError) as error:
                failures.append(f"point {number} {point}: {str(error).splitlines()[0]}")
                world.runtime.run(world.transport.aclose())
    assert failures == []


@pytest.mark.parametrize("fault", FAULTS)
def test_there_are_as_many_points_as_ever(fault):
    fits = FAULTS[fault][2]
    assert sum(fits(point) for scenario in scenarios.ALL for point in points_of(scenario)) >= FLOORS[fault]


def test_the_second_cancellation_hits_a_clean_up():
    scenario = scenarios.upload
    seen = points_of(scenario)
    hits = []
    for number in range(1, len(seen) + 1):
        world, injection = play(scenario, number, Cancelled, twice=True)
        hits.append(injection.hits)
        check(world)
    assert hits.count(2) >= 3
