"""The httptools (llhttp) codec: fast where an answer is of the plain shape, and never less strict than h11.

Rules (contract 8.2; the disagreements are listed in docs/architecture.md and in tests/core/http1/odd_messages.py):

1. What this codec accepts, both parsers accept, with one result. A plain header section (`plain_head`) is one that h11
   and llhttp read alike. Any other is read by h11; llhttp must accept what h11 made of it.
2. llhttp sees one header section, whole, and nothing behind it: it cannot be told that an answer has no body, and it
   does not say where it stopped. A parser costs 0.4 us, so each section has its own.
3. From the last chunk on, a body is fed in pieces that end wherever it may end: llhttp never sees what is behind it.
4. Where h11 is the stricter one about chunks (their sizes), so is this codec. Trailers go to h11.
"""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING

import httptools

from pooltransport.errors import RemoteProtocolError

from . import plain_head
from .codec import forgotten
from .h11_codec import SLACK, H11Codec, invalid

if TYPE_CHECKING:
    from .codec import Head

_SWITCHING_PROTOCOLS = 101
_FIRST_PRINTABLE = 0x21
# What is no chunk's size to h11, up to the first byte that makes it so: 21 digits, or blanks before an extension
# (behind a size alone both let blanks stand, as old servers send them); and what may be the size of the last chunk.
_LOOK = re.compile(rb"\r\n(?:(?=(0[0-9A-Fa-f]{20}|[0-9A-Fa-f]{1,20}[ \t]{1,31}+[ \t;]))|(?=(0{1,20}(?:[ \t;]|\r\n))))")
_PLAIN_END = b"\r\n0\r\n\r\n"
_BODY_END = b"\r\n\r\n"
_TAIL = 53  # the longest of what `_LOOK` finds, but for its last byte

_Fields = list[tuple[bytes, bytes]]


class HttptoolsCodec:
    """`Http1Codec` on httptools; `limit` bounds what it buffers before it gives up, in bytes."""

    __slots__ = ("_body", "_buffer", "_final", "_limit", "_method", "_searched", "_trailers")

    name = "httptools"

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._method = ""
        self._buffer: bytes | bytearray | None = None  # what was fed and not used; None where there is no response
        self._searched = 0  # no header section ends before it
        self._final = False  # the final header was given
        self._body: _Chunks | None = None
        self._trailers: _Fields = []

    def begin(self, method: str) -> None:
        self._method = method
        self._buffer = b""
        self._searched = 0
        self._final = False
        self._body = None
        self._trailers = []

    def feed(self, data: bytes) -> None:
        buffer = self._buffer
        if not buffer:
            if buffer is None:
                raise forgotten()
            self._buffer = data
        elif isinstance(buffer, bytearray):
            buffer += data
        else:
            self._buffer = bytearray(buffer)  # to which many small pieces are added at the cost of what they are
            self._buffer += data

    def next_head(self) -> Head | None:
        buffer = self._live()
        if self._final:
            raise RemoteProtocolError("expected a response header, the parser has seen the final one")
        found = plain_head.SECTION_END.search(buffer, self._searched)
        if found is None:
            self._check_unfinished(buffer)
            return None
        end = found.end()
        section = bytes(buffer[:end])
        head = self._plain(section) or self._odd(section)
        self._buffer = bytes(buffer[end:])
        self._searched = 0
        self._final = head.status >= 200 or head.status == _SWITCHING_PROTOCOLS
        return head

    def unused(self) -> int:
        return len(self._live())

    def take_rest(self) -> bytes:
        rest, self._buffer, self._body = self._live(), None, None
        return bytes(rest)

    def next_chunk(self) -> bytes | None:
        buffer, body = self._live(), self._body
        if body is None:
            raise RemoteProtocolError("expected a chunk, the parser saw no chunked body")
        if buffer and not body.pieces and body.error is None and not body.done:
            self._buffer = body.feed(bytes(buffer))
        if body.pieces:
            return body.pieces.popleft()
        if body.error is not None:
            raise invalid(body.error)
        if not body.done:
            return None
        self._body = None
        if body.fields:
            self._trailers = self._judged(body.fields)
        return b""

    def trailers(self) -> _Fields:
        return self._trailers

    # -- how ------------------------------------------------------------------------------------

    def _live(self) -> bytes | bytearray:
        if self._buffer is None:
            raise forgotten()
        return self._buffer

    def _check_unfinished(self, buffer: bytes | bytearray) -> None:
        self._searched = max(0, len(buffer) - 2)
        if buffer and buffer[0] < _FIRST_PRINTABLE:
            self._odd(bytes(buffer))  # which h11 refuses at once
        if len(buffer) > self._limit + SLACK:
            raise invalid("a header section without end")

    def _plain(self, section: bytes) -> Head | None:
        """Return the header if the section is of the plain shape (rule 1)."""
        plain = plain_head.read(section)
        if plain is None:
            return None
        if plain.coded:
            self._show(section, coded=True)  # llhttp is needed for what follows
        return plain.head

    def _odd(self, section: bytes) -> Head:
        """Return what h11 reads, if llhttp accepts the same written plainly.

        Content-Length is left out there: llhttp knows one way to write it, and the exchange judges it anyway. At a 101
        llhttp would stop in a way of its own.
        """
        h11 = H11Codec(self._limit)
        h11.begin(self._method)
        h11.feed(section)
        head = h11.next_head()
        if head is None:
            raise invalid("a header section without end")
        # What is above 1.1 speaks as 1.1 does (RFC 9110 section 2.5).
        minor, reason = head.version > "1.0", head.reason.encode("latin-1")
        status = 100 if head.status == _SWITCHING_PROTOCOLS else head.status
        lines = [b"HTTP/1.%d %03d %b" % (minor, status, reason)]
        lines += [b"%b: %b" % field for field in head.headers if field[0].lower() != b"content-length"]
        coded = any(name.lower() == b"transfer-encoding" for name, _ in head.headers)
        self._show(b"\r\n".join(lines) + b"\r\n\r\n", coded=coded)
        return head

    def _show(self, section: bytes, *, coded: bool) -> _Fields:
        """Return the fields that llhttp sees in a header section. Raises for one that it refuses."""
        sink = _ChunkSink() if coded else _Sink()
        parser = httptools.HttpResponseParser(sink)
        if coded:
            # The second is about trailers: what comes here has no length beside the coding.
            parser.set_dangerous_leniencies(lenient_spaces_after_chunk_size=True, lenient_chunked_length=True)
        try:
            parser.feed_data(section)
        except httptools.HttpParserError as error:
            raise invalid(str(error)) from error.with_traceback(None)
        fields = sink.fields
        self._body = None
        if isinstance(sink, _ChunkSink):
            sink.fields = []  # trailers are to come
            self._body = _Chunks(parser, sink)
        return fields

    def _judged(self, fields: _Fields) -> _Fields:
        """Return trailers as h11 reads them."""
        h11 = H11Codec(self._limit)
        h11.begin("GET")
        lines = [b"%b: %b\r\n" % field for field in fields]
        h11.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"".join(lines) + b"\r\n")
        h11.next_head()
        if h11.next_chunk() != b"":
            raise invalid("bad trailers")
        return h11.trailers()


