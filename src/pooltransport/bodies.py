"""`RequestBody`: what a request sends after its headers, whatever it was given as.

Rules:

1. What cannot be sent is refused when the request is made, before anything is dialed; what a caller's
   iterable yields can only be judged while sending, and breaks that request alone.
2. Bytes that can change under us are copied: a request may be sent again, and late.
3. A body is *rewindable* if it can be sent again from its first byte. The engine retries only such.
4. Iterators are objects, not generators: an abandoned one runs no code of its own when collected,
   and an asynchronous one needs no loop to be closed (contract 4.2).
5. No chunk is ever empty: in chunked coding an empty chunk would end the body (RFC 9112 section 7.1).
6. The caller's file stays open, as everywhere in Python; the caller's generator is closed, once
   (Go row WRITE-12 closes both).
"""

from __future__ import annotations

from collections.abc import Mapping
from io import TextIOBase
from typing import TYPE_CHECKING, Any, Protocol

from .errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterable
    from typing import TypeAlias

    class BinaryFile(Protocol):
        """What is asked of a file: `read`; with `seek` and `tell` it can be measured and sent again."""

        def read(self, size: int, /) -> bytes: ...

    BytesLike: TypeAlias = bytes | bytearray | memoryview
    Chunks: TypeAlias = "ChunkIterator | FileChunks"
    Content: TypeAlias = BytesLike | str | BinaryFile | Iterable[BytesLike] | AsyncIterable[BytesLike] | None

CHUNK_SIZE = 65_536  # of file bodies: as shutil's, and four TLS records
_CO_COROUTINE = 0x80  # inspect.CO_COROUTINE, without importing inspect


class RequestBody:
    """No body, and the base of the kinds that there are. Make one with `RequestBody.of(content)`.

    `length`: bytes to come, or None if unknown. `rewindable`: it can be sent again. `is_async`: take
    `achunks`, not `chunks`. `is_file`: reading may block on a disk, so loops read it in a worker
    thread. `started`: iteration was begun since the last `rewind`.
    """

    __slots__ = ("length", "rewindable", "started")

    is_async = False
    is_file = False
    is_empty = True  # nothing is sent: no body was given, or one of zero bytes in memory

    length: int | None
    rewindable: bool
    started: bool

    def __init__(self, length: int | None = 0, *, rewindable: bool = True) -> None:
        self.length = length
        self.rewindable = rewindable
        self.started = False

    @staticmethod
    def of(content: object) -> RequestBody:
        """Return the body for `content`.

        None or no bytes: `NO_BODY`. `bytes`, `bytearray`, `memoryview` and other buffers: a snapshot.
        `str`: its UTF-8. An object with `read`: a binary file from where it stands, measured if it can
        seek, and then sent up to the size it has now. Iterables and asynchronous iterables of
        bytes-like chunks: of unknown length, sent again only if they are no iterators.

        Raises `InvalidRequest` for a text-mode, closed or write-only file, a mapping, a list with
        something else than bytes in it, and any other type.
        """
        if content is None:
            return NO_BODY
        if isinstance(content, bytes):
            return _BytesBody(content) if content else NO_BODY
        if isinstance(content, str):
            return RequestBody.of(_utf8(content))
        if isinstance(content, RequestBody):
            return content
        if isinstance(content, (bytearray, memoryview)):
            return RequestBody.of(_snapshot(content))
        return _other_body(content)

    def rewind(self) -> None:
        """Make the next iteration begin at the first byte again.

        Raises `InvalidRequest` if iteration was begun and the body cannot be repeated.
        """
        if self.started and not self.rewindable:
            raise InvalidRequest(
                "this request's body was an iterator or a stream and is used up: it can be sent once; "
                "give bytes, a seekable file or a list to send it again"
            )
        self.started = False

    def chunks(self) -> Chunks:
        """Return an iterator over the body; every chunk is `bytes` and not empty.

        Its `read()` gives the next chunk, or ``b""`` at the end: for worker threads, out of which no
        StopIteration comes. Raises `InvalidRequest` if the body is asynchronous, and while sending if
        the caller's iterable yields something else than bytes; its own errors come through as they are.
        """
        return ChunkIterator(())

    def achunks(self) -> AsyncIterator[bytes]:
        """As `chunks`, for an asynchronous iterable; the object returned has only ``__anext__``."""
        raise InvalidRequest("this body is not an asynchronous iterable")

    def close(self) -> None:
        """Close the generator that `chunks` runs, if it is one. Never raises for a second call."""

    async def aclose(self) -> None:
        """As `close`, and for asynchronous generators; awaits nothing for other bodies."""
        self.close()


NO_BODY = RequestBody()


