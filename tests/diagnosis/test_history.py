"""The last minutes of a transport: what is compared with what, how late the house was kept, peaks."""

from __future__ import annotations

import pytest

from pooltransport.core.counts import HostCounts, Sample
from pooltransport.diagnosis.history import Delta, History
from pooltransport.stats import AcquireFailure, AcquireSource, CloseReason, LeakFound


def sample(peak=0, **more):
    """Return a `Sample` with some of its numbers, by their names there."""
    made = Sample(HostCounts(), peak)
    for name, value in more.items():
        setattr(made, name, value)
    return made


class Service:
    """A service whose host has so many acquired connections each second, and a housekeeper each `every` seconds."""

    def __init__(self, rate=1.0):
        self.history = History(0.0)
        self.rate = rate
        self.taken = []

    def samples(self, now):
        return {"h": sample(acquired=int(self.rate * now), dialed=int(self.rate * now / 2), peak=3)}

    def run(self, since, until, every=1.0):
        now = since
        while now <= until:
            self.history.tick(now, lambda now=now: self.take(now))
            now += every

    def take(self, now):
        self.taken.append(now)
        return self.samples(now)


class TestWindows:
    def test_a_sample_each_five_seconds(self):
        service = Service()
        service.run(0.0, 60.0)
        assert service.taken == [float(second) for second in range(0, 61, 5)]

    def test_since_the_beginning_if_that_is_less(self):
        service = Service(rate=2.0)
        service.run(0.0, 20.0)
        minute = service.history.minute(20.0, service.samples(20.0))["h"]
        assert (minute.seconds, minute.acquired, minute.dialed) == (20.0, 40, 20)
        assert service.history.ten_minutes(20.0, service.samples(20.0))["h"].acquired == 40

    @pytest.mark.parametrize("now", [200.0, 300.0, 1000.0, 5000.0])
    def test_the_last_minute_and_the_last_ten(self, now):
        service = Service(rate=2.0)
        service.run(0.0, now)
        minute = service.history.minute(now, service.samples(now))["h"]
        assert 60.0 <= minute.seconds <= 65.0
        assert minute.acquired == 2 * minute.seconds
        ten = service.history.ten_minutes(now, service.samples(now))["h"]
        assert min(now, 600.0) <= ten.seconds <= 661.0
        assert ten.acquired == 2 * ten.seconds

    def test_a_host_that_is_new(self):
        service = Service()
        service.run(0.0, 100.0)
        minute = service.history.minute(100.0, {"new": sample(acquired=7, leases=2, lease_sum=3.0)})["new"]
        assert (minute.acquired, minute.leases, minute.lease_mean) == (7, 2, 1.5)

    def test_a_host_that_was_forgotten_meanwhile_counts_from_nothing(self):
        """Nothing is ever negative."""
        history = History(0.0)
        history.tick(0.0, lambda: {"h": sample(acquired=100, leaks=5, closed=50)})
        minute = history.minute(70.0, {"h": sample(acquired=200, leaks=1, closed=3)})["h"]
        assert (minute.acquired, minute.leaks, minute.closed) == (200, 1, 3)

    def test_after_a_night_in_which_nothing_was_open(self):
        """The rates of the last minute are not those of the night."""
        service = Service(rate=0.0)
        service.run(0.0, 100.0)
        service.rate = 2.0
        service.run(36_000.0, 36_030.0)
        minute = service.history.minute(36_030.0, service.samples(36_030.0))["h"]
        assert (minute.seconds, minute.acquired) == (30.0, 60)
        service.run(36_031.0, 36_090.0)
        minute = service.history.minute(36_090.0, service.samples(36_090.0))["h"]
        assert (minute.seconds, minute.acquired) == (60.0, 120)
        ten = service.history.ten_minutes(36_090.0, service.samples(36_090.0))["h"]
        assert (ten.seconds, ten.acquired) == (90.0, 180)

    def test_nothing_was_open_since(self):
        """Dials that fail open nothing, and nobody keeps house for them: all that is known is told."""
        history = History(0.0)
        history.tick(0.0, lambda: {"h": sample()})
        minute = history.minute(5000.0, {"h": sample(no_port=3)})["h"]
        assert (minute.seconds, minute.no_port) == (5000.0, 3)

    def test_nothing_was_kept(self):
        history = History(0.0)
        assert history.minute(1000.0, {}) == {}
        assert history.minute(1000.0, {"h": sample(acquired=3)})["h"].seconds == 1000.0
        history.tick(2000.0, lambda: {"h": sample(acquired=3)})
        assert history.minute(2001.0, {"h": sample(acquired=5)})["h"].acquired == 2

    def test_no_time_has_passed(self):
        history = History(5.0)
        minute = history.minute(5.0, {"h": sample(acquired=3)})["h"]
        assert minute.seconds > 0

    def test_bursts_are_samples_in_which_the_idle_limit_closed_something(self):
        history = History(0.0)
        closed = [0, 4, 4, 9, 9, 9, 12]
        for number, count in enumerate(closed):
            history.tick(number * 5.0, lambda count=count: {"h": sample(idle_limit=count)})
        assert history.minute(31.0, {"h": sample(idle_limit=12)})["h"].bursts == 3
        assert history.minute(31.0, {"h": sample(idle_limit=13)})["h"].bursts == 4

    def test_they_are_bounded(self):
        service = Service()
        service.run(0.0, 10_000.0, every=5.0)
        ten = service.history.ten_minutes(10_000.0, service.samples(10_000.0))["h"]
        assert ten.seconds <= 661.0


