"""A line that makes many transports (PTC212) is logged: in programs, since under pytest a fixture makes many."""

from __future__ import annotations

import subprocess
import sys

import pytest

LOGGED = "import logging\nlogging.basicConfig(format='%(levelname)s %(name)s: %(message)s')\n"
LOOP = "import asyncio\nimport pooltransport as pt\nfor _ in range(12):\n    "
PROGRAMS = {
    "transports": (LOOP + "pt.Transport().close()", 1),
    "asynchronous transports": (LOOP + "asyncio.run(pt.AsyncTransport().aclose())", 1),
    "two lines": (LOOP + "pt.Transport().close()\n    pt.Transport().close()", 2),
    "few": (LOOP + "_ < 9 and pt.Transport().close()", 0),
    "clients of the default transport": (LOOP + "pt.Client().close()", 0),
    "clients of one transport": ("import pooltransport as pt\nt = pt.Transport()\n" + LOOP + "pt.Client(t)", 0),
    "a default transport for each loop": (
        LOOP.replace("for", "async def main():\n    pt.default_async_transport()\nfor") + "asyncio.run(main())",
        0,
    ),
    "a filter": (
        "import logging\nlogging.getLogger('pooltransport.config').setLevel('ERROR')\n" + LOOP + "pt.Transport()",
        0,
    ),
}


def run(program: str, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *flags, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_warned_once_for_each_line(name):
    program, words = PROGRAMS[name]
    done = run(LOGGED + program)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("PTC212") == words


def test_the_words_and_the_line():
    (line, *_) = run(LOGGED + PROGRAMS["transports"][0]).stderr.splitlines()
    assert line == (
        "WARNING pooltransport.config: Transport was made 10 times within 60 s at <string>:6: "
        "make one and share it, or each has an empty pool [PTC212]"
    )


@pytest.mark.parametrize("name", ["transports", "asynchronous transports"])
def test_a_correct_program_is_silent(name):
    """It closes what it makes: no word on standard error, and no error of a warnings filter."""
    done = run(PROGRAMS[name][0], "-X", "dev", "-W", "error")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_ten_in_more_than_a_minute_are_none():
    program = LOGGED + (
        "import time\nreal, late = time.monotonic, [0.0]\ntime.monotonic = lambda: real() + late[0]\n"
        "import pooltransport as pt\n"
        "for number in range(18):\n    late[0] = 61.0 * (number // 9)\n    pt.Transport().close()\n"
    )
    done = run(program)
    assert (done.returncode, done.stderr) == (0, "")
