"""Leases that are held for long: one look over those at the front, in the order in which they were opened.

No timer for each lease: a pass of the housekeeper touches only those that are older than `lease_warn_after`
(observability: warnings of a leak detector that knows elapsed time alone are wrong too often). `lease_max` ends them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pooltransport.lease import activity_of

if TYPE_CHECKING:
    from pooltransport.lease import Lease

    from .ledger import Ledger

_MOST_OFTEN = 0.05  # s


class Watcher:
    """Looks for one ledger. `look` says when to look again."""

    __slots__ = ("_ledger", "_max", "_threshold")

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._threshold = ledger.options.lease_warn_after
        self._max = ledger.options.lease_max

    def look(self, now: float) -> float | None:
        """Judge what is overdue, end what may not go on. Return in how many seconds something may be due, or None."""
        if not self._threshold and self._max is None:
            return None
        soonest: float | None = None
        first = min(mark for mark in (self._threshold, self._max) if mark)
        for lease in tuple(self._ledger.leases.values()):
            age = now - lease.acquired_at
            left = self._due_in(age)
            if left is not None and (soonest is None or left < soonest):
                soonest = left
            if age < first:
                break  # the others are younger
            if self._max is not None and age >= self._max and not lease.is_stream:
                self._ledger.expire(lease)
            elif self._threshold and age >= self._threshold:
                self._judge(lease, now)
        return None if soonest is None else max(soonest, _MOST_OFTEN)

    def _due_in(self, age: float) -> float | None:
        marks = [mark for mark in (self._threshold, self._max) if mark]
        ahead = [mark - age for mark in marks if mark > age]
        return min(ahead) if ahead else self._threshold or None

    def _judge(self, lease: Lease, now: float) -> None:
        activity = activity_of(lease, now, self._threshold)
        if activity is not lease.overdue and lease.is_open:
            self._ledger.reports.overdue(lease, activity)
