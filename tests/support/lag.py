"""How late this machine is by itself: what a test of time must add to its bound."""

from __future__ import annotations

import threading
import time
from typing import Self


class Lag:
    """Sleeps a little again and again beside the block; `worst` is by how much a sleep was too long, in seconds.

    Without others on the machine that is a millisecond, and the bound stays as it is written.
    """

    PAUSE = 0.005

    def __init__(self) -> None:
        self.worst = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sleep)

    def _sleep(self) -> None:
        while not self._over.is_set():
            before = time.monotonic()
            time.sleep(self.PAUSE)
            self.worst = max(self.worst, time.monotonic() - before - self.PAUSE)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
