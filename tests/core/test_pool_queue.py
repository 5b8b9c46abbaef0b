"""Who waits, and for what: queue, orphan dials, shared connections, closing. By example."""

from __future__ import annotations

import pytest

from pooltransport.core.pool import (
    AbortDial,
    Close,
    Dial,
    PoolClosedError,
    QueueFull,
    Waiter,
    Wake,
)
from pooltransport.stats import AcquireSource, CloseReason
from tests.core.pool_driver import Driver, drained, host_of  # noqa: F401


class TestQueue:
    def test_first_come_first_served(self):
        """QUEUE-01, QUEUE-02."""
        driver = Driver(max_conns_per_host=1)
        conn = driver.make("a1")
        waiters = [driver.ask("a1") for _ in range(3)]
        for waiter in waiters:
            driver.put(conn)
            assert driver.woken[-1] is waiter

    def test_late_binding(self):
        """QUEUE-03: whichever comes first, here the returned connection; the dial becomes an orphan."""
        driver = Driver()
        conn = driver.make("a1")
        waiter = driver.ask("a1")
        ticket = waiter.dial
        assert driver.put(conn) == [Wake(waiter)]
        assert (waiter.conn, waiter.source) == (conn, AcquireSource.HANDED_OVER)
        late = driver.dialed(ticket)
        assert list(driver.pool.idle_conns()) == [late]

    def test_own_dial_wins(self):
        """QUEUE-03, the other way."""
        driver = Driver()
        conn = driver.make("a1")
        waiter = driver.ask("a1")
        own = driver.dialed(waiter.dial)
        assert (waiter.conn, waiter.source) == (own, AcquireSource.DIALED)
        driver.put(conn)
        assert driver.stats.idle == 1

    def test_no_late_binding_without_keep_alives(self):
        """QUEUE-05: only its own dial, and an orphan is aborted at once."""
        driver = Driver(disable_keep_alives=True)
        waiter = driver.ask("a1")
        ticket = waiter.dial
        assert driver.cancel(waiter) == [AbortDial(ticket)]

    def test_cancelled_in_the_queue_never_dials(self):
        """QUEUE-07."""
        driver = Driver(max_conns_per_host=1)
        conn = driver.make("a1")
        waiter = driver.ask("a1")
        assert driver.cancel(waiter) == []
        driver.remove(conn)
        assert driver.closed() == []

    def test_cancelled_between_permission_and_dial(self):
        """QUEUE-09: no dial is made, the slot goes on."""
        driver = Driver(max_conns_per_host=1)
        conn = driver.make("a1")
        first, second = driver.ask("a1"), driver.ask("a1")
        driver.remove(conn)
        assert first.dial is not None
        driver.cancel(first)
        assert driver.closed() == [Dial(second.dial)]

    def test_delivered_then_cancelled_goes_back(self):
        """QUEUE-10."""
        driver = Driver()
        waiter = driver.ask("a1")
        conn = driver.dialed()
        driver.cancel(waiter)
        assert list(driver.pool.idle_conns()) == [conn]

    def test_cancelled_dial_goes_to_the_next_of_its_key(self):
        """Contract 1.4: the work is not lost."""
        driver = Driver(max_conns_per_host=1)
        first, second = driver.ask("a1"), driver.ask("a1")
        ticket = first.dial
        assert driver.cancel(first) == []
        assert second.dial is ticket
        driver.dialed(ticket)
        assert second.source is AcquireSource.DIALED

    def test_order_within_a_host_whatever_the_key(self):
        """Contract 1.3: the connection of a key whose turn it is not is closed for whose turn it is."""
        driver = Driver(max_conns_per_host=1)
        conn = driver.make("a1")
        other, own = driver.ask("a2"), driver.ask("a1")
        assert driver.put(conn) == [Close(conn, CloseReason.EVICTED_FOR_LIMIT)]
        assert driver.closed() == [Dial(other.dial)]
        assert own.pending

    def test_order_within_a_host_own_waiter_first(self):
        """Contract 1.3."""
        driver = Driver(max_conns_per_host=1)
        conn = driver.make("a1")
        own, other = driver.ask("a1"), driver.ask("a2")
        assert driver.put(conn) == [Wake(own)]
        assert other.pending

    def test_order_within_a_host_own_dialing_waiter_first(self):
        """Contract 1.3 and 1.4: it is older; its dial then gives way to the one in the queue."""
        driver = Driver(max_conns_per_host=2)
        conn = driver.make("a1")
        own, other = driver.ask("a1"), driver.ask("a2")
        ticket = own.dial
        assert driver.put(conn) == [Wake(own), AbortDial(ticket)]
        assert driver.dial_failed(ticket) == [Dial(other.dial)]

    def test_covered_waiter_does_not_cost_another_connection(self):
        """Contract 1.3: the front waiter already gets the slot of a close under way."""
        driver = Driver(max_conns_per_host=2)
        dying, conn = driver.make("a1"), driver.make("a1")
        other, own = driver.ask("a2"), driver.ask("a1")
        driver.remove(dying)
        assert driver.put(conn) == [Wake(own)]
        assert driver.closed() == [Dial(other.dial)]

    def test_dial_of_the_wrong_key_gives_way_to_an_older_waiter(self):
        """Contract 1.3 and 1.4: adoption does not overtake."""
        driver = Driver(max_conns_per_host=1)
        first, other, same = driver.ask("a1"), driver.ask("a2"), driver.ask("a1")
        ticket = first.dial
        assert driver.cancel(first) == [AbortDial(ticket)]
        assert driver.dial_failed(ticket) == [Dial(other.dial)]
        assert same.dial is None

    def test_queue_full(self):
        driver = Driver(max_conns_per_host=1, max_waiting=1)
        driver.make("a1")
        driver.ask("a1")
        with pytest.raises(QueueFull):
            driver.ask("a1")
        assert driver.stats.waiting == 1
        assert isinstance(driver.ask("b1").dial.host, str), "who need not wait is not refused"

    def test_queue_full_of_a_new_host_leaves_nothing(self):
        driver = Driver(max_conns=1, max_waiting=0)
        driver.make("a1")
        with pytest.raises(QueueFull):
            driver.ask("b1")
        driver.pool.check()

    def test_no_queue_is_needed_where_an_eviction_helps(self):
        driver = Driver(max_conns=1, max_waiting=0)
        driver.make_idle("a1")
        waiter = driver.ask("b1")
        driver.settle()
        assert driver.dials == [waiter.dial]

    def test_position(self):
        driver = Driver(max_conns_per_host=1)
        driver.make("a1")
        assert [driver.pool.waiting_position(driver.ask("a1")) for _ in range(3)] == [1, 2, 3]
        assert driver.pool.waiting_position(Waiter("z")) == 0


