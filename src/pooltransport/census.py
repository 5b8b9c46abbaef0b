"""Who lives in this process: transports, clients, and the counters of transports that are gone.

Rules:

1. Everything alive is held weakly. Of what is gone only counters stay, so that sums over a process never go down.
2. What a finalizer calls only appends to a deque; it is folded in when somebody asks. Until then, and as long as
   what keeps a transport's books outlives it, the books themselves are read: no moment lacks them, none has them twice.
3. A child process begins with nothing: what the parent counted is the parent's.
"""

from __future__ import annotations

import _thread
import itertools
import os
import sys
import time
import weakref
from collections import deque
from contextlib import nullcontext
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from .churn import SUSPICIOUS, Churn
from .config_checks import churn_finding
from .config_warnings import tell_at
from .core.counts import HostCounts
from .core.tally import stats_of_counts
from .stats import ClientStats

if TYPE_CHECKING:
    from collections.abc import Hashable

    from .stats import PoolStats

    Tables = dict[Hashable, HostCounts]
    Sums = dict[str | None, tuple[Tables, HostCounts]]  # by name

BORROWED: Any = type("Borrowed", (), {})()  # stands for whatever default transport is in use
_MOST_HOSTS = 1024  # of each name whose transports are gone
_MOST_BIRTHS = 200  # remembered of each line
_WINDOW = 60.0
_registry: dict[str, Any] = {}  # in which the warnings about lines keep count


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

    def fold(self, into: Sums) -> None:
        """Add everything to what is known under the name."""
        _fold(self.name, self.tables, self.rest, into)


def _fold(name: str | None, tables: Tables, rest: HostCounts, into: Sums) -> None:
    known, others = into.setdefault(name, ({}, HostCounts()))
    rest.fold(others)
    for host, counts in tuple(tables.items()):
        is_new = host not in known
        counts.fold(others if is_new and len(known) >= _MOST_HOSTS else known.setdefault(host, HostCounts()))


class _Census:
    def __init__(self) -> None:
        self.pid = os.getpid()
        self.transports: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
        self.owners: weakref.WeakKeyDictionary[Any, weakref.ref[Any]] = weakref.WeakKeyDictionary()
        self.numbers = itertools.count(1)
        self.books: dict[int, _Books] = {}
        self.gone: deque[int] = deque()  # numbers of books whose owners are
        self.folded: Sums = {}
        self.clients: weakref.WeakSet[Any] = weakref.WeakSet()
        self.made = 0
        self.mutex = _thread.allocate_lock()
        self.made_for: weakref.WeakKeyDictionary[Any, list[Any]] = weakref.WeakKeyDictionary()
        self.lines: dict[str, deque[_Birth]] = {}
        self.churn = Churn()  # of transports


_census = _Census()


def _here() -> _Census:
    global _census
    if _census.pid != os.getpid():
        # Transports that were made before the fork live in both processes.
        old, _census = _census, _Census()
        for number, transport in sorted(old.transports.items()):
            _census.transports[number] = transport
        _census.owners = old.owners
        _census.numbers = old.numbers
    return _census


# -- what transports and clients say -----------------------------------------------------------


def keep(owner: Any, name: str | None, tables: Tables, rest: HostCounts) -> None:
    """Keep the counters `tables` (by host) and `rest` when `owner` is gone. While it lives they are read
    ``with owner.looking():``.
    """
    here = _here()
    number = next(here.numbers)
    with here.mutex:
        here.books[number] = _Books(weakref.ref(owner), name, tables, rest)
    finalizer = weakref.finalize(owner, _depart, here.pid, number)
    finalizer.atexit = False


def _depart(pid: int, number: int) -> None:
    if pid == os.getpid():
        _census.gone.append(number)


def transport_made(transport: object, line: str, tables: Tables) -> None:
    """Count a transport that somebody made at `line`; `tables` are its counters, which are kept."""
    here = _here()
    with here.mutex:
        books = next(books for books in reversed(here.books.values()) if books.tables is tables)
        here.owners[transport] = books.owner
        here.transports[next(here.numbers)] = transport
    _count(here, transport)
    _note_line(here, transport, line, tables)
    _warn_of_churn(here, type(transport).__name__, line)


def _warn_of_churn(here: _Census, kind: str, line: str) -> None:
    """Warn of a line that makes many transports, once (PTC212): each begins with an empty pool."""
    with here.mutex:
        many = here.churn.note_creation(line, time.monotonic())
    # Nobody can share what was made for a loop by itself; and a fixture's line makes one for each test.
    if many == SUSPICIOUS and not kind.startswith("_") and "pytest" not in sys.modules:
        filename, _, number = line.rpartition(":")
        where = (filename, int(number)) if number.isdigit() else ("<unknown>", 1)
        tell_at(churn_finding(kind, many, line), *where, _registry)


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


def _note_line(here: _Census, owner: object, line: str, tables: Tables | None) -> None:
    name = f"{type(owner).__name__} at {line}"
    if len(here.lines) > _MOST_HOSTS and name not in here.lines:
        here.lines.clear()
    births = here.lines.setdefault(name, deque(maxlen=_MOST_BIRTHS))
    births.append(_Birth(time.monotonic(), weakref.ref(owner), tables))


# -- what observers ask --------------------------------------------------------------------------


def transports() -> tuple[Any, ...]:
    """Return the transports of this process that are alive, oldest first."""
    found = (ref() for ref in _here().transports.valuerefs())  # in the order in which they were made
    return tuple(transport for transport in found if transport is not None)


def process_stats() -> tuple[PoolStats, ...]:
    """Return the statistics of each live transport, and for each name one more, whose gauges are 0, with the
    counters of those that are gone: the sum of a counter over all of them never goes down.
    """
    here = _here()
    held = transports()  # as long as they are held here, none of them departs
    alive = tuple(transport.stats() for transport in held)
    told = {id(here.owners[transport]()) for transport in held}
    sums: Sums = {}
    with here.mutex:
        while here.gone:
            here.books.pop(here.gone.popleft()).fold(here.folded)
        for name, (tables, rest) in here.folded.items():
            _fold(name, tables, rest, sums)
        left = [(books, owner) for books in here.books.values() if id(owner := books.owner()) not in told]
    for books, owner in left:
        with nullcontext() if owner is None else owner.looking():
            books.fold(sums)
    return alive + tuple(stats_of_counts(name, *folded) for name, folded in sums.items())


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
    """Return the lines that made clients or transports in the last minute, the busiest first; 200 of each at most."""
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
