"""Cancellation storms: many tasks cancelled at random moments, again and again; then what the pool still does."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any

from benchmarks.worker import say

if TYPE_CHECKING:
    from benchmarks.worker import Task

LIMIT = 100
WORKERS = 20
SPAN = 0.5  # seconds in which all are cancelled


def measure(task: Task) -> None:
    """Measure before, storm, look, and measure after."""
    task.run(lambda: storms(task))


async def storms(task: Task) -> None:
    """Do it all in one pool."""
    chance = random.Random(6)
    async with task.open(LIMIT) as calls:
        before = await rate(calls, f"{task.sink}/", task.seconds)
        for _ in range(task.storms):
            await storm(calls, f"{task.sink}/slow", task.tasks, chance)
        held = await settled(calls.transport) if calls.transport else float("nan")
        after = await rate(calls, f"{task.sink}/", task.seconds)
        values = {"before": before, "rate": after, "kept": after / before}
        if calls.transport:
            values["held"] = held
        say(f"{task.storms} storms of {task.tasks:,} tasks", **values)


async def storm(calls: Any, url: str, count: int, chance: random.Random) -> None:
    """Start so many, and cancel each after a time of its own."""
    loop = asyncio.get_running_loop()
    tasks = [asyncio.ensure_future(calls.get(url)) for _ in range(count)]
    for one in tasks:
        loop.call_later(chance.uniform(0, SPAN), one.cancel)
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        assert outcome == len("hello") or isinstance(outcome, asyncio.CancelledError), repr(outcome)


async def settled(transport: Any) -> float:
    """Return how many slots are held when nothing is asked any more, after at most 5 s."""
    deadline = time.monotonic() + 5
    while True:
        stats = transport.stats()
        held = stats.active + stats.dialing + stats.draining + stats.waiting + stats.leases
        if not held or time.monotonic() > deadline:
            return float(held)
        await asyncio.sleep(0.01)


async def rate(calls: Any, url: str, seconds: float) -> float:
    """Return the requests a second of a few tasks."""
    counts = [0] * WORKERS
    await asyncio.gather(*(calls.get(url) for _ in range(WORKERS)))
    began = time.perf_counter()

    async def work(number: int) -> None:
        while time.perf_counter() < began + seconds:
            await calls.get(url)
            counts[number] += 1

    await asyncio.gather(*(work(number) for number in range(WORKERS)))
    return sum(counts) / (time.perf_counter() - began)
