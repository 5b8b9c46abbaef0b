"""Whose a response or a transport is: that of the test that opened it.

Rules:

1. A scope is a context variable: it follows tasks, and threads to which the context is copied. A thread that came up
   while a scope was entered, and has no context of it, belongs to that scope as well.
2. What belongs to no scope that is still entered is astray, and the whole session's.
3. What is told by finalizers is only appended.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from pooltransport import census, witness
from pooltransport.engine.statistics import DEFAULT_NAME
from pooltransport.lease import find_site
from pooltransport.reports import fix_of, what_of, who_of
from pooltransport.stats import LeakFound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pooltransport.lease import Lease, Site

_scope: ContextVar[Scope | None] = ContextVar("pooltransport_leak_scope", default=None)
_LOOK_AFTER = 256  # leases: who has ended is forgotten
_HOW_FOUND = {
    LeakFound.GC: "dropped unclosed, and found by the garbage collector",
    LeakFound.RESCUE: "dropped unclosed, and found by a collection just before a pool timeout",
    LeakFound.CLOSE: "still open when its transport, or the loop, was closed",
    LeakFound.EXIT: "still open when the process ended",
}


class Leak(NamedTuple):
    """A response that was not closed. `stack`: each ``file:line in function``, from the call that opened it outwards.

    `state` says in words what became of it, `fix` which line would have been right, `age` (s) since it was opened.
    """

    what: str
    site: str
    stack: tuple[str, ...]
    age: float
    bytes_read: int
    bytes_expected: int | None
    thread: str
    task: str | None
    state: str
    fix: str

    @classmethod
    def of(cls, lease: Lease, *, is_open: bool) -> Leak:
        """Describe a lease, still open or lost."""
        thread, task = who_of(lease)
        site = lease.site
        until = time.monotonic() if is_open else lease.dropped_at
        return cls(
            what_of(lease),
            "" if site is None else str(site),
            () if site is None else site.stack,
            until - lease.opened_at,
            lease.bytes_read,
            lease.bytes_expected,
            thread,
            task,
            _state(lease) if is_open else _HOW_FOUND[lease.found],
            fix_of(lease),
        )

    def __str__(self) -> str:
        expected = "" if self.bytes_expected is None else f" of {self.bytes_expected}"
        task = "" if self.task is None else f", task {self.task!r}"
        first, *outer = own_frames(self.stack) or ("a line that was not recorded",)
        return "\n".join(
            (
                f"  {self.what}, {self.bytes_read}{expected} body bytes read, {self.age:.2f} s old: {self.state}",
                f"    opened at {first}, thread {self.thread!r}{task}",
                *(f"         from {frame}" for frame in outer),
                f"    Fix: {self.fix}",
            )
        )


def _state(lease: Lease) -> str:
    if not lease.headers_at:
        return "still open, waits for its answer"
    if lease.reading_since:
        return "still open, somebody reads it"
    return "still open, nobody reads it"


_RUNNERS = ("/_pytest/", "/pluggy/", "/unittest/", "/asyncio/", "/trio/", "/anyio/", "/runpy.py", "/threading.py")


def own_frames(stack: tuple[str, ...]) -> tuple[str, ...]:
    """Return the frames up to whoever runs the test."""
    for number, frame in enumerate(stack):
        if number and any(part in frame.replace("\\", "/") for part in _RUNNERS):
            return stack[:number]
    return stack


class Scope:
    """What one test opened. Entered and left by `Onlooker`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ended = False
        self.excused = False  # the test failed: its traceback holds what it opened
        self.transports: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()  # and where it was made
        self.lost_transports: deque[tuple[str, Site | None, int]] = deque()
        self.new_lost: deque[Lease] = deque()
        self._lost: list[Lease] = []
        self._leases: list[Lease] = []
        self._opened = 0
        self._mutex = threading.Lock()
        self._before: weakref.WeakSet[threading.Thread] = weakref.WeakSet(threading.enumerate())
        self.rebuilds = {transport: count for transport, count in _rebuilds() if count}

    def add(self, lease: Lease) -> None:
        """A response is opened."""
        with self._mutex:
            self._leases.append(lease)
            self._opened += 1
            if not self._opened % _LOOK_AFTER:
                self._leases = [lease for lease in self._leases if lease.is_open]

    def open_leases(self) -> list[Lease]:
        """Return those that are open still, and were not found lost."""
        lost = {id(lease) for lease in self.lost_leases()}
        with self._mutex:
            self._leases = [lease for lease in self._leases if lease.is_open and lease.scope is not None]
            return [lease for lease in self._leases if id(lease) not in lost]

    def lost_leases(self) -> list[Lease]:
        """Return those that were never closed."""
        while self.new_lost:
            self._lost.append(self.new_lost.popleft())
        return list({id(lease): lease for lease in self._lost}.values())  # some are found twice

    def leaks(self) -> list[Leak]:
        """Return both kinds, described."""
        lost = [Leak.of(lease, is_open=False) for lease in self.lost_leases()]
        return lost + [Leak.of(lease, is_open=True) for lease in self.open_leases()]

    def forget_leaks(self) -> None:
        """They are accounted for, whatever becomes of them."""
        for lease in (*self.lost_leases(), *self.open_leases()):
            lease.scope = None
        self._lost.clear()

    def know_threads(self) -> None:
        """Those that there are do not belong to this scope: a fixture of a wider one made some."""
        for thread in threading.enumerate():
            self._before.add(thread)

    def has_started(self, ident: int) -> bool:
        """Report whether the thread `ident` came up after this scope."""
        thread = next((thread for thread in threading.enumerate() if thread.ident == ident), None)
        return thread is not None and thread not in self._before


