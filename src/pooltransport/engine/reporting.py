"""What one transport has to say: leaks, responses held for long, closed connections, hooks that raise.

A finalizer only puts a word into the outbox; it is said at the next safe point, where no lock is held. Order of
every report: counter, hook, logger, warnings filter (contract 3.2, 3.3).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pooltransport import leaks, reports, witness
from pooltransport.stats import Activity, CloseReason, LeakFound
from pooltransport.trace import ConnClosedInfo, Hooks

if TYPE_CHECKING:
    from pooltransport.lease import Lease, Site
    from pooltransport.trace import OverdueReport

    from .connection import Connection
    from .ledger import Ledger

_SPOKEN_OF = frozenset((Activity.IDLE_HOLDER, Activity.SLOW_SERVER, Activity.SLOW_READER))


class Reporter:
    """Speaks for one ledger."""

    __slots__ = ("_ledger", "_leaks", "_overdue", "_told_hooks", "_words", "scope", "transport_hooks")

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        trace = ledger.options.trace
        self.transport_hooks = None if trace is None else Hooks((trace,), self.hook_error)
        self._told_hooks: set[str] = set()
        self._leaks = leaks.LeakLog()
        self._overdue = leaks.LeakLog()
        self._words = leaks.Outbox()
        self.scope: object = None  # whose the transport is, where a witness looks on

    def forget(self) -> None:
        """In a child process: what the parent had to say is the parent's."""
        self._words = leaks.Outbox()

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
        hooks = conn.hooks if conn.hooks is not None else self.transport_hooks
        if hooks is not None:
            hooks.tell("conn_closed", ConnClosedInfo(conn.info(self._ledger.now()), reason, reason.initiator))

    def hook_error(self, name: str, error: Exception) -> None:
        """Count a hook that raised, and log it once for each hook."""
        ledger = self._ledger
        ledger.note(ledger.pool.note_hook_error, name)
        if name not in self._told_hooks:
            self._told_hooks.add(name)
            import logging  # noqa: PLC0415 - only a broken hook pays for it

            extra = {"pool_name": ledger.options.name, "hook": name}
            logger = logging.getLogger("pooltransport.pool")
            logger.warning("the hook %s raised %r", name, error, exc_info=error, extra=extra)

    # -- leases ---------------------------------------------------------------------------------

    def transport_dropped(self, what: str, site: Site | None, sockets: int) -> None:
        """The transport was dropped unclosed, by a finalizer; it will not speak any more itself."""
        if (onlooker := witness.current) is not None:
            onlooker.transport_lost(self.scope, what, site, sockets)
        leaks.pending.append(partial(reports.warn_transport, what, site, sockets))

    def leak_sites(self) -> tuple[tuple[str, int], ...]:
        """Return the lines whose responses were never closed, and how often, the worst first."""
        return self._leaks.worst()

    def leak(self, lease: Lease) -> None:
        """A response was never closed; counted before. By a finalizer, or at an end."""
        if (onlooker := witness.current) is not None:
            onlooker.lease_lost(lease)
        self._words.append(partial(self._tell_leak, lease))

    def _tell_leak(self, lease: Lease) -> None:
        ledger = self._ledger
        ledger.watch.suspect(lease.site)
        count, loud = self._leaks.count(str(lease.site), ledger.now())
        stats = ledger.snapshot()
        limit = ledger.options.max_conns_per_host or ledger.options.max_conns
        gauges = f"{stats.leases} of {limit} in use now" if limit else f"{stats.leases} in use now"
        report = reports.make_report(lease, count, gauges)
        hooks = lease.hooks or self.transport_hooks
        if hooks is not None:
            hooks.tell("leaked", report)
        if loud:
            reports.warn_response(report, ledger.options.name)

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

    def ended(self, lease: Lease) -> None:
        """A lease that was spoken of has ended after all: it was no leak."""
        activity = lease.overdue
        if activity in _SPOKEN_OF:
            self._words.append(partial(self._tell_ended, lease, activity))

    def _tell_ended(self, lease: Lease, activity: Activity) -> None:
        now = self._ledger.now()
        report: OverdueReport = reports.make_overdue(lease, activity, now)
        reports.log_not_a_leak(report, now - lease.acquired_at, self._ledger.options.name)


def left_open(lease: Lease, found: LeakFound, now: float) -> Lease:
    """Mark a lease that its transport, loop or process did not outlive."""
    lease.found = found
    lease.dropped_at = now
    return lease
