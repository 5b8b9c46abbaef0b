"""Leases: who holds which connection, since when, from which line, and what goes on in it.

Rules:

1. A lease never refers to a response, a body, a callback or a frame: any of them would keep the response
   alive that nobody closes. Of a stack it keeps code objects and instruction numbers, of a task a weak reference.
2. It has one exit: `Lease.end` reports True once, to whoever ends it.
3. The engine writes down who moved when; `activity_of` judges it. Elapsed time alone says nothing: a slow
   server, a slow reader and a forgotten response look the same to it.
"""

from __future__ import annotations

import _thread
import sys
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from .callers import called, is_ours
from .stats import Activity, LeakFound, LeaseStats

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, FrameType

    from .trace import Hooks

_DEPTH = 4  # frames kept of each stack: each costs 0.2 us of a request; all of them with "full"
_UNBOUNDED = 1000
_ACCESSES = 4
_MOST_WATCHED = 1000
_TOO_SLOW = 1024  # bytes a second
_getframe = sys._getframe  # noqa: SLF001 - the documented way to look at a stack


class Site(NamedTuple):
    """A line of the caller's: its code object and the instruction, no frame (it would pin locals).

    `via` is the name of our function that it called, or of the library that did so for it; `outer` are the callers of
    that line, code object and instruction in turn.
    """

    code: CodeType
    lasti: int
    via: str
    outer: Sequence[Any] = ()

    @property
    def line(self) -> int:
        return _line(self.code, self.lasti)

    @property
    def stack(self) -> tuple[str, ...]:
        """The line and its callers, as text, from the inside outwards."""
        raw = (self.code, self.lasti, *self.outer)
        return tuple(
            f"{code.co_filename}:{_line(code, lasti)} in {code.co_qualname}"
            for code, lasti in zip(raw[::2], raw[1::2], strict=True)
        )

    def __str__(self) -> str:
        return f"{self.code.co_filename}:{self.line}"


def name_of(site: Site | None) -> str:
    """Return ``file:line``, or that nobody knows."""
    return "a line that was not recorded" if site is None else str(site)


def _line(code: CodeType, lasti: int) -> int:
    for start, end, line in code.co_lines():
        if start <= lasti < end and line is not None:
            return line
    return code.co_firstlineno


def find_site(ignored: tuple[str, ...], depth: int = 1) -> Site | None:
    """Return the first line on the stack that is neither ours nor in one of the `ignored` modules, and of its
    callers so many that there are `depth` lines. Raw: formatting a stack would cost ten times as much.
    """
    frame: FrameType | None = _getframe(1)
    via = ""
    while frame is not None:
        if not is_ours(frame, ignored):
            return _site_of(frame, via, depth)
        via = called(frame)
        frame = frame.f_back
    return None


def _near_site_of(frame: FrameType, via: str) -> Site:
    """`_site_of` with `_DEPTH`, which each request pays for: written out, since a loop would cost it twice as much."""
    code, lasti = frame.f_code, frame.f_lasti
    one = frame.f_back
    if one is None:
        return _new_site(Site, (code, lasti, via, ()))
    two = one.f_back
    if two is None:
        return _new_site(Site, (code, lasti, via, (one.f_code, one.f_lasti)))
    three = two.f_back
    if three is None:
        return _new_site(Site, (code, lasti, via, (one.f_code, one.f_lasti, two.f_code, two.f_lasti)))
    outer = (one.f_code, one.f_lasti, two.f_code, two.f_lasti, three.f_code, three.f_lasti)
    return _new_site(Site, (code, lasti, via, outer))


_new_site = tuple.__new__  # what `Site` does, without its call


def _site_of(frame: FrameType, via: str, depth: int) -> Site:
    if depth == _DEPTH:
        return _near_site_of(frame, via)
    code, lasti = frame.f_code, frame.f_lasti
    outer: list[Any] = []
    caller = frame.f_back
    while caller is not None and depth > 1:
        outer += (caller.f_code, caller.f_lasti)
        caller = caller.f_back
        depth -= 1
    return Site(code, lasti, via, outer)


