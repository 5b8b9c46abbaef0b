"""Every code has a page and every page a code; the examples of a configuration code do what the page says."""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import pooltransport as pt
from pooltransport.explain import explain, titles

PACKAGE = Path(pt.__file__).parent
PAGES = {page.stem: page.read_text(encoding="utf-8") for page in (PACKAGE / "explain").glob("*.md")}
CODE = re.compile(r"\bPT(?:C\d{3}|-[A-Z]+(?:-[A-Z]+)*)\b")
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
RUNBOOKS = {
    *("pool-exhausted", "pool-saturated", "response-leak", "low-reuse", "idle-limit", "body-not-consumed"),
    *("client-per-request", "slow-server", "dial-failures", "port-exhaustion", "fd-pressure"),
}
# Found while a program runs, and not under pytest, whose fixtures make many at one line.
AT_RUN_TIME = {"PTC212"}
CONFIGURATION = sorted(code for code in PAGES if code.startswith("PTC") and code not in AT_RUN_TIME)


def codes_in_sources() -> set[str]:
    """Return the codes in the package's texts, docstrings left out: what users may see."""
    found: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstrings = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                found.update(CODE.findall(node.value))
    return found


def test_every_code_has_a_page_and_every_page_a_code():
    assert sorted(codes_in_sources() ^ set(PAGES)) == []


@pytest.mark.parametrize("code", sorted(PAGES))
def test_a_page_names_itself_and_only_what_there_is(code):
    page = PAGES[code]
    assert page.startswith(f"# {code}: ")
    assert explain(code) == page
    assert set(CODE.findall(page)) <= set(PAGES)
    for named in re.findall(r"[Rr]unbooks?:? ((?:[a-z]+(?:-[a-z]+)+(?:, )?)+)", page):
        assert set(named.split(", ")) <= RUNBOOKS, named


@pytest.mark.parametrize("code", sorted(code for code in PAGES if code.startswith("PT-")))
def test_a_page_of_a_running_pool_says_meaning_cause_and_cure(code):
    headings = re.findall(r"^## (.*)$", PAGES[code], re.MULTILINE)
    assert headings == ["What it means", "Find the cause", "What to do"]
    assert "unbook" in PAGES[code]


class TestExplain:
    @pytest.mark.parametrize("asked", ["PTC101", "ptc101", " [PTC101] "])
    def test_takes_a_code_as_it_was_read_somewhere(self, asked):
        assert explain(asked).startswith("# PTC101: ")

    def test_an_unknown_code_names_the_nearest(self):
        with pytest.raises(LookupError, match="no page for 'PT-LAEK'; did you mean PT-LEAK"):
            explain("PT-LAEK")

    @pytest.mark.parametrize("asked", ["", "../explain/PTC101", "__init__", "hello"])
    def test_what_is_no_code_is_no_page(self, asked):
        with pytest.raises(LookupError, match="no page for"):
            explain(asked)

    def test_titles_are_those_of_the_pages(self):
        assert titles().keys() == PAGES.keys()
        assert titles()["PTC108"] == "unknown option"
        assert all(titles().values())


class TestCommand:
    @staticmethod
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pooltransport", "explain", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    def test_prints_a_page(self):
        done = self.run("PT-LEAK")
        assert (done.returncode, done.stdout, done.stderr) == (0, PAGES["PT-LEAK"], "")

    def test_lists_all_codes(self):
        done = self.run()
        assert done.returncode == 0
        assert [line.split()[0] for line in done.stdout.splitlines()] == sorted(PAGES)

    def test_an_unknown_code_is_a_wrong_call(self):
        done = self.run("PTC100")
        assert (done.returncode, done.stdout) == (2, "")
        assert "PTC10" in done.stderr


def found_by(block: str) -> set[str]:
    """Run an example; return the codes it raised, warned of, or left in `findings`."""
    names: dict[str, object] = {"__name__": "example"}
    codes: set[str] = set()
    with warnings.catch_warnings(record=True) as told, contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("always")
        try:
            exec(compile(block, "example", "exec"), names)
        except pt.ConfigError as error:
            codes.update(error.codes)
    codes.update(warning.message.code for warning in told if isinstance(warning.message, pt.PoolConfigWarning))
    codes.update(finding.code for finding in names.get("findings", ()))
    return codes


@pytest.fixture
def environment():
    """Undo what an example does to the process."""
    variables, modules = dict(os.environ), dict(sys.modules)
    yield
    for there, before in ((os.environ, variables), (sys.modules, modules)):
        for name in set(there) - set(before):
            del there[name]
        there.update(before)


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("code", CONFIGURATION)
def test_the_examples_of_a_page(code):
    if code == "PTC211" and not sys.platform.startswith("linux"):
        pytest.skip("only Linux tells its range of ports")
    wrong, right = BLOCK.findall(PAGES[code])
    assert code in found_by(wrong)
    assert found_by(right) == set()


@pytest.mark.parametrize("code", sorted(AT_RUN_TIME))
def test_the_examples_of_a_page_about_a_running_program(code):
    wrong, right = BLOCK.findall(PAGES[code])
    for block, words in ((wrong, 1), (right, 0)):
        logged = "import logging\nlogging.basicConfig()\n" + block
        done = subprocess.run([sys.executable, "-c", logged], capture_output=True, text=True, timeout=30, check=True)
        assert done.stderr.count(f"[{code}]") == words
        assert done.stderr.count("[PTC") == words


LEVELS = {"error", "warning", "advice", "error, warning", "warning, advice"}


def test_the_table_of_the_docs_lists_every_page():
    page = (PACKAGE.parent.parent / "docs" / "configuration.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (PTC\d{3}) \| ([a-z, ]+) \| (.*) \|$", page, re.MULTILINE)
    assert {code: title for code, _, title in rows} == {code: titles()[code] for code in titles() if "PTC" in code}
    assert [code for code, _, _ in rows] == sorted(code for code, _, _ in rows)
    for code, level, _ in rows:
        assert level in LEVELS
        said = PAGES[code].split("\nLevel: ")[1].partition("\n\n")[0]
        assert all(word in said for word in level.split(", ")), code
