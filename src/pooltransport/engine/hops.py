"""From the connected first hop to a stream on which the request, or the origin's TLS, can start.

| proxy | http | https |
| --- | --- | --- |
| http, https | spoken to itself, in absolute-form | CONNECT, then TLS over the tunnel |
| socks5 | the tunnel | the tunnel, then TLS over it |

An https proxy is spoken to in TLS of its own, verified by the proxy's name. All of it is inside the
dial's one clock; phase ``proxy``, and ``tls`` for each handshake.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pooltransport.core.http1.exchange import Exchange
from pooltransport.core.proxy import Refused, Socks5, authority, connect_request
from pooltransport.errors import ProxyError, RemoteProtocolError
from pooltransport.headers import Headers

if TYPE_CHECKING:
    from pooltransport.core.http1.codec import Head
    from pooltransport.proxy_url import Proxy
    from pooltransport.runtime.protocols import Stream

    from .dial import DialJob
    from .engine import Engine


async def pass_proxy(job: DialJob, engine: Engine, stream: Stream, at: float | None) -> Stream:
    """Go through the proxy of `job.key`; return the stream to the origin, TLS done where it has some.

    Raises `ProxyError` for what the proxy says or does, `OSError` and `Expired` as streams do.
    """
    key = job.key
    proxy = key.proxy
    assert proxy is not None, "asked only with a proxy"
    if proxy.scheme == "https":
        await job.handshake(stream, proxy.host.rstrip("."), "the proxy of ")
    else:
        await stream.open()
    if key.forward is not None:
        return stream
    job.phase = "proxy"
    host, port = key.host.host, key.host.port
    if proxy.is_socks:
        await _socks(stream, proxy, host, port, at, key.origin)
    else:
        asked = connect_request(proxy, host, port, engine.routes.connect_headers)
        await stream.send(asked, None, at)
        exchange = Exchange(engine.new_codec(), "CONNECT", engine.options.max_response_header_bytes)
        _judge(await _answer(stream, exchange, at, key.origin), exchange, key.origin, authority(host, port))
    if not key.is_tls:
        return stream
    from pooltransport.runtime.tls_over import TLSOver  # noqa: PLC0415 - loads ssl, which a tunnel for http needs not

    over = TLSOver(stream)
    await job.handshake(over, key.server_hostname or host.rstrip("."))
    return over


async def _answer(stream: Stream, exchange: Exchange, at: float | None, where: str) -> Head:
    """Return the final header of the answer to CONNECT."""
    try:
        while True:
            head = exchange.next_head() if exchange.started else None
            if head is not None and (head.status >= 200 or head.status == 101):
                return head
            if head is None:
                data = await stream.receive(at)
                if not data:
                    inside = "inside its answer" if exchange.started else "without answering"
                    raise ProxyError(f"{where}: the proxy closed the connection {inside} to CONNECT")
                exchange.feed(data)
    except RemoteProtocolError as error:
        raise ProxyError(f"{where}: the proxy's answer to CONNECT cannot be used: {error}") from error


def _judge(head: Head, exchange: Exchange, where: str, target: str) -> None:
    """Raise `ProxyError` unless the tunnel is there, and silent: the client speaks first in TLS."""
    if not 200 <= head.status < 300:
        hint = ": credentials are missing or wrong" if head.status == 407 else ""
        raise ProxyError(
            f"{where}: the proxy answered {head.status} {head.reason[:100]} to CONNECT {target}{hint}",
            status_code=head.status,
            headers=Headers._from_raw(head.headers),  # noqa: SLF001 - ours
        )
    if exchange.has_surplus:
        raise ProxyError(f"{where}: the proxy sent bytes behind its answer to CONNECT, before the tunnel was used")


async def _socks(stream: Stream, proxy: Proxy, host: str, port: int, at: float | None, where: str) -> None:
    handshake = Socks5(proxy, host, port)
    try:
        out = handshake.first
        while not handshake.done:
            if out:
                await stream.send(out, None, at)
            data = await stream.receive(at)
            if not data:
                raise ProxyError(f"{where}: the proxy closed the connection inside the SOCKS5 handshake")
            out = handshake.feed(data)
    except Refused as error:
        raise ProxyError(f"{where}: the SOCKS proxy refused {authority(host, port)}: {error}") from error