class Watch:
    """How closely one transport looks at who opens responses: the level, and the lines that leaked before."""

    __slots__ = ("_depth", "_ignored", "_known", "_ours", "_watched", "level")

    def __init__(self, level: str, ignored: tuple[str, ...]) -> None:
        self.level = level
        self._depth = _UNBOUNDED if level == "full" else _DEPTH
        self._ours = 1  # how many of our frames there were the last time
        # Then: the code of the line, of our function that it called, and the name of that.
        self._known: tuple[CodeType | None, CodeType | None, str] = (None, None, "")
        self._ignored = ignored
        # By identity: hashing a code object hashes all of its constants. The value keeps it alive.
        self._watched: dict[tuple[int, int], CodeType] = {}

    def site(self) -> Site | None:
        """Return who calls, as the level wants it."""
        if self.level == "off":
            return None
        # Looking at a frame makes an object of it. Of ours, which are the same at each request, only the last is
        # looked at: whether the one behind it is the first that is not ours. Most often both are known.
        try:
            frame, inner = _getframe(self._ours + 1), _getframe(self._ours)
        except ValueError:  # the stack is not so deep
            return self._search()
        code, of_ours, via = self._known
        if frame.f_code is not code or inner.f_code is not of_ours:
            if is_ours(frame, self._ignored) or not is_ours(inner, self._ignored):
                return self._search()
            via = called(inner)
            self._known = (frame.f_code, inner.f_code, via)
        return _near_site_of(frame, via) if self._depth == _DEPTH else _site_of(frame, via, self._depth)

    def _search(self) -> Site | None:
        depth = 0
        found: FrameType | None = _getframe(1)
        while found is not None and is_ours(found, self._ignored):
            found = found.f_back
            depth += 1
        if found is None:
            return None
        self._ours = depth - 1
        return _site_of(found, called(_getframe(depth)), self._depth)

    def detail(self, site: Site | None) -> Detail | None:
        """Return where to note the accesses to a response: with "full", and of a line that leaked once, always."""
        if self.level == "full" or (
            site is not None and self._watched and (id(site.code), site.lasti) in self._watched
        ):
            return Detail(self._ignored)
        return None

    def suspect(self, site: Site | None) -> None:
        """A response that this line opened was never closed."""
        if site is not None and len(self._watched) < _MOST_WATCHED:
            self._watched[id(site.code), site.lasti] = site.code


class Detail:
    """What is known beyond the site: names, the last accesses, where it was closed, and how to find its holder."""

    __slots__ = ("_ignored", "_skip", "accesses", "closed_at", "owner", "task", "thread")

    def __init__(self, ignored: tuple[str, ...]) -> None:
        self._ignored = ignored
        self.accesses: deque[Site] = deque(maxlen=_ACCESSES)
        self._skip = 0
        self.closed_at: Site | None = None
        self.owner: Any = None  # weakly, what holds the lease
        self.thread = thread_name(_thread.get_ident())
        self.task = task_name()

    def access(self) -> None:
        """Note that somebody reads: the first four times, then ever more rarely, as Netty does."""
        count = self._skip = self._skip + 1
        if count <= _ACCESSES or not count & (count - 1):
            site = find_site(self._ignored, _DEPTH)
            if site is not None:
                self.accesses.append(site)

    def close(self) -> None:
        """Note who closed it, for whoever uses it after that."""
        self.closed_at = find_site(self._ignored)


class Lease:
    """One use of one connection, from its delivery to its return."""

    __slots__ = (
        "_declared",
        "_latch",
        "acquired_at",
        "bytes_expected",
        "bytes_read",
        "bytes_sent",
        "conn",
        "detail",
        "dropped_at",
        "epoch",
        "found",
        "given_back",
        "headers",
        "headers_at",
        "holder",
        "hooks",
        "id",
        "method",
        "moved_at",
        "opened_at",
        "origin",
        "overdue",
        "path",
        "read_at",
        "reading_since",
        "scope",
        "site",
        "status_code",
        "thread",
        "waited",
    )

    def __init__(
        self,
        lease_id: int,
        conn: Any,
        method: str,
        hooks: Hooks | None,
        site: Site | None,
        opened_at: float,
        now: float,
        epoch: int,
        holder: object,
    ) -> None:
        self.id = lease_id
        self.conn = conn
        self.method = method
        self.origin = conn.key.origin
        self.hooks = hooks
        self.site = site
        self.opened_at = self.dropped_at = opened_at  # when the request began
        self.acquired_at = self.moved_at = now
        self.epoch = epoch  # of the process: a child has other leases than its parent
        self.holder = holder  # the thread's number, or weakly the task
        self.thread = _thread.get_ident()
        self.status_code = 0
        self.headers: Sequence[tuple[bytes, bytes]] = ()
        self.headers_at = 0.0  # 0: not yet
        self.read_at = 0.0  # when a reader was last there
        self.reading_since = 0.0  # 0: nobody waits for the server
        self.waited = 0.0  # seconds that readers waited for the server, in all
        self.bytes_read = 0
        self.bytes_sent = 0  # header and body of the request, as far as it was sent when the answer came
        self.bytes_expected: int | None = None
        self._declared: bool | None = None  # None: nobody has said, its headers tell
        self.overdue: Activity | None = None  # as which it was spoken of
        self.found = LeakFound.GC
        self.given_back = False  # closed by its holder: what is left of the body is being drained
        self.detail: Detail | None = None
        self.path = ""
        self.scope: object = None  # whose it is, where a witness looks on
        self._latch = _thread.allocate_lock()

    def end(self) -> bool:
        """Report whether the caller is the one that ends this lease."""
        return self._latch.acquire(blocking=False)

    @property
    def is_open(self) -> bool:
        return not self._latch.locked()

    @property
    def is_stream(self) -> bool:
        """Whether it is meant to be held for long: as its caller says, or else if it is a stream of events."""
        if self._declared is None:
            if not self.headers_at:
                return False
            self._declared = _is_event_stream(self.headers)
        return self._declared

    @is_stream.setter
    def is_stream(self, declared: bool) -> None:
        self._declared = declared

    @property
    def is_unread(self) -> bool:
        """Whether the headers are there and nobody reads at this moment."""
        return bool(self.headers_at) and not self.reading_since and not self.is_stream and not self.given_back

    def unread_for(self, now: float) -> float:
        """How long nobody has read."""
        return now - max(self.headers_at, self.read_at) if self.is_unread else 0.0


