"""The examples run, and what the README shows of them is what they print."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def plain(text):
    """Take out what differs from run to run: ports, paths, and parts of seconds."""
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", text)
    text = re.sub(r"\S*examples/", "examples/", text)
    text = re.sub(r"\d+\.\d+ s", "N s", text)
    return re.sub(r"\b[0-9] s\b", "N s", text).strip()


def test_readme_shows_what_the_leak_example_prints():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(ROOT / "examples" / "leak.py")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    (shown,) = re.findall(
        r"```console\n\$ python examples/leak\.py\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
    )
    assert plain(done.stdout) == plain(shown)


OPENAI = """\
You said: one
You said: two words
You said: three more words
You said: and these are four
You said: a ...
"""


@pytest.mark.parametrize("how", ["", pytest.param("--sdk", marks=pytest.mark.sdks)])
def test_openai_streaming(how):
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / "openai_streaming.py"), *filter(None, [how])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    said, last = done.stdout[: len(OPENAI)], done.stdout[len(OPENAI) :]
    assert said == OPENAI
    assert re.fullmatch(r"[123] connections for 5 answers, 0 still held, 0 leaked\n", last)
    assert done.stderr == ""
