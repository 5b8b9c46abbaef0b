"""Small GETs to a real nginx: pooltransport and its peers, side by side in one run.

Each client is measured in a process of its own; the rounds are interleaved, so that what slows the
machine down for a while slows all of them; each figure is the median of its rounds. The table goes to
benchmarks/results/latest.md, and to the terminal. Run it with ``make bench``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks import peers
from benchmarks.peers import ASYNC, THREADS, Result
from tests.support.nginx import Nginx

HERE = Path(__file__).parent
LATEST = HERE / "results" / "latest.md"
# The one that all others of its group are compared with.
ANCHOR = {"asyncio": "pooltransport asyncio", "threads": "pooltransport threads"}
# More than this at once is measured in the first round only: some peers take 20 s for it.
ONCE_ABOVE = 100


class Row(NamedTuple):
    """The medians of one client at one concurrency."""

    name: str
    rate: float  # requests per second
    cpu: float  # microseconds per request
    spread: float  # of the rate, highest less lowest over the median


def measure(name: str, url: str, seconds: float, concurrencies: list[int]) -> list[Result] | str:
    """Measure one client in a process of its own; return its results, or what went wrong."""
    command = [sys.executable, "-m", "benchmarks.peers", name, url, str(seconds), *map(str, concurrencies)]
    limit = 30 + len(concurrencies) * (seconds + 30)
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parent, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return f"did not end within {limit:.0f} s"
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
    return [Result(**json.loads(line)) for line in done.stdout.splitlines()]


def run_rounds(names: list[str], url: str, args: argparse.Namespace) -> tuple[list[Result], dict[str, str]]:
    """Measure all, round by round; each round starts with another one."""
    results: list[Result] = []
    failures: dict[str, str] = {}
    for turn in range(args.rounds):
        shift = turn * len(names) // args.rounds
        for name in names[shift:] + names[:shift]:
            if name in failures:
                continue
            chosen = args.concurrency if name in ASYNC else args.threads
            chosen = [number for number in chosen if turn == 0 or number <= ONCE_ABOVE]
            outcome = measure(name, url, args.seconds, chosen)
            if isinstance(outcome, str):
                failures[name] = outcome
            else:
                results += outcome
        print(f"round {turn + 1} of {args.rounds} done", file=sys.stderr)
    return results, failures


def rows_of(results: list[Result], names: list[str], concurrency: int) -> list[Row]:
    """Return the medians of one concurrency, the fastest first."""
    rows = []
    for name in names:
        mine = [r for r in results if (r.name, r.concurrency) == (name, concurrency) and r.requests]
        if mine:
            rates = [r.requests / r.seconds for r in mine]
            rate = statistics.median(rates)
            cpu = statistics.median(r.cpu / r.requests * 1e6 for r in mine)
            rows.append(Row(name, rate, cpu, (max(rates) - min(rates)) / rate))
    return sorted(rows, key=lambda row: -row.rate)


def table(rows: list[Row], anchor: str) -> list[str]:
    """Return a table; the ratios say how many times pooltransport does better than the row."""
    ours = next((row for row in rows if row.name == anchor), None)
    lines = [
        "| client | requests/s | spread | CPU µs/request | our rate ÷ its | its CPU ÷ ours |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        ratios = f"{ours.rate / row.rate:.2f} | {row.cpu / ours.cpu:.2f}" if ours else "– | –"
        lines.append(f"| {row.name} | {row.rate:,.0f} | {row.spread:.0%} | {row.cpu:.0f} | {ratios} |")
    return lines


def report(results: list[Result], failures: dict[str, str], names: list[str], args: argparse.Namespace) -> str:
    """Return the whole report, in Markdown."""
    done = [name for name in names if name not in failures]
    versions = {name.split()[0]: peers.version(name) for name in done}
    lines = [
        "# Small requests",
        "",
        (
            f"GET of 5 bytes over http from nginx on the same machine: {time.strftime('%Y-%m-%d')}, "
            f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}; "
            f"medians of {args.rounds} interleaved rounds of {args.seconds:g} s, one round above {ONCE_ABOVE} at once."
        ),
        "",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in sorted(versions.items())) + ".",
    ]
    groups = [("asyncio", "tasks", ASYNC, args.concurrency), ("threads", "threads", THREADS, args.threads)]
    for group, workers, members, concurrencies in groups:
        for concurrency in concurrencies:
            rows = rows_of(results, [name for name in done if name in members], concurrency)
            if rows:
                lines += ["", f"## {group}, {concurrency} {workers}", "", *table(rows, ANCHOR[group])]
    if failures:
        lines += ["", "## Failed", "", *(f"- {name}: {why}" for name, why in failures.items())]
    return "\n".join(lines) + "\n"


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.small_requests", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.6, help="of each measurement")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 20, 1000], help="tasks")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 20])
    parser.add_argument("--only", nargs="+", metavar="WORD", help="only clients whose name contains one of these")
    parser.add_argument("--output", type=Path, default=LATEST)
    return parser.parse_args()


def main() -> int:
    """Measure, print and write the report; 1 if a client failed."""
    args = parse()
    names = [n for n in (*ASYNC, *THREADS) if not args.only or any(word in n for word in args.only)]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, Nginx(Path(folder), log=False) as nginx:
        results, failures = run_rounds(names, nginx.url + "/", args)
    text = report(results, failures, names, args)
    args.output.parent.mkdir(exist_ok=True)
    args.output.write_text(text, encoding="utf-8")
    print(text)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
