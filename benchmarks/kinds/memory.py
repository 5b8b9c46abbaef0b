"""Resident memory of an idle connection: all opened at once, all idle, what was garbage collected and given back."""

from __future__ import annotations

import ctypes
import gc
import os
from typing import TYPE_CHECKING

from benchmarks.worker import LOOPS, say

if TYPE_CHECKING:
    from benchmarks.worker import Task

WARM = 20  # connections that are there before: what the first ones load and allocate is not theirs


def resident() -> float:
    """Return the resident memory of this process, in KiB, without what the allocator merely keeps."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024


def measure(task: Task) -> None:
    """Open `connections`, and say what each takes."""
    count = task.connections
    kib = task.run(lambda: by_loop(task, count)) if task.runtime in LOOPS else by_thread(task, count)
    say(f"{task.runtime}, {count:,} idle", kib=kib)


async def by_loop(task: Task, count: int) -> float:
    """Open them from a loop: the server answers when all have asked."""
    async with task.open(count) as calls:
        await task.together([lambda: calls.get(f"{task.sink}/gather/{WARM}")] * WARM)
        before = resident()
        await task.together([lambda: calls.get(f"{task.sink}/gather/{count}")] * count)
        return (resident() - before) / (count - WARM)


def by_thread(task: Task, count: int) -> float:
    """Open them from one thread, each answer left unread until all are there: no memory of stacks is counted."""
    with task.open(count) as calls:
        for read in [calls.hold(task.url) for _ in range(WARM)]:
            read()
        before = resident()
        for read in [calls.hold(task.url) for _ in range(count)]:
            read()
        del read
        return (resident() - before) / (count - WARM)
