"""What the engine remembers, what a request does first, and decisions that are overtaken before they are done."""

from __future__ import annotations

import gc
import os

import pytest

from pooltransport import ClientTrace, Request, Timeout
from pooltransport.engine.engine import Engine
from pooltransport.errors import ReadError, TransportClosed, UnclosedResponseWarning
from pooltransport.options import TransportOptions
from pooltransport.testing.fakes import Answers, FakeRuntime
from tests.engine.scenarios import OK, OTHER, TLS, URL

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"


class TestMemory:
    """It is bounded; what was forgotten is made again, and the same."""

    def test_settings(self):
        engine = Engine(TransportOptions(), "off")
        first = Timeout(1.0, read=2.0)
        settings = engine.settings_of(first)
        assert engine.settings_of(Timeout(1.0, read=2.0)) is settings
        for number in range(255):
            engine.settings_of(Timeout(10.0 + number))
        assert engine.settings_of(first) is settings
        engine.settings_of(Timeout(9.0))
        assert engine.settings_of(first) is not settings
        assert engine.settings_of(first) == settings

    def test_keys(self):
        runtime = FakeRuntime()
        engine = Engine(TransportOptions(proxy=None), "off")
        first = Request("GET", URL)
        key = engine.key_for(first, runtime)
        assert engine.key_for(Request("GET", URL + "path"), runtime) is key
        for port in range(1, 10_000):
            engine.key_for(Request("GET", f"http://a.test:{port}/"), runtime)
        assert engine.key_for(first, runtime) is key
        engine.key_for(Request("GET", OTHER), runtime)
        assert engine.key_for(first, runtime) is not key
        assert engine.key_for(first, runtime).parts == key.parts


class TestFirstOfAll:
    def test_a_child_process_is_noticed_without_hooks(self, make_world, monkeypatch):
        """uWSGI forks in C, and runs none of Python's hooks."""
        world = make_world(Answers(OK))
        world.runtime.run(world.get())
        pid = os.getpid()
        monkeypatch.setattr(os, "getpid", lambda: pid + 1)
        assert world.runtime.run(world.get()) == b"hi"
        assert [stream.is_open for stream in world.runtime.streams] == [False, True]
        assert world.transport.stats().acquired == {"reused": 0, "dialed": 1, "handed_over": 0}

    def test_what_finalizers_left_is_said(self, make_world):
        world = make_world(Answers(HEAD, OK))
        told = []
        trace = ClientTrace(leaked=lambda report: told.append("leaked"))
        response = world.runtime.run(world.transport.round_trip(Request("GET", URL, trace=trace)))
        del response
        gc.collect()
        assert told == []
        with pytest.warns(UnclosedResponseWarning):
            world.runtime.run(world.get(trace=ClientTrace(get_conn=told.append)))
        assert told == ["leaked", "192.0.2.1:80"]


def test_the_source_of_an_upload_is_no_error_of_its_connection(make_world):
    """A relay: what broke is another connection, and the caller is told of that one."""
    world = make_world(Answers(OK))

    async def relay():
        yield b"first"
        raise ReadError("the other one broke")

    with pytest.raises(ReadError, match="^the other one broke"):
        world.runtime.run(world.transport.round_trip(Request("POST", URL, content=relay())))
    assert world.transport.stats().closed == {"bad_state": 1}


class TestOvertaken:
    """Closing an expired connection tells a hook, and the hook does something before the dial that was
    decided together with it begins. Other threads may do so at any time.
    """

    @pytest.fixture
    def ask(self, make_world):
        """Make a world with idle connections, let them expire unseen, and send a request that finds it out."""

        def make(url, hook, *answers, held=0, **options):
            hooks = []
            trace = ClientTrace(conn_closed=lambda info: hooks and hooks.pop()(world, responses))
            world = make_world(Answers(*answers), trace=trace, **options)
            world.runtime.run(world.transport.warm(url, held + 1))
            requests = [world.transport.round_trip(Request("GET", url)) for _ in range(held)]
            responses = [world.runtime.run(request) for request in requests]
            world.runtime.clock.advance(91.0)
            hooks.append(hook)
            task = world.runtime.start(world.get(url))
            task.turn()
            assert hooks == []
            return world, task

        return make

    def test_the_transport_is_closed(self, ask):
        def close(world, responses):
            world.runtime.start(world.transport.aclose()).turn()

        world, task = ask(URL, close, OK)
        world.runtime.run_until_idle()
        assert isinstance(task.error, TransportClosed)
        assert len(world.runtime.dials) == 1  # that of the one which expired
        stats = world.transport.stats()
        assert (stats.open, stats.dialing, stats.closing) == (0, 0, 0)

    def test_another_connection_comes_back(self, ask):
        """The dial goes on for nobody, and so by the transport's own clocks."""

        def give_back(world, responses):
            world.runtime.on_dial = lambda dial: setattr(dial.accept(), "hold_tls", True)
            for stream in world.runtime.open_streams:
                stream.feed(b"hi")
            reading = world.runtime.start(responses[0].aread())
            while not reading.done:
                reading.turn()

        url, options = "https://192.0.2.1/", {"ssl_context": TLS, "tls_handshake_timeout": 3.0}
        world, task = ask(url, give_back, HEAD, OK, held=1, **options)
        world.runtime.run_until_idle()
        assert task.outcome() == b"hi"
        stats = world.transport.stats()
        assert (stats.idle, stats.dialing, stats.acquired["handed_over"]) == (1, 1, 1)
        world.runtime.advance(2.9)
        assert world.transport.stats().dialing == 1
        world.runtime.advance(0.2)
        stats = world.transport.stats()
        assert (stats.idle, stats.dialing, stats.dial_errors) == (1, 0, 1)
