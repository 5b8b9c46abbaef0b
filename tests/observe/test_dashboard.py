"""The dashboard is what its script writes; what Prometheus makes of its queries is in tests/peers/test_promtool.py."""

from __future__ import annotations

import json
import re
from pathlib import Path

from pooltransport.observe import alerts, catalogue, grafana
from tests.support.promql import labels_in, matchers_in, series_in

SHIPPED = Path(grafana.__file__).with_name("pooltransport.json")
DASHBOARD = json.loads(SHIPPED.read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]
RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"


def test_what_is_shipped_is_what_is_written():
    assert SHIPPED.read_text() == grafana.dashboard_json()


def test_ids_and_titles_are_unique():
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    titles = [panel["title"] for panel in DASHBOARD["panels"]]
    assert len(set(titles)) == len(titles)
    for panel in PANELS:
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters)


def test_rows():
    assert [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"] == [
        "Now",
        "Capacity",
        "Latency",
        "Churn",
        "Leaks and leases",
        "Kernel",
        "Runtime",
    ]


def test_no_two_panels_lie_on_each_other():
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_query_obeys_the_variables():
    names = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert names == {"datasource", "job", "instance", "server_address"}
    for panel in PANELS:
        assert panel["datasource"]["uid"] == "${datasource}"
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
            assert 'job=~"$job",instance=~"$instance"' in target["expr"]
            assert set(re.findall(r"\$(\w+)", target["expr"])) <= names | {"__rate_interval"}
            for series in series_in(target["expr"]):
                metric = METRIC_OF.get(series)
                if metric is not None and "server.address" in metric.labels:
                    assert (
                        f'{series}{{job=~"$job",instance=~"$instance",server_address=~"$server_address"'
                        in (target["expr"])
                    )


METRIC_OF = {series: metric for metric in catalogue.METRICS for series in metric.series}


def test_labels_are_those_of_the_metrics():
    """In the dashboard and in the rules alike."""
    texts = EXPRESSIONS + [rule.expr for rule in alerts.every_rule()]
    for expr in texts:
        metrics = [METRIC_OF[series] for series in series_in(expr) if series in METRIC_OF]
        known = {catalogue.label(name) for metric in metrics for name in metric.labels + metric.optional}
        known |= {"job", "instance", "le"}
        if metrics and "pooltransport:" not in expr:
            assert labels_in(expr) <= known, expr
        for series, label, value in matchers_in(expr):
            metric = METRIC_OF.get(series)
            if metric is None or label in {"job", "instance"} or value.startswith("$"):
                continue
            attributes = {catalogue.label(name): name for name in metric.labels + metric.optional}
            assert label in attributes, (series, label)
            closed = catalogue.VALUES.get(attributes[label])
            if metric.name == "pooltransport.acquire.failures" and label == "error_type":
                closed = catalogue.FAILURES
            assert closed is None or value in closed, (series, label, value)


def test_pages_that_are_named_exist():
    named = {name for panel in PANELS for name in re.findall(r"[Rr]unbook ([a-z-]+)", panel["description"])}
    assert len(named) >= 8
    assert [name for name in sorted(named) if not (RUNBOOKS / f"{name}.md").exists()] == []
