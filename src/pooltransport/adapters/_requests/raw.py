"""`response.raw`: urllib3's response, whose bytes come from ours.

Rules:

1. It is a real `urllib3.HTTPResponse`: decoding, `read`, `tell`, `data` and what else users find there are urllib3's
   own. Only where the bytes come from, and when a piece is given, is ours.
2. A piece is given as soon as it has come: nobody who reads a feed waits until a buffer is full.
3. Nothing closes it when it is collected, as `io` objects do by themselves: a response that nobody closed is to be
   reported, by the guard behind it.
"""

from __future__ import annotations

from http.client import HTTPMessage
from typing import TYPE_CHECKING, Any

from urllib3 import HTTPHeaderDict, HTTPResponse
from urllib3 import exceptions as below

from pooltransport.errors import Error

from .errors import of_the_body

if TYPE_CHECKING:
    from collections.abc import Generator

    from pooltransport.iterators import ByteIterator
    from pooltransport.response import Response

_FREE = 104_857_600  # the default of `max_decoded_bytes` (contract 4.5)
_MOST_TIMES = 1000


class Wire:
    """What urllib3 takes for the response of `http.client`: the body's bytes, as they came."""

    def __init__(self, response: Response) -> None:
        self.response = response
        self._pieces: ByteIterator | None = None
        self._rest = b""  # of a piece that was not wanted whole
        self._closed = False
        self._message: HTTPMessage | None = None

    @property
    def msg(self) -> HTTPMessage:
        """The header fields as `http.client` has them: where requests looks for cookies."""
        if self._message is None:
            self._message = message = HTTPMessage()
            for name, value in self.response.headers.multi_items():
                message[name] = value
        return self._message

    def read1(self, amt: int = -1) -> bytes:
        """Return what has come, `amt` bytes of it at most; waits only if nothing has. ``b""`` is the end."""
        data = self._rest or self._next()
        if 0 <= amt < len(data):
            self._rest = data[amt:]
            return data[:amt]
        self._rest = b""
        return data

    def read(self, amt: int | None = None) -> bytes:
        """Return `amt` bytes, fewer at the end; None: all that there is."""
        parts: list[bytes] = []
        left = -1 if amt is None or amt < 0 else amt
        while left and (data := self.read1(left)):
            parts.append(data)
            left -= len(data) if left > 0 else 0
        return b"".join(parts)

    def _next(self) -> bytes:
        if self._closed:
            return b""
        try:
            if self._pieces is None:
                if self.response.stream is not None:
                    return b""  # after an upgrade there is no body
                self._pieces = self.response.iter_raw()
            return next(self._pieces, b"")
        except Error as error:
            raise of_the_body(error) from error

    def close(self) -> None:
        """Let the connection go; what is left is drained within bounds."""
        self._closed = True
        self._rest = b""
        self.response.close()

    def isclosed(self) -> bool:
        """Report whether there is nothing to read any more."""
        return self._closed or (self.response.is_closed and not self._rest)

    @property
    def closed(self) -> bool:
        """As `isclosed`, for `io`."""
        return self.isclosed()

    def flush(self) -> None:
        """Nothing is written here."""


class RawResponse(HTTPResponse):
    """As urllib3's. `inner` is the `pooltransport.Response` behind it, with `conn` and `trailers`."""

    def __init__(self, response: Response, method: str | None, options: Any, *, read_all: bool) -> None:
        self.inner = response
        self._decoded = 0
        self._most_decoded: int | None = getattr(options, "max_decoded_bytes", None)
        self._most: int | None = getattr(options, "max_body_bytes", None) if read_all else None
        wire: Any = Wire(response)
        super().__init__(
            body=wire,
            headers=HTTPHeaderDict(response.headers.multi_items()),
            status=response.status_code,
            version=10 if response.http_version == "HTTP/1.0" else 11,
            reason=response.reason,
            preload_content=False,
            decode_content=False,
            original_response=wire,
            request_method=method,
            request_url=str(response.url),
        )
        self.version_string = response.http_version
        if response.is_closed:
            wire.close()  # no body: closed from the start, as `http.client` has it

    def stream(self, amt: int | None = 65_536, decode_content: bool | None = None) -> Generator[bytes, None, None]:
        """Give the body in pieces of `amt` bytes at most, each as soon as it has come (None: as they come)."""
        given = 0
        while amt != 0:
            data = self.read1(amt, decode_content)
            if not data:
                return
            given += len(data)
            if self._most is not None and given > self._most:
                self.close()
                raise below.ProtocolError(
                    f"{self.inner.url.origin}: the body is larger than {self._most} bytes (max_body_bytes)"
                )
            yield data

    def _decode(self, *args: Any, **kwargs: Any) -> bytes:
        data = super()._decode(*args, **kwargs)
        if self._decoder is not None and self._has_decoded_content:
            self._decoded += len(data)
            wire = self.tell()
            most = _FREE + _MOST_TIMES * wire if self._most_decoded is None else self._most_decoded
            if self._decoded > most:
                self.close()
                raise below.DecodeError(
                    f"the body grew to {self._decoded} bytes out of {wire} (max_decoded_bytes: {most})"
                )
        return data

    def release_conn(self) -> None:
        """Let the connection go. Read to its end it went by itself; else what is left is drained within bounds."""
        if not self.closed:
            self.close()

    def close(self) -> None:
        """As `release_conn`; but not when the collector calls, which `io` objects do by themselves (rule 3)."""
        if not getattr(self, "_finalizing", False):
            super().close()
