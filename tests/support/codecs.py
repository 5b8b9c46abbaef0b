"""Both codecs, and what one of them makes of bytes from the wire."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from pooltransport.core.http1.codecs import after_plain
from pooltransport.core.http1.exchange import Exchange
from pooltransport.core.http1.h11_codec import H11Codec
from pooltransport.core.http1.httptools_codec import HttptoolsCodec
from pooltransport.errors import RemoteProtocolError

CODECS = [H11Codec, after_plain(H11Codec), HttptoolsCodec, after_plain(HttptoolsCodec)]
CODEC_NAMES = ["h11", "h11-after-plain", "httptools", "httptools-after-plain"]
each_codec = pytest.mark.parametrize("codec_type", CODECS, ids=CODEC_NAMES)

_LIMIT = 262_144


class Read(NamedTuple):
    """What came of an answer; after an error only that there was one. `rest`: what is behind its end."""

    error: bool
    heads: tuple = ()
    body: bytes = b""
    framing: str = ""
    trailers: tuple = ()
    rest: bytes | None = None


REFUSED = Read(error=True)


def read(codec_type, pieces, method="GET") -> Read:
    """Read an answer as the engine does, whose bytes come in `pieces`."""
    exchange = Exchange(codec_type(_LIMIT), method, _LIMIT)
    heads, body, rest = [], b"", b""
    try:
        for piece in pieces:
            if exchange.complete:
                rest += piece
                continue
            exchange.feed(piece)
            while not _is_final(heads) and (head := exchange.next_head()) is not None:
                heads.append(head)
            while _is_final(heads) and (data := exchange.next_data()):
                body += data
    except RemoteProtocolError:
        return REFUSED
    rest = exchange.take_rest() + rest if exchange.complete else None
    return Read(False, tuple(map(_plain, heads)), body, exchange.framing.name, tuple(exchange.trailers), rest)


def _is_final(heads) -> bool:
    return bool(heads) and (heads[-1].status >= 200 or heads[-1].status == 101)


def _plain(head):
    return head._replace(headers=[(bytes(name), bytes(value)) for name, value in head.headers])
