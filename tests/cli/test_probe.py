"""`probe`: every step with its time, every end with a sentence, and the same for machines."""

from __future__ import annotations

import datetime as dt
import json
import re
import socket
import threading
from pathlib import Path

import jsonschema
import pytest

import pooltransport
from pooltransport.cli.probe import probe
from pooltransport.url import URL
from tests.support.neighbours import black_hole
from tests.support.proxies import ESTABLISHED, HttpProxy, SocksProxy
from tests.support.responders import head, no_response_close, ok, raw, slow, stall

SCHEMA = json.loads((Path(pooltransport.__file__).parent / "cli" / "probe.schema.json").read_text())


def normal(text: str, **names: object) -> str:
    """Return `text` with what differs from run to run taken out: times, bars, ports, certificates' names."""
    for name, value in names.items():
        text = text.replace(str(value), name.upper())
    text = re.sub(r"\|[ =x]{30}\|", "|BAR|", text)
    text = re.sub(r" +[\d.]+ \+ +[\d.]+ ms", " T + T ms", text)
    text = re.sub(r"(total) +[\d.]+ ms", r"\1 T ms", text)
    text = re.sub(r"127\.0\.0\.1:\d+ ->", "127.0.0.1:LOCAL ->", text)
    text = re.sub(r"'trustme v[^']*'", "'TRUSTME'", text)
    return re.sub(r"[\d,]+ days", "MANY days", text)


def machine(run, *arguments: str) -> tuple[int, dict]:
    """Run ``probe --json``; return the status and the report, which must fit its schema and nothing else."""
    done = run("probe", "--json", *arguments)
    report = json.loads(done.out)
    jsonschema.validate(report, SCHEMA)
    assert set(report) == set(SCHEMA["properties"])
    for request in report["requests"]:
        assert set(request) == set(SCHEMA["$defs"]["request"]["properties"])
    assert done.status == report["exit_status"]
    assert done.err == ""
    return done.status, report


def steps(report: dict, number: int = 1) -> list[tuple[str, str]]:
    """Return name and outcome of each step."""
    return [(step["name"], step["outcome"]) for step in report["requests"][number - 1]["steps"]]


class TestText:
    def test_plain_http(self, run, server_factory):
        server = server_factory(ok(b"hello"))
        done = run("probe", f"{server.url}/private?token=s3cret")
        assert (done.status, done.err) == (0, "")
        assert normal(done.text, port=server.port) == (
            "http://127.0.0.1:PORT\n"
            "  connect T + T ms  |BAR|  127.0.0.1:PORT\n"
            "  send T + T ms  |BAR|\n"
            "  first byte T + T ms  |BAR|\n"
            "  receive T + T ms  |BAR|  5 bytes\n"
            "  total T ms\n"
            "  connection  127.0.0.1:LOCAL -> 127.0.0.1:PORT (new)\n"
            "  answer      HTTP/1.1 200 OK, 5 bytes\n"
            "  pool        the connection went back to the pool\n"
        )

    def test_tls_and_reuse(self, run, server_factory, server_ssl_context, ca_file):
        server = server_factory(ok(b"hello"), tls=server_ssl_context)
        done = run("probe", server.url, "--ca-file", ca_file, "-n", "2")
        assert (done.status, done.err) == (0, "")
        facts = """\
  TLS         TLSv1.3, TLS_AES_256_GCM_SHA384
  certificate 'TRUSTME', issued by 'TRUSTME'
  valid       2000-01-01 to 3000-01-01, MANY days left
  name        127.0.0.1 fits: it is for localhost, 127.0.0.1, 0:0:0:0:0:0:0:1
  trust       the certificate is trusted
  answer      HTTP/1.1 200 OK, 5 bytes
  pool        the connection went back to the pool
"""
        assert normal(done.text, port=server.port) == (
            "request 1: https://127.0.0.1:PORT\n"
            "  connect T + T ms  |BAR|  127.0.0.1:PORT\n"
            "  TLS T + T ms  |BAR|  TLSv1.3, TLS_AES_256_GCM_SHA384\n"
            "  send T + T ms  |BAR|\n"
            "  first byte T + T ms  |BAR|\n"
            "  receive T + T ms  |BAR|  5 bytes\n"
            "  total T ms\n"
            f"  connection  127.0.0.1:LOCAL -> 127.0.0.1:PORT (new)\n{facts}"
            "request 2: https://127.0.0.1:PORT\n"
            "  send T + T ms  |BAR|\n"
            "  first byte T + T ms  |BAR|\n"
            "  receive T + T ms  |BAR|  5 bytes\n"
            "  total T ms\n"
            f"  connection  127.0.0.1:LOCAL -> 127.0.0.1:PORT (reused)\n{facts}"
        )

    def test_why_the_connection_did_not_go_back(self, run, server_factory):
        done = run("probe", server_factory(ok(b"", ("Connection", "close"), status="503 Busy")).url)
        assert done.status == 0
        assert "  answer      HTTP/1.1 503 Busy, 0 bytes  (!)\n" in done.text
        assert "did not go back to the pool: the server announced that it closes" in done.text

    def test_a_servers_words_do_nothing_to_the_terminal(self, run, server_factory):
        done = run("probe", server_factory(ok(status="200 \x1b]0;title\x07\x9b31m")).url)
        assert "HTTP/1.1 200 \\x1b]0;title\\x07\\x9b31m, 5 bytes" in done.text
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", done.text)


