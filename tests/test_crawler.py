"""The crawler of examples/: 200 hosts, each with links, within its limits."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path

import pytest

from tests.support.responders import ok

PATH = Path(__file__).parent.parent / "examples" / "crawler.py"
HOSTS = 200
PAGE = b'<a href="/a">a</a> <a href="/b">b</a> <a href="http://elsewhere.example/">other</a> <a href="/a#c">again</a>'


@pytest.fixture(scope="module")
def crawler():
    spec = importlib.util.spec_from_file_location("crawler_example", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_two_hundred_hosts_within_the_limits(crawler, server_factory):
    server = server_factory(ok(PAGE))
    looked_up = []

    def resolver(host, port):
        looked_up.append(host)
        if host == "host7.example":
            raise OSError("no such name")
        return ["127.0.0.1"]

    async def body():
        async with crawler.make_transport(resolver=resolver, max_conns=16) as transport:
            urls = [f"http://host{number}.example:{server.port}/" for number in range(HOSTS)]
            done = await crawler.crawl(urls, transport)
            stats = transport.stats()
            return done, stats

    done, stats = asyncio.run(body())
    assert done.pages == (HOSTS - 1) * 3  # its page and two links; the third is another host's
    assert list(done.failed) == [f"http://host7.example:{server.port}"]
    assert "DNSError" in done.failed[f"http://host7.example:{server.port}"]
    assert server.peak <= 32  # which sees an end a moment later than we do
    assert set(looked_up) == {f"host{number}.example" for number in range(HOSTS)}
    assert done.closed["evicted_for_limit"] >= HOSTS - 20  # hosts that were done gave way
    assert (stats.waiting, stats.leases) == (0, 0)
