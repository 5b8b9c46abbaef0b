"""What lives in this process, and what is kept of what is gone."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import types

import pytest

import pooltransport as pt
from pooltransport import census
from pooltransport.core.pool import Limits, Pool
from pooltransport.stats import AcquireFailure
from tests.support.responders import ok


class Ledger:
    """What counts for a transport; it may outlive it."""

    def __init__(self):
        self.pool = Pool(Limits(), host_of=lambda key: key)
        census.keep(self, "made-up", self.pool.counts, self.pool.forgotten)

    def check_process(self):
        pass

    def snapshot(self):
        return self.pool.stats()


class Transport:
    options = types.SimpleNamespace(name="made-up")

    def __init__(self, ledger):
        self.ledger = ledger
        census.transport_made(self, "made up", ledger)

    def stats(self):
        return self.ledger.snapshot()


def counted():
    return sum(stats.acquire_failures["cancelled"] for stats in census.process_stats())


def test_counters_do_not_go_down_while_a_ledger_outlives_its_transport():
    before = counted()
    ledger = Ledger()
    transport = Transport(ledger)
    ledger.pool.note_failure("host", AcquireFailure.CANCELLED)
    assert counted() == before + 1
    del transport
    assert counted() == before + 1
    del ledger
    gc.collect()
    assert counted() == before + 1


def test_what_goes_while_somebody_looks_is_counted_once():
    """The last reference to a transport is dropped by another thread while its statistics are asked for."""
    before = counted()

    class Going(Transport):
        def stats(self):
            made.clear()
            gc.collect()
            return super().stats()

    made = [Going(Ledger())]
    made[0].ledger.pool.note_failure("host", AcquireFailure.CANCELLED)
    assert counted() == before + 1
    assert not made
    assert counted() == before + 1


def test_many_ask_at_once_while_transports_come_and_go():
    before = counted()
    stop, seen, errors = threading.Event(), [], []

    def look():
        last = before
        try:
            while not stop.is_set():
                now = counted()
                assert now >= last
                last = now
            seen.append(last)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(150):
        transport = Transport(Ledger())
        transport.ledger.pool.note_failure("host", AcquireFailure.CANCELLED)
    del transport
    stop.set()
    for thread in threads:
        thread.join(20)
    assert errors == []
    assert counted() == before + 150


def test_hook_errors_are_kept(server_factory):
    server = server_factory(ok())

    def errors():
        return sum(stats.hook_errors_by_hook.get("wrote_headers", 0) for stats in census.process_stats())

    before = errors()
    with pt.Transport(trace=pt.ClientTrace(wrote_headers=lambda _: 1 / 0)) as transport:
        pt.Client(transport=transport).get(server.url)
    assert errors() == before + 1
    del transport
    gc.collect()
    assert errors() == before + 1


@pytest.mark.filterwarnings("ignore:unclosed Transport with:ResourceWarning")
def test_transports_that_were_dropped_with_connections_are_counted(server_factory):
    server = server_factory(ok())
    before = census.dropped()
    transport = pt.Transport()
    pt.Client(transport=transport).get(server.url)
    del transport
    gc.collect()
    assert census.dropped() == before + 1
    with pt.Transport() as other:
        other.stats()  # a safe point: it is said in this test


def test_a_transport_that_raises_is_left_out_and_told():
    class Broken(Transport):
        broken = True

        def stats(self):
            if self.broken:
                raise RuntimeError("on purpose")
            return super().stats()

    transport, told = Broken(Ledger()), []
    with pytest.raises(RuntimeError, match="on purpose"):
        census.process_stats()
    census.process_stats(lambda *args: told.append(args))
    assert [(who, str(error)) for who, error in told] == [(transport, "on purpose")]
    transport.broken = False


def test_a_child_process_begins_with_nothing():
    code = """
import os, warnings
warnings.simplefilter("ignore")
import pooltransport as pt
from pooltransport import census
transport = pt.Transport()
try:
    pt.Client(transport=transport).get("http://127.0.0.1:1/")
except pt.ConnectError:
    pass
count = lambda: sum(sum(stats.acquire_failures.values()) for stats in census.process_stats())
assert count() == 1
if os.fork() == 0:
    os._exit(count() + census.clients().created)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0, "the child counts what was its parent's"
"""
    subprocess.run([sys.executable, "-c", code], timeout=30, check=True)
