"""`import pooltransport` is cheap and has no side effects (design §2.10)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = str(Path(__file__).parent.parent / "src")
HEAVY = ["asyncio", "anyio", "ssl", "certifi", "h11", "httptools", "http.client", "http.cookiejar", "email"]
HEAVY += ["logging", "inspect"]


def run(code: str) -> dict:
    """Run `code` in an interpreter without site-packages, whose start loads nothing of ours."""
    start = f"import json, sys, threading; sys.path.insert(0, {SOURCE!r})\n"
    command = [sys.executable, "-I", "-S", "-X", "dev", "-W", "error", "-c", start + code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


@pytest.mark.parametrize("heavy", HEAVY)
def test_the_measure_is_not_blind(heavy):
    assert run(f"print(json.dumps({heavy!r} in sys.modules))") is False


def test_loads_nothing_heavy():
    loaded = run("import pooltransport; print(json.dumps(sorted(sys.modules)))")
    assert "pooltransport" in loaded
    assert [name for name in HEAVY if name in loaded] == []


def test_starts_no_thread():
    assert run("import _thread, pooltransport; print(json.dumps([threading.active_count(), _thread._count()]))") == [
        1,
        0,
    ]


def test_names_a_missing_attribute():
    code = "import pooltransport\ntry: pooltransport.nope\nexcept AttributeError as e: print(json.dumps(str(e)))"
    assert "nope" in run(code)


def test_public_names_are_listed_by_dir():
    assert run("import pooltransport as p; print(json.dumps(sorted(set(p.__all__) - set(dir(p)))))") == []
