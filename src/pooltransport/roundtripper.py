"""The published seam: anything that turns one request into one response (Go: `http.RoundTripper`).

A breaker, a rate limit, a cache, a recorder or a test double is an object with these two methods that
may call another one's. `Client(transport=...)` takes any of them (contract 5.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from .models import Request
    from .response import AsyncResponse, Response


@runtime_checkable
class RoundTripper(Protocol):
    """What a `Client` sends through. Must be usable from several threads at once."""

    def round_trip(self, request: Request, /) -> Response:
        """Send `request` and return its response, the body not yet read: the caller's to close.

        Must not change `request`, and must raise rather than return for anything but an HTTP response
        of whatever status (Go: the RoundTripper contract).
        """
        ...

    def close(self) -> None:
        """Let go of everything; the requests under way fail. A client never calls it on a borrowed one."""
        ...


@runtime_checkable
class AsyncRoundTripper(Protocol):
    """What an `AsyncClient` sends through; as `RoundTripper`, awaited."""

    async def round_trip(self, request: Request, /) -> AsyncResponse:
        """As `RoundTripper.round_trip`. Cancelled, it must leave nothing behind."""
        ...

    async def aclose(self) -> None:
        """As `RoundTripper.close`."""
        ...
