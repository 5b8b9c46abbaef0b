"""What a scrape of a collector gives, as a dict."""

from __future__ import annotations

from collections import defaultdict


def scrape(collector):
    """Return {series name: {labels: value}} as a scrape has it."""
    found = defaultdict(dict)
    for family in collector.collect():
        for sample in family.samples:
            labels = frozenset(sample.labels.items())
            assert labels not in found[sample.name], f"{sample.name} twice with {sample.labels}"
            found[sample.name][labels] = sample.value
    return found


def total(series, **labels):
    """Return the sum of the series with these labels."""
    wanted = {(key, str(value)) for key, value in labels.items()}
    return sum(value for found, value in series.items() if wanted <= found)
