"""A crawler over many hosts, that is polite to each and cannot exhaust itself. Run: python crawler.py URL [URL ...]

Two limits do it: `max_conns_per_host` keeps it polite, `max_conns` keeps the process within its descriptors. No slot
stays free while a host waits, and no host starves another: idle connections of hosts that are done give way.

`PAGES` pages of each host are followed, links to other hosts are not. A host that fails is given up.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections import Counter
from typing import NamedTuple
from urllib.parse import urljoin

import pooltransport as pt

PAGES = 5
LINK = re.compile(rb'href="([^"#?]+)"')


class Crawl(NamedTuple):
    """What came of it."""

    pages: int
    failed: dict[str, str]  # hosts, and why
    closed: dict[str, int]


def make_transport(**options: object) -> pt.AsyncTransport:
    """Return the pool: 2 connections to each host, 64 in all, and nothing waits for ever."""
    return pt.AsyncTransport(
        **{
            "name": "crawler",
            "max_conns_per_host": 2,
            "max_conns": 64,
            "idle_conn_timeout": 5.0,
            "acquire_timeout": None,
            "dial_timeout": 5.0,
            "max_body_bytes": 5_000_000,  # read-all calls stop there
            "lease_max": 60.0,  # nobody keeps us: not with a drop each second either
            **options,
        }
    )


async def crawl(urls: list[str], transport: pt.AsyncTransport) -> Crawl:
    """Follow the links of each URL within its host."""
    failed: dict[str, str] = {}
    pages: Counter[str] = Counter()
    client = pt.AsyncClient(transport, timeout=pt.Timeout(30.0, response_header=10.0, read=10.0))

    async def host(start: str) -> None:
        origin = pt.URL(start).origin
        todo, seen = [start], {start}
        while todo and pages[origin] < PAGES:
            url = todo.pop()
            try:
                response = await client.get(url)
                response.raise_for_status()
            except pt.Error as error:
                failed[origin] = f"{type(error).__name__}: {error}"
                return
            pages[origin] += 1
            for link in LINK.findall(response.content):
                found = urljoin(url, link.decode("latin-1"))
                if found.startswith("http") and pt.URL(found).origin == origin and found not in seen:
                    seen.add(found)
                    todo.append(found)

    async with asyncio.TaskGroup() as group:
        for url in urls:
            group.create_task(host(url))
    closed = {reason: count for reason, count in transport.stats().closed.items() if count}
    return Crawl(pages.total(), failed, closed)


async def main() -> None:
    async with make_transport() as transport:
        done = await crawl(sys.argv[1:], transport)
    print(f"{done.pages} pages, {len(done.failed)} hosts failed; connections closed: {done.closed}")
    for origin, why in done.failed.items():
        print(f"  {origin}: {why}")


if __name__ == "__main__":
    asyncio.run(main())
