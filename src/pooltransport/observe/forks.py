"""A lock that a child process does not find held by a thread of its parent."""

from __future__ import annotations

import _thread
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class ProcessLock:
    """``with lock:``, where each process has a lock of its own. `begin` is called inside it, first in a new process."""

    __slots__ = ("_begin", "_locks", "_pid")

    def __init__(self, begin: Callable[[], object] | None = None) -> None:
        self._pid = os.getpid()
        self._begin = begin
        self._locks = {self._pid: _thread.allocate_lock()}

    def __enter__(self) -> None:
        pid = os.getpid()
        lock = self._locks.get(pid)
        if lock is None:
            lock = self._locks.setdefault(pid, _thread.allocate_lock())  # of two threads one wins, for both
        lock.acquire()
        if self._pid != pid:
            self._pid = pid
            if self._begin is not None:
                self._begin()

    def __exit__(self, *_: object) -> None:
        self._locks[self._pid].release()
