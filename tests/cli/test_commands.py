"""What the command line takes, and how it helps who takes it wrongly."""

from __future__ import annotations

import re
import signal
import subprocess
import threading

import pytest

from tests.cli.conftest import start
from tests.support.responders import ok, slow


class TestHelp:
    def test_lists_everything(self, run):
        done = run("--help")
        assert done.status == 0
        listed = re.findall(r"^    (\w+) {2,}\S", done.text, re.MULTILINE)
        assert listed == ["get", "head", "probe", "demo", "explain"]
        assert "exit statuses: 0 answered" in done.text

    @pytest.mark.parametrize("command", ["get", "head", "probe", "demo", "explain"])
    def test_of_each(self, run, command):
        done = run(command, "--help")
        assert (done.status, done.err) == (0, "")
        assert done.text.startswith(f"usage: python -m pooltransport {command} ")

    def test_version(self, run):
        assert re.fullmatch(r"pooltransport \d+\.\d+\.\d+\S*\n", run("--version").text)


class TestWrongCalls:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ([], "the following arguments are required: COMMAND"),
            (["prob"], "no command 'prob'; did you mean probe?"),
            (["GET", "http://x"], "no command 'GET'; did you mean get?"),
            (["xyzzy"], "no command 'xyzzy'; there are: get, head, probe, demo, explain"),
            (["http://x/"], "a command comes before the address: python -m pooltransport get URL, or probe URL"),
            (["get"], "the following arguments are required: URL"),
            (["get", "example.com"], "this cannot be asked for: URL has no scheme: write http://host/path or https://"),
            (["probe", "ftp://example.com"], "unsupported protocol scheme 'ftp': use http or https"),
            (["get", "http://x", "-H", "nonsense"], "'nonsense': write 'Name: value'"),
            (["head", "http://x", "-H", "a b: c"], "this cannot be asked for: header"),
            (["probe", "http://x", "-n", "0"], "'0': a number from 1 to 1000"),
            (["probe", "http://x", "-n", "many"], "'many': a number from 1 to 1000"),
            (["get", "http://x", "--timeout", "0"], "this cannot work: "),
            (["probe", "http://x", "--timeout", "nan"], "[PTC104]"),
            (["get", "http://x", "--timeout", "soon"], "invalid float value: 'soon'"),
            (["get", "http://x", "--proxy", "http://user:s3cret@"], "this cannot work: proxy: "),
            (["probe", "https://x", "--ca-file", "/nowhere"], "this cannot work: ca_file: '/nowhere' cannot be read"),
            (["probe", "https://x", "--ca-file", "a", "--insecure"], "not allowed with argument"),
            (["probe", "http://x", "--jsn"], "unrecognized arguments: --jsn"),
        ],
    )
    def test_end_with_words_and_2(self, run, arguments, said):
        done = run(*arguments)
        assert (done.status, done.out) == (2, b"")
        assert said in done.err
        assert "s3cret" not in done.err

    def test_a_proxy_of_the_environment_that_is_none(self, run, monkeypatch):
        monkeypatch.setenv("HTTPS_PROXY", "ftp://proxy.test")
        done = run("probe", "https://name.test")
        assert (done.status, done.out) == (2, b"")
        assert "this cannot work: the environment variable HTTPS_PROXY: " in done.err


def heed_interrupts():
    """Of a shell's background jobs all descendants ignore SIGINT, unless told otherwise."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class TestAsAProcess:
    def test_the_status_is_the_process(self, server_factory):
        server = server_factory(ok(b"hello"))
        with start("get", server.url, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.communicate(timeout=60) == (b"hello", b"")
        assert process.returncode == 0

    def test_interrupted(self, server_factory):
        server = server_factory(slow(threading.Event()))
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with start("probe", server.url, **pipes, preexec_fn=heed_interrupts) as process:
            server.wait_for_requests(1)
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=60) == (b"", b"pooltransport: interrupted\n")
        assert process.returncode == 130

    def test_who_reads_has_enough(self, server_factory):
        server = server_factory(ok(b"x" * 10_000_000))
        with start("get", server.url, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout.read(1) == b"x"
            process.stdout.close()
            assert process.stderr.read() == b""
            assert process.wait(60) == 1
