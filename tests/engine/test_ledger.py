"""Accidents: calls that are cut off, responses dropped anywhere, loops that are gone, processes that fork.

On a `Bench`, so that the ledger can be told things. What is dropped is dropped by its last reference.
"""

from __future__ import annotations

import sys
import threading
import warnings
from typing import NamedTuple

import pytest

from pooltransport import Request
from pooltransport.core.pool import Limits, PoolClosedError, Waiter
from pooltransport.engine.ledger import Ledger
from pooltransport.errors import ConnectError, UnclosedResponseWarning, UnclosedTransportWarning
from pooltransport.lease import Watch
from pooltransport.options import TransportOptions
from pooltransport.stats import CloseReason
from pooltransport.testing.fakes import Answers, FakeRuntime
from tests.engine.bench import SLOW
from tests.engine.scenarios import OTHER, URL
from tests.engine.told import Told

DONE = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
BUFFERED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"


class Interrupting:
    """A reason, or a key, whose first use in a table is where the user's Ctrl-C lands."""

    value = "read_error"
    interrupted = False

    def __hash__(self):
        if not self.interrupted:
            self.interrupted = True
            raise KeyboardInterrupt
        return hash(self.value)


class Dropping:
    """A key, or a host, that has the bench's bodies dropped when it is looked at: as the collector may, anywhere."""

    def __init__(self, bench):
        self.bench = bench

    def __hash__(self):
        self.bench.drop()
        return 1

    def __eq__(self, other):
        return self is other


class Name:
    """A host that has bodies dropped when its name is asked for."""

    def __init__(self, bench):
        self.bench = bench

    def __str__(self):
        self.bench.drop()
        return "name"


class Key(NamedTuple):
    """The least that a key has."""

    host: str


def only_conn(bench):
    ((conn, _, _),) = bench.ledger.pool.conns()
    return conn


class TestCutOff:
    def test_what_was_decided_is_done(self, make_bench):
        """The connection is closed, and its slot goes to who waits for it."""
        bench = make_bench(SLOW, DONE, max_conns_per_host=1)
        bench.open()
        waiting = bench.runtime.start(bench.engine.round_trip(Request("GET", URL), lambda: bench.runtime))
        bench.runtime.run_until_idle()
        with pytest.raises(KeyboardInterrupt):
            bench.ledger.apply(bench.ledger.pool.remove, only_conn(bench), Interrupting())
        assert not bench.runtime.streams[0].is_open
        bench.runtime.run_until_idle()
        head, _, _ = waiting.outcome()
        assert head.status == 200
        assert len(bench.runtime.streams) == 2
        assert bench.stats.rebuilds == 1

    def test_while_taking(self, make_bench):
        """What could not be said then, here of another call that was cut off, is said at the next check-out."""
        bench = make_bench()
        bench.open()
        with pytest.raises(KeyboardInterrupt):
            bench.ledger.note(bench.ledger.pool.remove, only_conn(bench), Interrupting())
        with pytest.raises(KeyboardInterrupt):
            bench.ledger.take(Interrupting(), bench.runtime.now())
        assert bench.runtime.streams[0].is_open
        assert bench.ledger.take(Key("h"), bench.runtime.now()) is None
        bench.runtime.run_until_idle()
        assert not bench.runtime.streams[0].is_open
        assert bench.stats.rebuilds == 1
        assert bench.stats.closing == 0

    @pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
    def test_what_is_no_refusal_has_the_books_looked_at(self, make_bench, error):
        bench = make_bench(DONE)
        bench.open()

        def cut_off():
            raise error

        with pytest.raises(error):
            bench.ledger.apply(cut_off)
        assert bench.stats.rebuilds == 1
        assert bench.gauges == {"idle": 1}
        bench.ledger.apply(bench.ledger.pool.close, bench.runtime.now())
        with pytest.raises(PoolClosedError):
            bench.ledger.apply(bench.ledger.pool.get, Waiter(None), bench.runtime.now())
        assert bench.stats.rebuilds == 1


