"""The ledger's mutex, for who looks at several things of the pool at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import _thread
    from collections.abc import Callable


class Looking:
    """Holds the mutex, and lets what finalizers left meanwhile be given back."""

    __slots__ = ("_kick", "_mutex")

    def __init__(self, mutex: _thread.LockType, kick: Callable[[], None]) -> None:
        self._mutex = mutex
        self._kick = kick

    def __enter__(self) -> None:
        self._mutex.acquire()

    def __exit__(self, *_: object) -> None:
        self._mutex.release()
        self._kick()
