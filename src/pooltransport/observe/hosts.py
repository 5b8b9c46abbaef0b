"""Which hosts have labels of their own: so many at most, or a crawler would make a series for each site.

Rules:

1. A host is the pair of `server.address` and `server.port`; schemes and ways to it are summed. What goes through a
   forward proxy in plain http is the proxy's.
2. When all places are taken, a newcomer takes that of the host that was quiet the longest, if that is an hour or more;
   else it is counted under ``_other``, port 0. Both stay there until the pools have forgotten them, so that the
   counters of ``_other`` never go down.
3. A host is quiet when it has no connection, nobody waits, and no counter moves.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .forks import ProcessLock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Address = tuple[str, int]

OTHER: Address = ("_other", 0)
QUIET = 3600.0  # seconds
_MOST_OTHERS = 10_000  # remembered where nobody forgets them
_ANY = "*"  # in statistics, of all that a forward proxy is asked for


def address_of(address: str, port: int, proxy: str | None) -> Address:
    """Return the pair that stands for a host of the statistics."""
    if address == _ANY and proxy is not None:
        parts = urlsplit(proxy)
        return parts.hostname or proxy, parts.port or 0
    return address, port


class Hosts:
    """The hosts with labels of their own, `most` of them. Safe from any thread."""

    def __init__(self, most: int = 64, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._mutex = ProcessLock(self._begin)
        self._begin()

    def _begin(self) -> None:
        self._since: dict[Address, float] = {}  # when something last moved
        self._marks: dict[Address, Any] = {}
        self._others: set[Address] = set()

    def label(self, address: Address) -> Address:
        """Return what `address` is called: itself, or `OTHER`."""
        with self._mutex:
            return self._label(address, self._clock())

    def use(self, address: Address) -> Address:
        """Return the same, and note that something happens there, for who never calls `settle`."""
        with self._mutex:
            now = self._clock()
            if len(self._others) > _MOST_OTHERS:
                self._others.clear()
            label = self._label(address, now)
            if label != OTHER:
                self._since[label] = now
            return label

    def _label(self, address: Address, now: float) -> Address:
        if address in self._since:
            return address
        if address in self._others or address == OTHER:
            return OTHER
        if len(self._since) >= self._most:
            quietest = min(self._since, key=self._since.__getitem__, default=None)
            if quietest is None or now - self._since[quietest] < QUIET:
                self._others.add(address)
                return OTHER
            del self._since[quietest]
            self._marks.pop(quietest, None)
            self._others.add(quietest)
        self._since[address] = now
        return address

    def settle(self, marks: Mapping[Address, tuple[bool, Any]]) -> None:
        """Take note of the hosts that there are: for each whether it is busy now, and a value that changes whenever
        something is counted. What is not among them is forgotten.
        """
        with self._mutex:
            now = self._clock()
            for gone in [address for address in self._since if address not in marks]:
                del self._since[gone]
                self._marks.pop(gone, None)
            self._others.intersection_update(marks)
            for address, (busy, mark) in marks.items():
                if self._label(address, now) == OTHER:
                    continue
                if busy or self._marks.get(address) != mark:
                    self._since[address] = now
                    self._marks[address] = mark

    def is_quiet(self, address: Address) -> bool:
        """Report whether nothing has happened at `address` for an hour."""
        with self._mutex:
            return self._clock() - self._since.get(address, self._clock()) >= QUIET
