"""Corners of the pool: facts about what it does not know any more, connections shared and closed, long heaps."""

from __future__ import annotations

import pytest

from pooltransport.core.pool import Close, Dial, Pool, PoolClosedError, Waiter
from pooltransport.core.queues import Hints, Turns
from pooltransport.core.records import NEVER, Entry, HostRecord, Lane, Limits
from pooltransport.stats import CloseReason
from tests.core.pool_driver import Driver, drained

__all__ = ["drained"]


class TestForgotten:
    """A late word about a connection that has gone does nothing."""

    @pytest.mark.parametrize(
        "fact",
        [
            lambda pool: pool.put_idle("gone", 0.0),
            lambda pool: pool.remove("gone", CloseReason.READ_ERROR),
            lambda pool: pool.remove_idle("gone", CloseReason.SERVER_CLOSED_IDLE),
            lambda pool: pool.closed("gone", 0.0),
            lambda pool: pool.retire("gone", 0.0),
            lambda pool: pool.set_capacity("gone", 2, 0.0),
            lambda pool: pool.set_draining("gone") or (),
            lambda pool: pool.set_upgraded("gone") or (),
        ],
    )
    def test_connection(self, fact):
        driver = Driver()
        assert fact(driver.pool) == ()
        driver.pool.check()
        assert driver.pool.open_count == 0

    def test_idle_is_neither_draining_nor_upgraded(self):
        driver = Driver()
        (conn,) = driver.make_idle("a1")
        driver.pool.set_draining(conn)
        driver.pool.set_upgraded(conn)
        stats = driver.stats
        assert (stats.idle, stats.draining, stats.upgraded, driver.pool.open_count) == (1, 0, 0, 1)

    def test_closing(self):
        """Until its socket is closed it is known, and nothing but `closed` is heard about it."""
        driver = Driver()
        conn = driver.make("a1")
        driver.remove(conn)
        for actions in (
            driver.pool.put_idle(conn, driver.now),
            driver.pool.remove(conn, CloseReason.READ_ERROR),
            driver.pool.retire(conn, driver.now),
            driver.pool.set_capacity(conn, 5, driver.now),
        ):
            assert actions == ()
        assert driver.pool.open_count == 1
        driver.closed()
        assert driver.pool.open_count == 0


class TestCancel:
    def test_a_wish_that_was_never_made(self):
        driver = Driver()
        waiter = Waiter("a1")
        assert driver.cancel(waiter) == driver.cancel(waiter) == []
        assert not waiter.pending

    def test_one_that_has_failed(self):
        driver = Driver()
        waiter = driver.ask("a1")
        driver.dial_failed()
        assert driver.cancel(waiter) == []
        assert isinstance(waiter.error, OSError)

    def test_delivered_and_closed_meanwhile(self):
        driver = Driver()
        waiter = driver.ask("a1")
        conn = driver.dialed()
        driver.remove(conn)
        assert driver.cancel(waiter) == []
        driver.closed()
        second = driver.ask("a1")
        conn = driver.dialed()
        driver.remove(conn)
        driver.closed()
        assert driver.cancel(second) == []
        assert driver.stats.leases == 0

    def test_one_of_several_grants_that_are_held(self):
        """Two closes under way, two grants for their slots: the one that is given up leaves the other."""
        driver = Driver(max_conns_per_host=2)
        conns = [driver.make("a1"), driver.make("a1")]
        waiters = [driver.ask("a1"), driver.ask("a1")]
        for conn in conns:
            driver.remove(conn)
        assert driver.cancel(waiters[0]) == []
        assert driver.closed() == [Dial(waiters[1].dial)]
        assert driver.closed() == []


class TestShared:
    def test_capacity_that_falls_and_rises(self):
        driver = Driver()
        conn = driver.make("a1", capacity=2)
        assert driver.apply(driver.pool.set_capacity(conn, 1, driver.now)) == []
        waiter = driver.ask("a1")
        assert waiter.pending  # no room on it any more: it dials
        driver.apply(driver.pool.set_capacity(conn, 2, driver.now))
        assert waiter.conn == conn
        assert driver.stats.leases == 2

    def test_capacity_of_one_that_is_retired(self):
        """Room does not bring it back."""
        driver = Driver()
        conn = driver.make("a1", capacity=2)
        driver.apply(driver.pool.retire(conn, driver.now))
        driver.apply(driver.pool.set_capacity(conn, 5, driver.now))
        assert driver.ask("a1").pending
        assert driver.put(conn) == [Close(conn, CloseReason.MAX_LIFETIME)]

    def test_no_capacity_at_all(self):
        """In use it ends with its lease, idle at once."""
        driver = Driver()
        conn = driver.make("a1", capacity=2)
        driver.apply(driver.pool.set_capacity(conn, 0, driver.now))
        assert driver.put(conn) == [Close(conn, CloseReason.BAD_STATE)]
        (idle,) = driver.make_idle("b1")
        assert driver.apply(driver.pool.set_capacity(idle, 0, driver.now)) == [Close(idle, CloseReason.BAD_STATE)]

    def test_too_old_while_somebody_uses_it(self):
        """It takes no second lease, and is closed with the first."""
        driver = Driver()
        conn = driver.make("a1", capacity=2, retire_at=driver.now + 5)
        driver.now += 6
        assert driver.get("a1").pending
        assert driver.put(conn) == [Close(conn, CloseReason.MAX_LIFETIME)]


