"""What `probe` shows: a waterfall and the facts, as plain text or, with `rich`, drawn in the terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from .endings import printable
from .probe import DONE, FAILED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

    from .certificates import Certificate
    from .probe import Exchange, Report, Step

_WIDTH = 30
_SOON = 14  # days


def draw(report: Report, out: TextIO, *, plain: bool) -> None:
    """Write `report` to `out`: drawn if that is a terminal that can show it and `rich` is there, else as text."""
    if not plain and out.isatty() and out.encoding.lower().startswith("utf"):
        try:
            import rich  # noqa: F401, PLC0415 - an extra
        except ImportError:
            pass  # the text says as much
        else:
            _draw_rich(report, out)
            return
    _draw_plain(report, out)


def title(report: Report, exchange: Exchange) -> str:
    """Return the line above one request."""
    via = "" if report.via is None else f" through {report.via}"
    which = f"request {exchange.number}: " if len(report.exchanges) > 1 else ""
    return f"{which}{report.url.origin}{via}"


def bar(step: Step, total: float, width: int) -> tuple[int, int]:
    """Return where the bar of `step` begins, and how long it is: at least one column."""
    scale = width / total if total > 0 else 0.0
    start = min(int(step.start * scale), width - 1)
    return start, max(1, min(round(step.seconds * scale), width - start))


def facts(exchange: Exchange) -> Iterator[tuple[str, str, bool]]:
    """Yield label, text, and whether it is as it should be."""
    conn = exchange.conn
    if conn is not None:
        how = "reused" if conn.reused else "new"
        yield "connection", f"{conn.local_addr} -> {conn.remote_addr} ({how})", True
    if exchange.tls is not None:
        yield "TLS", printable(f"{exchange.tls.version}, {exchange.tls.cipher}"), True
    if exchange.certificate is not None:
        yield from _of_certificate(exchange.certificate)
    if exchange.status is not None:
        version, code, words = exchange.status
        yield "answer", f"{version} {code} {words}".rstrip() + f", {exchange.size:,} bytes", code < 400
    if exchange.pooled is not None:
        if exchange.pooled:
            yield "pool", "the connection went back to the pool", True
        else:
            yield "pool", f"the connection did not go back to the pool: {exchange.not_pooled_because}", False


def _of_certificate(cert: Certificate) -> Iterator[tuple[str, str, bool]]:
    subject, issuer = printable(cert.subject), printable(cert.issuer)
    yield "certificate", f"{subject!r}, issued by {issuer!r}", cert.verified is not False
    left = cert.days_left
    now = time.time()
    state = f"{left:,.0f} days left" if left >= 0 else f"expired {-left:,.0f} days ago"
    if now < cert.not_before:
        state = "not valid yet"
    yield (
        "valid",
        f"{_day(cert.not_before)} to {_day(cert.not_after)}, {state}",
        cert.not_before <= now and left > _SOON,
    )
    names = printable(", ".join(cert.names[:5])) or "no name at all"
    more = f" and {len(cert.names) - 5} more" if len(cert.names) > 5 else ""
    fits = "fits" if cert.name_matches else "does not fit"
    yield "name", f"{cert.asked_for} {fits}: it is for {names}{more}", cert.name_matches
    words = {True: "the certificate is trusted", False: "the certificate is not accepted"}
    trust = words.get(cert.verified is True) if cert.verified is not None else "not looked at (--insecure)"
    yield "trust", str(trust), cert.verified is True


def _day(moment: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(moment))


def _times(step: Step) -> tuple[str, str]:
    return f"{step.start * 1000:.1f}", f"{step.seconds * 1000:.1f}"


# -- plain --------------------------------------------------------------------------------------


def _draw_plain(report: Report, out: TextIO) -> None:
    for exchange in report.exchanges:
        print(title(report, exchange), file=out)
        for step in exchange.steps:
            begin, length = bar(step, exchange.total, _WIDTH)
            drawn = (" " * begin + ("=" if step.outcome == DONE else "x") * length).ljust(_WIDTH)
            start, took = _times(step)
            print(f"  {step.name:<11}{start:>9} +{took:>9} ms  |{drawn}|  {step.detail}".rstrip(), file=out)
        print(f"  {'total':<11}{'':>9}  {exchange.total * 1000:>9.1f} ms", file=out)
        for label, text, good in facts(exchange):
            print(f"  {label:<11} {text}{'' if good else '  (!)'}", file=out)


# -- rich ---------------------------------------------------------------------------------------


def _draw_rich(report: Report, out: TextIO) -> None:
    from rich.console import Console  # noqa: PLC0415 - an extra
    from rich.table import Table  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415 - as above

    # Everything is a Text: what a server said is never read as markup.
    console = Console(file=out, highlight=False)
    for exchange in report.exchanges:
        console.print(Text(title(report, exchange), style="bold"))
        table: Any = Table(box=None, pad_edge=False, show_header=False)
        for justify in ("left", "right", "right", "left"):
            table.add_column(justify=justify, no_wrap=True)
        table.add_column(overflow="fold")
        for step in exchange.steps:
            begin, length = bar(step, exchange.total, _WIDTH)
            colour = {DONE: "green", FAILED: "red"}.get(step.outcome, "bright_black")
            drawn = Text(" " * begin)
            drawn.append("━" * length, style=colour)
            drawn.append(" " * (_WIDTH - begin - length))
            mark = {DONE: "✓", FAILED: "✗"}.get(step.outcome, "-")
            start, took = _times(step)
            name = Text(f"{mark} {step.name}", style=colour)
            table.add_row(name, f"{start} ms", f"+ {took} ms", drawn, Text(step.detail))
        table.add_row(Text("  total", style="bold"), "", f"{exchange.total * 1000:.1f} ms", "", "")
        console.print(table)
        known: Any = Table(box=None, pad_edge=False, show_header=False)
        known.add_column(no_wrap=True)
        known.add_column(overflow="fold")
        for label, text, good in facts(exchange):
            known.add_row(Text(f"  {label}", style="bright_black"), Text(text, style="" if good else "yellow"))
        console.print(known)
