"""Cookies of a client (contract 4.7): none, a fixed dict, or a `http.cookiejar.CookieJar` that stores (RFC 6265).

The jar is the standard library's, which knows domains, paths, expiry and `Secure`, and is locked. What it asks of
a request and a response is given here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pooltransport.errors import ConfigError, InvalidRequest
from pooltransport.headers import Headers

if TYPE_CHECKING:
    from http.cookiejar import CookieJar
    from typing import TypeAlias

    from pooltransport.models import Request
    from pooltransport.response import AsyncResponse, Response

    CookiesInput: TypeAlias = Mapping[str, str] | CookieJar | None

_NOT_IN_A_NAME = frozenset('()<>@,;:\\"/[]?={} \t')


def split_cookies(given: CookiesInput) -> tuple[bytes, Any]:
    """Return the value of Cookie that `given` stands for, and the jar it is: one of the two is empty.

    Raises `ConfigError` for what is neither; `InvalidRequest` for a name or value that cannot be sent.
    """
    if given is None:
        return b"", None
    if isinstance(given, Mapping):
        return cookie_value(given), None
    if callable(getattr(given, "add_cookie_header", None)) and callable(getattr(given, "extract_cookies", None)):
        return b"", given
    raise ConfigError(
        f"cookies must be None, a dict or a http.cookiejar.CookieJar, not {type(given).__name__} [PTC110]"
    )


def cookie_value(cookies: Mapping[str, str]) -> bytes:
    """Return `cookies` as the value of Cookie (RFC 6265 section 4.2.1): the values as they are."""
    parts = []
    pairs: Any = cookies.items()
    for name, value in pairs:
        if not isinstance(name, str) or not isinstance(value, str):
            raise InvalidRequest("cookies must be a mapping of str to str")
        if not name or not name.isascii() or not name.isprintable() or not _NOT_IN_A_NAME.isdisjoint(name):
            raise InvalidRequest("a cookie has a name that cannot be sent (RFC 6265 section 4.1.1)")
        if ";" in value or any(ord(char) < 0x20 or ord(char) == 0x7F for char in value):
            raise InvalidRequest(f"the cookie {name!r} has a ';' or a control character in its value: encode it first")
        parts.append(f"{name}={value}")
    return "; ".join(parts).encode()


def with_cookies(request: Request, value: bytes, jar: Any) -> Request:
    """Return `request` with a Cookie of `value` and of what `jar` has for it, unless it has one of the caller's."""
    items = request.raw_header_items()
    if any(name.lower() == b"cookie" for name, _ in items):
        return request
    values = [value] if value else []
    if jar is not None:
        asked = _JarRequest(request)
        jar.add_cookie_header(asked)
        if asked.cookie:
            values.append(asked.cookie.encode("latin-1", "replace"))
    if not values:
        return request
    return request.with_headers(Headers([*items, (b"Cookie", b"; ".join(values))]))


def store(jar: Any, request: Request, response: Response | AsyncResponse) -> None:
    """Put the cookies that `response` sets into `jar`."""
    if response.headers.raw_values(b"set-cookie"):
        jar.extract_cookies(_JarResponse(response), _JarRequest(request))


class _JarRequest:
    """A `urllib.request.Request`, as far as a jar asks."""

    unverifiable = False  # the caller asked for it, no page did

    def __init__(self, request: Request) -> None:
        url = request.url
        self.type = url.scheme
        self.host = url.host_header.decode()
        self.origin_req_host = url.host
        self.cookie = ""
        self._url = f"{url.scheme}://{self.host}{url.target.decode('latin-1')}"

    def get_full_url(self) -> str:
        return self._url

    def get_host(self) -> str:
        return self.host

    def has_header(self, name: str) -> bool:
        return name == "Cookie" and bool(self.cookie)

    def get_header(self, name: str, default: str | None = None) -> str | None:
        return self.cookie or default if name == "Cookie" else default

    def header_items(self) -> list[tuple[str, str]]:
        return []

    def add_unredirected_header(self, name: str, value: str) -> None:
        if name == "Cookie":
            self.cookie = value


class _JarResponse:
    """A response of ``http.client``, as far as a jar asks."""

    def __init__(self, response: Response | AsyncResponse) -> None:
        self._headers = response.headers

    def info(self) -> _JarResponse:
        return self

    def get_all(self, name: str, default: Any = None) -> Any:
        return self._headers.get_list(name) or default
