"""What is counted of one host, and how it is folded and told."""

from __future__ import annotations

import pytest

from pooltransport.core.counts import CONNECTION, LEASE, REQUESTS, SHORT, Buckets, HostCounts
from pooltransport.core.pool import Limits, Pool, Waiter
from pooltransport.core.tally import stats_of_counts
from pooltransport.stats import AcquireFailure, AcquireSource, CloseReason, DrainOutcome, LeakFound


class TestBuckets:
    @pytest.mark.parametrize(
        ("value", "place"), [(0.0, 0), (1.0, 0), (1.0001, 1), (2.0, 1), (2.5, 2), (5.0, 2), (5.1, 3), (1e9, 3)]
    )
    def test_a_bound_belongs_to_what_is_below(self, value, place):
        buckets = Buckets((1.0, 2.0, 5.0))
        buckets.add(value)
        frozen = buckets.frozen()
        assert frozen.counts == tuple(int(number == place) for number in range(4))
        assert (frozen.total, frozen.sum, frozen.bounds) == (1, value, (1.0, 2.0, 5.0))

    def test_folded(self):
        mine, theirs = Buckets((1.0,)), Buckets((1.0,))
        for value in (0.5, 3.0):
            mine.add(value)
        theirs.add(0.25)
        mine.fold(theirs)
        assert (theirs.counts, theirs.sum) == ([2, 1], 3.75)
        assert (mine.counts, mine.sum) == ([1, 1], 3.5)

    def test_zeros_that_were_counted_elsewhere(self):
        assert Buckets((1.0,)).frozen(7).counts == (7, 0)

    @pytest.mark.parametrize("bounds", [SHORT, CONNECTION, LEASE, REQUESTS])
    def test_bounds_rise(self, bounds):
        assert list(bounds) == sorted(set(bounds))


class TestRequests:
    def outcomes(self, counts):
        return set(counts.as_stats()["histograms"].requests)

    def test_by_method_and_outcome(self):
        counts = HostCounts()
        counts.note_request("GET", 200, 0.2)
        counts.note_request("GET", 200, 0.3)
        counts.note_request("GET", "ReadTimeout", 60.0)
        counts.note_request("BREW", 418, 0.1)
        counts.note_request("PROPFIND", 418, 0.1)
        requests = counts.as_stats()["histograms"].requests
        assert {name: row.total for name, row in requests.items()} == {
            "GET 200": 2,
            "GET ReadTimeout": 1,
            "_OTHER 418": 2,
        }
        assert requests["GET 200"].sum == pytest.approx(0.5)

    def test_bounded(self):
        counts = HostCounts()
        counts.note_request("BREW", 418, 0.1)
        for status in range(1000, 1300):
            counts.note_request("GET", status, 0.1)
        assert len(counts.requests) == 201
        assert counts.requests["_OTHER", "_OTHER"].frozen().total == 101
        # What is there already goes on, by whatever name it is asked for.
        counts.note_request("GET", 1000, 0.1)
        counts.note_request("STEAM", 418, 0.1)
        assert counts.requests["GET", 1000].frozen().total == 2
        assert counts.requests["_OTHER", 418].frozen().total == 2


def full():
    """Return counts of which nothing is 0."""
    counts = HostCounts()
    counts.reused, counts.dials, counts.retries = 30, 12, 1
    counts.acquired = {AcquireSource.DIALED: 10, AcquireSource.HANDED_OVER: 2}
    counts.closed = {CloseReason.LEAKED: 3, CloseReason.FORK: 1}
    counts.leaks = {LeakFound.GC: 2, LeakFound.EXIT: 1}
    counts.drains = {DrainOutcome.LIMIT.value: 4}
    counts.timeouts = {"queue": 5}
    counts.hook_errors = {"leaked": 2}
    counts.failures = {AcquireFailure.POOL_TIMEOUT: 5}
    counts.note_dial_error("timeout", 30.0)
    counts.note_dial_error("other", 0.1)
    counts.note_request("GET", 200, 0.1)
    for times in (counts.queue_times, counts.lease_times, counts.conn_times, counts.dial_times):
        times.add(0.3)
    counts.conn_requests.add(7)
    return counts


