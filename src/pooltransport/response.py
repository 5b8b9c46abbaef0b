"""`Response` and `AsyncResponse`: one answer, streamed until read (contract section 4).

Rules:

1. Nothing that the pool or a loop can reach refers to a response; it refers to its body, one way.
2. All that does no I/O is shared.
3. Bytes go by once: a second iteration raises `StreamConsumed`, `read()` after a part does as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .decoding import ContentDecoder
from .duplex import AsyncDuplex, Duplex
from .engine.body import State
from .engine.sync import run_sync
from .engine.upgrade import Upgraded
from .errors import BodyNotRead, DecodingError, HTTPStatusError, StreamConsumed, TransportError
from .headers import Headers
from .iterators import (
    AsyncByteIterator,
    AsyncEventIterator,
    AsyncLineIterator,
    ByteIterator,
    EventIterator,
    LineIterator,
)
from .pieces import Parts, charset_of, parse_json, text_codec

if TYPE_CHECKING:
    from datetime import timedelta
    from types import TracebackType
    from typing import Self

    from .core.http1.codec import Head
    from .engine.body import Body
    from .models import Request
    from .trace import GotConnInfo
    from .url import URL


_OF_THE_CODING = frozenset((b"content-encoding", b"content-length"))


class _ResponseBase:
    """What both colours share. Not for use by itself."""

    __slots__ = (
        "_body",
        "_content",
        "_decoder",
        "_elapsed",
        "_head",
        "_headers",
        "_owner",
        "_taken",
        "conn",
        "history",
        "request",
    )

    conn: GotConnInfo
    history: tuple[Any, ...]
    request: Request

    def __init__(
        self, request: Request, head: Head, body: Body | Upgraded, conn: GotConnInfo, elapsed: float, owner: object
    ) -> None:
        self.request = request
        self.conn = conn
        self.history = ()
        self._head = head
        self._headers: Headers | None = None
        self._body = body
        self._elapsed = elapsed
        self._owner = owner  # the transport lives as long as its responses
        self._content: bytes | None = None
        codings = body.codings
        self._decoder = ContentDecoder(codings, body.max_decoded_bytes) if codings else None
        self._taken = False

    @property
    def status_code(self) -> int:
        """The status code, 101 or 200 to 999."""
        return self._head.status

    @property
    def reason(self) -> str:
        """The reason phrase, as sent; often empty."""
        return self._head.reason

    @property
    def http_version(self) -> str:
        """``"HTTP/1.1"`` or ``"HTTP/1.0"``."""
        return f"HTTP/{self._head.version}"

    @property
    def headers(self) -> Headers:
        """The header fields, in wire order and case; looked up without regard to case. Of a body whose gzip
        nobody asked for but the transport, those about its coding and length are left out (Go GZIP-02).
        """
        if self._headers is None:
            raw = self._head.headers
            if self._decoder is not None and self.request.decode is None:
                raw = [item for item in raw if item[0].lower() not in _OF_THE_CODING]
            self._headers = Headers._from_raw(raw)  # noqa: SLF001 - ours
        return self._headers

    @property
    def decoded(self) -> bool:
        """Whether the body comes without the content coding it was sent in (`Request`, ``decode``)."""
        return self._decoder is not None

    @property
    def trailers(self) -> Headers:
        """The trailer fields: empty until the body was read to its end (RFC 9110 section 6.5)."""
        return Headers._from_raw(self._body.trailers)  # noqa: SLF001 - ours

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies that this answer sets, by name: for a look. A client stores them only in a jar (`Client`)."""
        pairs = [field.partition(";")[0].partition("=") for field in self.headers.get_list("set-cookie")]
        return {name.strip(): value.strip().strip('"') for name, _, value in pairs}

    @property
    def url(self) -> URL:
        """Where the answer came from."""
        return self.request.url

    @property
    def elapsed(self) -> timedelta:
        """From the call to the final headers."""
        from datetime import timedelta  # noqa: PLC0415 - only who asks pays for it

        return timedelta(seconds=self._elapsed)

    @property
    def is_closed(self) -> bool:
        """Whether the response holds no connection any more: read to the end, closed, or failed."""
        return self._body.state is not State.OPEN

    def long_lived(self, declared: bool = True) -> None:
        """Say that this response is meant to be held for long (a long poll, a feed): it is neither overdue nor a
        suspect then, and `lease_max` does not end it. ``text/event-stream`` and upgraded streams need no word.
        """
        self._body.hold_long(declared)

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self._head.status < 300

    def _take(self) -> None:
        if self._taken:
            raise StreamConsumed("the body was iterated before: its bytes are gone; read() keeps them")
        self._taken = True

    def _take_all(self) -> None:
        if self._taken:
            raise StreamConsumed("the body was iterated before, in whole or in part: it cannot be read again")
        self._taken = True

    def _decode(self, content: bytes) -> str:
        """Decode by the charset of Content-Type, else as UTF-8; what is wrong becomes U+FFFD."""
        return content.decode(text_codec(self._charset()), "replace")

    def _charset(self) -> str:
        return charset_of(self.headers.get("content-type", ""))

    def _status_error(self) -> HTTPStatusError | None:
        status = self._head.status
        if status < 400:
            return None
        kind = "client" if status < 500 else "server"
        reason = f" {self._head.reason}" if self._head.reason else ""
        return HTTPStatusError(
            f"{kind} error {status}{reason} for {self.request.method} {self.url.redacted}", response=self
        )

    def __repr__(self) -> str:
        state = self._body.state.value
        return f"<{type(self).__name__} [{self._head.status}] {self.request.method} {self.url.redacted} {state}>"


