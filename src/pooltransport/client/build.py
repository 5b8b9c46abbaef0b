"""From what a caller says to a `Request`: all of the client that does no I/O, for both colours.

Rules:

1. A client never changes after it was made, but for being closed: it is shared between threads.
2. What is given with a call wins over the client's, name by name; None for a header leaves it out.
3. Making a client costs microseconds: a client per request is a habit that we can afford.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from pooltransport.config_checks import ERROR, client_findings
from pooltransport.config_warnings import tell
from pooltransport.errors import ConfigError, InvalidRequest, TransportClosed
from pooltransport.headers import Headers, check_field
from pooltransport.models import NO_TIMEOUT_SET, UNSET, Request, Timeout, Unset
from pooltransport.url import URL, parse_url

from .auth import auth_of, basic_auth
from .cookies import split_cookies
from .flow import Wishes
from .retry import Retry

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeAlias

    from pooltransport.bodies import Content
    from pooltransport.headers import HeadersInput
    from pooltransport.models import TimeoutInput
    from pooltransport.trace import ClientTrace

    from .auth import AuthInput
    from .cookies import CookiesInput
    from .multipart import FilesInput

    Primitive: TypeAlias = str | bytes | int | float | bool | None
    Pairs: TypeAlias = (
        Mapping[str, Primitive | list[Primitive] | tuple[Primitive, ...]]
        | Iterable[tuple[str, Primitive | list[Primitive] | tuple[Primitive, ...]]]
    )
    ClientHeaders: TypeAlias = HeadersInput | Mapping[str, str | bytes | None]


class RequestOptions(TypedDict, total=False):
    """What every verb takes; see `Client.request`."""

    params: Pairs | str | None
    headers: ClientHeaders
    cookies: CookiesInput | Unset
    auth: AuthInput | Unset
    follow_redirects: bool | Unset
    retry: Retry | int | Unset | None
    timeout: TimeoutInput
    trace: ClientTrace | None
    retry_stale: bool | None
    extensions: dict[str, Any] | None


class BodyOptions(RequestOptions, total=False):
    """What a verb with a body takes besides; see `Client.request`."""

    content: Content
    data: Pairs | str | bytes | None
    files: FilesInput | None
    json: Any


class ClientBase:
    """What `Client` and `AsyncClient` share. Not for use by itself."""

    __slots__ = ("__weakref__", "_base_url", "_closed", "_headers", "_query", "_timeout", "_trace", "_wishes")

    def __init__(
        self,
        *,
        timeout: TimeoutInput,
        base_url: str | URL,
        headers: ClientHeaders,
        params: Pairs | str | None,
        cookies: CookiesInput,
        auth: AuthInput,
        follow_redirects: bool,
        max_redirects: Any,
        retry: Retry | int | None,
        trace: ClientTrace | None,
        transport: object,
    ) -> None:
        self._closed = False
        # None, the default, sets nothing: "no total" is what the transport does without one.
        self._timeout = NO_TIMEOUT_SET if timeout is None else Timeout.of(timeout)
        self._base_url = parse_url(base_url).join("") if base_url else None
        self._headers = merge_headers(_default_headers(), headers)
        self._query = encode_pairs(params, "params")
        self._trace = trace
        if isinstance(max_redirects, bool) or not isinstance(max_redirects, int) or max_redirects < 0:
            raise ConfigError(f"max_redirects={max_redirects!r}: must be a whole number, 0 or more [PTC101]")
        cookie, jar = split_cookies(cookies)
        self._wishes = Wishes(_flag(follow_redirects), max_redirects, auth_of(auth), Retry.of(retry), cookie, jar)
        if self._timeout is not NO_TIMEOUT_SET or self._base_url is not None:
            self._judge(transport)

    def _judge(self, transport: object) -> None:
        """Raise for what cannot work between client and transport, and warn of what is probably not meant."""
        findings = client_findings(self._timeout, self._base_url, transport)
        if not findings:
            return
        errors = [str(found) for found in findings if found.level == ERROR]
        if errors:
            raise ConfigError(errors)
        tell(findings)

    @property
    def timeout(self) -> Timeout:
        """What requests without a timeout of their own get."""
        return self._timeout

    @property
    def base_url(self) -> URL | None:
        """What relative URLs are appended to (`URL.join`), or None."""
        return self._base_url

    @property
    def headers(self) -> Headers:
        """The headers of every request, frozen; a call may replace each or leave it out."""
        return self._headers

    @property
    def trace(self) -> ClientTrace | None:
        """The hooks told about every request of this client."""
        return self._trace

    @property
    def is_closed(self) -> bool:
        """Whether `close` (`aclose`) was called. The transport may well be open: it was borrowed."""
        return self._closed

    def build_request(
        self,
        method: str,
        url: str | URL,
        *,
        params: Pairs | str | None = None,
        headers: ClientHeaders = None,
        content: Content = None,
        data: Pairs | str | bytes | None = None,
        files: FilesInput | None = None,
        json: Any = None,
        timeout: TimeoutInput = UNSET,
        trace: ClientTrace | None = None,
        retry_stale: bool | None = None,
        extensions: dict[str, Any] | None = None,
    ) -> Request:
        """Return the request that `request` with the same arguments would send first, without cookies and `auth`,
        which `send` adds. Does no I/O.

        Raises as `request` does for arguments that cannot be sent.
        """
        target = parse_url(url) if self._base_url is None else self._base_url.join(url)
        if self._query or params is not None:
            target = target.with_query("&".join(filter(None, (self._query, encode_pairs(params, "params")))))
        body, content_type = encode_body(content, data, json, files)
        extra = [] if content_type is None else [(b"Content-Type", content_type)]
        if target.user is not None:
            extra.append((b"Authorization", basic_auth(target.user, target.password or "")))
        request = Request(
            method,
            target,
            headers=merge_headers(self._headers, headers, extra),
            content=body,
            timeout=Timeout.of(timeout).over(self._timeout),
            trace=trace,
            retry_stale=retry_stale,
            decode=True,
            extensions=extensions,
        )
        request.client_trace = self._trace
        return request

    def _adopt(self, request: Request) -> Request:
        """Return `request`, made elsewhere, with this client's timeout under its own, and its trace."""
        if not isinstance(request, Request):
            raise InvalidRequest(f"send() takes a Request, not {type(request).__name__}: client.request() makes one")
        return request.with_defaults(self._timeout, self._trace)

    def _wishes_of(
        self,
        auth: AuthInput | Unset = UNSET,
        cookies: CookiesInput | Unset = UNSET,
        follow_redirects: bool | Unset = UNSET,
        retry: Retry | int | Unset | None = UNSET,
    ) -> Wishes:
        """Return what a call wants: what it gives wins over the client's."""
        wishes = self._wishes
        if auth is UNSET and cookies is UNSET and follow_redirects is UNSET and retry is UNSET:
            return wishes
        cookie, jar = (wishes.cookie, wishes.jar) if isinstance(cookies, Unset) else split_cookies(cookies)
        return Wishes(
            wishes.follow if isinstance(follow_redirects, Unset) else _flag(follow_redirects),
            wishes.max_redirects,
            wishes.auth if isinstance(auth, Unset) else auth_of(auth),
            wishes.retry if isinstance(retry, Unset) else Retry.of(retry),
            cookie,
            jar,
        )

    def _check_open(self) -> None:
        if self._closed:
            raise TransportClosed("this client is closed: make a new one, which may use the same transport")

    def __repr__(self) -> str:
        where = "" if self._base_url is None else f" {self._base_url.redacted}"
        return f"<{type(self).__name__}{where}{' closed' if self._closed else ''}>"


