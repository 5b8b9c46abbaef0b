"""What requests gives as the body of a request, and as its timeout, in our terms."""

from __future__ import annotations

from io import TextIOBase
from typing import TYPE_CHECKING, Any

from urllib3 import Timeout as Urllib3Timeout

from pooltransport.models import UNSET, Timeout

if TYPE_CHECKING:
    from collections.abc import Iterable


def content_of(body: Any) -> Any:
    """Return `body` as a `Request` takes it: text in it, which requests takes, becomes UTF-8."""
    if body is None or isinstance(body, (bytes, bytearray, str)):
        return body
    if hasattr(body, "read"):
        return _TextFile(body) if isinstance(body, TextIOBase) else body
    return _Chunks(body) if hasattr(body, "__next__") else _Repeatable(body)


def _as_bytes(chunk: Any) -> Any:
    return chunk.encode() if isinstance(chunk, str) else chunk


class _TextFile:
    """A file in text mode, read as bytes."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        text: str = self._file.read(size)
        return text.encode()


class _Chunks:
    """An iterator or generator, whose text is bytes; closed with it."""

    def __init__(self, source: Iterable[Any]) -> None:
        self._source = iter(source)

    def __iter__(self) -> _Chunks:
        return self

    def __next__(self) -> Any:
        return _as_bytes(next(self._source))

    def close(self) -> None:
        close = getattr(self._source, "close", None)
        if close is not None:
            close()


class _Repeatable:
    """What gives a new iterator each time: it can be sent again."""

    def __init__(self, source: Iterable[Any]) -> None:
        self._source = source

    def __iter__(self) -> _Chunks:
        return _Chunks(self._source)


def timeout_of(timeout: Any, *, acquire: bool) -> Timeout:
    """Return requests' `timeout` in our terms. `acquire`: whether the first number is also for waiting in the pool.

    One number, or ``(connect, read)``, or urllib3's `Timeout`, whose total bounds each of the two; ours is taken as
    it is. None sets nothing: the transport's own clocks run. Raises `ValueError` for anything else.
    """
    if timeout is None:
        return Timeout()
    if isinstance(timeout, Timeout):
        return timeout
    if isinstance(timeout, Urllib3Timeout):
        given: Any = timeout
        connect, read, total = given._connect, given._read, given.total  # noqa: SLF001 - its properties need its clock
    else:
        connect = read = timeout
        total = None
        if isinstance(timeout, tuple):
            if len(timeout) != 2:
                raise ValueError(
                    f"Invalid timeout {timeout}. Pass a (connect, read) timeout tuple, or a single float to set both "
                    "timeouts to the same value."
                )
            connect, read = timeout
        Urllib3Timeout(connect=connect, read=read)  # raises what requests' users know
    connect, read = _bounded(connect, total), _bounded(read, total)
    return Timeout(connect=connect, acquire=connect if acquire else UNSET, response_header=read, read=read, write=read)


def _bounded(seconds: Any, total: Any) -> Any:
    """Return the lesser of the two, None for no limit; UNSET where urllib3's default stands."""
    bound = total if isinstance(total, (int, float)) else None
    if isinstance(seconds, (int, float)):
        return seconds if bound is None else min(seconds, bound)
    return bound if bound is not None or seconds is None else UNSET