class TestOrphans:
    def orphan(self, driver, key="a1"):
        waiter = driver.ask(key)
        ticket = waiter.dial
        driver.cancel(waiter)
        return ticket

    def test_adopted_oldest_first(self):
        """Contract 1.4."""
        driver = Driver()
        first, second = self.orphan_two(driver)
        assert driver.ask("a1").dial is first
        assert driver.ask("a1").dial is second
        assert len(driver.dials) == 2

    def orphan_two(self, driver):
        waiters = driver.ask("a1"), driver.ask("a1")
        tickets = [waiter.dial for waiter in waiters]
        for waiter in waiters:
            driver.cancel(waiter)
        return tickets

    def test_success_becomes_idle(self):
        """Contract 1.4."""
        driver = Driver()
        conn = driver.dialed(self.orphan(driver))
        assert list(driver.pool.idle_conns()) == [conn]

    def test_success_goes_to_the_oldest_waiter(self):
        """Contract 1.4: a returned connection made its first dial an orphan, which then serves the next."""
        driver = Driver()
        conn = driver.make("a1")
        first, second = driver.ask("a1"), driver.ask("a1")
        ticket = first.dial
        driver.put(conn)
        assert first.conn == conn
        driver.dialed(ticket)
        assert second.source is AcquireSource.HANDED_OVER

    def test_failure_is_silent(self):
        """Contract 1.4."""
        driver = Driver()
        assert driver.dial_failed(self.orphan(driver)) == []
        assert driver.stats.dialing == 0

    def test_gives_way_in_its_host(self):
        """Contract 1.4."""
        driver = Driver(max_conns_per_host=1)
        ticket = self.orphan(driver)
        waiter = driver.ask("a2")
        assert driver.aborted == {ticket}
        driver.settle()
        assert driver.dials == [waiter.dial]

    def test_gives_way_before_an_idle_connection(self):
        """Contract 1.4."""
        driver = Driver(max_conns=2)
        driver.make_idle("b1")
        ticket = self.orphan(driver)
        driver.ask("c1")
        assert driver.aborted == {ticket}
        assert driver.stats.idle == 1

    def test_nine_of_one_host(self):
        """Contract 1.4."""
        driver = Driver()
        waiters = [driver.ask("a1") for _ in range(9)]
        oldest = waiters[0].dial
        for waiter in waiters:
            assert not driver.aborted
            driver.cancel(waiter)
        assert driver.aborted == {oldest}

    def test_sixty_five_in_all(self):
        """Contract 1.4."""
        driver = Driver()
        tickets = []
        for number in range(65):
            assert not driver.aborted
            tickets.append(self.orphan(driver, chr(ord("A") + number)))
        assert driver.aborted == {tickets[0]}


