"""Runs jobs: each in a process of its own, under the interpreter of its peer's environment, on the client's core."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from . import environments

if TYPE_CHECKING:
    from .groups import Job

PATIENCE = 120.0  # seconds for one job
QUIET = 300  # characters of an error that are told


class Sample(NamedTuple):
    """What one job said of one case."""

    group: str
    case: str
    peer: str
    values: dict[str, float]


class Failure(Exception):
    """A job that gave nothing; the text says why."""


def split_cores() -> tuple[set[int], set[int]]:
    """Return the cores of the servers and that of the client; the same where there is one only."""
    cores = sorted(os.sched_getaffinity(0))
    return ({cores[0]}, {cores[-1]}) if len(cores) > 1 else (set(cores), set(cores))


def pinned(cores: set[int], command: list[str], surroundings: dict[str, str]) -> str:
    """Run a command on these cores; return what it printed."""

    def pin() -> None:
        os.sched_setaffinity(0, cores)

    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=environments.ROOT,
            env=surroundings,
            timeout=PATIENCE,
            preexec_fn=pin,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Failure(f"did not end within {PATIENCE:.0f} s") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"ended with {done.returncode}"]
        raise Failure(lines[-1][:QUIET])
    return done.stdout


def run(group: str, job: Job, cores: set[int]) -> list[Sample]:
    """Run one job; raise `Failure` if it gives nothing."""
    made = environments.look(job.peer.environment)
    if made.problem:
        raise Failure(f"environment {made.name} is missing: {made.problem}")
    if job.peer.environment == "go":
        return _run_go(group, job, cores, made)
    path = os.pathsep.join([str(environments.ROOT), str(environments.ROOT / "src")])
    task = job.task | {"client": job.peer.client, "codec": job.peer.codec}
    output = pinned(
        cores,
        [str(made.python), "-m", "benchmarks.worker", json.dumps(task)],
        _surroundings(PYTHONPATH=path, PYTHONDONTWRITEBYTECODE=""),
    )
    lines = [json.loads(line) for line in output.splitlines()]
    return [Sample(group, line["case"], job.peer.name, line["values"]) for line in lines]


def _surroundings(**others: str) -> dict[str, str]:
    """Return the environment variables, without proxies."""
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return kept | others


def _run_go(group: str, job: Job, cores: set[int], made: environments.Environment) -> list[Sample]:
    task, samples = job.task, []
    surroundings = _surroundings(**({"GOMAXPROCS": "1"} if job.peer.client == "go1" else {}))
    if task["kind"] == "transfer":
        amounts = [str(task["megabytes"] * 1_000_000)] if task["direction"] == "upload" else []
        command = [str(made.go), task["direction"], task["url"], *amounts, str(task["times"])]
        told = json.loads(pinned(cores, command, surroundings))
        values = {"rate": told["count"] / 1e6 / told["seconds"]}
        return [Sample(group, task["case"].format(runtime=task["runtime"]), job.peer.name, values)]
    for workers in task["workers"]:
        command = [str(made.go), "get", task["url"], str(task["seconds"]), str(workers)]
        told = json.loads(pinned(cores, command + ([task["ca"]] if "ca" in task else []), surroundings))
        values = {"rate": told["count"] / told["seconds"], "cpu": told["cpu"] / max(told["count"], 1) * 1e6}
        case = task["case"].format(runtime=task["runtime"], workers=workers)
        samples.append(Sample(group, case, job.peer.name, values))
    return samples


class Results:
    """All samples, and what failed."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self.failures: dict[tuple[str, str, str], str] = {}  # group, peer and runtime to the reason

    def measure(self, group: str, jobs: list[Job], rounds: int, cores: set[int]) -> None:
        """Run the jobs round by round; each round starts with another one, so that what slows the machine for a
        while slows all of them."""
        began = time.monotonic()
        for turn in range(rounds):
            chosen = [job for job in jobs if not (job.once and turn)]
            shift = turn * len(chosen) // rounds
            for job in chosen[shift:] + chosen[:shift]:
                key = (group, job.peer.name, job.task["runtime"])
                if key in self.failures:
                    continue
                try:
                    self.samples += run(group, job, cores)
                except Failure as failure:
                    self.failures[key] = str(failure)
                    print(f"{', '.join(key)}: {failure}", file=sys.stderr)
        print(f"{group}: {time.monotonic() - began:.0f} s", file=sys.stderr)

    def cases(self, group: str) -> list[str]:
        """Return the cases of a group, in the order in which they came."""
        return list(dict.fromkeys(sample.case for sample in self.samples if sample.group == group))

    def peers(self, group: str, case: str) -> list[str]:
        """Return who has figures for it."""
        return list(dict.fromkeys(s.peer for s in self.samples if (s.group, s.case) == (group, case)))

    def found(self, group: str, case: str, peer: str, key: str) -> list[float]:
        """Return all its figures."""
        mine = (s.values for s in self.samples if (s.group, s.case, s.peer) == (group, case, peer))
        return [values[key] for values in mine if key in values]

    def median(self, group: str, case: str, peer: str, key: str) -> float | None:
        """Return the median of them, if there are any."""
        found = self.found(group, case, peer, key)
        return statistics.median(found) if found else None

    def spread(self, group: str, case: str, peer: str, key: str) -> float | None:
        """Return how far they lie apart, highest less lowest over the median; None for a single one."""
        found = self.found(group, case, peer, key)
        middle = statistics.median(found) if len(found) > 1 else 0.0
        return (max(found) - min(found)) / middle if middle else None