def activity_of(lease: Lease, now: float, threshold: float) -> Activity:
    """Judge what goes on in a lease: who has not moved for `threshold` seconds, the server or the reader."""
    if now - lease.acquired_at < threshold:
        return Activity.RECENT
    if lease.is_stream:
        return Activity.DECLARED_STREAM
    if not lease.headers_at:
        return Activity.SLOW_SERVER if now - lease.moved_at >= threshold else Activity.PROGRESSING
    since = lease.reading_since
    if since and now - since >= threshold:
        return Activity.SLOW_SERVER
    if lease.unread_for(now) >= threshold:
        return Activity.IDLE_HOLDER
    life = now - lease.headers_at
    waited = lease.waited + (now - since if since else 0.0)
    if waited > life / 2 and lease.bytes_read < _TOO_SLOW * life:
        return Activity.SLOW_SERVER
    # When the reader did not wait for the server, it was away.
    was_there = lease.read_at and life >= threshold
    return Activity.SLOW_READER if was_there and waited < life / 10 else Activity.PROGRESSING


def _is_event_stream(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    values = (value for name, value in headers if name.lower() == b"content-type")
    return any(value.lower().startswith(b"text/event-stream") for value in values)


def describe(lease: Lease, now: float, threshold: float) -> LeaseStats:
    """Return what is known of a lease as a value."""
    site, detail = lease.site, lease.detail
    reading = lease.reading_since
    return LeaseStats(
        lease.id,
        lease.origin,
        lease.method,
        lease.status_code,
        max(now - lease.acquired_at, 0.0),
        activity_of(lease, now, threshold).value,
        lease.bytes_read,
        lease.bytes_expected,
        max(now - reading, 0.0) if reading else None,
        lease.unread_for(now) if lease.is_unread else None,
        "" if site is None else str(site),
        () if site is None else site.stack,
        thread_name(lease.thread),
        task_of(lease.holder) if detail is None else detail.task,
    )


def thread_name(ident: int) -> str:
    """Return the name of a thread, or its number."""
    threading = sys.modules.get("threading")
    if threading is not None:
        for thread in threading.enumerate():
            if thread.ident == ident:
                return str(thread.name)
    return str(ident)


def task_name() -> str | None:
    """Return the name of the task that runs here, or None."""
    asyncio, trio = sys.modules.get("asyncio"), sys.modules.get("trio")
    if asyncio is not None and asyncio._get_running_loop() is not None:  # noqa: SLF001 - documented
        task = asyncio.current_task()
        return None if task is None else str(task.get_name())
    if trio is None:
        return None
    try:
        return str(trio.lowlevel.current_task().name)
    except RuntimeError:  # in none; `in_trio_task` came with 0.28
        return None


def task_of(holder: object) -> str | None:
    """Return the name of the task that holds, if it is one and still there."""
    task = holder() if callable(holder) else None
    if task is None:
        return None
    return str(task.get_name() if hasattr(task, "get_name") else getattr(task, "name", task))
