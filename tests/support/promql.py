"""Which metrics, labels and label values are named in a PromQL expression."""

from __future__ import annotations

import re

_MATCHERS = re.compile(r"([a-zA-Z_:][\w:]*)?\{([^{}]*)\}")
_GROUPING = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^()]*)\)")
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
_PREFIXES = ("http_client_", "dns_", "pooltransport_", "process_")


def series_in(expr: str) -> set[str]:
    """Return the names of the series; of recording rules, whose names have colons, none."""
    bare = _GROUPING.sub(" ", re.sub(r"\{[^{}]*\}", " ", expr))
    return {word for word in re.findall(r"[a-zA-Z_:][\w:]*", bare) if word.startswith(_PREFIXES) and ":" not in word}


def matchers_in(expr: str) -> set[tuple[str, str, str]]:
    """Return (series, label, value) of every matcher; a value with bars is several."""
    return {
        (series, label, value)
        for series, inner in _MATCHERS.findall(expr)
        for label, values in _MATCHER.findall(inner)
        for value in values.split("|")
    }


def labels_in(expr: str) -> set[str]:
    """Return the labels that are grouped by or matched on."""
    return {label for inner in _GROUPING.findall(expr) for label in re.findall(r"\w+", inner)}
