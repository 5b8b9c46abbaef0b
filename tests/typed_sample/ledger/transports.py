"""Transports, and round-trippers of our own on the published seam."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pooltransport as pt

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from pooltransport.options import OptionsDict


def make_transport(name: str, trace: pt.ClientTrace | None = None) -> pt.Transport:
    """Return the pool of this process; its options are checked where they are written."""
    options: OptionsDict = {"name": name, "max_conns_per_host": 20, "acquire_timeout": 2.0, "trace": trace}
    return pt.Transport(**options)


def make_async_transport(name: str) -> pt.AsyncTransport:
    """Return the same for a loop."""
    return pt.AsyncTransport.from_options(pt.TransportOptions(name=name, max_conns=50))


class BreakerOpen(pt.TransportError):
    """Nothing was sent: too many requests failed just now."""


class Breaker:
    """Stop asking for a while after `most` failures in a row."""

    def __init__(
        self, inner: pt.RoundTripper, most: int = 5, pause: float = 10.0, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._inner = inner
        self._most = most
        self._pause = pause
        self._now = now
        self._failures = 0
        self._open_until = 0.0
        self._mutex = threading.Lock()

    def round_trip(self, request: pt.Request, /) -> pt.Response:
        """Send `request`, or raise `BreakerOpen`."""
        if self._now() < self._open_until:
            raise BreakerOpen(f"{request.url.origin}: given up for a while", may_have_been_processed=False)
        try:
            response = self._inner.round_trip(request)
        except pt.TransportError:
            self._count(failed=True)
            raise
        self._count(failed=response.status_code >= 500)
        return response

    def _count(self, *, failed: bool) -> None:
        with self._mutex:
            self._failures = self._failures + 1 if failed else 0
            if self._failures >= self._most:
                self._open_until = self._now() + self._pause

    def close(self) -> None:
        """Close what is inside."""
        self._inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class AsyncTagged:
    """Adds a header to every request."""

    def __init__(self, inner: pt.AsyncRoundTripper, tag: str) -> None:
        self._inner = inner
        self._tag = tag

    async def round_trip(self, request: pt.Request, /) -> pt.AsyncResponse:
        """Send `request` with the tag."""
        headers = pt.Headers(request.headers)
        headers.set("X-Tag", self._tag)
        return await self._inner.round_trip(request.with_headers(headers))

    async def aclose(self) -> None:
        """Close what is inside."""
        await self._inner.aclose()
