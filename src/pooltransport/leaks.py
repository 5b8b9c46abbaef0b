"""Leases, the guard that notices a dropped response, and the reports (contract section 3).

Rules:

1. Nothing that the pool or a loop can reach may refer to a Response: it could never be collected.
   The chain is Response -> body -> guard -> lease -> connection, one way.
2. The guard's ``__del__`` runs anywhere: in any thread, inside the collector, under anybody's lock.
   It only calls what the lease was given for that, which is re-entrant. No user code runs there.
3. A lease has one exit: `Lease.end` reports True once, to whoever ends it.
4. A report goes to the counter (at once), and at a safe point to the hook, the logger and the
   warnings filter, in this order; a failing report loses nothing.
"""

from __future__ import annotations

import _thread
import sys
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import UnclosedResponseWarning, UnclosedTransportWarning
from .trace import LeakReport

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

    from .trace import Hooks

_OURS = __name__.partition(".")[0] + "."
_DEMO = _OURS + "demo."  # an application like any other
_REPORT_AGAIN_AFTER = 60.0


class Site(NamedTuple):
    """A line of the caller's: its code object and the instruction, no frame (it would pin locals).
    `via` is the name of our function that it called.
    """

    code: CodeType
    lasti: int
    via: str

    @property
    def line(self) -> int:
        for start, end, line in self.code.co_lines():
            if start <= self.lasti < end and line is not None:
                return line
        return self.code.co_firstlineno

    def __str__(self) -> str:
        return f"{self.code.co_filename}:{self.line}"


def find_site(ignored: tuple[str, ...]) -> Site | None:
    """Return the first line on the stack that is neither ours nor in one of the `ignored` modules."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the documented way to look at a stack
    via = ""
    while frame is not None:
        module = frame.f_globals.get("__name__") or ""
        ours = module.startswith(_OURS) and not module.startswith(_DEMO)
        if not ours and not (ignored and module.startswith(ignored)):
            return Site(frame.f_code, frame.f_lasti, via)
        via = frame.f_code.co_name
        frame = frame.f_back
    return None


class Lease:
    """One use of one connection, from its delivery to its return. It never refers to a response."""

    __slots__ = (
        "_latch",
        "bytes_expected",
        "bytes_read",
        "conn",
        "dropped_at",
        "epoch",
        "hooks",
        "id",
        "method",
        "opened_at",
        "origin",
        "site",
        "status_code",
        "thread",
    )

    def __init__(
        self, lease_id: int, conn: Any, method: str, hooks: Hooks | None, site: Site | None, now: float, epoch: int
    ) -> None:
        self.id = lease_id
        self.conn = conn
        self.method = method
        self.origin = conn.key.origin
        self.hooks = hooks
        self.site = site
        self.opened_at = self.dropped_at = now
        self.epoch = epoch  # of the process: a child has other leases than its parent
        self.status_code = 0
        self.bytes_read = 0
        self.bytes_expected: int | None = None
        self.thread = _thread.get_ident()
        self._latch = _thread.allocate_lock()

    def end(self) -> bool:
        """Report whether the caller is the one that ends this lease."""
        return self._latch.acquire(blocking=False)

    @property
    def is_open(self) -> bool:
        return not self._latch.locked()


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


_FIXES = {  # (our function that was called, whether it is awaited): the line that is right
    ("round_trip", False): "with transport.round_trip(...) as response:",
    ("round_trip", True): "async with await transport.round_trip(...) as response:",
    ("send", False): "with client.send(request, stream=True) as response:",
    ("send", True): "async with await client.send(request, stream=True) as response:",
    ("__enter__", False): "with client.stream(...) as response:",
    ("__aenter__", True): "async with client.stream(...) as response:",
}


def make_report(lease: Lease, count: int, gauges: str, thread: str) -> LeakReport:
    """Return what is known of a dropped response."""
    site, function = (str(lease.site), lease.site.code.co_qualname) if lease.site is not None else ("", "")
    expected = f" of {lease.bytes_expected}" if lease.bytes_expected is not None else ""
    age = lease.dropped_at - lease.opened_at
    opened = f"Opened at {site} in {function}" if site else "Opened at a line that was not recorded"
    is_async = lease.conn.runtime.name != "threads"
    via = lease.site.via if lease.site is not None else ""
    fix = _FIXES.get((via, is_async)) or _FIXES["round_trip", is_async]
    message = (
        f"response never closed: {lease.method} {lease.origin} [{lease.status_code}], "
        f"{lease.bytes_read}{expected} body bytes read, dropped {age:.1f} s after it was opened. "
        f"Its connection was closed instead of reused; the slot was returned ({gauges}).\n"
        f"{opened}, thread {thread!r}. Leak number {count} from this line.\n"
        f"Fix: `{fix}` (or response.{'aclose' if is_async else 'close'}()). [PT-LEAK]"
    )
    return LeakReport(
        lease.method,
        lease.origin,
        lease.status_code,
        site,
        function,
        age,
        lease.bytes_read,
        lease.bytes_expected,
        thread,
        count,
        message,
    )


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


# Words that no transport will say any more: those about transports that were dropped themselves.
pending = Outbox()


def forget_pending() -> None:
    """In a child process: what the parent had to say is the parent's, and its thread may hold the lock."""
    global pending  # noqa: PLW0603 - this is where it lives
    pending = Outbox()


def warn_response(report: LeakReport) -> None:
    """Tell the logger and the warnings filter."""
    import logging  # noqa: PLC0415 - only a leak pays for it

    extra = {key: value for key, value in report._asdict().items() if key not in ("message", "thread")}
    extra["leak_thread"] = report.thread
    logging.getLogger("pooltransport.leak").warning("%s", report.message, extra=extra)
    filename, _, line = report.site.rpartition(":")
    _warn(report.message, UnclosedResponseWarning, filename or "<unknown>", int(line or 1))


def warn_transport(what: str, site: Site | None, sockets: int) -> None:
    """Tell that a transport was dropped with `sockets` connections open."""
    message = f"unclosed {what} with {sockets} open connections; they were closed. Fix: `with` it, or close() it."
    if site is None:
        _warn(message, UnclosedTransportWarning, "<unknown>", 1)
    else:
        _warn(f"{message} Made at {site}.", UnclosedTransportWarning, site.code.co_filename, site.line)


def _warn(message: str, category: type[Warning], filename: str, line: int) -> None:
    import warnings  # noqa: PLC0415 - as above

    try:
        warnings.warn_explicit(message, category, filename, line)
    except Warning as error:
        # A filter made an error of it. It belongs to who dropped the response, and not to the innocent
        # caller at this safe point: raised in a finalizer, it goes to `sys.unraisablehook`.
        _Finalizer(error.with_traceback(None))


class _Finalizer:
    """Raises `error` where no caller is: when it is dropped, which is at once."""

    __slots__ = ("_error",)

    def __init__(self, error: Warning) -> None:
        self._error = error

    def __del__(self) -> None:
        try:
            raise self._error
        finally:
            # No cycle may be left: it would hold the frames below, and responses that their callers dropped.
            del self._error


def thread_name(ident: int) -> str:
    """Return the name of a thread, or its number."""
    import sys  # noqa: PLC0415 - only a leak pays for it

    threading = sys.modules.get("threading")
    if threading is not None:
        for thread in threading.enumerate():
            if thread.ident == ident:
                return str(thread.name)
    return str(ident)
