"""How many clients or transports were made at a line in the last minute: cause (3), a client per request.

Pure: `now` is an argument, in seconds on any one clock that does not go back. Whoever shares one between threads
locks it. Memory is bounded: at most `MOST_SITES` lines, a count for each second of the window.
"""

from __future__ import annotations

from collections import deque

WINDOW = 60  # s
SUSPICIOUS = 10  # made at one line within the window: code PTC212
MOST_SITES = 1000


class _Line:
    """The counts of one line, by second, and their sum."""

    __slots__ = ("seconds", "sum")

    def __init__(self) -> None:
        self.seconds: deque[list[int]] = deque()  # [second, count], oldest first
        self.sum = 0

    def forget(self, now: float) -> None:
        while self.seconds and self.seconds[0][0] <= now - WINDOW:
            self.sum -= self.seconds.popleft()[1]


class Churn:
    """Counts creations by line. A second is counted as a whole: a count may be up to a second late in forgetting."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}  # in the order of their last creation

    def note_creation(self, site: str, now: float) -> int:
        """Count one more at `site` (``file:line``) and return how many were made there in the last 60 s."""
        line = self._lines.pop(site, None)
        if line is None:
            line = _Line()
            if len(self._lines) >= MOST_SITES:
                del self._lines[next(iter(self._lines))]  # the one that has made none for the longest time
        self._lines[site] = line
        line.forget(now)
        second = int(now)
        if line.seconds and line.seconds[-1][0] >= second:
            line.seconds[-1][1] += 1
        else:
            line.seconds.append([second, 1])
        line.sum += 1
        return line.sum

    def count(self, site: str, now: float) -> int:
        """Return how many were made at `site` in the last 60 s."""
        line = self._lines.get(site)
        if line is None:
            return 0
        line.forget(now)
        return line.sum

    def busiest(self, now: float, least: int = SUSPICIOUS) -> list[tuple[str, int]]:
        """Return the lines that made `least` or more in the last 60 s, with their counts, most first."""
        counts = [(site, self.count(site, now)) for site in self._lines]
        return sorted([row for row in counts if row[1] >= least], key=lambda row: -row[1])
