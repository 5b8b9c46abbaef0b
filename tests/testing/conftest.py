"""A suite of somebody else's, run by a pytest of its own, with the plugin found through its entry point."""

from __future__ import annotations

import os
import textwrap
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tests.support.responders import big, ok
from tests.support.server import ScriptedServer

ROOT = Path(__file__).parent.parent.parent
HEAD = """
import gc, os, threading
import pytest
import pooltransport as pt

URL, BIG = os.environ["SUITE_URL"], os.environ["SUITE_BIG"]
"""


def declared() -> dict[str, str]:
    """Return the plugins that this project declares."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project["entry-points"]["pytest11"]


class Suite:
    """Write `ini` and modules, then `run`."""

    def __init__(self, pytester, ini: str = "") -> None:
        self.pytester = pytester
        self.set(ini)

    def set(self, ini: str) -> None:
        """Set the inner pytest's settings; its own strictness is the project's."""
        self.pytester.makeini(f"[pytest]\naddopts = --strict-markers --strict-config\n{textwrap.dedent(ini)}")

    def write(self, **modules: str) -> None:
        """Write test modules; each begins with what all need."""
        texts = {name: HEAD + textwrap.dedent(text) for name, text in modules.items()}
        self.pytester.makepyfile(**texts)

    def run(self, *args: str, **outcomes: int):
        """Run it; `outcomes` are exactly those counted."""
        result = self.pytester.runpytest_subprocess("-p", "no:randomly", "-p", "no:cacheprovider", *args, timeout=90)
        result.assert_outcomes(**outcomes)
        return result


@pytest.fixture(scope="module")
def servers():
    """Give the URLs of a small body and of one larger than every buffer and than the drain limit."""
    small, large = ScriptedServer(ok()), ScriptedServer(big(4_000_000))
    yield small.url, large.url
    for server in (small, large):
        server.stop()


@pytest.fixture
def suite(pytester, monkeypatch, servers):
    """Give an empty suite in which the plugin is installed."""
    paths = [str(ROOT / "src")]
    installed = {found.name: found.value for found in entry_points(group="pytest11")}
    if declared().items() - installed.items():
        info = pytester.mkdir("installed") / "declared-0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: declared\nVersion: 0\n")
        lines = [f"{name} = {value}" for name, value in declared().items()]
        (info / "entry_points.txt").write_text("\n".join(["[pytest11]", *lines, ""]))
        paths.append(str(info.parent))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    for name in ("POOLTRANSPORT_LEAK_DETECTION", "PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTHONWARNINGS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SUITE_URL", servers[0])
    monkeypatch.setenv("SUITE_BIG", servers[1])
    return Suite(pytester)
