"""The command line: `get` prints the phases, `demo` shows the six causes; wrong calls end with words and a status."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.support.responders import ok


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pooltransport", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


class TestGet:
    def test_prints_the_phases_and_that_the_connection_went_back(self, server_factory):
        server = server_factory(ok(b"hello"))
        done = run("get", server.url)
        assert done.returncode == 0, done.stderr
        phases = re.findall(r"^([\w ]+?) +[\d.]+ ms", done.stdout, re.MULTILINE)
        assert phases == ["connect", "sending", "first byte", "headers", "body", "total"]
        assert "HTTP/1.1 200 OK, 5 bytes" in done.stdout
        assert "went back to the pool: yes" in done.stdout

    def test_says_why_the_connection_did_not_go_back(self, server_factory):
        server = server_factory(ok(b"hello", ("Connection", "close")))
        assert "went back to the pool: no, the server announced that it closes" in run("get", server.url).stdout

    def test_body_goes_to_standard_output_alone(self, server_factory):
        server = server_factory(ok(b"hello"))
        done = run("get", "--body", server.url)
        assert done.stdout == "hello"
        assert "first byte" in done.stderr

    def test_a_server_that_is_down(self):
        done = run("get", "http://127.0.0.1:1/")
        assert done.returncode == 1
        assert "connect" in done.stdout
        assert "ConnectError: cannot connect to http://127.0.0.1:1: 127.0.0.1:1: Connection refused" in done.stderr

    def test_a_bad_address(self):
        done = run("get", "example.com")
        assert done.returncode == 1
        assert "InvalidRequest: URL has no scheme" in done.stderr


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
