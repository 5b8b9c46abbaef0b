"""One set of names: in the catalogue, in docs/metrics.md, and in what is asked for by the rules and the dashboard."""

from __future__ import annotations

import errno
import re
from pathlib import Path

from pooltransport.engine.reasons import dial_error_type
from pooltransport.errors import ConnectError
from pooltransport.observe import alerts, catalogue, grafana
from pooltransport.observe.alerts.generate import NO_LOCAL_PORT
from pooltransport.observe.catalogue import METRICS
from tests.support.promql import series_in

ROOT = Path(__file__).parents[2]
METRIC_OF = {series: metric for metric in METRICS for series in metric.series}
# Of the process, from `prometheus_client` itself.
FOREIGN = {"process_open_fds", "process_max_fds"}
ROW = re.compile(
    r"^\| `([a-z_.]+)` \| `([a-z_]+)` \| ([\w-]+(?: counter)?) \| (\S*) \| (.*?) \| (.*?) \|", re.MULTILINE
)


def queries_of(dashboard: dict) -> list[str]:
    texts = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    for variable in dashboard["templating"]["list"]:
        texts += re.findall(r"label_values\((.*), \w+\)", variable.get("definition", ""))
    return texts


ASKED = {
    series
    for expr in [rule.expr for rule in alerts.every_rule()] + queries_of(grafana.dashboard())
    for series in series_in(expr)
}


def test_what_is_asked_for_exists():
    assert {name for name in ASKED if name not in METRIC_OF} == FOREIGN


def test_what_exists_is_asked_for():
    asked = {METRIC_OF[series].name for series in ASKED - FOREIGN}
    assert {metric.name for metric in METRICS} - asked == set()


def test_the_page_lists_what_exists():
    rows = ROW.findall((ROOT / "docs" / "metrics.md").read_text())
    listed = {
        name: (prometheus, kind, unit, labels.replace("`", "").split(), on)
        for name, prometheus, kind, unit, labels, on in rows
    }
    assert len(listed) == len(rows)
    assert listed == {
        metric.name: (
            metric.prometheus,
            metric.kind.value,
            metric.unit,
            [*metric.labels, *(f"({name})" for name in metric.optional)],
            {(True, True): "both", (True, False): "Prometheus", (False, False): "opt-in"}[
                metric.prometheus_default, metric.otel_default
            ],
        )
        for metric in METRICS
    }


def test_the_pages_name_nothing_else():
    for page in [ROOT / "docs" / "metrics.md", ROOT / "docs" / "alerts.md", *(ROOT / "docs" / "runbooks").glob("*.md")]:
        words = set(re.findall(r"\b(?:http_client|dns_lookup|pooltransport|process)_[a-z0-9_]+\b", page.read_text()))
        labels = {catalogue.label(name) for metric in METRICS for name in metric.labels + metric.optional}
        strange = {word for word in words - labels - FOREIGN if word not in METRIC_OF}
        strange -= set(catalogue.BY_PROMETHEUS)  # a histogram's name without the ending of a series
        assert strange == set(), page.name


def test_a_dial_without_a_port_is_called_so():
    error = ConnectError("no port")
    error.__cause__ = OSError(errno.EADDRNOTAVAIL, "none")
    assert dial_error_type(error) == NO_LOCAL_PORT
