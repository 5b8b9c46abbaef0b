"""Which hosts have labels of their own, and what becomes of the numbers of those that have none."""

from __future__ import annotations

import json
import random

import pytest

from pooltransport.core.books import DORMANT_HOSTS
from pooltransport.core.keys import Host
from pooltransport.core.pool import Limits, Pool, Waiter
from pooltransport.observe.catalogue import METRICS, Kind
from pooltransport.observe.hosts import OTHER, QUIET, Hosts, address_of
from pooltransport.observe.table import Table
from pooltransport.observe.tabulate import Shape, tabulate
from pooltransport.stats import AcquireFailure, ClientStats, CloseReason


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


A, B, C, D = (("a", 1), ("b", 1), ("c", 1), ("d", 1))


def idle(*addresses, mark=0):
    return dict.fromkeys(addresses, (False, mark))


class TestHosts:
    def test_the_first_have_labels_and_others_share_one(self, clock):
        hosts = Hosts(2, clock)
        hosts.settle(idle(A, B, C))
        assert [hosts.label(x) for x in (A, B, C)] == [A, B, OTHER]

    def test_a_newcomer_takes_the_place_of_who_was_quiet_for_an_hour_the_longest(self, clock):
        hosts = Hosts(2, clock)
        hosts.settle(idle(A, B))
        clock.now = QUIET - 1
        hosts.settle(idle(A) | idle(B, mark=1))  # B counted something
        clock.now = QUIET
        hosts.settle(idle(A) | idle(B, mark=1) | idle(C))
        assert [hosts.label(x) for x in (A, B, C)] == [OTHER, B, C]

    def test_who_gave_it_up_gets_it_back_only_when_the_pools_have_forgotten_it(self, clock):
        hosts = Hosts(1, clock)
        hosts.settle(idle(A))
        clock.now = QUIET
        hosts.settle(idle(A, B))
        clock.now = 2 * QUIET
        hosts.settle(idle(A, B))
        assert [hosts.label(x) for x in (A, B)] == [OTHER, B]
        hosts.settle({})
        hosts.settle(idle(A))
        assert hosts.label(A) == A

    def test_quiet_is_an_hour_without_connection_or_count(self, clock):
        hosts = Hosts(4, clock)
        hosts.settle({A: (True, 0), B: (False, 0)})
        clock.now = QUIET
        hosts.settle({A: (True, 0), B: (False, 0)})
        assert (hosts.is_quiet(A), hosts.is_quiet(B)) == (False, True)
        hosts.settle({A: (True, 0), B: (False, 1)})
        assert not hosts.is_quiet(B)

    def test_where_nobody_settles_using_one_keeps_it(self, clock):
        hosts = Hosts(2, clock)
        assert [hosts.use(x) for x in (A, B, C)] == [A, B, OTHER]
        clock.now = QUIET - 1
        hosts.use(B)
        clock.now = QUIET
        assert [hosts.use(x) for x in (D, B, A)] == [D, B, OTHER]

    @pytest.mark.parametrize(
        ("host", "address"),
        [
            (("api", 443, None), ("api", 443)),
            (("api", 443, "http://proxy:3128"), ("api", 443)),  # a tunnel
            (("*", 0, "http://proxy:3128"), ("proxy", 3128)),
            (("*", 0, "http://[::1]:3128"), ("::1", 3128)),
        ],
    )
    def test_what_a_forward_proxy_is_asked_for_is_the_proxys(self, host, address):
        assert address_of(*host) == address


def make_pool():
    return Pool(Limits(), host_of=lambda key: key)


def table_of(pool, hosts):
    return tabulate([pool.stats()], hosts, Shape(), ClientStats(0, 0), 0)


def failures(table, address=None):
    rows = table.rows["pooltransport.acquire.failures"]
    return sum(n for labels, n in rows.items() if address is None or ("server.address", address) in labels)


class TestTabulate:
    def test_what_the_pool_has_forgotten_is_still_counted(self, clock):
        """More hosts than a pool remembers: the counters of the forgotten go to ``_other``, and none is lost."""
        pool, hosts = make_pool(), Hosts(10, clock)
        before = 0
        for number in range(DORMANT_HOSTS + 50):
            pool.note_failure(Host(None, "http", f"h{number}", 80), AcquireFailure.DIAL_ERROR)
            pool.note_request(Host(None, "http", f"h{number}", 80), "GET", "ConnectError", 0.5)
            if number % 300 == 0 or (number > DORMANT_HOSTS and number % 10 == 0) or number == DORMANT_HOSTS + 49:
                table = table_of(pool, hosts)
                assert failures(table) == number + 1
                assert failures(table, "_other") >= before
                before = failures(table, "_other")
        rows = table.rows["http.client.request.duration"]
        assert sum(sum(row[:-1]) for row in rows.values()) == DORMANT_HOSTS + 50
        assert sum(row[-1] for row in rows.values()) == pytest.approx((DORMANT_HOSTS + 50) * 0.5)

    def test_gauges_of_a_host_vanish_after_a_quiet_hour_and_counters_stay(self, clock):
        pool, hosts = make_pool(), Hosts(10, clock)
        host = Host(None, "https", "api", 443)
        (dial,) = pool.get(Waiter(host), 0.0)
        pool.dialed(dial.ticket, "conn", 0.0)
        clock.now = QUIET
        assert len(table_of(pool, hosts).rows["http.client.open_connections"]) == 2
        pool.remove("conn", CloseReason.BAD_STATE)
        pool.closed("conn", 1.0)
        table_of(pool, hosts)
        clock.now = 2 * QUIET
        table = table_of(pool, hosts)
        assert "http.client.open_connections" not in table.rows
        assert "pooltransport.acquire.oldest_wait" not in table.rows
        assert sum(table.rows["pooltransport.connection.acquired"].values()) == 1


def made_up(rng):
    table = Table()
    for metric in METRICS:
        for _ in range(rng.randrange(3)):
            labels = tuple((name, rng.choice("xyz")) for name in metric.labels)
            if metric.kind is Kind.HISTOGRAM:
                table.add_counts(metric.name, labels, [rng.randrange(9) for _ in range(len(metric.buckets) + 1)], 1.5)
            else:
                table.add(metric.name, labels, rng.randrange(100))
    return table


class TestTable:
    def test_it_survives_json(self):
        table = made_up(random.Random(1))
        assert Table.from_plain(json.loads(json.dumps(table.as_plain()))) == table

    def test_unknown_metrics_and_other_buckets_are_left_out(self):
        plain = {
            "unknown": [[[], 1]],
            "pooltransport.client.live": [[[], [1, 2]]],
            "dns.lookup.duration": [[[], [1, 2]]],
        }
        assert list(Table.from_plain(plain)) == []

    @pytest.mark.parametrize("plain", [[], None, {"pooltransport.client.live": [1]}, {"pooltransport.client.live": 5}])
    def test_anything_else_is_refused(self, plain):
        with pytest.raises((ValueError, TypeError, AttributeError)):
            Table.from_plain(plain)

    def test_the_order_of_merging_is_no_matter(self):
        rng = random.Random(2)
        tables = [made_up(rng) for _ in range(4)]
        one, other = Table(), Table()
        for table in tables:
            one.merge(table)
        for table in reversed(tables):
            other.merge(table)
        assert one == other

    def test_gauges_are_not_summed(self):
        table = Table()
        for age in (3.0, 7.0, 5.0):
            table.add("pooltransport.lease.oldest_age", (), age)
            table.add("pooltransport.client.live", (), age)
        assert [value for _, _, value in table] == [7.0, 15.0]
        assert list(table.lasting()) == []
