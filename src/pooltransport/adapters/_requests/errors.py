"""What requests calls the errors of ours, before the answer and while its body is read.

Rules:

1. Every `TransportError` becomes an exception that requests documents, with ours as its argument and its cause: so
   the text is ours, the first line of a `PoolTimeout` included.
2. `ConnectTimeout` is what requests calls safe to repeat: all timeouts before anything was sent are that.
3. While a body is read, requests itself translates urllib3's errors: those are raised there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from requests import exceptions as theirs
from urllib3 import exceptions as below

from pooltransport import errors as ours

if TYPE_CHECKING:
    from requests import PreparedRequest


class WriteTimeout(theirs.ConnectionError, theirs.Timeout):
    """The server took no byte of the request for too long. Both, as `requests.ConnectTimeout` is."""


class Refused(theirs.RequestException, ValueError):
    """The request cannot be sent as it is; nothing was."""


class BodyTimeout(below.ReadTimeoutError):
    """As urllib3's, without the pool that it names first."""

    def __init__(self, message: str) -> None:
        below.HTTPError.__init__(self, message)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args


# The first that fits: subclasses stand before their bases.
_BEFORE_THE_ANSWER: tuple[tuple[type[ours.Error], type[theirs.RequestException]], ...] = (
    (ours.PoolTimeout, theirs.ConnectTimeout),
    (ours.ConnectTimeout, theirs.ConnectTimeout),
    (ours.TLSHandshakeTimeout, theirs.ConnectTimeout),
    (ours.ResponseHeaderTimeout, theirs.ReadTimeout),
    (ours.ReadTimeout, theirs.ReadTimeout),
    (ours.WriteTimeout, WriteTimeout),
    (ours.TransportTimeout, theirs.Timeout),
    (ours.TLSError, theirs.SSLError),
    (ours.ProxyError, theirs.ProxyError),
    (ours.DecodingError, theirs.ContentDecodingError),
    (ours.TransportError, theirs.ConnectionError),
    (ours.InvalidRequest, Refused),
)
# What is wrong with options is found at the first request that needs them: by the code.
_BY_CODE: dict[str, type[theirs.RequestException]] = {
    "PTC111": theirs.InvalidProxyURL,
    "PTC112": theirs.SSLError,
    "PTC116": theirs.InvalidSchema,
}


def translated(error: ours.Error, request: PreparedRequest, *, proxied: bool = False) -> theirs.RequestException:
    """Return what requests calls `error`, to be raised from it.

    `proxied`: the request was to go through a proxy. That it could not be reached is then a `ProxyError`.
    """
    if isinstance(error, ours.ConfigError):
        kind = next((_BY_CODE[code] for code in error.codes if code in _BY_CODE), Refused)
    else:
        kind = next((kind for known, kind in _BEFORE_THE_ANSWER if isinstance(error, known)), theirs.RequestException)
    unreachable = isinstance(error, ours.ConnectError) and not isinstance(error, ours.AddressRefused)
    if proxied and kind is theirs.ConnectionError and unreachable:
        kind = theirs.ProxyError
    return kind(error, request=request)


def of_the_body(error: ours.Error) -> below.HTTPError:
    """Return what urllib3 calls `error`, while a body is read, to be raised from it."""
    if isinstance(error, ours.TransportTimeout):
        return BodyTimeout(str(error))
    return below.ProtocolError(str(error))
