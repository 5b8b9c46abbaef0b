"""Counters, snapshot, and the rebuild after an accident."""

from __future__ import annotations

import os
import sys

import pytest

from pooltransport.core.pool import (
    ConnState,
    Limits,
    Pool,
    Waiter,
)
from pooltransport.core.records import WaiterState
from pooltransport.stats import CloseReason, DrainOutcome
from tests.core.pool_driver import Driver, drained, host_of  # noqa: F401


class TestStats:
    def test_totals_are_the_sum_of_the_hosts(self):
        driver = Driver(max_conns_per_host=1)
        driver.make("a1")
        driver.ask("a1")
        driver.make_idle("b1")
        stats = driver.stats
        assert (stats.active, stats.idle, stats.waiting, stats.open, stats.leases) == (1, 1, 1, 2, 1)
        assert stats.hosts["a"].waiting == 1
        assert stats.hosts["b"].idle == 1
        assert stats.dials == sum(host.dials for host in stats.hosts.values()) == 2

    def test_counters_from_outside(self):
        driver = Driver()
        conn = driver.make("a1")
        driver.pool.note_leak(conn)
        driver.pool.note_leak("gone")
        driver.pool.note_drain(conn, DrainOutcome.LIMIT)
        driver.pool.note_timeout("a", "headers")
        driver.pool.note_timeout("never used", "dns")
        driver.pool.note_retry("a")
        driver.pool.note_hook_error()
        driver.pool.check()
        stats = driver.stats
        assert (stats.leaks, stats.retries, stats.hook_errors) == (2, 1, 1)
        assert stats.drains == {"reused": 0, "limit": 1, "timeout": 0, "error": 0}
        assert stats.timeouts == {"headers": 1, "dns": 1}
        assert stats.hosts["a"].leaks == 1

    def test_forgotten_hosts_stay_in_the_totals(self):
        pool = Pool(Limits(), str)
        for number in range(1100):
            waiter = Waiter(number)
            (dial,) = pool.get(waiter, 0.0)
            pool.dialed(dial.ticket, number, 0.0)
            pool.remove(number, CloseReason.READ_ERROR)
            pool.closed(number, 0.0)
        stats = pool.stats()
        assert len(stats.hosts) == 1024
        assert stats.dials == stats.closed["read_error"] == stats.acquired["dialed"] == 1100

    def test_conns_and_states(self):
        driver = Driver()
        idle, busy, dying = driver.make("a1"), driver.make("a1"), driver.make("b1")
        driver.put(idle)
        driver.remove(dying)
        assert list(driver.pool.conns()) == [
            (idle, "a1", ConnState.IDLE),
            (busy, "a1", ConnState.ACTIVE),
            (dying, "b1", ConnState.CLOSING),
        ]
        assert driver.pool.state_of(dying) is ConnState.CLOSING
        driver.closed(dying)
        assert driver.pool.state_of(dying) is None


FULL = bool(os.environ.get("POOLTRANSPORT_FULL"))  # otherwise every sixth line


class Accident(BaseException):
    """As a KeyboardInterrupt, at any line."""


def broken_off(operation, line):
    """Run the operation, but raise at its n-th line in the pool's own code; report whether that was reached."""
    count = 0

    def trace(frame, event, _):
        nonlocal count
        # Between the last decision and its arrival at the caller nothing can be saved, here or there.
        if "pooltransport" not in frame.f_code.co_filename or frame.f_code.co_name == "_flush":
            return None
        if event == "line":
            count += 1
            if count == line:
                raise Accident
        return trace

    before = sys.gettrace()  # coverage has one
    sys.settrace(trace)
    try:
        operation()
    except Accident:
        return True
    finally:
        sys.settrace(before)
    return False


def scene():
    """Two hosts at their limits, with waiters, an idle connection, a dial, a close and an orphan."""
    driver = Driver(max_conns=6, max_conns_per_host=3)
    driver.conn = driver.make("a1")
    driver.shared = driver.make("b1", capacity=3)
    driver.make_idle("a1")
    driver.dying = driver.make("c1")
    for key in ("c1", "b2", "a2", "a1", "c1", "d1", "a2", "c1"):
        driver.ask(key)
    driver.remove(driver.dying)
    driver.own = Waiter("a2")
    assert driver.stats.waiting > 2
    return driver


