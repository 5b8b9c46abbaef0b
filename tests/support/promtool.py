"""promtool of the system's packages (apt-get install prometheus), and mutants of alert rules for it to find."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INSTALL = "promtool and prometheus are needed for this: apt-get install prometheus"


def binary(name: str) -> str:
    """Return the path of one of Prometheus' programs; RuntimeError says how to get it."""
    path = shutil.which(name)
    if path is None:
        raise RuntimeError(INSTALL)
    return path


def promtool(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run promtool; what it says goes to standard output and error, together."""
    return subprocess.run(
        [binary("promtool"), *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )


class Mutant(NamedTuple):
    """A rules file with one thing wrong: `change` says what, in the rule called `rule`.

    `brief` is the same without the alerts that have nothing to do with it: quicker to look at.
    """

    rule: str
    change: str
    text: str
    brief: str


_RULE = re.compile(r"^  - (alert|record): (\S+)\n(?:    .*\n)+", re.MULTILINE)


def mutants(rules: str) -> Iterator[Mutant]:
    """Make every mutant of a rules file."""
    found = list(_RULE.finditer(rules))
    head = rules[: found[0].start()]
    recorded = "".join(rule.group() for rule in found if rule.group(1) == "record")
    for rule in found:
        for start, end, new in _changes(rule.group()):
            old = rule.group()[start:end]
            changed = rule.group()[:start] + new + rule.group()[end:]
            line = rule.group().count("\n", 0, start)
            text = rules[: rule.start()] + changed + rules[rule.end() :]
            brief = text if rule.group(1) == "record" else head + recorded + changed
            yield Mutant(rule.group(2), f"line {line}: {old!r} -> {new!r}", text, brief)


def _changes(text: str) -> Iterator[tuple[int, int, str]]:
    """Give start, end and replacement of every change to one rule."""
    for found in re.finditer(r"(>=|<=|>|<) ([0-9.]+)", text):
        for other in {">": (">=", "<"), "<": ("<=", ">"), ">=": (">", "<"), "<=": ("<", ">")}[found.group(1)]:
            yield *found.span(1), other
        number = float(found.group(2))
        for other in (number - 1, number + 1) if number.is_integer() and number <= 10 else (number * 0.9, number * 1.1):
            if other >= 0:
                yield *found.span(2), f"{other:g}"
    for found in re.finditer(r"(?:\[|offset |for: )(\d+)m\b", text):  # keep_firing_for ends so too
        for seconds in (int(found.group(1)) * 30, int(found.group(1)) * 120):
            yield found.start(1), found.end(1) + 1, f"{seconds}s"
    for found in re.finditer(r"    (for|keep_firing_for): .*\n", text):
        yield *found.span(), ""
    for found in re.finditer(r'\{(\w+)(=~|!=|=)"([^"]*)"\}', text):
        yield *found.span(), ""
        yield *found.span(2), {"=~": "!~", "!=": "=", "=": "!="}[found.group(2)]
        values = found.group(3).split("|")
        for value in values:
            yield *found.span(3), "|".join(other for other in values if other != value) or "another"
    for found in re.finditer(r"(sum|max) by .*", text):
        for other in {"sum": ("max",), "max": ("sum", "min")}[found.group(1)]:
            # Whether there is anything at all, sum and greatest say alike.
            if not (found.group().endswith(" > 0") and "$value" not in text) and (
                not found.group().endswith(" > 0)") or other != "sum"
            ):
                yield *found.span(1), other
    for old, others in _WORDS.items():
        for found in re.finditer(re.escape(old), text):
            for new in others:
                yield *found.span(), new


_WORDS = {
    "1 - (": ("(",),
    "(0.99,": ("(0.9,", "(0.5,"),
    ", server_port": ("",),
    ", instance": ("",),
    "\n/\n": ("\n*\n",),
    "and on (": ("or on (", "unless on ("),
    "\nor\n": ("\nand\n", "\nunless\n"),
    "unless pool": ("and pool",),
    "severity: warning": ("severity: critical",),
    "severity: critical": ("severity: warning",),
    "runbook: ": ("runbook: another-",),
}
