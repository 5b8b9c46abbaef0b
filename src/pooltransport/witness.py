"""Who looks on: told of each transport and lease as it is made, and of each that is lost. Tests do.

Nobody does outside of tests, which costs one look at `current` for each request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .lease import Lease, Site


class Witness(Protocol):
    """What `pooltransport.testing` puts here."""

    leak_detection: str  # the level of transports that are given none

    def transport_made(self, transport: Any, /) -> object:
        """Return whose it is; told again in `transport_lost`."""
        ...

    def lease_opened(self, lease: Lease, /) -> None:
        """May note in `lease.scope` whose it is."""
        ...

    def lease_lost(self, lease: Lease, /) -> None:
        """Its response was never closed. Called by finalizers: must do no more than append to a deque."""
        ...

    def transport_lost(self, scope: object, what: str, site: Site | None, sockets: int, /) -> None:
        """It was dropped unclosed with `sockets` connections. Called by finalizers, as above."""
        ...


class Gate(Protocol):
    """What `pooltransport.testing.no_network` puts here."""

    def check(self, key: Any, /) -> None:
        """Raise unless requests may go where the `ConnectKey` says. Asked before the pool is, of each attempt."""
        ...


current: Witness | None = None
gate: Gate | None = None
