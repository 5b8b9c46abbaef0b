"""The h11 codec.

h11 wants to be both sides of a conversation. It is told a minimal request of the same method, since
that is all that the framing of the answer depends on; what really goes out is written by `request`.
"""

from __future__ import annotations

import h11

from pooltransport.errors import RemoteProtocolError

from .codec import Head, forgotten

# What a codec buffers above the limit that the exchange counts exactly: more than any one read, asyncio's are of up
# to 256 KiB. So it is the exchange's error that is seen, which names the setting.
SLACK = 524_288

_END = h11.EndOfMessage()
# Always a proposal to upgrade, so that h11 takes a 101 whatever was asked for: what follows is the exchange's business.
_PROPOSAL = [("Host", ""), ("Connection", "upgrade"), ("Upgrade", "any")]
_requests: dict[str, h11.Request] = {}


class H11Codec:
    """`Http1Codec` on h11; `limit` bounds what it buffers before it gives up, in bytes."""

    __slots__ = ("_connection", "_limit", "_trailers")

    name = "h11"

    def __init__(self, limit: int) -> None:
        self._limit = limit + SLACK
        self._connection: h11.Connection | None = None
        self._trailers: list[tuple[bytes, bytes]] = []

    def begin(self, method: str) -> None:
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=self._limit)
        request = _requests.get(method)
        if request is None:
            request = h11.Request(method=method, target="/", headers=_PROPOSAL)
            if len(_requests) < 64:
                _requests[method] = request
        connection.send(request)
        connection.send(_END)
        self._connection = connection
        self._trailers = []

    def feed(self, data: bytes) -> None:
        self._live().receive_data(data)

    def next_head(self) -> Head | None:
        try:
            event = self._live().next_event()
        except h11.RemoteProtocolError as error:
            # h11 raises it out of a method of its own, whose frame is in the traceback: a cycle.
            raise _translate(error) from error.with_traceback(None)
        if event is h11.NEED_DATA:
            return None
        if isinstance(event, (h11.Response, h11.InformationalResponse)):
            return Head(
                event.status_code,
                bytes(event.reason).decode("latin-1"),
                event.http_version.decode("ascii"),
                event.headers.raw_items(),
            )
        raise RemoteProtocolError(f"expected a response header, the parser saw {type(event).__name__}")

    def unused(self) -> int:
        return len(self._live().trailing_data[0])

    def take_rest(self) -> bytes:
        connection, self._connection = self._live(), None
        return bytes(connection.trailing_data[0])

    def next_chunk(self) -> bytes | None:
        try:
            event = self._live().next_event()
        except h11.RemoteProtocolError as error:
            # h11 raises it out of a method of its own, whose frame is in the traceback: a cycle.
            raise _translate(error) from error.with_traceback(None)
        if event is h11.NEED_DATA:
            return None
        if isinstance(event, h11.Data):
            return bytes(event.data) or self.next_chunk()
        if isinstance(event, h11.EndOfMessage):
            self._trailers = event.headers.raw_items()
            return b""
        raise RemoteProtocolError(f"expected a chunk, the parser saw {type(event).__name__}")

    def trailers(self) -> list[tuple[bytes, bytes]]:
        return self._trailers

    def _live(self) -> h11.Connection:
        if self._connection is None:
            raise forgotten()
        return self._connection


def _translate(error: h11.RemoteProtocolError) -> RemoteProtocolError:
    return invalid(str(error))


def invalid(what: str) -> RemoteProtocolError:
    """Return the error for an answer that a parser refuses."""
    return RemoteProtocolError(f"the server's answer is not valid HTTP/1.1: {what[:200]}")
