"""`Duplex` and `AsyncDuplex`: the raw stream of a response after 101 (Switching Protocols) or a 2xx to CONNECT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .engine.body import State
from .engine.sync import run_sync

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from .engine.upgrade import Upgraded

_READ_SIZE = 65_536


class _DuplexBase:
    __slots__ = ("_upgraded",)

    def __init__(self, upgraded: Upgraded) -> None:
        self._upgraded = upgraded

    @property
    def is_closed(self) -> bool:
        """Whether it was closed, or broke."""
        return self._upgraded.state is not State.OPEN

    def end_writing(self) -> None:
        """End our direction, and go on reading (Go: CloseWrite, UPG-04). Raises `OSError` over TLS, which cannot."""
        self._upgraded.end_writing()


class Duplex(_DuplexBase):
    """Bytes both ways, blocking. One thread may read while another writes; any may close it.

    The connection counts against the limits until it is closed, here, by the response, or by its transport.
    None of a request's clocks runs here: give each call its own.
    """

    __slots__ = ()

    def read(self, max_bytes: int = _READ_SIZE, timeout: float | None = None) -> bytes:
        """Return 1 to `max_bytes` bytes, as soon as there are some; ``b""`` once the peer has ended its direction.

        Raises `ReadTimeout` after `timeout` seconds (None: never), which leaves the stream as it was, and
        `ReadError` when the connection broke, `TransportClosed` when its transport was closed.
        """
        return run_sync(self._upgraded.receive(max_bytes, timeout))

    def write(self, data: bytes, timeout: float | None = None) -> None:
        """Send all of `data`. Raises `WriteTimeout` after `timeout` seconds (None: never) and `WriteError`; both
        close it, since nobody knows how much went out.
        """
        run_sync(self._upgraded.send(data, timeout))

    def close(self) -> None:
        """Close the connection, and give its slot back. Idempotent."""
        run_sync(self._upgraded.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class AsyncDuplex(_DuplexBase):
    """As `Duplex`, on asyncio and trio. One task may read while another writes. A cancelled call closes it."""

    __slots__ = ()

    async def aread(self, max_bytes: int = _READ_SIZE, timeout: float | None = None) -> bytes:
        """As `Duplex.read`."""
        return await self._upgraded.receive(max_bytes, timeout)

    async def awrite(self, data: bytes, timeout: float | None = None) -> None:
        """As `Duplex.write`."""
        await self._upgraded.send(data, timeout)

    async def aclose(self) -> None:
        """As `Duplex.close`."""
        await self._upgraded.close()

    # The plain names too: here is no other colour that they could be taken for.
    read, write, close = aread, awrite, aclose

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()


def peer_tls(response: Any) -> Any:
    """Return the `ssl.SSLSocket` or `ssl.SSLObject` under `response`, for what it tells of the peer; None without TLS.
    For reading only: who writes to it breaks the connection. What a round-tripper of the user's made has none.
    """
    lease = getattr(getattr(response, "_body", None), "_lease", None)
    stream = None if lease is None else lease.conn.stream
    if stream is None or stream.tls is None:
        return None
    pump, loop_tls = getattr(stream, "_pump", None), getattr(stream, "_loop_tls", None)
    if pump is not None:  # trio, and TLS through a proxy
        return pump.object
    return stream._sock if loop_tls is None else loop_tls.made  # noqa: SLF001 - the leaves keep it to themselves