class TestDroppedUnderTheMutex:
    """Whoever holds it gives back what was dropped meanwhile, as soon as it was let go."""

    def given_back(self, bench):
        assert bench.stats.leaks == 1
        assert bench.ledger.leases == {}
        bench.runtime.run_until_idle()
        assert bench.gauges == {}
        assert bench.runtime.open_streams == []
        assert bench.tell() == [UnclosedResponseWarning]

    def test_telling_a_fact(self, make_bench):
        bench = make_bench()
        bench.open()

        def fact():
            bench.drop()
            assert bench.ledger.leases  # it is held: nobody could give anything back here
            return ()

        bench.ledger.apply(fact)
        assert bench.ledger.leases == {}
        self.given_back(bench)

    def test_taking(self, make_bench):
        bench = make_bench()
        bench.open()
        assert bench.ledger.take(Dropping(bench), bench.runtime.now()) is None
        assert bench.ledger.leases == {}
        self.given_back(bench)

    def test_looking(self, make_bench):
        bench = make_bench()
        bench.open()
        bench.ledger.note(bench.ledger.pool.note_timeout, Name(bench), "body")
        bench.ledger.snapshot()
        assert bench.ledger.leases == {}
        self.given_back(bench)

    def test_counting(self, make_bench):
        """Which is too quick to look: the next safe point does."""
        bench = make_bench()
        bench.open()
        assert not bench.ledger.has_reports
        bench.ledger.note(bench.drop)
        assert bench.ledger.leases
        assert bench.ledger.has_reports
        assert bench.tell() == [UnclosedResponseWarning]
        assert bench.ledger.leases == {}
        bench.runtime.run_until_idle()
        assert bench.runtime.open_streams == []


@pytest.fixture
def eager_threads():
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class TestDropped:
    @pytest.mark.usefixtures("eager_threads")
    def test_while_another_thread_looks(self, make_bench):
        """Who holds the mutex gives back what is dropped meanwhile, a little later: that is counted as well."""
        bench = make_bench()
        looks, may_end = threading.Event(), threading.Event()

        def look():
            with bench.ledger.looking():
                looks.set()
                may_end.wait(10)

        for number in range(1, 201):
            bench.open()
            other = threading.Thread(target=look)
            other.start()
            looks.wait(10)
            bench.drop()
            may_end.set()
            assert bench.ledger.snapshot().leaks == number
            other.join(10)
            looks.clear()
            may_end.clear()
        bench.tell()

    def test_a_line_is_told_of_once(self, make_bench):
        """And every leak to the hook, if there is one."""
        told = Told()
        bench = make_bench()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for trace in (None, told.trace, None, told.trace):
                bench.open(trace=trace)
                bench.drop()
                bench.ledger.safe_point()
        assert [warning.category for warning in caught] == [UnclosedResponseWarning]
        assert bench.stats.leaks == 4
        assert [info.number for name, info in told.calls if name == "leaked"] == [2, 4]

    def test_on_a_loop_that_is_gone(self, make_bench):
        """Nobody is left to close it: the descriptor is."""
        bench = make_bench()
        bench.open()
        bench.runtime.alive = False
        bench.drop()
        assert bench.runtime.open_streams == []
        assert bench.gauges == {}
        assert bench.stats.closed == {"leaked": 1}

    def test_a_transport(self, make_bench):
        """With it goes what is idle, and what is open."""
        bench = make_bench(DONE, SLOW)
        bench.open()
        bench.open(OTHER)
        bench.ledger.abandon_all("Transport", None)
        assert bench.gauges == {"closing": 2}
        bench.runtime.run_until_idle()
        assert bench.runtime.open_streams == []
        assert bench.stats.closed == {"pool_closed": 2}
        with pytest.warns(UnclosedTransportWarning, match="unclosed Transport with 2 open connections"):
            bench.ledger.safe_point()

    def test_a_transport_with_nothing_open(self, make_bench):
        bench = make_bench()
        bench.ledger.abandon_all("Transport", None)
        assert bench.tell() == []
        with pytest.raises(PoolClosedError):
            bench.ledger.apply(bench.ledger.pool.get, Waiter(None), bench.runtime.now())


class TestALoopThatIsGone:
    def test_everything_of_it_goes(self, make_bench):
        """Leases, idle connections, dials, and who waits for these."""
        bench = make_bench(DONE, SLOW)
        bench.open()
        bench.open(OTHER)
        bench.runtime.on_dial = None
        waiting = bench.runtime.start(
            bench.engine.round_trip(Request("GET", "http://192.0.2.3/"), lambda: bench.runtime)
        )
        bench.runtime.run_until_idle()
        assert bench.gauges == {"active": 1, "idle": 1, "dialing": 1, "leases": 1}
        bench.runtime.alive = False
        bench.runtime.lazy_close = True  # a loop that is gone reports no end of a stream
        bench.engine.forget_runtime(bench.runtime)
        assert bench.runtime.open_streams == []
        assert bench.gauges == {}
        assert bench.ledger.leases == {}
        bench.runtime.run_until_idle()
        with pytest.raises(ConnectError, match="the event loop of the dial is closed"):
            waiting.outcome()

    def test_nothing_of_another(self, make_bench):
        bench = make_bench(DONE, SLOW)
        bench.open()
        bench.open(OTHER)
        other = FakeRuntime()
        for alive in (True, False):
            other.alive = alive
            bench.engine.forget_runtime(other)
        assert bench.gauges == {"active": 1, "idle": 1, "leases": 1}
        assert len(bench.runtime.open_streams) == 2

    def test_the_next_one_keeps_house(self, make_bench):
        bench = make_bench(DONE, idle_conn_timeout=30.0)
        bench.open()
        last, bench.runtime = bench.runtime, FakeRuntime(Answers(DONE))
        bench.runtime.clock = last.clock
        bench.engine.forget_runtime(last)
        bench.open()
        assert bench.gauges == {"idle": 1}
        bench.runtime.advance(30.1)
        assert bench.stats.closed == {"pool_closed": 1, "idle_timeout": 1}

    def test_that_ends_in_order(self, make_bench):
        """Its streams are closed as ever, and no lease is lost to who is ending it at that moment."""
        bench = make_bench(DONE, SLOW)
        bench.open()
        bench.open(OTHER)
        bench.open(OTHER)
        ending = next(iter(bench.ledger.leases.values()))
        assert ending.end()
        bench.engine.forget_runtime(bench.runtime)
        assert bench.runtime.open_streams == []
        assert list(bench.ledger.leases.values()) == [ending]  # whoever ends it forgets it
        assert bench.stats.closed == {"pool_closed": 3}
        bench.ledger.leases.clear()


