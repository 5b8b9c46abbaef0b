"""Transparent gzip (Go: Transport, GZIP rows): decoded on the way to the caller, streamed and bounded."""

from __future__ import annotations

import zlib

from .errors import DecodingError

_STEP = 1_048_576  # so much comes out in one piece: a few bytes of a bomb must not fill the memory at once
_FREE = 104_857_600
_MOST_TIMES = 1000  # deflate reaches 1,032; real content stays far below


class GzipDecoder:
    """One gzip stream (RFC 1952), perhaps of several members. `most` bounds what comes out, in bytes; None: 100 MiB
    and 1,000 times what went in.
    """

    __slots__ = ("_inflate", "_more", "_most", "_waiting", "bytes_in", "bytes_out")

    def __init__(self, most: int | None) -> None:
        self._inflate = _new_member()
        self._waiting = b""
        self._more = False  # output is left inside
        self._most = most
        self.bytes_in = self.bytes_out = 0

    def put(self, data: bytes) -> None:
        """Take wire bytes; ``b""`` is their end. Raises `DecodingError` if that comes too early."""
        self._waiting += data
        self.bytes_in += len(data)
        if not data and not self._inflate.eof and self.bytes_in:
            raise DecodingError(f"the gzip stream ended too early, after {self.bytes_in} bytes")

    def take(self) -> bytes:
        """Return decoded bytes, ``b""`` when more input is needed. Raises `DecodingError` for what is no gzip, and for
        more than the bound.
        """
        while self._waiting or self._more:
            if self._inflate.eof:  # another member, or something else behind the last one
                self._inflate = _new_member()
            try:
                piece = self._inflate.decompress(self._waiting, _STEP)
            except zlib.error as error:
                raise DecodingError(f"broken gzip within the first {self.bytes_in} bytes: {error}") from error
            ended = self._inflate.eof
            self._waiting = self._inflate.unused_data if ended else self._inflate.unconsumed_tail
            self._more = not ended and len(piece) == _STEP
            if piece:
                self.bytes_out += len(piece)
                self._check()
                return piece
        return b""

    def _check(self) -> None:
        most = _FREE + _MOST_TIMES * self.bytes_in if self._most is None else self._most
        if self.bytes_out > most:
            raise DecodingError(
                f"the body grew to {self.bytes_out} bytes out of {self.bytes_in} (max_decoded_bytes: {most})"
            )


def _new_member() -> zlib._Decompress:
    return zlib.decompressobj(wbits=31)