def test_folded_twice_everything_is_there_twice():
    once, twice = full(), HostCounts()
    before = once.as_stats()
    for _ in range(2):
        once.fold(twice)
    assert once.as_stats() == before
    doubled = twice.as_stats()

    def double(value):
        if isinstance(value, dict):
            return {key: double(part) for key, part in value.items()}
        if hasattr(value, "bounds"):
            return value._replace(counts=tuple(2 * count for count in value.counts), sum=2 * value.sum)
        if hasattr(value, "_asdict"):
            return type(value)(**{name: double(part) for name, part in value._asdict().items()})
        return 2 * value

    ratio = doubled.pop("reuse_ratio_total")
    assert ratio == before.pop("reuse_ratio_total") == pytest.approx(1 - 10 / 42)
    assert doubled == double(before)


def test_every_slot_is_folded():
    """A counter that is added and forgotten in `fold` would be lost with its host."""
    empty, folded = HostCounts(), HostCounts()
    full().fold(folded)
    assert [name for name in HostCounts.__slots__ if same(folded, empty, name)] == []
    assert [name for name in HostCounts.__slots__ if not same(folded, full(), name)] == []


def same(one, other, name):
    def plain(value):
        if isinstance(value, Buckets):
            return value.frozen()
        return {key: plain(part) for key, part in value.items()} if isinstance(value, dict) else value

    return plain(getattr(one, name)) == plain(getattr(other, name))


def test_closed_lists_are_told_whole():
    told = HostCounts().as_stats()
    assert told["acquired"] == {"reused": 0, "dialed": 0, "handed_over": 0}
    assert set(told["acquire_failures"]) == {kind.value for kind in AcquireFailure}
    assert set(told["drains"]) == {outcome.value for outcome in DrainOutcome}
    assert told["leaks_by_found"] == {"gc": 0, "rescue": 0, "close": 0, "exit": 0}
    assert (told["closed"], told["timeouts"], told["dial_errors_by_type"]) == ({}, {}, {})
    assert told["reuse_ratio_total"] is None


@pytest.mark.parametrize(("reused", "ratio"), [(14, None), (15, 0.75)])
def test_a_ratio_from_twenty_on(reused, ratio):
    counts = HostCounts()
    counts.reused = reused
    counts.acquired[AcquireSource.DIALED] = 5
    assert counts.as_stats()["reuse_ratio_total"] == ratio


