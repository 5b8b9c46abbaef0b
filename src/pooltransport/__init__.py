"""Go's pooled `http.Transport` for Python: see the README and `docs/`.

Importing this module loads nothing else: every name is looked up when it is first used.
"""

from __future__ import annotations

__version__ = "0.1.0"

_HOMES = {
    "client": ("AsyncClient", "Client"),
    "client.auth": ("Auth", "BasicAuth", "BearerAuth", "NetrcAuth"),
    "client.digest": ("DigestAuth",),
    "client.retry": ("Retry",),
    "config_checks": ("ConfigFinding",),
    "errors": (
        "AddressRefused",
        "BodyNotRead",
        "ConfigError",
        "ConnectAttempt",
        "ConnectError",
        "ConnectTimeout",
        "DNSError",
        "DecodingError",
        "Error",
        "HTTPStatusError",
        "IncompleteBody",
        "InvalidRequest",
        "LeaseExpired",
        "LocalProtocolError",
        "NotPooled",
        "PoolConfigWarning",
        "PoolDeadlock",
        "PoolQueueFull",
        "PoolTimeout",
        "ProxyError",
        "ReadError",
        "ReadTimeout",
        "RemoteProtocolError",
        "ResponseHeaderTimeout",
        "ServerClosedConnection",
        "StreamConsumed",
        "TLSError",
        "TLSHandshakeTimeout",
        "TooManyRedirects",
        "TransportClosed",
        "TransportError",
        "TransportTimeout",
        "UnclosedResponseWarning",
        "UnclosedTransportWarning",
        "WriteError",
        "WriteTimeout",
    ),
    "duplex": ("AsyncDuplex", "Duplex"),
    "events": ("ServerSentEvent",),
    "headers": ("Headers",),
    "models": ("UNSET", "Request", "Timeout"),
    "options": ("DialRequest", "TransportOptions"),
    "peer_address": ("PeerAddress", "public_only"),
    "roundtripper": ("AsyncRoundTripper", "RoundTripper"),
    "stats": ("AcquireSource", "CloseReason", "DrainOutcome", "HostStats", "PoolStats"),
    "trace": (
        "ClientTrace",
        "ConnClosedInfo",
        "ConnInfo",
        "GotConnInfo",
        "LeakReport",
        "TLSInfo",
        "client_trace",
    ),
    "transport": (
        "AsyncResponse",
        "AsyncTransport",
        "Response",
        "Transport",
        "default_async_transport",
        "default_transport",
        "set_default_transport",
    ),
    "url": ("URL",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted([*_HOME, "__version__"])  # noqa: PLE0605 - a list of texts


def __getattr__(name: str) -> object:
    module = _HOME.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - not before a name is asked for

    value = globals()[name] = getattr(import_module(f".{module}", __name__), name)
    return value


def __dir__() -> list[str]:
    return list(__all__)
