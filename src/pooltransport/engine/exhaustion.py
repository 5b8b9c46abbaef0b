"""The error that explains the pool (contract 7.3): who holds the connections, since when, and from where."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pooltransport.core.keys import ConnectKey
    from pooltransport.errors import PoolTimeout

    from .engine import Engine

_LONGEST_LINE = 200
_HOLDERS_TOLD = 3


def explain_exhaustion(error: PoolTimeout, engine: Engine, key: ConnectKey, waited: float, now: float) -> None:
    """Give `error` its numbers and its first line; the holders, by line, in its notes."""
    stats = engine.ledger.snapshot()
    options = engine.options
    host = stats.hosts.get(key.origin)
    per_host = options.max_conns_per_host
    in_host = 0 if host is None else host.open + host.dialing + host.closing
    scope = "per_host" if per_host is not None and in_host >= per_host else "total"
    limit = per_host if scope == "per_host" else options.max_conns
    gauges = host if scope == "per_host" and host is not None else stats
    used = gauges.active + gauges.draining + gauges.upgraded
    dialing = f"{gauges.dialing} dialing, " if gauges.dialing else ""
    holders = _holders(engine, key if scope == "per_host" else None, now)
    line = (
        f"no connection to {key.origin} within {waited:.2f} s: "
        f"{used} of {limit} in use, {dialing}{gauges.waiting} waiting"
    )
    code = f" [{error.code}]"
    if holders:
        site, count, age = holders[0]
        room = _LONGEST_LINE - len(line) - len(code)
        suspect = f"; {count} held since up to {age:.0f} s by {{}}, responses not closed"
        line += suspect.format(_shorten(site, max(room - len(suspect) + 2, 20)))
    error.args = ((line[: _LONGEST_LINE - len(code)] + code),)
    error.origin = key.origin
    error.limit_scope = scope
    error.limit = limit
    error.waited = waited
    error.stats = stats
    error.holders = holders
    error.suspects = tuple(site for site, _, _ in holders)
    for site, count, age in holders[:_HOLDERS_TOLD]:
        error.add_note(f"{count} held since up to {age:.1f} s by {site}")
    error.add_note(f"setting: {error.setting} = {error.seconds:g} s, phase {error.phase}")


def _holders(engine: Engine, key: ConnectKey | None, now: float) -> tuple[tuple[str, int, float], ...]:
    """Return (site, how many, oldest age) of who holds connections, most first."""
    groups: dict[str, tuple[int, float]] = {}
    for lease in tuple(engine.ledger.leases.values()):
        if key is None or lease.conn.key.host == key.host:
            site = str(lease.site) if lease.site is not None else "a line that was not recorded"
            count, age = groups.get(site, (0, 0.0))
            groups[site] = (count + 1, max(age, now - lease.opened_at))
    rows = [(site, count, age) for site, (count, age) in groups.items()]
    return tuple(sorted(rows, key=lambda row: (-row[1], -row[2])))


def _shorten(site: str, room: int) -> str:
    return site if len(site) <= room else "..." + site[-(room - 3) :]
