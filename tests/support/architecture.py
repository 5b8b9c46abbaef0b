"""The rules of the house as functions over syntax trees; `tests/test_architecture.py` applies them."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

PACKAGE = "pooltransport"
SUSPENDING = (ast.Await, ast.AsyncFor, ast.AsyncWith, ast.Yield, ast.YieldFrom)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Import(NamedTuple):
    """One import of one name."""

    module: str  # what is imported, as an absolute name
    line: int
    typing: bool  # under ``if TYPE_CHECKING``
    lazy: bool  # inside a function


class Source:
    """One module of the package."""

    def __init__(self, name: str, text: str, *, is_package: bool = False) -> None:
        self.name = name
        self.text = text
        self.is_package = is_package
        self.tree = ast.parse(text)

    def imports(self, known: Iterable[str]) -> list[Import]:
        """Return everything that is imported; `known` are the package's modules, to tell a module from a name."""
        return list(self._imports(self.tree, set(known), typing=False, lazy=False))

    def _imports(self, node: ast.AST, known: set[str], *, typing: bool, lazy: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, typing, lazy)
        elif isinstance(node, ast.ImportFrom):
            base = self._absolute(node)
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield Import(whole if whole in known else base, node.lineno, typing, lazy)
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for child in node.body:
                yield from self._imports(child, known, typing=True, lazy=lazy)
            for child in node.orelse:
                yield from self._imports(child, known, typing=typing, lazy=lazy)
        else:
            inside = lazy or isinstance(node, FUNCTIONS)
            for child in ast.iter_child_nodes(node):
                yield from self._imports(child, known, typing=typing, lazy=inside)

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.name.split(".")
        parts = parts[: len(parts) - node.level + self.is_package]
        return ".".join([*parts, node.module] if node.module else parts)

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        """Return every function and method."""
        return (node for node in ast.walk(self.tree) if isinstance(node, FUNCTIONS))


def read_package(root: Path) -> dict[str, Source]:
    """Return the modules under `root`, which is the package's directory, by absolute name."""
    sources = {}
    for path in sorted(root.rglob("*.py")):
        parts = [PACKAGE, *path.relative_to(root).with_suffix("").parts]
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        sources[name] = Source(name, path.read_text(encoding="utf-8"), is_package=is_package)
    return sources


# Rooms.


def room_of(module: str, rooms: Mapping[str, str]) -> str | None:
    """Return the room of a module: the longest prefix that `rooms` knows, below the package's own name."""
    path = module.removeprefix(PACKAGE).removeprefix(".") or "__init__"
    while path and path not in rooms:
        path = path.rpartition(".")[0]
    return rooms.get(path)


def wrong_imports(
    sources: Mapping[str, Source], rooms: Mapping[str, str], allowed: Mapping[str, set[str]]
) -> list[str]:
    """Return the imports that go up, or sideways into a room that is not allowed."""
    found = []
    for name, source in sources.items():
        here = room_of(name, rooms)
        if here is None:
            found.append(f"{name} lives in no room: give it one in tests/test_architecture.py")
            continue
        for item in source.imports(sources):
            if item.module.split(".")[0] != PACKAGE or item.module in {PACKAGE, name}:
                continue  # PACKAGE itself: `from pooltransport import __version__`, see wrong_root_imports
            there = room_of(item.module, rooms)
            if there is not None and there != here and there not in allowed[here]:
                found.append(f"{name}:{item.line} ({here}) may not import {item.module} ({there})")
    return found


def wrong_root_imports(source: Source) -> list[str]:
    """Return what is taken from the package's root other than its version: that would go up."""
    found = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom) and source._absolute(node) == PACKAGE:
            found += [(node.lineno, alias.name) for alias in node.names]
    return [f"{source.name}:{line} takes {name} from the root" for line, name in found if name != "__version__"]


def import_cycle(sources: Mapping[str, Source]) -> list[str]:
    """Return a cycle among the imports done while modules load, or nothing."""
    edges = {
        name: [i.module for i in source.imports(sources) if i.module in sources and not (i.typing or i.lazy)]
        for name, source in sources.items()
    }
    done: set[str] = set()

    def visit(name: str, trail: list[str]) -> list[str]:
        if name in trail:
            return [*trail[trail.index(name) :], name]
        if name in done:
            return []
        for target in edges[name]:
            if target != name and (cycle := visit(target, [*trail, name])):
                return cycle
        done.add(name)
        return []

    return next((cycle for name in sources if (cycle := visit(name, []))), [])