class TestShared:
    """Contract 8.4: a connection that serves several at a time."""

    def test_one_dial_answers_several(self):
        driver = Driver()
        waiters = [driver.ask("a1") for _ in range(5)]
        conn = driver.dialed(waiters[1].dial, capacity=3)
        assert [waiter.conn for waiter in waiters] == [conn, conn, conn, None, None]
        assert waiters[1].source is AcquireSource.DIALED
        assert (driver.stats.active, driver.stats.leases) == (1, 3)
        assert not driver.aborted, "still wanted: two wait"

    def test_spare_capacity_aborts_the_surplus(self):
        driver = Driver()
        waiters = [driver.ask("a1") for _ in range(2)]
        surplus = waiters[1].dial
        driver.dialed(waiters[0].dial, capacity=3)
        assert driver.aborted == {surplus}

    def test_idle_only_when_nobody_uses_it(self):
        driver = Driver()
        conn = driver.make("a1", capacity=3)
        assert driver.ask("a1") == conn
        driver.put(conn)
        assert (driver.stats.idle, driver.stats.leases) == (0, 1)
        driver.put(conn)
        assert (driver.stats.idle, driver.stats.leases) == (1, 0)

    def test_newest_first(self):
        """POOL-03: what was used last, not what was dialed last."""
        driver = Driver()
        first, second = driver.make("a1"), driver.make("a1")
        for conn in (first, second):
            driver.apply(driver.pool.set_capacity(conn, 3, driver.now))
        driver.put(second)
        driver.put(first)
        assert driver.ask("a1") == first

    def test_capacity_may_fall_below_use(self):
        driver = Driver()
        conn = driver.make("a1", capacity=3)
        driver.ask("a1")
        driver.apply(driver.pool.set_capacity(conn, 1, driver.now))
        assert driver.pool.take("a1", driver.now) is None
        driver.put(conn)
        assert driver.pool.take("a1", driver.now) is None
        driver.put(conn)
        assert driver.ask("a1") == conn

    def test_growing_capacity_serves_waiters(self):
        driver = Driver(max_conns_per_host=1)
        conn = driver.make("a1")
        waiters = [driver.ask("a1") for _ in range(3)]
        driver.apply(driver.pool.set_capacity(conn, 3, driver.now))
        assert [waiter.conn for waiter in waiters] == [conn, conn, None]

    def test_retired_takes_no_new_lease(self):
        driver = Driver()
        conn = driver.make("a1", capacity=3)
        driver.ask("a1")
        driver.apply(driver.pool.retire(conn, driver.now, CloseReason.GOAWAY))
        assert driver.pool.take("a1", driver.now) is None
        assert driver.put(conn) == []
        assert driver.put(conn) == [Close(conn, CloseReason.GOAWAY)]

    def test_death_ends_all_leases(self):
        driver = Driver()
        conn = driver.make("a1", capacity=3)
        driver.ask("a1")
        driver.remove(conn)
        assert driver.stats.leases == 0
        assert driver.pool.put_idle(conn, driver.now) == ()

    def test_newcomers_do_not_keep_it_from_an_older_waiter(self):
        """Contract 1.3: otherwise the key that shares would hold the host's only slot for ever."""
        driver = Driver(max_conns_per_host=1)
        conn = driver.make("a1", capacity=3)
        other = driver.ask("a2")
        assert isinstance(driver.ask("a1"), Waiter)
        assert driver.put(conn) == [Close(conn, CloseReason.EVICTED_FOR_LIMIT)]
        assert driver.closed() == [Dial(other.dial)]

    def test_newcomers_kept_by_a_waiter_that_gave_up_are_served(self):
        driver = Driver(max_conns_per_host=1)
        conn = driver.make("a1", capacity=2)
        other, newcomer = driver.ask("a2"), driver.ask("a1")
        driver.cancel(other)
        assert newcomer.conn == conn


