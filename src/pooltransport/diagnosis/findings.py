"""The rules: what a snapshot and the last minutes mean, each with evidence and contrary evidence.

1. A rule says nothing without enough samples. ``certain`` is what was seen happen; ``likely`` needs the last minute
   and the last ten to agree, and half a minute of life; anything else is ``possible``.
2. Sentences carry numbers, no adjectives. What speaks against a finding stands beside it.
3. No rule but R9 ever advises a higher limit on connections: without a repaired server that only moves the queue.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from pooltransport.stats import Activity, Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pooltransport.census import Line
    from pooltransport.stats import HostStats, PoolStats

    from .history import Delta
    from .ports import PortUse

CERTAIN, LIKELY, POSSIBLE = "certain", "likely", "possible"
_RANK = {CERTAIN: 0, LIKELY: 1, POSSIBLE: 2}
_YOUNG = 30.0  # s of life in which nothing is more than possible
_BLOCKED = 0.25  # s that the housekeeper may be late before slowness is our own
_PORTS = 0.6
_FIXES = {
    "R1": "read the response in a `with` block, or call response.close()",
    "R2": "set max_idle_conns_per_host to {peak} or more, or leave it out",
    "R3": "make one client, or one transport, and share it",
    "R4": "read bodies to their end (response.read()), also of errors; or accept a dial for each",
    "R5": "look at the server; bound it with timeout=, read_timeout= or min_rate=",
    "R6": "keep connections (R2, R3, R4 say why they are closed); more local ports only move the end",
    "R9": "set max_conns_per_host to {size} or more, if the server can serve that many at once",
}


# Who is named first: the forgotten, then the slow, then the others.
BY_SUSPICION = (
    Activity.IDLE_HOLDER,
    Activity.SLOW_SERVER,
    Activity.SLOW_READER,
    Activity.PROGRESSING,
    Activity.RECENT,
    Activity.DECLARED_STREAM,
)


class Holder(NamedTuple):
    """Leases opened at one line that do the same: how `many`, and the age of the oldest in seconds."""

    site: str
    activity: Activity
    many: int
    age: float
    unread: float

    @property
    def rank(self) -> tuple[float, ...]:
        """Its place: the suspects first, of these the many, of these the old."""
        return BY_SUSPICION.index(self.activity), -self.many, -self.age


class Facts(NamedTuple):
    """What the rules look at. Deltas and holders by origin."""

    stats: PoolStats
    minute: Mapping[str, Delta]
    ten: Mapping[str, Delta]
    uptime: float
    lag: float
    holders: Mapping[str, tuple[Holder, ...]]
    leak_sites: Mapping[str, tuple[tuple[str, int], ...]]  # by origin: line, how often in all
    unread: tuple[tuple[str, int, int], ...]  # site, status, how many
    lines: tuple[Line, ...]  # that made clients or transports in the last minute
    tested: bool  # pytest runs: tests make them by the dozen
    hung_up: Mapping[str, int]  # leased connections that the server has ended
    ports: Callable[[str], PortUse | None]  # asks the kernel: only where there is a reason


def judge(facts: Facts) -> tuple[Finding, ...]:
    """Return what the rules say, the surest first."""
    found: list[Finding] = []
    for origin, host in facts.stats.hosts.items():
        minute, ten = facts.minute.get(origin), facts.ten.get(origin)
        holders = facts.holders.get(origin, ())
        found += _not_closed(facts, host, minute, holders)
        found += _slow_server(facts, host, holders)
        if minute is None or ten is None:
            continue
        found += _idle_limit(facts, host, minute, ten)
        found += _not_read(facts, host, minute, ten)
        found += _ports(facts, host, minute)
        found += _sizing(facts, host, minute, ten)
    found += _churn(facts)
    return tuple(sorted(found, key=lambda finding: _RANK[finding.confidence]))


def _finding(
    rule: str, cause: str, confidence: str, evidence: Iterable[str], against: Iterable[str], **more: object
) -> Finding:
    runbook, severity = _RUNBOOKS[rule]
    return Finding(
        rule, cause, severity, confidence, tuple(evidence), tuple(against), _FIXES[rule].format(**more), runbook
    )


_RUNBOOKS = {
    "R1": ("response-leak", "warning"),
    "R2": ("idle-limit", "warning"),
    "R3": ("client-per-request", "warning"),
    "R4": ("body-not-consumed", "warning"),
    "R5": ("slow-server", "warning"),
    "R6": ("port-exhaustion", "critical"),
    "R9": ("pool-saturated", "warning"),
}


def _sure(facts: Facts, agreed: bool) -> str:
    return LIKELY if agreed and facts.uptime >= _YOUNG else POSSIBLE


def _not_closed(facts: Facts, host: HostStats, minute: Delta | None, holders: tuple[Holder, ...]) -> Iterable[Finding]:
    """R1: response bodies are not closed."""
    leaks = minute.leaks if minute is not None else 0
    idle = [holder for holder in holders if holder.activity is Activity.IDLE_HOLDER]
    held = sum(holder.many for holder in idle)
    limit = host.limit or facts.stats.limits.get("max_conns")
    if not leaks and held < max(1.0, 0.2 * (limit or 0)):
        return
    evidence, against = [], []
    if leaks:
        evidence.append(f"{leaks} responses from {host.origin} were never closed, in the last {_span(minute)}")
        evidence += [
            f"{count} of them, in all, were opened at {site}"
            for site, count in facts.leak_sites.get(host.origin, ())[:3]
        ]
    evidence += [
        f"{holder.many} responses from {host.origin} are held since up to {holder.age:.0f} s by {holder.site}: "
        f"nobody has read them for {holder.unread:.1f} s or more"
        for holder in idle[:3]
    ]
    gone = facts.hung_up.get(host.origin, 0)
    if gone:
        evidence.append(f"the server has given up {gone} of the connections in use")
    busy = sum(holder.many for holder in holders if holder.activity in _AT_WORK)
    if busy:
        against.append(f"{busy} other responses are being read, waited for, or declared as streams")
    confidence = CERTAIN if leaks else _sure(facts, agreed=True)
    yield _finding("R1", "response bodies are not closed", confidence, evidence, against)


_AT_WORK = frozenset((Activity.PROGRESSING, Activity.SLOW_SERVER, Activity.SLOW_READER, Activity.DECLARED_STREAM))


def _slow_server(facts: Facts, host: HostStats, holders: tuple[Holder, ...]) -> Iterable[Finding]:
    """R5: the server is slow."""
    slow = [holder for holder in holders if holder.activity is Activity.SLOW_SERVER]
    count = sum(holder.many for holder in slow)
    in_use = host.active + host.draining
    if not count or (count < 3 and 2 * count < in_use):
        return
    evidence = [
        f"{holder.many} requests of {holder.site} wait for the server, since up to {holder.age:.0f} s"
        for holder in slow[:3]
    ]
    evidence.append(f"that is {count} of {in_use} connections in use to {host.origin}")
    against = []
    if facts.lag > _BLOCKED:
        against.append(f"this program's own loop or threads were {facts.lag:.2f} s late: the slowness may be ours")
    confidence = POSSIBLE if facts.lag > _BLOCKED else _sure(facts, agreed=True)
    yield _finding("R5", "the server is slow", confidence, evidence, against)


def _idle_limit(facts: Facts, host: HostStats, minute: Delta, ten: Delta) -> Iterable[Finding]:
    """R2: the idle limit is too low."""
    peak = host.peak_active_5m
    limit = host.idle_limit

    def fires(delta: Delta) -> bool:
        reuse = delta.reuse
        return delta.closed >= 20 and delta.idle_limit > 0.3 * delta.closed and reuse is not None and reuse < 0.8

    if limit is None or peak <= limit or not fires(minute):
        return
    rate = minute.dialed / minute.seconds
    needed = max(minute.dialed - minute.idle_limit, 0) / minute.seconds
    evidence = [
        (
            f"closed {minute.idle_limit} healthy connections to {host.origin} in the last {_span(minute)}: "
            f"max_idle_conns_per_host={limit}, at most {peak} in use at once"
        ),
        f"{rate:.1f} dials each second, which would be about {needed:.1f}; reuse {minute.reuse or 0.0:.0%}",
    ]
    against = []
    if minute.bursts < 3 and facts.uptime >= _YOUNG:
        against.append(f"it happened in {minute.bursts} bursts only")
    server = host.closed.get("server_close_header", 0)
    if server:
        against.append(f"the server itself closed {server} connections after their answer")
    agreed = fires(ten) and minute.bursts >= 3
    yield _finding("R2", "the idle limit per host is too low", _sure(facts, agreed), evidence, against, peak=peak)


def _not_read(facts: Facts, host: HostStats, minute: Delta, ten: Delta) -> Iterable[Finding]:
    """R4: bodies are not read to their end."""

    def fires(delta: Delta) -> bool:
        return delta.leases >= 20 and delta.unread > 0.1 * delta.leases

    if not fires(minute):
        return
    evidence = [
        (
            f"{minute.unread} of {minute.leases} responses from {host.origin} cost their connection in the last "
            f"{_span(minute)}: they were closed before the end of their bodies ({minute.unread / minute.leases:.0%})"
        )
    ]
    evidence += [f"{count} of status {status}, opened at {site}" for site, status, count in facts.unread[:3]]
    against = []
    kept = host.drains.get("reused", 0)
    if kept:
        against.append(f"{kept} more were read away on close, and kept their connection")
    yield _finding("R4", "response bodies are not read to their end", _sure(facts, fires(ten)), evidence, against)


def _ports(facts: Facts, host: HostStats, minute: Delta) -> Iterable[Finding]:
    """R6: local ports run out."""
    if not minute.no_port and minute.dialed < 1000:
        return
    use = facts.ports(host.origin)
    if not minute.no_port and (use is None or use.used <= _PORTS * use.limit):
        return
    evidence, against = [], []
    if minute.no_port:
        evidence.append(
            f"{minute.no_port} dials to {host.origin} found no free local port, in the last {_span(minute)}"
        )
    if use is not None:
        evidence.append(
            f"{use.used} of {use.limit} local ports towards {host.address} are in use, "
            f"{use.time_wait} of them in TIME_WAIT"
        )
    reasons = sorted(host.closed.items(), key=lambda row: -row[1])[:2]
    told = ", ".join(f"{reason} {count}" for reason, count in reasons) or "none"
    evidence.append(f"this pool closed {minute.local} connections itself in the last {_span(minute)} (in all: {told})")
    foreign = use is not None and minute.local < 0.2 * use.used
    if foreign:
        against.append("most of it is not of this pool: another one, or another process in this network namespace")
    confidence = CERTAIN if minute.no_port else _sure(facts, not foreign)
    yield _finding("R6", "local ports run out (TIME_WAIT)", confidence, evidence, against)


def _sizing(facts: Facts, host: HostStats, minute: Delta, ten: Delta) -> Iterable[Finding]:
    """R9: the limit is too low for the load (Little's law)."""
    limit = host.limit

    def needed(delta: Delta) -> float:
        # Who was refused or still waits came as well: what passes through a full pool never exceeds its limit.
        arrived = delta.acquired + delta.refused + host.waiting
        return arrived / delta.seconds * (delta.lease_mean or 0.0)

    if limit is None or not host.waiting or minute.acquired < 100 or needed(minute) <= limit:
        return
    arrived = minute.acquired + minute.refused + host.waiting
    rate, mean, size = arrived / minute.seconds, minute.lease_mean or 0.0, needed(minute)
    evidence = [
        (
            f"{rate:.1f} requests each second, {mean:.2f} s each: {size:.1f} connections to {host.origin} are needed, "
            f"the limit is {limit}; {host.waiting} wait"
        )
    ]
    against = []
    grown = ten.lease_mean is not None and mean > 1.5 * ten.lease_mean
    if grown:
        against.append(f"they were {ten.lease_mean:.2f} s each in the last ten minutes: the server became slower (R5)")
    agreed = not grown and needed(ten) > limit
    yield _finding(
        "R9", "the limit is too low for the load", _sure(facts, agreed), evidence, against, size=math.ceil(size * 1.2)
    )


def _churn(facts: Facts) -> Iterable[Finding]:
    """R3: a client, or a transport, for each request."""
    requests = sum(delta.acquired for delta in facts.minute.values())
    own = [line for line in facts.lines if line.gone >= 10 and line.requests is not None and line.requests <= 2]
    borrowed = [
        line for line in facts.lines if line.gone >= 10 and line.requests is None and line.made > 0.05 * requests > 0
    ]
    if not own and not borrowed:
        return
    evidence = [
        f"{line.made} in the last minute: {line.name}; {line.gone} are gone, after {line.requests:g} requests each"
        for line in own[:3]
    ]
    evidence += [f"{line.made} in the last minute: {line.name}; {line.gone} of them are gone" for line in borrowed[:3]]
    evidence.append(f"{requests} requests of this transport in the same time")
    against = []
    if not own:
        against.append("clients without a transport of their own share one, so that their connections are kept")
    if facts.tested:
        against.append("pytest is running: tests make clients by the dozen")
    agreed = bool(own) and not facts.tested
    yield _finding("R3", "a client is made for each request", _sure(facts, agreed=agreed), evidence, against)


def _span(delta: Delta | None) -> str:
    return f"{delta.seconds:.0f} s" if delta is not None else "minute"
