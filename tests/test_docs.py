"""Every Python block of the README and of docs/ runs as it stands, and the option page lists what there is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pooltransport
from pooltransport import TransportOptions
from tests.support.responders import ok

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
# A file that a page shows, with its name in the first line: it is there when the page's programs run.
FILE = re.compile(r"^```toml\n# (\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Lines of an example, which has tests of its own: what is shown is what it has.
EXCERPT = re.compile(r"^<!-- (examples/\S+) -->\n```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = [
    pytest.param(page, match.group(1), id=f"{page.name}-{number}")
    for page in PAGES
    for number, match in enumerate(BLOCK.finditer(EXCERPT.sub("", page.read_text())))
]
EXCERPTS = [pytest.param(*found, id=found[0]) for page in PAGES for found in EXCERPT.findall(page.read_text())]


def test_there_are_blocks():
    assert len(BLOCKS) >= 5


@pytest.mark.parametrize(("page", "block"), BLOCKS)
def test_runs(page, block, server_factory, tmp_path):
    for name, text in FILE.findall(page.read_text()):
        (tmp_path / name).write_text(text)
    server = server_factory(ok(b'{"answer": 42}', ("Content-Type", "application/json")))
    code = block.replace("https://api.example.com", server.url)
    offline = "no_network()" in block
    assert code != block or offline, "a block that reaches nothing shows nothing"
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(pooltransport.__file__).parent.parent)},  # whatever the folder
    )
    assert done.returncode == 0, done.stderr
    # asyncio's debug mode speaks of turns that took long: the first request's imports, on a busy machine.
    said = [line for line in done.stderr.splitlines() if not line.startswith("Executing ")]
    assert said == []
    assert server.requests == 0 if offline else server.requests >= 1


@pytest.mark.parametrize(("name", "lines"), EXCERPTS)
def test_excerpts_are_what_the_examples_have(name, lines):
    assert lines in (ROOT / name).read_text()


def test_options_page_lists_every_option_with_its_default():
    rows = dict(re.findall(r"^\| `(\w+)` \| `(.*?)` \|", (ROOT / "docs" / "options.md").read_text(), re.MULTILINE))
    assert rows == {name: repr(value) for name, value in TransportOptions().as_dict().items()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