class TestCloseIdle:
    def test_closes_all_idle(self):
        """CI-01."""
        driver = Driver()
        conns = driver.make_idle("a1", "b1")
        driver.apply(driver.pool.close_idle(driver.now))
        assert driver.closing == dict.fromkeys(conns, CloseReason.CLOSE_IDLE_CALLED)

    def test_leaves_leases_alone_and_closes_them_on_return(self):
        """CI-02, CI-03."""
        driver = Driver()
        conn = driver.make("a1")
        assert driver.apply(driver.pool.close_idle(driver.now)) == []
        assert driver.put(conn) == [Close(conn, CloseReason.CLOSE_IDLE_CALLED)]

    @pytest.mark.parametrize("full_path", [True, False])
    def test_until_the_next_request(self, full_path):
        """CI-03."""
        driver = Driver()
        conn, other = driver.make("a1"), driver.make("b1")
        driver.apply(driver.pool.close_idle(driver.now))
        if full_path:
            driver.get("b1")
        else:
            driver.get("c1")
        assert driver.put(conn) == []
        assert other in driver.leases

    def test_take_ends_the_mode(self):
        """CI-03: with a shared connection even the warm path may end it."""
        driver = Driver()
        driver.make("a1", capacity=2)
        conn = driver.make("b1")
        driver.apply(driver.pool.close_idle(driver.now))
        assert driver.ask("a1") is not None
        assert driver.put(conn) == []

    def test_aborts_orphans_not_wanted_dials(self):
        """CI-05."""
        driver = Driver()
        gone, waits = driver.ask("a1"), driver.ask("a1")
        orphan, wanted = gone.dial, waits.dial
        driver.cancel(gone)
        assert driver.apply(driver.pool.close_idle(driver.now)) == [AbortDial(orphan)]
        assert driver.running == [wanted]

    def test_waiters_still_get_what_comes_back(self):
        """CI-06."""
        driver = Driver(max_conns_per_host=1)
        conn = driver.make("a1")
        waiter = driver.ask("a1")
        driver.apply(driver.pool.close_idle(driver.now))
        assert driver.put(conn) == [Wake(waiter)]


class TestClose:
    def test_ends_everything(self):
        driver = Driver(max_conns_per_host=2)
        (idle,) = driver.make_idle("b1")
        leased, dialing, queued = driver.make("a1"), driver.ask("a1"), driver.ask("a1")
        ticket = dialing.dial
        actions = driver.apply(driver.pool.close(driver.now))
        assert actions == [
            Close(idle, CloseReason.POOL_CLOSED),
            Wake(dialing),
            Wake(queued),
            AbortDial(ticket),
        ]
        assert isinstance(dialing.error, PoolClosedError)
        assert isinstance(queued.error, PoolClosedError)
        assert driver.put(leased) == [Close(leased, CloseReason.POOL_CLOSED)]
        late = driver.dialed(ticket)
        assert driver.closing[late] is CloseReason.POOL_CLOSED

    def test_is_final_and_idempotent(self):
        driver = Driver()
        driver.make_idle("a1")
        driver.apply(driver.pool.close(driver.now))
        assert driver.pool.close(driver.now) == ()
        assert driver.pool.take("a1", driver.now) is None
        with pytest.raises(PoolClosedError):
            driver.get("a1")

    def test_held_grants_end_too(self):
        driver = Driver(max_conns_per_host=1)
        conn = driver.make("a1")
        waiter = driver.ask("a1")
        driver.remove(conn)
        driver.apply(driver.pool.close(driver.now))
        assert isinstance(waiter.error, PoolClosedError)
        assert driver.closed() == []
