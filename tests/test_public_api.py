"""What counts as public, written down in tests/public_api.txt; a change there is a change for users.

Write it anew with ``python tests/test_public_api.py --write`` and read the difference.
"""

from __future__ import annotations

import ast
import difflib
import enum
import importlib
import inspect
import re
import sys
import types
from pathlib import Path

import pytest

LISTED = Path(__file__).with_name("public_api.txt")
MODULES = ["pooltransport", "pooltransport.testing"]
TWINS = [("Transport", "AsyncTransport"), ("Response", "AsyncResponse"), ("Client", "AsyncClient")]
TWINS += [("RoundTripper", "AsyncRoundTripper")]
TWINS += [("HandlerTransport", "AsyncHandlerTransport"), ("FaultTransport", "AsyncFaultTransport")]
# The other name of a method where it is not the same with an ``a`` before it.
TWIN_NAMES = {"__enter__": "__aenter__", "__exit__": "__aexit__", "__iter__": "__aiter__", "__next__": "__anext__"}
# What only one colour has: (class, method) and why.
ONE_COLOUR: dict[tuple[str, str], str] = {
    ("Response", "content"): "a property may read on threads; its async twin raises BodyNotRead (contract 4.2)",
}


def parameters(fn) -> str:
    """Return a signature without its types, which are mypy's business and differ between Pythons."""
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):
        return "(...)"
    bare = [
        p.replace(
            annotation=inspect.Parameter.empty, default=p.default if p.default is p.empty else _Default(p.default)
        )
        for p in signature.parameters.values()
        if p.name not in {"self", "cls"}
    ]
    return str(inspect.Signature(bare))


class _Default:
    """A default value, shown without an address."""

    def __init__(self, value: object) -> None:
        self.text = re.sub(r" at 0x[0-9a-f]+", "", repr(value))

    def __repr__(self) -> str:
        return self.text


def members(cls: type) -> dict[str, object]:
    """Return the public members of a class, with those of our own base classes."""
    found: dict[str, object] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("pooltransport"):
            found.update(vars(base))
    special = set(TWIN_NAMES) | set(TWIN_NAMES.values())
    return {name: found[name] for name in sorted(found) if not name.startswith("_") or name in special}


def has_own_constructor(cls: type) -> bool:
    """Report whether the constructor is ours; those of enums, protocols and exceptions differ between Pythons."""
    if issubclass(cls, enum.Enum) or getattr(cls, "_is_protocol", False):
        return False
    return any(
        {"__init__", "__new__"} & set(vars(base)) for base in cls.__mro__ if base.__module__.startswith("pooltransport")
    )


def describe_class(name: str, cls: type) -> list[str]:
    bases = ", ".join(base.__name__ for base in cls.__bases__ if base is not object)
    shown = parameters(cls) if has_own_constructor(cls) else ""
    lines = [f"class {name}{shown}" + (f": {bases}" if bases else "")]
    for member, value in members(cls).items():
        raw = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
        if inspect.isfunction(raw):
            colour = "async def" if inspect.iscoroutinefunction(raw) else "def"
            lines.append(f"    {colour} {member}{parameters(raw)}")
        else:
            lines.append(f"    {member}")
    return lines


def describe() -> str:
    lines: list[str] = []
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        lines.append(f"# {module_name}")
        for name in sorted(module.__all__):
            value = getattr(module, name)
            if inspect.isclass(value):
                lines += describe_class(name, value)
            elif inspect.isfunction(value):
                lines.append(f"def {name}{parameters(value)}")
            else:
                # The type of a union has another name from Python 3.14 on.
                kind = "alias" if isinstance(value, types.UnionType) else type(value).__name__
                lines.append(f"{name}: {kind}")
    return "\n".join(lines) + "\n"


def test_is_what_is_listed():
    listed = LISTED.read_text(encoding="utf-8") if LISTED.exists() else ""
    change = "\n".join(difflib.unified_diff(listed.splitlines(), describe().splitlines(), "listed", "now", lineterm=""))
    assert not change, f"public interface changed; if meant: python tests/test_public_api.py --write\n{change}"


@pytest.mark.parametrize("name", MODULES)
def test_type_checkers_see_the_names_where_they_are(name):
    module = importlib.import_module(name)
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    seen = {
        alias.asname: node.module
        for block in tree.body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name == alias.asname  # the form that type checkers take as meant for others
    }
    wanted = {f"from .{home} import {name} as {name}" for name, home in module._HOME.items()}
    there = {f"from .{home} import {name} as {name}" for name, home in seen.items()}
    change = "\n".join([*sorted(wanted - there), *(f"not: {line}" for line in sorted(there - wanted))])
    assert not change, f"write under `if TYPE_CHECKING:` of {module.__file__}:\n{change}"
    assert sorted({*seen, "__version__"} if name == "pooltransport" else seen) == module.__all__


def twin_of(name: str, there: dict[str, object]) -> str | None:
    names = [TWIN_NAMES.get(name, f"a{name}"), name]
    return next((twin for twin in names if twin in there), None)


@pytest.mark.parametrize(("sync", "other"), TWINS)
def test_both_colours_have_the_same_methods(sync, other):
    home = next(module for module in map(importlib.import_module, MODULES) if hasattr(module, sync))
    here, there = members(getattr(home, sync)), members(getattr(home, other))
    missing, different = [], []
    for name, value in here.items():
        twin = twin_of(name, there)
        if (sync, name) in ONE_COLOUR:
            continue
        if twin is None:
            missing.append(name)
        elif inspect.isfunction(value) and parameters(value) != parameters(there[twin]):
            different.append(f"{name}{parameters(value)} but {twin}{parameters(there[twin])}")
    assert (missing, different) == ([], [])


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    LISTED.write_text(describe(), encoding="utf-8")
