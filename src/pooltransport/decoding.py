"""Content codings taken off on the way to the caller: streamed, several in a row, and bounded (contract 4.5).

A decoder is pulled: `put` what came from the wire, then `take` until it gives nothing. No piece is larger than
`_STEP`, so the bytes of a bomb are counted before they are many.
"""

from __future__ import annotations

import zlib
from typing import Any, Protocol

from .errors import DecodingError

_STEP = 1_048_576  # so much comes out in one piece: a few bytes of a bomb must not fill the memory at once
_FREE = 104_857_600
_MOST_TIMES = 1000  # deflate reaches 1,032; real content stays far below


class Coding(Protocol):
    """One coding. `broken` is what its library raises."""

    name: str
    broken: type[Exception]

    def put(self, data: bytes) -> None: ...

    def take(self) -> bytes:
        """Return up to `_STEP` bytes, ``b""`` when more input is needed."""

    @property
    def is_ended(self) -> bool:
        """Whether what was put is whole."""


class ContentDecoder:
    """Takes off `codings`, given in the order they were applied. `most` bounds what each of them gives, in bytes;
    None: 100 MiB and 1,000 times what came from the wire.
    """

    __slots__ = ("_codings", "_given", "_most", "bytes_in")

    def __init__(self, codings: tuple[bytes, ...], most: int | None) -> None:
        self._codings: list[Coding] = [_MAKERS[coding]() for coding in reversed(codings)]
        self._given = [0] * len(codings)
        self._most = most
        self.bytes_in = 0

    def put(self, data: bytes) -> None:
        """Take wire bytes; ``b""`` is their end, to be put when `take` gave nothing. Raises `DecodingError` if that
        comes too early.
        """
        if data:
            self.bytes_in += len(data)
            self._codings[0].put(data)
        elif self.bytes_in:
            for coding in self._codings:
                if not coding.is_ended:
                    raise DecodingError(
                        f"the {coding.name} stream ended too early, after {self.bytes_in} bytes", offset=self.bytes_in
                    )

    def take(self) -> bytes:
        """Return decoded bytes, ``b""`` when more input is needed. Raises `DecodingError` for what is not in the
        coding it says, and for more than the bound.
        """
        return self._take(len(self._codings) - 1)

    def _take(self, place: int) -> bytes:
        coding = self._codings[place]
        while True:
            try:
                piece = coding.take()
            except coding.broken as error:
                raise DecodingError(
                    f"broken {coding.name} within the first {self.bytes_in} bytes: {error}", offset=self.bytes_in
                ) from error
            if piece:
                self._count(place, len(piece))
                return piece
            if not place or not (data := self._take(place - 1)):
                return b""
            coding.put(data)

    def _count(self, place: int, size: int) -> None:
        self._given[place] += size
        most = _FREE + _MOST_TIMES * self.bytes_in if self._most is None else self._most
        if self._given[place] > most:
            raise DecodingError(
                f"the body grew to {self._given[place]} bytes out of {self.bytes_in} (max_decoded_bytes: {most})",
                offset=self.bytes_in,
            )


class _Members:
    """A coding whose streams may stand one behind the other, and whose library has the interface of `bz2`."""

    __slots__ = ("_current", "_more", "_waiting", "broken", "name")

    def __init__(self, name: str, broken: type[Exception]) -> None:
        self.name = name
        self.broken = broken
        self._current: Any = None
        self._waiting = b""
        self._more = False  # output is left inside

    def put(self, data: bytes) -> None:
        self._waiting += data

    def take(self) -> bytes:
        while self._waiting or self._more:
            if self._current is None or self._current.eof:  # the first, another, or something else behind the last
                self._current = self._new()
            piece = self._step()
            if piece:
                return piece
        return b""

    @property
    def is_ended(self) -> bool:
        return self._current is None or self._current.eof

    def _new(self) -> Any:
        raise NotImplementedError

    def _step(self) -> bytes:
        raise NotImplementedError


class _Zlib(_Members):
    """RFC 1952; perhaps of several members."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("gzip", zlib.error)

    def _new(self) -> Any:
        return zlib.decompressobj(wbits=31)

    def _step(self) -> bytes:
        inflate: Any = self._current
        piece: bytes = inflate.decompress(self._waiting, _STEP)
        self._waiting = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
        self._more = not inflate.eof and len(piece) == _STEP
        return piece


class _Deflate(_Zlib):
    """RFC 1950 as RFC 9110 section 8.4.1.2 says, or the bare RFC 1951 that some servers send instead. What stands
    behind its end is nothing (as browsers have it).
    """

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()
        self.name = "deflate"

    def put(self, data: bytes) -> None:
        if self._current is None or not self._current.eof:
            super().put(data)

    def take(self) -> bytes:
        if self._current is None and len(self._waiting) < 2:
            return b""  # two bytes tell the one kind from the other
        return super().take()

    def _new(self) -> Any:
        first, second = self._waiting[:2]
        is_zlib = first & 0x0F == 8 and (first << 8 | second) % 31 == 0
        return zlib.decompressobj(wbits=15 if is_zlib else -15)

    def _step(self) -> bytes:
        piece: bytes = super()._step()
        if self._current.eof:
            self._waiting = b""
        return piece

    @property
    def is_ended(self) -> bool:
        return self._current is not None and self._current.eof


class _Zstd(_Members):
    """RFC 8878, with the window that RFC 9659 allows here: 8 MiB."""

    __slots__ = ("_options",)

    def __init__(self) -> None:
        import sys  # noqa: PLC0415 - mypy reads the version only so

        if sys.version_info >= (3, 14):
            from compression import zstd  # noqa: PLC0415 - loaded by who meets it
        else:
            from backports import zstd  # noqa: PLC0415 - loaded by who meets it

        super().__init__("zstd", zstd.ZstdError)
        self._options = (zstd.ZstdDecompressor, {int(zstd.DecompressionParameter.window_log_max): 23})

    def _new(self) -> Any:
        make, options = self._options
        return make(options=options)

    def _step(self) -> bytes:
        frame = self._current
        piece: bytes = frame.decompress(self._waiting, _STEP)
        self._waiting = frame.unused_data if frame.eof else b""
        self._more = not frame.eof and not frame.needs_input
        return piece


class _Brotli:
    """RFC 7932. Something behind its end is an error, as its library has it."""

    __slots__ = ("_brotli", "_waiting", "broken", "name")

    def __init__(self) -> None:
        import brotli  # noqa: PLC0415 - loaded by who meets it

        self.name = "br"
        self.broken: type[Exception] = brotli.error
        self._brotli: Any = brotli.Decompressor()
        self._waiting: list[bytes] = []

    def put(self, data: bytes) -> None:
        self._waiting.append(data)

    def take(self) -> bytes:
        decoder = self._brotli
        while not decoder.is_finished():
            # Where it could take more, it may still have something to give.
            data = self._waiting.pop(0) if self._waiting and decoder.can_accept_more_data() else b""
            piece: bytes = decoder.process(data, output_buffer_limit=_STEP)
            if piece:
                return piece
            if not data and not (self._waiting and decoder.can_accept_more_data()):
                break
        if self._waiting and decoder.is_finished():
            raise self.broken("there are bytes behind its end")
        return b""

    @property
    def is_ended(self) -> bool:
        return bool(self._brotli.is_finished())


_MAKERS: dict[bytes, Any] = {b"gzip": _Zlib, b"deflate": _Deflate, b"br": _Brotli, b"zstd": _Zstd}
