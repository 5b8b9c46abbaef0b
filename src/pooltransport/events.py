"""Server-sent events out of the lines of a body (WHATWG HTML, section 9.2.6). No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .errors import DecodingError

if TYPE_CHECKING:
    from .headers import Headers


class ServerSentEvent(NamedTuple):
    """One event of a ``text/event-stream``.

    `event`: its type, ``message`` if the server named none. `data`: its lines, joined by LF. `id`: the last one that
    the server gave, of this event or one before; for the ``Last-Event-ID`` of who connects again. `retry`: how long
    to wait before that, in milliseconds, if the server has said so.
    """

    event: str
    data: str
    id: str
    retry: int | None

    def json(self) -> object:
        """Return `data` parsed as JSON. Raises `ValueError`."""
        import json  # noqa: PLC0415 - only who asks pays for it

        return json.loads(self.data)


class EventParser:
    """Takes lines without their ends, gives events."""

    __slots__ = ("_data", "_event", "_first", "_id", "_retry")

    def __init__(self) -> None:
        self._event = ""
        self._data: list[str] = []
        self._id = ""
        self._retry: int | None = None
        self._first = True

    def put(self, line: str) -> ServerSentEvent | None:
        """Take a line; return the event that it ends, if any. What the end of the body cuts off is none."""
        if self._first:
            self._first = False
            line = line.removeprefix("\ufeff")
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit() and len(value) < 16:
            self._retry = int(value)
        return None

    def _dispatch(self) -> ServerSentEvent | None:
        event, self._event = self._event, ""
        data, self._data = self._data, []
        return ServerSentEvent(event or "message", "\n".join(data), self._id, self._retry) if data else None


def check_event_stream(headers: Headers, origin: str) -> None:
    """Raise `DecodingError` unless the body is an event stream: of an error page no event would ever come."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "text/event-stream":
        raise DecodingError(f"{origin}: the body is {kind or 'of no named type'}, not text/event-stream")
