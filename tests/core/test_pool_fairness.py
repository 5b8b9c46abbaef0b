"""Order and sharing of slots: properties of contract 1.3."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pooltransport.core.pool import AbortDial, Close, Dial, Wake
from pooltransport.stats import CloseReason
from tests.core.pool_driver import Driver, host_of


class Busy(Driver):
    """Hosts whose workers ask again as soon as they have given back. Counts releases."""

    def __init__(self, workers, **limits):
        super().__init__(**limits)
        self.releases = 0
        self.starving = {}  # host that waits and holds nothing: releases since
        self.worst = 0
        self.hosts = list(workers)
        for host, count in workers.items():
            for _ in range(count):
                self.ask(f"{host}1")
                self.settle_all()

    def settle_all(self):
        while self.closing or self.dials:
            self.settle()
            if self.dials:
                self.dialed()

    def release(self, conn):
        self.releases += 1
        key = next(key for known, key, _ in self.pool.conns() if known == conn)
        self.put(conn)
        self.note()
        self.settle_all()
        self.ask(key)
        self.settle_all()
        self.note()

    def note(self):
        stats = self.stats.hosts
        for host in self.hosts:
            waits = host in stats and stats[host].waiting
            granted = any(w.dial for w in self.waiting if host_of(w.key) == host)
            if waits and not granted and not stats[host].open:
                self.starving.setdefault(host, self.releases)
                self.worst = max(self.worst, self.releases - self.starving[host])
            else:
                self.starving.pop(host, None)


@given(
    workers=st.lists(st.integers(1, 30), min_size=2, max_size=5),
    spare=st.integers(0, 3),
    picks=st.lists(st.integers(0, 1000), min_size=30, max_size=60),
)
@settings(max_examples=25, deadline=None)
def test_each_of_no_more_hosts_than_connections_is_served_within_as_many_releases(workers, spare, picks):
    """With H <= max_conns hosts always busy, each is served within max_conns releases."""
    total = len(workers) + spare
    busy = Busy(dict(zip("abcde", workers, strict=False)), max_conns=total)
    for pick in picks:
        busy.release(busy.leases[pick % len(busy.leases)])
    assert busy.worst < total


def test_a_long_queue_elsewhere_does_not_starve_a_host():
    """All slots are a's, whose 50 waiters are all older than b's."""
    busy = Busy({"a": 54, "b": 1}, max_conns=4)
    for _ in range(4):
        assert not any(key == "b1" for _, key, _ in busy.pool.conns())
        busy.release(busy.leases[0])
    assert any(key == "b1" for _, key, _ in busy.pool.conns())


def test_a_returned_connection_goes_to_an_older_waiter_without_any():
    """The slot of the returned connection goes to the host that holds nothing, and waited longer."""
    driver = Driver(max_conns=2)
    conn, _ = driver.make("a1"), driver.make("a1")
    older, own = driver.ask("b1"), driver.ask("a1")
    assert driver.put(conn) == [Close(conn, CloseReason.EVICTED_FOR_LIMIT)]
    assert driver.closed() == [Dial(older.dial)]
    assert own.pending


def test_an_older_waiter_of_the_same_host_comes_first():
    driver = Driver(max_conns=8)
    conns = [driver.make("a1") for _ in range(8)]
    own, other = driver.ask("a1"), driver.ask("b1")
    assert driver.put(conns[0]) == [Wake(own)]
    assert other.pending


def test_the_oldest_of_several_that_hold_nothing():
    """Not the one that has held nothing for longest: c lost its only connection last, its waiter is oldest."""
    driver = Driver(max_conns=10)
    conns = [driver.make("a1") for _ in range(9)]
    last = driver.make("c1")
    first, oldest, next_in_turn, younger = (driver.ask(key) for key in ("c1", "c1", "b1", "d1"))
    driver.remove(last)
    driver.settle()
    driver.dial_failed(first.dial)  # its slot goes round: to b; c holds nothing from here on, d since it asked
    assert next_in_turn.dial is not None
    driver.ask("a1")
    driver.put(conns[0])
    assert oldest.dial is not None
    assert younger.dial is None


def test_the_promised_slot_is_not_evicted_for_twice():
    driver = Driver(max_conns=2)
    first, second = driver.make("a1"), driver.make("a1")
    other, own = driver.ask("b1"), driver.ask("a1")
    driver.put(first)
    assert driver.put(second) == [Wake(own)], "b's waiter has its slot already"
    assert driver.closed() == [Dial(other.dial)]


def test_a_host_that_holds_one_waits_for_its_own():
    driver = Driver(max_conns=3)
    conns = [driver.make("a1"), driver.make("a1")]
    driver.make("b1")
    other, own = driver.ask("b1"), driver.ask("a1")
    assert driver.put(conns[0]) == [Wake(own)]
    assert other.pending


def test_a_connection_nobody_of_its_host_wants_is_closed_for_another():
    driver = Driver(max_conns=2)
    conn, _ = driver.make("a1"), driver.make("b1")
    waiter = driver.ask("b1")
    assert driver.put(conn) == [Close(conn, CloseReason.EVICTED_FOR_LIMIT)]
    assert driver.closed() == [Dial(waiter.dial)]


def test_freed_slots_go_round():
    """One each, whoever has more waiters."""
    driver = Driver(max_conns=4)
    conns = [driver.make("d1") for _ in range(4)]
    for key in ("a1", "a1", "a1", "b1", "b1", "c1"):
        driver.ask(key)
    for conn in conns:
        driver.remove(conn)
        driver.closed()
    assert [ticket.key for ticket in driver.dials] == ["a1", "b1", "c1", "a1"]


def test_a_host_at_its_own_limit_is_passed_over():
    driver = Driver(max_conns=3, max_conns_per_host=2)
    driver.make("a1"), driver.make("a1")
    conn = driver.make("b1")
    blocked, waiter = driver.ask("a1"), driver.ask("c1")
    driver.remove(conn)
    assert driver.closed() == [Dial(waiter.dial)]
    assert blocked.dial is None


@pytest.mark.parametrize("idle_first", [True, False])
def test_eviction_takes_the_orphan_before_the_idle_connection(idle_first):
    driver = Driver(max_conns=2)
    if idle_first:
        driver.make_idle("a1")
    waiter = driver.ask("b1")
    ticket = waiter.dial
    driver.cancel(waiter)
    if not idle_first:
        driver.make_idle("a1")
    driver.ask("c1")
    assert driver.aborted == {ticket}
    assert driver.stats.idle == 1


def test_a_dial_nobody_needs_gives_way_to_another_host():
    driver = Driver(max_conns=2)
    conn = driver.make("a1")
    waiter = driver.ask("a1")
    ticket, other = waiter.dial, driver.ask("b1")
    assert driver.put(conn) == [Wake(waiter), AbortDial(ticket)]
    assert driver.dial_failed(ticket) == [Dial(other.dial)]


def test_slots_beyond_the_turn_are_not_held_back():
    """A grant that waits for its host's socket does not keep a free slot from another host."""
    driver = Driver(max_conns=2, max_conns_per_host=1)
    first, second = driver.make("a1"), driver.make("b1")
    held, other = driver.ask("a2"), driver.ask("c1")
    driver.remove(first)
    assert driver.remove(second)
    assert driver.closed(second) == [Dial(other.dial)]
    assert driver.closed(first) == [Dial(held.dial)]
