"""Who lives in this process: transports, clients, and the counters of transports that are gone.

Rules:

1. Everything alive is held weakly. Of what is gone only counters stay, so that sums over a process never go down.
2. What a finalizer calls only appends to a deque; it is folded in when somebody asks.
3. A child process begins with nothing: what the parent counted is the parent's.
"""

from __future__ import annotations

import _thread
import copy
import itertools
import os
import sys
import time
import weakref
from collections import deque
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from .config_checks import churn_finding
from .config_warnings import log_at
from .core.counts import HostCounts
from .core.tally import stats_of_counts
from .stats import ClientStats

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from .stats import PoolStats

    Tables = dict[Hashable, HostCounts]
    Sums = dict[str | None, tuple[Tables, HostCounts]]  # by name

BORROWED: Any = type("Borrowed", (), {})()  # stands for whatever default transport is in use
_MOST_HOSTS = 1024  # of each name whose transports are gone
_MOST_BIRTHS = 100  # remembered of each line
_MOST_GONE = 64  # transports whose counters are kept apart until somebody asks
_WINDOW = 60.0
_SUSPICIOUS = 10  # transports made at one line within the window: code PTC212


class _Birth(NamedTuple):
    """Somebody made a client or a transport: when, and what it is (weakly). `tables`: a transport's own counters."""

    at: float
    owner: weakref.ref[Any]
    tables: Tables | None


class Line(NamedTuple):
    """A line that makes clients or transports (``Transport at file:line``). Of those of the last minute: how many,
    how many of them are gone, and how many connections each that is gone acquired, in the middle; None for clients.
    """

    name: str
    made: int
    gone: int
    requests: float | None


class _Books(NamedTuple):
    """The counters that `owner` keeps for a transport: by host, and of hosts that it has forgotten."""

    owner: weakref.ref[Any]
    name: str | None
    tables: Tables
    rest: HostCounts


class _Census:
    def __init__(self) -> None:
        self.pid = os.getpid()
        self.transports: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
        self.numbers = itertools.count(1)
        self.books: dict[int, _Books] = {}
        self.gone: deque[int] = deque()  # numbers of books whose owners are
        self.folded: Sums = {}
        self.folding = _thread.allocate_lock()
        self.owners: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
        self.drops: deque[None] = deque()
        self.dropped = 0
        self.clients: weakref.WeakSet[Any] = weakref.WeakSet()
        self.made = 0
        self.mutex = _thread.allocate_lock()
        self.made_for: weakref.WeakKeyDictionary[Any, list[Any]] = weakref.WeakKeyDictionary()
        self.lines: dict[str, deque[_Birth]] = {}


_census = _Census()


def _here() -> _Census:
    global _census
    if _census.pid != os.getpid():
        # Transports that were made before the fork live in both processes.
        old, _census = _census, _Census()
        for number, transport in sorted(old.transports.items()):
            _census.transports[number] = transport
        for number, owner in sorted(old.owners.items()):
            _census.owners[number] = owner
        _census.numbers = old.numbers
    return _census


# -- what transports and clients say -----------------------------------------------------------


def keep(owner: object, name: str | None, tables: Tables, rest: HostCounts) -> None:
    """Keep the counters `tables` (by host) and `rest` when `owner` is gone."""
    here = _here()
    number = next(here.numbers)
    with here.folding:
        here.books[number] = _Books(weakref.ref(owner), name, tables, rest)
        if len(here.gone) > _MOST_GONE:
            _fold_gone(here)  # nobody may ever ask: a transport for each request must not fill the memory
    finalizer = weakref.finalize(owner, _depart, here.pid, number)
    finalizer.atexit = False


def _depart(pid: int, number: int) -> None:
    if pid == os.getpid():
        _census.gone.append(number)


def transport_made(transport: Any, line: str, owner: Any) -> None:
    """Count a transport that somebody made at `line`; `owner` has its counters, and may outlive it."""
    here = _here()
    number = next(here.numbers)
    here.transports[number] = transport
    here.owners[number] = owner
    _count(here, transport)
    births = _note_line(here, transport, line, owner.pool.counts)
    if len(births) >= _SUSPICIOUS and births[-1].at - births[-_SUSPICIOUS].at <= _WINDOW:
        _tell_of_churn(type(transport).__name__, line, transport.options.name)


def _tell_of_churn(kind: str, line: str, name: str | None) -> None:
    """Log a line that makes many transports, once (PTC212): each begins with an empty pool.

    No Python warning: a program that closes what it makes is correct, and must be silent under ``-W error``.
    """
    # Nobody can share what was made for a loop by itself; and a fixture's line makes one for each test.
    if not kind.startswith("_") and "pytest" not in sys.modules:
        log_at(churn_finding(kind, _SUSPICIOUS, line), line, name)


def transport_dropped() -> None:
    """Count a transport that was dropped with connections; called by a finalizer."""
    _here().drops.append(None)


