"""The examples work: both services show their pools, and StatsD is told what hooks are told."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import pooltransport as pt
from tests.support.responders import Responder, big, head, ok, routes, slow

EXAMPLES = Path(__file__).parents[2] / "examples"

FASTAPI = """
from fastapi.testclient import TestClient
import fastapi_app
with TestClient(fastapi_app.app) as client:
    for _ in range(3):
        assert client.get("/").json() == {"answer": 42}
    print(client.get("/metrics").text)
"""
FLASK = """
import flask_app
client = flask_app.app.test_client()
for _ in range(3):
    assert client.get("/").json == {"answer": 42}
print(client.get("/metrics").text)
flask_app.client.transport.close()
"""


@pytest.mark.parametrize("code", [FASTAPI, FLASK], ids=["fastapi", "flask"])
def test_a_service_shows_its_pools(code, server_factory):
    server = server_factory(ok(b'{"answer": 42}', ("Content-Type", "application/json")))
    source = str(Path(pt.__file__).parent.parent)
    environment = {**os.environ, "API": server.url, "PYTHONPATH": os.pathsep.join([str(EXAMPLES), source])}
    environment.pop("PROMETHEUS_MULTIPROC_DIR", None)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    found = {
        (
            sample.name,
            sample.labels.get("pooltransport_acquire_source") or sample.labels.get("http_connection_state"),
        ): sample.value
        for family in text_string_to_metric_families(done.stdout)
        for sample in family.samples
        if sample.labels.get("server_port") == str(server.port)
    }
    assert found["pooltransport_connection_acquired_total", "dialed"] == 1
    assert found["pooltransport_connection_acquired_total", "reused"] == 2
    assert found["http_client_open_connections", "idle"] == 1
    assert found["http_client_request_duration_seconds_count", None] == 3
    assert "process_open_fds" in done.stdout  # and what prometheus_client has by itself


@pytest.fixture
def statsd():
    """Give a server, and what it has received so far: `{name: [value, ...]}`."""
    spec = importlib.util.spec_from_file_location("statsd_example", EXAMPLES / "statsd.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    received: dict[str, list[str]] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(10.0)

        def wait_for(name, count=1):
            while len(received.get(name, ())) < count:
                line = listener.recv(1024).decode()
                received.setdefault(line.partition(":")[0], []).append(line.partition(":")[2])
            return received[name]

        with module.StatsD(port=listener.getsockname()[1]) as sender:
            yield sender, wait_for, received


@Responder
def closes(conn, request):
    """Answer and end the connection."""
    conn.send(head("200 OK", ("Connection", "close"), length=2) + b"ok")


def test_statsd_is_told_by_hooks_alone(statsd, server_factory):
    sender, wait_for, received = statsd
    server = server_factory(routes({"/": ok(), "/close": closes, "/big": big(5_000_000)}))
    with pt.Transport(trace=sender.trace()) as transport:
        client = pt.Client(transport=transport)
        for path in ("/", "/", "/close", "/big"):
            response = transport.round_trip(pt.Request("GET", server.url + path))
            if path != "/big":
                response.read()
            response.close()
        assert client.get(server.url).text == "hello"
    assert wait_for("pool.closed.pool_closed.local") == ["1|c"]
    assert received["pool.acquired.dialed"] == ["1|c"] * 3
    assert received["pool.acquired.reused"] == ["1|c"] * 2
    assert received["pool.returned"] == ["1|c"] * 3
    assert received["pool.not_returned.server_close_header"] == ["1|c"]
    assert received["pool.not_returned.drain_limit"] == ["1|c"]
    assert received["pool.closed.server_close_header.remote"] == ["1|c"]
    assert received["pool.closed.drain_limit.local"] == ["1|c"]
    assert len(received["pool.first_byte"]) == 5
    assert all(value.endswith("|ms") and float(value[:-3]) >= 0 for value in received["pool.first_byte"])


def test_statsd_is_told_of_waits(statsd, server_factory):
    sender, wait_for, _ = statsd
    go = threading.Event()
    server = server_factory(slow(go))
    with pt.Transport(trace=sender.trace(), max_conns_per_host=1) as transport:
        client = pt.Client(transport=transport)
        threads = [threading.Thread(target=client.get, args=(server.url,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        server.wait_until(lambda: transport.stats().waiting == 1, "one who waits")
        go.set()
        for thread in threads:
            thread.join()
    (waited,) = wait_for("pool.queue")
    assert float(waited.removesuffix("|ms")) > 0


def test_nobody_listening_breaks_no_request(server_factory, statsd):
    sender, _, _ = statsd
    server = server_factory(ok())
    sender.close()
    with pt.Transport(trace=sender.trace()) as transport:
        assert pt.Client(transport=transport).get(server.url).text == "hello"
        assert transport.stats().hook_errors == 0
