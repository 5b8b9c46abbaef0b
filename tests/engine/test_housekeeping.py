"""Keeping house for a transport that nobody uses: after a failure, for one that was collected, in a child, at exit."""

from __future__ import annotations

import gc
import itertools
import logging

import pytest

from pooltransport import ClientTrace, Request
from pooltransport.engine import housekeeping
from pooltransport.errors import UnclosedResponseWarning, UnclosedTransportWarning
from pooltransport.testing.fakes import Answers, FakeRuntime, FakeTransport, Stuck
from tests.engine.scenarios import OK, OTHER, URL
from tests.support.scripts import run_script

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"


async def fetch(transport):
    async with await transport.round_trip(Request("GET", URL)) as response:
        return await response.aread()


def test_a_failure_is_logged_and_the_house_is_kept_on(make_world, caplog):
    world = make_world(Answers(OK), runtime={"idle_events": False})
    world.runtime.run(world.get())
    (stream,) = world.runtime.streams
    looks = []

    def broken():
        looks.append(world.runtime.now())
        raise ZeroDivisionError("made up")

    stream.hung_up = broken
    with caplog.at_level(logging.ERROR, "pooltransport.pool"):
        world.runtime.advance(2.5)
    assert [record.getMessage() for record in caplog.records] == ["keeping house failed"] * len(looks)
    assert all(isinstance(record.exc_info[1], ZeroDivisionError) for record in caplog.records)
    assert [b - a for a, b in itertools.pairwise(looks)] == pytest.approx([1.0] * (len(looks) - 1))
    assert len(looks) >= 2
    del stream.hung_up
    stream.end()
    world.runtime.advance(1.0)
    assert world.transport.stats().closed == {"server_closed_idle": 1}


def test_a_transport_that_was_collected_is_watched_no_more(caplog):
    runtime = FakeRuntime(Answers(OK))
    transport = FakeTransport(runtime)

    async def for_ever():
        await runtime.wait("for ever", lambda: False, None)

    runtime.run(fetch(transport))
    runtime.advance(5.0)
    with pytest.warns(UnclosedTransportWarning, match="FakeTransport"):  # noqa: PT031 - any thread may say it
        del transport
        gc.collect()
        runtime.run_until_idle()  # its connection is closed, and nothing refers to its books any more
        gc.collect()
        runtime.advance(5.0)
    assert runtime.open_streams == []
    with pytest.raises(Stuck):  # no look is due
        runtime.run(for_ever())
    assert caplog.records == []


def test_a_child_process_starts_with_nothing(make_world):
    worlds = [make_world(Answers(OK), runtime={"idle_events": False}) for _ in range(2)]
    for world in worlds:
        world.runtime.run(world.get())
        world.runtime.advance(0.5)
    housekeeping.after_fork()
    for world in worlds:
        assert world.transport.stats().open == 0
        assert world.runtime.open_streams == []
        assert world.runtime.run(world.get()) == b"hi"
        assert len(world.runtime.streams) == 2


def test_the_parents_keeper_does_not_look_after_the_child(make_world):
    world = make_world(Answers(OK), runtime={"idle_events": False})
    world.runtime.run(world.get())
    world.runtime.advance(0.5)
    housekeeping.after_fork()
    world.runtime.run(world.get())
    began, looks = world.runtime.now(), []
    world.runtime.streams[1].hung_up = lambda: looks.append(world.runtime.now() - began)
    world.runtime.advance(3.25)
    assert looks[-3:] == pytest.approx([1.0, 2.0, 3.0])


def test_at_the_end_everything_is_said(make_world):
    """That of transports which live, and of those which were dropped."""
    told = []
    world = make_world(Answers(HEAD), trace=ClientTrace(leaked=lambda report: told.append(report.origin)))
    response = world.runtime.run(world.transport.round_trip(Request("GET", OTHER)))
    dropped = FakeTransport(FakeRuntime(Answers(OK)))
    dropped.runtime.run(fetch(dropped))
    runtime = dropped.runtime
    kinds = (UnclosedResponseWarning, UnclosedTransportWarning)
    with pytest.warns(kinds) as caught:  # noqa: PT031 - any thread may say the second
        del response, dropped
        gc.collect()
        assert told == []
        housekeeping.at_exit()
    assert told == ["http://192.0.2.2:80"]
    assert {warning.category for warning in caught} == set(kinds)
    runtime.run_until_idle()
    assert runtime.open_streams == []


def test_at_the_end_of_a_process_without_any_transport_left(tmp_path):
    script = """
    import gc
    from pooltransport import Request
    from pooltransport.testing.fakes import Answers, FakeRuntime, FakeTransport

    async def fetch(transport):
        async with await transport.round_trip(Request("GET", "http://192.0.2.1/")) as response:
            return await response.aread()

    runtime = FakeRuntime(Answers(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nhi"))
    runtime.run(fetch(FakeTransport(runtime)))
    gc.collect()
    runtime.run_until_idle()
    gc.collect()
    print("the end", flush=True)
    """
    done = run_script(tmp_path / "script.py", script, flags=("-W", "always"))
    assert done.stdout == "the end\n"
    assert "UnclosedTransportWarning" in done.stderr
