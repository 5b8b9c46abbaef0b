"""Our errors as those of httpx and httpx2, and, on raw streams, of httpcore and httpcore2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from pooltransport import errors as ours

if TYPE_CHECKING:
    from types import ModuleType


class Library(NamedTuple):
    """The client library and the one below it."""

    client: ModuleType  # httpx or httpx2
    core: ModuleType  # httpcore or httpcore2


# Each of our classes, with the name of theirs. What a wait in the pool's queue ends with is their `PoolTimeout`,
# whatever ended it: callers handle that one, and the text says which it was.
NAMES: dict[type[ours.Error], str] = {
    ours.Error: "TransportError",
    ours.InvalidRequest: "LocalProtocolError",
    ours.ConfigError: "LocalProtocolError",
    ours.HTTPStatusError: "TransportError",  # theirs wants their response; a transport of ours never raises it
    ours.TooManyRedirects: "TooManyRedirects",
    ours.DecodingError: "DecodingError",
    ours.BodyNotRead: "StreamError",
    ours.StreamConsumed: "StreamError",
    ours.NotPooled: "TransportError",
    ours.TransportError: "TransportError",
    ours.LocalProtocolError: "LocalProtocolError",
    ours.RemoteProtocolError: "RemoteProtocolError",
    ours.IncompleteBody: "RemoteProtocolError",
    ours.ConnectError: "ConnectError",
    ours.AddressRefused: "ConnectError",
    ours.DNSError: "ConnectError",
    ours.TLSError: "ConnectError",
    ours.ProxyError: "ProxyError",
    ours.ReadError: "ReadError",
    ours.BodyTooLarge: "ReadError",
    ours.ServerClosedConnection: "RemoteProtocolError",
    ours.WriteError: "WriteError",
    ours.TransportClosed: "ConnectError",  # before the request; see `name_of`
    ours.PoolQueueFull: "PoolTimeout",
    ours.PoolDeadlock: "PoolTimeout",
    ours.LeaseExpired: "ReadError",
    ours.TransportTimeout: "TimeoutException",
    ours.PoolTimeout: "PoolTimeout",
    ours.ConnectTimeout: "ConnectTimeout",
    ours.TLSHandshakeTimeout: "ConnectTimeout",
    ours.ResponseHeaderTimeout: "ReadTimeout",
    ours.ReadTimeout: "ReadTimeout",
    ours.WriteTimeout: "WriteTimeout",
}


def name_of(error: ours.Error) -> str:
    """Return the name of the class that `error` becomes."""
    if isinstance(error, ours.TransportClosed) and error.may_have_been_processed:
        return "ReadError"  # `ConnectError` would say that it is safe to send it again
    return next(NAMES[kind] for kind in type(error).__mro__ if kind in NAMES)


def as_theirs(error: ours.Error, module: ModuleType) -> Exception:
    """Return what `module`, their client or core, raises where we raise `error`: with our text."""
    kind: Any = getattr(module, name_of(error), None) or module.NetworkError
    made: Exception = kind(str(error))
    return made


def raise_theirs(error: ours.Error, module: ModuleType, closed: str = "") -> NoReturn:
    """Raise it, chained. `closed`: what it is to use a raw stream that was closed."""
    if closed and isinstance(error, ours.StreamConsumed):
        raise getattr(module, closed)(str(error)) from error
    raise as_theirs(error, module) from error
