"""One HTTP/1.1 exchange: what the answer is, where it ends, whether the connection may be reused.

Rules (RFC 9112 sections 6 and 9, contract section 8):

1. The exchange decides the framing itself, whatever the codec: none (HEAD, 204, 304), by length,
   chunked, until close. Content-Length together with Transfer-Encoding is an error.
2. Header bytes of all 1xx and of the final response are bounded together.
3. A connection may be used again only at a message boundary, with nothing left in the buffer, when
   neither side said close, the body was not delimited by close, and the request was sent whole.
4. After any error the exchange is of no use, and `reusable` is False.
5. What a chunked body costs beside its data is bounded (Go FRAME-15): 16 bytes for each piece and twice
   the data are free, `_MOST_OVERHEAD` more are an error. Trailers count as well.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from pooltransport.errors import IncompleteBody, RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Collection

    from .codec import Head, Http1Codec, RawHeaders

_SWITCHING_PROTOCOLS = 101
_MOST_OVERHEAD = 16_384
_FREE_FOR_EACH_PIECE = 16
# Lengths of 2**63 and more are nonsense that others would see as negative (Go FRAME-11).
_TOO_LONG = 1 << 63
_MOST_DIGITS = 19


class Framing(Enum):
    """How the end of a body is found."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    UNTIL_CLOSE = "until_close"


