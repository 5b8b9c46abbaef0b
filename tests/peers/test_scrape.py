"""What a scrape shows, as Prometheus' own tool sees it."""

from __future__ import annotations

import subprocess

import pytest
from prometheus_client import CollectorRegistry, generate_latest

import pooltransport as pt
from pooltransport.observe import catalogue
from pooltransport.observe.prometheus import PoolCollector
from tests.support.promtool import binary
from tests.support.responders import ok

pytestmark = pytest.mark.peers


def check(text):
    return subprocess.run(
        [binary("promtool"), "check", "metrics"], input=text, capture_output=True, timeout=30, check=False
    )


@pytest.fixture
def text(server_factory):
    server = server_factory(ok())
    with pt.Transport(max_conns=4) as transport:
        registry = CollectorRegistry()
        collector = PoolCollector([transport], registry=registry, kernel=True, details=True)
        client = pt.Client(transport=transport)
        client.post(f"http://localhost:{server.port}/", content=b"abc")
        client.get(server.url)
        with pytest.raises(pt.ConnectError):
            client.get("http://127.0.0.1:1/")
        yield generate_latest(registry)
        collector.close()


def test_promtool_finds_nothing_to_say(text):
    done = check(text)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert text.count(b"# TYPE ") == len(catalogue.METRICS)


def test_promtool_would_say_something(text):
    done = check(text.replace(b"pooltransport_client_live ", b"pooltransport_client_live_ms "))
    assert done.returncode != 0
