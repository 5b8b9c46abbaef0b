"""What users may build on beside the names in Python, written down in tests/data/stability.json (docs/stability.md).

Write it anew with ``python tests/test_stability.py --write`` and read the difference: what is gone breaks somebody.
"""

from __future__ import annotations

import argparse
import difflib
import json
import logging
import re
import sys
import tomllib
import typing
from pathlib import Path

import pytest

import pooltransport as pt
from pooltransport import stats, trace
from pooltransport.explain import titles
from pooltransport.observe import catalogue

ROOT = Path(__file__).parent.parent
LISTED = Path(__file__).parent / "data" / "stability.json"
# Hooks whose argument is no info object.
PLAIN = {"get_conn": "str", "wrote_request": "error or None", "put_idle_conn": "error or None"}
INFOS = {
    "acquire_queued": "AcquireQueuedInfo",
    "acquire_done": "AcquireDoneInfo",
    "dns_start": "DNSStartInfo",
    "dns_done": "DNSDoneInfo",
    "connect_start": "ConnectStartInfo",
    "connect_done": "ConnectDoneInfo",
    "tls_handshake_start": "TLSHandshakeStartInfo",
    "tls_handshake_done": "TLSHandshakeDoneInfo",
    "got_conn": "GotConnInfo",
    "wrote_header_field": "WroteHeaderFieldInfo",
    "wrote_headers": "WroteHeadersInfo",
    "wait_100_continue": "Wait100ContinueInfo",
    "got_first_response_byte": "FirstByteInfo",
    "got_100_continue": "InformationalInfo",
    "got_1xx_response": "InformationalInfo",
    "body_closed": "BodyClosedInfo",
    "drained": "DrainedInfo",
    "conn_closed": "ConnClosedInfo",
    "retried": "RetriedInfo",
    "leaked": "LeakReport",
    "lease_overdue": "OverdueReport",
}


def hooks() -> dict[str, object]:
    """Return each hook with the fields of what it is told."""
    assert sorted({**PLAIN, **INFOS}) == sorted(trace.HOOK_NAMES), "say here what a new hook is told"
    return {
        name: PLAIN[name] if name in PLAIN else list(getattr(trace, INFOS[name])._fields) for name in trace.HOOK_NAMES
    }


def statistics() -> list[str]:
    """Return the paths of the schema of ``to_json()``."""
    schema = json.loads((Path(pt.__file__).parent / "stats.schema.json").read_text(encoding="utf-8"))
    found: set[str] = set()

    def walk(node: object, path: str) -> None:
        if not isinstance(node, dict):
            return
        for name, child in node.get("properties", {}).items():
            found.add(f"{path}{name}")
            walk(child, f"{path}{name}.")
        for word in ("items", "additionalProperties"):
            walk(node.get(word), f"{path}*.")
        for name, child in node.get("$defs", {}).items():
            walk(child, f"#{name}.")

    walk(schema, "")
    return sorted(found)


def schema_number() -> int:
    """Return the number that snapshots say."""
    with pt.Transport() as transport:
        return transport.stats().schema


def metrics() -> dict[str, object]:
    """Return each metric with its name at Prometheus, kind, unit and labels."""
    return {
        metric.name: [metric.prometheus, metric.kind.value, metric.unit, *metric.labels, *metric.optional]
        for metric in catalogue.METRICS
    }


def command_line() -> list[str]:
    """Return the commands and their options."""
    parsers: list[str] = []
    original = argparse.ArgumentParser.parse_args

    def look(parser: argparse.ArgumentParser, *_: object) -> typing.NoReturn:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for name, command in action.choices.items():
                    names = [option for found in command._actions for option in found.option_strings or [found.dest]]
                    parsers.append(" ".join([name, *sorted(set(names) - {"-h", "--help"})]))
        raise SystemExit

    argparse.ArgumentParser.parse_args = look  # type: ignore[method-assign]
    try:
        from pooltransport.__main__ import main

        main([])
    except SystemExit:
        pass
    finally:
        argparse.ArgumentParser.parse_args = original  # type: ignore[method-assign]
    return sorted(parsers)


def plugin() -> list[str]:
    """Return what the pytest plugin has: settings, options, markers, fixtures."""
    text = (Path(pt.__file__).parent / "testing" / "pytest_plugin.py").read_text(encoding="utf-8")
    settings = re.findall(r'addini\(\s*"(\w+)"', text) + re.findall(r'"(--[\w-]+)"', text)
    fixtures = re.findall(r"@pytest\.fixture[^\n]*\ndef (\w+)", text)
    return sorted({*settings, *fixtures, *re.findall(r'MARKER = "(\w+)"', text)})


def loggers() -> list[str]:
    """Return the names of our loggers, as docs/logging.md has them."""
    text = (ROOT / "docs" / "logging.md").read_text(encoding="utf-8")
    return sorted(set(re.findall(r"`(pooltransport\.(?:leak|pool|config|access)\w*)`", text)))


def describe() -> dict[str, object]:
    """Return all of it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    enums = (
        stats.CloseReason,
        stats.AcquireSource,
        stats.AcquireFailure,
        stats.DrainOutcome,
        stats.LeakFound,
        stats.Activity,
    )
    return {
        "hooks": hooks(),
        "values": {kind.__name__: [member.value for member in kind] for kind in enums},
        "codes": titles(),
        "metrics": metrics(),
        "statistics": {"schema": schema_number(), "paths": statistics()},
        "options": list(pt.TransportOptions().as_dict()),
        "environment": ["POOLTRANSPORT_LEAK_DETECTION", "POOLTRANSPORT_<OPTION>"],
        "command line": command_line(),
        "pytest plugin": plugin(),
        "loggers": loggers(),
        "extras": sorted(set(project["optional-dependencies"]) - {"dev", "sdks"}),
        "pythons": project["requires-python"],
    }


def as_text() -> str:
    return json.dumps(describe(), indent=1, ensure_ascii=False) + "\n"


def test_is_what_is_listed():
    listed = LISTED.read_text(encoding="utf-8") if LISTED.exists() else ""
    change = "\n".join(difflib.unified_diff(listed.splitlines(), as_text().splitlines(), "listed", "now", lineterm=""))
    assert not change, f"what users build on changed; if meant: python tests/test_stability.py --write\n{change}"


def test_nothing_of_it_is_empty():
    for name, value in describe().items():
        assert value, name
    assert len(describe()["statistics"]["paths"]) > 50
    assert any(line.startswith("explain code") for line in describe()["command line"])
    assert {"pool_leaks", "no_network", "pooltransport_leaks", "allow_pool_leaks"} <= set(describe()["pytest plugin"])
    assert {"pooltransport.leak", "pooltransport.pool", "pooltransport.config"} <= set(loggers())


@pytest.mark.parametrize("name", ["hooks", "values", "codes", "metrics", "statistics", "command line", "loggers"])
def test_the_page_speaks_of_it(name):
    page = (ROOT / "docs" / "stability.md").read_text(encoding="utf-8")
    assert f"| {name}" in page


def test_supported_pythons_are_those_of_the_page():
    page = (ROOT / "docs" / "stability.md").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [line.rpartition(" ")[2] for line in project["classifiers"] if re.search(r":: 3\.\d+$", line)]
    assert f"Python {named[0]} to {named[-1]}" in page


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    logging.disable()
    LISTED.write_text(as_text(), encoding="utf-8")