def client_made(client: object, transport: object | None, line: str) -> None:
    """Count a client of `transport` (None: a default one) that somebody made at `line`."""
    here = _here()
    _count(here, client)
    with here.mutex:
        try:
            row = here.made_for.setdefault(BORROWED if transport is None else transport, [0, weakref.WeakSet()])
        except TypeError:  # a round-tripper of the caller's that cannot be referred to weakly
            return
        row[0] += 1
        row[1].add(client)
    _note_line(here, client, line, None)


def _count(here: _Census, client: object) -> None:
    with here.mutex:
        here.made += 1
        here.clients.add(client)


def _note_line(here: _Census, owner: object, line: str, tables: Tables | None) -> deque[_Birth]:
    name = f"{type(owner).__name__} at {line}"
    if len(here.lines) > _MOST_HOSTS and name not in here.lines:
        here.lines.clear()
    births = here.lines.setdefault(name, deque(maxlen=_MOST_BIRTHS))
    births.append(_Birth(time.monotonic(), weakref.ref(owner), tables))
    return births


def _alive(table: weakref.WeakValueDictionary[int, Any]) -> dict[int, Any]:
    """Return what is in `table`, although other threads add to it: its own iterators would raise."""
    return {ref.key: value for ref in table.valuerefs() if (value := ref()) is not None}


# -- what observers ask --------------------------------------------------------------------------


def transports() -> tuple[Any, ...]:
    """Return the transports of this process that are alive, oldest first."""
    return tuple(transport for _, transport in sorted(_alive(_here().transports).items()))


def process_stats(on_error: Callable[[object, Exception], object] | None = None) -> tuple[PoolStats, ...]:
    """Return the statistics of each live transport, and for each name one more, whose gauges are 0, with the
    counters of those that are gone: the sum of a counter over all of them never goes down.

    A transport whose `stats()` raises is left out, and `on_error` told, if it is given; else it raises here.
    """
    here = _here()
    # Held until the end, so that nothing is counted both as alive and as gone. A transport may be gone while its
    # responses, and so its connections and counters, live on.
    alive, owners = _alive(here.transports), _alive(here.owners)
    with here.folding:
        _fold_gone(here)
        # A collection clears the references to all that it found before it says so of any: these are in neither.
        limbo = [books for books in here.books.values() if books.owner() is None]
        sums = copy.deepcopy(here.folded) if limbo else here.folded
        for books in limbo:
            _fold(books, sums)
        gone = tuple(stats_of_counts(name, *folded) for name, folded in sums.items())
    found = []
    for number in sorted({*alive, *owners}):
        asked = alive.get(number)
        try:
            found.append(_snapshot_of(owners[number]) if asked is None else asked.stats())
        except Exception as error:
            if on_error is None:
                raise
            on_error(asked, error)
    return (*found, *gone)


def _snapshot_of(owner: Any) -> PoolStats:
    owner.check_process()
    return owner.snapshot()  # type: ignore[no-any-return]


def _fold_gone(here: _Census) -> None:
    while here.gone:
        left = here.books.pop(here.gone.popleft(), None)
        if left is not None:
            _fold(left, here.folded)


def _fold(books: _Books, sums: Sums) -> None:
    into, others = sums.setdefault(books.name, ({}, HostCounts()))
    books.rest.fold(others)
    for host, counts in books.tables.items():
        known = host in into or len(into) < _MOST_HOSTS
        counts.fold(into.setdefault(host, HostCounts()) if known else others)


def dropped() -> int:
    """Return how many transports were dropped with connections and without being closed."""
    here = _here()
    with here.folding:
        while here.drops:
            here.drops.popleft()
            here.dropped += 1
        return here.dropped


def clients() -> ClientStats:
    """Return how many clients and transports this process made, and how many are alive."""
    here = _here()
    return ClientStats(here.made, len(here.clients))


def clients_of(transport: object) -> ClientStats:
    """Return how many clients were made for `transport`, and how many are alive."""
    try:
        row = _here().made_for.get(transport)
    except TypeError:
        row = None
    return ClientStats(0, 0) if row is None else ClientStats(row[0], len(row[1]))


def busiest_lines(now: float) -> list[Line]:
    """Return the lines that made clients or transports in the last minute, the busiest first; 100 of each at most."""
    rows = []
    for name, births in tuple(_here().lines.items()):
        recent = [birth for birth in tuple(births) if now - birth.at <= _WINDOW]
        gone = [birth for birth in recent if birth.owner() is None]
        requests = [
            sum(counts.acquired_in_all() for counts in tuple(birth.tables.values()))
            for birth in gone
            if birth.tables is not None
        ]
        if recent:
            rows.append(Line(name, len(recent), len(gone), median(requests) if requests else None))
    return sorted(rows, key=lambda row: -row.made)