def merge_headers(defaults: Headers, given: ClientHeaders, extra: Iterable[tuple[bytes, bytes]] = ()) -> Headers:
    """Return frozen headers: `given`, then what of `defaults` and `extra` it does not name.

    A value of None names a header and gives none. `extra` is also left out where `defaults` have the
    name. `defaults` themselves if nothing is given. Raises `InvalidRequest` as `Headers` does.
    """
    if not defaults.is_frozen:
        defaults = Headers(defaults).freeze()
    if given is None and not extra:
        return defaults
    fields: Any = given
    dropped: set[bytes] = set()
    if isinstance(given, Mapping) and not isinstance(given, Headers):
        # A name that is only left out is still a name: checked beside a value.
        dropped = {check_field(name, b"")[0].lower() for name, value in given.items() if value is None}
        fields = {name: value for name, value in given.items() if value is not None}
    own = Headers(fields)
    named = dropped.union(name.lower() for name, _ in own.raw)
    raw = [item for item in defaults.raw if item[0].lower() not in named]
    fitting = [item for item in extra if item[0].lower() not in named and not defaults.raw_values(item[0].lower())]
    raw += [check_field(name, value) for name, value in fitting]
    raw += own.raw
    return Headers._from_checked(raw)  # noqa: SLF001 - checking each default again is half the cost of a request


