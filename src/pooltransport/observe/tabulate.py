"""From snapshots to numbers: what of `PoolStats` is which metric, with which labels.

Counters with a closed list of labels are there at 0 as soon as there is a host: `increase()` of a series that is born
at 1 is 0, and the first leak would be invisible.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from pooltransport.stats import CloseReason, Histogram, Histograms
from pooltransport.trace import HOOK_NAMES

from . import catalogue as c
from .hosts import OTHER, Address, Hosts, address_of
from .table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pooltransport.stats import ClientStats, HostStats, PoolStats

    from .table import Labels

_GAUGES = ("active", "idle", "dialing", "draining", "upgraded", "closing", "waiting", "leases")
_SUMMED = ("acquired", "closed", "leaks_by_found", "drains", "acquire_failures")
_MOST_CACHED = 4096
_VERSIONS = {"http/1.1": "1.1", "h2": "2"}


def _rows() -> Iterator[tuple[str, str, str, Labels]]:
    """Give each counter with a closed list of labels: metric, field of the statistics, key in it, labels."""
    for source in c.VALUES[c.ACQUIRE_SOURCE]:
        yield "pooltransport.connection.acquired", "acquired", source, ((c.ACQUIRE_SOURCE, source),)
    for reason in CloseReason:
        labels = ((c.CLOSE_REASON, reason.value), (c.CLOSE_INITIATOR, reason.initiator))
        yield "pooltransport.connection.closed", "closed", reason.value, labels
    for failure in c.FAILURES:
        yield "pooltransport.acquire.failures", "acquire_failures", failure, (("error.type", failure),)
    for found in c.VALUES[c.LEAK_FOUND]:
        labels = ((c.LEAK_KIND, "response"), (c.LEAK_FOUND, found))
        yield "pooltransport.leaks", "leaks_by_found", found, labels
    for outcome in c.VALUES[c.DRAIN_OUTCOME]:
        yield "pooltransport.body.drain", "drains", outcome, ((c.DRAIN_OUTCOME, outcome),)


_ROWS = tuple(_rows())


class Shape(NamedTuple):
    """What labels of requests say. `methods`: which; `status`: the ``code``, or its ``class``, as ``2xx``."""

    methods: bool = True
    status: str = "code"


class _Counts(NamedTuple):
    """The counters of a host, or of what no host of a snapshot has."""

    acquired: Mapping[str, int]
    closed: Mapping[str, int]
    leaks_by_found: Mapping[str, int]
    drains: Mapping[str, int]
    acquire_failures: Mapping[str, int]
    histograms: Histograms
    protocol: str


def tabulate(
    snapshots: Iterable[PoolStats], hosts: Hosts, shape: Shape, clients: ClientStats, clients_dropped: int
) -> Table:
    """Return the numbers of all snapshots together."""
    snapshots = tuple(snapshots)
    hosts.settle(_marks(snapshots))
    table = Table()
    unlimited: set[tuple[str, Labels]] = set()
    others = False
    for stats in snapshots:
        for host in stats.hosts.values():
            address = address_of(host.address, host.port, host.proxy)
            label = hosts.label(address)
            where = host_labels(label)
            if label == OTHER or not hosts.is_quiet(label):
                _add_gauges(table, where, host)
            if stats.limits:
                _add_limits(table, where, {"per_host": host.limit, "idle_per_host": host.idle_limit}, unlimited)
            # Most of a thousand hosts are the same to a crawler's scrape: no zeros are added a thousand times.
            _add_counts(table, where, _counts_of(host), shape, zeros=label != OTHER or not others)
            others |= label == OTHER
        rest = _rest(stats)
        if rest is not None:
            _add_counts(table, host_labels(OTHER), rest, shape, zeros=not others)
            others = True
        if stats.limits:
            totals = {"total": stats.limits["max_conns"], "idle_total": stats.limits["max_idle_conns"]}
            _add_limits(table, (), totals, unlimited)
        for hook in HOOK_NAMES:
            table.add("pooltransport.hook.errors", ((c.HOOK, hook),), stats.hook_errors_by_hook.get(hook, 0))
        table.add("pooltransport.loop.lag_max", (), stats.loop_lag_max_s)
    for name, labels in unlimited:
        table.rows.get(name, {}).pop(labels, None)
    table.add("pooltransport.client.live", (), clients.live)
    table.add("pooltransport.client.created", (), clients.created)
    table.add("pooltransport.leaks", ((c.LEAK_KIND, "client"), (c.LEAK_FOUND, "gc")), clients_dropped)
    return table


@lru_cache(_MOST_CACHED)
def host_labels(address: Address) -> Labels:
    """Return the labels of a host."""
    return (("server.address", address[0]), ("server.port", str(address[1])))


@lru_cache(_MOST_CACHED)
def request_labels(where: Labels, method: str, outcome: str, shape: Shape, protocol: str | None) -> Labels:
    """Return the labels of a request: `outcome` is a status, or the class of an error."""
    labels = [*where]
    if shape.methods:
        labels.append(("http.request.method", method))
    if not outcome.isdigit():
        return (*labels, ("error.type", outcome))
    text = f"{outcome[0]}xx" if shape.status == "class" else outcome
    labels.append(("http.response.status_code", text))
    if int(outcome) >= 400:
        labels.append(("error.type", text))
    version = _VERSIONS.get(protocol or "")
    return (*labels, ("network.protocol.version", version)) if version else tuple(labels)


def _marks(snapshots: Iterable[PoolStats]) -> dict[Address, tuple[bool, Any]]:
    """Return for each host whether it is busy, and what changes whenever something is counted."""
    marks: dict[Address, tuple[bool, Any]] = {}
    for stats in snapshots:
        for host in stats.hosts.values():
            address = address_of(host.address, host.port, host.proxy)
            busy, mark = marks.get(address, (False, 0))
            requests = sum(times.total for times in host.histograms.requests.values())
            mark += sum(sum(getattr(host, name).values()) for name in _SUMMED) + host.dials + requests
            marks[address] = (busy or any(getattr(host, gauge) for gauge in _GAUGES), mark)
    return marks


def _add_gauges(table: Table, where: Labels, host: HostStats) -> None:
    connections = "http.client.open_connections"
    table.add(connections, ((c.STATE, "active"), *where), host.active + host.draining + host.upgraded)
    table.add(connections, ((c.STATE, "idle"), *where), host.idle)
    table.add("http.client.active_requests", where, host.leases)
    table.add("pooltransport.connection.dialing", where, host.dialing)
    table.add("pooltransport.acquire.waiting", where, host.waiting)
    table.add("pooltransport.acquire.oldest_wait", where, host.oldest_wait_s)
    table.add("pooltransport.lease.oldest_age", where, host.oldest_lease_s)
    for activity in c.VALUES[c.LEASE_CLASS]:
        labels = (*where, (c.LEASE_CLASS, activity))
        table.add("pooltransport.lease.overdue", labels, host.leases_by_class.get(activity, 0))


def _add_limits(
    table: Table, where: Labels, limits: Mapping[str, int | None], unlimited: set[tuple[str, Labels]]
) -> None:
    name = "pooltransport.connection.limit"
    for scope, limit in limits.items():
        labels = ((c.LIMIT_SCOPE, scope), *where)
        if limit is None:
            unlimited.add((name, labels))
        else:
            table.add(name, labels, limit)


def _add_counts(table: Table, where: Labels, counts: _Counts, shape: Shape, *, zeros: bool = True) -> None:
    for name, field, key, labels in _ROWS:
        count = getattr(counts, field).get(key, 0)
        if count or zeros:
            table.add(name, (*where, *labels), count)
    times = counts.histograms
    table.add_histogram("http.client.request.time_in_queue", where, times.time_in_queue)
    table.add_histogram("http.client.connection.duration", where, times.connection_duration)
    table.add_histogram("pooltransport.connection.requests", where, times.connection_requests)
    table.add_histogram("pooltransport.lease.duration", where, times.lease_duration)
    table.add_histogram("pooltransport.dial.duration", where, times.dial_duration)
    for kind, failed in times.dial_failures.items():
        table.add_histogram("pooltransport.dial.duration", (*where, ("error.type", kind)), failed)
    for key, taken in times.requests.items():
        method, _, outcome = key.partition(" ")
        labels = request_labels(where, method, outcome, shape, counts.protocol)
        table.add_histogram("http.client.request.duration", labels, taken)


def _counts_of(host: HostStats) -> _Counts:
    return _Counts(
        host.acquired,
        host.closed,
        host.leaks_by_found,
        host.drains,
        host.acquire_failures,
        host.histograms,
        host.protocol,
    )


def _rest(stats: PoolStats) -> _Counts | None:
    """Return what was counted for hosts that the pool has forgotten, or None if that is nothing."""
    hosts = tuple(stats.hosts.values())
    left = {}
    for name in _SUMMED:
        total = getattr(stats, name)
        left[name] = {key: count - sum(getattr(h, name).get(key, 0) for h in hosts) for key, count in total.items()}
    names = [name for name in Histograms._fields if name not in {"dial_failures", "requests"}]
    times: dict[str, Any] = {
        name: _minus(getattr(stats.histograms, name), [getattr(h.histograms, name) for h in hosts]) for name in names
    }
    for name in ("dial_failures", "requests"):
        tables = [getattr(h.histograms, name) for h in hosts]
        rows = {
            key: _minus(total, [table[key] for table in tables if key in table])
            for key, total in getattr(stats.histograms, name).items()
        }
        times[name] = {key: row for key, row in rows.items() if row.total}
    something = any(any(counts.values()) for counts in left.values()) or times["requests"] or times["dial_failures"]
    return _Counts(**left, histograms=Histograms(**times), protocol="") if something else None


def _minus(total: Histogram, parts: list[Histogram]) -> Histogram:
    counts = list(total.counts)
    left = total.sum
    for part in parts:
        counts = [a - b for a, b in zip(counts, part.counts, strict=True)]
        left -= part.sum
    return Histogram(total.bounds, tuple(counts), max(left, 0.0) if any(counts) else 0.0)
