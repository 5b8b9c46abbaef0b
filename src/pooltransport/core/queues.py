"""Order: which host gets the next free slot, and which hinted connection expires next.

Both hold host records or numbers, never a waiter, so an answered waiter is free at once.
Work per event is constant but for two heaps, which are used only by hosts that hold no
connection while ``max_conns`` binds, and by connections that expire earlier than the rest.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic

from .records import C, Entry

if TYPE_CHECKING:
    from .records import HostRecord


class Turns(Generic[C]):
    """Which host gets the next slot when the total binds.

    A host is in the `ring` while it has a queued waiter and is below its own limit. Free slots go round
    the ring, one each. A host in the ring that holds nothing is *starved*, and may be given a connection
    that comes back at another host (contract 1.3), in two cases:

    - its oldest waiter is older than the front waiter there;
    - it is overdue: it could otherwise still be without when `max_conns` releases have passed. Age
      alone does not bound that, since another host may have any number of older waiters.
    """

    __slots__ = ("_heap", "_number", "max_conns", "per_host", "releases", "ring", "starved")

    def __init__(self, per_host: float, max_conns: float) -> None:
        self.per_host = per_host
        self.max_conns = max_conns
        self.ring: OrderedDict[HostRecord[C], None] = OrderedDict()  # the next one first
        self.starved: OrderedDict[HostRecord[C], int] = OrderedDict()  # longest first: `releases` at its begin
        self.releases = 0  # connections that came back or died in use
        # (front waiter's seq, tie-break, host); stale unless the host is starved and known under that seq.
        self._heap: list[tuple[int, int, HostRecord[C]]] = []
        self._number = 0

    def refresh(self, host: HostRecord[C]) -> None:
        """Take in what changed in the host's queue or its firm slots."""
        if not host.queue or host.firm >= self.per_host:
            self.ring.pop(host, None)
            self._fed(host)
            return
        self.ring.setdefault(host)
        if host.firm:
            self._fed(host)
            return
        self.starved.setdefault(host, self.releases)
        seq = next(iter(host.queue)).seq
        if host.queued_seq != seq:
            host.queued_seq = seq
            self._number += 1
            heapq.heappush(self._heap, (seq, self._number, host))
            if len(self._heap) > 2 * len(self.starved) + 64:
                self._compact()

    def next(self) -> HostRecord[C]:
        """Return the host whose turn it is. The ring must not be empty."""
        host = self._overdue() or next(iter(self.ring))
        self.ring.move_to_end(host)
        return host

    def claim(self, seq: float) -> HostRecord[C] | None:
        """Return the starved host, if any, to which a connection goes whose own front waiter is `seq`."""
        if not self.starved:
            return None
        if (host := self._overdue()) is not None:
            return host
        oldest, host = self._oldest()
        return host if oldest < seq else None

    def clear(self) -> None:
        """Forget all hosts."""
        for host in self.starved:
            host.queued_seq = 0
        self.ring.clear()
        self.starved.clear()
        self._heap.clear()

    def _fed(self, host: HostRecord[C]) -> None:
        if self.starved.pop(host, None) is not None:
            host.queued_seq = 0
            if not self.starved:
                self._heap.clear()

    def _overdue(self) -> HostRecord[C] | None:
        # Earliest deadline first: each of n starved hosts must be served within max_conns releases, so the
        # last moment to begin is n releases before. More hosts than connections cannot all be served so.
        starved = len(self.starved)
        if not 0 < starved < self.max_conns:
            return None
        host, since = next(iter(self.starved.items()))
        return host if self.releases - since > self.max_conns - starved else None

    def _oldest(self) -> tuple[int, HostRecord[C]]:
        # A starved host is in the heap under its present seq: what is found before it is stale.
        heap = self._heap
        while heap[0][2] not in self.starved or heap[0][2].queued_seq != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0], heap[0][2]

    def _compact(self) -> None:
        self._heap = [item for item in self._heap if item[2] in self.starved and item[2].queued_seq == item[0]]
        heapq.heapify(self._heap)


class Hints(Generic[C]):
    """Idle connections that expire before the general idle timeout, earliest first.

    The heap holds numbers only; a number that is no longer live is skipped when it comes up.
    """

    __slots__ = ("_heap", "_number", "live")

    def __init__(self) -> None:
        self.live: dict[int, Entry[C]] = {}
        self._heap: list[tuple[float, int]] = []
        self._number = 0

    def add(self, entry: Entry[C]) -> None:
        """Remember that the entry expires at its deadline."""
        self._number += 1
        entry.hint_no = self._number
        self.live[self._number] = entry
        heapq.heappush(self._heap, (entry.deadline, self._number))
        if len(self._heap) > 2 * len(self.live) + 64:
            self._heap = [item for item in self._heap if item[1] in self.live]
            heapq.heapify(self._heap)

    def shift(self, seconds: float) -> None:
        """Take in that every deadline has come nearer by `seconds`."""
        self._heap = [(deadline - seconds, number) for deadline, number in self._heap]

    def discard(self, entry: Entry[C]) -> None:
        """Forget the entry: it is not idle any more."""
        self.live.pop(entry.hint_no, None)
        entry.hint_no = 0

    def first(self) -> Entry[C] | None:
        """Return the entry that expires first."""
        heap = self._heap
        while heap:
            entry = self.live.get(heap[0][1])
            if entry is not None:
                return entry
            heapq.heappop(heap)
        return None
