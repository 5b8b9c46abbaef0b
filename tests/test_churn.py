"""How often something is made at one line, within bounds of time and memory."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import deque

import pytest

from pooltransport.churn import MOST_SITES, SUSPICIOUS, WINDOW, Churn


def test_counts_each_line_for_itself():
    churn = Churn()
    assert [churn.note_creation("app.py:1", 5.0) for _ in range(3)] == [1, 2, 3]
    assert churn.note_creation("app.py:2", 5.0) == 1
    assert churn.count("app.py:1", 6.0) == 3
    assert churn.count("app.py:3", 6.0) == 0


def test_forgets_after_the_window():
    churn = Churn()
    churn.note_creation("app.py:1", 100.0)
    assert churn.note_creation("app.py:1", 100.0 + WINDOW - 1) == 2
    assert churn.note_creation("app.py:1", 100.0 + WINDOW) == 2
    assert churn.count("app.py:1", 100.0 + 3 * WINDOW) == 0


def test_counts_as_an_exact_one_does_but_for_a_second():
    churn, exact, now, rng = Churn(), deque(), 0.0, random.Random(7)
    for _ in range(3000):
        now += rng.choice((0.0, 0.01, 0.3, 2.0, 15.0))
        exact.append(now)
        while exact[0] <= now - WINDOW - 1:
            exact.popleft()
        within = sum(1 for at in exact if at > now - WINDOW)
        surely = sum(1 for at in exact if int(at) > now - WINDOW)
        counted = churn.note_creation("line", now)
        assert surely <= counted <= within


def test_a_clock_that_stands_still_or_steps_back_a_little_loses_nothing():
    churn = Churn()
    assert [churn.note_creation("line", now) for now in (10.9, 10.9, 10.2, 9.9)] == [1, 2, 3, 4]


def test_memory_is_bounded():
    churn = Churn()
    for number in range(3 * MOST_SITES):
        churn.note_creation("busy", 1.0)
        churn.note_creation(f"line {number}", 1.0)
    assert churn.count("busy", 1.0) == 3 * MOST_SITES  # who is used is not forgotten
    assert churn.count("line 0", 1.0) == 0
    assert sum(churn.count(f"line {n}", 1.0) for n in range(3 * MOST_SITES)) == MOST_SITES - 1


def test_tells_the_busiest_lines():
    churn = Churn()
    for site, times in (("a", SUSPICIOUS), ("b", SUSPICIOUS - 1), ("c", SUSPICIOUS + 5)):
        for _ in range(times):
            churn.note_creation(site, 1.0)
    assert churn.busiest(1.0) == [("c", SUSPICIOUS + 5), ("a", SUSPICIOUS)]
    assert churn.busiest(1.0, least=1)[-1] == ("b", SUSPICIOUS - 1)
    assert churn.busiest(2.0 + WINDOW) == []


# -- in a program (PTC212); under pytest nothing is said, since a fixture makes one for each test ----------------

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
