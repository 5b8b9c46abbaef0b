"""What one transport has to say: leaks, responses held for long, closed connections, hooks that raise.

A finalizer only puts a word into the outbox; it is said at the next safe point, where no lock is held. Order of
every report: counter, hook, logger, warnings filter (contract 3.2, 3.3).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pooltransport import census, leaks, observers, reports, witness
from pooltransport.lease import name_of
from pooltransport.stats import Activity, CloseReason, LeakFound
from pooltransport.trace import ConnClosedInfo, Hooks

if TYPE_CHECKING:
    from pooltransport.lease import Lease, Site
    from pooltransport.runtime.protocols import Runtime
    from pooltransport.trace import OverdueReport

    from .connection import Connection
    from .ledger import Ledger

AT_AN_END = frozenset((LeakFound.CLOSE, LeakFound.EXIT))  # a leak found so is counted once, and not again when dropped
_MOST_SITES = 1000
_SPOKEN_OF = frozenset((Activity.IDLE_HOLDER, Activity.SLOW_SERVER, Activity.SLOW_READER))


class Reporter:
    """Speaks for one ledger."""

    __slots__ = ("_ledger", "_leaks", "_overdue", "_sites", "_told_hooks", "_words", "scope", "transport_hooks")

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        trace = ledger.options.trace
        self.transport_hooks = None if trace is None else Hooks((trace,), self.hook_error)
        self._told_hooks: set[str] = set()
        self.scope: object = None  # whose the transport is, where a witness looks on
        self.forget()

    def forget(self) -> None:
        """In a child process: what the parent had to say, and has counted, is the parent's."""
        self._leaks = leaks.LeakLog()
        self._overdue = leaks.LeakLog()
        self._words = leaks.Outbox()
        self._sites: dict[tuple[str, str], int] = {}  # by origin and line

    def __bool__(self) -> bool:
        return bool(self._words)

    def tell(self, patience: float) -> None:
        """Say everything. Never under the mutex, never in a finalizer."""
        self._words.tell(patience)
        leaks.pending.tell(patience)

    # -- connections and hooks ------------------------------------------------------------------

    def closed(self, conn: Connection, reason: CloseReason, *, later: bool) -> None:
        """A connection is closed; `later` by a finalizer."""
        if later:
            self._words.append(partial(self.closed, conn, reason, later=False))
            return
        if observers.anybody:
            age = self._ledger.now() - conn.created
            self.observed(observers.Closed(conn.key.host, age, conn.requests_served))
        hooks = conn.hooks if conn.hooks is not None else self.transport_hooks
        if hooks is not None:
            hooks.tell("conn_closed", ConnClosedInfo(conn.info(self._ledger.now()), reason, reason.initiator))

    def observed(self, event: observers.Dialed | observers.Closed) -> None:
        """Tell observers of it at the next safe point."""
        self._words.append(partial(observers.tell, event, self._ledger.options))

    def hook_error(self, name: str, error: Exception) -> None:
        """Count a hook that raised, and log it once for each hook."""
        ledger = self._ledger
        ledger.note(ledger.pool.note_hook_error, name)
        if name not in self._told_hooks:
            self._told_hooks.add(name)
            extra: dict[str, object] = {"pool_name": ledger.options.name, "hook": name}
            reports.log("pool", "WARNING", f"the hook {name} raised {error!r}", extra, error)

    # -- leases ---------------------------------------------------------------------------------

    def transport_dropped(self, what: str, site: Site | None, sockets: int) -> None:
        """The transport was dropped unclosed, by a finalizer; it will not speak any more itself."""
        census.transport_dropped()
        if (onlooker := witness.current) is not None:
            onlooker.transport_lost(self.scope, what, site, sockets)
        leaks.pending.append(partial(reports.warn_transport, what, site, sockets))

    def leak_sites(self) -> dict[str, tuple[tuple[str, int], ...]]:
        """Return by origin the lines whose responses were never closed, and how often, the worst first."""
        found: dict[str, list[tuple[str, int]]] = {}
        for (origin, site), count in self._sites.copy().items():
            found.setdefault(origin, []).append((site, count))
        return {origin: tuple(sorted(rows, key=lambda row: -row[1])) for origin, rows in found.items()}

    def leak(self, lease: Lease) -> None:
        """A response was never closed; counted before. By a finalizer, or at an end."""
        if (onlooker := witness.current) is not None:
            onlooker.lease_lost(lease)
        self._words.append(partial(self._tell_leak, lease))

    def _tell_leak(self, lease: Lease) -> None:
        ledger = self._ledger
        ledger.watch.suspect(lease.site)
        site = name_of(lease.site)
        count, loud = self._leaks.count(site, ledger.now())
        if len(self._sites) < _MOST_SITES or (lease.origin, site) in self._sites:
            self._sites[lease.origin, site] = self._sites.get((lease.origin, site), 0) + 1
        hooks = lease.hooks or self.transport_hooks
        if not loud and (hooks is None or not hooks.wants("leaked")):
            return
        report = reports.make_report(lease, count, self._gauges(lease))
        if hooks is not None:
            hooks.tell("leaked", report)
        if loud:
            reports.warn_response(report, ledger.options.name)

    def _gauges(self, lease: Lease) -> str:
        options, stats = self._ledger.options, self._ledger.snapshot()
        limit, used = options.max_conns, stats.leases
        if options.max_conns_per_host is not None:
            host = stats.hosts.get(lease.origin)
            limit, used = options.max_conns_per_host, 0 if host is None else host.leases
        return f"{used} of {limit} in use now" if limit is not None else f"{used} in use now"

    def left_open(self, found: LeakFound, runtime: Runtime | None) -> int:
        """Count and report the responses that `runtime`, or the transport, or the process, did not outlive and that
        nobody reads: who is still at work, in another thread, has forgotten nothing.
        """
        ledger = self._ledger
        left = [
            lease
            for lease in tuple(ledger.leases.values())
            if lease.is_open
            and lease.is_unread
            and lease.found not in AT_AN_END
            and runtime in {None, lease.conn.runtime}
        ]
        for lease in left:
            lease.found, lease.dropped_at = found, ledger.now()
            lease.overdue = None  # there is more to say of it than that it has ended
            ledger.note(ledger.pool.note_leak, lease.conn, found)
            self.leak(lease)
        return len(left)

    def overdue(self, lease: Lease, activity: Activity) -> None:
        """A lease is held for long. Not under the mutex."""
        lease.overdue = activity
        if activity not in _SPOKEN_OF:
            return
        now = self._ledger.now()
        report = reports.make_overdue(lease, activity, now)
        hooks = lease.hooks or self.transport_hooks
        if hooks is not None:
            hooks.tell("lease_overdue", report)
        _, loud = self._overdue.count(f"{report.site} {activity.value}", now)
        if loud:
            reports.log_overdue(report, self._ledger.options.name)

    def ended(self, lease: Lease, now: float) -> None:
        """A lease that was spoken of has ended after all: it was no leak."""
        activity = lease.overdue
        if activity in _SPOKEN_OF:
            self._words.append(partial(self._tell_ended, lease, activity, now))

    def _tell_ended(self, lease: Lease, activity: Activity, now: float) -> None:
        report: OverdueReport = reports.make_overdue(lease, activity, now)
        reports.log_not_a_leak(report, now - lease.acquired_at, self._ledger.options.name)
