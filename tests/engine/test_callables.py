"""A ``dial=`` callable that comes back when nobody waits for it any more, stepped by hand."""

from __future__ import annotations

import functools
import socket

import pytest

from pooltransport import Request
from pooltransport.engine.callables import is_coroutine_function
from pooltransport.errors import TransportClosed
from pooltransport.testing.fakes import FakeRuntime, FakeTransport


class Abandoning(FakeRuntime):
    """What may block runs in a thread that the test is: `late` are the calls, none of which is waited for any more."""

    def __init__(self, **options):
        super().__init__(**options)
        self.late = []

    async def run_blocking(self, fn, *, abandon=False):
        assert abandon
        self.late.append(fn)
        await self.wait("run_blocking", lambda: False, None)


def abandon(dial):
    """Return what a thread calls whose dial was aborted meanwhile."""
    runtime = Abandoning()
    transport = FakeTransport(runtime, dial=dial)
    task = runtime.start(transport.round_trip(Request("GET", "http://a.test/")))
    runtime.run_until_idle()
    runtime.run(transport.aclose())
    with pytest.raises(TransportClosed):
        task.outcome()
    assert transport.stats().dialing == 0
    (call,) = runtime.late
    return call


def test_the_socket_that_comes_too_late_is_closed():
    ours, theirs = socket.socketpair()
    with theirs:
        call = abandon(lambda request: ours)
        assert ours.fileno() >= 0
        call()
        assert ours.fileno() == -1


@pytest.mark.parametrize("made", [None, "text", 3])
def test_nonsense_that_comes_too_late_is_nobodys(made):
    asked = []

    def dial(request):
        asked.append(request.host)
        return made

    abandon(dial)()  # raises nothing in its thread
    assert asked == ["a.test"]


class Blocking:
    def __call__(self):
        raise NotImplementedError

    def method(self):
        raise NotImplementedError


class Waiting:
    async def __call__(self):
        raise NotImplementedError

    async def method(self):
        raise NotImplementedError


@pytest.mark.parametrize(("kind", "expected"), [(Blocking, False), (Waiting, True)])
def test_what_is_a_coroutine_function(kind, expected):
    thing = kind()
    for function in (thing, thing.method, kind.method, functools.partial(kind.method, thing)):
        assert is_coroutine_function(function) is expected
    assert is_coroutine_function(print) is False
    assert is_coroutine_function(None) is False
