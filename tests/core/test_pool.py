"""The pool by example, one behaviour each. Row ids are Go's behaviours and sections of the contract."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from pooltransport.core.pool import (
    AbortDial,
    Close,
    Dial,
    Limits,
    Pool,
    Waiter,
    Wake,
)
from pooltransport.stats import AcquireSource, CloseReason
from tests.core.pool_driver import Driver, drained, host_of  # noqa: F401


class TestWarm:
    def test_idle_connection_is_taken_again(self):
        """POOL-01."""
        driver = Driver()
        (conn,) = driver.make_idle("a1")
        assert driver.ask("a1") == conn
        assert driver.stats.acquired == {"reused": 1, "dialed": 1, "handed_over": 0}

    def test_connection_in_use_is_not_shared(self):
        """POOL-02."""
        driver = Driver()
        driver.make("a1")
        assert driver.pool.take("a1", driver.now) is None
        assert isinstance(driver.ask("a1"), Waiter)
        assert len(driver.dials) == 1

    def test_newest_first(self):
        """POOL-03."""
        driver = Driver()
        first, second = driver.make("a1"), driver.make("a1")
        driver.put(second)
        driver.put(first)
        assert [driver.ask("a1"), driver.ask("a1")] == [first, second]

    def test_dead_connection_is_skipped(self):
        """POOL-04."""
        driver = Driver()
        first, second = driver.make("a1"), driver.make("a1")
        driver.put(first)
        driver.put(second)
        driver.apply(driver.pool.remove_idle(second, CloseReason.SERVER_CLOSED_IDLE))
        assert driver.ask("a1") == first

    def test_key_is_what_a_connection_is_good_for(self):
        """Contract 1.2: keys of one host share the budget, never a connection."""
        driver = Driver()
        driver.make_idle("a1")
        assert isinstance(driver.ask("a2"), Waiter)

    def test_no_actions_is_one_shared_empty_tuple(self):
        driver = Driver()
        (conn,) = driver.make_idle("a1")
        assert driver.pool.take("a1", driver.now) == conn
        assert driver.pool.put_idle(conn, driver.now) is ()  # noqa: F632 - identity is the point

    def test_take_leaves_expired_ones_to_get(self):
        driver = Driver()
        (conn,) = driver.make_idle("a1")
        driver.now += 90
        assert driver.pool.take("a1", driver.now) is None
        assert driver.stats.idle == 1
        waiter = Waiter("a1")
        actions = driver.pool.get(waiter, driver.now)
        assert actions == [Close(conn, CloseReason.IDLE_TIMEOUT), Dial(waiter.dial)]
        driver.waiting.append(waiter)
        driver.apply(actions)

    def test_no_wake_for_an_answer_within_get(self):
        driver = Driver()
        (conn,) = driver.make_idle("a1")
        waiter = Waiter("a1")
        assert driver.pool.get(waiter, driver.now) == ()
        assert (waiter.conn, waiter.source) == (conn, AcquireSource.REUSED)
        driver.leases.append(conn)


class TestIdleLimits:
    def test_too_many_for_host_closes_the_newcomer(self):
        driver = Driver(max_idle_conns_per_host=1)
        first, second = driver.make("a1"), driver.make("a1")
        driver.put(first)
        assert driver.put(second) == [Close(second, CloseReason.IDLE_LIMIT_HOST)]

    def test_too_many_in_all_closes_the_oldest(self):
        driver = Driver(max_idle_conns=2)
        first, _, third = (driver.make(key) for key in ("a1", "b1", "c1"))
        driver.put(first)
        driver.make_idle("d1")
        assert driver.put(third) == [Close(first, CloseReason.IDLE_LIMIT_TOTAL)]

    @pytest.mark.parametrize(
        ("limits", "reason"),
        [
            ({"max_idle_conns": 0}, CloseReason.IDLE_LIMIT_HOST),
            ({"max_idle_conns_per_host": 0}, CloseReason.IDLE_LIMIT_HOST),
            ({"max_idle_conns": 0, "max_idle_conns_per_host": 5}, CloseReason.IDLE_LIMIT_TOTAL),
        ],
    )
    def test_zero_keeps_none(self, limits, reason):
        """Contract 1.5."""
        driver = Driver(**limits)
        conn = driver.make("a1")
        assert driver.put(conn) == [Close(conn, reason)]

    def test_none_is_no_limit(self):
        """Contract 1.5."""
        driver = Driver(max_idle_conns=None)
        conns = [driver.make("a1") for _ in range(300)]
        for conn in conns:
            driver.put(conn)
        assert driver.stats.idle == 300

    def test_per_host_follows_the_total(self):
        """Contract 1.5."""
        driver = Driver(max_idle_conns=2)
        conns = [driver.make("a1") for _ in range(3)]
        for conn in conns:
            driver.put(conn)
        assert driver.reasons == ["idle_limit_host"]

    def test_hand_over_ignores_the_idle_limits(self):
        """POOL-07."""
        driver = Driver(max_idle_conns=0, max_conns_per_host=1)
        conn = driver.make("a1")
        waiter = driver.ask("a1")
        assert driver.put(conn) == [Wake(waiter)]
        assert waiter.conn == conn

    def test_order_of_checks_disabled_first(self):
        """POOL-06: keep-alives disabled comes before the hand-over."""
        driver = Driver(disable_keep_alives=True, max_conns_per_host=1)
        conn = driver.make("a1")
        waiter = driver.ask("a1")
        assert driver.put(conn) == [Close(conn, CloseReason.KEEPALIVE_DISABLED)]
        assert driver.closed() == [Dial(waiter.dial)]

    def test_order_of_checks_lifetime_before_hand_over(self):
        """POOL-06."""
        driver = Driver(max_conns_per_host=1)
        conn = driver.make("a1", retire_at=driver.now + 10)
        driver.ask("a1")
        driver.now += 10
        assert driver.put(conn) == [Close(conn, CloseReason.MAX_LIFETIME)]

    def test_order_of_checks_poison_before_the_caps(self):
        """POOL-06."""
        driver = Driver(max_idle_conns=0)
        conn = driver.make("a1")
        driver.apply(driver.pool.close_idle(driver.now))
        assert driver.put(conn) == [Close(conn, CloseReason.CLOSE_IDLE_CALLED)]


class TestTime:
    def test_expire_closes_what_is_due_and_nothing_else(self):
        driver = Driver()
        (first,) = driver.make_idle("a1")
        driver.now += 50
        (second,) = driver.make_idle("b1")
        assert driver.pool.next_expiry() == 1090
        driver.now = 1090
        assert driver.apply(driver.pool.expire(driver.now)) == [Close(first, CloseReason.IDLE_TIMEOUT)]
        assert driver.pool.next_expiry() == 1140
        assert list(driver.pool.idle_conns()) == [second]

    def test_without_a_timeout_nothing_expires(self):
        driver = Driver(idle_conn_timeout=None)
        driver.make_idle("a1")
        assert driver.pool.next_expiry() is None
        assert driver.pool.expire(1e12) == ()

    def test_hint_shortens(self):
        driver = Driver()
        older, hinted = driver.make("a1"), driver.make("a1")
        driver.put(older)
        driver.put(hinted, idle_timeout=5.0)
        assert driver.pool.next_expiry() == driver.now + 5
        driver.now += 5
        assert driver.apply(driver.pool.expire(driver.now)) == [Close(hinted, CloseReason.IDLE_TIMEOUT)]
        assert driver.pool.next_expiry() == driver.now + 85

    def test_hint_does_not_lengthen(self):
        driver = Driver()
        driver.put(driver.make("a1"), idle_timeout=500.0)
        assert driver.pool.next_expiry() == driver.now + 90

    def test_hint_of_a_connection_in_use_does_not_count(self):
        driver = Driver()
        conn = driver.make("a1")
        driver.put(conn, idle_timeout=5.0)
        assert driver.ask("a1") == conn
        assert driver.pool.next_expiry() is None

    def test_expired_hint_on_top_is_skipped(self):
        driver = Driver()
        older, hinted = driver.make("a1"), driver.make("a1")
        driver.put(older)
        driver.put(hinted, idle_timeout=5.0)
        driver.now += 6
        assert driver.ask("a1") == older
        assert driver.closing == {hinted: CloseReason.IDLE_TIMEOUT}

    def test_max_uses(self):
        driver = Driver()
        conn = driver.make("a1")
        driver.put(conn, max_uses=2)
        assert driver.ask("a1") == conn
        assert driver.put(conn) == [Close(conn, CloseReason.MAX_REQUESTS)]

    def test_a_delivery_that_was_given_back_is_no_use(self):
        driver = Driver(max_conns_per_host=1)
        conn = driver.make("a1")
        waiter = driver.ask("a1")
        driver.put(conn, max_uses=2)
        driver.cancel(waiter)
        assert driver.ask("a1") == conn

    def test_idle_connection_does_not_outlive_its_lifetime(self):
        driver = Driver()
        conn = driver.make("a1", retire_at=driver.now + 10)
        driver.put(conn)
        assert driver.pool.next_expiry() == driver.now + 10
        driver.now += 10
        assert driver.apply(driver.pool.expire(driver.now)) == [Close(conn, CloseReason.MAX_LIFETIME)]

    def test_retire_in_use_closes_on_return(self):
        driver = Driver()
        conn = driver.make("a1")
        assert driver.apply(driver.pool.retire(conn, driver.now)) == []
        assert driver.put(conn) == [Close(conn, CloseReason.MAX_LIFETIME)]

    def test_retire_idle_closes_at_once(self):
        driver = Driver()
        (conn,) = driver.make_idle("a1")
        assert driver.apply(driver.pool.retire(conn, driver.now)) == [Close(conn, CloseReason.MAX_LIFETIME)]


class TestSlots:
    def test_closing_holds_its_slot(self):
        """Contract 1.1: a slot is a socket."""
        driver = Driver(max_conns_per_host=1)
        conn = driver.make("a1")
        waiter = driver.ask("a1")
        assert driver.remove(conn) == [Close(conn, CloseReason.READ_ERROR)]
        assert driver.stats.closing == 1
        assert driver.closed() == [Dial(waiter.dial)]

    def test_aborted_dial_holds_its_slot(self):
        """Contract 1.1."""
        driver = Driver(max_conns=1)
        first = driver.ask("a1")
        ticket = first.dial
        other = driver.ask("b1")
        assert driver.cancel(first) == [AbortDial(ticket)]
        assert driver.dial_failed(ticket) == [Dial(other.dial)]

    def test_aborted_dial_that_succeeds_is_closed(self):
        driver = Driver(max_conns=1)
        first = driver.ask("a1")
        ticket = first.dial
        other = driver.ask("b1")
        driver.cancel(first)
        conn = driver.dialed(ticket)
        assert driver.closing == {conn: CloseReason.DIAL_UNUSED}
        assert not driver.dials
        assert driver.closed() == [Dial(other.dial)]

    @pytest.mark.parametrize("state", ["draining", "upgraded"])
    def test_draining_and_upgraded_hold_their_slot(self, state):
        """Contract 1.1."""
        driver = Driver(max_conns_per_host=1)
        conn = driver.make("a1")
        getattr(driver.pool, f"set_{state}")(conn)
        assert getattr(driver.stats, state) == 1
        assert (driver.stats.active, driver.stats.open) == (0, 1)
        driver.ask("a1")
        assert driver.stats.waiting == 1
        driver.remove(conn)
        assert getattr(driver.stats, state) == 0

    def test_keys_of_a_host_share_the_budget(self):
        """Contract 1.2: one may evict another's idle connection."""
        driver = Driver(max_conns_per_host=1)
        (conn,) = driver.make_idle("a1")
        waiter = driver.ask("a2")
        assert driver.closing == {conn: CloseReason.EVICTED_FOR_LIMIT}
        assert driver.closed() == [Dial(waiter.dial)]

    def test_host_limit_evicts_in_the_host(self):
        """Contract 1.2: another host's idle connection, though older, would not help."""
        driver = Driver(max_conns_per_host=1)
        _, conn = driver.make_idle("b1", "a1")
        driver.ask("a2")
        assert driver.closing == {conn: CloseReason.EVICTED_FOR_LIMIT}

    def test_total_evicts_least_recently_used_of_other_hosts(self):
        """Contract 1.3."""
        driver = Driver(max_conns=2)
        first, _ = driver.make_idle("a1", "b1")
        driver.ask("c1")
        assert driver.closing == {first: CloseReason.EVICTED_FOR_LIMIT}

    def test_nobody_is_evicted_twice_for_one_waiter(self):
        """Contract 1.3: a close under way covers its waiter."""
        driver = Driver(max_conns=2)
        _, second = driver.make_idle("a1", "b1")
        driver.ask("c1")
        assert len(driver.closing) == 1
        assert list(driver.pool.idle_conns()) == [second]
        conn = driver.ask("b1")
        driver.put(conn)
        assert list(driver.pool.idle_conns()) == [second]

    def test_failed_dial_frees_the_slot(self):
        driver = Driver(max_conns_per_host=1)
        first, second = driver.ask("a1"), driver.ask("a1")
        ticket = first.dial
        driver.dial_failed(ticket)
        assert isinstance(first.error, OSError)
        assert driver.dials == [second.dial]
        assert driver.stats.dial_errors == 1

    def test_every_limit_at_once(self):
        driver = Driver(max_conns=3, max_conns_per_host=2)
        waiters = [driver.ask(key) for key in ("a1", "a1", "a1", "b1", "b1")]
        assert [ticket.key for ticket in driver.dials] == ["a1", "a1", "b1"]
        assert [waiter.dial is None for waiter in waiters] == [False, False, True, False, True]
        assert driver.stats.waiting == 2


