"""Where a redirect leads, and what goes there (RFC 9110 section 15.4; Go: Client.do). Pure.

301, 302 and 303 turn what is neither GET nor HEAD into a GET without a body, as Go has it, and browsers for
POST. 307 and 308 repeat the request, if its body can be sent again. Another origin (scheme, host or port) gets
no `Authorization`, no `Cookie`, no `Proxy-Authorization`, and none of them comes back with a later redirect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pooltransport.errors import InvalidRequest, RemoteProtocolError
from pooltransport.headers import Headers
from pooltransport.url import URL, parse_url

from .auth import basic_auth

if TYPE_CHECKING:
    from pooltransport.models import Request
    from pooltransport.response import AsyncResponse, Response

_METHOD_CHANGES = frozenset((301, 302, 303))
_KEEPS_METHOD = frozenset((307, 308))
_CREDENTIALS = frozenset((b"authorization", b"cookie", b"proxy-authorization"))
_OF_THE_BODY = frozenset(
    (
        b"content-length",
        b"content-type",
        b"content-encoding",
        b"content-language",
        b"content-location",
        b"content-disposition",
        b"content-digest",
        b"transfer-encoding",
        b"trailer",
        b"expect",
        b"digest",
    )
)


def leads_on(request: Request, response: Response | AsyncResponse) -> bool:
    """Report whether `response` is a redirect that can be followed: it says where to, and the body can be sent
    again if it has to be (contract 4.6).
    """
    status = response.status_code
    if status in _KEEPS_METHOD:
        body = request.body
        if not (body.rewindable or not body.started):
            return False
    elif status not in _METHOD_CHANGES:
        return False
    return "location" in response.headers


def redirected(request: Request, response: Response | AsyncResponse) -> Request:
    """Return the request that a redirect asks for.

    Raises `RemoteProtocolError` if its Location is no http or https address.
    """
    url = _target(request.url, response.headers.raw_values(b"location")[0])
    changed = response.status_code in _METHOD_CHANGES and request.method not in ("GET", "HEAD")
    dropped = _OF_THE_BODY if changed else frozenset[bytes]()
    is_same_host = url.host_header == request.url.host_header
    if url.origin != request.url.origin:
        dropped |= _CREDENTIALS
    if not is_same_host:
        dropped |= {b"host"}
    items = [item for item in request.raw_header_items() if item[0].lower() not in dropped]
    if url.user is not None and not any(name.lower() == b"authorization" for name, _ in items):
        items.append((b"Authorization", basic_auth(url.user, url.password or "")))
    if not changed:
        request.body.rewind()
    headers = Headers(items)
    return request.with_url(url, headers, method="GET" if changed else None, is_same_host=is_same_host)


def _target(base: URL, location: bytes) -> URL:
    """Resolve `location` (RFC 3986 section 5)."""
    from urllib.parse import urljoin  # noqa: PLC0415 - only for who needs it: it loads re and ipaddress

    try:
        reference = location.decode()
    except UnicodeDecodeError:
        reference = "".join(f"%{byte:02X}" if byte > 0x7F else chr(byte) for byte in location)
    try:
        return parse_url(
            urljoin(f"{base.scheme}://{base.host_header.decode()}{base.target.decode('latin-1')}", reference)
        )
    except ValueError as error:
        # urllib's own text may show a password; InvalidRequest shows none.
        safe = error if isinstance(error, InvalidRequest) else InvalidRequest("URL has an impossible host (RFC 3986)")
        raise RemoteProtocolError(
            f"{base.origin}: a redirect's Location cannot be followed, it is no http or https address"
        ) from safe