class TestClosed:
    def test_with_starved_hosts(self):
        """Everything that waits is told, whatever order it stood in."""
        driver = Driver(max_conns=1)
        conn = driver.make("a1")
        waiters = [driver.ask(key) for key in ("b1", "c1", "a1")]
        driver.apply(driver.pool.close(driver.now))
        assert all(isinstance(waiter.error, PoolClosedError) for waiter in waiters)
        assert driver.put(conn) == [Close(conn, CloseReason.POOL_CLOSED)]
        assert driver.apply(driver.pool.close(driver.now)) == []


class TestTurns:
    def test_the_heap_of_starved_hosts_stays_short(self):
        """Each change of a front waiter leaves an item behind; no more than 64 beside those in use."""
        turns = Turns(NEVER, 1)
        host, other = HostRecord("a"), HostRecord("b")
        for seq in range(1, 1000):
            for record in (host, other):
                waiter = Waiter(record.host)
                waiter.seq = seq if record is other else 1000 + seq
                record.queue.clear()
                record.queue[waiter] = None
                turns.refresh(record)
        assert turns.claim(NEVER) is other
        assert turns.claim(1.0) is None

    def test_a_stale_front_is_passed_over(self):
        turns = Turns(NEVER, 1)
        first, second = HostRecord("a"), HostRecord("b")
        for record, seq in ((first, 1), (second, 2)):
            waiter = Waiter(record.host)
            waiter.seq = seq
            record.queue[waiter] = None
            turns.refresh(record)
        first.queue.clear()
        turns.refresh(first)
        assert turns.claim(NEVER) is second

    def test_nobody_is_starved(self):
        assert Turns(NEVER, 1).claim(NEVER) is None


class TestHints:
    def test_the_heap_stays_short(self):
        """Entries that were used again leave numbers behind."""
        hints = Hints()
        lane = Lane("a", HostRecord("a"))
        late, soon = Entry("late", lane, 1, None, 0.0), Entry("soon", lane, 1, None, 0.0)
        late.deadline, soon.deadline = 100.0, 50.0
        hints.add(late)
        for _ in range(500):
            hints.add(soon)
            hints.discard(soon)
        assert hints.first() is late
        hints.add(soon)
        assert hints.first() is soon
        hints.discard(soon)
        hints.discard(late)
        assert hints.first() is None


def test_what_a_log_shows():
    """Every record says what it is in one line."""
    pool = Pool(Limits(max_conns_per_host=1), lambda key: key)
    waiter = Waiter("a")
    (dial,) = pool.get(waiter, 0.0)
    pool.get(Waiter("a"), 0.0)
    assert repr(waiter) == "<Waiter 1 'a' dialing>"
    assert repr(dial.ticket) == "<DialTicket 'a' running for <Waiter 1 'a' dialing>>"
    assert repr(dial.ticket.record) == "<HostRecord 'a' firm=1 slots=1 queue=1>"
    lane = Lane("a", dial.ticket.record)
    assert repr(lane) == "<Lane 'a'>"
    assert repr(Entry("conn", lane, 3, None, 0.0)) == "<Entry 'conn' active 0/3>"


def test_hints_that_are_not_due_stay():
    driver = Driver()
    soon, late = driver.make("a1"), driver.make("a1")
    driver.put(soon, idle_timeout=5.0)
    driver.put(late, idle_timeout=9.0)
    driver.now += 6
    assert driver.apply(driver.pool.expire(driver.now)) == [Close(soon, CloseReason.IDLE_TIMEOUT)]
    assert driver.pool.next_expiry() == driver.now + 3


def test_room_on_a_shared_connection_does_not_overtake():
    """The younger waiter could use it, the older one of another key cannot: nobody goes before."""
    driver = Driver(max_conns_per_host=1)
    conn = driver.make("a1", capacity=2)
    assert driver.ask("a1") == conn
    older, younger = driver.ask("a2"), driver.ask("a1")
    assert driver.put(conn) == []
    assert (older.pending, younger.pending) == (True, True)
    assert driver.put(conn) == [Close(conn, CloseReason.EVICTED_FOR_LIMIT)]
    assert driver.closed() == [Dial(older.dial)]


def test_a_drained_connection_is_one_like_any_other():
    driver = Driver()
    conn = driver.make("a1")
    driver.pool.set_draining(conn)
    driver.put(conn)
    assert (driver.stats.draining, driver.stats.idle) == (0, 1)
    assert driver.ask("a1") == conn


def test_a_machine_that_slept():
    """Every connection is older than the clock says: idle ones by their timeout, hints and lifetimes too."""
    driver = Driver()
    (plain,) = driver.make_idle("a1")
    hinted = driver.make("b1")
    driver.put(hinted, idle_timeout=50.0)
    aged = driver.make("c1", retire_at=driver.now + 1000)
    assert driver.apply(driver.pool.slept(40.0, driver.now)) == []
    assert driver.pool.next_expiry() == driver.now + 10
    assert driver.apply(driver.pool.slept(45.0, driver.now)) == [Close(hinted, CloseReason.IDLE_TIMEOUT)]
    assert driver.apply(driver.pool.slept(5.0, driver.now)) == [Close(plain, CloseReason.IDLE_TIMEOUT)]
    driver.apply(driver.pool.slept(910.0, driver.now))
    assert driver.put(aged) == [Close(aged, CloseReason.MAX_LIFETIME)]