def _rebuilds() -> Iterator[tuple[Any, int]]:
    for transport in census.transports():
        yield transport, transport.stats().rebuilds


class Onlooker:
    """The witness: sorts what is told by scope. Installed as long as somebody looks."""

    leak_detection = "full"

    def __init__(self) -> None:
        self.astray, self.fixtures = Scope("no test"), Scope("fixtures")
        self._entered: list[Scope] = []
        self._installed = 0
        self._mutex = threading.Lock()

    # -- who looks ------------------------------------------------------------------------------

    def install(self) -> None:
        """Look on until `uninstall` was called as often."""
        with self._mutex:
            if not self._installed:
                self.astray, self.fixtures = Scope("no test"), Scope("fixtures")
            self._installed += 1
            witness.current = self

    def uninstall(self) -> None:
        """Look away."""
        with self._mutex:
            self._installed -= 1
            if not self._installed:
                witness.current = None

    def begin(self, name: str) -> Scope:
        """Install, and enter a new scope in this context."""
        self.install()
        scope = Scope(name)
        self._entered.append(scope)
        return scope

    def end(self, scope: Scope) -> None:
        """What `scope` opens from now on is astray."""
        scope.ended = True
        self._entered.remove(scope)
        self.uninstall()

    @property
    def running(self) -> Scope | None:
        """The scope entered last."""
        entered = tuple(self._entered)  # other threads enter and leave theirs
        return entered[-1] if entered else None

    def here(self) -> Scope:
        """Return whose this context is."""
        scope, running = _scope.get(), self.running
        if scope is not None and (not scope.ended or scope.excused):
            return scope
        if scope is None and running is not None and running.has_started(threading.get_ident()):
            return running
        return self.astray

    # -- what is told ---------------------------------------------------------------------------

    def transport_made(self, transport: Any) -> Scope:
        """Whose it is."""
        scope = self.here()
        if transport.options.name != DEFAULT_NAME:  # those live as long as the process, or their loop
            scope.transports[transport] = str(find_site(()))
        return scope

    def lease_opened(self, lease: Lease) -> None:
        """Note whose it is."""
        lease.scope = scope = self.here()
        scope.add(lease)

    def lease_lost(self, lease: Lease) -> None:
        """Note it; more must not be done here."""
        scope = lease.scope
        if isinstance(scope, Scope):
            (self.astray if scope.ended and not scope.excused else scope).new_lost.append(lease)

    def transport_lost(self, scope: object, what: str, site: Site | None, sockets: int) -> None:
        """Note it; more must not be done here."""
        if isinstance(scope, Scope):
            scope.lost_transports.append((what, site, sockets))


onlooker = Onlooker()


@contextmanager
def inside(scope: Scope | None) -> Iterator[None]:
    """Let this context be that of `scope`. Not a token: the end may come in a copy of the context."""
    before = _scope.get()
    _scope.set(scope)
    try:
        yield
    finally:
        _scope.set(before)
