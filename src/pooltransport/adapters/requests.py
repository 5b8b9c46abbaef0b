"""`HTTPAdapter`: requests over our pool.

    session = requests.Session()
    adapter = HTTPAdapter(max_conns_per_host=20)
    session.mount("https://", adapter)
    session.mount("http://", adapter)

Redirects, cookies, authentication and decoding stay requests' and urllib3's own. What differs from the adapter that
comes with requests is in docs/adapters.md.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

try:
    import requests
except ImportError as _error:
    raise ImportError("pooltransport.adapters.requests needs requests: pip install pooltransport[requests]") from _error
from requests.adapters import BaseAdapter
from requests.cookies import extract_cookies_to_jar
from requests.exceptions import InvalidHeader, InvalidURL, RetryError
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers
from urllib3.exceptions import InsecureRequestWarning, MaxRetryError
from urllib3.exceptions import InvalidHeader as BelowInvalidHeader

from pooltransport.callers import skip_library
from pooltransport.errors import ConfigError, Error, InvalidRequest
from pooltransport.headers import Headers
from pooltransport.models import Request, Timeout, parse_url
from pooltransport.options import TransportOptions

from ._requests.bodies import content_of, timeout_of
from ._requests.errors import Refused, WriteTimeout, translated
from ._requests.mocks import is_mocked
from ._requests.pools import PROXY, Pools
from ._requests.raw import RawResponse
from ._requests.retries import Attempts, retries_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Unpack

    from urllib3.util.retry import Retry

    from pooltransport.options import OptionsDict
    from pooltransport.response import Response
    from pooltransport.roundtripper import RoundTripper
    from pooltransport.transport import Transport
    from pooltransport.url import URL

    from ._requests.pools import Route

__all__ = ["HTTPAdapter", "Refused", "WriteTimeout"]

# A leak is the fault of who called requests, not of its lines.
skip_library(
    "requests",
    "requests.",
    "opentelemetry.instrumentation.requests",
    "pooltransport.adapters.requests",
    "pooltransport.adapters._requests",
)

_URLLIB3S = {
    "pool_connections": "leave it out: the number of hosts is not limited",
    "pool_maxsize": "say max_conns_per_host= for how many connections a host may have, max_idle_conns= for kept ones",
    "pool_block": "leave it out: max_conns_per_host= always makes the next request wait",
}


class HTTPAdapter(BaseAdapter):
    """Sends what a `requests.Session` sends through a `Transport`. One may be mounted many times; it is thread-safe.

    `transport`: a `Transport`, or any other `RoundTripper`; it is borrowed, and stays open when the session is closed.
    Else `options` are those of a `Transport` that is the adapter's own, and goes with ``session.close()``. With
    neither, the process-wide default transport is borrowed, so that a session for each request keeps its connections.
    `max_retries`: as of requests' own adapter, a number of new attempts to connect, or a `urllib3.util.Retry`; 0.

    Raises `ConfigError` for bad options, for a transport together with options, and for what is no transport.
    """

    def __init__(
        self,
        transport: RoundTripper | None = None,
        *,
        max_retries: int | Retry = 0,
        **options: Unpack[OptionsDict],
    ) -> None:
        super().__init__()
        self.max_retries = retries_of(max_retries)
        foreign = [f"{name}: is urllib3's; {_URLLIB3S[name]} [PTC108]" for name in options if name in _URLLIB3S]
        if foreign:
            raise ConfigError(foreign)
        if transport is not None:
            if options:
                raise ConfigError(f"{', '.join(options)}: belong to the transport that was given [PTC115]")
            if not (callable(getattr(transport, "round_trip", None)) and callable(getattr(transport, "close", None))):
                raise ConfigError(f"transport: must be a Transport, not {type(transport).__name__} [PTC115]")
        self._transport = transport
        self._options = TransportOptions(**options) if options else None
        self._pools = Pools(transport, self._options)
        self._theirs: BaseAdapter | None = None

    @property
    def transport(self) -> RoundTripper:
        """What requests go through that say nothing of their own: for `stats()`, hooks and metrics."""
        return self._pools.base

    @property
    def other_transports(self) -> tuple[Transport, ...]:
        """Those made from the same options for ``verify=``, ``cert=``, ``proxies=`` of calls; each has its limits."""
        return self._pools.others

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str | None = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send `request` and return its response, the body not yet read: a `Session` reads it unless `stream`.

        `timeout`: seconds, ``(connect, read)``, urllib3's `Timeout`, or ours, whose total bounds everything; None
        leaves the transport's own clocks. `verify`, `cert`, `proxies`: as everywhere in requests. Raises
        `requests.RequestException`, each from the error of ours, and `OSError` and `ValueError` as requests does.
        """
        if is_mocked():
            return self._stand_in().send(request, stream, _theirs(timeout), verify, cert, proxies)  # type: ignore[arg-type]
        try:
            url = parse_url(_text(request.url))
        except InvalidRequest as error:
            raise InvalidURL(error, request=request) from error
        route = self._route(request, url, verify, cert, proxies)
        try:
            ours = self._request_of(request, url, timeout, route)
            raw = self._attempts(request, ours, route, read_all=not stream)
        finally:
            self._pools.left(route)
        try:
            return self.build_response(request, raw)
        except BaseException:
            raw.close()
            raise

    def _stand_in(self) -> BaseAdapter:
        """Return requests' own adapter, for as long as a test has replaced what is below it."""
        if self._theirs is None:
            self._theirs = requests.adapters.HTTPAdapter(max_retries=self.max_retries)
        return self._theirs

    def _route(self, request: requests.PreparedRequest, url: URL, verify: Any, cert: Any, proxies: Any) -> Route:
        try:
            route = self._pools.route(url, _text(request.url), verify, cert, proxies)
        except Error as error:
            raise translated(error, request) from error
        if verify is False and url.scheme == "https":
            warnings.warn(
                f"Unverified HTTPS request is being made to host '{url.host}'. Adding certificate verification is "
                "strongly advised.",
                InsecureRequestWarning,
                stacklevel=3,
            )
        return route

    def _request_of(self, request: requests.PreparedRequest, url: URL, timeout: Any, route: Route) -> Request:
        options = getattr(route.transport, "options", None)
        acquire = "acquire_timeout" not in getattr(options, "explicit", ())
        clocks = timeout_of(timeout, acquire=acquire)
        try:
            headers = Headers(list((request.headers or {}).items()))
        except InvalidRequest as error:
            raise InvalidHeader(error, request=request) from error
        try:
            return Request(
                request.method or "GET",
                url,
                headers=headers,
                content=content_of(request.body),
                timeout=clocks,
                decode=False,
                extensions={} if route.proxy is None else {PROXY: route.proxy},
            )
        except InvalidRequest as error:
            raise translated(error, request) from error

    def _attempts(
        self, request: requests.PreparedRequest, ours: Request, route: Route, *, read_all: bool
    ) -> RawResponse:
        attempts = Attempts(self.max_retries, ours)
        options = getattr(route.transport, "options", None)
        while True:
            try:
                response: Response = route.transport.round_trip(attempts.request())
            except Error as error:
                if attempts.after_error(error):
                    continue
                raise translated(error, request, proxied=route.proxied) from error
            try:
                raw = RawResponse(response, request.method, options, read_all=read_all)
            except BaseException as error:
                response.close()
                if isinstance(error, BelowInvalidHeader):  # lengths that differ
                    raise InvalidHeader(error, request=request) from error
                raise
            del response  # or a traceback would keep it
            try:
                if not attempts.after_answer(raw):
                    return raw
            except MaxRetryError as error:
                raise RetryError(error, request=request) from error

    def build_response(self, request: requests.PreparedRequest, raw: RawResponse) -> requests.Response:
        """Return requests' response over `raw`. As in requests' own adapter, to be overridden."""
        response: Any = requests.Response()
        response.status_code = raw.status
        response.headers = CaseInsensitiveDict(raw.headers)
        response.encoding = get_encoding_from_headers(response.headers)
        response.raw = raw
        response.reason = raw.reason
        response.url = _text(request.url)
        extract_cookies_to_jar(response.cookies, request, raw)  # type: ignore[no-untyped-call, unused-ignore]
        response.request = request
        response.connection = self
        return response  # type: ignore[no-any-return]

    def close(self) -> None:
        """Close the transports that are the adapter's own. A borrowed one stays open, and so do responses that are
        being read. Used again, it makes new ones, as requests' own does.
        """
        self._pools.close()
        if self._theirs is not None:
            self._theirs.close()

    def __reduce__(self) -> tuple[Any, ...]:
        if self._transport is not None:
            raise TypeError("an HTTPAdapter that borrows a transport cannot be pickled: give options instead")
        options = self._options
        given = {} if options is None else {name: getattr(options, name) for name in options.explicit}
        return _restored, (self.max_retries, given)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} over {self._pools.base!r}>"


def _restored(max_retries: Any, options: dict[str, Any]) -> HTTPAdapter:
    return HTTPAdapter(max_retries=max_retries, **options)


def _text(url: Any) -> str:
    return url.decode("utf-8") if isinstance(url, bytes) else str(url)


def _theirs(timeout: Any) -> Any:
    return None if isinstance(timeout, Timeout) else timeout
