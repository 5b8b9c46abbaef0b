"""The iterators of both colours over a response body: objects, not generators. An abandoned one holds the
response and nothing else, and both are collected together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .engine.sync import run_sync
from .events import EventParser, check_event_stream
from .pieces import Lines, Rechunker

if TYPE_CHECKING:
    from typing import Self

    from .events import ServerSentEvent
    from .response import AsyncResponse, Response


class ByteIterator:
    __slots__ = ("_content", "_pieces", "_raw", "_response")

    def __init__(self, response: Response, size: int | None, *, raw: bool = False) -> None:
        self._pieces = Rechunker(size)
        self._response = response
        self._raw = raw
        self._content = None if raw and response.decoded else response._content  # noqa: SLF001 - one class in two
        if self._content is None:
            response._take()  # noqa: SLF001

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        piece = self._pieces.next_ready()
        while not piece:
            data = self._next()
            piece = self._pieces.put(data)
            if not data and not piece:
                raise StopIteration
        return piece

    def _next(self) -> bytes:
        if self._content is None:
            response = self._response
            return run_sync(response._body.read_some()) if self._raw else response._next()  # noqa: SLF001
        data, self._content = self._content, b""
        return data


class LineIterator:
    __slots__ = ("_lines", "_more", "_source")

    def __init__(self, response: Response, charset: str | None = None) -> None:
        self._source = ByteIterator(response, None)
        self._lines = Lines(charset or response._charset())  # noqa: SLF001 - one class in two
        self._more = True

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        while (line := self._lines.pop()) is None:
            if not self._more:
                raise StopIteration
            self._more = self._lines.put(next(self._source, b""))
        return line


class EventIterator:
    __slots__ = ("_events", "_lines")

    def __init__(self, response: Response) -> None:
        check_event_stream(response.headers, response.url.origin)
        self._lines = LineIterator(response, "utf-8")
        self._events = EventParser()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ServerSentEvent:
        while (event := self._events.put(next(self._lines))) is None:
            pass
        return event


class AsyncByteIterator:
    __slots__ = ("_content", "_pieces", "_raw", "_response")

    def __init__(self, response: AsyncResponse, size: int | None, *, raw: bool = False) -> None:
        self._pieces = Rechunker(size)
        self._response = response
        self._raw = raw
        self._content = None if raw and response.decoded else response._content  # noqa: SLF001 - one class in two
        if self._content is None:
            response._take()  # noqa: SLF001

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        piece = self._pieces.next_ready()
        while not piece:
            data = await self._next()
            piece = self._pieces.put(data)
            if not data and not piece:
                raise StopAsyncIteration
        return piece

    async def _next(self) -> bytes:
        if self._content is None:
            response = self._response
            return await (response._body.read_some() if self._raw else response._next())  # noqa: SLF001
        data, self._content = self._content, b""
        return data


class AsyncLineIterator:
    __slots__ = ("_lines", "_more", "_source")

    def __init__(self, response: AsyncResponse, charset: str | None = None) -> None:
        self._source = AsyncByteIterator(response, None)
        self._lines = Lines(charset or response._charset())  # noqa: SLF001 - one class in two
        self._more = True

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        while (line := self._lines.pop()) is None:
            if not self._more:
                raise StopAsyncIteration
            try:
                data = await self._source.__anext__()
            except StopAsyncIteration:
                data = b""
            self._more = self._lines.put(data)
        return line


class AsyncEventIterator:
    __slots__ = ("_events", "_lines")

    def __init__(self, response: AsyncResponse) -> None:
        check_event_stream(response.headers, response.url.origin)
        self._lines = AsyncLineIterator(response, "utf-8")
        self._events = EventParser()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ServerSentEvent:
        while (event := self._events.put(await self._lines.__anext__())) is None:
            pass
        return event
