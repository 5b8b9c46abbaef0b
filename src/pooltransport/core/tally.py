"""What is counted, and the snapshot."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

from pooltransport.stats import DialErrorStats, HostStats, LeakFound, PoolStats

from .counts import HostCounts, Sample
from .policy import Policy
from .records import C, HostRecord, Limits

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

    from pooltransport.stats import AcquireFailure, DrainOutcome

    from .records import Waiter

_MOST_SAMPLED = 2000
_AGES = ("oldest_wait_s", "oldest_idle_s")
_GAUGES = ("active", "idle", "dialing", "draining", "upgraded", "closing", "waiting", "leases")


class Picture(NamedTuple):
    """What a snapshot is made of: copied quickly under the mutex, turned into values outside of it."""

    hosts: list[tuple[dict[str, Any], HostCounts]]
    forgotten: HostCounts
    values: dict[str, Any]

    def develop(self) -> PoolStats:
        """Return the snapshot."""
        hosts = [HostStats(**counts.as_stats(), **gauges) for gauges, counts in self.hosts]  # type: ignore[arg-type]
        everything = self.forgotten
        for _, counts in self.hosts:
            counts.fold(everything)
        gauges: dict[str, Any] = {gauge: sum(getattr(host, gauge) for host in hosts) for gauge in _GAUGES}
        gauges |= {age: max((getattr(host, age) for host in hosts), default=0.0) for age in _AGES}
        return PoolStats(
            **everything.as_stats(),  # type: ignore[arg-type]
            **gauges,
            **self.values,
            hosts={host.origin: host for host in hosts},
        )


def _gauges(record: HostRecord[Any], limits: Limits, now: float) -> dict[str, Any]:
    host, idle = record.host, len(record.idle)
    waiting = [*(waiter.since for waiter in _first(record.queue)), *_held_since(record)]
    entry = next(iter(record.idle), None)
    error = record.last_dial_error
    return {
        "origin": str(host),
        "scheme": getattr(host, "scheme", ""),
        "address": getattr(host, "host", str(host)),
        "port": getattr(host, "port", 0),
        "proxy": getattr(host, "proxy", None),
        "active": record.conns - idle - record.draining - record.upgraded,
        "idle": idle,
        "dialing": record.dialing,
        "draining": record.draining,
        "upgraded": record.upgraded,
        "closing": record.closing,
        "waiting": len(record.queue) + len(record.held),
        "leases": record.leases,
        "limit": limits.max_conns_per_host,
        "idle_limit": limits.idle_per_host,
        "oldest_wait_s": max(now - min(waiting), 0.0) if waiting else 0.0,
        "oldest_idle_s": max(now - entry.idle_since, 0.0) if entry is not None else 0.0,
        "last_dial_error": None if error is None else DialErrorStats(error[0], max(now - error[1], 0.0)),
    }


def _first(table: Iterable[Waiter[C]]) -> Iterator[Waiter[C]]:
    return itertools.islice(table, 1)


def _held_since(record: HostRecord[Any]) -> Iterator[float]:
    return (ticket.waiter.since for ticket in itertools.islice(record.held, 1) if ticket.waiter is not None)


class Tallied(Policy[C]):
    """`stats`, `sample`, `counts`, and `note_…`."""

    def stats(self, now: float | None = None) -> PoolStats:
        """Return a snapshot of all gauges and counters; work grows with the number of hosts."""
        return self.picture(self._now if now is None else now).develop()

    def picture(self, now: float) -> Picture:
        """Return what a snapshot is made of."""
        return Picture(
            [(_gauges(record, self.limits, now), record.counts.copy()) for record in self._hosts.values()],
            self.forgotten.copy(),
            {
                "schema": 1,
                "name": self.name,
                "hook_errors": sum(self.forgotten.hook_errors.values()),
                "hook_errors_by_hook": dict(self.forgotten.hook_errors),
                "rebuilds": self._rebuilds,
                "limits": self.limits._asdict(),
                "monotonic": now,
            },
        )

    def adopt(self, host: Hashable, counts: HostCounts) -> None:
        """Take over the counters of a host of another pool."""
        self._record(host).counts = counts

    def sample(self) -> dict[Hashable, Sample]:
        """Return what is compared over time, of each host, or of those in use if they are many; peaks begin anew."""
        everybody = len(self._hosts) <= _MOST_SAMPLED
        samples = {}
        for host, record in self._hosts.items():
            if everybody or record not in self._dormant:
                samples[host] = Sample(record.counts, record.peak)
                record.peak = record.leases
        return samples

    def look(self) -> dict[Hashable, Sample]:
        """As `sample`, of what is now, for a comparison; peaks go on."""
        return {host: Sample(record.counts, record.peak) for host, record in self._hosts.items()}

    # -- counters of what happens outside -----------------------------------------

    def note_leak(self, conn: C, found: LeakFound = LeakFound.GC) -> None:
        """Count a response that nobody closed."""
        leaks = self._counts_of(conn).leaks
        leaks[found] = leaks.get(found, 0) + 1

    def note_drain(self, conn: C, outcome: DrainOutcome) -> None:
        """Count how reading the rest of a body on close ended."""
        drains = self._counts_of(conn).drains
        drains[outcome.value] = drains.get(outcome.value, 0) + 1

    def note_lease(self, conn: C, method: str, status: int, waited: float, held: float) -> None:
        """Count a lease that ends: when the headers had come since the request began, and how long it was held."""
        counts = self._counts_of(conn)
        if status:
            counts.note_request(method, status, waited)
        counts.lease_times.add(held)

    def note_request(self, host: Hashable, method: str, error: str, seconds: float) -> None:
        """Count a request that ended in an error before its headers came."""
        record = self._record(host)
        record.counts.note_request(method, error, seconds)
        self._tidy_host(record)

    def note_failure(self, host: Hashable, kind: AcquireFailure) -> None:
        """Count a request that got no connection."""
        record = self._record(host)
        failures = record.counts.failures
        failures[kind] = failures.get(kind, 0) + 1
        self._tidy_host(record)

    def note_timeout(self, host: Hashable, phase: str) -> None:
        """Count a timeout of the host in the phase."""
        record = self._record(host)
        timeouts = record.counts.timeouts
        timeouts[phase] = timeouts.get(phase, 0) + 1
        self._tidy_host(record)

    def note_retry(self, host: Hashable) -> None:
        """Count a request to the host that was tried again."""
        record = self._record(host)
        record.counts.retries += 1
        self._tidy_host(record)

    def note_hook_error(self, name: str = "") -> None:
        """Count a hook that raised."""
        errors = self.forgotten.hook_errors  # of no host, and kept as long
        errors[name] = errors.get(name, 0) + 1

    def _counts_of(self, conn: C) -> HostCounts:
        entry = self._entries.get(conn)
        return self.forgotten if entry is None else entry.record.counts


def stats_of_counts(name: str | None, tables: dict[Hashable, HostCounts], rest: HostCounts) -> PoolStats:
    """Return the statistics of pools that are gone: their counters, by host, with every gauge 0."""
    pool: Tallied[Any] = Tallied(Limits(None, idle_conn_timeout=None), lambda key: key, name)
    for host, counts in tables.items():
        pool.adopt(host, counts)
    rest.fold(pool.forgotten)
    return pool.stats(0.0)._replace(limits={})