class Response(_ResponseBase):
    """One answer, blocking. Streamed: read it, iterate it, or close it; ``with`` does the latter.

    Thread-safe in this sense only: any thread may close it, which wakes the one that reads; one at a time reads.
    """

    __slots__ = ()

    @property
    def stream(self) -> Duplex | None:
        """The raw stream after 101 (Switching Protocols) or a 2xx to CONNECT; None for any other answer."""
        return Duplex(self._body) if isinstance(self._body, Upgraded) else None

    def _next(self) -> bytes:
        decoder = self._decoder
        if decoder is None:
            return run_sync(self._body.read_some())
        try:
            while not (piece := decoder.take()):
                data = run_sync(self._body.read_some())
                decoder.put(data)
                if not data:
                    break
        except DecodingError:
            self.close()
            raise
        return piece

    def read(self) -> bytes:
        """Read the body to its end and keep it; again, return what was kept.

        Raises `TransportError` (`ReadTimeout`, `IncompleteBody`, ...), `StreamConsumed` if a part was
        iterated before, `BodyTooLarge` if it is larger than ``max_body_bytes``.
        """
        if self._content is None:
            self._take_all()
            if self._decoder is None and (content := self._body.take_whole()) is not None:
                self._content = content
                return content
            parts = Parts(self._body.max_body_bytes, self.url.origin)
            try:
                while parts.add(self._next()):
                    pass
            except BaseException:
                self.close()
                raise
            self._content = parts.join()
        return self._content

    @property
    def content(self) -> bytes:
        """The whole body; read now if it was not."""
        return self.read()

    @property
    def text(self) -> str:
        """The body as text, by the charset of Content-Type, else UTF-8 with replacements."""
        return self._decode(self.read())

    def json(self, **kwargs: Any) -> Any:
        """Return the body parsed as JSON; `kwargs` are those of `json.loads`. Raises `ValueError`."""
        return parse_json(self.read(), kwargs)

    def iter_bytes(self, chunk_size: int | None = None) -> ByteIterator:
        """Iterate over the body in pieces of `chunk_size` bytes (None: as they come); once."""
        return ByteIterator(self, chunk_size)

    def iter_raw(self, chunk_size: int | None = None) -> ByteIterator:
        """As `iter_bytes`, before any content decoding. Raises `StreamConsumed` after `read`, which keeps only what it
        decoded.
        """
        return ByteIterator(self, chunk_size, raw=True)

    def iter_lines(self) -> LineIterator:
        """Iterate over the lines of the text, without their ends."""
        return LineIterator(self)

    def iter_events(self) -> EventIterator:
        """Iterate over the `ServerSentEvent`s of a ``text/event-stream``, each as soon as it is whole (WHATWG HTML,
        section 9.2.6). Raises `DecodingError` for a body of another type. Connecting again is the caller's.
        """
        return EventIterator(self)

    def raise_for_status(self) -> Self:
        """Return self for a status below 400, else raise `HTTPStatusError`; a response that is still
        streamed is read up to the drain limit and closed.
        """
        error = self._status_error()
        if error is None:
            return self
        if self._content is None and not self._taken and not self.is_closed:
            self._read_for_error()
        raise error

    def _read_for_error(self) -> None:
        self._taken = True
        parts = Parts(self._body.drain_limit, self.url.origin)
        try:
            while parts.add(self._next()):
                pass
        except (TransportError, DecodingError):
            self.close()  # too much of it, or no more to be had: the status is what the caller asked about
        self._content = parts.join()[: self._body.drain_limit]

    def close(self) -> None:
        """Let the connection go: what is left is drained within bounds, at most ``drain_timeout``. Idempotent."""
        run_sync(self._body.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class AsyncResponse(_ResponseBase):
    """One answer, on asyncio or trio; as `Response`, with `aread`, `aclose` and ``async with``."""

    __slots__ = ()

    @property
    def stream(self) -> AsyncDuplex | None:
        """As `Response.stream`."""
        return AsyncDuplex(self._body) if isinstance(self._body, Upgraded) else None

    async def _next(self) -> bytes:
        decoder = self._decoder
        if decoder is None:
            return await self._body.read_some()
        try:
            while not (piece := decoder.take()):
                data = await self._body.read_some()
                decoder.put(data)
                if not data:
                    break
        except DecodingError:
            await self.aclose()
            raise
        return piece

    async def aread(self) -> bytes:
        """As `Response.read`."""
        if self._content is None:
            self._take_all()
            if self._decoder is None and (content := self._body.take_whole()) is not None:
                self._content = content
                return content
            parts = Parts(self._body.max_body_bytes, self.url.origin)
            try:
                while parts.add(await self._next()):
                    pass
            except BaseException:
                await self.aclose()
                raise
            self._content = parts.join()
        return self._content

    @property
    def content(self) -> bytes:
        """The whole body. Raises `BodyNotRead` before `aread`."""
        if self._content is None:
            raise BodyNotRead("the body was not read: `await response.aread()` first")
        return self._content

    @property
    def text(self) -> str:
        """As `Response.text`. Raises `BodyNotRead` before `aread`."""
        return self._decode(self.content)

    def json(self, **kwargs: Any) -> Any:
        """As `Response.json`. Raises `BodyNotRead` before `aread`."""
        return parse_json(self.content, kwargs)

    def aiter_bytes(self, chunk_size: int | None = None) -> AsyncByteIterator:
        """As `Response.iter_bytes`, with ``async for``."""
        return AsyncByteIterator(self, chunk_size)

    def aiter_raw(self, chunk_size: int | None = None) -> AsyncByteIterator:
        """As `Response.iter_raw`, with ``async for``."""
        return AsyncByteIterator(self, chunk_size, raw=True)

    def aiter_lines(self) -> AsyncLineIterator:
        """As `Response.iter_lines`, with ``async for``."""
        return AsyncLineIterator(self)

    def aiter_events(self) -> AsyncEventIterator:
        """As `Response.iter_events`, with ``async for``."""
        return AsyncEventIterator(self)

    def raise_for_status(self) -> Self:
        """Return self for a status below 400, else raise `HTTPStatusError`. Reading cannot be awaited
        here: a response that is still streamed stays so, and its ``async with`` closes it.
        """
        error = self._status_error()
        if error is not None:
            raise error
        return self

    async def aclose(self) -> None:
        """Let the connection go; what is left is drained in the background. Never waits. Idempotent."""
        await self._body.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()
