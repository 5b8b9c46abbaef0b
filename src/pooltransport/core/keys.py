"""What decides whether two requests may share a connection, and a budget.

| part | example | why it is in the key |
| --- | --- | --- |
| host | (None, "https", "api.example", 443) | where it goes; also the budget of the limits (contract 1.2) |
| trust | whose word counts, and what is shown | a connection verified by other rules must not be reused |
| server_hostname | "api.example" | the name that was verified |
| uds, local_address | "/run/x.sock" | the way it takes |
| runtime | one colour on one event loop | a socket belongs to one event loop (contract 3.7) |

Keys are interned by the engine: one object for equal parts, so that the pool's dictionaries compare
identities and hash no tuples on the way of a request.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Host(NamedTuple):
    """A budget: every key of the same proxy, scheme, host and port shares the per-host limits."""

    proxy: str | None
    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        name = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{name}:{self.port}"


class Trust(NamedTuple):
    """By which rules a server is verified, and what it is shown of the client.

    `authority`: a context of the user's, by identity, or the name of what is trusted instead. Files
    are named and not read: what is in them may change, and connections with it (contract 5.7).
    """

    authority: object
    ca_file: str | None = None
    client_cert: tuple[str, str | None] | None = None


class ConnectKey:
    """Everything that makes a connection usable for a request. Compared by identity: intern it."""

    __slots__ = ("host", "host_port", "local_address", "origin", "runtime", "server_hostname", "trust", "uds")

    def __init__(
        self,
        host: Host,
        *,
        trust: Trust | None,
        server_hostname: str | None,
        uds: str | None,
        local_address: tuple[str, int] | None,
        runtime: Any,
    ) -> None:
        self.host = host
        self.trust = trust
        self.server_hostname = server_hostname
        self.uds = uds
        self.local_address = local_address
        self.runtime = runtime
        self.origin = str(host)
        self.host_port = self.origin.partition("://")[2]

    @property
    def parts(self) -> tuple[Any, ...]:
        """Everything that tells two keys apart."""
        return self.host, self.trust, self.server_hostname, self.uds, self.local_address, self.runtime

    def __repr__(self) -> str:
        return f"<ConnectKey {self.origin}>"