class TestDelta:
    def test_reuse_is_known_from_twenty_on(self):
        def delta(acquired, dialed):
            names = set(Delta._fields) - {"seconds", "acquired", "dialed", "lease_mean"}
            return Delta(**dict.fromkeys(names, 0), seconds=60.0, acquired=acquired, dialed=dialed, lease_mean=None)

        assert delta(19, 5).reuse is None
        assert delta(20, 5).reuse == 0.75
        assert delta(20, 0).reuse == 1.0

    def test_what_a_sample_counts(self):
        counts = HostCounts()
        counts.reused = 7
        counts.acquired = {AcquireSource.DIALED: 3, AcquireSource.HANDED_OVER: 2}
        counts.closed = {
            CloseReason.IDLE_LIMIT_HOST: 4,
            CloseReason.IDLE_LIMIT_TOTAL: 1,
            CloseReason.SERVER_CLOSED_IDLE: 5,
            CloseReason.DRAIN_LIMIT: 2,
            CloseReason.DRAIN_TIMEOUT: 1,
            CloseReason.BODY_NOT_CONSUMED: 1,
            CloseReason.GOAWAY: 1,
        }
        counts.leaks = {LeakFound.GC: 1, LeakFound.RESCUE: 2}
        counts.failures = {
            AcquireFailure.POOL_TIMEOUT: 2,
            AcquireFailure.POOL_QUEUE_FULL: 3,
            AcquireFailure.CANCELLED: 9,
        }
        counts.lease_times.add(0.5)
        counts.lease_times.add(1.0)
        for kind in ("no_local_port", "too_many_files", "too_many_files", "timeout"):
            counts.note_dial_error(kind, 0.1)
        made = Sample(counts, 11)
        assert {name: getattr(made, name) for name in Sample.__slots__} == {
            "acquired": 12,
            "dialed": 3,
            "closed": 15,
            "local": 9,
            "idle_limit": 5,
            "unread": 4,
            "leaks": 3,
            "leases": 2,
            "lease_sum": 1.5,
            "peak": 11,
            "refused": 5,
            "no_port": 1,
            "no_file": 2,
        }


class TestLag:
    def test_how_late_at_worst_in_the_last_minute(self):
        history = History(0.0)
        late = {20.0: 0.4, 30.0: 1.5}
        for second in range(100):
            now = float(second)
            history.tick(now + late.get(now, 0.0), dict)
            history.expect(now + 1.0)
            if now < 20.0:
                assert history.lag(now) == 0.0
            elif now < 29.0:
                assert history.lag(now) == pytest.approx(0.4)
            elif 31.0 <= now <= 85.0:
                assert history.lag(now) == pytest.approx(1.5)
        assert history.lag(99.0) == 0.0

    def test_sooner_is_not_late(self):
        history = History(0.0)
        history.expect(10.0)
        history.tick(5.0, dict)
        assert history.lag(5.0) == 0.0

    def test_where_nobody_was_to_come_nobody_is_late(self):
        history = History(0.0)
        history.expect(1.0)
        history.expect(None)
        history.tick(100.0, dict)
        assert history.lag(100.0) == 0.0


class TestPeak:
    def test_most_in_five_minutes(self):
        history = History(0.0)
        peaks = {100.0: 9, 200.0: 5}
        for second in range(0, 500, 5):
            history.tick(float(second), lambda now=float(second): {"h": sample(peak=peaks.get(now, 1))})
            if second in {150, 390}:
                assert history.peak("h", float(second), {"h": sample(peak=2)}) == 9
        assert history.peak("h", 495.0, {"h": sample(peak=2)}) == 5
        assert history.peak("h", 495.0, {"h": sample(peak=7)}) == 7
        assert history.peak("other", 495.0, {"h": sample(peak=7)}) == 0
