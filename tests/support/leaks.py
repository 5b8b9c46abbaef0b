"""What a test must not leave behind: threads that keep a process alive, and open sockets."""

from __future__ import annotations

import gc
import os
import stat
import threading
import time
from pathlib import Path
from typing import NamedTuple

PATIENCE = 2.0  # for what is closing already: a loop's executor, a socket on its way out
PREFIX = "pooltransport-"


class Snapshot(NamedTuple):
    """What is there at one moment."""

    threads: frozenset[threading.Thread]
    sockets: frozenset[tuple[int, int, int]]  # descriptor, device, inode


def open_sockets() -> frozenset[tuple[int, int, int]]:
    """Return every socket of this process; the inode tells a reused descriptor from the old one."""
    found = []
    for entry in Path("/dev/fd").iterdir():
        try:
            status = os.fstat(int(entry.name))
        except OSError:
            continue  # the descriptor of the listing itself
        if stat.S_ISSOCK(status.st_mode):
            found.append((int(entry.name), status.st_dev, status.st_ino))
    return frozenset(found)


def counted_threads() -> frozenset[threading.Thread]:
    """Return the threads that keep a process alive, and ours by name."""
    return frozenset(t for t in threading.enumerate() if not t.daemon or t.name.startswith(PREFIX))


def snapshot() -> Snapshot:
    """Return what is there now."""
    return Snapshot(counted_threads(), open_sockets())


def find_leaks(before: Snapshot, allowed: frozenset[str] = frozenset()) -> list[str]:
    """Return what has come since `before` and does not go away; waits for it up to `PATIENCE`."""
    deadline = time.monotonic() + PATIENCE
    while leaks := _compare(before, allowed):
        gc.collect()
        if time.monotonic() > deadline:
            return leaks
        time.sleep(0.01)
    return []


def _compare(before: Snapshot, allowed: frozenset[str]) -> list[str]:
    now = snapshot()
    leaks = []
    if "threads" not in allowed:
        leaks += [f"thread {thread.name!r}" for thread in now.threads - before.threads]
    if "sockets" not in allowed:
        leaks += [f"socket with descriptor {fd}" for fd, _, _ in now.sockets - before.sockets]
    return leaks
