"""The report: a table for each case, with what our rows are to the others, and a table of the targets."""

from __future__ import annotations

import json
import os
import platform
import time
from typing import TYPE_CHECKING

from . import environments, targets
from .groups import GROUPS, OURS

if TYPE_CHECKING:
    import argparse

    from .groups import Group
    from .running import Results

NAMES = frozenset(
    (
        "aiohttp",
        "h11",
        "httptools",
        "httpx",
        "httpx2",
        "niquests",
        "pycurl",
        "pyreqwest",
        "requests",
        "urllib3",
        "uvloop",
        "trio",
        "go",
    )
)


def versions() -> dict[str, str]:
    """Return the versions of the peers that are there, each from its own environment."""
    found: dict[str, str] = {}
    for name in environments.ENVIRONMENTS:
        for package, version in environments.look(name).versions.items():
            # niquests brings a urllib3 that is none.
            if package in NAMES and not (name == "niquests" and package != "niquests"):
                found.setdefault(package, version)
    return dict(sorted(found.items()))


def machine() -> dict[str, str]:
    """Return what this ran on."""
    model = platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            model = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), model)
    except OSError:
        pass  # no Linux: the architecture says it
    cores = f"{os.cpu_count()} cores"
    return {"processor": model, "cores": cores, "system": f"{platform.system()} {platform.machine()}"}


def case_table(results: Results, name: str, group: Group, case: str) -> list[str]:
    """Return the table of one case, the best first; a ratio says how many times better ours does."""
    key, more = group.columns[0][0], group.more
    peers = results.peers(name, case)
    medians = {peer: results.median(name, case, peer, key) or 0.0 for peer in peers}
    ours = [peer.name for peer in OURS if peer.name in medians] if set(peers) - {peer.name for peer in OURS} else []
    titles = ["client", *(title for _, title, _ in group.columns[:1]), "spread"]
    titles += [title for _, title, _ in group.columns[1:]] + [f"{each.split()[-1]} ÷ it" for each in ours]
    lines = [f"| {' | '.join(titles)} |", f"| --- |{' ---: |' * (len(titles) - 1)}"]
    for peer in sorted(peers, key=lambda each: medians[each], reverse=more):
        cells = []
        for column, _, form in group.columns:
            value = results.median(name, case, peer, column)
            cells.append("–" if value is None else format(value, form))
        spread = results.spread(name, case, peer, key)
        cells.insert(1, "–" if spread is None else f"{spread:.0%}")
        cells += [ratio(medians[each], medians[peer], more=more) for each in ours]
        lines.append(f"| {peer} | {' | '.join(cells)} |")
    return lines


def ratio(ours: float, theirs: float, *, more: bool) -> str:
    """Return ours over theirs, whichever way is better, so that more than 1 is good."""
    over, under = (ours, theirs) if more else (theirs, ours)
    return f"{over / under:.2f}" if under > 0 else "–"


def scaling_table(results: Results, name: str, group: Group) -> list[str]:
    """Return one table for a group that has no peers: a case is a row."""
    titles = ["beside", "codec", *(title for _, title, _ in group.columns)]
    lines = [f"| {' | '.join(titles)} |", f"| --- | --- |{' ---: |' * len(group.columns)}"]
    for case in results.cases(name):
        for peer in results.peers(name, case):
            cells = [format(results.median(name, case, peer, key) or 0.0, form) for key, _, form in group.columns]
            lines.append(f"| {case} | {peer.split()[-1]} | {' | '.join(cells)} |")
    return lines


def text_of(results: Results, groups: list[str], args: argparse.Namespace) -> str:
    """Return the whole report, in Markdown."""
    on = machine()
    told = ", ".join(f"{name} {version}" for name, version in versions().items())
    lines = [
        "# Benchmarks: the newest report",
        "",
        (
            f"{time.strftime('%Y-%m-%d')}, Python {platform.python_version()}, {on['processor']}, {on['cores']}, "
            f"{on['system']}, load {os.getloadavg()[0]:.1f}; medians of {args.rounds} interleaved rounds of "
            f"{args.seconds:g} s (what has no spread was measured once). "
            "Ratios are ours to the row: above 1 ours is better."
        ),
        "",
        f"Versions: {told}.",
        "",
        "## Targets",
        "",
        *targets.table(results.median, groups),
    ]
    for name in groups:
        group = GROUPS[name]
        lines += ["", f"## {group.title}"]
        if name == "scaling":
            lines += ["", *scaling_table(results, name, group)]
            continue
        for case in results.cases(name):
            lines += ["", f"### {case[0].upper()}{case[1:]}", "", *case_table(results, name, group, case)]
    if results.failures:
        lines += ["", "## Missing", "", "| group | client | runtime | why |", "| --- | --- | --- | --- |"]
        lines += [f"| {' | '.join(key)} | {why.replace('|', '/')} |" for key, why in results.failures.items()]
    return "\n".join(lines) + "\n"


def write(results: Results, groups: list[str], args: argparse.Namespace) -> str:
    """Write `latest.md` and `latest.json`; return the former."""
    text = text_of(results, groups, args)
    (args.output / "latest.md").write_text(text, encoding="utf-8")
    whole = {
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "machine": machine(),
        "versions": versions(),
        "rounds": args.rounds,
        "seconds": args.seconds,
        "samples": [sample._asdict() for sample in results.samples],
        "missing": [[*key, why] for key, why in results.failures.items()],
    }
    (args.output / "latest.json").write_text(json.dumps(whole, indent=1), encoding="utf-8")
    return text
