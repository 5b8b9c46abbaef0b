"""The guard that notices a dropped response, and what is said of it (contract section 3).

Rules:

1. Nothing that the pool or a loop can reach may refer to a Response: it could never be collected.
   The chain is Response -> body -> guard -> lease -> connection, one way.
2. The guard's ``__del__`` runs anywhere: in any thread, inside the collector, under anybody's lock.
   It only calls what the lease was given for that, which is re-entrant. No user code runs there.
3. A report goes to the counter (at once), and at a safe point to the hook, the logger and the
   warnings filter, in this order; a failing report loses nothing.
"""

from __future__ import annotations

import _thread
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_REPORT_AGAIN_AFTER = 60.0


class Guard:
    """Notices that its owner was dropped. Give it to the one object that users hold."""

    __slots__ = ("_on_drop", "_what")

    def __init__(self, on_drop: Callable[[Any], None], what: Any) -> None:
        self._on_drop: Callable[[Any], None] | None = on_drop
        self._what = what

    def disarm(self) -> None:
        """Forget it: the owner was closed properly."""
        self._on_drop = self._what = None

    def __del__(self) -> None:
        on_drop = self._on_drop
        if on_drop is not None:
            on_drop(self._what)


class Guarded:
    """Base of what notices by itself that it was dropped: made for each request, where a `Guard` would be one object
    more. It must be the one object that users hold.
    """

    __slots__ = ()

    def __del__(self) -> None:
        self.dropped()

    def dropped(self) -> None:
        """Nothing refers to it any more. Rule 2 holds."""


class LeakLog:
    """Counts leaks by line and says when a line is worth a word: the 1st, 10th, 100th ... or once a minute."""

    def __init__(self) -> None:
        self._sites: dict[str, list[float]] = {}  # site: [count, time of the last word]

    def count(self, site: str, now: float) -> tuple[int, bool]:
        """Count one more leak of `site`; return how many there were and whether to speak."""
        if len(self._sites) > 1000 and site not in self._sites:
            self._sites.clear()
        row = self._sites.setdefault(site, [0, 0.0])
        row[0] += 1
        count = int(row[0])
        power = 1
        while power < count:
            power *= 10
        loud = count == power or now - row[1] >= _REPORT_AGAIN_AFTER
        if loud:
            row[1] = now
        return count, loud


class Outbox:
    """Words to be said at a safe point: each once, by one thread at a time.

    `append` is for finalizers. Whoever must not go on before everything is said (`stats`, the end of the process)
    has `patience` with another thread that is saying it: a word taken and not yet said is neither here nor there,
    and a process that ended then would swallow it.
    """

    __slots__ = ("_guard", "_teller", "_words", "append")

    def __init__(self) -> None:
        self._words: deque[Callable[[], None]] = deque()
        self._guard = _thread.allocate_lock()
        self._teller = 0
        self.append = self._words.append

    def __bool__(self) -> bool:
        return bool(self._words)

    def tell(self, patience: float = 0.0) -> None:
        """Say everything; wait up to `patience` seconds for another thread that does. Not in a finalizer."""
        me = _thread.get_ident()
        if self._teller == me:
            return  # a hook of the caller's asks: the rest is said when it returns
        if not (self._guard.acquire(timeout=patience) if patience else self._guard.acquire(blocking=False)):
            return
        self._teller = me
        try:
            while self._words:
                self._words.popleft()()
        finally:
            self._teller = 0
            self._guard.release()


def warn(message: str, category: type[Warning], filename: str, line: int) -> None:
    """Tell the warnings filter of something at `filename` and `line`, at a safe point."""
    import warnings  # noqa: PLC0415 - only who is warned pays for it

    try:
        warnings.warn_explicit(message, category, filename, line)
    except Exception as error:  # noqa: BLE001 - a filter made an error of it, or a `showwarning` of the user's failed
        hand_over(error)


def hand_over(error: Exception) -> None:
    """Give `error` to `sys.unraisablehook`: it belongs to who dropped the response, or to who set up the loggers,
    and not to the innocent caller at this safe point.
    """
    _Finalizer(error.with_traceback(None))


class _Finalizer:
    """Raises `error` where no caller is: when it is dropped, which is at once."""

    __slots__ = ("_error",)

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __del__(self) -> None:
        try:
            raise self._error
        finally:
            # No cycle may be left: it would hold the frames below, and responses that their callers dropped.
            del self._error


# Words that no transport will say any more: those about transports that were dropped themselves.
pending = Outbox()


def forget_pending() -> None:
    """In a child process: what the parent had to say is the parent's, and its thread may hold the lock."""
    global pending  # noqa: PLW0603 - this is where it lives
    pending = Outbox()


# The threads that collect because a pool has run dry, and how many responses each found: these are rescues.
_rescuers: dict[int, int] = {}


def is_rescue() -> bool:
    """Report whether the finalizer that asks runs in such a collection, which has found one response more then."""
    me = _thread.get_ident()
    if me not in _rescuers:
        return False
    _rescuers[me] += 1
    return True


def collect(generation: int = 2) -> int:
    """Collect garbage for a pool's sake; return how many responses were found that nobody closed."""
    import gc  # noqa: PLC0415 - a pool that has run dry pays for it

    me = _thread.get_ident()
    _rescuers[me] = 0
    try:
        gc.collect(generation)
    finally:
        found = _rescuers.pop(me)
    return found
