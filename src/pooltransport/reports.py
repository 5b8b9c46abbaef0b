"""What is said of a response that nobody closed, or that is held for long, to whom and how loudly.

The text names the line, what was read, what became of the connection, and the line that would have been right.
Neither path nor query is shown, unless `show_paths` asks for the path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import UnclosedResponseWarning, UnclosedTransportWarning
from .leaks import hand_over, warn
from .lease import Detail, task_of, thread_name
from .stats import Activity, LeakFound
from .trace import LeakReport, OverdueReport

if TYPE_CHECKING:
    from .lease import Lease, Site

_FIXES = {  # (our function or the library that was called, whether it is awaited): the line that is right
    ("round_trip", False): "with transport.round_trip(...) as response:",
    ("round_trip", True): "async with await transport.round_trip(...) as response:",
    ("send", False): "with client.send(request, stream=True) as response:",
    ("send", True): "async with await client.send(request, stream=True) as response:",
    ("__enter__", False): "with client.stream(...) as response:",
    ("__aenter__", True): "async with client.stream(...) as response:",
    ("httpx", False): "with client.stream(...) as response:",
    ("httpx", True): "async with client.stream(...) as response:",
    ("httpx2", False): "with client.stream(...) as response:",
    ("httpx2", True): "async with client.stream(...) as response:",
    ("sdk", False): "with create(..., stream=True) as stream:",
    ("sdk", True): "async with await create(..., stream=True) as stream:",
    ("requests", False): "with session.get(..., stream=True) as response:",
}


_HOW_IT_ENDED = {
    LeakFound.GC: "Its connection was closed instead of reused; the slot was returned",
    LeakFound.RESCUE: "It was found by a collection just before a pool timeout; the slot was returned",
    LeakFound.CLOSE: "It was still open when its transport, or the loop, was closed",
    LeakFound.EXIT: "It was still open when the process ended",
}
_WHAT = {
    Activity.IDLE_HOLDER: "its headers came and nobody has read it for {unread:.1f} s",
    Activity.SLOW_SERVER: "the server sends nothing, or hardly anything: {read} bytes",
    Activity.SLOW_READER: "its reader comes rarely: it waited for the server for {waited:.1f} s of that",
}


def make_report(lease: Lease, count: int, gauges: str) -> LeakReport:
    """Return what is known of a response that was never closed."""
    site, function, opened = _opened(lease)
    expected = f" of {lease.bytes_expected}" if lease.bytes_expected is not None else ""
    age = lease.dropped_at - lease.opened_at
    thread, task = who_of(lease)
    ended = "dropped" if lease.found in {LeakFound.GC, LeakFound.RESCUE} else "still open"
    message = (
        f"response never closed: {what_of(lease)}, "
        f"{lease.bytes_read}{expected} body bytes read, {ended} {age:.1f} s after it was opened. "
        f"{_HOW_IT_ENDED[lease.found]} ({gauges}).\n"
        f"{opened}, thread {thread!r}{_task(task)}. Leak number {count} from this line.{_more(lease.detail)}\n"
        f"Fix: {fix_of(lease)} [PT-LEAK]"
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
        lease.found.value,
        task,
        () if lease.site is None else lease.site.stack,
    )


def make_overdue(lease: Lease, activity: Activity, now: float) -> OverdueReport:
    """Return what is known of a response that is held for long."""
    site, function, opened = _opened(lease)
    thread, task = who_of(lease)
    age = now - lease.acquired_at
    what = _WHAT[activity].format(unread=lease.unread_for(now), read=lease.bytes_read, waited=lease.waited)
    fix = f"\nIf it is forgotten: {fix_of(lease)}" if activity is Activity.IDLE_HOLDER else ""
    message = (
        f"response held for {age:.1f} s ({activity.value}): {what_of(lease)}, {what}.\n"
        f"{opened}, thread {thread!r}{_task(task)}.{_more(lease.detail)}{fix} [PT-OVERDUE]"
    )
    return OverdueReport(
        lease.id,
        lease.method,
        lease.origin,
        lease.status_code,
        activity.value,
        site,
        function,
        age,
        lease.bytes_read,
        lease.bytes_expected,
        thread,
        task,
        () if lease.site is None else lease.site.stack,
        message,
    )


def what_of(lease: Lease) -> str:
    """Return the request and its answer in short, without path or query."""
    return f"{lease.method} {lease.origin}{lease.path} [{lease.status_code or 'no answer yet'}]"


def _opened(lease: Lease) -> tuple[str, str, str]:
    if lease.site is None:
        return "", "", "Opened at a line that was not recorded"
    site, function = str(lease.site), lease.site.code.co_qualname
    return site, function, f"Opened at {site} in {function}"


def who_of(lease: Lease) -> tuple[str, str | None]:
    """Return the names of the thread and the task that opened it."""
    if lease.detail is not None:
        return lease.detail.thread, lease.detail.task
    return thread_name(lease.thread), task_of(lease.holder)


def _task(task: str | None) -> str:
    return "" if task is None else f", task {task!r}"


def fix_of(lease: Lease) -> str:
    """Return the line that would have been right."""
    is_async = lease.conn.runtime.name != "threads"
    via = lease.site.via if lease.site is not None else ""
    fix = _FIXES.get((via, is_async)) or _FIXES["round_trip", is_async]
    return f"`{fix}` (or response.{'aclose' if is_async else 'close'}())."


def _more(detail: Detail | None) -> str:
    """The last accesses, and who holds it, as far as it is known."""
    if detail is None:
        return ""
    lines = [f"last read at {site}" for site in detail.accesses]
    lines += [f"held by {holder}" for holder in _holders(detail)]
    return "".join(f"\n  {line}" for line in lines)


def _holders(detail: Detail) -> list[str]:
    """Say what refers to the response: names of types and of variables, never values."""
    body = None if detail.owner is None else detail.owner()
    if body is None:
        return []
    import gc  # noqa: PLC0415 - asked for with "full" alone

    responses = [found for found in gc.get_referrers(body) if type(found).__name__ in _RESPONSES]
    told = [
        _name_of(found, response)
        for response in responses
        for found in gc.get_referrers(response)
        if found is not responses and type(found).__name__ not in {"frame", "list_iterator"}
    ]
    return told[:5]


_RESPONSES = frozenset(("Response", "AsyncResponse"))


def _name_of(found: object, response: object) -> str:
    if isinstance(found, dict):
        names = [str(key) for key, value in found.items() if value is response and isinstance(key, str)]
        where = found.get("__name__")
        of = f" of module {where}" if isinstance(where, str) else ""
        return f"the entry {', '.join(names) or '...'!s} of a dict{of}"
    size = f" of {len(found)}" if isinstance(found, (list, tuple, set)) else ""
    return f"a {type(found).__qualname__}{size}"


def log_overdue(report: OverdueReport, pool_name: str | None) -> None:
    """Tell the logger: loudly if nobody works on it."""
    level = "WARNING" if report.activity == Activity.IDLE_HOLDER.value else "INFO"
    log("leak", level, report.message, _extra(report, pool_name))


def log_not_a_leak(report: OverdueReport, held: float, pool_name: str | None) -> None:
    """Take back what was said of a lease that has ended after all."""
    text = f"response closed after {held:.1f} s, not a leak: {report.method} {report.origin}, opened at {report.site}"
    log("leak", "INFO", text, _extra(report, pool_name))


def log(logger: str, level: str, text: str, extra: dict[str, object], error: Exception | None = None) -> None:
    """Tell ``pooltransport.<logger>``. A filter or a handler of the user's that raises breaks nothing."""
    import logging  # noqa: PLC0415 - only who has something to say pays for it

    found = logging.getLogger(f"pooltransport.{logger}")
    try:
        found.log(getattr(logging, level), "%s", text, extra=extra, exc_info=error)
    except Exception as failure:  # noqa: BLE001 - see above
        hand_over(failure)


