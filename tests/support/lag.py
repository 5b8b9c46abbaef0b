"""How late this machine is by itself: what a test of time must add to its bound."""

from __future__ import annotations

import threading
import time
from typing import Self


class Lag:
    """Sleeps a little again and again beside the block; `worst` is by how much a sleep was too long, in seconds, and
    `total` by how much all of them were.

    Without others on the machine that is a millisecond, and the bound stays as it is written.

        with Lag() as lag:
            ...
        assert lag.within(0.3, 0.1)
    """

    PAUSE = 0.005

    def __init__(self) -> None:
        self.worst = self.total = self.took = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sleep)

    def _sleep(self) -> None:
        while not self._over.is_set():
            before = time.monotonic()
            time.sleep(self.PAUSE)
            late = time.monotonic() - before - self.PAUSE
            self.worst = max(self.worst, late)
            self.total += late

    def __enter__(self) -> Self:
        self._thread.start()
        self._began = time.monotonic()
        return self

    def __exit__(self, *error: object) -> None:
        self.took = time.monotonic() - self._began
        self._over.set()
        self._thread.join()

    def within(self, seconds: float, late: float) -> bool:
        """Report whether the block took `seconds`, and no more than `late` longer than the machine makes of it."""
        return -0.01 <= self.took - seconds <= late + 3 * self.worst

    def __repr__(self) -> str:
        return f"<Lag took {self.took:.3f} s, the machine was up to {self.worst:.3f} s late>"
