"""What a response of the adapter is read through: its body, and the raw stream below it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from pooltransport.duplex import peer_tls
from pooltransport.errors import Error

from .errors import raise_theirs
from .told import CONTENT, pair

if TYPE_CHECKING:
    import ssl
    from types import ModuleType

    from pooltransport.response import AsyncResponse, Response

    from .errors import Library
    from .told import AsyncTold, Told


class Body:
    """The body, once, as it came from the wire. After an upgrade it is empty: what follows is in the raw stream."""

    __slots__ = ("_library", "_pieces", "_response", "_told")

    def __init__(self, response: Response, library: Library, told: Told | None) -> None:
        self._response = response
        self._library = library
        self._told = told
        self._pieces: Any = None

    def __iter__(self) -> Body:
        return self

    def __next__(self) -> bytes:
        told = self._told
        try:
            if self._pieces is None:
                self._pieces = self._response.iter_raw() if self._response.stream is None else iter(())
                if told is not None:
                    told.started(CONTENT)
            piece: bytes = next(self._pieces)
        except StopIteration:
            if told is not None:
                told.complete(CONTENT)
                told.check()
            raise
        except Error as error:
            if told is not None:
                told.failed(error)
            raise_theirs(error, self._library.client)
        return piece

    def close(self) -> None:
        """Let the connection go."""
        try:
            self._response.close()
        except Error as error:
            raise_theirs(error, self._library.client)
        if self._told is not None:
            self._told.closed()
            self._told.check()


class _Nothing:
    async def __anext__(self) -> bytes:
        raise StopAsyncIteration


class AsyncBody:
    """As `Body`, awaited."""

    __slots__ = ("_library", "_pieces", "_response", "_told")

    def __init__(self, response: AsyncResponse, library: Library, told: AsyncTold | None) -> None:
        self._response = response
        self._library = library
        self._told = told
        self._pieces: Any = None

    def __aiter__(self) -> AsyncBody:
        return self

    async def __anext__(self) -> bytes:
        told = self._told
        try:
            if self._pieces is None:
                self._pieces = self._response.aiter_raw() if self._response.stream is None else _Nothing()
                if told is not None:
                    told.started(CONTENT)
            piece: bytes = await self._pieces.__anext__()
        except StopAsyncIteration:
            if told is not None:
                told.complete(CONTENT)
                await told.settle()
            raise
        except Error as error:
            if told is not None:
                told.failed(error)
                await told.settle()
            raise_theirs(error, self._library.client)
        return piece

    async def aclose(self) -> None:
        """Let the connection go."""
        try:
            await self._response.aclose()
        except Error as error:
            raise_theirs(error, self._library.client)
        if self._told is not None:
            self._told.closed()
            await self._told.settle()


class _Wire:
    """What both colours share."""

    __slots__ = ("_core", "_response", "_stream")

    def __init__(self, response: Any, core: ModuleType) -> None:
        self._stream: Any = response.stream  # after an upgrade alone
        self._response = response
        self._core = core

    def get_extra_info(self, info: str) -> Any:
        """Return ``client_addr``, ``server_addr`` (pairs, or the path of a Unix socket), ``ssl_object``, or
        ``is_readable``; None for what is not known. The socket itself stays the pool's.
        """
        conn = self._response.conn
        if info == "client_addr":
            return pair(conn.local_addr)
        if info == "server_addr":
            return pair(conn.remote_addr)
        if info == "ssl_object":
            return peer_tls(self._response)
        return self._response.is_closed if info == "is_readable" else None

    def _open(self) -> Any:
        if self._stream is None:
            raise RuntimeError(
                "this connection belongs to the pool: its raw stream can be used after 101 (Switching Protocols) "
                "or a 2xx to CONNECT; read the body through the response"
            )
        return self._stream

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> NoReturn:
        """Refuse: a proxy on the way to an https address is ``proxy=``."""
        raise NotImplementedError(
            "TLS over an upgraded stream is not made here: for https through a proxy give the transport proxy=..."
        )


class Wire(_Wire):
    """``extensions["network_stream"]``: after an upgrade, bytes both ways (httpcore's `NetworkStream`)."""

    __slots__ = ()

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return 1 to `max_bytes` bytes, ``b""`` at the end."""
        try:
            data: bytes = self._open().read(max_bytes, timeout)
        except Error as error:
            raise_theirs(error, self._core, "ReadError")
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of `buffer`."""
        try:
            self._open().write(buffer, timeout)
        except Error as error:
            raise_theirs(error, self._core, "WriteError")

    def close(self) -> None:
        """Close the connection, if it is nobody else's."""
        self._open().close()


class AsyncWire(_Wire):
    """As `Wire`, awaited."""

    __slots__ = ()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """As `Wire.read`."""
        try:
            data: bytes = await self._open().aread(max_bytes, timeout)
        except Error as error:
            raise_theirs(error, self._core, "ReadError")
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """As `Wire.write`."""
        try:
            await self._open().awrite(buffer, timeout)
        except Error as error:
            raise_theirs(error, self._core, "WriteError")

    async def aclose(self) -> None:
        """As `Wire.close`."""
        await self._open().aclose()

    async def start_tls(  # type: ignore[override]
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> NoReturn:
        """As `Wire.start_tls`."""
        super().start_tls(ssl_context, server_hostname, timeout)
