"""The alert rules as Prometheus' own tool sees them, and mutants of them, none of which may pass the rules' tests."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pooltransport.observe import alerts, catalogue, grafana
from pooltransport.observe.alerts import Thresholds, Times
from tests.support.promtool import Mutant, mutants, promtool

if TYPE_CHECKING:
    from collections.abc import Iterator

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


@pytest.mark.timeout(300)
def test_every_mutant_is_found(tmp_path):
    every = list(mutants(SHIPPED.read_text()))
    assert len(every) >= 350
    assert {mutant.rule for mutant in every} == {rule.name for rule in alerts.every_rule()}
    with ThreadPoolExecutor(2) as pool:
        verdicts = list(pool.map(lambda item: verdict(tmp_path / str(item[0]), item[1]), enumerate(every)))
    assert [line for line in verdicts if line] == []


def verdict(directory: Path, mutant: Mutant) -> str:
    """Return nothing if the tests see the mutant, else what is wrong."""
    # First the file that is about the rule, which is nearly always enough.
    about = [name for name, text in CASES_TEXT.items() if mutant.rule in text] or list(CASES_TEXT)
    for rules, names in ((mutant.brief, about), (mutant.text, list(CASES_TEXT))):
        write(directory, rules)
        done = promtool("test", "rules", *names, cwd=directory)
        if done.returncode:
            # The tests must have seen it, and not promtool that nothing makes sense of it.
            seen = ("exp:" in done.stdout and "got:" in done.stdout) or "many-to-many matching" in done.stdout
            shutil.rmtree(directory)
            return "" if seen else f"{mutant.rule}, {mutant.change}: {done.stdout}"
    return f"{mutant.rule}, {mutant.change}: survives"


def query(expr: str) -> str:
    """Return a query of the dashboard as Grafana would send it."""
    return re.sub(r"\$(job|instance|server_address)\b", ".*", expr.replace("$__rate_interval", "5m"))


QUERIES = [query(target["expr"]) for panel in grafana.dashboard()["panels"] for target in panel.get("targets", ())]
PAGES = sorted((Path(__file__).parents[2] / "docs" / "runbooks").glob("*.md"))
FROM_PAGES = [
    found
    for page in PAGES
    for found in re.findall(r"^```promql\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
]


@pytest.mark.parametrize("queries", [QUERIES, FROM_PAGES], ids=["dashboard", "runbooks"])
def test_every_query_is_one(tmp_path, queries):
    assert len(queries) >= 40
    rows = "".join(f"  - record: q{i}\n    expr: {json.dumps(expr)}\n" for i, expr in enumerate(queries))
    (tmp_path / "queries.yml").write_text(f"groups:\n- name: queries\n  rules:\n{rows}")
    done = promtool("check", "rules", "queries.yml", cwd=tmp_path)
    assert (done.returncode, f"{len(queries)} rules found" in done.stdout) == (0, True), done.stdout


def series_of(metric: catalogue.Metric) -> Iterator[tuple[str, str]]:
    """Give (series, values) with every value of the labels whose list is closed."""
    names = metric.labels + metric.optional
    lists = [catalogue.VALUES.get(name, ("443" if name == "server.port" else "x",)) for name in names]
    for values in itertools.product(*lists):
        pairs = [("job", "web"), ("instance", "a:1")]
        pairs += [(catalogue.label(name), value) for name, value in zip(names, values, strict=True)]
        labels = ",".join(f'{name}="{value}"' for name, value in pairs)
        if metric.kind is catalogue.Kind.HISTOGRAM:
            for i, bound in enumerate((*metric.buckets, "+Inf"), 1):
                yield f'{metric.prometheus}_bucket{{{labels},le="{bound}"}}', f"0+{i}x20"
            yield f"{metric.prometheus}_sum{{{labels}}}", "0+60x20"
            yield f"{metric.prometheus}_count{{{labels}}}", f"0+{len(metric.buckets) + 1}x20"
        else:
            yield f"{metric.prometheus}{{{labels}}}", "0+6x20" if metric.kind is catalogue.Kind.COUNTER else "3x20"


def fixture() -> list[tuple[str, str]]:
    found = [row for metric in catalogue.METRICS for row in series_of(metric)]
    labels = '{job="web",instance="a:1"}'
    return [*found, (f"process_open_fds{labels}", "100x20"), (f"process_max_fds{labels}", "1000x20")]


def test_every_query_of_the_dashboard_returns_a_number(tmp_path):
    # Not a number is no answer: it equals nothing, not even itself.
    checks = [
        {
            "expr": f"count(({expr}) == ({expr})) > bool 0",
            "eval_time": "15m",
            "exp_samples": [{"labels": "{}", "value": 1}],
        }
        for expr in QUERIES
    ]
    case = {"interval": "1m", "input_series": [{"series": a, "values": b} for a, b in fixture()]}
    (tmp_path / "rules.yml").write_text(alerts.rules())
    file = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [{**case, "promql_expr_test": checks}]}
    (tmp_path / "dashboard.test.yml").write_text(json.dumps(file))  # JSON is YAML
    done = promtool("test", "rules", "dashboard.test.yml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
