"""The h11 codec that is used: what is plain is read at once, and h11 reads everything else.

An answer with a plain header and a body of known length never comes to h11. One whose header comes in pieces, is odd,
or announces chunks is h11's from its first byte.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pooltransport.errors import RemoteProtocolError

from . import plain_head
from .h11_codec import H11Codec, forgotten

if TYPE_CHECKING:
    from .codec import Head, RawHeaders

_SWITCHING_PROTOCOLS = 101


class PlainFirstCodec:
    """`Http1Codec` on h11; `limit` bounds what it buffers before it gives up, in bytes."""

    __slots__ = ("_buffer", "_final", "_h11", "_limit", "_method")

    name = "h11"

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._method = ""
        self._buffer: bytes | None = None  # what was fed and not used; None where there is no response
        self._final = False  # the final header was given
        self._h11: H11Codec | None = None

    def begin(self, method: str) -> None:
        self._method = method
        self._buffer = b""
        self._final = False
        self._h11 = None

    def feed(self, data: bytes) -> None:
        if self._h11 is not None:
            self._h11.feed(data)
        elif self._buffer is None:
            raise forgotten()
        else:
            self._buffer += data

    def next_head(self) -> Head | None:
        if self._h11 is not None:
            return self._h11.next_head()
        buffer = self._buffer
        if buffer is None:
            raise forgotten()
        if self._final:
            raise RemoteProtocolError("expected a response header, the parser has seen the final one")
        if not buffer:
            return None
        end = plain_head.SECTION_END.search(buffer)
        if end is not None and (plain := plain_head.read(buffer[: end.end()])) is not None and not plain.coded:
            self._buffer = buffer[end.end() :]
            self._final = plain.head.status >= 200
            return plain.head
        self._buffer = b""
        self._h11 = H11Codec(self._limit)
        self._h11.begin(self._method)
        self._h11.feed(buffer)
        return self._h11.next_head()

    def unused(self) -> int:
        if self._h11 is not None:
            return self._h11.unused()
        if self._buffer is None:
            raise forgotten()
        return len(self._buffer)

    def take_rest(self) -> bytes:
        if self._h11 is not None:
            return self._h11.take_rest()
        rest, self._buffer = self._buffer, None
        if rest is None:
            raise forgotten()
        return rest

    def next_chunk(self) -> bytes | None:
        if self._buffer is None:
            raise forgotten()
        if self._h11 is None:
            raise RemoteProtocolError("expected a chunk, the parser saw no chunked body")
        return self._h11.next_chunk()

    def trailers(self) -> RawHeaders:
        return [] if self._h11 is None else self._h11.trailers()
