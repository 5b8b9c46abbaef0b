"""What a request's own fields say of where it ends, checked against its body (RFC 9112 section 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .bodies import NO_BODY, RequestBody
from .errors import InvalidRequest
from .url import host_field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .headers import HeaderItems, Headers

# RFC 9110 section 6.5.1: a trailer must not say how the message is framed, routed, authenticated or
# to be read, since all that is decided before it comes. Go refuses the first three (row TRAIL-04).
_NOT_IN_TRAILER = frozenset(
    {
        b"transfer-encoding",
        b"trailer",
        b"content-length",
        b"host",
        b"connection",
        b"te",
        b"upgrade",
        b"expect",
        b"authorization",
        b"proxy-authorization",
        b"cookie",
        b"content-encoding",
        b"content-type",
        b"content-range",
    }
)


def host_override(headers: Headers) -> bytes | None:
    values = headers.raw_values(b"host")
    if not values:
        return None
    if len(values) > 1:
        raise InvalidRequest(f"header 'Host' is given {len(values)} times: a request has one (RFC 9112 §3.2)")
    return host_field(values[0])


def framing(headers: Headers, body: RequestBody, given: bool, trailers: Headers | None) -> bool:
    """Check that the framing headers and trailers agree with the body; report whether it goes out chunked.

    A Content-Length fixes the length of a body that cannot tell its own.
    """
    lengths = headers.raw_values(b"content-length")
    codings = headers.raw_values(b"transfer-encoding")
    if codings:
        if len(codings) > 1 or codings[0].lower() != b"chunked":
            raise InvalidRequest("header 'Transfer-Encoding' can only be 'chunked': encode the content yourself")
        if not given:
            raise InvalidRequest("header 'Transfer-Encoding' without a body: give content=, or leave it out")
        if lengths:
            raise InvalidRequest(
                "headers 'Transfer-Encoding' and 'Content-Length' exclude each other (RFC 9112 §6.2): leave both out"
            )
    if trailers is not None and trailers:
        if lengths:
            raise InvalidRequest("trailers need a chunked body: leave 'Content-Length' out (RFC 9112 §7.1.2)")
        if not given:
            raise InvalidRequest("trailers without a body: give content=, or send them as headers")
        checked_trailers(trailers)
        return True
    if lengths:
        _fix_length(lengths, body)
    return bool(codings) or body.length is None


def _fix_length(values: Sequence[bytes], body: RequestBody) -> None:
    # isdigit() is ASCII only for bytes. 18 digits are an exabyte; without a bound int() is quadratic.
    if len(values) > 1 or not values[0].isdigit() or len(values[0]) > 18:
        raise InvalidRequest("header 'Content-Length' must be one number of bytes, in digits: or leave it out")
    declared = int(values[0])
    if body.length is None:
        body.length = declared
    elif declared != body.length:
        held = "no body" if body is NO_BODY else f"a body of {body.length} bytes"
        raise InvalidRequest(f"header 'Content-Length' says {declared}, but the request has {held}: leave it out")


def checked_trailers(trailers: Headers) -> HeaderItems:
    items = list(trailers.raw)
    for name, _ in items:
        if name.lower() in _NOT_IN_TRAILER:
            raise InvalidRequest(f"{name.decode()!r} cannot be a trailer (RFC 9110 §6.5.1): send it as a header")
    return items


_OURS = frozenset((b"host", b"content-length", b"transfer-encoding", b"trailer"))
_TELLING = frozenset((b"accept-encoding", b"connection", b"expect", b"proxy-authorization", b"range"))


class Fields(NamedTuple):
    """What the caller's fields mean for the message; found in one pass, and kept with the request."""

    lines: bytes = b""  # as they go out, less those that are ours to write
    close: bool = False
    upgrades: bool = False
    expects_continue: bool = False
    may_ask_for_codings: bool = True  # of our choice: they say nothing of codings, and ask for no part
    authorizes_proxy: bool = False


NO_FIELDS = Fields()


def fields_of(items: HeaderItems) -> Fields:
    """Return what these fields mean; `NO_FIELDS` for none."""
    if not items:
        return NO_FIELDS
    lines: list[bytes] = []
    tokens: set[bytes] = set()
    expects = authorizes = False
    asks = True
    for item in items:
        name = item[0].lower()
        if name in _OURS:
            continue
        lines.append(b"%b: %b\r\n" % item)
        if name in _TELLING:
            if name == b"connection":
                tokens |= _tokens(item[1])
            elif name == b"expect":
                expects = expects or b"100-continue" in _tokens(item[1])
            elif name == b"proxy-authorization":
                authorizes = True
            else:
                asks = False
    return Fields(b"".join(lines), b"close" in tokens, b"upgrade" in tokens, expects, asks, authorizes)


def _tokens(value: bytes) -> set[bytes]:
    return {part.strip() for part in value.lower().split(b",")}