class Exchange:
    """The response half of one exchange. `method` is the request's; `close_sent` that it said close."""

    __slots__ = (
        "_ahead",
        "_codec",
        "_fed",
        "_head_done",
        "_keep_alive",
        "_limit",
        "_method",
        "_overhead",
        "_pending",
        "coded",
        "complete",
        "framing",
        "hint_max",
        "hint_timeout",
        "left",
        "request_sent",
        "trailers",
        "upgraded",
    )

    def __init__(self, codec: Http1Codec, method: str, limit: int, *, close_sent: bool = False) -> None:
        self._codec = codec
        self._method = method
        self._limit = limit
        self._fed = 0
        self._head_done = False
        self._keep_alive = not close_sent and method != "CONNECT"  # refused or not (Go KA-12)
        self._pending = b""
        self._ahead: bytes | RemoteProtocolError | None = None  # what comes behind the chunk given last
        self._overhead = 0  # bytes of a chunked body fed, less those of its data and what is free
        self.framing = Framing.NONE
        self.coded: bytes | None = None  # what Content-Encoding says, if there is a body
        self.left: int | None = None  # bytes of the body still to come, where that is known
        self.complete = False
        self.request_sent = False
        self.trailers: RawHeaders = []
        self.upgraded = False  # the connection carries another protocol from here on; `take_rest` has its first bytes
        self.hint_timeout: float | None = None
        self.hint_max: int | None = None
        codec.begin(method)

    @property
    def started(self) -> bool:
        """Report whether any byte of the response has come."""
        return self._fed > 0

    @property
    def reusable(self) -> bool:
        """Report whether the connection may carry another exchange (rule 3)."""
        return self.complete and self._keep_alive and self.request_sent and not self._pending

    @property
    def may_be_reusable(self) -> bool:
        """Report whether reading the rest of the body could make it `reusable`."""
        if self.complete:
            return False  # there is no rest
        return self._keep_alive and self.request_sent and self.framing is not Framing.UNTIL_CLOSE

    @property
    def wants_close(self) -> bool:
        """Report whether one side said that this is the connection's last exchange."""
        return not self._keep_alive

    @property
    def has_surplus(self) -> bool:
        """Report whether bytes came behind the end of the response."""
        return self.complete and bool(self._pending)

    def feed(self, data: bytes) -> None:
        """Take bytes from the wire (not empty)."""
        self._fed += len(data)
        if not self._head_done:
            self._codec.feed(data)
        elif self.framing is Framing.CHUNKED:
            self._overhead += len(data)
            self._codec.feed(data)
        else:
            self._pending = self._pending + data if self._pending else data

    def next_head(self) -> Head | None:
        """Return the next 1xx or the final header, or None if more bytes are needed.

        Raises `RemoteProtocolError` for what is no HTTP, for more header bytes than the limit, and
        for a header that does not say where the message ends.
        """
        head = self._codec.next_head()
        if head is None:
            if self._fed > self._limit:
                raise self._too_long()
            return None
        # Some of what was fed may be body: only what the headers used counts.
        if self._fed > self._limit and self._fed - self._codec.unused() > self._limit:
            raise self._too_long()
        if head.status >= 200 or head.status == _SWITCHING_PROTOCOLS:
            self._finish_head(head)
        return head

    def _too_long(self) -> RemoteProtocolError:
        return RemoteProtocolError(
            f"the server's response headers exceeded {self._limit} bytes (max_response_header_bytes)"
        )

    def _finish_head(self, head: Head) -> None:
        fields = _interesting(head.headers)
        self._decide_keep_alive(head, fields)
        self.framing, self.left = framing, _ = self._framing(head, fields)
        if framing is not Framing.CHUNKED:
            self._pending = self._codec.take_rest()
        self._head_done = True
        if framing is Framing.NONE:
            self.complete = True
            return
        self.coded = fields.get(b"content-encoding")
        if self.left == 0:
            self.complete = True

    def _framing(self, head: Head, fields: dict[bytes, bytes]) -> tuple[Framing, int | None]:
        coding, length = fields.get(b"transfer-encoding"), fields.get(b"content-length")
        if coding is None and length is not None and head.status in _USUAL and self._method in _USUAL_METHODS:
            return Framing.LENGTH, _checked(length)
        if self._method == "HEAD" or head.status in (204, 304):
            return Framing.NONE, 0
        if head.status == _SWITCHING_PROTOCOLS or (self._method == "CONNECT" and head.status < 300):
            # Content-Length and Transfer-Encoding mean nothing here (RFC 9110 section 9.3.6).
            self._keep_alive = False
            self.upgraded = self._method == "CONNECT" or _switches(head)
            return Framing.NONE, 0
        if coding is not None and length is not None:
            raise RemoteProtocolError(
                "the response has both Content-Length and Transfer-Encoding: its end cannot be trusted"
            )
        if coding is not None and head.version > "1.0":
            return Framing.CHUNKED, None
        if length is not None:
            return Framing.LENGTH, _checked(length)
        self._keep_alive = False
        return Framing.UNTIL_CLOSE, None

    def _decide_keep_alive(self, head: Head, fields: dict[bytes, bytes]) -> None:
        connection = fields.get(b"connection")
        tokens: Collection[bytes] = ()
        if connection is not None:
            tokens = {token.strip() for token in connection.lower().split(b",")}
        # Both numbers of a version are one digit. What is above 1.1 speaks as 1.1 does (Go KA-08).
        old = head.version < "1.0" or (
            head.version == "1.0" and (b"keep-alive" not in tokens or b"transfer-encoding" in fields)
        )
        if old or b"close" in tokens:
            self._keep_alive = False
        hint = fields.get(b"keep-alive")
        if hint is not None:
            self.hint_timeout, self.hint_max = parse_keep_alive(hint)

    def take_rest(self) -> bytes:
        """Return the bytes that came behind the header, which belong to the protocol it `upgraded` to."""
        rest, self._pending = self._pending, b""
        return rest

    def next_data(self) -> bytes | None:
        """Return body bytes, ``b""`` when the body is complete, None if more bytes are needed."""
        if self.complete:
            return b""
        if self.framing is Framing.CHUNKED:
            return self._next_chunk()
        data = self._pending
        if not data:
            return None
        self._pending = b""
        if self.left is None:
            return data
        if len(data) > self.left:
            data, self._pending = data[: self.left], data[self.left :]
        self.left -= len(data)
        if self.left == 0:
            self.complete = True
        return data

    def take_whole(self) -> bytes | None:
        """Return the whole body, if its length is known and no byte of it was given yet and all have come; else None."""
        data, left = self._pending, self.left
        if self.complete or left is None or len(data) < left:
            return None
        if len(data) > left:
            data, self._pending = data[:left], data[left:]
        else:
            self._pending = b""
        self.left = 0
        self.complete = True
        return data

    def _next_chunk(self) -> bytes | None:
        """Return a chunk. The next one is looked at, so that an end that came with it is known (Go POOL-11)."""
        data, self._ahead = self._ahead, None
        if data is None:
            data = self._from_codec()
        if isinstance(data, RemoteProtocolError):
            raise data
        if data:
            try:
                self._ahead = self._from_codec()
            except RemoteProtocolError as error:
                self._ahead = error  # the bytes before it are good
        return data

    def _from_codec(self) -> bytes | None:
        data = self._codec.next_chunk()
        if data:
            free = 3 * len(data) + _FREE_FOR_EACH_PIECE
            self._overhead = max(self._overhead - free, 0)
        elif data is None:
            # All that was fed is seen: what is left over is no data, and no data is behind it.
            if self._overhead > _MOST_OVERHEAD:
                raise RemoteProtocolError(
                    f"the chunked body has more than {_MOST_OVERHEAD} bytes that are not data: "
                    "chunk extensions or trailers without measure"
                )
        else:
            self.complete = True
            self.left = 0
            self.trailers = self._codec.trailers()
            self._pending = self._codec.take_rest()
        return data

    def end_of_stream(self, bytes_read: int, *, cut_off: bool = False) -> None:
        """Take the end of the connection inside the body: the clean end of one until close.

        Raises `IncompleteBody` where the framing says that more should have come, and where nothing but
        the end itself says that it is all, and that was `cut_off`: TLS ended without close_notify, as
        anybody on the way can make it do (RFC 9112 section 9.8).
        """
        if self.framing is Framing.UNTIL_CLOSE:
            if cut_off:
                raise IncompleteBody(
                    "the connection ended without TLS's close_notify, and nothing else says where the body ends: "
                    f"after {bytes_read} bytes it may have been cut off",
                    bytes_read=bytes_read,
                )
            self.complete = True
            self.left = 0
            return
        if self.left is not None:
            expected = bytes_read + self.left
            raise IncompleteBody(
                f"the server closed the connection after {bytes_read} of {expected} body bytes",
                bytes_read=bytes_read,
                bytes_expected=expected,
            )
        raise IncompleteBody(
            f"the server closed the connection inside a chunked body, after {bytes_read} bytes",
            bytes_read=bytes_read,
        )


