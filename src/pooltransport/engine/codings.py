"""Which content codings a request asks for, and which of its answer's are taken off before the caller sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pooltransport.codings import accept_encoding, codings_of
from pooltransport.core.http1.request import may_ask_for_codings

if TYPE_CHECKING:
    from pooltransport.core.http1.codec import Head
    from pooltransport.core.http1.exchange import Exchange
    from pooltransport.models import Request
    from pooltransport.options import TransportOptions

_GZIP = (b"gzip",)


def accepted(request: Request, options: TransportOptions) -> bytes:
    """Return the Accept-Encoding to add to `request`, if any (Go GZIP-01)."""
    if request.decode is False or options.disable_compression or not may_ask_for_codings(request):
        return b""
    return b"gzip" if request.decode is None else accept_encoding()


def to_take_off(request: Request, asked: bytes, head: Head, exchange: Exchange) -> tuple[bytes, ...]:
    """Return the codings to decode, in the order they were applied.

    Unseen gzip only if it was us who asked for it, and it is the one coding (Go GZIP-02, GZIP-07); for a request
    that wants its answer decoded whatever came, but for a part of it, which has no beginning.
    """
    decode = request.decode
    if decode is False or (decode is None and not asked):
        return ()
    if exchange.coded is None:
        return ()
    codings = codings_of([exchange.coded])
    if decode is None:
        return codings if codings == _GZIP else ()
    return () if head.status == _PARTIAL_CONTENT else codings


_PARTIAL_CONTENT = 206
