"""What one transport remembers for its diagnosis: the last minutes, unread bodies, dials that failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pooltransport.diagnosis.history import History
from pooltransport.errors import ConnectError, ConnectTimeout, DNSError, ProxyError, TLSError, TLSHandshakeTimeout

if TYPE_CHECKING:
    from collections.abc import Hashable

    from pooltransport.lease import Lease

_MOST_ROWS = 256
_PLAIN = frozenset((ConnectError, DNSError, TLSError, ProxyError, ConnectTimeout, TLSHandshakeTimeout))


class Memory:
    """Bounded, and without a reference to a request or a response."""

    __slots__ = ("dial_failures", "history", "peers", "unread")

    def __init__(self, now: float) -> None:
        self.history = History(now)
        self.unread: dict[tuple[Any, int], int] = {}  # (site, status): bodies whose rest cost a connection
        self.dial_failures: dict[Hashable, BaseException] = {}  # by host, the last one
        self.peers: dict[str, str] = {}  # by origin, the address of the last connection

    def note_unread(self, lease: Lease) -> None:
        """The rest of a body cost its connection."""
        site = lease.site
        row = (None if site is None else (site.code, site.lasti), lease.status_code)
        if row in self.unread or len(self.unread) < _MOST_ROWS:
            self.unread[row] = self.unread.get(row, 0) + 1

    def note_peer(self, origin: str, address: str) -> None:
        """A connection was made; when all are gone, the kernel may still count them (TIME_WAIT)."""
        if len(self.peers) >= _MOST_ROWS and origin not in self.peers:
            self.peers.clear()
        self.peers[origin] = address

    def note_dial_failure(self, host: Hashable, error: BaseException) -> None:
        """A dial failed; what waits for a connection to this host may be told so."""
        if len(self.dial_failures) >= _MOST_ROWS:
            self.dial_failures.clear()
        # A copy of what it says: the error itself is raised, and its frames hold requests.
        kind = type(error) if type(error) in _PLAIN else ConnectError
        self.dial_failures[host] = kind(str(error))
