"""docs/guide.md answers each line of the troubleshooting guide with something that exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from pooltransport.__main__ import main

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "guide.md"
TEXT = PAGE.read_text()
LINES = [line for line in (ROOT / "tests" / "data" / "guide_lines.txt").read_text().splitlines() if line[0] != "#"]
# | "a few words of the guide" | what is done about it | what shows it |
ROWS = [
    tuple(cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1])
    for line in TEXT.splitlines()
    if line.startswith('| "')
]
WRONG = re.findall(r"^(\d+)\. \*\*", TEXT, re.MULTILINE)
INDEX = TEXT.partition("## What people search for")[2]
SEARCHED = [
    "PoolTimeout",
    "net/http: request canceled while waiting for connection",
    "EmptyPoolError",
    "Connection pool is full, discarding connection",
    "context deadline exceeded",
    "no free connections available",
    "QueuePool limit",
    "Too many open files",
    "Cannot assign requested address",
    "CLOSE_WAIT",
    "TIME_WAIT",
    "Connection timeout to host",
    "connection refused",
    "Server disconnected",
    "PT-EXHAUSTED",
]


def test_every_line_is_answered_once_and_in_order():
    assert [row[0].strip('"') for row in ROWS] == LINES
    assert len(set(LINES)) == len(LINES) >= 100


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][1:30])
def test_the_answer_exists(row):
    assert len(row) == 3
    shown = re.findall(r"`([^`]+)`|\]\(([^)]+)\)", row[2])
    assert shown, "something must show it"
    for code, link in shown:
        assert exists(code) if code else page(link)


def exists(code: str) -> bool:
    """Tell whether a test, a test file, a command or a make target is there."""
    words = code.split()
    if words[:3] == ["python", "-m", "pooltransport"]:
        with pytest.raises(SystemExit) as caught:
            main([*words[3:], "--help"])
        return caught.value.code == 0
    if words[:2] == ["python", "-m"]:
        return (ROOT / "src" / words[2].replace(".", "/") / "__main__.py").is_file()
    if words[0] == "make":
        return re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE) is not None
    path, *names = code.split("::")
    if not names:
        return path.startswith("tests/") and (ROOT / path).is_file()
    return has(ast.parse((ROOT / path).read_text()), names)


def has(tree: ast.AST, names: list[str]) -> bool:
    """Tell whether a test of that name, perhaps inside a class, is in a file."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name == names[0]:
            assert node.name.startswith(("test_", "Test"))
            return len(names) == 1 or has(node, names[1:])
    return False


def page(link: str) -> bool:
    """Tell whether a page, and its heading, is there."""
    target, _, anchor = link.partition("#")
    text = (PAGE.parent / target).read_text() if target else TEXT
    headings = [
        re.sub(r"[^\w -]", "", found.lower()).replace(" ", "-")
        for found in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    ]
    return not anchor or anchor in headings


def test_what_does_not_exist_is_seen():
    assert not has(ast.parse("class TestA:\n    def test_b(self): ...\n"), ["TestA", "test_c"])
    assert not exists("make nothing")
    assert not exists("tests/no_such_file.py")
    assert not exists("python -m pooltransport.observe.nothing")
    with pytest.raises(FileNotFoundError):
        page("no-such-page.md")
    assert not page("#no-such-heading")


def test_where_it_is_wrong_is_said_where_it_is_told():
    assert [int(number) for number in WRONG] == list(range(1, len(WRONG) + 1))
    cited = {int(number) for row in ROWS for number in re.findall(r"\(wrong, (\d+)\)", row[1])}
    assert cited <= set(range(1, len(WRONG) + 1))
    assert len(cited) >= 9


def test_the_index_has_what_people_search_for():
    rows = re.findall(r"^\| `([^`]+)` \| .* \| (.*) \|$", INDEX, re.MULTILINE)
    assert [text for text in SEARCHED if not any(text in row[0] for row in rows)] == []
    for text, meaning in rows:
        links = re.findall(r"\]\(([^)]+)\)", meaning)
        assert links or meaning == "the same", text
        assert all(page(link) for link in links)
