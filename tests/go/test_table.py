"""Every row of a finished area is cited by a test here, or listed with its reason in docs/go-differences.md."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
DIFFERENCES = HERE.parents[1] / "docs" / "go-differences.md"
# Areas whose rows are all accounted for. An area that is not listed is still to be written.
FINISHED: tuple[str, ...] = (
    *("KEY", "POOL", "LIM", "QUEUE", "DIAL", "KA", "DRAIN", "FRAME", "HDR", "TRAIL", "WRITE", "EARLY"),
    *("RETRY", "IDLE", "CANCEL", "TIME", "PROXY", "TLS", "EXP", "1XX", "UPG", "CI", "GZIP", "ERR", "CONC", "LEAK"),
)


def rows() -> list[str]:
    return [line for line in (HERE / "rows.txt").read_text().splitlines() if line and not line.startswith("#")]


def area_of(row: str) -> str:
    return row.rpartition("-")[0]


def cited() -> set[str]:
    """The arguments of every ``@pytest.mark.go(...)`` in this folder, and among the pains of the field."""
    found: set[str] = set()
    for path in (*HERE.glob("test_*.py"), *(HERE.parent / "field").glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "go":
                found.update(arg.value for arg in node.args if isinstance(arg, ast.Constant))
    return found


def excused() -> set[str]:
    """The rows in the first column of the tables of docs/go-differences.md."""
    return set(re.findall(r"^\| ([A-Z0-9]+-\d+) \|", DIFFERENCES.read_text(), flags=re.MULTILINE))


def test_no_row_of_a_finished_area_is_missing():
    accounted = cited() | excused()
    missing = [row for row in rows() if area_of(row) in FINISHED and row not in accounted]
    assert not missing


def test_what_is_cited_or_excused_exists():
    assert not (cited() | excused()) - set(rows())
