"""What decides whether two requests may share a connection, and a budget.

| part | example | why it is in the key |
| --- | --- | --- |
| host | (None, "https", "api.example", 443) | where it goes; also the budget of the limits (contract 1.2) |
| trust | whose word counts, and what is shown | a connection verified by other rules must not be reused |
| server_hostname | "api.example" | the name that was verified |
| proxy | Proxy("http://proxy:3128") | the way it takes, and as whom: with the credentials |
| uds, local_address | "/run/x.sock" | the way it takes |
| runtime | one colour on one event loop | a socket belongs to one event loop (contract 3.7) |

Keys are interned by the engine: one object for equal parts, so that the pool's dictionaries compare
identities and hash no tuples on the way of a request.

Every plain http request through a forward proxy has one key: the connection is the proxy's, whatever
it is asked for (contract 1.2, Go KEY-06). https, and everything through SOCKS, is a tunnel to one origin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pooltransport.proxy_url import Proxy

ANY_HOST = "*"


class Host(NamedTuple):
    """A budget: every key of the same proxy, scheme, host and port shares the per-host limits. `proxy`
    is without credentials; `ANY_HOST` stands for all that a forward proxy is asked for.
    """

    proxy: str | None
    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        name = f"[{self.host}]" if ":" in self.host else self.host
        if self.proxy is None:
            return f"{self.scheme}://{name}:{self.port}"
        if self.host == ANY_HOST:
            return f"{self.scheme}://{ANY_HOST} via {self.proxy}"
        return f"{self.scheme}://{name}:{self.port} via {self.proxy}"


class Trust(NamedTuple):
    """By which rules a server is verified, and what it is shown of the client.

    `authority`: a context of the user's, by identity, or the name of what is trusted instead. Files
    are named and not read: what is in them may change, and connections with it (contract 5.7).
    """

    authority: object
    ca_file: str | None = None
    client_cert: tuple[str, str | None] | None = None


class ConnectKey:
    """Everything that makes a connection usable for a request. Compared by identity: intern it.

    `first_hop`: who is dialed, host and port; `host_port` the same as text. `forward`: the proxy that
    is asked for everything in absolute-form, if it is one of that kind. `is_tls`: TLS with the origin.
    """

    __slots__ = (
        "first_hop",
        "forward",
        "host",
        "host_port",
        "is_tls",
        "local_address",
        "origin",
        "proxy",
        "runtime",
        "server_hostname",
        "trust",
        "uds",
    )

    def __init__(
        self,
        host: Host,
        *,
        trust: Trust | None,
        server_hostname: str | None,
        uds: str | None,
        runtime: Any,
        local_address: tuple[str, int] | None = None,
        proxy: Proxy | None = None,
    ) -> None:
        self.host = host
        self.proxy = proxy
        self.forward = proxy if host.host == ANY_HOST else None
        self.trust = trust
        self.server_hostname = server_hostname
        self.is_tls = host.scheme == "https"
        self.uds = uds
        self.local_address = local_address
        self.runtime = runtime
        self.origin = str(host)
        if proxy is None:
            self.first_hop = (host.host, host.port)
            self.host_port = self.origin.partition("://")[2]
        else:
            self.first_hop = (proxy.host, proxy.port)
            self.host_port = proxy.host_port

    @property
    def parts(self) -> tuple[Any, ...]:
        """Everything that tells two keys apart."""
        return self.host, self.proxy, self.trust, self.server_hostname, self.uds, self.local_address, self.runtime

    def __repr__(self) -> str:
        return f"<ConnectKey {self.origin}>"


def host_of(scheme: str, host: str, port: int, proxy: Proxy | None) -> Host:
    """Return the budget of an origin that is reached through `proxy`."""
    if proxy is None:
        return Host(None, scheme, host, port)
    if scheme == "http" and not proxy.is_socks:
        return Host(str(proxy), scheme, ANY_HOST, 0)
    return Host(str(proxy), scheme, host, port)
