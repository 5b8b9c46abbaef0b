"""Latency in an open loop: arrivals by a fixed schedule, at a share of the client's own capacity, beside a slow host.

A latency runs from when the request was due, so that one that could not even be started in time is not forgotten.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import TYPE_CHECKING, Any

from benchmarks.worker import say

if TYPE_CHECKING:
    from benchmarks.worker import Task

LIMIT = 200
WORKERS = 20
SHARE = 0.8
PACES = (800, 4000)  # what httpx2 can do on one core, and aiohttp
PARTS = 3
TICK = 0.001  # seconds
SLOW_EVERY = 50  # one request of so many goes to the slow host


def measure(task: Task) -> None:
    """Measure the capacity, then the latencies."""
    task.run(lambda: open_loop(task))


async def open_loop(task: Task) -> None:
    """Do both in one pool, in a few parts: the capacity is measured anew before each, since that of a machine with
    others on it changes; a figure is the median of the parts. Then at paces that are the same for all."""
    found: list[dict[str, float]] = []
    each = task.seconds / PARTS
    async with task.open(LIMIT) as calls:
        await schedule(calls, task, SHARE * await saturated(calls, task.url, each / 4), each / 4)  # dials what it takes
        for _ in range(PARTS):
            capacity = await saturated(calls, task.url, each / 3)
            found.append({"capacity": capacity, **await at_pace(calls, task, SHARE * capacity, each)})
        say("80 % of the client's own capacity", **medians(found))
        own = SHARE * medians(found)["capacity"]
        for pace in (pace for pace in PACES if pace <= own):
            parts = [await at_pace(calls, task, pace, each) for _ in range(PARTS)]
            say(f"{pace:,} requests a second for each", **medians(parts))


async def at_pace(calls: Any, task: Task, pace: float, seconds: float) -> dict[str, float]:
    """Offer `pace` requests a second."""
    latencies = sorted(await schedule(calls, task, pace, seconds))
    shares = {"p99": 0.99, "p50": 0.5}
    return {"offered": pace} | {n: latencies[int(share * (len(latencies) - 1))] * 1e3 for n, share in shares.items()}


def medians(parts: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of each value."""
    return {name: statistics.median(part[name] for part in parts) for name in parts[0]}


async def saturated(calls: Any, url: str, seconds: float) -> float:
    """Return the requests a second that are done at most, each in a task of its own as in the open loop."""
    counts = [0] * WORKERS
    await asyncio.gather(*(calls.get(url) for _ in range(WORKERS)))
    began = time.perf_counter()

    async def work(number: int) -> None:
        while time.perf_counter() < began + seconds:
            await asyncio.ensure_future(calls.get(url))
            counts[number] += 1

    await asyncio.gather(*(work(number) for number in range(WORKERS)))
    return sum(counts) / (time.perf_counter() - began)


async def schedule(calls: Any, task: Task, pace: float, seconds: float) -> list[float]:
    """Start requests when they are due, whatever became of those before; return the latencies of the fast host."""
    latencies: list[float] = []
    running: set[asyncio.Task[None]] = set()
    fast, slow = task.url, f"{task.sink}/slow"

    async def one(due: float, url: str) -> None:
        await calls.get(url)
        if url is fast:
            latencies.append(time.perf_counter() - due)

    began, number = time.perf_counter(), 0
    while number < pace * seconds:
        # All that are due by now; a timer for each would cost more than some clients' requests.
        while number < pace * seconds and (due := began + number / pace) <= time.perf_counter():
            made = asyncio.ensure_future(one(due, fast if number % SLOW_EVERY else slow))
            running.add(made)
            made.add_done_callback(running.discard)
            number += 1
        await asyncio.sleep(TICK)
    await asyncio.gather(*running)
    return latencies