class TestFailures:
    """Each ends with a sentence that says what and why, and with a status of its own."""

    def failed(self, run, status, *arguments):
        done = run("probe", *arguments)
        assert done.status == status
        assert done.err.startswith("pooltransport: ")
        assert done.err.count("\n") == 1
        found, report = machine(run, *arguments)
        assert found == status
        assert f"pooltransport: {report['message']}".split(" within")[0] in done.err
        assert report["ok"] is report["requests"][0]["ok"] is False
        return done, report

    def test_down(self, run):
        done, report = self.failed(run, 4, "http://127.0.0.1:1")
        assert "127.0.0.1:1: Connection refused (errno 111)" in done.text
        assert "there is no connection: cannot connect to http://127.0.0.1:1: 127.0.0.1:1: Connection" in done.err
        assert steps(report) == [("connect", "failed")]
        assert report["requests"][0]["error"]["type"] == "ConnectError"

    def test_a_name_that_does_not_resolve(self, run, no_names):
        done, report = self.failed(run, 3, "http://no-such-name.invalid")
        assert "the name does not resolve: cannot resolve 'no-such-name.invalid': " in done.err
        assert steps(report) == [("look-up", "failed")]
        assert report["requests"][0]["addresses"] == []

    def test_a_certificate_for_another_name(self, run, server_factory, certified, ca_file):
        server = server_factory(ok(), tls=certified("other.example", "*.example.org"))
        done, report = self.failed(run, 5, server.url, "--ca-file", ca_file)
        assert "  name        127.0.0.1 does not fit: it is for other.example, *.example.org  (!)\n" in done.text
        assert "  trust       the certificate is not accepted  (!)\n" in done.text
        assert "the certificate is not accepted: IP address mismatch" in done.err
        assert steps(report) == [("connect", "ok"), ("TLS", "failed")]
        found = report["requests"][0]["certificate"]
        assert (found["asked_for"], found["name_matches"], found["verified"]) == ("127.0.0.1", False, False)

    def test_an_expired_one(self, run, server_factory, certified, ca_file):
        server = server_factory(ok(), tls=certified("127.0.0.1", until=dt.datetime(2020, 1, 1, tzinfo=dt.UTC)))
        done, report = self.failed(run, 5, server.url, "--ca-file", ca_file)
        assert re.search(r"  valid       2000-01-01 to 2020-01-01, expired [\d,]+ days ago  \(!\)\n", done.text)
        assert "certificate has expired: valid until 2020-01-01 00:00:00 UTC" in done.err
        assert report["requests"][0]["certificate"]["days_left"] < -2000
        assert report["requests"][0]["certificate"]["not_after"] == "2020-01-01T00:00:00Z"

    def test_one_that_nobody_here_trusts(self, run, server_factory, server_ssl_context):
        server = server_factory(ok(), tls=server_ssl_context)
        done, _ = self.failed(run, 5, server.url)
        assert "which is not trusted here; ca_file= names other authorities" in done.err
        done = run("probe", server.url, "--insecure")
        assert done.status == 0
        assert "  trust       not looked at (--insecure)  (!)\n" in done.text

    def test_plain_http_where_tls_is_asked_for(self, run, server_factory):
        def speak_first(conn):
            conn.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            conn.read_to_end()

        server = server_factory(speak_first)
        done, report = self.failed(run, 5, f"https://127.0.0.1:{server.port}")
        assert "the server does not speak TLS on this port" in done.err
        assert "is it an http:// address?" in done.err
        assert report["requests"][0]["certificate"] is None

    def test_tls_where_plain_http_is_asked_for(self, run, server_factory):
        server = server_factory(no_response_close)
        done, _ = self.failed(run, 1, server.url)
        assert "closed the connection instead of answering" in done.err
        assert done.err.endswith("; if this port speaks TLS, write https://\n")

    def test_what_is_not_http(self, run, server_factory):
        server = server_factory(raw(b"SSH-2.0-OpenSSH_9.2\r\n", then_close=True))
        assert "what came is no answer in HTTP/1.1: " in self.failed(run, 1, server.url)[0].err

    def test_never_answers(self, run, server_factory):
        event = threading.Event()
        server = server_factory(slow(event))
        done, report = self.failed(run, 6, server.url, "--timeout", "0.1")
        assert "connected, and there was no answer in time: " in done.err
        assert steps(report) == [("connect", "ok"), ("send", "ok"), ("first byte", "failed")]
        assert report["requests"][0]["error"]["phase"] == "headers"
        assert re.search(r"first byte .*\|  not in time\n", done.text)

    def test_never_speaks_tls(self, run, server_factory):
        server = server_factory(lambda conn: conn.read_to_end())
        done, report = self.failed(run, 6, f"https://127.0.0.1:{server.port}", "--timeout", "0.1")
        assert "in time: " in done.err
        assert "phase tls" in done.err
        assert steps(report) == [("connect", "ok"), ("TLS", "failed")]

    def test_never_takes_the_connection(self, run):
        bound = socket.socket()
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with black_hole(bound):
            done, report = self.failed(run, 6, url, "--timeout", "0.1")
        assert "there was no connection in time: " in done.err
        assert steps(report) == [("connect", "failed")]

    def test_stops_in_the_middle(self, run, server_factory):
        server = server_factory(stall(threading.Event()))
        _, report = self.failed(run, 6, server.url, "--timeout", "0.1")
        assert steps(report)[-1] == ("receive", "failed")
        server = server_factory(raw(head(length=9) + b"abc", then_close=True))
        done, _ = self.failed(run, 1, server.url)
        assert "the answer ended too early: " in done.err

    def test_the_first_failure_ends_it(self, run, server_factory):
        def once(conn):
            conn.read_request()
            conn.send(head(length=2) + b"hi")
            conn.server.stop_listening()

        server = server_factory(once)
        status, report = machine(run, server.url, "-n", "5")
        assert status == 4
        assert [request["ok"] for request in report["requests"]] == [True, False]
        assert report["requests"][1]["number"] == 2


