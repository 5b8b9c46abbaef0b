"""The last minutes of one transport: what the rules compare.

One sample each five seconds for five minutes, one each minute for ten; taken by the housekeeper, or by who asks.
Where the house was not kept (nothing was open) there is nothing to compare but the beginning.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from pooltransport.core.counts import Sample

    Samples = Mapping[Hashable, Sample]

_FINE, _COARSE = 5.0, 60.0  # s between two samples
_PEAK_SECONDS = 300.0
_MINUTE, _TEN = 60.0, 600.0


class Delta(NamedTuple):
    """What happened at one host in `seconds`; names as in `Sample`. `lease_mean` in seconds; None: no lease ended."""

    seconds: float
    acquired: int
    dialed: int
    closed: int
    local: int
    idle_limit: int
    unread: int
    leaks: int
    leases: int
    refused: int
    no_port: int
    no_file: int
    lease_mean: float | None
    bursts: int  # samples in which the idle limit closed something

    @property
    def reuse(self) -> float | None:
        """Share of acquisitions without a dial; None under 20: neither 0 nor 1 would be true."""
        return None if self.acquired < 20 else 1 - self.dialed / self.acquired


_COUNTS = tuple(name for name in Delta._fields if name not in {"seconds", "lease_mean", "bursts"})


class History:
    """Samples of the past, and how late the housekeeper came."""

    __slots__ = ("_coarse", "_expected", "_fine", "_lag", "_lags", "started")

    def __init__(self, now: float) -> None:
        self.started = now
        self._fine: deque[tuple[float, Samples]] = deque(maxlen=int(_PEAK_SECONDS / _FINE) + 1)
        self._coarse: deque[tuple[float, Samples]] = deque(maxlen=int(_TEN / _COARSE) + 1)
        self._lags: deque[tuple[float, float]] = deque(maxlen=int(_MINUTE / _FINE) + 1)
        self._lag = 0.0
        self._expected: float | None = None

    def expect(self, at: float | None) -> None:
        """The housekeeper means to come again then; None: nobody does."""
        self._expected = at

    def tick(self, now: float, take: Callable[[], Samples]) -> None:
        """The housekeeper came: note by how much too late, and take a sample when one is due."""
        if self._expected is not None:
            self._lag = max(self._lag, now - self._expected)
            self._expected = None
        if not self._fine or now - self._fine[-1][0] >= _FINE:
            self._keep(now, take())

    def _keep(self, now: float, samples: Samples) -> None:
        self._fine.append((now, samples))
        self._lags.append((now, self._lag))
        self._lag = 0.0
        if not self._coarse or now - self._coarse[-1][0] >= _COARSE:
            self._coarse.append((now, samples))

    def lag(self, now: float) -> float:
        """By how many seconds the housekeeper came late at worst, in the last minute."""
        return max([self._lag, *(lag for at, lag in self._lags if now - at <= _MINUTE)])

    def peak(self, host: Hashable, now: float, current: Samples) -> int:
        """Most leases at once in the last five minutes."""
        rows = [samples for at, samples in self._fine if now - at <= _PEAK_SECONDS] + [current]
        return max((samples[host].peak for samples in rows if host in samples), default=0)

    def minute(self, now: float, current: Samples) -> dict[Hashable, Delta]:
        """What happened in the last 60 seconds, by host; since the beginning, if that is less."""
        return self._since(now, _MINUTE, self._fine, current)

    def ten_minutes(self, now: float, current: Samples) -> dict[Hashable, Delta]:
        """What happened in the last ten minutes, by host; since the beginning, if that is less."""
        return self._since(now, _TEN, self._coarse, current)

    def _since(
        self, now: float, seconds: float, rows: deque[tuple[float, Samples]], current: Samples
    ) -> dict[Hashable, Delta]:
        older = [row for row in rows if now - row[0] >= seconds]
        younger = [row for row in rows if now - row[0] < seconds]
        if older and (now - older[-1][0] <= seconds + _COARSE or not younger):
            at, base = older[-1]
        elif older:
            # Nobody kept house for long, since nothing was open: what has happened did so since it is kept again.
            at, base = younger[0]
        elif now - self.started <= seconds + _COARSE or not rows:
            at, base = self.started, {}
        else:
            at, base = rows[0]
        steps = [samples for when, samples in self._fine if when > at] + [current]
        deltas = {}
        for host, sample in current.items():
            before = base.get(host)
            if before is not None and any(getattr(sample, name) < getattr(before, name) for name in _COUNTS):
                before = None  # the pool has forgotten this host meanwhile, and counted anew
            deltas[host] = _delta(max(now - at, 0.001), before, sample, _bursts(host, before, steps))
        return deltas


def _bursts(host: Hashable, before: Sample | None, steps: list[Samples]) -> int:
    last = 0 if before is None else before.idle_limit
    count = 0
    for samples in steps:
        if host in samples:
            count += samples[host].idle_limit > last
            last = samples[host].idle_limit
    return count


def _delta(seconds: float, before: Any, after: Sample, bursts: int) -> Delta:
    counts = {name: getattr(after, name) - getattr(before, name, 0) for name in _COUNTS}
    spent = after.lease_sum - getattr(before, "lease_sum", 0.0)
    mean = spent / counts["leases"] if counts["leases"] else None
    return Delta(seconds, **counts, lease_mean=mean, bursts=bursts)
