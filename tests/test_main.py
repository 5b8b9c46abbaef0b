"""`python -m pooltransport` as a process: `demo` shows the six causes. The rest is in `cli/`."""

from __future__ import annotations

import re
import subprocess
import sys


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pooltransport", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_demo_shows_the_six_causes():
    done = run("demo")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert re.findall(r"^(\d)\. ", done.stdout, re.MULTILINE) == ["1", "2", "3", "4", "5", "6"]
    for said in (
        "leaks=5 active=0",
        "PoolTimeout: no connection to http://127.0.0.1",
        "PoolConfigWarning: max_idle_conns_per_host=2: with 20 in use, 18 connections are closed after each burst",
        "put_idle_conn said 24 times: too many idle connections for host",
        "200 clients, one for each request: 1 connection ",
        "stats().findings: a client is made for each request: 20 in the last minute: Transport at ",
        "drains={'reused': 10}",
        "drains={'limit': 10}",
        "phase=body setting=timeout",
        "keepalive_disabled by local': 50",
    ):
        assert said in done.stdout


def test_without_a_command():
    done = run()
    assert done.returncode == 2
    assert "usage: python -m pooltransport" in done.stderr
