"""What runs in a client's own environment: ``python -m benchmarks.worker TASK``, a task being json.

Prints a line of json for each sample: its case, and its values. Nothing is imported but the standard library and the
client.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import resource
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from benchmarks.clients import Setting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LOOPS = ("asyncio", "uvloop", "trio")
DIALS = 50  # warm-up requests at once


class Task:
    """One task: `kind`, `client`, `runtime`, and what else its kind needs, by name."""

    def __init__(self, text: str) -> None:
        self.given: dict[str, Any] = json.loads(text)
        self.runtime: str = self.given["runtime"]

    def __getattr__(self, name: str) -> Any:
        return self.given[name]

    def open(self, workers: int) -> Any:
        """Open the client with a pool of that size."""
        module = "tasks" if self.runtime in LOOPS else "blocking"
        made = importlib.import_module(f"benchmarks.clients.{module}").CLIENTS[self.client]
        return made(Setting(workers, self.given.get("ca"), self.given.get("codec", "auto")))

    def run(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Run it in the task's loop."""
        if self.runtime == "asyncio":
            return asyncio.run(work())
        module = importlib.import_module(self.runtime)
        return module.run(work()) if self.runtime == "uvloop" else module.run(work)

    async def together(self, works: list[Callable[[], Awaitable[Any]]]) -> None:
        """Run them at once."""
        if self.runtime != "trio":
            await asyncio.gather(*(work() for work in works))
            return
        import trio

        async with trio.open_nursery() as nursery:
            for work in works:
                nursery.start_soon(work)


def say(case: str, **values: float) -> None:
    """Print a sample."""
    print(json.dumps({"case": case, "values": values}), flush=True)


class Clock:
    """Wall and CPU time since it was made."""

    def __init__(self) -> None:
        self.began, self.cpu = time.perf_counter(), time.process_time()

    def rate(self, count: int) -> dict[str, float]:
        """Return the rate a second, and the microseconds of CPU each."""
        took, cpu = time.perf_counter() - self.began, time.process_time() - self.cpu
        return {"rate": count / took, "cpu": cpu / max(count, 1) * 1e6}


def closed_loop(task: Task) -> None:
    """Let each of so many workers do one request after another; for each number of workers."""
    for workers in task.workers:
        case = task.case.format(runtime=task.runtime, workers=workers)
        if task.runtime in LOOPS:
            values = task.run(lambda workers=workers: tasks_loop(task, workers))
        else:
            values = threads_loop(task, workers)
        say(case, **values)


async def tasks_loop(task: Task, workers: int) -> dict[str, float]:
    """Run `workers` tasks; each connection is dialed before the clock starts."""
    counts = [0] * workers
    async with task.open(workers) as calls:
        get, url, size = calls.get, task.url, task.size
        for start in range(0, workers if task.warm else 1, DIALS):
            await task.together([lambda: get(url)] * min(DIALS, workers - start))
        clock = Clock()
        end = clock.began + task.seconds

        async def work(number: int) -> None:
            while time.perf_counter() < end:
                assert await get(url) == size
                counts[number] += 1

        await task.together([lambda number=number: work(number) for number in range(workers)])
        return clock.rate(sum(counts))


def threads_loop(task: Task, workers: int) -> dict[str, float]:
    """Run `workers` threads; each does one request before the clock starts."""
    counts = [0] * workers
    errors: list[BaseException] = []
    clock = [Clock()]
    barrier = threading.Barrier(workers, action=lambda: clock.__setitem__(0, Clock()))
    with task.open(workers) as calls:
        get, url, size = calls.get, task.url, task.size

        def work(number: int) -> None:
            try:
                get(url)
                barrier.wait(30)
                end = clock[0].began + task.seconds
                while time.perf_counter() < end:
                    assert get(url) == size
                    counts[number] += 1
            except BaseException as error:  # raised again below
                errors.append(error)
                barrier.abort()

        if workers == 1:
            work(0)
        else:
            threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        values = clock[0].rate(sum(counts))
    if errors:
        raise errors[0]
    return values


def transfer(task: Task) -> None:
    """Move large bodies, one after another; what moves is `megabytes` each time."""
    size = task.megabytes * 1_000_000
    body = b"x" * size if task.direction == "upload" else b""  # zeros would all be one page

    def told(best: list[float]) -> None:
        say(task.case.format(runtime=task.runtime), rate=max(best))

    async def by_loop() -> None:
        found = []
        async with task.open(1) as calls:
            move = getattr(calls, task.direction)
            for _ in range(task.times):
                began = time.perf_counter()
                assert await (move(task.url, body) if body else move(task.url)) == size
                found.append(size / 1e6 / (time.perf_counter() - began))
        told(found)

    if task.runtime in LOOPS:
        task.run(by_loop)
        return
    found = []
    with task.open(1) as calls:
        move = getattr(calls, task.direction)
        for _ in range(task.times):
            began = time.perf_counter()
            assert (move(task.url, body) if body else move(task.url)) == size
            found.append(size / 1e6 / (time.perf_counter() - began))
    told(found)


def main() -> None:
    """Do the task of the command line."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    task = Task(sys.argv[1])
    if task.kind in ("closed_loop", "transfer"):
        globals()[task.kind](task)
    else:
        importlib.import_module(f"benchmarks.kinds.{task.kind}").measure(task)
    sys.stdout.flush()
    os._exit(0)  # all is said and closed: threads of a client's own (pyreqwest's) may crash an interpreter that ends


if __name__ == "__main__":
    main()
