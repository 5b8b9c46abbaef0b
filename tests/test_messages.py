"""docs/messages.md has every message of our errors, as it is now; and docs/errors.md every class."""

from __future__ import annotations

import ast
import difflib
import socket
from pathlib import Path

import pytest

from pooltransport import errors
from pooltransport.__main__ import main
from pooltransport.explain import titles
from tests.support.messages import PAGE, _Reader, as_page, error_names, messages

ROOT = Path(__file__).parent.parent


def test_the_page_is_up_to_date():
    written = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    change = "\n".join(difflib.unified_diff(written.splitlines(), as_page().splitlines(), "page", "now", lineterm=""))
    assert not change, f"messages changed; if meant: python -m tests.support.messages --write\n{change}"


def test_the_reader_finds_them_wherever_they_are():
    source = """
class Own(TransportError): ...
def f(self, kind):
    text = f"a {self.b.c:g} of {len(x)}"
    raise errors.ReadError(text) from None
def g():
    raise Own("one " "two" if x else "three")
def h():
    raise ConfigError([f"{name}: no"])
async def i():
    return ConfigFinding("PTC1", WARNING, "field", f"{a}" + "; b")
"""
    reader = _Reader({"TransportError", "ReadError", "ConfigError"})
    reader.visit(ast.parse(source))
    assert reader.found == [
        ("ReadError", "a {self.b.c} of {…}"),
        ("Own", "one two"),
        ("Own", "three"),
        ("ConfigError", "{name}: no"),
        ("ConfigFinding", "{a}; b"),
    ]


def test_there_are_many():
    found = messages()
    assert sum(map(len, found.values())) > 150
    assert {"InvalidRequest", "ConfigError", "ReadError", "TLSError", "StreamConsumed"} <= set(found)


@pytest.mark.parametrize("code", titles())
def test_every_code_is_explained_without_a_network(code, capsys, monkeypatch):
    def refuse(*_):
        raise AssertionError("a socket is opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert main(["explain", code]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"# {code}: ")
    assert said.err == ""


@pytest.mark.parametrize("name", sorted(error_names()))
def test_each_class_is_on_the_page_of_errors(name):
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert f"`{name}`" in page, f"say in docs/errors.md when {name} comes and what to do"


@pytest.mark.parametrize("name", sorted(error_names()))
def test_may_have_been_processed_is_what_the_page_says(name):
    kind = getattr(errors, name)
    if not issubclass(kind, errors.TransportError) or kind in (errors.TransportError, errors.TransportTimeout):
        return
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
    said = row.split("|")[3].strip()
    expected = (
        "by what was written" if name == "ServerClosedConnection" else ("yes" if kind.may_have_been_processed else "no")
    )
    assert said == expected
