"""What a terminal is shown: drawn with rich; without rich, or where it is not wanted, as text."""

from __future__ import annotations

import os
import pty
import re
import select
import sys

import pytest

from pooltransport.cli.draw import bar
from pooltransport.cli.probe import Step
from tests.cli.conftest import start
from tests.support.responders import ok

WITHOUT_RICH = "import sys; sys.modules['rich'] = None; from pooltransport.cli import main; sys.exit(main())"


def in_a_terminal(*arguments: str, **env: str) -> str:
    """Run the command line in a terminal of 120 columns; return all that was written to it."""
    ours, theirs = pty.openpty()
    environment = {"TERM": "xterm-256color", "COLUMNS": "120", "NO_COLOR": "", "LANG": "C.UTF-8", **env}
    if not environment["NO_COLOR"]:
        environment.pop("NO_COLOR")
    try:
        process = start(*arguments, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
        os.close(theirs)
        written = b""
        while select.select([ours], [], [], 60)[0]:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # how Linux ends a terminal
                break
            if not piece:
                break
            written += piece
        assert process.wait(60) in (0, 4)
    finally:
        os.close(ours)
    return written.decode().replace("\r\n", "\n")


def plainly(text: str) -> str:
    """Return `text` without colours, trailing blanks and what differs from run to run."""
    text = re.sub(r"\x1b\[[\d;]*m", "", text)
    text = re.sub(r" *\+ +T", " + T", re.sub(r" *[\d.]+ ms", " T", text))
    return re.sub(r"127\.0\.0\.1:\d+", "ADDRESS", "\n".join(map(str.rstrip, text.split("\n"))))


def test_drawn(server_factory):
    server = server_factory(ok(b"hello"))
    text = in_a_terminal("probe", server.url)
    assert "\x1b[32m" in text  # green
    assert re.sub(r" *━+ *", " BAR ", plainly(text)).replace(" \n", "\n") == (
        "http://ADDRESS\n"
        "✓ connect T + T BAR ADDRESS\n"
        "✓ send T + T BAR\n"
        "✓ first byte T + T BAR\n"
        "✓ receive T + T BAR 5 bytes\n"
        "  total T\n"
        "  connection  ADDRESS -> ADDRESS (new)\n"
        "  answer      HTTP/1.1 200 OK, 5 bytes\n"
        "  pool        the connection went back to the pool\n"
    )


def test_drawn_when_it_fails():
    text = in_a_terminal("probe", "http://127.0.0.1:1")
    assert "\x1b[31m✗ connect" in text
    assert "pooltransport: there is no connection: " in text


def test_a_servers_words_are_no_markup(server_factory):
    server = server_factory(ok(status="200 [bold red]\x1b[31mOK[/]"))
    assert "200 [bold red]\\x1b[31mOK[/], 5 bytes" in in_a_terminal("probe", server.url)


@pytest.mark.parametrize("why", ["no rich", "--plain", "ascii"])
def test_text(server_factory, why, monkeypatch):
    server = server_factory(ok(b"hello"))
    if why == "no rich":
        monkeypatch.setattr("tests.cli.conftest.COMMAND", [sys.executable, "-c", WITHOUT_RICH])
    flags = ["--plain"] if why == "--plain" else []
    environment = {"PYTHONIOENCODING": "ascii"} if why == "ascii" else {}
    text = in_a_terminal("probe", server.url, *flags, **environment)
    assert "\x1b" not in text
    assert re.search(r"^  connect .*\|[ =]{30}\|  127\.0\.0\.1:\d+$", text, re.MULTILINE)
    assert "  pool        the connection went back to the pool\n" in text


@pytest.mark.parametrize(
    ("start", "end", "total", "drawn"),
    [
        (0.0, 1.0, 1.0, (0, 30)),
        (0.5, 1.0, 1.0, (15, 15)),
        (0.0, 0.0, 1.0, (0, 1)),
        (1.0, 1.0, 1.0, (29, 1)),
        (0.999, 1.0, 1.0, (29, 1)),
        (0.0, 0.0, 0.0, (0, 1)),
        (0.9, 2.0, 1.0, (27, 3)),
    ],
)
def test_bars_stay_inside(start, end, total, drawn):
    step = Step("connect", start)
    step.finish(end, "ok")
    assert bar(step, total, 30) == drawn
