"""The alert rules as Prometheus' own tool sees them, and mutants of them, none of which may pass the rules' tests."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pooltransport.observe import alerts
from pooltransport.observe.alerts import Thresholds, Times
from tests.support.promtool import Mutant, mutants, promtool

pytestmark = pytest.mark.peers

SHIPPED = Path(alerts.__file__).with_name("pooltransport.rules.yml")
CASES = sorted((Path(__file__).parent.parent / "observe" / "alerts").glob("*.test.yml"))
CASES_TEXT = {path.name: path.read_text() for path in CASES}


def write(directory: Path, rules: str) -> None:
    directory.mkdir(exist_ok=True)
    (directory / SHIPPED.name).write_text(rules)
    for path in CASES:
        shutil.copy(path, directory)


@pytest.mark.parametrize(
    ("times", "thresholds"),
    [
        (Times(), Thresholds()),
        (Times(1 / 60, 1.0), Thresholds()),
        (Times(0.001, 60.0), Thresholds(failures=1.5, reuse=0.05, local_closes=1e6)),
        (Times(100.0, 0.1), Thresholds(**dict.fromkeys(Thresholds._fields, 0.0))),
    ],
)
def test_rules_are_accepted(tmp_path, times, thresholds):
    (tmp_path / "rules.yml").write_text(alerts.rules(times, thresholds))
    done = promtool("check", "rules", "rules.yml", cwd=tmp_path)
    assert (done.returncode, "SUCCESS" in done.stdout) == (0, True), done.stdout


def test_the_shipped_rules_pass(tmp_path):
    write(tmp_path, SHIPPED.read_text())
    done = promtool("test", "rules", *CASES_TEXT, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("SUCCESS") == len(CASES) >= 15


def test_every_mutant_is_found(tmp_path):
    every = list(mutants(SHIPPED.read_text()))
    assert len(every) >= 250
    assert {mutant.rule for mutant in every} == {rule.name for rule in alerts.every_rule()}
    with ThreadPoolExecutor(2) as pool:
        verdicts = list(pool.map(lambda item: verdict(tmp_path / str(item[0]), item[1]), enumerate(every)))
    assert [line for line in verdicts if line] == []


def verdict(directory: Path, mutant: Mutant) -> str:
    """Return nothing if the tests see the mutant, else what is wrong."""
    write(directory, mutant.text)
    # First the file that is about the rule: nearly always it is enough.
    names = sorted(CASES_TEXT, key=lambda name: mutant.rule not in CASES_TEXT[name])
    for name in names:
        done = promtool("test", "rules", name, cwd=directory)
        if done.returncode:
            # The tests must have seen it, and not promtool that nothing makes sense of it.
            seen = "exp:" in done.stdout and "got:" in done.stdout
            shutil.rmtree(directory)
            return "" if seen else f"{mutant.rule}, {mutant.change}: {done.stdout}"
    return f"{mutant.rule}, {mutant.change}: survives"