class _Sink:
    """What llhttp calls. It is not the codec, which has the parser: that would be a cycle."""

    __slots__ = ("fields",)

    def __init__(self) -> None:
        self.fields: _Fields = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))


class _ChunkSink(_Sink):
    __slots__ = ("chunks", "done", "on_body", "pieces")

    def __init__(self) -> None:
        self.fields = []
        self.pieces: deque[bytes] = deque()
        self.on_body = self.pieces.append
        self.chunks = 0
        self.done = False

    def on_chunk_complete(self) -> None:
        self.chunks += 1

    def on_message_complete(self) -> None:
        self.done = True


class _Chunks:
    """One chunked body. `pieces` have come and not been asked for; `error` is what comes behind them."""

    __slots__ = ("_last", "_parser", "_sink", "_tail", "error", "pieces")

    def __init__(self, parser: httptools.HttpResponseParser, sink: _ChunkSink) -> None:
        self._parser = parser
        self._sink = sink
        self._tail = b"\r\n"  # what the parser was given last; the first size stands on a line of its own, too
        self._last = False  # the last chunk has begun: trailers and the end are to come
        self.pieces = sink.pieces
        self.error: str | None = None

    @property
    def done(self) -> bool:
        return self._sink.done

    @property
    def fields(self) -> _Fields:
        return self._sink.fields

    def feed(self, data: bytes) -> bytes:
        """Give `data` to the parser; return what is behind the end of the body."""
        window = self._tail + data
        told = 0
        found = None if self._last else _LOOK.search(window)
        # The plain end of a body, and nothing behind it, needs no closer look.
        if found is not None and not (found.start() == len(window) - len(_PLAIN_END) and window.endswith(_PLAIN_END)):
            told = self._look_closer(window, data)
        if self._last:
            told = self._tell_to_end(window, data, told)
        else:
            self._tell(data[told:])
            told = len(data)
        self._tail = window[-_TAIL:]
        return data[told:]

    def _look_closer(self, window: bytes, data: bytes) -> int:
        """Tell the parser of sizes byte by byte, until the last chunk. Return how much of `data` it was told."""
        before = len(window) - len(data)
        told = 0
        for found in _LOOK.finditer(window):
            is_bad = found.group(1) is not None
            cut = found.end(1 if is_bad else 2) - before
            if cut <= told:
                continue
            # The last byte goes alone, to see whether it is data, or ends that of a chunk.
            self._tell(data[told : cut - 1])
            count = len(self.pieces), self._sink.chunks
            self._tell(data[cut - 1 : cut])
            told = cut
            if (len(self.pieces), self._sink.chunks) == count and self.error is None:
                if is_bad:
                    self.error = "illegal chunk header"
                self._last = True
                break
        return told

    def _tell_to_end(self, window: bytes, data: bytes, told: int) -> int:
        """Tell the parser the rest in pieces that end where the body may end. Return how much it was told."""
        before = len(window) - len(data)
        end = window.find(_BODY_END, max(0, before + told - 3))
        while end >= 0 and not self.done and self.error is None:
            cut = end + len(_BODY_END) - before
            if cut > told:
                self._tell(data[told:cut])
                told = cut
            end = window.find(_BODY_END, end + 2)
        if not self.done:
            self._tell(data[told:])
            told = len(data)
        return told

    def _tell(self, data: bytes) -> None:
        if not data or self.error is not None:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.error = str(error)