class TestTally:
    def make(self):
        pool = Pool(Limits(), host_of=lambda key: key, name="billing")
        waiter = Waiter("a")
        (dial,) = pool.get(waiter, 0.0)
        pool.dialed(dial.ticket, "conn", 0.0)
        return pool

    def test_notes_are_of_the_host(self):
        pool = self.make()
        pool.note_leak("conn")
        pool.note_leak("conn", LeakFound.RESCUE)
        pool.note_drain("conn", DrainOutcome.TIMEOUT)
        pool.note_lease("conn", "GET", 200, 0.1, 0.5)
        pool.note_lease("conn", "GET", 0, 0.0, 0.5)  # no answer came
        pool.note_request("a", "GET", "ReadTimeout", 1.0)
        pool.note_failure("a", AcquireFailure.POOL_TIMEOUT)
        pool.note_timeout("a", "queue")
        pool.note_retry("a")
        for host in (pool.stats(), pool.stats().hosts["a"]):
            assert (host.leaks, host.leaks_by_found["rescue"]) == (2, 1)
            assert (host.drains["timeout"], host.retries, host.timeouts) == (1, 1, {"queue": 1})
            assert host.acquire_failures["pool_timeout"] == 1
            assert host.histograms.lease_duration.total == 2
            assert {name: row.total for name, row in host.histograms.requests.items()} == {
                "GET 200": 1,
                "GET ReadTimeout": 1,
            }

    def test_of_a_connection_that_is_gone_the_rest_counts(self):
        pool = self.make()
        pool.note_leak("never seen")
        stats = pool.stats()
        assert (stats.leaks, stats.hosts["a"].leaks) == (1, 0)

    def test_hooks_by_name(self):
        pool = self.make()
        for name in ("leaked", "leaked", "got_conn", ""):
            pool.note_hook_error(*([name] if name else []))
        stats = pool.stats()
        assert (stats.hook_errors, stats.hook_errors_by_hook) == (4, {"leaked": 2, "got_conn": 1, "": 1})

    def test_samples_have_their_own_peaks(self):
        pool = self.make()
        assert pool.sample()["a"].peak == 1
        pool.put_idle("conn", 0.0)
        assert pool.look()["a"].peak == 1  # reached since then
        assert pool.sample()["a"].peak == 1
        assert pool.look()["a"].peak == pool.sample()["a"].peak == 0

    def test_of_many_hosts_only_those_in_use_are_sampled(self):
        pool = Pool(Limits(), host_of=lambda key: key)
        for number in range(2001):
            waiter = Waiter(number)
            (dial,) = pool.get(waiter, 0.0)
            pool.dialed(dial.ticket, f"conn{number}", 0.0)
        pool.remove("conn0", CloseReason.READ_ERROR)
        pool.closed("conn0", 0.0)
        assert len(pool.sample()) == 2000
        assert 0 not in pool.sample()
        assert len(pool.look()) == 2001

    def test_of_pools_that_are_gone(self):
        tables = {"http://a:80": full(), "http://b:80": full()}
        stats = stats_of_counts("billing", tables, full())
        assert (stats.name, stats.limits, stats.open, stats.waiting) == ("billing", {}, 0, 0)
        assert stats.dials == 36
        assert {origin: host.dials for origin, host in stats.hosts.items()} == {"http://a:80": 12, "http://b:80": 12}
        assert tables["http://a:80"].as_stats() == full().as_stats()  # untouched


class TestLooks:
    """What others see of a pool at work."""

    def test_who_waits_host_by_host_oldest_first(self):
        pool = Pool(Limits(max_conns=1), host_of=lambda key: key)
        holder = Waiter("a")
        (dial,) = pool.get(holder, 0.0)
        assert list(pool.waiters()) == []  # its own dial is under way
        pool.dialed(dial.ticket, "conn", 0.0)
        waiters = [Waiter(key) for key in ("b", "a", "b")]
        for waiter in waiters:
            pool.get(waiter, 0.0)
        assert list(pool.waiters()) == [waiters[1], waiters[0], waiters[2]]
        assert (pool.waiting_count, pool.open_count) == (3, 1)
        pool.remove("conn", CloseReason.READ_ERROR)  # a slot that is free when the socket is closed
        assert set(pool.waiters()) == set(waiters)
        assert pool.waiting_count == 3
        pool.closed("conn", 0.0)
        assert len(list(pool.waiters())) == 2

    def test_the_peak_is_reached_by_reuse_too(self):
        pool = Pool(Limits(), host_of=lambda key: key)
        for name in ("one", "two"):
            waiter = Waiter("a")
            (dial,) = pool.get(waiter, 0.0)
            pool.dialed(dial.ticket, name, 0.0)
            pool.put_idle(name, 0.0)
            if name == "one":
                assert pool.take("a", 0.0) == "one"
        pool.put_idle("one", 0.0)
        assert pool.sample()["a"].peak == 2
        pool.sample()
        assert pool.take("a", 0.0)
        assert pool.take("a", 0.0)
        assert pool.sample()["a"].peak == 2


def test_what_was_idle_waited_no_time():
    """The warm path measures no wait: it is counted where the others are, in the first bucket."""
    counts = HostCounts()
    counts.reused = 7
    counts.queue_times.add(0.3)
    told = counts.as_stats()["histograms"].time_in_queue
    assert (told.counts[0], told.total, told.sum) == (7, 8, 0.3)
