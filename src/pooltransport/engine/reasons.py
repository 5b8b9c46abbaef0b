"""What a failed dial says: the system's own words, and what they mean."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

from pooltransport.errors import (
    AddressRefused,
    ConnectError,
    ConnectTimeout,
    DNSError,
    PoolDeadlock,
    PoolQueueFull,
    PoolTimeout,
    ProxyError,
    TLSError,
    TransportClosed,
    TransportTimeout,
)
from pooltransport.stats import AcquireFailure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pooltransport.errors import ConnectAttempt

_DROPPED = frozenset((errno.ETIMEDOUT,))
_UNREACHABLE = frozenset((errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN))
_REFUSED = frozenset((errno.ECONNREFUSED, errno.ECONNRESET))
# What says that something is wrong with the address, and not with this machine or with the request.
DEAD = _DROPPED | _UNREACHABLE | _REFUSED

_MEANING = {
    **dict.fromkeys(_UNREACHABLE, "unreachable from here"),
    errno.EADDRNOTAVAIL: "no local port is free towards it: too many connections, those in TIME_WAIT included",
    errno.EMFILE: "this process may open no more files (RLIMIT_NOFILE): each connection is one",
    errno.ENFILE: "this machine may open no more files",
}
_UNKNOWN_NAME = frozenset(
    getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY") if hasattr(socket, name)
)


def reason(error: BaseException) -> str:
    """Return why something failed, in one clause."""
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror
        if text.startswith("Connect call failed") and error.errno:
            text = os.strerror(error.errno)  # asyncio hides the system's own text
        text = f"{text} (errno {error.errno})"
        if isinstance(error, socket.gaierror):
            return text
        meaning = _MEANING.get(error.errno or 0)
        return f"{text}: {meaning}" if meaning else text
    return str(error) or type(error).__name__


def dns_reason(error: BaseException) -> str:
    """Return why a look-up failed, in one clause."""
    if isinstance(error, socket.gaierror):
        if error.errno in _UNKNOWN_NAME:
            return f"unknown name: {reason(error)}"
        if error.errno == socket.EAI_AGAIN:
            return f"no name server answered: {reason(error)}"
        return reason(error)
    if isinstance(error, OSError):
        return reason(error)
    return f"{type(error).__name__}: {error}"


def tried(attempts: Iterable[ConnectAttempt]) -> str:
    """Return the text of all attempts."""
    return "; ".join(f"{attempt.address}: {reason(attempt.error)}" for attempt in attempts)


_FAILURES: tuple[tuple[type[BaseException], AcquireFailure], ...] = (
    (PoolTimeout, AcquireFailure.POOL_TIMEOUT),
    (PoolQueueFull, AcquireFailure.POOL_QUEUE_FULL),
    (TransportClosed, AcquireFailure.POOL_CLOSED),
    (PoolDeadlock, AcquireFailure.POOL_DEADLOCK),
    (TransportTimeout, AcquireFailure.DIAL_TIMEOUT),
    (Exception, AcquireFailure.DIAL_ERROR),
    (BaseException, AcquireFailure.CANCELLED),
)


def failure_of(error: BaseException) -> AcquireFailure:
    """Return under which name a request that got no connection is counted."""
    return next(kind for cls, kind in _FAILURES if isinstance(error, cls))


_BY_ERRNO = {
    errno.ECONNREFUSED: "connection_refused",
    errno.ECONNRESET: "connection_reset",
    errno.ETIMEDOUT: "timeout",
    errno.EADDRNOTAVAIL: "no_local_port",
    errno.EMFILE: "too_many_files",
    errno.ENFILE: "too_many_files",
    **dict.fromkeys(_UNREACHABLE, "unreachable"),
}
_BY_CLASS: tuple[tuple[type[BaseException], str], ...] = (
    (AddressRefused, "address_refused"),
    (DNSError, "dns_error"),
    (TLSError, "tls_error"),
    (ProxyError, "proxy_error"),
    (ConnectTimeout, "timeout"),
    (TransportTimeout, "timeout"),
)


def dial_error_type(error: BaseException) -> str:
    """Return under which name, of a closed list, a failed dial is counted."""
    for cls, name in _BY_CLASS:
        if isinstance(error, cls):
            return name
    attempts = error.attempts if isinstance(error, ConnectError) else ()
    causes = (error.__cause__, *(attempt.error for attempt in reversed(attempts)))
    numbers = (cause.errno for cause in causes if isinstance(cause, OSError))
    return next((_BY_ERRNO[number] for number in numbers if number in _BY_ERRNO), "other")
