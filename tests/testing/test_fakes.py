"""The fakes keep their own promises: deterministic, no time but what is given, every leaf an await point."""

from __future__ import annotations

import pytest

from pooltransport import Request
from pooltransport.testing.fakes import Answers, Cancelled, FakeRuntime, FakeTransport, Stuck

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


async def get(transport):
    async with await transport.round_trip(Request("GET", "http://192.0.2.1/")) as response:
        return await response.aread()


def test_the_example_of_the_module():
    runtime = FakeRuntime(on_dial=Answers(OK))
    transport = FakeTransport(runtime, max_conns_per_host=1)
    before = runtime.now()
    assert runtime.run(get(transport)) == b"hi"
    assert runtime.now() == before
    transport.check()
    runtime.run(transport.aclose())


def test_two_runs_are_the_same():
    def points():
        seen = []
        runtime = FakeRuntime(on_dial=Answers(OK))
        runtime.fault = seen.append
        transport = FakeTransport(runtime)
        runtime.start(get(transport))
        runtime.run(get(transport))
        runtime.run(transport.aclose())
        return seen

    assert points() == points()


def test_time_goes_moment_by_moment():
    runtime = FakeRuntime()
    woke = []

    async def sleeper(seconds):
        await runtime.sleep(seconds)
        woke.append((seconds, runtime.now() - began))

    began = runtime.now()
    for seconds in (3.0, 1.0, 2.0):
        runtime.start(sleeper(seconds))
    runtime.advance(2.5)
    assert woke == [(1.0, 1.0), (2.0, 2.0)]
    assert runtime.now() - began == 2.5
    runtime.advance(1.0)
    assert woke[-1] == (3.0, 3.0)


def test_stuck_says_what_is_waited_for():
    runtime = FakeRuntime()
    with pytest.raises(Stuck, match="main waits for latch"):
        runtime.run(runtime.new_latch().wait(None))


def test_a_task_cancelled_before_its_first_step_never_runs():
    runtime = FakeRuntime()
    ran = []

    async def body():
        ran.append(1)

    task = runtime.start(body())
    task.cancel()
    runtime.run_until_idle()
    assert isinstance(task.error, Cancelled)
    assert ran == []


def test_a_stream_nobody_accounts_for_is_found():
    runtime = FakeRuntime(on_dial=Answers(OK))
    transport = FakeTransport(runtime)
    runtime.run(get(transport))
    transport.check()
    runtime.on_dial = None
    stray = runtime.start(runtime.connect(*_nowhere()))
    runtime.run_until_idle()
    runtime.dials[-1].accept()
    runtime.run_until_idle()
    assert stray.done
    with pytest.raises(AssertionError, match="in nobody's books"):
        transport.check()
    runtime.run(transport.aclose())


def _nowhere():
    from pooltransport.runtime.protocols import Address, SocketOptions

    address = Address(2, ("192.0.2.7", 80), "192.0.2.7:80")
    return address, SocketOptions(None, keepalive=None, extra=()), None, lambda stream: None
