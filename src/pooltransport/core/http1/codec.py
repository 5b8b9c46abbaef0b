"""The seam behind which a parser sits: bytes of one response in, its header and chunks out.

A codec reads one response at a time. It is asked for headers, and for the body only where the body
is chunked: bodies of known length and bodies until close are counted by the exchange, and for HEAD,
204 and 304 the parser is dropped after the header (contract 8.1, 8.3). `begin` starts afresh.
Every codec raises `RemoteProtocolError`, with what was seen, and is of no use afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    RawHeaders = list[tuple[bytes, bytes]]


class Head(NamedTuple):
    """A status line and its header section; also of a 1xx response."""

    status: int
    reason: str
    version: str  # "1.1"
    headers: RawHeaders


class Http1Codec(Protocol):
    """What the exchange asks of a parser."""

    name: str

    def __init__(self, limit: int) -> None:
        """Take how many bytes of headers the exchange allows; more than that is not buffered for ever."""

    def begin(self, method: str) -> None:
        """Get ready for the response to a request with `method`."""

    def feed(self, data: bytes) -> None:
        """Take bytes from the wire; never empty ones."""

    def next_head(self) -> Head | None:
        """Return the next header section, or None if more bytes are needed."""

    def unused(self) -> int:
        """Return how many of the bytes fed are not used yet."""

    def take_rest(self) -> bytes:
        """Return what was fed and not used, and forget this response."""

    def next_chunk(self) -> bytes | None:
        """Return decoded bytes of a chunked body, ``b""`` at its end, None if more are needed."""

    def trailers(self) -> RawHeaders:
        """Return the trailer section, after the end."""


def forgotten() -> AssertionError:
    """Return the error for a question after `take_rest`."""
    return AssertionError("the codec was asked about a response that it was told to forget")