class TestAChildProcess:
    """It is told of the fork; what it inherited is the parent's, and counts for nothing."""

    def forked(self, bench):
        bench.ledger.after_fork()
        assert bench.runtime.open_streams == []
        assert bench.gauges == {}

    def test_reads_to_the_end(self, make_bench):
        told = Told()
        bench = make_bench(BUFFERED)
        body = bench.open(trace=told.trace)
        self.forked(bench)
        while bench.runtime.run(body.read_some()):
            pass
        assert "put_idle_conn" not in told.names
        assert bench.gauges == {}

    def test_closes(self, make_bench):
        """Nothing is drained: that would take the parent's bytes."""
        told = Told()
        bench = make_bench()
        body = bench.open(trace=told.trace)
        self.forked(bench)
        bench.runtime.run(body.close())
        assert told.names[-1] == "body_closed"
        assert not {"put_idle_conn", "drained"} & set(told.names)
        assert bench.stats.closed == {}
        assert sum(bench.stats.drains.values()) == 0

    def test_drops(self, make_bench):
        bench = make_bench()
        bench.open()
        self.forked(bench)
        bench.drop()
        assert bench.tell() == []
        assert bench.stats.leaks == 0

    def test_notices_it_by_itself(self, make_bench):
        """Where the fork told nobody."""
        bench = make_bench(DONE)
        bench.open()
        bench.ledger.pid = -1
        bench.ledger.safe_point()
        assert bench.runtime.open_streams == []
        assert bench.gauges == {}
        bench.ledger.pid = -1
        bench.open()
        assert bench.ledger.epoch == 2
        assert bench.gauges == {"idle": 1}


class TestAlone:
    """A ledger without an engine."""

    def make(self):
        started = []
        ledger = Ledger(
            TransportOptions(), Limits(), Watch("site", ()), lambda ticket, soon: started.append(ticket), float, float
        )
        return ledger, started

    def test_a_dial_ends_before_there_is_a_job_to_tell(self):
        ledger, started = self.make()
        waiter = Waiter(Key("h"), FakeRuntime().new_latch())
        ledger.apply(ledger.pool.get, waiter, 0.0)
        (ticket,) = started
        ledger.apply(ledger.pool.close, 0.0)
        assert waiter.latch.is_set
        assert isinstance(waiter.error, PoolClosedError)
        assert ledger.snapshot().dialing == 1
        ledger.apply(ledger.pool.dial_failed, ticket, OSError(), 0.0)
        assert ledger.snapshot().dialing == 0

    def test_an_empty_house_needs_no_keeping(self):
        ledger, _ = self.make()
        assert ledger.tick() is None

    def test_when_it_is_quiet_already(self):
        ledger, _ = self.make()
        calls = []
        ledger.when_quiet(lambda: calls.append(1))
        assert calls == [1]


def test_who_waits_for_quiet_is_told_by_the_last_one(make_bench):
    bench = make_bench()
    bench.open()
    bench.open()
    calls = []
    bench.ledger.when_quiet(lambda: calls.append(1))
    first, second = bench.ledger.leases.values()
    bench.ledger.discard(first, CloseReason.READ_ERROR, answered=True)
    assert calls == []
    bench.ledger.discard(first, CloseReason.READ_ERROR, answered=True)
    assert calls == []
    bench.ledger.discard(second, CloseReason.READ_ERROR, answered=True)
    assert calls == [1]
    bench.ledger.release(second, None, None)
    assert bench.gauges == {}