class ChunkIterator:
    """Sync iteration over a caller's chunks: validated, without the empty ones."""

    __slots__ = ("_source",)

    def __init__(self, source: Iterable[object]) -> None:
        self._source = iter(source)

    def __iter__(self) -> ChunkIterator:
        return self

    def __next__(self) -> bytes:
        while True:
            chunk = as_chunk(next(self._source))
            if chunk:
                return chunk

    def read(self) -> bytes:
        """Return the next chunk, or ``b""`` at the end."""
        return next(self, b"")

    def close(self) -> None:
        """Close the source if it is a generator, or something else that can be closed."""
        close = getattr(self._source, "close", None)
        if close is not None:
            close()


class AsyncChunkIterator:
    """Async iteration over a caller's chunks: validated, without the empty ones."""

    __slots__ = ("_source",)

    def __init__(self, source: AsyncIterable[object]) -> None:
        self._source = aiter(source)

    def __aiter__(self) -> AsyncChunkIterator:
        return self

    async def __anext__(self) -> bytes:
        while True:
            chunk = as_chunk(await anext(self._source))
            if chunk:
                return chunk

    async def aclose(self) -> None:
        """Close the source if it is an asynchronous generator, or something else that can be closed."""
        aclose = getattr(self._source, "aclose", None)
        if aclose is not None:
            await aclose()


class FileChunks:
    """Sync iteration over a file: from `start` if it can seek, `limit` bytes at most."""

    __slots__ = ("_file", "_left", "_start")

    def __init__(self, file: Any, start: int | None, limit: int | None) -> None:
        self._file = file
        self._start = start  # None once we are there, or if the file cannot seek
        self._left = limit

    def __iter__(self) -> FileChunks:
        return self

    def __next__(self) -> bytes:
        chunk = self.read()
        if not chunk:
            raise StopIteration
        return chunk

    def read(self) -> bytes:
        """Return the next chunk, or ``b""`` at the end."""
        if self._start is not None:
            # Here and not at construction, so that a loop's worker thread does it: a seek may block.
            self._file.seek(self._start)
            self._start = None
        size = CHUNK_SIZE if self._left is None else min(CHUNK_SIZE, self._left)
        if not size:
            return b""
        data = self._file.read(size)
        if data is None:
            raise InvalidRequest("the body file is non-blocking and has no data now: read it yourself, give the bytes")
        chunk = as_chunk(data, "file")
        if self._left is not None:
            # A read() that gives more than was asked for must not overrun the announced length unseen:
            # it is passed on, and the length check of whoever sends it fails.
            self._left = max(0, self._left - len(chunk))
        return chunk


class _BytesBody(RequestBody):
    __slots__ = ("_data",)
    is_empty = False

    def __init__(self, data: bytes) -> None:
        super().__init__(len(data))
        self._data = data

    def chunks(self) -> Chunks:
        self.started = True
        return ChunkIterator((self._data,))


class _FileBody(RequestBody):
    __slots__ = ("_file", "_size", "_start")
    is_empty = False
    is_file = True

    def __init__(self, file: Any) -> None:
        start, size = _measure(file)
        super().__init__(size, rewindable=start is not None)
        self._file = file
        self._start = start
        # What was measured, apart from `length`, which a Content-Length may set: only the former bounds
        # what is read (a file that grows is sent as it was), the latter is checked by who sends.
        self._size = size

    def chunks(self) -> Chunks:
        self.rewind()
        self.started = True
        return FileChunks(self._file, self._start, self._size)


class _IterableBody(RequestBody):
    __slots__ = ("_current", "_iterable")
    is_empty = False

    def __init__(self, iterable: Iterable[object], *, rewindable: bool) -> None:
        super().__init__(None, rewindable=rewindable)
        self._iterable = iterable
        # An iterator counts as current from the start: closed even if its request was never sent.
        self._current = None if rewindable else ChunkIterator(iterable)

    def chunks(self) -> Chunks:
        self.rewind()  # refuses what is used up
        if self.rewindable:
            self.close()
            self._current = ChunkIterator(self._iterable)
        self.started = True
        assert self._current is not None, "an unstarted iterator was closed without being marked as started"
        return self._current

    def close(self) -> None:
        current, self._current = self._current, None
        if current is not None:
            self.started = True
            current.close()


