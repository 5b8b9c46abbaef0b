"""Each group of the benchmark suite runs and prints its rows: ours only, in this environment, with tiny sizes."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks import environments, report, run
from benchmarks.groups import GROUPS, Place
from benchmarks.running import Results, split_cores

pytestmark = pytest.mark.peers

SECONDS = 0.02


class HereOnly:
    """Every environment is that of this process: it has pooltransport, and the parsers."""

    problem = ""
    versions: dict[str, str] = {}  # noqa: RUF012 - never changed
    name = "here"
    python = sys.executable


@pytest.fixture(scope="module")
def place():
    """Give servers of the suite's own."""
    args = run.parse(["--tiny", "--seconds", str(SECONDS)])
    with run.servers(args) as made:
        yield made


def jobs_of(group: str, place: Place):
    """Return the jobs of ours, one runtime of each."""
    jobs = [job for job in GROUPS[group].jobs(place) if job.peer.name == "pooltransport h11"]
    return [job for job in jobs if job.task["runtime"] != "uvloop"]


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_runs_and_prints_a_row(group, place, monkeypatch, tmp_path):
    monkeypatch.setattr(environments, "look", lambda name: HereOnly)
    results = Results()
    jobs = jobs_of(group, place)
    results.measure(group, jobs, 1, split_cores()[1])
    assert results.failures == {}
    cases = results.cases(group)
    assert len(cases) >= len({job.task["runtime"] for job in jobs})
    key = GROUPS[group].columns[0][0]
    assert all(results.median(group, case, "pooltransport h11", key) is not None for case in cases)
    args = run.parse(["--tiny", "--only", group, "--output", str(tmp_path)])
    text = report.write(results, [group], args)
    assert text.count("pooltransport h11 |") >= len(cases) or text.count("| h11 |") == len(cases)
    assert json.loads((tmp_path / "latest.json").read_text())["samples"]


def test_an_environment_that_is_not_there_is_reported(place, monkeypatch, tmp_path):
    monkeypatch.setattr(environments, "HOME", tmp_path)
    results = Results()
    jobs = [job for job in GROUPS["storm"].jobs(place) if job.peer.name == "aiohttp"]
    results.measure("storm", jobs, 1, split_cores()[1])
    assert list(results.failures) == [("storm", "aiohttp", "asyncio")]
    text = report.text_of(results, ["storm"], run.parse(["--tiny"]))
    assert "| storm | aiohttp | asyncio | environment aiohttp is missing: not made: run `make bench` |" in text
