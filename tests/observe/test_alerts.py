"""The generator of the alert rules; what Prometheus makes of them is in tests/peers/test_promtool.py."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pooltransport.observe import alerts
from pooltransport.observe.alerts import Thresholds, Times
from pooltransport.observe.alerts.__main__ import main

SHIPPED = Path(alerts.__file__).with_name("pooltransport.rules.yml")


def test_what_is_shipped_is_what_is_written(capsys):
    assert main([]) == 0
    assert capsys.readouterr().out == SHIPPED.read_text()


def test_to_a_file(tmp_path):
    assert main(["--out", str(tmp_path / "rules.yml")]) == 0
    assert (tmp_path / "rules.yml").read_bytes() == SHIPPED.read_bytes()


def seconds(duration: str) -> float:
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    parts = re.findall(r"(\d+)(ms|[hms])", duration)
    assert "".join(number + unit for number, unit in parts) == duration
    return sum(int(number) * units[unit] for number, unit in parts)


def ranges(text: str) -> list[float]:
    return [seconds(found) for found in re.findall(r"(?:\[|offset )(\w+)", text)]


def waits(text: str) -> list[float]:
    return [seconds(found) for found in re.findall(r"for: (\w+)", text)]


@pytest.mark.parametrize("factor", [1 / 60, 0.5, 3.0])
def test_a_factor_is_for_every_range_and_wait(factor):
    whole, changed = alerts.rules(Times(1.0, 0.001)), alerts.rules(Times(factor, 0.001))
    assert ranges(changed) == pytest.approx([factor * value for value in ranges(whole)])
    assert waits(changed) == pytest.approx([factor * value for value in waits(whole)])
    assert len(ranges(whole)) >= 20
    assert len(waits(whole)) >= 15


@pytest.mark.parametrize("interval", [15.0, 60.0, 120.0, 0.25])
def test_no_range_is_shorter_than_four_scrapes(interval):
    found = ranges(alerts.rules(Times(1.0, interval)))
    assert min(found) >= 4 * interval
    assert max(found) == max(900.0, 4 * interval)


def test_names_of_recorded_series_say_their_range():
    text = alerts.rules(Times(1 / 60, 1.0))
    recorded = set(re.findall(r"record: (\S+)", text))
    assert recorded == {
        "pooltransport:reuse:ratio_rate5s",
        "pooltransport:utilization:ratio",
        "pooltransport:time_in_queue:p99_5s",
    }
    assert set(re.findall(r"pooltransport:[a-z_:0-9]+", text)) == recorded


@pytest.mark.parametrize("name", Thresholds._fields)
def test_each_threshold_is_in_the_rules(name, capsys):
    assert main(["--threshold", f"{name}=0.4321"]) == 0
    changed = capsys.readouterr().out
    assert changed.count("0.4321") == 1
    where = changed.splitlines()
    assert [new for old, new in zip(SHIPPED.read_text().splitlines(), where, strict=True) if old != new] == [
        line for line in where if "0.4321" in line
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--threshold", "reuze=1"], "no threshold is called 'reuze': failures, oldest_wait"),
        (["--threshold", "reuse"], "reuse: what is missing is ="),
        (["--threshold", "reuse=much"], "reuse=much: a number is expected after ="),
        (["--threshold", "reuse=-1"], "reuse=-1: a number of 0 or more is expected"),
        (["--threshold", "reuse=nan"], "reuse=nan: a number of 0 or more is expected"),
        (["--factor", "0"], "factor=0: a number of 0 or more is expected, of a time more than 0"),
        (["--factor", "1/0"], "invalid"),
        (["--scrape-interval", "inf"], "scrape_interval=inf"),
    ],
)
def test_wrong_calls(arguments, says, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert says in capsys.readouterr().err


def test_help_lists_the_thresholds(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert all(f"  {name} " in said for name in Thresholds._fields)


def test_only_what_users_feel_pages():
    assert [rule.name for rule in alerts.every_rule() if rule.severity == "critical"] == [
        "PoolTransportExhausted",
        "PoolTransportQueueStuck",
        "PoolTransportPortsExhausted",
    ]
