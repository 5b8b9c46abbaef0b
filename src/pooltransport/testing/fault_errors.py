"""Errors as the transport would raise them, made from their class alone: with the texts, numbers and fields that code
under test may look at. Of a request that was never sent anywhere.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from pooltransport import errors
from pooltransport.core.counts import HostCounts
from pooltransport.core.tally import stats_of_counts
from pooltransport.engine.clocks import Setting

if TYPE_CHECKING:
    from pooltransport.engine.clocks import Clocks
    from pooltransport.models import Request
    from pooltransport.options import TransportOptions

_LIMIT = 10  # connections, where the transport has no limit
_PHASES: dict[type[errors.TransportTimeout], tuple[str, str]] = {
    errors.PoolTimeout: ("queue", "acquire"),
    errors.ConnectTimeout: ("connect", "connect"),
    errors.TLSHandshakeTimeout: ("tls", "tls"),
    errors.ResponseHeaderTimeout: ("headers", "response_header"),
    errors.ReadTimeout: ("body", "read"),
    errors.WriteTimeout: ("write", "write"),
}
_AFTER_SENDING = frozenset(("headers", "body", "write"))


def make_error(kind: type[BaseException], request: Request, clocks: Clocks, options: TransportOptions) -> BaseException:
    """Return an error of class `kind`, as of `request` under its `clocks`."""
    origin = request.url.origin
    if kind in _PHASES:
        return _timeout(kind, request, clocks, options)
    if kind is errors.ServerClosedConnection:
        sent = 200 + (request.body.length or 0)
        return errors.ServerClosedConnection(
            f"{origin}: the server closed the connection without answering, on a connection that had served "
            f"3 requests, after {sent} bytes of the request were written",
            reused=True,
            idle_time=12.0,
            bytes_written=sent,
        )
    if issubclass(kind, errors.ConnectError):
        return _connect_error(kind, request)
    if kind is errors.PoolQueueFull:
        waiting = options.max_waiting or _LIMIT
        full = errors.PoolQueueFull(
            f"no connection to {origin}: {waiting} requests wait already (max_waiting) [{errors.PoolQueueFull.code}]"
        )
        full.origin, full.limit, full.stats = origin, waiting, stats_of_counts(options.name, {}, HostCounts())
        return full
    text = _TEXTS.get(kind)
    if text is not None:
        return kind(text.format(origin=origin, seconds=options.lease_max or 300.0))
    return kind(f"{origin}: made by FaultTransport") if issubclass(kind, errors.Error) else kind()


_TEXTS: dict[type[BaseException], str] = {
    errors.ReadError: "{origin}: receiving the response header failed: Connection reset by peer",
    errors.BodyTooLarge: "{origin}: the body is larger than the bound (max_body_bytes)",
    errors.WriteError: "{origin}: sending the request failed: Broken pipe",
    errors.RemoteProtocolError: "{origin}: the status line is not HTTP: b'\\x00\\x01'",
    errors.LocalProtocolError: "{origin}: the body has fewer bytes than its Content-Length says",
    errors.IncompleteBody: "the server closed the connection inside a chunked body, after 0 bytes",
    errors.TransportClosed: "{origin}: the transport was closed while the request ran",
    errors.PoolDeadlock: "no connection to {origin}: every slot is held by who waits in this pool [PT-DEADLOCK]",
    errors.LeaseExpired: "{origin}: the response was held for longer than {seconds:g} s (lease_max)",
    errors.DecodingError: "{origin}: the gzip body is broken after 0 bytes",
}


def _timeout(kind: Any, request: Request, clocks: Clocks, options: TransportOptions) -> errors.TransportTimeout:
    phase, field = _PHASES[kind]
    setting: Setting = getattr(clocks.settings, field)
    total = clocks.settings.total
    if total.seconds is not None and (setting.seconds is None or total.seconds < setting.seconds):
        setting = total
    if setting.seconds is None:
        setting = Setting(options.dial_timeout or 30.0, "dial_timeout") if phase in ("connect", "tls") else _A_MINUTE
    origin, seconds = request.url.origin, setting.seconds or 0.0
    error: errors.TransportTimeout = kind(
        f"{origin}: {_WHAT[phase]} within {seconds:g} s ({setting.name}), phase {phase}",
        phase=phase,
        setting=setting.name,
        seconds=seconds,
        may_have_been_processed=phase in _AFTER_SENDING,
    )
    if isinstance(error, errors.PoolTimeout):
        _exhausted(error, origin, seconds, options)
    if isinstance(error, errors.ConnectTimeout):
        error.attempts = (_attempt(request, errno.ETIMEDOUT, "Connection timed out"),)
    return error


_A_MINUTE = Setting(60.0, "timeout")
_WHAT = {
    "connect": "no connection was made",
    "tls": "the TLS handshake did not end",
    "headers": "no response headers came",
    "body": "the response body did not end",
    "write": "the request was not sent",
    "queue": "no connection became free",
}


def _exhausted(error: errors.PoolTimeout, origin: str, seconds: float, options: TransportOptions) -> None:
    per_host = options.max_conns_per_host
    limit = per_host or options.max_conns or _LIMIT
    error.args = (
        f"no connection to {origin} within {seconds:.2f} s: {limit} of {limit} in use, 1 waiting [{error.code}]",
    )
    error.origin = origin
    error.limit_scope = "per_host" if per_host is not None or options.max_conns is None else "total"
    error.limit = limit
    error.waited = seconds
    error.stats = stats_of_counts(options.name, {}, HostCounts())


def _connect_error(kind: Any, request: Request) -> errors.ConnectError:
    url = request.url
    if issubclass(kind, errors.AddressRefused):
        where, text = f"{url.host}:{url.port}", "refused by allow_address"
        return kind(  # type: ignore[no-any-return]
            f"cannot connect to {url.origin}: allow_address refused {where} [{errors.AddressRefused.code}]",
            refused=(url.host,),
            attempts=(errors.ConnectAttempt(where, PermissionError(errno.EACCES, text)),),
        )
    if issubclass(kind, errors.DNSError):
        return kind(f"cannot resolve {url.host}: the name is not known")  # type: ignore[no-any-return]
    if issubclass(kind, errors.ProxyError):
        return kind(f"{url.origin}: the proxy refused with 503 Service Unavailable", status_code=503)  # type: ignore[no-any-return]
    if issubclass(kind, errors.TLSError):
        return kind(f"TLS handshake with {url.origin} failed: the certificate has expired")  # type: ignore[no-any-return]
    refused = _attempt(request, errno.ECONNREFUSED, "Connection refused")
    return kind(f"cannot connect to {url.origin}: {refused.address}: Connection refused", attempts=(refused,))  # type: ignore[no-any-return]


def _attempt(request: Request, number: int, text: str) -> errors.ConnectAttempt:
    where = f"{request.url.host}:{request.url.port}"
    error = ConnectionRefusedError(number, text) if number == errno.ECONNREFUSED else TimeoutError(number, text)
    return errors.ConnectAttempt(where, error)
