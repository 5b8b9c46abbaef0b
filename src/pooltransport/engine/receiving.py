"""Receiving the header of one answer: 1xx reported and skipped, clocks, ends and nonsense told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pooltransport.errors import (
    RemoteProtocolError,
    ServerClosedConnection,
    TransportError,
)
from pooltransport.headers import Headers
from pooltransport.runtime.protocols import Expired
from pooltransport.trace import FirstByteInfo, InformationalInfo

from .tls_errors import refused_after_handshake

if TYPE_CHECKING:
    from pooltransport.core.http1.codec import Head
    from pooltransport.core.http1.exchange import Exchange
    from pooltransport.lease import Lease

    from .clocks import Clocks
    from .connection import Connection
    from .upload import Sent

_AFTER_WRITE_ERROR = 0.05


async def receive_head(
    lease: Lease, exchange: Exchange, clocks: Clocks, sent: Sent, *, continue_until: float | None = None
) -> Head:
    """Return the final header, or with `continue_until` a 100 (Continue), whichever is first; then
    `Expired` is raised when that moment comes. 1xx do not extend the header clock.
    """
    stream = lease.conn.stream
    settings = clocks.settings
    headers_at = clocks.until(settings.response_header, sent.at)
    while True:
        if exchange.started:
            head = _next_final(lease, exchange, stop_at_100=continue_until is not None)
            if head is not None:
                return head
        at, setting = headers_at, settings.response_header
        if settings.read.seconds is not None:
            read_at = lease.conn.runtime.now() + settings.read.seconds
            if at is None or read_at < at:
                at, setting = read_at, settings.read
        if continue_until is not None and (at is None or continue_until < at):
            at = continue_until
        try:
            data = await stream.receive(at)
        except Expired:
            now = lease.conn.runtime.now()
            if (
                continue_until is not None
                and now >= continue_until
                and (clocks.deadline is None or now < clocks.deadline)
            ):
                raise
            raise clocks.expired("headers", setting, now, where=lease.origin, done=True) from None
        except OSError as error:
            raise _no_answer(lease, exchange, sent, error) from error
        _take(data, lease, exchange, clocks, sent)


async def hear(lease: Lease, exchange: Exchange, clocks: Clocks, sent: Sent) -> Head | None:
    """Receive what is there while the request is still being sent; return the final header if that is
    complete now. The end of the connection, or an error, ends the attempt.
    """
    try:
        data = await lease.conn.stream.receive(clocks.deadline)
    except Expired:
        now = lease.conn.runtime.now()
        raise clocks.expired("headers", clocks.settings.total, now, where=lease.origin, done=True) from None
    except OSError as error:
        raise _no_answer(lease, exchange, sent, error) from error
    _take(data, lease, exchange, clocks, sent)
    return _next_final(lease, exchange, stop_at_100=False)


def _next_final(lease: Lease, exchange: Exchange, *, stop_at_100: bool) -> Head | None:
    """Return the final header, or a 100 if that is waited for, or None; tell of the 1xx before it."""
    while exchange.started and (head := exchange.next_head()) is not None:
        if head.status >= 200 or head.status == 101:
            return head
        if lease.hooks is not None:
            _tell_informational(lease, head, expected=stop_at_100)
        if stop_at_100 and head.status == 100:
            return head
    return None


def _take(data: bytes, lease: Lease, exchange: Exchange, clocks: Clocks, sent: Sent) -> None:
    if not data:
        raise _no_answer(lease, exchange, sent, None)
    if not exchange.started:
        sent.response_started = True
        if lease.hooks is not None:
            elapsed = lease.conn.runtime.now() - (sent.at or clocks.started)
            lease.hooks.tell("got_first_response_byte", FirstByteInfo(elapsed))
    exchange.feed(data)


def _tell_informational(lease: Lease, head: Head, *, expected: bool) -> None:
    hooks = lease.hooks
    assert hooks is not None, "asked only with hooks"
    info = InformationalInfo(head.status, Headers._from_raw(head.headers))  # noqa: SLF001 - ours
    if expected and head.status == 100:
        hooks.tell("got_100_continue", info)
    hooks.tell("got_1xx_response", info)


def _no_answer(lease: Lease, exchange: Exchange, sent: Sent, error: OSError | None) -> TransportError:
    """Say how the connection ended before the header was complete."""
    what = "closed the connection" if error is None else f"broke the connection ({error.strerror or error})"
    if exchange.started:
        return RemoteProtocolError(f"{lease.origin}: the server {what} inside the response header")
    sent.connection_lost = True
    conn = lease.conn
    idle = max(lease.opened_at - conn.idle_since, 0.0) if conn.reused else 0.0
    history = f"a connection that had served {conn.requests_served} requests" if conn.reused else "a new connection"
    return ServerClosedConnection(
        f"{lease.origin}: the server {what} without answering, on {history}, "
        f"after {sent.bytes_written} bytes of the request were written{_hint(conn, error)}",
        reused=conn.reused,
        idle_time=idle,
        bytes_written=sent.bytes_written,
    )


def _hint(conn: Connection, error: OSError | None) -> str:
    """A reset may have overtaken the alert that would have said why."""
    if error is None and not conn.stream.cut_off:
        return ""
    tls, trust = conn.stream.tls, conn.key.trust if conn.key.is_tls else None
    if conn.reused or tls is None or tls.version != "TLSv1.3" or trust is None or trust.client_cert is not None:
        return ""
    return "; a server that wants a client certificate (client_cert=) may end it so"


async def refusal_behind(conn: Connection, error: OSError) -> OSError:
    """Return the alert by which the server refused a handshake and that nobody has read, or `error`. Of
    this request nothing was written, so that there is no answer to be lost.
    """
    try:
        await conn.stream.receive(conn.runtime.now() + _AFTER_WRITE_ERROR)
    except Expired:
        return error
    except OSError as found:
        return error if refused_after_handshake(found) is None else found
    return error


async def answer_after_write_error(lease: Lease, exchange: Exchange, sent: Sent) -> Head | None:
    """Return the final header that was on its way when writing failed, or None."""
    until = lease.conn.runtime.now() + _AFTER_WRITE_ERROR
    try:
        while True:
            head = exchange.next_head() if exchange.started else None
            if head is not None and head.status >= 200:
                return head
            if head is None:
                data = await lease.conn.stream.receive(until)
                if not data:
                    return None
                sent.response_started = True
                exchange.feed(data)
    except OSError as error:
        if refused_after_handshake(error) is not None:
            raise  # that is the answer
        return None
    except (Expired, RemoteProtocolError):
        return None
