"""The error that explains the pool (contract 7.3): who holds the connections, since when, from where, and why.

The first line carries the top suspect, because SDKs and log lines drop notes; it goes to the logger as well, once a
second for each host. The notes are complete at most as often: a pool that runs dry fails a thousand requests at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pooltransport.diagnosis.findings import judge
from pooltransport.reports import log
from pooltransport.stats import Activity

from .statistics import facts_of
from .vigil import deadlocked

if TYPE_CHECKING:
    from typing import Any

    from pooltransport.core.keys import ConnectKey
    from pooltransport.core.pool import Waiter
    from pooltransport.diagnosis.findings import Facts, Holder
    from pooltransport.errors import PoolQueueFull, PoolTimeout

    from .engine import Engine

_LONGEST_LINE = 200
_HOLDERS_TOLD = 3
_FULLY_EACH = 1.0  # s, for each host
_SAME_MOMENT = 0.05  # s
_QUEUE_FULL_SECONDS = 1.0  # for so long somebody must have done nothing to be a suspect, where nobody waited
_WHOLE_WAIT = 0.9  # of the wait: who did nothing for so long is a suspect
_RECENTLY = 60.0  # s: a dial that failed so long ago may be why
_DOING = {
    Activity.IDLE_HOLDER: "responses not closed",
    Activity.SLOW_SERVER: "waiting for the server",
    Activity.SLOW_READER: "read slowly",
    Activity.PROGRESSING: "being read",
    Activity.RECENT: "in use",
    Activity.DECLARED_STREAM: "declared as streams",
}


class Exhaustion:
    """Explains for one engine, and remembers how lately it did."""

    __slots__ = ("_engine", "_facts", "_facts_at", "_told")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._facts: Facts | None = None
        self._facts_at = 0.0
        self._told: dict[str, float] = {}  # host: when it was explained in full

    def explain(self, error: PoolTimeout, waiter: Waiter[Any], now: float) -> None:
        """Give `error` its numbers and its first line; the holders, by line, in its notes."""
        engine, waited = self._engine, now - waiter.since
        key: ConnectKey = waiter.key  # type: ignore[assignment]
        facts = self._look(now, waited)
        scope, limit = self._limit(facts, key)
        holders = self._holders(facts, key if scope == "per_host" else None)
        error.args = (_first_line(error.code, facts, key, scope, limit, waited, holders),)
        _describe(error, facts, key, limit, holders)
        error.limit_scope = scope
        error.waited = waited
        self._chain(error, facts.stats.hosts.get(key.origin), key)
        if now - self._told.get(key.origin, -_FULLY_EACH) < _FULLY_EACH:
            return
        if len(self._told) > 1000:
            self._told.clear()
        self._told[key.origin] = now
        stats = facts.stats._replace(findings=judge(facts))
        error.stats = stats
        if deadlocked(engine, waiter, certain=False):
            error.add_note(
                "every connection is held by a thread or task that waits here itself: only this timeout ends it"
            )
        for note in _notes(facts, key, holders, stats.findings):
            error.add_note(note)
        error.add_note(f"setting: {error.setting} = {error.seconds:g} s, phase {error.phase}")
        error.add_note(f"more: python -m pooltransport explain {error.code}")
        _log(error, engine.options.name)

    def explain_full(self, error: PoolQueueFull, key: ConnectKey, now: float) -> None:
        """Give `error`, of a request that may not even wait, its numbers and its line."""
        limit = self._engine.options.max_waiting
        facts = self._look(now, _QUEUE_FULL_SECONDS)
        scope, _ = self._limit(facts, key)
        holders = self._holders(facts, key if scope == "per_host" else None)
        line = f"no connection to {key.origin}: {limit} requests wait already (max_waiting)"
        error.args = (_with_suspect(line, error.code, holders),)
        _describe(error, facts, key, limit, holders)

    def _look(self, now: float, waited: float) -> Facts:
        """Return the facts of this moment: a pool that runs dry fails a thousand requests at once."""
        facts = self._facts
        if facts is None or not 0 <= now - self._facts_at < _SAME_MOMENT:
            longest = self._engine.options.lease_warn_after or waited
            facts = self._facts = facts_of(self._engine, min(max(waited * _WHOLE_WAIT, 0.001), longest))
            self._facts_at = now
        return facts

    def _limit(self, facts: Facts, key: ConnectKey) -> tuple[str, int | None]:
        options = self._engine.options
        host = facts.stats.hosts.get(key.origin)
        per_host = options.max_conns_per_host
        in_host = 0 if host is None else host.open + host.dialing + host.closing
        if per_host is not None and (in_host >= per_host or options.max_conns is None):
            return "per_host", per_host
        return "total", options.max_conns

    def _holders(self, facts: Facts, key: ConnectKey | None) -> list[Holder]:
        if key is not None:
            return list(facts.holders.get(key.origin, ()))
        rows = [holder for holders in facts.holders.values() for holder in holders]
        return sorted(rows, key=lambda holder: holder.rank)

    def _chain(self, error: PoolTimeout, host: Any, key: ConnectKey) -> None:
        """If dials to this host fail, that may be why nobody gets a connection."""
        last = self._engine.ledger.memory.dial_failures.get(key.host)
        if host is not None and host.last_dial_error is not None and host.last_dial_error.age_s < _RECENTLY:
            error.__cause__ = last


def _describe(
    error: PoolTimeout | PoolQueueFull, facts: Facts, key: ConnectKey, limit: int | None, holders: list[Holder]
) -> None:
    error.origin = key.origin
    error.limit = limit
    error.stats = facts.stats
    error.holders = tuple((holder.site, holder.many, holder.age) for holder in holders)
    error.suspects = tuple(dict.fromkeys(holder.site for holder in holders))


def _first_line(
    code: str, facts: Facts, key: ConnectKey, scope: str, limit: int | None, waited: float, holders: list[Holder]
) -> str:
    host = facts.stats.hosts.get(key.origin)
    gauges = host if scope == "per_host" and host is not None else facts.stats
    used = gauges.active + gauges.draining + gauges.upgraded
    dialing = f"{gauges.dialing} dialing, " if gauges.dialing else ""
    line = (
        f"no connection to {key.origin} within {waited:.2f} s: "
        f"{used} of {limit} in use, {dialing}{gauges.waiting} waiting"
    )
    return _with_suspect(line, code, holders)


def _with_suspect(line: str, code: str, holders: list[Holder]) -> str:
    tail = f" [{code}]"
    if holders:
        top = holders[0]
        room = _LONGEST_LINE - len(line) - len(tail)
        suspect = f"; {top.many} held since up to {top.age:.0f} s by {{}}, {_DOING[top.activity]}"
        line += suspect.format(_shorten(top.site, max(room - len(suspect) + 2, 20)))
    return line[: _LONGEST_LINE - len(tail)] + tail


def _notes(facts: Facts, key: ConnectKey, holders: list[Holder], findings: Any) -> list[str]:
    host = facts.stats.hosts.get(key.origin)
    notes = []
    for finding in findings:
        if finding.id in {"R1", "R5", "R9"} and any(
            f" {key.origin} " in f" {text} " for text in (*finding.evidence, *finding.against)
        ):
            # What is held now says more here than what was dropped before.
            evidence = next((text for text in finding.evidence if " held " in text), finding.evidence[0])
            notes.append(f"likely cause: {finding.cause} ({finding.confidence}, {finding.id}); {evidence}")
            notes += [f"  against it: {text}" for text in finding.against]
            break
    notes += [
        f"{row.many} held since up to {row.age:.1f} s by {row.site}, {_DOING[row.activity]}"
        for row in holders[:_HOLDERS_TOLD]
    ]
    if host is not None:
        classes = ", ".join(f"{count} {name}" for name, count in host.leases_by_class.items() if count) or "none"
        notes.append(
            f"this host: {host.active} active ({classes}), {host.idle} idle, {host.dialing} dialing, "
            f"{host.waiting} waiting, the oldest for {host.oldest_wait_s:.2f} s"
        )
        if host.last_dial_error is not None:
            notes.append(f"last failed dial: {host.last_dial_error.type}, {host.last_dial_error.age_s:.1f} s ago")
    stats = facts.stats
    notes.append(
        f"the pool: {stats.open} open, {stats.dialing} dialing, {stats.waiting} waiting, {len(stats.hosts)} hosts"
    )
    minute = facts.minute.get(key.origin)
    if minute is not None:
        notes.append(
            f"last {minute.seconds:.0f} s: {minute.acquired} acquired, {minute.dialed} of them dialed; "
            f"{minute.leases} given back, {minute.closed} closed"
        )
    return notes


def _log(error: PoolTimeout, name: str | None) -> None:
    extra: dict[str, object] = {
        "pool_name": name,
        "code": error.code,
        "origin": error.origin,
        "limit_scope": error.limit_scope,
        "limit": error.limit,
        "waited": error.waited,
        "suspects": list(error.suspects),
    }
    # The text, not the error: whoever keeps the record would keep the request and its frames.
    log("pool", "WARNING", str(error), extra)


def _shorten(site: str, room: int) -> str:
    return site if len(site) <= room else "..." + site[-(room - 3) :]
