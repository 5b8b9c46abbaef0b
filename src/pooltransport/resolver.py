"""Look-ups off the loop: `getaddrinfo` cannot be interrupted, so it must never hold a deadline.

A look-up runs on daemon threads of ours; the request waits for it with its own clock, and a name
that many ask for at once is looked up once. Four workers, one more each second while all of them
are stuck, thirty-two at most (contract 3.10); they end after ten idle seconds. A worker holds
nothing but the name.
"""

from __future__ import annotations

import _thread
import os
import queue
import socket
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    AddressInfo = tuple[int, tuple[object, ...]]  # family, socket address
    LookupFunction = Callable[[str, int], Sequence[AddressInfo]]

_WORKERS = 4
_MOST_WORKERS = 32
_IDLE_SECONDS = 10.0
# Lengths of (family, address) and of getaddrinfo's rows, and of each family's socket addresses.
_ROWS = (2, 5)
_FAMILIES: dict[int, tuple[int, ...]] = {socket.AF_INET: (2,), socket.AF_INET6: (2, 4)}


class Literal(NamedTuple):
    """An address that was written as a number: nothing to look up."""

    family: int
    sockaddr: tuple[object, ...]


class Lookup:
    """One look-up in flight, or its answer. `on_done` callables are called once, from any thread."""

    __slots__ = ("_callbacks", "_guard", "addresses", "done", "error")

    def __init__(self) -> None:
        self.addresses: Sequence[AddressInfo] = ()
        self.error: BaseException | None = None
        self.done = False
        self._callbacks: list[Callable[[], None]] = []
        self._guard = _thread.allocate_lock()

    def on_done(self, callback: Callable[[], None]) -> None:
        """Call `callback` when there is an answer; at once if there is."""
        with self._guard:
            if not self.done:
                self._callbacks.append(callback)
                return
        callback()

    def finish(self, addresses: Sequence[AddressInfo], error: BaseException | None) -> None:
        """Give the answer to everybody who waits."""
        with self._guard:
            self.addresses, self.error, self.done = addresses, error, True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()


class Resolver:
    """Looks names up with `function` (default: the system's `getaddrinfo`)."""

    def __init__(self, function: LookupFunction | None = None) -> None:
        self._function = function or system_lookup
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._guard = _thread.allocate_lock()
        self._inflight: dict[tuple[str, int], Lookup] = {}
        self._jobs: queue.SimpleQueue[tuple[str, int, Lookup]] = queue.SimpleQueue()
        self._workers = 0
        self._grown = 0.0

    def start(self, host: str, port: int) -> tuple[Lookup, bool]:
        """Begin to look `host` up, or join who does; report whether it was joined."""
        if self._pid != os.getpid():
            self._reset()
        with self._guard:
            lookup = self._inflight.get((host, port))
            if lookup is not None:
                return lookup, True
            lookup = self._inflight[host, port] = Lookup()
            self._jobs.put((host, port, lookup))
        self.grow(time.monotonic())
        return lookup, False

    def grow(self, now: float) -> None:
        """Start a worker if one is due; who waits for an answer for long asks each second."""
        with self._guard:
            if self._workers >= len(self._inflight):
                return
            if self._workers >= _WORKERS and (self._workers >= _MOST_WORKERS or now - self._grown < 1.0):
                return
            self._grown = now
            self._workers += 1
        self._start_worker()

    def _start_worker(self) -> None:
        try:
            _thread.start_new_thread(self._work, ())
        except RuntimeError:
            with self._guard:
                self._workers -= 1
                alone = self._workers == 0
            if alone:  # nobody will come: look it up here
                self._run(*self._jobs.get())

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                with self._guard:
                    if self._jobs.empty():
                        self._workers -= 1
                        return
                continue
            self._run(*job)
            del job

    def _run(self, host: str, port: int, lookup: Lookup) -> None:
        addresses: Sequence[AddressInfo] = ()
        error: BaseException | None = None
        try:
            addresses = normalise(self._function(host, port), port)
        except BaseException as failure:  # noqa: BLE001 - the answer of this look-up, whatever it is
            error = failure
        with self._guard:
            self._inflight.pop((host, port), None)
        lookup.finish(addresses, error)
        del error  # its traceback has this frame: no cycle


def system_lookup(host: str, port: int) -> Sequence[AddressInfo]:
    """Ask the system; the order is the system's (RFC 6724)."""
    rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((row[0], row[4]) for row in rows))


def literal(host: str, port: int) -> Literal | None:
    """Return the address that `host` spells out, or None for a name."""
    if ":" in host:
        bare, _, zone = host.partition("%")
        try:
            socket.inet_pton(socket.AF_INET6, bare)
            scope = (int(zone) if zone.isdigit() else socket.if_nametoindex(zone)) if zone else 0
        except OSError:
            return None
        return Literal(socket.AF_INET6, (bare, port, 0, scope))
    try:
        socket.inet_pton(socket.AF_INET, host)
    except OSError:
        return None
    return Literal(socket.AF_INET, (host, port))


def normalise(rows: object, port: int) -> Sequence[AddressInfo]:
    """Turn what a ``resolver=`` callable returned into rows: address texts, pairs of family and socket
    address, or what `socket.getaddrinfo` gives. Raises `TypeError` or `ValueError` for anything else.
    """
    if isinstance(rows, (str, bytes)) or not isinstance(rows, Iterable):
        raise TypeError(f"the resolver returned {rows!r}: it must return a list of addresses")
    return list(dict.fromkeys(_row(row, port) for row in rows))


def _row(row: object, port: int) -> AddressInfo:
    if isinstance(row, str):
        address = literal(row, port)
        if address is not None:
            return address.family, address.sockaddr
    elif isinstance(row, (tuple, list)) and len(row) in _ROWS:
        family, sockaddr = row[0], row[-1]
        lengths = _FAMILIES.get(family, ()) if isinstance(family, int) else ()
        if isinstance(sockaddr, tuple) and len(sockaddr) in lengths:
            host, number = sockaddr[:2]
            if isinstance(host, str) and literal(host, 0) is not None and isinstance(number, int):
                return int(family), sockaddr
    raise ValueError(f"the resolver returned {row!r}, which is no IP address")


_default = Resolver()


def default_resolver() -> Resolver:
    """Return the resolver that all transports without ``resolver=`` share."""
    return _default
