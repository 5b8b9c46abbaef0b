"""Sending one request: header, body, and what is known afterwards of how much went out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pooltransport.core.http1 import request as wire
from pooltransport.runtime.protocols import Expired
from pooltransport.trace import Wait100ContinueInfo, WroteHeaderFieldInfo, WroteHeadersInfo

from .receiving import receive_head
from .upload import Sent, Upload, write

if TYPE_CHECKING:
    from pooltransport.core.http1.codec import Head
    from pooltransport.core.http1.exchange import Exchange
    from pooltransport.lease import Lease
    from pooltransport.models import Request
    from pooltransport.options import TransportOptions
    from pooltransport.trace import Hooks

    from .clocks import Clocks
    from .connection import Connection


async def send(
    request: Request,
    lease: Lease,
    exchange: Exchange,
    clocks: Clocks,
    sent: Sent,
    options: TransportOptions,
    *,
    close: bool,
    accept_encoding: bytes,
) -> Head | None:
    """Send `request`. Return None, or the final header if that came before the body was wanted, or sent."""
    data = wire.head(request, close=close, accept_encoding=accept_encoding, proxy=lease.conn.key.forward)
    hooks = lease.hooks
    if hooks is not None:
        _tell_headers(hooks, data, lease.conn)
    body = request.body
    if body.is_empty:
        # A body that was given and is empty may still have to be ended in chunked coding.
        await write(data + wire.last_chunk(request) if request.chunked else data, lease, clocks, sent)
    elif wire.expects_continue(request):
        await write(data, lease, clocks, sent)
        head = await _await_continue(lease, exchange, clocks, sent, options.expect_continue_timeout)
        if head is not None:
            await body.aclose()  # it is not wanted
            return head
        data = b""
    upload = None if body.is_empty else Upload(request, lease, exchange, clocks, sent)
    if upload is not None and not await upload.run(data):
        return upload.head
    exchange.request_sent = True
    sent.at = lease.conn.runtime.now()
    if hooks is not None:
        hooks.tell("wrote_request", None)
    return None if upload is None else upload.head


def _tell_headers(hooks: Hooks, data: bytes, conn: Connection) -> None:
    if hooks.wants("wrote_header_field"):
        told, infos = conn.told_headers
        if told != data:
            infos = _fields(data)
            conn.told_headers = (data, infos)
        for info in infos:
            hooks.tell("wrote_header_field", info)
    hooks.tell("wrote_headers", WroteHeadersInfo(len(data)))


def _fields(data: bytes) -> tuple[WroteHeaderFieldInfo, ...]:
    fields: dict[str, list[str]] = {}
    for line in data.decode("latin-1").split("\r\n")[1:-2]:
        name, _, value = line.partition(": ")
        fields.setdefault(name, []).append(value)
    return tuple(WroteHeaderFieldInfo(name, tuple(values)) for name, values in fields.items())


async def _await_continue(lease: Lease, exchange: Exchange, clocks: Clocks, sent: Sent, timeout: float) -> Head | None:
    """Wait for 100 (Continue). Silence means that the body is sent anyway; a final answer that it is not."""
    if lease.hooks is not None:
        lease.hooks.tell("wait_100_continue", Wait100ContinueInfo(timeout))
    sent.at = lease.conn.runtime.now()
    try:
        head = await receive_head(lease, exchange, clocks, sent, continue_until=sent.at + timeout)
    except Expired:
        return None
    if head.status >= 200:
        if lease.hooks is not None:
            lease.hooks.tell("wrote_request", None)
        return head
    return None
