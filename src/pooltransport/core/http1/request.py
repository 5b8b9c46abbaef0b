"""What a request looks like on the wire (RFC 9112 sections 3, 6, 7). Everything was validated before:
names, values, method and target of a `Request` cannot hold CR, LF or NUL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pooltransport.models import Request
    from pooltransport.proxy_url import Proxy

# Go sends "Content-Length: 0" for these alone (row WRITE-05): servers may refuse them without it.
_LENGTH_EXPECTED = frozenset(("POST", "PUT", "PATCH"))
_OURS = frozenset((b"host", b"content-length", b"transfer-encoding", b"trailer"))
_NO_GZIP = frozenset((b"accept-encoding", b"range"))
LAST_CHUNK = b"0\r\n\r\n"


def head(request: Request, *, close: bool, accept_encoding: bytes = b"", proxy: Proxy | None = None) -> bytes:
    """Return the request line and header section: Host first, the caller's fields in their order and
    case, then the framing. `close` adds ``Connection: close`` where the caller did not, `accept_encoding` the
    codings that we take off again. `proxy` is a forward proxy: it is told the whole address, and who
    asks, unless the caller says so itself.
    """
    items = request.raw_header_items()
    target = _target(request)
    if proxy is not None and request.method != "CONNECT":
        # The URL's host, not the caller's Host, decides where a proxy goes (RFC 9112 section 3.2.2).
        target = b"%b://%b%b" % (request.url.scheme.encode("ascii"), request.url.host_header, target)
    parts = [b"%b %b HTTP/1.1\r\nHost: %b\r\n" % (request.method.encode("ascii"), target, request.host_header)]
    parts += [b"%b: %b\r\n" % item for item in items if item[0].lower() not in _OURS]
    if proxy is not None and (who := proxy.authorization) and not _has_field(request, b"proxy-authorization"):
        parts.append(b"Proxy-Authorization: %b\r\n" % who)
    parts.append(_framing(request))
    if accept_encoding:
        parts.append(b"Accept-Encoding: %b\r\n" % accept_encoding)
    if close and not says_close(request) and not _upgrades(request):
        parts.append(b"Connection: close\r\n")
    parts.append(b"\r\n")
    return b"".join(parts)


def _target(request: Request) -> bytes:
    """Return the request target: of CONNECT the host and port to reach, in authority-form (RFC 9112 section 3.2.3)."""
    if request.method != "CONNECT":
        return request.url.target
    host = request.host_header
    if host.rpartition(b":")[2].isdigit() and not host.endswith(b"]"):
        return host
    return b"%b:%d" % (host, request.url.port)


def _upgrades(request: Request) -> bool:
    """Report whether the request proposes another protocol: its ``Connection`` is spoken for (Go KA-06)."""
    return _has_token(request, b"connection", b"upgrade")


def _framing(request: Request) -> bytes:
    if request.chunked:
        names = b", ".join(dict.fromkeys(name for name, _ in request.raw_trailer_items()))
        announced = b"Trailer: %b\r\n" % names if names else b""
        return b"Transfer-Encoding: chunked\r\n" + announced
    length = request.body.length
    if length or request.method in _LENGTH_EXPECTED or request.content is not None:
        return b"Content-Length: %d\r\n" % (length or 0)
    return b""


def may_ask_for_codings(request: Request) -> bool:
    """Report whether the answer may come in codings of our choice: nobody has said a word about them, and it is not
    a part of something that would have to be put together first (Go GZIP-01).
    """
    if request.method == "HEAD":
        return False
    return not any(name.lower() in _NO_GZIP for name, _ in request.raw_header_items())


def says_close(request: Request) -> bool:
    """Report whether the caller's own fields say ``Connection: close``."""
    return _has_token(request, b"connection", b"close")


def expects_continue(request: Request) -> bool:
    """Report whether the request waits for 100 (Continue) before its body (RFC 9110 section 10.1.1)."""
    return not request.body.is_empty and _has_token(request, b"expect", b"100-continue")


def _has_field(request: Request, name: bytes) -> bool:
    return any(key.lower() == name for key, _ in request.raw_header_items())


def _has_token(request: Request, name: bytes, token: bytes) -> bool:
    return any(
        token in (part.strip() for part in value.lower().split(b","))
        for key, value in request.raw_header_items()
        if key.lower() == name
    )


def chunk(data: bytes) -> bytes:
    """Return `data`, which is not empty, as one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk(request: Request) -> bytes:
    """Return the end of a chunked body, with the trailers as they are now."""
    trailers = request.raw_trailer_items()
    if not trailers:
        return LAST_CHUNK
    return b"0\r\n" + b"".join(b"%b: %b\r\n" % item for item in trailers) + b"\r\n"
