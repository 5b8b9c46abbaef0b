"""The clock that goes on while the machine is suspended, and who is told. The clocks of requests: test_timeouts."""

from __future__ import annotations

import runpy
import sys
import time

import pytest

from pooltransport.engine import clocks
from pooltransport.testing.fakes import Answers
from tests.engine.scenarios import OK


@pytest.mark.parametrize(("platform", "clock"), [("linux", "CLOCK_BOOTTIME"), ("darwin", "CLOCK_MONOTONIC")])
class TestSecondsAsleep:
    def test_where_there_is_no_such_clock(self, monkeypatch, platform, clock):
        monkeypatch.setattr(sys, "platform", platform)
        monkeypatch.delattr(time, clock)
        assert runpy.run_path(clocks.__file__)["seconds_asleep"]() == 0.0

    def test_the_clock_of_the_platform(self, monkeypatch, platform, clock):
        monkeypatch.setattr(sys, "platform", platform)
        monkeypatch.setattr(time, clock, -5, raising=False)
        monkeypatch.setattr(time, "clock_gettime", {-5: 1_000_300.0}.__getitem__)
        monkeypatch.setattr(time, "monotonic", lambda: 1_000_000.0)
        assert runpy.run_path(clocks.__file__)["seconds_asleep"]() == 300.0


class TestASuspendedMachine:
    @pytest.mark.parametrize(("asleep", "dials"), [(8.9, 1), (9.1, 2)])
    def test_ages_what_is_idle(self, make_world, asleep, dials):
        world = make_world(Answers(OK), idle_conn_timeout=10.0)
        world.runtime.run(world.get())
        world.runtime.clock.advance(1.0)
        world.runtime.seconds_asleep += asleep
        assert world.runtime.run(world.get()) == b"hi"
        assert len(world.runtime.dials) == dials

    def test_counts_once(self, make_world):
        world = make_world(Answers(OK), idle_conn_timeout=10.0)
        world.runtime.run(world.get())
        for _ in range(3):
            world.runtime.seconds_asleep += 6.0
            world.runtime.run(world.get())
        assert len(world.runtime.dials) == 1

    def test_a_nap_is_none(self, make_world):
        world = make_world(Answers(OK), idle_conn_timeout=10.0)
        world.runtime.run(world.get())
        world.runtime.clock.advance(9.95)
        world.runtime.seconds_asleep += 0.09
        world.runtime.run(world.get())
        assert len(world.runtime.dials) == 1
