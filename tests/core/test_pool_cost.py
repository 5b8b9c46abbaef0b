"""The cost of an operation as records visited: the same at 10 and at 10,000 (design 2.2, httpx2#1169)."""

from __future__ import annotations

import pytest

from pooltransport.core.pool import Dial, Limits, Pool, QueueFull, Waiter
from pooltransport.stats import CloseReason

SMALL, LARGE = 10, 10_000


def build(**limits):
    return Pool(Limits(**{"max_idle_conns": None, **limits}), lambda key: key.partition("/")[0])


def ask(pool, key, now=0.0):
    waiter = Waiter(key)
    return waiter, pool.get(waiter, now)


def lease(pool, key, number):
    _waiter, actions = ask(pool, key)
    (dial,) = (action for action in actions if isinstance(action, Dial))
    pool.dialed(dial.ticket, number, 0.0)
    return number


def idle_connections(size):
    pool = build()
    for number in [lease(pool, "a", number) for number in range(size)]:
        pool.put_idle(number, 0.0)
    return pool


def idle_hosts(size):
    pool = build()
    for number in [lease(pool, "a" if not number else f"h{number}", number) for number in range(size)]:
        pool.put_idle(number, 0.0)
    return pool


def busy_connections(size):
    pool = build()
    for number in range(size):
        lease(pool, "a", number)
    pool.put_idle(0, 0.0)
    return pool


def waiters_elsewhere(size):
    """Many wait for another host; `a` is warm."""
    pool = build(max_conns_per_host=1)
    lease(pool, "full", -1)
    for _ in range(size):
        ask(pool, "full")
    pool.put_idle(lease(pool, "a", 0), 0.0)
    return pool


WARM = [idle_connections, idle_hosts, busy_connections, waiters_elsewhere]


def cost(pool, operation):
    before = pool.touched
    operation(pool)
    return pool.touched - before


def warm(pool):
    pool.put_idle(pool.take("a", 1.0), 1.0)


@pytest.mark.parametrize("scene", WARM)
def test_a_warm_request(scene):
    """At most 5 records, however many there are (design 7)."""
    small, large = cost(scene(SMALL), warm), cost(scene(LARGE), warm)
    assert 0 < large == small <= 5


@pytest.mark.parametrize("scene", WARM)
def test_a_request_by_the_full_path(scene):
    def operation(pool):
        waiter, _ = ask(pool, "a", 1.0)
        pool.put_idle(waiter.conn, 1.0)

    small, large = cost(scene(SMALL), operation), cost(scene(LARGE), operation)
    assert 0 < large == small <= 8


def waiters(size):
    """Many wait for the one connection of their host."""
    pool = build(max_conns_per_host=1)
    lease(pool, "a", 0)
    return pool, [ask(pool, "a")[0] for _ in range(size)]


def waiters_of_many_keys(size):
    pool = build(max_conns_per_host=1)
    lease(pool, "a", 0)
    return pool, [ask(pool, f"a/{number}")[0] for number in range(size)]


def waiting_hosts(size):
    """Many hosts hold nothing and wait for the total."""
    pool = build(max_conns=1)
    lease(pool, "a", 0)
    return pool, [ask(pool, f"h{number}")[0] for number in range(size)]


QUEUED = [waiters, waiters_of_many_keys, waiting_hosts]


@pytest.mark.parametrize("scene", QUEUED)
@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(lambda pool, _: pool.put_idle(0, 1.0), id="return"),
        pytest.param(lambda pool, _: pool.remove(0, CloseReason.READ_ERROR), id="remove"),
        pytest.param(lambda pool, _: pool.remove(0, CloseReason.READ_ERROR) and pool.closed(0, 1.0), id="replace"),
        pytest.param(lambda pool, _: ask(pool, "a", 1.0), id="queue"),
        pytest.param(lambda pool, queued: pool.cancel(queued[0], 1.0), id="cancel the first"),
        pytest.param(lambda pool, queued: pool.cancel(queued[len(queued) // 2], 1.0), id="cancel in the middle"),
        pytest.param(lambda pool, queued: pool.cancel(queued[-1], 1.0), id="cancel the last"),
    ],
)
def test_an_event_while_many_wait(scene, operation):
    costs = []
    for size in (SMALL, LARGE):
        pool, queued = scene(size)
        costs.append(cost(pool, lambda pool, queued=queued: operation(pool, queued)))
    assert costs[0] == costs[1] <= 12


def test_a_refusal():
    costs = []
    for size in (SMALL, LARGE):
        pool = build(max_conns_per_host=1, max_waiting=size)
        lease(pool, "a", 0)
        for _ in range(size):
            ask(pool, "a")

        def refused(pool):
            with pytest.raises(QueueFull):
                ask(pool, "a")

        costs.append(cost(pool, refused))
    assert costs[0] == costs[1] <= 2


@pytest.mark.parametrize("scope", [{"max_conns": None}, {"max_conns_per_host": None}])
def test_an_eviction(scope):
    """From the end where the oldest is, whether the host's limit binds or the total."""
    (name,) = scope
    costs = []
    for size in (SMALL, LARGE):
        pool = build(**{name: size})
        for number in [lease(pool, "a", number) for number in range(size)]:
            pool.put_idle(number, 0.0)
        costs.append(cost(pool, lambda pool: ask(pool, "a/other", 1.0)))
    assert costs[0] == costs[1] <= 6


def test_an_idle_overflow():
    costs = []
    for size in (SMALL, LARGE):
        pool = build(max_idle_conns=size, max_idle_conns_per_host=size + 5)
        for number in [lease(pool, "a", number) for number in range(size + 1)]:
            last = number
            if number < size:
                pool.put_idle(number, 0.0)
        costs.append(cost(pool, lambda pool, last=last: pool.put_idle(last, 1.0)))
    assert costs[0] == costs[1] <= 6


def test_expiry_visits_only_what_is_due():
    costs = []
    for size in (SMALL, LARGE):
        pool = idle_connections(size)
        conn = pool.take("a", 10.0)
        pool.put_idle(conn, 10.0, idle_timeout=5.0)
        costs.append(cost(pool, lambda pool: pool.expire(16.0)))
        assert pool.stats().closed == {"idle_timeout": 1}
    assert costs[0] == costs[1] <= 3


def test_stale_entries_of_the_heaps_do_not_pile_up():
    """Order kept by number alone: what was answered or taken long ago is dropped."""
    pool = build(max_conns=2)
    lease(pool, "a", 0)
    lease(pool, "b", 1)
    pool.put_idle(0, 0.0)
    for _ in range(1_000):
        pool.put_idle(pool.take("a", 0.0), 0.0, idle_timeout=5.0)
    assert len(pool._hints._heap) < 100
    pool.take("a", 0.0)
    queued = [ask(pool, "c")[0] for _ in range(1_000)]
    for waiter in queued[:-1]:
        pool.cancel(waiter, 0.0)
    assert len(pool._turns._heap) < 100
    pool.check()
