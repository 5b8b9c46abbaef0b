"""Observers see every request, dial and closed connection of the process, and break none."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading

import pytest

import pooltransport as pt
from pooltransport import observers
from pooltransport.observers import Closed, Dialed, Observer, Recorder
from tests.support.colours import run_colour
from tests.support.responders import ok, slow


class Following(Recorder):
    hooks = True

    def __init__(self, told, request):
        self.told = told
        self.told.append(("begin", request.url.target.decode()))

    def got_conn(self, info):
        self.told.append(("got_conn", info.reused))

    def answered(self, response):
        self.told.append(("answered", response.status_code))

    def failed(self, error):
        self.told.append(("failed", type(error).__name__))


class Watching(Observer):
    def __init__(self):
        self.requests, self.dials, self.closes = [], [], []

    def begin(self, request, options):
        return Following(self.requests, request)

    def dialed(self, dial, options):
        self.dials.append((dial, options.name))

    def closed(self, conn, options):
        self.closes.append((conn, options.name))


@pytest.fixture
def watching():
    observer = Watching()
    observers.add(observer)
    yield observer
    observers.remove(observer)
    assert observers.anybody == ()


def test_requests_dials_and_ends(colour, watching, server_factory):
    server = server_factory(ok())

    async def body(c):
        await c.fetch(server.url + "/a")
        await c.fetch(server.url + "/b")
        with pytest.raises(pt.ConnectError):
            await c.fetch("http://127.0.0.1:1/c")
        c.transport.close_idle_connections()
        await c.wait_until(lambda: not c.transport.stats().open)
        c.transport.stats()  # a safe point

    run_colour(colour, body, name="mine")
    assert watching.requests == [
        *(("begin", "/a"), ("got_conn", False), ("answered", 200)),
        *(("begin", "/b"), ("got_conn", True), ("answered", 200)),
        *(("begin", "/c"), ("failed", "ConnectError")),
    ]
    (dialed, _), (failed, name) = watching.dials
    assert isinstance(dialed, Dialed)
    assert (dialed.host.host, dialed.host.port, dialed.error, dialed.name) == ("127.0.0.1", server.port, None, None)
    assert [phase for phase, _ in dialed.phases] == ["connect"]
    assert 0 < dict(dialed.phases)["connect"] <= dialed.seconds < 5
    assert (failed.error, failed.host.port, name) == ("connection_refused", 1, "mine")
    ((closed, name),) = watching.closes
    assert isinstance(closed, Closed)
    assert (closed.host, closed.requests, name) == (dialed.host, 2, "mine")


def test_the_phases_of_a_dial_with_look_up_and_tls(
    colour, watching, server_factory, server_ssl_context, client_ssl_context
):
    server = server_factory(ok(), tls=server_ssl_context)

    async def body(c):
        await c.fetch(f"https://localhost:{server.port}/")
        c.transport.stats()

    run_colour(colour, body, ssl_context=client_ssl_context)
    ((dialed, _),) = watching.dials
    assert dialed.name == "localhost"
    assert {phase for phase, _ in dialed.phases} == {"dns", "connect", "tls"}
    assert sum(seconds for _, seconds in dialed.phases) == pytest.approx(dialed.seconds, abs=1.0)


def test_a_cancelled_request_has_failed(loop_colour, watching, server_factory):
    server = server_factory(slow(threading.Event()))

    async def body(c):
        handle = await c.start(lambda: c.get(server.url))
        await c.wait_until(lambda: server.requests == 1)
        handle.cancel()
        await c.wait_until(lambda: handle.done)

    run_colour(loop_colour, body)
    assert watching.requests[-1][0] == "failed"


def test_an_observer_that_raises_breaks_nothing_and_is_logged_once(colour, server_factory, caplog):
    server = server_factory(ok())

    class Raising(Observer):
        def begin(self, request, options):
            raise ValueError("at the beginning")

        def dialed(self, dial, options):
            raise ValueError("of a dial")

        closed = dialed

    class Late(Observer):
        def begin(self, request, options):
            recorder = Recorder()
            return recorder if request.url.target == b"/" else Following(None, request)

    for kind in (Raising, Late):
        kind.__qualname__ += colour  # of each kind it is logged once in a process
    broken = [Raising(), Late()]
    for observer in broken:
        observers.add(observer)

    async def body(c):
        for path in ("/", "/again"):
            assert await c.fetch(server.url + path) == b"hello"
        c.transport.stats()

    try:
        with caplog.at_level(logging.WARNING, "pooltransport.pool"):
            run_colour(colour, body)
    finally:
        for observer in broken:
            observers.remove(observer)
    kinds = [record.message.partition(" raised")[0].rpartition(".")[2] for record in caplog.records]
    assert sorted(kinds) == [f"Late{colour}", f"Raising{colour}"]


def test_who_is_added_and_removed_by_many_threads_is_lost_nowhere():
    mine = [[Observer() for _ in range(50)] for _ in range(4)]

    def work(some):
        for observer in some:
            observers.add(observer)
        for observer in some[::2]:
            observers.remove(observer)

    threads = [threading.Thread(target=work, args=(some,)) for some in mine]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = {observer for some in mine for observer in some[1::2]}
    assert set(observers.anybody) == kept
    for observer in kept:
        observers.remove(observer)


def test_without_observers_nothing_of_theirs_runs(server_factory, monkeypatch):
    server = server_factory(ok())
    monkeypatch.setattr(observers, "watching", None)
    monkeypatch.setattr(observers, "tell", None)
    with pt.Transport() as transport:
        pt.Client(transport=transport).get(server.url)


def test_a_child_process_finds_no_lock_of_the_exporters_held():
    """A thread of the parent is in the middle of a scrape while it forks."""
    code = """
import os, sys, threading
from pooltransport.observe.forks import ProcessLock
from pooltransport.observe.hosts import Hosts

began = []
lock = ProcessLock(lambda: began.append(os.getpid()))
held, go = threading.Event(), threading.Event()

def hold():
    with lock:
        held.set()
        go.wait()

thread = threading.Thread(target=hold)
thread.start()
held.wait()
child = os.fork()
if child == 0:
    with lock:
        os._exit(began == [os.getpid()])
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
go.set()
thread.join()
with lock:
    assert began == []
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], timeout=30, check=True)