class TestMachines:
    def test_everything(self, run, server_factory, server_ssl_context, ca_file):
        server = server_factory(ok(b"hello"), tls=server_ssl_context)
        url = f"https://user:s3cret@localhost:{server.port}/private?token=s3cret"
        status, report = machine(run, url, "--ca-file", ca_file, "--count", "2")
        assert "s3cret" not in json.dumps(report)
        assert (status, report["ok"], report["message"], report["proxy"]) == (0, True, None, None)
        assert report["origin"] == f"https://localhost:{server.port}"
        assert ("connect", "ok") in steps(report)
        assert [step for step in steps(report) if step[0] != "connect"] == [
            (name, "ok") for name in ("look-up", "TLS", "send", "first byte", "receive")
        ]
        assert steps(report, 2) == [(name, "ok") for name in ("send", "first byte", "receive")]
        first, second = report["requests"]
        assert f"127.0.0.1:{server.port}" in first["addresses"]
        assert first["connection"]["returned_to_pool"] is second["connection"]["returned_to_pool"] is True
        assert (first["connection"]["reused"], second["connection"]["reused"]) == (False, True)
        assert first["tls"] == second["tls"] == {"version": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384", "alpn": None}
        assert first["certificate"] == second["certificate"]
        assert first["certificate"]["name_matches"] is first["certificate"]["verified"] is True
        assert first["answer"] == {"http_version": "HTTP/1.1", "status": 200, "reason": "OK", "bytes": 5}
        moments = [(step["start_ms"], step["start_ms"] + step["ms"]) for step in first["steps"]]
        assert moments == sorted(moments)
        assert moments[-1][1] <= first["total_ms"]

    def test_the_schema_is_one(self):
        jsonschema.Draft202012Validator.check_schema(SCHEMA)

    def test_method_and_headers(self, run, server_factory):
        server = server_factory(ok(b"hello"))
        _, report = machine(run, server.url, "--method", "HEAD", "-H", "X-A: b")
        assert report["requests"][0]["answer"]["bytes"] == 0
        (request,) = server.log
        assert (request.method, request.header("x-a")) == ("HEAD", "b")
        assert request.header("user-agent").startswith("python-pooltransport/")


class TestAddresses:
    def test_each_that_was_tried(self, server_factory):
        server = server_factory(ok())
        url = URL(f"http://name.test:{server.port}/")
        options = {"resolver": lambda host, port: ["127.0.0.2", "127.0.0.1"], "happy_eyeballs_delay": None}
        report = probe(url, options=options)
        (request,) = report.to_dict()["requests"]
        assert request["addresses"] == [f"127.0.0.2:{server.port}", f"127.0.0.1:{server.port}"]
        tried = [(step["outcome"], step["detail"]) for step in request["steps"] if step["name"] == "connect"]
        assert tried == [
            ("failed", f"127.0.0.2:{server.port}: Connection refused (errno 111)"),
            ("ok", f"127.0.0.1:{server.port}"),
        ]

    def test_one_that_was_slower(self, server_factory):
        server = server_factory(ok())
        bound = socket.socket()
        bound.bind(("127.0.0.2", server.port))
        with black_hole(bound):
            options = {"resolver": lambda host, port: ["127.0.0.2", "127.0.0.1"], "happy_eyeballs_delay": 0.05}
            report = probe(URL(f"http://name.test:{server.port}/"), options=options)
        (request,) = report.to_dict()["requests"]
        assert request["ok"] is True
        tried = [(step["outcome"], step["detail"]) for step in request["steps"] if step["name"] == "connect"]
        assert tried == [
            ("left", f"127.0.0.2:{server.port}: another address was faster"),
            ("ok", f"127.0.0.1:{server.port}"),
        ]


class TestProxies:
    @pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
    def test_a_tunnel(self, run, server_factory, server_ssl_context, ca_file, scheme):
        make = SocksProxy if scheme == "socks5" else HttpProxy
        proxy = server_factory(make(), tls=server_ssl_context if scheme == "https" else None)
        server = server_factory(ok(), tls=server_ssl_context)
        way = f"{scheme}://127.0.0.1:{proxy.port}"
        status, report = machine(run, server.url, "--ca-file", ca_file, "--proxy", way)
        assert (status, report["proxy"]) == (0, way)
        first = ["connect", "TLS"] if scheme == "https" else ["connect"]
        assert [name for name, _ in steps(report)] == [*first, "proxy", "TLS", "send", "first byte", "receive"]
        assert report["requests"][0]["certificate"]["verified"] is True

    def test_forward(self, run, server_factory):
        proxy, server = server_factory(HttpProxy()), server_factory(ok())
        done = run("probe", server.url, "--proxy", f"http://user:s3cret@127.0.0.1:{proxy.port}")
        assert done.status == 0
        assert done.text.startswith(f"{server.url} through http://127.0.0.1:{proxy.port}\n")
        assert "s3cret" not in done.text
        assert "  proxy " not in done.text
        assert server.requests == 1

    def test_none(self, run, monkeypatch, no_names):
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        status, report = machine(run, "http://no-such-name.invalid", "--proxy", "none")
        assert (status, report["proxy"]) == (3, None)
        status, report = machine(run, "http://no-such-name.invalid")
        assert (status, report["proxy"]) == (4, "http://127.0.0.1:1")

    def test_that_refuses(self, run, server_factory):
        proxy = server_factory(HttpProxy(reply=ESTABLISHED.replace(b"200 Connection established", b"403 No\x1b[0m")))
        done = run("probe", "https://name.test", "--proxy", f"http://127.0.0.1:{proxy.port}")
        assert done.status == 4
        assert "the proxy does not let it pass: " in done.err
        assert "\x1b" not in done.err
