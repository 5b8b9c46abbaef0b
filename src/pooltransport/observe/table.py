"""Numbers by metric and labels: what every exporter is fed from.

Rules:

1. Names are those of the catalogue, labels OpenTelemetry's, values of labels text.
2. Adding sums, but for a gauge, of which the greatest counts: summing ages makes no sense.
3. A histogram is a list: the counts of its buckets (not cumulative, one more than bounds), and the sum behind them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .catalogue import BY_NAME, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pooltransport.stats import Histogram

    Labels = tuple[tuple[str, str], ...]

_LASTING = (Kind.COUNTER, Kind.HISTOGRAM)


class Table:
    """Numbers by metric and labels."""

    __slots__ = ("rows",)

    def __init__(self) -> None:
        self.rows: dict[str, dict[Labels, Any]] = {}

    def add(self, name: str, labels: Labels, value: float) -> None:
        """Add a number."""
        rows = self.rows.setdefault(name, {})
        if BY_NAME[name].kind is Kind.GAUGE:
            rows[labels] = max(rows.get(labels, value), value)
        else:
            rows[labels] = rows.get(labels, 0) + value

    def add_counts(self, name: str, labels: Labels, counts: Sequence[float], total: float) -> None:
        """Add a histogram."""
        rows = self.rows.setdefault(name, {})
        old = rows.get(labels)
        new = [*counts, total]
        rows[labels] = new if old is None else [a + b for a, b in zip(old, new, strict=True)]

    def add_histogram(self, name: str, labels: Labels, histogram: Histogram) -> None:
        """Add a histogram of a snapshot."""
        self.add_counts(name, labels, histogram.counts, histogram.sum)

    def merge(self, other: Table, relabel: Callable[[Labels], Labels] = tuple) -> None:
        """Add everything of `other`, its labels changed by `relabel`."""
        for name, labels, value in other:
            if isinstance(value, list):
                self.add_counts(name, relabel(labels), value[:-1], value[-1])
            else:
                self.add(name, relabel(labels), value)

    def lasting(self) -> Table:
        """Return what is left when a process ends: counters and histograms."""
        kept = Table()
        kept.rows = {name: rows for name, rows in self.rows.items() if BY_NAME[name].kind in _LASTING}
        return kept

    def __iter__(self) -> Iterator[tuple[str, Labels, Any]]:
        for name, rows in self.rows.items():
            for labels, value in rows.items():
                yield name, labels, value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Table) and self.rows == other.rows

    __hash__ = None  # type: ignore[assignment]

    def as_plain(self) -> dict[str, Any]:
        """Return it as values for JSON."""
        return {name: [[labels, value] for labels, value in rows.items()] for name, rows in self.rows.items()}

    @classmethod
    def from_plain(cls, plain: Any) -> Table:
        """Return what `as_plain` returned; metrics that this version does not know, or knows otherwise, are left out.

        Raises ValueError, TypeError or AttributeError for anything else.
        """
        table = cls()
        for name, rows in plain.items():
            metric = BY_NAME.get(name)
            size = 0 if metric is None or metric.kind is not Kind.HISTOGRAM else len(metric.buckets) + 2
            for pairs, value in rows:
                labels = tuple((str(key), str(text)) for key, text in pairs)
                if metric is not None and size == (len(value) if isinstance(value, list) else 0):
                    table.rows.setdefault(name, {})[labels] = value
        return table