def quiet():
    """No limit binds: idle connections, hinted ones among them, a lease and an orphan dial."""
    driver = Driver(max_idle_conns=4)
    driver.conn = driver.make("a1")
    driver.make_idle("a1", "b1")
    driver.put(driver.make("b2"), idle_timeout=5.0)
    driver.cancel(driver.ask("c1"))
    driver.own = Waiter("a1")
    driver.now += 6
    return driver


def finish(driver):
    """Let everything end, as far as the pool still knows it, by what it said."""
    for _ in range(1_000):
        used = [conn for conn, _, state in driver.pool.conns() if state not in {ConnState.IDLE, ConnState.CLOSING}]
        if driver.closing:
            driver.closed()
        elif driver.dials:
            driver.dialed()
        elif used:
            driver.apply(driver.pool.put_idle(used[0], driver.now))
        else:
            break
    assert not driver.waiting, "never answered"
    stats = driver.stats
    assert (stats.leases, stats.dialing, stats.closing, stats.waiting) == (0, 0, 0, 0)


QUIET = {
    "take": lambda d: d.pool.take("a1", d.now),
    "get idle": lambda d: d.pool.get(d.own, d.now),
    "put_idle": lambda d: d.pool.put_idle(d.conn, d.now),
    "put_idle, hinted": lambda d: d.pool.put_idle(d.conn, d.now, idle_timeout=5.0),
    "expire": lambda d: d.pool.expire(d.now + 500),
    "close_idle": lambda d: d.pool.close_idle(d.now),
    "orphan dialed": lambda d: d.pool.dialed(d.dials[0], "new", d.now),
}
OPERATIONS = {
    "take": lambda d: d.pool.take("b1", d.now),
    "put_idle": lambda d: d.pool.put_idle(d.conn, d.now),
    "put_idle shared": lambda d: d.pool.put_idle(d.shared, d.now),
    "remove": lambda d: d.pool.remove(d.conn, CloseReason.READ_ERROR),
    "get": lambda d: d.pool.get(d.own, d.now),
    "dialed": lambda d: d.pool.dialed(d.dials[0], "new", d.now),
    "dialed, shared": lambda d: d.pool.dialed(d.dials[0], "new", d.now, capacity=3),
    "dial_failed": lambda d: d.pool.dial_failed(d.dials[0], OSError(), d.now),
    "cancel, dialing": lambda d: d.pool.cancel(d.dials[0].waiter, d.now),
    "cancel, queued": lambda d: d.pool.cancel(d.waiting[-1], d.now),
    "closed": lambda d: d.pool.closed(next(iter(d.closing)), d.now),
    "close_idle": lambda d: d.pool.close_idle(d.now),
    "close": lambda d: d.pool.close(d.now),
}


@pytest.mark.parametrize(
    ("scene", "operation"),
    [
        *(pytest.param(scene, operation, id=name) for name, operation in OPERATIONS.items()),
        *(pytest.param(quiet, operation, id=f"{name}, quiet") for name, operation in QUIET.items()),
    ],
)
def test_rebuild_after_an_exception_at_any_line(scene, operation):
    """Contract 3.9: whatever was half done, the counts are right again, and every other waiter is answered."""
    line = 0
    while True:
        line += 1 if FULL else 6
        Driver.kept.clear()
        driver = scene()
        if not broken_off(lambda driver=driver: operation(driver), line):
            break
        driver.waiting = [waiter for waiter in driver.waiting if waiter.state is not WaiterState.CANCELLED]
        # A fact whose report was broken off has happened all the same.
        driver.dials = [ticket for ticket in driver.dials if ticket in driver.pool._dials]
        driver.closing = {conn: why for conn, why in driver.closing.items() if driver.pool.state_of(conn)}
        driver.apply(driver.pool.rebuild(driver.now))
        assert driver.stats.rebuilds == 1
        if driver.own.state is not WaiterState.NEW:
            driver.cancel(driver.own)  # as the engine does with its own waiter on any exception
        finish(driver)
    Driver.kept.clear()


def test_rebuild_in_rest_changes_nothing():
    driver = scene()
    before = driver.stats
    driver.apply(driver.pool.rebuild(driver.now))
    assert driver.stats == before._replace(rebuilds=1)
