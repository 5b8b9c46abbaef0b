"""Each alert has a page with the four sections, each page an alert; what the pages name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pooltransport as pt
from pooltransport.__main__ import main
from pooltransport.observe import alerts
from pooltransport.observe.catalogue import METRICS
from tests.support.promql import series_in

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {path.stem: path.read_text() for path in sorted((DOCS / "runbooks").glob("*.md")) if path.stem != "README"}
ALERTS = {rule.name: rule for rule in alerts.every_rule() if rule.severity}
QUERY = re.compile(r"^```promql\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_each_alert_has_a_page_and_each_page_an_alert():
    assert {rule.runbook for rule in ALERTS.values()} == set(PAGES)


def test_each_finding_has_a_page():
    findings = (Path(pt.__file__).parent / "diagnosis" / "findings.py").read_text()
    named = set(re.findall(r'"R\d+": \("([a-z-]+)"', findings))
    assert len(named) >= 6
    assert named <= set(PAGES)


def test_each_page_that_explain_names_exists():
    pages = (Path(pt.__file__).parent / "explain").glob("*.md")
    named = {name for page in pages for name in re.findall(r"[Rr]unbook:?\s+([a-z-]+)", page.read_text())}
    assert len(named) >= 8
    assert named <= set(PAGES)


def test_the_list_of_pages_is_whole():
    rows = re.findall(
        r"^\| \[([a-z-]+)\]\(([a-z-]+)\.md\) \| .* \| (.*) \|$",
        (DOCS / "runbooks" / "README.md").read_text(),
        re.MULTILINE,
    )
    listed = {name: set(re.findall(r"`(\w+)`", names)) for name, _, names in rows}
    assert listed == {page: {name for name, rule in ALERTS.items() if rule.runbook == page} for page in PAGES}
    assert all(name == target for name, target, _ in rows)


def test_the_list_of_alerts_is_whole():
    rows = dict(
        re.findall(r"^\| `(\w+)` \| .* \| (critical|warning) \|", (DOCS / "alerts.md").read_text(), re.MULTILINE)
    )
    assert rows == {name: rule.severity for name, rule in ALERTS.items()}


@pytest.mark.parametrize("page", PAGES)
class TestPage:
    def test_sections(self, page):
        assert re.findall(r"^## (.*)$", PAGES[page], re.MULTILINE) == ["Symptom", "Metric", "Action", "Verification"]
        assert min(len(part) for part in re.split(r"^## .*$", PAGES[page], flags=re.MULTILINE)) > 40

    def test_it_names_its_alerts_and_no_others(self, page):
        named = set(re.findall(r"`(PoolTransport\w+)`", PAGES[page]))
        assert named == {name for name, rule in ALERTS.items() if rule.runbook == page}

    def test_queries_before_and_after(self, page):
        before, after = PAGES[page].split("## Action")
        for part in (before, after):
            queries = QUERY.findall(part)
            assert queries
            for query in queries:
                known = {series for metric in METRICS for series in metric.series}
                assert series_in(query)
                assert series_in(query) <= known | {"process_open_fds", "process_max_fds"}, query

    def test_verification_is_a_comparison(self, page):
        # What is verified is true or false, not a number to look at.
        for query in QUERY.findall(PAGES[page].partition("## Verification")[2]):
            assert re.search(r"(==|<|>) [\d.]+\n$", query), query

    def test_commands_exist(self, page, capsys):
        for code in re.findall(r"`python -m pooltransport explain ([\w-]+)`", PAGES[page]):
            assert main(["explain", code]) == 0
            assert capsys.readouterr().out

    def test_options_exist(self, page):
        options = set(pt.TransportOptions().as_dict())
        arguments = {"timeout", "headers", "trace", "transport"}
        for name in re.findall(r"`(\w+)=[^`]*`", PAGES[page]):
            foreign = {"POOLTRANSPORT_LEAK_DETECTION", "LimitNOFILE", "reused"}
            assert name in options | arguments | foreign, name

    def test_close_reasons_exist(self, page):
        reasons = {reason.value for reason in pt.CloseReason}
        for name in re.findall(r'close_reason=~?"([a-z_|]+)"', PAGES[page]):
            assert set(name.split("|")) <= reasons
