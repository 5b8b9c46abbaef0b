"""Blocking code drives the engine by a single step."""

from __future__ import annotations

import pytest

from pooltransport.engine.sync import run_sync
from pooltransport.testing.fakes import FakeRuntime


def test_a_result():
    async def answer():
        return 42

    assert run_sync(answer()) == 42


def test_an_error():
    async def fail():
        raise LookupError("made up")

    with pytest.raises(LookupError, match="made up"):
        run_sync(fail())


def test_one_that_suspends_is_refused_and_closed():
    ends = []

    async def sleepy():
        try:
            await FakeRuntime().sleep(1.0)
        finally:
            ends.append("closed")

    coro = sleepy()  # kept: collecting it would close it as well
    with pytest.raises(RuntimeError, match="sleepy.* suspended: its runtime is not a blocking one"):
        run_sync(coro)
    assert ends == ["closed"]
