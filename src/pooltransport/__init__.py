"""Go's pooled `http.Transport` for Python: see the README and `docs/`.

Importing this module loads nothing else: every name is looked up when it is first used.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from .client import AsyncClient as AsyncClient
    from .client import Client as Client
    from .client.auth import Auth as Auth
    from .client.auth import BasicAuth as BasicAuth
    from .client.auth import BearerAuth as BearerAuth
    from .client.auth import NetrcAuth as NetrcAuth
    from .client.digest import DigestAuth as DigestAuth
    from .client.retry import Retry as Retry
    from .config_checks import ConfigFinding as ConfigFinding
    from .duplex import AsyncDuplex as AsyncDuplex
    from .duplex import Duplex as Duplex
    from .errors import AddressRefused as AddressRefused
    from .errors import BodyNotRead as BodyNotRead
    from .errors import BodyTooLarge as BodyTooLarge
    from .errors import ConfigError as ConfigError
    from .errors import ConnectAttempt as ConnectAttempt
    from .errors import ConnectError as ConnectError
    from .errors import ConnectTimeout as ConnectTimeout
    from .errors import DecodingError as DecodingError
    from .errors import DNSError as DNSError
    from .errors import Error as Error
    from .errors import HTTPStatusError as HTTPStatusError
    from .errors import IncompleteBody as IncompleteBody
    from .errors import InvalidRequest as InvalidRequest
    from .errors import LeaseExpired as LeaseExpired
    from .errors import LocalProtocolError as LocalProtocolError
    from .errors import NotPooled as NotPooled
    from .errors import PoolConfigWarning as PoolConfigWarning
    from .errors import PoolDeadlock as PoolDeadlock
    from .errors import PoolQueueFull as PoolQueueFull
    from .errors import PoolTimeout as PoolTimeout
    from .errors import ProxyError as ProxyError
    from .errors import ReadError as ReadError
    from .errors import ReadTimeout as ReadTimeout
    from .errors import RemoteProtocolError as RemoteProtocolError
    from .errors import ResponseHeaderTimeout as ResponseHeaderTimeout
    from .errors import ServerClosedConnection as ServerClosedConnection
    from .errors import StreamConsumed as StreamConsumed
    from .errors import TLSError as TLSError
    from .errors import TLSHandshakeTimeout as TLSHandshakeTimeout
    from .errors import TooManyRedirects as TooManyRedirects
    from .errors import TransportClosed as TransportClosed
    from .errors import TransportError as TransportError
    from .errors import TransportTimeout as TransportTimeout
    from .errors import UnclosedResponseWarning as UnclosedResponseWarning
    from .errors import UnclosedTransportWarning as UnclosedTransportWarning
    from .errors import WriteError as WriteError
    from .errors import WriteTimeout as WriteTimeout
    from .events import ServerSentEvent as ServerSentEvent
    from .headers import Headers as Headers
    from .models import UNSET as UNSET
    from .models import Request as Request
    from .models import Timeout as Timeout
    from .options import DialRequest as DialRequest
    from .options import TransportOptions as TransportOptions
    from .peer_address import PeerAddress as PeerAddress
    from .peer_address import public_only as public_only
    from .roundtripper import AsyncRoundTripper as AsyncRoundTripper
    from .roundtripper import RoundTripper as RoundTripper
    from .stats import AcquireSource as AcquireSource
    from .stats import CloseReason as CloseReason
    from .stats import DrainOutcome as DrainOutcome
    from .stats import HostStats as HostStats
    from .stats import PoolStats as PoolStats
    from .trace import ClientTrace as ClientTrace
    from .trace import ConnClosedInfo as ConnClosedInfo
    from .trace import ConnInfo as ConnInfo
    from .trace import GotConnInfo as GotConnInfo
    from .trace import LeakReport as LeakReport
    from .trace import TLSInfo as TLSInfo
    from .trace import client_trace as client_trace
    from .transport import AsyncResponse as AsyncResponse
    from .transport import AsyncTransport as AsyncTransport
    from .transport import Response as Response
    from .transport import Transport as Transport
    from .transport import default_async_transport as default_async_transport
    from .transport import default_transport as default_transport
    from .transport import set_default_transport as set_default_transport
    from .url import URL as URL

_HOMES = {
    "client": ("AsyncClient", "Client"),
    "client.auth": ("Auth", "BasicAuth", "BearerAuth", "NetrcAuth"),
    "client.digest": ("DigestAuth",),
    "client.retry": ("Retry",),
    "config_checks": ("ConfigFinding",),
    "errors": (
        "AddressRefused",
        "BodyNotRead",
        "BodyTooLarge",
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

if not TYPE_CHECKING:  # a type checker that saw it would let every misspelled name pass

    def __getattr__(name: str) -> object:
        module = _HOME.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module  # noqa: PLC0415 - not before a name is asked for

        value = globals()[name] = getattr(import_module(f".{module}", __name__), name)
        return value


def __dir__() -> list[str]:
    return list(__all__)