# Where nothing but the fields says how long the body is.
_USUAL = frozenset((200, 201, 202, 206, 301, 302, 400, 401, 403, 404, 409, 422, 429, 500, 502, 503))
_USUAL_METHODS = frozenset(("GET", "POST", "PUT", "DELETE", "PATCH"))
_FIELDS = frozenset((b"content-length", b"transfer-encoding", b"connection", b"keep-alive", b"content-encoding"))
_LENGTHS = frozenset(map(len, _FIELDS))


def _checked(length: bytes) -> int:
    """Return what a Content-Length says."""
    if not length.isdigit() or len(length) > _MOST_DIGITS or (number := int(length)) >= _TOO_LONG:
        raise RemoteProtocolError(f"bad Content-Length {length[:40]!r}")
    return number


def _switches(head: Head) -> bool:
    """Report whether a 101 says to what it switches; one that does not only ends the connection (Go UPG-01)."""
    fields: dict[bytes, bytes] = {}
    for name, value in head.headers:
        fields[name.lower()] = fields.get(name.lower(), b"") + b"," + value
    tokens = {token.strip() for token in fields.get(b"connection", b"").lower().split(b",")}
    return b"upgrade" in fields and b"upgrade" in tokens


def _interesting(headers: RawHeaders) -> dict[bytes, bytes]:
    """Return the fields that an exchange depends on; repeated ones joined, as a list field is."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        # First a look at the length: most fields are not among the five.
        if len(name) in _LENGTHS and (lower := name.lower()) in _FIELDS:
            if lower in found:
                value = found[lower] + b"," + value  # noqa: PLW2901 - joined
            found[lower] = value
    length = found.get(b"content-length")
    if length is not None and b"," in length:
        values = {part.strip() for part in length.split(b",")}
        if len(values) > 1:
            raise RemoteProtocolError(f"the response has different Content-Length values: {length[:60]!r}")
        found[b"content-length"] = values.pop()
    return found


def parse_keep_alive(value: bytes) -> tuple[float | None, int | None]:
    """Return the ``timeout`` and ``max`` of a Keep-Alive field; nonsense is ignored, it is a hint."""
    timeout: float | None = None
    most: int | None = None
    for part in value.split(b","):
        name, _, number = part.strip().partition(b"=")
        number = number.strip(b' "')
        if number.isdigit() and len(number) < 10:
            if name.strip().lower() == b"timeout":
                timeout = float(number)
            elif name.strip().lower() == b"max":
                most = int(number)
    return timeout, most
