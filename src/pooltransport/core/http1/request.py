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
_BARE = frozenset(("GET", "HEAD"))  # which have a framing only with a body
LAST_CHUNK = b"0\r\n\r\n"


def head(request: Request, *, close: bool, accept_encoding: bytes = b"", proxy: Proxy | None = None) -> bytes:
    """Return the request line and header section: Host first, the caller's fields in their order and
    case, then the framing. `close` adds ``Connection: close`` where the caller did not, `accept_encoding` the
    codings that we take off again. `proxy` is a forward proxy: it is told the whole address, and who
    asks, unless the caller says so itself.
    """
    fields, method = request.fields, request.method
    target = request.url.target if method != "CONNECT" else _authority(request)
    more = b""
    if proxy is not None:
        if method != "CONNECT":
            # The URL's host, not the caller's Host, decides where a proxy goes (RFC 9112 section 3.2.2).
            target = b"%b://%b%b" % (request.url.scheme.encode("ascii"), request.url.host_header, target)
        if (who := proxy.authorization) and not fields.authorizes_proxy:
            more = b"Proxy-Authorization: %b\r\n" % who
    if method not in _BARE or request.chunked or request.content is not None:
        more += _framing(request)
    if accept_encoding:
        more += b"Accept-Encoding: %b\r\n" % accept_encoding
    if close and not fields.close and not fields.upgrades:  # its ``Connection`` is spoken for (Go KA-06)
        more += b"Connection: close\r\n"
    line = method.encode("ascii")
    return b"%b %b HTTP/1.1\r\nHost: %b\r\n%b%b\r\n" % (line, target, request.host_header, fields.lines, more)


def _authority(request: Request) -> bytes:
    """Return the host and port for CONNECT to reach, in authority-form (RFC 9112 section 3.2.3)."""
    host = request.host_header
    if host.rpartition(b":")[2].isdigit() and not host.endswith(b"]"):
        return host
    return b"%b:%d" % (host, request.url.port)


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
    return request.method != "HEAD" and request.fields.may_ask_for_codings


def expects_continue(request: Request) -> bool:
    """Report whether the request waits for 100 (Continue) before its body (RFC 9110 section 10.1.1)."""
    return request.fields.expects_continue and not request.body.is_empty


def chunk(data: bytes) -> bytes:
    """Return `data`, which is not empty, as one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk(request: Request) -> bytes:
    """Return the end of a chunked body, with the trailers as they are now."""
    trailers = request.raw_trailer_items()
    if not trailers:
        return LAST_CHUNK
    return b"0\r\n" + b"".join(b"%b: %b\r\n" % item for item in trailers) + b"\r\n"