def _extra(report: LeakReport | OverdueReport, pool_name: str | None) -> dict[str, object]:
    """The fields of a report under names that a log record does not have itself (docs/logging.md)."""
    extra: dict[str, object] = {
        "pool_name": pool_name,
        "code": "PT-LEAK" if type(report) is LeakReport else "PT-OVERDUE",
    }
    extra |= report._asdict()
    del extra["message"]
    extra["leak_thread"] = extra.pop("thread")
    extra["leak_task"] = extra.pop("task")
    extra["leak_stack"] = extra.pop("stack")
    return extra


def warn_response(report: LeakReport, pool_name: str | None) -> None:
    """Tell the logger and the warnings filter."""
    log("leak", "WARNING", report.message, _extra(report, pool_name))
    filename, _, line = report.site.rpartition(":")
    warn(report.message, UnclosedResponseWarning, filename or "<unknown>", int(line or 1))


def warn_transport(what: str, site: Site | None, sockets: int) -> None:
    """Tell that a transport was dropped with `sockets` connections open."""
    _warn_of_transport(
        f"unclosed {what} with {sockets} open connections; they were closed. Fix: `with` it, or close() it.", site
    )


def warn_left(what: str, site: Site | None, held: int) -> None:
    """Tell that the `with` block of a transport was left with `held` responses open."""
    _warn_of_transport(
        f"{what} left with {held} responses open; their connections were closed. "
        "Fix: close each response before, or use it in a `with` block of its own.",
        site,
    )


def _warn_of_transport(message: str, site: Site | None) -> None:
    if site is None:
        warn(message, UnclosedTransportWarning, "<unknown>", 1)
    else:
        warn(f"{message} Made at {site}.", UnclosedTransportWarning, site.code.co_filename, site.line)
