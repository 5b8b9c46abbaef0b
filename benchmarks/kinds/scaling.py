"""Our pool at size: CPU of a request beside many idle connections, many hosts and many waiters; ours only.

Both sides of a ratio are measured in one process, in blocks that take turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pooltransport as pt
from benchmarks.clients import ours
from benchmarks.worker import Setting, say

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from benchmarks.worker import Task

BLOCKS = 7
WORKERS = 20
PORTION = 200  # dials at once


def measure(task: Task) -> None:
    """Measure at each size that the task names."""
    options = ours(Setting(codec=task.codec))
    task.run(lambda: all_of_it(task, options))


def transport(options: dict[str, Any], **others: Any) -> pt.AsyncTransport:
    """Return one that keeps all it has."""
    unlimited = {"max_idle_conns": None, "max_conns_per_host": None, "resolver": lambda host, port: ["127.0.0.1"]}
    return pt.AsyncTransport(**options | unlimited | others)


async def all_of_it(task: Task, options: dict[str, Any]) -> None:
    """Measure idle connections, hosts and waiters, the smallest of each against itself as well."""
    for count in task.idle:
        for what, fill in (("idle connections", idle), ("idle hosts", hosts)):
            async with transport(options) as small, transport(options) as large:
                await fill(small, task.url, 1)
                await fill(large, task.url, count)
                await compare(
                    f"{count:,} {what}",
                    lambda at=small: block(at, task.url, task.requests),
                    lambda at=large: block(at, task.url, task.requests),
                )
    for count in task.waiters:
        async with (
            transport(options, max_conns_per_host=WORKERS) as small,
            transport(options, max_conns_per_host=WORKERS) as large,
        ):
            await compare(
                f"{count:,} waiters of the same host",
                lambda at=small: block(at, task.url, task.requests, WORKERS),
                lambda at=large, more=count: block(at, task.url, task.requests, WORKERS + more),
            )
            async with queued(large, f"{task.sink}/gather/{WORKERS + 1}", count):
                await compare(
                    f"{count:,} waiters of another host",
                    lambda at=small: block(at, task.url, task.requests, WORKERS),
                    lambda at=large: block(at, task.url, task.requests, WORKERS),
                )


async def idle(at: pt.AsyncTransport, url: str, count: int) -> None:
    """Fill the pool with idle connections of one host."""
    for number in range(min(PORTION, count), count + PORTION, PORTION):
        await at.warm(url, min(number, count))


async def hosts(at: pt.AsyncTransport, url: str, count: int) -> None:
    """Fill it with one idle connection of each of so many hosts."""
    port = urlsplit(url).port
    for start in range(0, count, PORTION):
        numbers = range(start, min(start + PORTION, count))
        await asyncio.gather(*(get(at, f"http://host{number}.test:{port}/") for number in numbers))


@contextlib.asynccontextmanager
async def queued(at: pt.AsyncTransport, url: str, count: int) -> AsyncIterator[None]:
    """Let `count` requests wait for a host all of whose slots are held."""
    tasks = [asyncio.ensure_future(get(at, url)) for _ in range(WORKERS + count)]
    while at.stats().waiting < count:  # noqa: ASYNC110 - no hook tells it
        await asyncio.sleep(0.01)
    yield
    assert at.stats().waiting == count
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def get(at: pt.AsyncTransport, url: str) -> None:
    """GET and read."""
    await (await at.round_trip(pt.Request("GET", url))).aread()


async def block(at: pt.AsyncTransport, url: str, requests: int, workers: int = 1) -> float:
    """Return the CPU of one request, in microseconds, over a block of them."""
    left = requests

    async def work() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await get(at, url)

    began = time.process_time()
    await asyncio.gather(*(work() for _ in range(workers)))
    return (time.process_time() - began) / requests * 1e6


async def compare(case: str, base: Callable[[], Awaitable[float]], at_size: Callable[[], Awaitable[float]]) -> None:
    """Measure by turns, and say how many times the cost at size is."""
    found: tuple[list[float], list[float]] = ([], [])
    for turn in range(BLOCKS + 1):
        for side, one in ((found[0], base), (found[1], at_size)):
            value = await one()
            if turn:  # the first is a warm-up
                side.append(value)
    small, large = map(statistics.median, found)
    say(case, base=small, cpu=large, times=large / small)