class TestBugsOfTheField:
    """One test for each pool bug that others have had."""

    def test_assigned_connection_is_not_closed_by_another_pass(self):
        """httpcore#1110, #1111."""
        driver = Driver(max_idle_conns=1)
        (conn,) = driver.make_idle("a1")
        driver.now += 89
        assert driver.ask("a1") == conn
        driver.now += 100
        assert driver.apply(driver.pool.expire(driver.now)) == []
        assert driver.apply(driver.pool.close_idle(driver.now)) == []
        driver.make_idle("b1")
        assert conn in driver.leases

    def test_idle_limit_does_not_count_busy_connections(self):
        """httpcore#1000, #1035."""
        driver = Driver(max_idle_conns=1)
        conns = [driver.make("a1") for _ in range(5)]
        assert driver.put(conns[0]) == []

    def test_newcomer_does_not_steal_from_a_woken_waiter(self):
        """aiohttp#4936."""
        driver = Driver(max_conns_per_host=1)
        conn = driver.make("a1")
        waiter = driver.ask("a1")
        driver.leases.remove(conn)
        actions = driver.pool.put_idle(conn, driver.now)
        newcomer = driver.ask("a1")  # before the Wake was performed
        assert newcomer.pending
        driver.apply(actions)
        assert waiter.conn == conn

    @pytest.mark.parametrize("performed", [True, False])
    def test_cancelled_after_the_wake_hands_on(self, performed):
        """aiohttp#9670, #861, #2189, #4562."""
        driver = Driver(max_conns_per_host=1)
        conn = driver.make("a1")
        first, second = driver.ask("a1"), driver.ask("a1")
        driver.leases.remove(conn)
        actions = driver.pool.put_idle(conn, driver.now)
        if performed:
            driver.apply(actions)
        driver.cancel(first)
        assert second.conn == conn

    @pytest.mark.parametrize("end", ["own dial", "returned", "failed", "cancelled", "cancelled in queue", "closed"])
    def test_no_queue_keeps_an_answered_waiter(self, end):
        """golang/go#33849, #33850, #43966, #50798, #76784."""
        driver = Driver(max_conns_per_host=2)
        conn = driver.make("a1")
        waiter = driver.ask("a1")
        ticket = waiter.dial
        if end == "own dial":
            driver.dialed(ticket)
        elif end == "returned":
            driver.put(conn)
        elif end == "failed":
            driver.dial_failed(ticket)
        elif end == "closed":
            driver.apply(driver.pool.close(driver.now))
        else:
            if end == "cancelled in queue":
                waiter = driver.ask("a2")
            driver.cancel(waiter)
        driver.woken.clear()
        gone = weakref.ref(waiter)
        del waiter
        gc.collect()
        assert gone() is None
        driver.pool.check()

    def test_removed_twice_is_counted_once(self):
        """Go transport.go:1738: a count below zero is a deadlock later."""
        driver = Driver(max_conns_per_host=1)
        conn = driver.make("a1")
        driver.remove(conn)
        assert driver.pool.remove(conn, CloseReason.LEAKED) == ()
        driver.closed()
        assert driver.pool.closed(conn, driver.now) == ()
        assert driver.pool.remove(conn, CloseReason.LEAKED) == ()
        assert driver.stats.closed == {"read_error": 1}

    def test_dial_failed_after_cancel_is_counted_once(self):
        """Go transport.go:1738."""
        driver = Driver(max_conns_per_host=1)
        waiter = driver.ask("a1")
        ticket = waiter.dial
        driver.cancel(waiter)
        driver.dial_failed(ticket)
        assert driver.pool.dial_failed(ticket, OSError(), driver.now) == ()
        assert driver.pool.cancel(waiter, driver.now) == ()
        assert driver.pool.dialed(ticket, "late", driver.now) == (Close("late", CloseReason.DIAL_UNUSED),)
        assert driver.stats.dialing == 0

    def test_given_back_twice_is_loud(self):
        driver = Driver()
        (conn,) = driver.make_idle("a1")
        with pytest.raises(AssertionError, match="given back twice"):
            driver.pool.put_idle(conn, driver.now)

    def test_delivered_between_timeout_and_cancel_goes_back(self):
        """psycopg WaitingClient."""
        driver = Driver(max_conns_per_host=1)
        conn = driver.make("a1")
        waiter = driver.ask("a1")
        driver.put(conn)  # meanwhile the caller's clock has run out
        driver.cancel(waiter)
        assert list(driver.pool.idle_conns()) == [conn]
        assert driver.stats.leases == 0

    def test_state_of_a_key_is_made_anew(self):
        """zapros _async_pool.py:24: no second, empty set of limits beside the old one."""
        driver = Driver(max_conns_per_host=1)
        driver.remove(driver.make("a1"))
        waiter = driver.ask("a1")
        assert not driver.dials, "the old socket is not closed yet"
        assert driver.closed() == [Dial(waiter.dial)]
        driver.cancel(waiter)
        driver.dial_failed()
        driver.make("a1")
        assert driver.stats.hosts["a"].dials == 3

    def test_dial_that_outlives_everybody(self):
        """golang/go#76784: it becomes idle, or is closed with a reason."""
        driver = Driver(max_idle_conns=0)
        waiter = driver.ask("a1")
        ticket = waiter.dial
        driver.cancel(waiter)
        driver.dialed(ticket)
        assert driver.reasons == ["idle_limit_host"]

    def test_eviction_racing_with_return(self):
        """HikariCP ConnectionRaceConditionTest: real threads, one lock, nothing lost."""
        pool, lock, errors = Pool(Limits(max_conns=2, max_idle_conns=1), host_of), threading.Lock(), []

        def perform(actions):
            for action in actions:
                with lock:
                    if isinstance(action, Close):
                        more = pool.closed(action.conn, 0.0)
                    elif isinstance(action, Dial):
                        more = pool.dialed(action.ticket, object(), 0.0)
                    elif isinstance(action, AbortDial):
                        more = ()  # it succeeds before it can be aborted
                    else:
                        action.waiter.latch.set()
                        more = ()
                perform(more)

        def work(key):
            try:
                for _ in range(2_500):
                    waiter = Waiter(key, threading.Event())
                    with lock:
                        actions = pool.get(waiter, 0.0)
                        waits = waiter.pending
                    perform(actions)
                    assert not waits or waiter.latch.wait(20), "lost"
                    with lock:
                        actions = pool.put_idle(waiter.conn, 0.0)
                    perform(actions)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(key,)) for key in ("a1", "a1", "b1", "c1")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        pool.check()
        assert sum(pool.stats().acquired.values()) == 10_000