class _AsyncIterableBody(RequestBody):
    __slots__ = ("_current", "_iterable")
    is_async = True
    is_empty = False

    def __init__(self, iterable: AsyncIterable[object], *, rewindable: bool) -> None:
        super().__init__(None, rewindable=rewindable)
        self._iterable = iterable
        self._current = None if rewindable else AsyncChunkIterator(iterable)

    def chunks(self) -> Chunks:
        raise InvalidRequest(
            "an asynchronous iterable cannot be the body of a synchronous request: "
            "give bytes, a file or an ordinary iterable, or use AsyncClient"
        )

    def achunks(self) -> AsyncIterator[bytes]:
        self.rewind()
        if self.rewindable:
            self._current = AsyncChunkIterator(self._iterable)
        self.started = True
        assert self._current is not None, "an unstarted iterator was closed without being marked as started"
        return self._current

    async def aclose(self) -> None:
        current, self._current = self._current, None
        if current is not None:
            self.started = True
            await current.aclose()


def as_chunk(item: object, source: str = "iterable") -> bytes:
    """Return `item` as `bytes`; a copy if it can change. Raises `InvalidRequest` for what is not bytes-like."""
    if isinstance(item, bytes):
        return item
    if isinstance(item, (bytearray, memoryview)):
        return bytes(item)
    hint = ": open the file with mode 'rb'" if source == "file" else ": encode text, for example with .encode()"
    raise InvalidRequest(
        f"the body {source} gave {type(item).__name__} where bytes were expected{hint if isinstance(item, str) else ''}"
    )


def _other_body(content: Any) -> RequestBody:
    if isinstance(content, Mapping):
        raise InvalidRequest(f"a {type(content).__name__} is not a body: a client's json= or data= encodes it")
    # Of the type, as iter() does: the files of anyio and trio pass other names on to the file inside.
    kind = type(content)
    is_iterable = hasattr(kind, "__iter__")
    is_file = callable(getattr(content, "read", None))
    if is_file:
        _check_file(content)
    if hasattr(kind, "__aiter__") and not is_iterable:
        return _AsyncIterableBody(content, rewindable=not hasattr(kind, "__anext__") and not is_file)
    if is_file:
        # Frameworks' uploads have a read() to be awaited and are no asynchronous iterables.
        code = getattr(getattr(content.read, "__func__", content.read), "__code__", None)
        if code is not None and code.co_flags & _CO_COROUTINE:
            raise InvalidRequest("the body file's read() is asynchronous: give the file inside, or an async iterable")
        return _FileBody(content)
    if isinstance(content, (list, tuple)):
        # The caller may go on using the list; and what is wrong in it is known now, not while sending.
        return _IterableBody(tuple(as_chunk(item, type(content).__name__) for item in content), rewindable=True)
    try:
        buffer = memoryview(content)
    except TypeError:
        if is_iterable:
            return _IterableBody(content, rewindable=not hasattr(kind, "__next__"))
    else:  # array.array and the like
        return RequestBody.of(_snapshot(buffer))
    raise InvalidRequest(
        f"{type(content).__name__} cannot be a body: give bytes, str, a binary file, or an iterable "
        "(for AsyncClient also an asynchronous iterable) of bytes"
    )


def _check_file(file: Any) -> None:
    if getattr(file, "closed", False) is True:
        raise InvalidRequest("the body file is closed: send it before its with block ends")
    # Wrappers of tempfile are no TextIOBase, but pass `encoding` on.
    if isinstance(file, TextIOBase) or isinstance(getattr(file, "encoding", None), str):
        raise InvalidRequest("the body file is open in text mode: open it with mode 'rb'")
    readable = getattr(file, "readable", None)
    if callable(readable) and readable() is False:
        raise InvalidRequest("the body file is open for writing only: open it with mode 'rb'")


def _measure(file: Any) -> tuple[int | None, int | None]:
    """Return where `file` stands and how many bytes follow; None for what it cannot tell.

    By seeking and not by fstat, whose size is that of the compressed file for a `gzip.GzipFile`.
    """
    seekable = getattr(file, "seekable", None)  # older mmap objects have none, and can seek
    try:
        if seekable is not None and not seekable():
            return None, None
        start = file.tell()
    except (AttributeError, OSError, ValueError):
        return None, None
    try:
        file.seek(0, 2)
        end = file.tell()
    except (OSError, ValueError):  # gzip cannot seek from the end
        file.seek(start)
        return start, None
    size = max(0, end - start)
    file.seek(start)
    if not size and start == 0 and file.read(1):
        # Files that claim to be empty and are not: /proc, /sys.
        file.seek(start)
        return start, None
    file.seek(start)
    return start, size


def _snapshot(buffer: bytearray | memoryview) -> bytes:
    try:
        return bytes(buffer)
    except ValueError as error:  # a memoryview that was released
        raise InvalidRequest(f"the body cannot be copied: {error}") from error


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest("the body text has a lone surrogate, which UTF-8 cannot carry: pass bytes") from None
