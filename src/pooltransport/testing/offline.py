"""`no_network`: under it no transport of ours sends anything anywhere, but to what is allowed.

Rules:

1. Asked before the pool is: neither a look-up nor a dial is begun, and no connection that lies ready is used.
2. For the whole process, not only for this thread: what a test starts is under it too. Of several blocks the one that
   was entered last decides.
3. The error is no `pooltransport.Error`: code that handles a failed request must not handle it.
"""

from __future__ import annotations

import ipaddress
import threading
from typing import TYPE_CHECKING, Any

from pooltransport import witness
from pooltransport.lease import find_site, name_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType
    from typing import Self

    from pooltransport.core.keys import ConnectKey

    Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LOOPBACK = ("localhost", "127.0.0.0/8", "::1")


class NetworkBlocked(AssertionError):
    """A request would have gone to the network under `no_network`.

    `host`, `port`: where to (a proxy's, if it would go through one; the path of a Unix socket, and 0). `site`:
    ``file:line`` of the call.
    """

    def __init__(self, host: str, port: int, site: str, origin: str = "") -> None:
        where = f"{host}:{port}" if port else host
        through = f" for {origin}" if origin else ""
        super().__init__(
            f"no_network: {site} would connect to {where}{through}. Give the client a HandlerTransport, or allow it: "
            f'no_network(allow=["{host}"])'
        )
        self.host = host
        self.port = port
        self.site = site


class no_network:  # noqa: N801 - a context manager reads like a verb
    """Refuse every request to a host that is not allowed, with `NetworkBlocked`; nothing is looked up or dialed.

    `allow`: names and addresses as they stand in URLs, networks (``"10.0.0.0/8"``), paths of Unix sockets, and
    ``"loopback"`` for localhost, 127.0.0.0/8 and ::1; a text alone is one of them. A name that is allowed may resolve
    to anything. Through a proxy it is the proxy that is judged. ``with no_network():`` or ``async with``, or the
    fixture of that name. Transports of other libraries know nothing of it.

    `refused`: what was refused so far, as `NetworkBlocked`. Raises `ValueError` for what is no host.
    """

    def __init__(self, allow: str | Iterable[str] = ()) -> None:
        self.refused: list[NetworkBlocked] = []
        self._names: set[str] = set()
        self._networks: list[Network] = []
        self.allow(*((allow,) if isinstance(allow, str) else allow))

    def allow(self, *hosts: str) -> None:
        """Allow more, from now on."""
        given: tuple[Any, ...] = hosts
        for host in given:
            if not isinstance(host, str) or not host or "//" in host:
                raise ValueError(f"no_network allows hosts, not {host!r}: give a name, an address or a network")
            for one in LOOPBACK if host == "loopback" else (host,):
                self._allow(one)

    def _allow(self, host: str) -> None:
        try:
            self._networks.append(ipaddress.ip_network(host.strip("[]"), strict=False))
        except ValueError:
            self._names.add(host.lower().rstrip("."))

    def is_allowed(self, host: str) -> bool:
        """Report whether requests may go to `host`."""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return host.lower().rstrip(".") in self._names
        return any(address in network for network in self._networks)

    def check(self, key: ConnectKey) -> None:
        """Raise `NetworkBlocked` unless requests with `key` may go out. The engine asks."""
        host, port = (key.uds, 0) if key.uds is not None else key.first_hop
        if self.is_allowed(host):
            return
        # Of all that a forward proxy is asked for there is one key, which has no origin.
        detour = key.uds is not None or (key.proxy is not None and key.forward is None)
        origin = key.origin.partition(" via ")[0] if detour else ""
        error = NetworkBlocked(host, port, name_of(find_site(())), origin)
        self.refused.append(error)
        raise error

    def __enter__(self) -> Self:
        with _mutex:
            _entered.append(self)
            witness.gate = self
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        with _mutex:
            # The last of this one: blocks may end in another order than they began.
            last = len(_entered) - 1 - _entered[::-1].index(self)
            del _entered[last]
            witness.gate = _entered[-1] if _entered else None

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, tb)


_entered: list[no_network] = []
_mutex = threading.Lock()
