"""The pool against any sequence of facts, with every invariant asserted after each (style: `check`).

``POOLTRANSPORT_FULL=1`` runs the written numbers, at least 10,000 steps for each machine.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pooltransport.core.pool import Close, QueueFull
from pooltransport.core.records import WaiterState
from pooltransport.stats import CloseReason
from tests.core.pool_driver import Driver, host_of

FULL = bool(os.environ.get("POOLTRANSPORT_FULL"))
EXPIRED = {CloseReason.IDLE_TIMEOUT, CloseReason.MAX_LIFETIME}
KEYS = st.sampled_from(["a1", "a1", "a2", "b1", "b2", "c1", "d1"])
PICK = st.integers(min_value=0, max_value=10_000)


def maybe(strategy):
    return st.one_of(st.none(), strategy)


class PoolMachine(RuleBasedStateMachine):
    """One connection serves one request at a time, as in HTTP/1.1."""

    capacities = st.just(1)

    @initialize(
        idle=maybe(st.integers(0, 4)),
        idle_host=maybe(st.integers(0, 3)),
        per_host=maybe(st.integers(1, 3)),
        total=maybe(st.integers(1, 4)),
        waiting=maybe(st.integers(0, 5)),
        timeout=maybe(st.just(90.0)),
        disabled=st.sampled_from([False, False, False, False, True]),
        orphans=st.integers(0, 3),
    )
    def start(self, idle, idle_host, per_host, total, waiting, timeout, disabled, orphans):
        self.total, self.per_host = total, per_host
        self.driver = Driver(
            max_idle_conns=idle,
            max_idle_conns_per_host=idle_host,
            max_conns_per_host=per_host,
            max_conns=total,
            max_waiting=waiting,
            idle_conn_timeout=timeout,
            disable_keep_alives=disabled,
            max_orphans_per_host=orphans,
            max_orphans=4,
        )
        self.capacity = {}
        self.queued, self.seq = [], 0

    # -- asking ------------------------------------------------------------------

    @rule(key=KEYS, full_path=st.booleans())
    def one(self, key, full_path):
        self.ask(key, full_path=full_path)

    def ask(self, key, *, full_path):
        before = self.driver.stats
        try:
            (self.driver.get if full_path else self.driver.ask)(key)
        except QueueFull:
            assert before == self.driver.stats._replace(hosts=before.hosts), "a refusal changes nothing"

    @rule(keys=st.lists(KEYS, min_size=2, max_size=8))
    def burst(self, keys):
        for key in keys:
            self.ask(key, full_path=False)

    @precondition(lambda self: self.driver.waiting)
    @rule(pick=PICK)
    def cancel_pending(self, pick):
        waiters = self.driver.waiting
        self.driver.cancel(waiters[pick % len(waiters)])

    @precondition(lambda self: self.driver.woken)
    @rule(pick=PICK)
    def cancel_answered(self, pick):
        """The waiter gave up before it saw its answer."""
        waiter = self.driver.woken.pop(pick % len(self.driver.woken))
        if waiter.conn is None or waiter.conn in self.driver.leases:
            self.driver.cancel(waiter)

    # -- dials ---------------------------------------------------------------------

    @precondition(lambda self: self.driver.dials)
    @rule(pick=PICK, data=st.data(), life=maybe(st.sampled_from([10.0, 50.0])))
    def dialed(self, pick, data, life):
        ticket = self.driver.dials[pick % len(self.driver.dials)]
        capacity = data.draw(self.capacities)
        conn = self.driver.dialed(ticket, capacity=capacity, retire_at=None if life is None else self.driver.now + life)
        self.capacity[conn] = capacity

    @precondition(lambda self: self.driver.dials)
    @rule(pick=PICK)
    def dial_failed(self, pick):
        self.driver.dial_failed(self.driver.dials[pick % len(self.driver.dials)])

    # -- connections -----------------------------------------------------------------

    @precondition(lambda self: self.driver.leases)
    @rule(
        pick=PICK, hint=maybe(st.sampled_from([5.0, 20.0, 200.0])), uses=maybe(st.integers(1, 5)), plain=st.booleans()
    )
    def put_idle(self, pick, hint, uses, plain):
        conn = self.driver.leases[pick % len(self.driver.leases)]
        self.driver.put(conn, **({} if plain else {"idle_timeout": hint, "max_uses": uses}))

    @precondition(lambda self: self.driver.leases)
    @rule(pick=PICK)
    def remove(self, pick):
        self.driver.remove(self.driver.leases[pick % len(self.driver.leases)])

    @precondition(lambda self: self.driver.made)
    @rule(pick=PICK)
    def late_news(self, pick):
        """What the pool no longer knows, or closes already, changes nothing."""
        known = [conn for conn, _, _ in self.driver.pool.conns()]
        for conn in [*self.driver.closing, "never seen"]:
            assert self.driver.pool.remove(conn, CloseReason.READ_ERROR) == ()
            assert self.driver.pool.put_idle(conn, self.driver.now) == ()
            assert self.driver.pool.remove_idle(conn, CloseReason.READ_ERROR) == ()
        assert self.driver.pool.closed("never seen", self.driver.now) == ()
        if known:
            self.driver.apply(self.driver.pool.remove_idle(known[pick % len(known)], CloseReason.SERVER_CLOSED_IDLE))

    @precondition(lambda self: self.driver.closing)
    @rule(pick=PICK)
    def closed(self, pick):
        conns = list(self.driver.closing)
        conn = conns[pick % len(conns)]
        self.driver.closed(conn)
        assert self.driver.pool.closed(conn, self.driver.now) == ()

    @precondition(lambda self: self.driver.leases)
    @rule(pick=PICK, what=st.sampled_from(["retire", "draining", "upgraded"]))
    def change(self, pick, what):
        conn = self.driver.leases[pick % len(self.driver.leases)]
        if what == "retire":
            self.driver.apply(self.driver.pool.retire(conn, self.driver.now))
        else:
            getattr(self.driver.pool, f"set_{what}")(conn)

    # -- time and commands -------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.0, 1.0, 5.0, 30.0, 100.0]))
    def expire(self, seconds):
        self.driver.now += seconds
        self.driver.apply(self.driver.pool.expire(self.driver.now))
        due = self.driver.pool.next_expiry()
        assert due is None or due > self.driver.now

    @rule(seconds=st.sampled_from([0.5, 30.0, 100.0]))
    def slept(self, seconds):
        idle = len(list(self.driver.pool.idle_conns()))
        actions = self.driver.apply(self.driver.pool.slept(seconds, self.driver.now))
        assert all(action.reason in EXPIRED for action in actions if isinstance(action, Close))
        assert len(list(self.driver.pool.idle_conns())) == idle - sum(isinstance(a, Close) for a in actions)
        due = self.driver.pool.next_expiry()
        assert due is None or due > self.driver.now

    @rule(seconds=st.sampled_from([1.0, 30.0, 100.0]))
    def wait(self, seconds):
        self.driver.now += seconds

    @rule()
    def close_idle(self):
        self.driver.apply(self.driver.pool.close_idle(self.driver.now))
        assert not list(self.driver.pool.idle_conns())

    @rule()
    def rebuild(self):
        """In rest a rebuild changes no gauge and causes nothing, but that a freed grant may be given again."""
        before = self.driver.stats
        self.driver.apply(self.driver.pool.rebuild(self.driver.now))
        after = self.driver.stats
        assert (before.open, before.closing, before.waiting) == (after.open, after.closing, after.waiting)

    @precondition(lambda self: self.driver.made > 6)
    @rule(certain=st.sampled_from([False] * 9 + [True]))
    def close(self, certain):
        if certain:
            self.driver.apply(self.driver.pool.close(self.driver.now))
            assert not self.driver.waiting
            self.driver.drain()
            assert self.driver.stats.open == 0
            self.start_again()

    def start_again(self):
        self.driver = Driver(**self.driver.pool.limits._asdict())
        self.queued, self.seq = [], 0

    # -- after each step ---------------------------------------------------------------

    @invariant()
    def nobody_is_overtaken(self):
        """Contract 1.3: who leaves a host's queue was at its front, and no newcomer is served past it."""
        queued = [waiter for waiter in self.driver.waiting if waiter.state is WaiterState.QUEUED]
        for host in "abcd":
            before = [waiter for waiter in self.queued if host_of(waiter.key) == host]
            stayed = [waiter for waiter in before if waiter in queued]
            served = [w for w in before if w not in queued and w.state is not WaiterState.CANCELLED]
            newcomers = [w for w in self.driver.waiting if host_of(w.key) == host and w.seq > self.seq]
            if stayed:
                assert all(waiter.seq < stayed[0].seq for waiter in served)
                assert all(waiter in queued for waiter in newcomers)
        self.queued = queued
        self.seq = max((waiter.seq for waiter in self.driver.waiting), default=self.seq)

    @invariant()
    def holds(self):
        driver = self.driver
        driver.pool.check()
        stats = driver.stats
        assert stats.leases == len(driver.leases)
        assert stats.dialing == len(driver.dials)
        assert stats.closing == len(driver.closing)
        assert stats.active + stats.draining + stats.upgraded == len(set(driver.leases))
        assert stats.open + stats.dialing + stats.closing <= (self.total or 10_000)
        assert sum(stats.closed.values()) == len(driver.reasons)
        assert all(waiter.pending for waiter in driver.waiting), "answered without a Wake"
        for conn in set(driver.leases):
            assert driver.leases.count(conn) <= self.capacity.get(conn, 1), "shared by too many"

    def teardown(self):
        if hasattr(self, "driver"):
            self.driver.drain()
            self.driver.pool.check()
            self.driver.apply(self.driver.pool.close(self.driver.now))
            self.driver.drain()
            self.driver.pool.check()
            stats = self.driver.stats
            assert stats.open == 0
            assert not any(stats.hosts[host].open for host in stats.hosts)


class SharedPoolMachine(PoolMachine):
    """A connection may serve several requests at a time, as HTTP/2 will (contract 8.4)."""

    capacities = st.sampled_from([1, 3, 3])

    @precondition(lambda self: self.driver.leases)
    @rule(pick=PICK, capacity=st.integers(0, 4))
    def set_capacity(self, pick, capacity):
        conn = self.driver.leases[pick % len(self.driver.leases)]
        self.driver.apply(self.driver.pool.set_capacity(conn, capacity, self.driver.now))
        self.capacity[conn] = max(self.capacity.get(conn, 1), capacity)


_settings = settings(
    max_examples=200 if FULL else 30,
    stateful_step_count=60 if FULL else 40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
PoolMachine.TestCase.settings = _settings
SharedPoolMachine.TestCase.settings = _settings
TestPool = pytest.mark.timeout(600)(PoolMachine.TestCase)
TestSharedPool = pytest.mark.timeout(600)(SharedPoolMachine.TestCase)
