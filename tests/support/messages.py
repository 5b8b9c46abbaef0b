"""Every message of our errors and findings, read out of the sources: ``python -m tests.support.messages --write``
writes docs/messages.md anew. A message is a template: what stands in braces is filled in.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from pathlib import Path

import pooltransport
from pooltransport import errors

SOURCES = Path(pooltransport.__file__).parent
PAGE = Path(__file__).parent.parent.parent / "docs" / "messages.md"
# Which argument of a call has the text: of the classes of findings, and of variables that stand for a class.
PLACES = {"ConfigFinding": 3, "kind": 0}
ELSEWHERE = ("testing/fault_errors.py",)  # which repeats those of the transport
HEAD = """# Every message

All texts of errors and of configuration findings, by class; in braces is what is filled in. They are for people and
get better ([stability.md](stability.md)): this page is written by `python -m tests.support.messages --write`, and a
test holds it against the sources, so that each change is seen. What to do about an error stands in
[errors.md](errors.md); `python -m pooltransport explain CODE` has a page for each code.
"""


def error_names() -> set[str]:
    """Return the names of our classes of errors and warnings."""
    return {
        name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, BaseException)
    }


class _Reader(ast.NodeVisitor):
    """Collects the messages of one file; `texts` has those of variables, by name, of the function at hand."""

    def __init__(self, names: set[str]) -> None:
        self.names = set(names)
        self.found: list[tuple[str, str]] = []
        self.texts: dict[str, list[str]] = {}

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        outer, self.texts = self.texts, {}
        for child in ast.walk(node):
            target = child.targets[0] if isinstance(child, ast.Assign) and len(child.targets) == 1 else None
            if isinstance(target, ast.Name) and (text := template(child.value)):
                self.texts.setdefault(target.id, []).append(text)
        self.generic_visit(node)
        self.texts = outer

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - the visitor asks by this name

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        if any(ast.unparse(base).rpartition(".")[2] in self.names for base in node.bases):
            self.names.add(node.name)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = ast.unparse(node.func).rpartition(".")[2]
        place = PLACES.get(name, 0) if name in self.names or name in PLACES else None
        if place is not None and len(node.args) > place:
            self.found += [(name, text) for text in self.texts_of(node.args[place])]
        self.generic_visit(node)

    def texts_of(self, node: ast.expr) -> list[str]:
        """Return the templates that an argument may be."""
        if isinstance(node, ast.Name):
            return self.texts.get(node.id, [])
        if isinstance(node, ast.IfExp):
            return [*self.texts_of(node.body), *self.texts_of(node.orelse)]
        if isinstance(node, (ast.List, ast.Tuple)):
            return [text for item in node.elts for text in self.texts_of(item)]
        text = template(node)
        return [text] if text else []


def template(node: ast.expr) -> str:
    """Return the text of a constant or an f-string, or an empty one."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_part, node.values))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = template(node.left), template(node.right)
        return f"{left or '{…}'}{right or '{…}'}" if left or right else ""
    return ""


def _part(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    assert isinstance(node, ast.FormattedValue), "an f-string has nothing else"
    # Its spelling differs between Pythons: of a call, or of what holds texts itself, only that there is something.
    inner = node.value
    while isinstance(inner, ast.Attribute):
        inner = inner.value
    return f"{{{ast.unparse(node.value)}}}" if isinstance(inner, ast.Name) else "{…}"


def messages() -> dict[str, list[str]]:
    """Return the messages by class, sorted."""
    names = error_names()
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted(SOURCES.rglob("*.py")):
        if path.relative_to(SOURCES).as_posix() in ELSEWHERE:
            continue
        reader = _Reader(names)
        reader.visit(ast.parse(path.read_text(encoding="utf-8")))
        for name, text in reader.found:
            found["errors of a class that is given" if name == "kind" else name].add(" ".join(text.split()))
    return {name: sorted(texts) for name, texts in sorted(found.items(), key=lambda row: (row[0].islower(), row[0]))}


def as_page() -> str:
    """Return the page."""
    parts = [HEAD]
    for name, texts in messages().items():
        parts.append(f"## {name}\n\n```text\n" + "\n".join(texts) + "\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    PAGE.write_text(as_page(), encoding="utf-8")