def encode_pairs(pairs: Pairs | str | bytes | None, what: str) -> str:
    """Encode `pairs` as application/x-www-form-urlencoded (WHATWG URL section 5), for a query or a form.

    A list or tuple repeats its name; None is left out; booleans become ``true`` and ``false``; text is
    UTF-8. A `str` is taken to be encoded already. Raises `InvalidRequest` for any other kind of value.
    """
    if pairs is None:
        return ""
    if isinstance(pairs, str):
        return pairs
    items: Any = pairs.items() if isinstance(pairs, Mapping) else pairs
    if isinstance(items, (bytes, bytearray)) or not hasattr(items, "__iter__"):
        raise InvalidRequest(f"{what} must be a mapping, (name, value) pairs or str, not {type(pairs).__name__}")
    from urllib.parse import quote_plus  # noqa: PLC0415 - only for who needs it: it loads re and ipaddress

    encoded = []
    for pair in items:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise InvalidRequest(f"{what} must be a mapping or (name, value) pairs: one is {type(pair).__name__}")
        name, values = pair
        for value in values if isinstance(values, (list, tuple)) else (values,):
            if value is not None:
                try:
                    encoded.append(f"{quote_plus(_text(name, what))}={quote_plus(_text(value, what))}")
                except UnicodeEncodeError:
                    raise InvalidRequest(f"{what} has a lone surrogate, which UTF-8 cannot carry") from None
    return "&".join(encoded)


def _text(value: object, what: str) -> str | bytes:
    if isinstance(value, (str, bytes)):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    raise InvalidRequest(f"{what} has a {type(value).__name__} in it: give str, bytes, a number, or a list of these")


def encode_body(
    content: Content, data: Pairs | str | bytes | None, json: object, files: FilesInput | None = None
) -> tuple[Any, bytes | None]:
    """Return the body that one of the arguments describes, or `files` with `data`, and its Content-Type if known.

    Raises `InvalidRequest` if more than one is given, or `json` cannot be encoded (NaN and infinity
    cannot: RFC 8259 section 6).
    """
    if data is None and json is None and files is None:
        return content, None
    if files is not None:
        if content is not None or json is not None:
            raise InvalidRequest("a request has one body: give files= with data=, or one of content= and json=")
        from .multipart import encode_files  # noqa: PLC0415 - only for who needs it

        return encode_files(files, data)
    given = [name for name, value in (("content", content), ("data", data), ("json", json)) if value is not None]
    if len(given) > 1:
        raise InvalidRequest(f"a request has one body: give one of {' and '.join(f'{name}=' for name in given)}")
    if json is not None:
        import json as encoder  # noqa: PLC0415 - only for who needs it: it loads re

        try:
            text = encoder.dumps(json, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
            return text.encode(), b"application/json"
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidRequest(f"json= cannot be encoded: {error}") from error
    if isinstance(data, (str, bytes)):
        return data, None
    return encode_pairs(data, "data"), b"application/x-www-form-urlencoded"


def check_round_tripper(transport: object, *, is_async: bool) -> None:
    """Raise `ConfigError` unless `transport` is None or a round tripper of the right colour."""
    if transport is None:
        return
    round_trip = getattr(transport, "round_trip", None)
    colour, other = ("AsyncRoundTripper", "Client") if is_async else ("RoundTripper", "AsyncClient")
    if not callable(round_trip):
        raise ConfigError(
            f"transport must be {'an AsyncTransport' if is_async else 'a Transport'} or another {colour}, "
            f"not {type(transport).__name__} [PTC115]"
        )
    code = getattr(getattr(round_trip, "__func__", round_trip), "__code__", None)
    # What is no Python function may be either: it is taken at its word.
    if code is not None and not is_async and code.co_flags & _CO_COROUTINE:
        raise ConfigError(f"the round_trip of {type(transport).__name__} is asynchronous: use {other} [PTC115]")
    if is_async and not hasattr(transport, "aclose") and hasattr(transport, "close"):
        kind = type(transport).__name__
        raise ConfigError(f"{kind} has close() and no aclose(), so it is synchronous: use {other} [PTC115]")


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ConfigError(f"follow_redirects={value!r}: must be True or False [PTC110]")


_CO_COROUTINE = 0x80  # inspect.CO_COROUTINE, without importing inspect
_defaults: Headers | None = None


def _default_headers() -> Headers:
    """Return what every client sends unless told otherwise, made once."""
    global _defaults  # noqa: PLW0603 - a race makes the same value twice
    if _defaults is None:
        from pooltransport import __version__  # noqa: PLC0415 - the package is not complete while it loads us

        _defaults = Headers({"User-Agent": f"python-pooltransport/{__version__}"}).freeze()
    return _defaults
