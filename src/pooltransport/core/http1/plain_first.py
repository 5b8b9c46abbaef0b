"""The codec that is used: what is plain is read at once, and a parser reads everything else.

An answer with a plain header and a body of known length never comes to the parser. One whose header comes in pieces,
is odd, or announces chunks is the parser's from its first byte.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pooltransport.errors import RemoteProtocolError

from . import plain_head
from .codec import forgotten

if TYPE_CHECKING:
    from collections.abc import Callable

    from .codec import Head, Http1Codec, RawHeaders

_SWITCHING_PROTOCOLS = 101


class PlainFirst:
    """`Http1Codec` on another; `limit` bounds what it buffers before it gives up, in bytes."""

    __slots__ = ("_buffer", "_final", "_limit", "_method", "_parser")

    name: str
    parser_type: Callable[[int], Http1Codec]  # a class: it does not become a method

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._method = ""
        self._buffer: bytes | None = None  # what was fed and not used; None where there is no response
        self._final = False  # the final header was given
        self._parser: Http1Codec | None = None

    def begin(self, method: str) -> None:
        self._method = method
        self._buffer = b""
        self._final = False
        self._parser = None

    def feed(self, data: bytes) -> None:
        if self._parser is not None:
            self._parser.feed(data)
        elif self._buffer is None:
            raise forgotten()
        else:
            self._buffer += data

    def next_head(self) -> Head | None:
        if self._parser is not None:
            return self._parser.next_head()
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
        self._parser = self.parser_type(self._limit)
        self._parser.begin(self._method)
        self._parser.feed(buffer)
        return self._parser.next_head()

    def unused(self) -> int:
        if self._parser is not None:
            return self._parser.unused()
        if self._buffer is None:
            raise forgotten()
        return len(self._buffer)

    def take_rest(self) -> bytes:
        if self._parser is not None:
            return self._parser.take_rest()
        rest, self._buffer = self._buffer, None
        if rest is None:
            raise forgotten()
        return rest

    def next_chunk(self) -> bytes | None:
        if self._buffer is None:
            raise forgotten()
        if self._parser is None:
            raise RemoteProtocolError("expected a chunk, the parser saw no chunked body")
        return self._parser.next_chunk()

    def trailers(self) -> RawHeaders:
        return [] if self._parser is None else self._parser.trailers()
