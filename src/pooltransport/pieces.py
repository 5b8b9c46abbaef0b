"""What both colours of `Response` do with bytes that have come: collect, cut into pieces, cut into lines."""

from __future__ import annotations

from typing import Any

from .errors import ReadError


def parse_json(content: bytes, kwargs: dict[str, Any]) -> Any:
    """Return `content` parsed; `kwargs` are those of `json.loads`."""
    import json  # noqa: PLC0415 - only who asks pays for it

    return json.loads(content, **kwargs)


def charset_of(content_type: str) -> str:
    """Return the charset that a Content-Type names, else UTF-8 (RFC 9110 section 8.3.2)."""
    for part in content_type.split(";")[1:]:
        name, _, value = part.strip().partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip("\"'") or "utf-8"
    return "utf-8"


class Parts:
    """Collects a whole body, up to a bound."""

    __slots__ = ("_most", "_origin", "_parts", "_size")

    def __init__(self, most: int | None, origin: str) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._most = most
        self._origin = origin

    def add(self, data: bytes) -> bool:
        """Keep `data`; report whether there is more to come. Raises `ReadError` above the bound."""
        self._parts.append(data)
        self._size += len(data)
        if self._most is not None and self._size > self._most:
            raise ReadError(f"{self._origin}: the body is larger than {self._most} bytes (max_body_bytes)")
        return bool(data)

    def join(self) -> bytes:
        """Return all of it."""
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)


class Rechunker:
    """Cuts pieces of one size out of what comes; with no size, what comes."""

    __slots__ = ("_buffer", "_size")

    def __init__(self, size: int | None) -> None:
        if size is not None and size < 1:
            raise ValueError(f"chunk size {size!r}: give a number of bytes of 1 or more, or None")
        self._size = size
        self._buffer = bytearray()

    def next_ready(self) -> bytes:
        """Return a whole piece that is there already, or ``b""``."""
        if self._size is None or len(self._buffer) < self._size:
            return b""
        piece = bytes(self._buffer[: self._size])
        del self._buffer[: self._size]
        return piece

    def put(self, data: bytes) -> bytes:
        """Take what came (``b""`` at the end); return a piece, or ``b""`` if there is none yet."""
        if self._size is None:
            return data
        if data:
            self._buffer += data
            return self.next_ready()
        piece = bytes(self._buffer)
        self._buffer.clear()
        return piece


class Lines:
    """Cuts lines out of text that comes in pieces; ends: LF, CR LF, CR (as `str.splitlines` for these).

    A CR ends its line at once: an event must not wait for the one after it. An LF that follows is then its other half.
    """

    __slots__ = ("_after_cr", "_begun", "_decoder", "_lines")

    def __init__(self, charset: str) -> None:
        import codecs  # noqa: PLC0415 - only who asks pays for it

        try:
            self._decoder = codecs.getincrementaldecoder(charset)("replace")
        except LookupError:
            self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._begun: list[str] = []  # parts of a line without its end: joined once, or a long one costs its square
        self._lines: list[str] = []
        self._after_cr = False

    def pop(self) -> str | None:
        """Return the next whole line, or None."""
        return self._lines.pop() if self._lines else None

    def put(self, data: bytes) -> bool:
        """Take what came (``b""`` at the end); report whether that was before the end."""
        text = self._decoder.decode(data, final=not data)
        if text:
            if self._after_cr:
                text = text.removeprefix("\n")
            self._after_cr = text.endswith("\r")
        rows = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._begun.append(rows[0])
        if len(rows) > 1 or not data:
            rows[0] = "".join(self._begun)
            last = rows.pop()
            self._begun = [last] if data and last else []
            if not data and last:
                rows.append(last)
            self._lines = rows[::-1] + self._lines
        return bool(data)
