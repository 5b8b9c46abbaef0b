"""What is counted and measured for one host. It outlives the host's record, and the transport: sums never go down.

Nothing here refers to a connection, a waiter or a dial, so that keeping counts keeps nothing else alive.
"""

from __future__ import annotations

from bisect import bisect_left
from operator import add
from typing import TYPE_CHECKING

from pooltransport.stats import AcquireFailure, AcquireSource, DrainOutcome, Histogram, Histograms, LeakFound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pooltransport.stats import CloseReason

# Upper bounds, in seconds: of the semantic conventions for HTTP, of theirs for connections, the first with a longer
# end for leases; and requests served by one connection.
SHORT = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
CONNECTION = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
LEASE = (*SHORT, 30.0, 60.0, 300.0)
REQUESTS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 5000.0)

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"))
_MOST_OUTCOMES = 200  # of one host: statuses and error types times methods; what is beyond is one


class Buckets:
    """A histogram that is being filled."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def fold(self, into: Buckets) -> None:
        """Add everything to `into`, of the same bounds."""
        into.counts = list(map(add, self.counts, into.counts))
        into.sum += self.sum

    def copy(self) -> Buckets:
        """Return another of the same content."""
        other: Buckets = Buckets.__new__(Buckets)
        other.bounds, other.counts, other.sum = self.bounds, self.counts[:], self.sum
        return other

    def frozen(self, least: int = 0) -> Histogram:
        """Return the histogram as a value; `least` more values fell into the first bucket, as zeros."""
        first, *rest = self.counts
        return Histogram(self.bounds, (first + least, *rest), self.sum)


class HostCounts:
    """The counters of one host (or of all, folded)."""

    __slots__ = (
        "acquired",
        "closed",
        "conn_requests",
        "conn_times",
        "dial_error_types",
        "dial_errors",
        "dial_failures",
        "dial_times",
        "dials",
        "drains",
        "failures",
        "hook_errors",
        "leaks",
        "lease_times",
        "queue_times",
        "requests",
        "retries",
        "reused",
        "timeouts",
    )

    def __init__(self) -> None:
        self.reused = 0  # acquired from idle: the warm path counts here, and waits no time
        self.acquired: dict[AcquireSource, int] = {}  # the others
        self.dials = 0
        self.dial_errors = 0
        self.dial_error_types: dict[str, int] = {}
        self.closed: dict[CloseReason, int] = {}
        self.leaks: dict[LeakFound, int] = {}
        self.drains: dict[str, int] = {}
        self.timeouts: dict[str, int] = {}
        self.retries = 0
        self.failures: dict[AcquireFailure, int] = {}
        self.hook_errors: dict[str, int] = {}  # by hook
        self.queue_times = Buckets(SHORT)
        self.lease_times = Buckets(LEASE)
        self.conn_times = Buckets(CONNECTION)
        self.conn_requests = Buckets(REQUESTS)
        self.dial_times = Buckets(SHORT)
        self.dial_failures: dict[str, Buckets] = {}
        self.requests: dict[tuple[str, int | str], Buckets] = {}

    def note_dial_error(self, kind: str, seconds: float) -> None:
        """Count a dial that failed after `seconds`."""
        self.dial_errors += 1
        self.dial_error_types[kind] = self.dial_error_types.get(kind, 0) + 1
        times = self.dial_failures.get(kind)
        if times is None:
            times = self.dial_failures[kind] = Buckets(SHORT)
        times.add(seconds)

    def note_request(self, method: str, outcome: int | str, seconds: float) -> None:
        """Count a request whose headers, or error, came after `seconds`."""
        times = self.requests.get((method, outcome))
        if times is None:
            row = (method if method in _METHODS else "_OTHER", outcome)
            if row not in self.requests and len(self.requests) >= _MOST_OUTCOMES:
                row = ("_OTHER", "_OTHER")
            times = self.requests.setdefault(row, Buckets(SHORT))
        times.add(seconds)

    def copy(self) -> HostCounts:
        """Return another of the same content: quick, for whoever holds the mutex."""
        other: HostCounts = HostCounts.__new__(HostCounts)
        for name in _NUMBERS:
            setattr(other, name, getattr(self, name))
        for name in _TABLES:
            setattr(other, name, getattr(self, name).copy())
        for name in _MEASURED:
            setattr(other, name, getattr(self, name).copy())
        for name in _MEASURED_BY:
            setattr(other, name, {key: times.copy() for key, times in getattr(self, name).items()})
        return other

    def fold(self, into: HostCounts) -> None:
        """Add everything to `into`."""
        for name in _NUMBERS:
            setattr(into, name, getattr(into, name) + getattr(self, name))
        for name in _TABLES:
            counts = getattr(into, name)
            for key, count in getattr(self, name).items():
                counts[key] = counts.get(key, 0) + count
        for name in _MEASURED:
            getattr(self, name).fold(getattr(into, name))
        for name in _MEASURED_BY:
            tables = getattr(into, name)
            for key, times in getattr(self, name).items():
                times.fold(tables.setdefault(key, Buckets(times.bounds)))

    def acquired_in_all(self) -> int:
        """How many connections were delivered."""
        return self.reused + sum(self.acquired.values())

    def as_stats(self) -> Mapping[str, object]:
        """Return them under the names of `HostStats` and `PoolStats`."""
        acquired = {text: self.acquired.get(source, 0) for source, text in _SOURCES}
        acquired[AcquireSource.REUSED.value] += self.reused
        total = sum(acquired.values())
        enough = total >= 20
        return {
            "acquired": acquired,
            "dials": self.dials,
            "dial_errors": self.dial_errors,
            "closed": {reason.value: count for reason, count in self.closed.items()},
            "leaks": sum(self.leaks.values()),
            "drains": {text: self.drains.get(text, 0) for text in _OUTCOMES},
            "timeouts": dict(self.timeouts),
            "retries": self.retries,
            "dial_errors_by_type": dict(self.dial_error_types),
            "acquire_failures": {text: self.failures.get(kind, 0) for kind, text in _FAILURES},
            "leaks_by_found": {text: self.leaks.get(found, 0) for found, text in _FOUND},
            "reuse_ratio_total": 1 - acquired[AcquireSource.DIALED.value] / total if enough else None,
            "histograms": Histograms(
                time_in_queue=self.queue_times.frozen(self.reused),
                lease_duration=self.lease_times.frozen(),
                connection_duration=self.conn_times.frozen(),
                connection_requests=self.conn_requests.frozen(),
                dial_duration=self.dial_times.frozen(),
                dial_failures={kind: times.frozen() for kind, times in self.dial_failures.items()},
                requests={f"{method} {outcome}": times.frozen() for (method, outcome), times in self.requests.items()},
            ),
        }


_NUMBERS = ("reused", "dials", "dial_errors", "retries")
_TABLES = ("acquired", "closed", "leaks", "drains", "timeouts", "failures", "dial_error_types", "hook_errors")
_MEASURED = ("queue_times", "lease_times", "conn_times", "conn_requests", "dial_times")
_MEASURED_BY = ("dial_failures", "requests")
# Every key there may be, with its text: asked of an enum each time they would cost more than the counting.
_SOURCES = tuple((member, member.value) for member in AcquireSource)
_OUTCOMES = tuple(member.value for member in DrainOutcome)
_FAILURES = tuple((member, member.value) for member in AcquireFailure)
_FOUND = tuple((member, member.value) for member in LeakFound)


class Sample:
    """What the rules of diagnosis compare over time, of one host."""

    __slots__ = (
        "acquired",
        "closed",
        "dialed",
        "idle_limit",
        "leaks",
        "lease_sum",
        "leases",
        "local",
        "no_file",
        "no_port",
        "peak",
        "refused",
        "unread",
    )

    def __init__(self, counts: HostCounts, peak: int) -> None:
        self.acquired = counts.acquired_in_all()
        self.dialed = counts.acquired.get(AcquireSource.DIALED, 0)
        self.closed = self.local = self.idle_limit = self.unread = 0
        for reason, count in counts.closed.items():
            name = reason.value
            self.closed += count
            self.local += count if reason.initiator == "local" else 0
            self.idle_limit += count if name in _IDLE_LIMITS else 0
            self.unread += count if name in _UNREAD else 0
        self.leaks = sum(counts.leaks.values())
        self.leases = sum(counts.lease_times.counts)
        self.lease_sum = counts.lease_times.sum
        self.peak = peak
        failures = counts.failures
        self.refused = failures.get(AcquireFailure.POOL_TIMEOUT, 0) + failures.get(AcquireFailure.POOL_QUEUE_FULL, 0)
        self.no_port = counts.dial_error_types.get("no_local_port", 0)
        self.no_file = counts.dial_error_types.get("too_many_files", 0)


_IDLE_LIMITS = frozenset(("idle_limit_host", "idle_limit_total"))
_UNREAD = frozenset(("body_not_consumed", "drain_limit", "drain_timeout"))