class TestASuspendedMachine:
    """The clock stood still meanwhile: what idles is older than it looks (IDLE-12)."""

    def test_what_idled_for_too_long_is_closed(self):
        driver = Driver(idle_conn_timeout=90.0)
        old, young = driver.make("a1"), driver.make("a1")
        driver.put(old)
        driver.now += 50.0
        driver.put(young)
        driver.apply(driver.pool.slept(45.0, driver.now))
        assert driver.reasons == ["idle_timeout"]
        assert list(driver.closing) == [old]
        assert driver.pool.next_expiry() == driver.now + 45.0
        assert driver.ask("a1") == young

    def test_the_servers_hint_and_the_greatest_age(self):
        driver = Driver(idle_conn_timeout=90.0)
        hinted = driver.make("a1")
        aged = driver.make("b1", retire_at=driver.now + 60.0)
        driver.put(hinted, idle_timeout=20.0)
        driver.put(aged)
        driver.apply(driver.pool.slept(19.0, driver.now))
        assert driver.reasons == []
        assert driver.pool.next_expiry() == driver.now + 1.0
        driver.apply(driver.pool.slept(2.0, driver.now))
        driver.apply(driver.pool.slept(40.0, driver.now))
        assert driver.reasons == ["idle_timeout", "max_lifetime"]

    def test_one_in_use_is_retired_when_it_comes_back(self):
        driver = Driver(idle_conn_timeout=90.0)
        plain, aged = driver.make("a1"), driver.make("b1", retire_at=driver.now + 60.0)
        driver.apply(driver.pool.slept(500.0, driver.now))
        assert driver.reasons == []
        driver.put(plain)
        driver.put(aged)
        assert driver.reasons == ["max_lifetime"]
        assert driver.ask("a1") == plain