def forbidden_imports(source: Source, forbidden: set[str], *, even_lazy: bool = True) -> list[str]:
    """Return the imports of outside modules that are named in `forbidden`, types excepted."""
    return [
        f"{source.name}:{item.line} imports {item.module}"
        for item in source.imports(())
        if item.module.split(".")[0] in forbidden and not item.typing and (even_lazy or not item.lazy)
    ]


# Code.


def suspends_under_mutex(source: Source) -> list[str]:
    """Return where something may suspend while the mutex is held."""
    return [
        f"{source.name}:{inner.lineno} may suspend under the mutex taken in line {node.lineno}"
        for node in ast.walk(source.tree)
        if isinstance(node, (ast.With, ast.AsyncWith))
        and any("mutex" in ast.unparse(item.context_expr).lower() for item in node.items)
        for statement in node.body
        for inner in _walk_same_function(statement)
        if isinstance(inner, SUSPENDING)
    ]


def _walk_same_function(node: ast.AST) -> Iterator[ast.AST]:
    """Walk, but not into functions that are only defined here."""
    if isinstance(node, (*FUNCTIONS, ast.Lambda)):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _walk_same_function(child)


def foreign_awaits(source: Source) -> list[str]:
    """Return what methods await other than coroutines of this module, whose functions never suspend.

    A function that was handed in may be awaited as well: it is the engine's, and awaits only this module.
    """
    own = {function.name for function in source.functions() if isinstance(function, ast.AsyncFunctionDef)}
    classes = [node for node in ast.walk(source.tree) if isinstance(node, ast.ClassDef)]
    found = []
    for method in (node for cls in classes for node in cls.body if isinstance(node, FUNCTIONS)):
        known = own | {argument.arg for argument in (*method.args.args, *method.args.kwonlyargs)}
        for node in ast.walk(method):
            if isinstance(node, (ast.AsyncFor, ast.AsyncWith)) or getattr(node, "is_async", 0):
                found.append(f"{source.name}:{method.lineno} {method.name} has an async for or with")
            elif isinstance(node, ast.Await) and _called_name(node.value) not in known:
                found.append(f"{source.name}:{node.lineno} awaits {ast.unparse(node.value)}")
    return found


def _called_name(node: ast.expr) -> str | None:
    function = node.func if isinstance(node, ast.Call) else None
    return getattr(function, "attr", None) or getattr(function, "id", None)


def names_used(source: Source, names: set[str]) -> list[str]:
    """Return where one of the dotted `names` is used, or the last part of it is imported from its module."""
    tails = {name.rpartition(".")[2] for name in names}
    found = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in names:
            found.append(f"{source.name}:{node.lineno} uses {ast.unparse(node)}")
        if isinstance(node, ast.ImportFrom):
            found += [
                f"{source.name}:{node.lineno} imports {node.module}.{alias.name}"
                for alias in node.names
                if alias.name in tails and f"{node.module}.{alias.name}" in names
            ]
    return found


def async_generators(source: Source) -> list[str]:
    """Return the async generators: their finalisation needs a loop, so shared code has none."""
    return [
        f"{source.name}:{function.lineno} {function.name} is an async generator"
        for function in source.functions()
        if isinstance(function, ast.AsyncFunctionDef)
        and any(isinstance(node, ast.Yield) for stmt in function.body for node in _walk_same_function(stmt))
    ]


def definitions_of(source: Source, name: str) -> list[str]:
    """Return where a method called `name` is defined."""
    return [f"{source.name}:{function.lineno}" for function in source.functions() if function.name == name]


def too_long(source: Source, max_file: int, max_function: int) -> list[str]:
    """Return the file, if it is too long, and its functions that are."""
    found = []
    lines = len(source.text.splitlines())
    if lines > max_file:
        found.append(f"{source.name} has {lines} lines")
    for function in source.functions():
        length = (function.end_lineno or function.lineno) - function.lineno + 1
        if length > max_function:
            found.append(f"{source.name}:{function.lineno} {function.name} has {length} lines")
    return found
