"""The snapshot that users see: the pool's counts, what goes on in the leases, the last minutes, and what it means."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from pooltransport import census
from pooltransport.diagnosis import ports
from pooltransport.diagnosis.findings import Facts, Holder, judge
from pooltransport.lease import Site, activity_of, describe, name_of
from pooltransport.stats import Activity, IdleStats, WaiterStats

from .kernel_notes import remote_addresses

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pooltransport.diagnosis.history import Delta
    from pooltransport.lease import Lease
    from pooltransport.stats import PoolStats

    from .engine import Engine

DEFAULT_NAME = "default"  # of the transports that clients borrow
_THRESHOLD = 60.0  # of what counts as held for long where warnings are off


def facts_of(engine: Engine, threshold: float | None = None) -> Facts:
    """Return everything that the rules look at, the snapshot with it. `threshold`: how long is "long", in seconds."""
    ledger = engine.ledger
    now = engine.now()
    threshold = threshold or engine.options.lease_warn_after or _THRESHOLD
    with ledger.looking():
        picture = ledger.pool.picture(now)
        current = ledger.pool.look()
    stats = picture.develop()
    minute = {str(host): delta for host, delta in ledger.memory.history.minute(now, current).items()}
    ten = {str(host): delta for host, delta in ledger.memory.history.ten_minutes(now, current).items()}
    leases = tuple(ledger.leases.values())
    judged = [(lease, activity_of(lease, now, threshold)) for lease in leases]
    by_origin: dict[str, list[tuple[Lease, Activity]]] = {}
    for row in judged:
        by_origin.setdefault(row[0].origin, []).append(row)
    hosts = {}
    for host, sample in current.items():
        origin = str(host)
        peak = ledger.memory.history.peak(host, now, {host: sample})
        hosts[origin] = _host(stats.hosts[origin], by_origin.get(origin, ()), minute.get(origin), peak, now)
    total = _total(minute.values())
    peak = max((host.peak_active_5m for host in hosts.values()), default=0)
    stats = _host(stats._replace(hosts=hosts), judged, total, peak, now)
    stats = stats._replace(
        pid=os.getpid(),
        taken_at=time.time(),
        uptime_s=now - ledger.memory.history.started,
        loop_lag_max_s=ledger.memory.history.lag(now),
    )
    return Facts(
        stats=stats,
        minute=minute,
        ten=ten,
        uptime=stats.uptime_s,
        lag=stats.loop_lag_max_s,
        holders={origin: holders_of(rows, now) for origin, rows in by_origin.items()},
        leak_sites=ledger.reports.leak_sites(),
        unread=_unread(ledger.memory.unread),
        lines=tuple(census.busiest_lines(time.monotonic())),
        tested="pytest" in sys.modules,
        hung_up=_hung_up(leases),
        ports=lambda origin: _port_use(remote_addresses(ledger, origin)),
    )


def _port_use(addresses: set[tuple[str, int]] | None) -> ports.PortUse | None:
    return None if addresses is None else ports.port_use(addresses)


def snapshot(engine: Engine, transport: object, *, detail: bool) -> PoolStats:
    """Return the statistics, with findings; `detail`: and each lease, waiter and idle connection."""
    facts = facts_of(engine)
    owner = census.BORROWED if engine.options.name == DEFAULT_NAME else transport
    stats = facts.stats._replace(findings=judge(facts), clients=census.clients_of(owner))
    if not detail:
        return stats
    now, ledger = engine.now(), engine.ledger
    threshold = engine.options.lease_warn_after or _THRESHOLD
    with ledger.looking():
        waiters = list(ledger.pool.waiters())
        idle = list(ledger.pool.idle_conns())
    leases = tuple(ledger.leases.values())
    return stats._replace(
        lease_list=tuple(describe(lease, now, threshold) for lease in leases),
        waiter_list=tuple(_waiter(waiter, leases, now) for waiter in waiters),
        idle_list=tuple(
            IdleStats(conn.key.origin, now - conn.created, now - conn.idle_since, conn.requests_served) for conn in idle
        ),
    )


def _host(stats: Any, rows: Any, delta: Delta | None, peak: int, now: float) -> Any:
    """Return the statistics of a host, or of all, with what goes on in its leases and went on in the last minute."""
    classes = Counter(activity.value for _, activity in rows)
    oldest = max((now - lease.acquired_at for lease, _ in rows), default=0.0)
    known = sum(classes.values())
    # The leases are counted outside of the pool's mutex: what differs by then is recent.
    classes[Activity.RECENT.value] += max(stats.leases - known, 0)
    return stats._replace(
        oldest_lease_s=max(oldest, 0.0),
        leases_by_class={activity.value: classes.get(activity.value, 0) for activity in Activity},
        peak_active_5m=max(peak, stats.leases),
        lease_mean_s_1m=None if delta is None else delta.lease_mean,
        arrival_rate_1m=None if delta is None else delta.acquired / max(delta.seconds, 1.0),
        reuse_ratio_1m=None if delta is None else delta.reuse,
    )


def _total(deltas: Any) -> Delta | None:
    rows = list(deltas)
    if not rows:
        return None
    names = [name for name in rows[0]._fields if name not in {"lease_mean", "seconds"}]
    sums = {name: sum(getattr(row, name) for row in rows) for name in names}
    spent = sum((row.lease_mean or 0.0) * row.leases for row in rows)
    mean = spent / sums["leases"] if sums["leases"] else None
    return rows[0]._replace(**sums, lease_mean=mean, seconds=max(row.seconds for row in rows))  # type: ignore[no-any-return]


def holders_of(rows: Any, now: float) -> tuple[Holder, ...]:
    """Group leases by line and by what goes on in them: the forgotten first, then the slow, then the many."""
    groups: dict[tuple[Any, Activity], list[Lease]] = {}
    for lease, activity in rows:
        groups.setdefault((lease.site and lease.site[:2], activity), []).append(lease)
    holders = []
    for (_, activity), leases in groups.items():
        site = leases[0].site
        age = max(now - lease.acquired_at for lease in leases)
        holders.append(
            Holder(name_of(site), activity, len(leases), age, min(lease.unread_for(now) for lease in leases))
        )
    return tuple(sorted(holders, key=lambda holder: holder.rank))


def _waiter(waiter: Any, leases: tuple[Lease, ...], now: float) -> WaiterStats:
    tag = waiter.tag
    until = None if tag.clocks is None else tag.clocks.until(tag.clocks.settings.acquire, waiter.since)
    holds = tuple(lease.id for lease in leases if tag.holder is not None and lease.holder == tag.holder)
    return WaiterStats(waiter.key.origin, now - waiter.since, None if until is None else max(until - now, 0.0), holds)


def _unread(counts: Mapping[Any, int]) -> tuple[tuple[str, int, int], ...]:
    rows = [
        (name_of(Site(site[0], site[1], "") if site else None), status, count)
        for (site, status), count in tuple(counts.items())
    ]
    return tuple(sorted(rows, key=lambda row: -row[2]))


def _hung_up(leases: tuple[Lease, ...]) -> dict[str, int]:
    """Count the connections that somebody holds, nobody reads, and the server has ended."""
    counts: Counter[str] = Counter()
    for lease in leases[:_MOST_ASKED]:
        if lease.is_unread and lease.bytes_expected != 0 and lease.conn.stream.hung_up():
            counts[lease.origin] += 1
    return counts


_MOST_ASKED = 200


def broken_invariant(engine: Engine) -> str | None:
    """Return which of the pool's invariants does not hold, or None. Work grows with everything there is: for tests."""
    with engine.ledger.looking():
        try:
            engine.ledger.pool.check()
        except AssertionError as error:
            import traceback  # noqa: PLC0415 - a bug of ours pays for it

            return str(error) or traceback.extract_tb(error.__traceback__)[-1].line
    return None
