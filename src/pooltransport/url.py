"""`URL`: what a request needs to know of an http or https address, parsed once and remembered.

Rules:

1. Nothing that comes out of here can hold CR, LF, NUL or a blank: `host_header` and `target` are
   printable ASCII, checked or percent-encoded. What cannot be meant is refused, never repaired.
2. The port is always explicit (Go row KEY-02) and the host is in one form, lower-cased ASCII, so
   that one server has one pool key (unlike Go row KEY-04).
3. The path goes out as it was written: dot segments and double slashes stay (as Go), only bytes that
   cannot stand in a request target are percent-encoded (RFC 3986 section 3.3).
4. An error text may show scheme, host and port; never userinfo, path or query.
"""

from __future__ import annotations

from typing import NoReturn

from .errors import InvalidRequest

_CONTROLS = frozenset(chr(code) for code in (*range(0x20), 0x7F))
_SCHEME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789+-.")
# "_" is in no host name by RFC 952, but in many a container's.
_HOST = b"abcdefghijklmnopqrstuvwxyz0123456789-._"
_ZONE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")
_HEX = b"0123456789abcdefABCDEF"
# RFC 3986: pchar, "/" and "?"; brackets too, which everybody sends as they are (PHP-style arrays).
_IN_TARGET = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+,;=:@/?[]"
_ENCODED = tuple(bytes((code,)) if code in _IN_TARGET else b"%%%02X" % code for code in range(256))
_DEFAULT_PORTS = {"http": 80, "https": 443}
PROXY_PORTS = {**_DEFAULT_PORTS, "socks5": 1080, "socks5h": 1080}  # Go row KEY-02

# {text: URL}: a service calls few addresses. Cleared when full, since an exact order would cost every hit.
# Each operation on it is atomic, so threads need no lock; a race at worst parses a text twice.
_cache: dict[str, URL] = {}
_CACHE_SIZE = 1024
_CACHE_TEXT = 2048  # longer texts are not kept: 1024 of them must not cost megabytes


class URL:
    """An http or https address. Immutable; equal if the same request would go to the same place.

    `scheme`: ``http`` or ``https``. `host`: lower-cased ASCII (punycode for international names, IDNA
    2008), an IPv6 address without brackets but with its zone (``fe80::1%eth0``): this is what is
    dialed. `port`: always a number. `user`, `password`: percent-decoded, or None. `target`: path and
    query as bytes, percent-encoded, ``/`` if empty; the fragment is not part of it. `host_header`: the
    value of Host: brackets for IPv6, no zone, no default port (RFC 9110 section 7.2).

    ``str(url)`` is the text it was made from with the password masked.
    Raises `InvalidRequest` for what is no such address; see `parse_url`.
    """

    __slots__ = ("_text", "host", "host_header", "origin", "password", "port", "scheme", "target", "user")

    scheme: str
    host: str
    port: int
    user: str | None
    password: str | None
    target: bytes
    host_header: bytes
    origin: str  # "https://host:port", the port always there: for keys, statistics and messages
    _text: str

    def __init__(self, url: str | URL) -> None:
        parsed = parse_url(url)
        for name in URL.__slots__:
            object.__setattr__(self, name, getattr(parsed, name))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a URL does not change: build a new one instead of setting {name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("a URL does not change")

    @property
    def userinfo(self) -> tuple[str, str] | None:
        """User and password, percent-decoded; None if the URL has neither."""
        return None if self.user is None else (self.user, self.password or "")

    @property
    def redacted(self) -> str:
        """Scheme and authority only, for logs and messages: no userinfo, path or query."""
        return f"{self.scheme}://{self.host_header.decode()}"

    def join(self, reference: str | URL) -> URL:
        """Return `reference` below this URL, which is a *prefix*, as the base_url of httpx is.

        An absolute reference (``http://...``) stands for itself. Else its path is appended to this
        one's: ``https://h/api`` and ``https://h/api/`` both give ``/api/users`` for ``users`` and for
        ``/users``. That is not RFC 3986 section 5, where ``/users`` would replace ``/api``: with a
        prefix a leading slash must not leave it. ``..`` is sent as it is written. An empty
        reference, or one that is only a query, adds no slash.

        Raises `InvalidRequest` for ``//host/path``, which names another host without saying how to
        reach it, and if this URL has a query or a fragment.
        """
        if isinstance(reference, URL):
            return reference
        if not isinstance(reference, str):
            raise InvalidRequest(f"url must be str or URL, not {type(reference).__name__}")
        if _is_absolute(reference):
            return parse_url(reference)
        if reference.startswith("//"):
            raise InvalidRequest(f"a reference that starts with '//' names a host: write '{self.scheme}://' before it")
        prefix = self._text
        if "?" in prefix or "#" in prefix:
            raise InvalidRequest("a base URL ends with its path: give the query as params=")
        if reference and reference[0] not in "?#":
            prefix = prefix.rstrip("/") + "/"
            reference = reference.lstrip("/")
        return parse_url(prefix + reference)

    def with_query(self, query: str) -> URL:
        """Return this URL with `query` (already encoded, e.g. ``a=1&b=2``) appended to what it has.

        Raises `InvalidRequest` for a control character in it.
        """
        if not query:
            return self
        query = query.replace("#", "%23")  # or the rest of it would be taken for a fragment, and lost
        text = self._text.partition("#")[0]
        if "?" not in text:
            return parse_url(f"{text}?{query}")
        return parse_url(f"{text}{query}" if text.endswith(("?", "&")) else f"{text}&{query}")

    def with_target(self, target: bytes) -> URL:
        """Return this place with another request target, sent as it is: ``*``, or an absolute one (RFC 9112 §3.2).

        Raises `InvalidRequest` unless it is printable ASCII.
        """
        if not target or not all(0x20 < code < 0x7F for code in target):
            _refuse("has a request target that is empty, or not printable ASCII: percent-encode it")
        return _make(**{name: getattr(self, name) for name in URL.__slots__} | {"target": target})

    def __str__(self) -> str:
        if self.password is None:
            return self._text
        scheme, _, rest = self._text.partition("://")
        end = _authority_end(rest)
        userinfo, _, place = rest[:end].rpartition("@")
        return f"{scheme}://{userinfo.partition(':')[0]}:***@{place}{rest[end:]}"

    def __repr__(self) -> str:
        return f"URL({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, URL) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[object, ...]:
        return self.origin, self.target, self.user, self.password

    def __reduce__(self) -> tuple[object, ...]:
        return parse_url, (self._text,)


def parse_url(url: str | URL) -> URL:
    """Parse `url`, an absolute http or https address, or return it from the cache.

    Unsafe characters in path and query, blanks and non-ASCII (as UTF-8) among them, are
    percent-encoded; existing escapes stay. The fragment is dropped.

    Raises `InvalidRequest` for another scheme, an empty host, a host or port that cannot be (Go row
    ERR-08), a blank or backslash where it would change what the host is, and any control character.
    """
    if isinstance(url, str):
        found = _cache.get(url)
        if found is not None:
            return found
        parsed = _parse(str(url))
        if len(url) <= _CACHE_TEXT:
            if len(_cache) >= _CACHE_SIZE:
                _cache.clear()
            _cache[url] = parsed
        return parsed
    if isinstance(url, URL):
        return url
    raise InvalidRequest(f"url must be str or URL, not {type(url).__name__}")


def host_field(text: bytes) -> bytes:
    """Check the value of a Host field given by the caller: ``name``, ``name:port``, ``[v6]:port``.

    Raises `InvalidRequest` if it is none (Go row WRITE-16 sends an empty Host instead, which is a
    request for nobody knows what).
    """
    value = text.decode("latin-1")
    if not value.isascii():
        raise InvalidRequest("header 'Host' has a non-ASCII character: write the name in punycode (xn--...)")
    # "%": an IPv6 zone means something on this machine only (RFC 6874 section 4).
    bad = next((char for char in value if char in "@/?#%\\ \t"), None)
    if bad is not None or not value:
        raise InvalidRequest(
            f"header 'Host' {f'has a {bad!r}' if bad else 'is empty'}: it is a host name and perhaps a port, "
            "for example 'example.com:8080' (RFC 9110 §7.2)"
        )
    host, port = _split_port(value, "header 'Host'")
    _ = _port(port, "http", value)
    _host(host)
    return text


def _parse(text: str) -> URL:
    if not _CONTROLS.isdisjoint(text):
        position, char = next((i, char) for i, char in enumerate(text) if char in _CONTROLS)
        _refuse(f"has a control character ({char!r}) at position {position}: remove it, or percent-encode it")
    if text != text.strip():
        _refuse("begins or ends with white space: strip it")
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if not separator or not scheme or not _SCHEME.issuperset(scheme):
        _no_scheme(text)
    if scheme not in _DEFAULT_PORTS:
        raise InvalidRequest(f"unsupported protocol scheme {scheme[:20]!r}: use http or https")
    end = _authority_end(rest)
    authority = rest[:end]
    if "\\" in authority:
        # Browsers read "\\" as "/", others do not: two readings of which host this is.
        _refuse("has a backslash before its path: is it a Windows path, or meant to be '/'?")
    # A password with a bare "/" ends the authority early; then the pieces shown would be its pieces.
    user, password, host, port = split_authority(scheme, authority, secret="@" in rest[end:])
    field = f"[{host.partition('%')[0]}]" if ":" in host else host
    return _make(
        scheme=scheme,
        host=host,
        port=port,
        user=user,
        password=password,
        target=_target(rest[end:].partition("#")[0]),
        host_header=(field if port == _DEFAULT_PORTS[scheme] else f"{field}:{port}").encode(),
        origin=f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}",
        _text=text,
    )


def split_authority(scheme: str, authority: str, *, secret: bool = False) -> tuple[str | None, str | None, str, int]:
    """Return user and password, percent-decoded or None, host and port of what stands behind ``scheme://``.

    `secret`: no piece of it may be shown. Raises `InvalidRequest`.
    """
    credentials, at, place = authority.rpartition("@")
    user, password = _userinfo(credentials) if at else (None, None)
    host, port_text = _split_port(place, "URL", secret)
    port = _port(port_text, scheme, host, secret)
    if not host:
        _refuse(f"has no host: write {scheme}://host/path")
    return user, password, _host(host, secret), port


def _make(**fields: object) -> URL:
    url = object.__new__(URL)
    for name, value in fields.items():
        object.__setattr__(url, name, value)
    return url


def _refuse(problem: str) -> NoReturn:
    raise InvalidRequest(f"URL {problem} (RFC 3986)")


def _no_scheme(text: str) -> NoReturn:
    if not text:
        _refuse("is empty: write http://host/path or https://host/path")
    if text.lower().startswith(("http:", "https:")):
        _refuse("has no '//' after its scheme: write http://host/path or https://host/path")
    _refuse("has no scheme: write http://host/path or https://host/path")


def _is_absolute(reference: str) -> bool:
    """Report whether `reference` names its scheme; ``http:x`` does too, and is refused when parsed."""
    reference = reference.lower()
    scheme, separator, _ = reference.partition("://")
    return reference.startswith(("http:", "https:")) or bool(separator and scheme and _SCHEME.issuperset(scheme))


def _authority_end(rest: str) -> int:
    """Return where the authority ends in what follows ``scheme://``."""
    ends = [position for position in (rest.find("/"), rest.find("?"), rest.find("#")) if position >= 0]
    return min(ends, default=len(rest))


def _userinfo(text: str) -> tuple[str, str | None]:
    user, colon, password = text.partition(":")
    decoded = _unquote(user), (_unquote(password) if colon else None)
    for part in decoded:
        if part is not None and not _CONTROLS.isdisjoint(part):
            _refuse("has a control character in its user name or password, percent-encoded: it cannot be sent")
    return decoded


def _unquote(text: str) -> str:
    """Percent-decode as UTF-8; a ``%`` that begins no escape stands for itself (passwords have them)."""
    if "%" not in text:
        return text
    first, *pieces = _utf8(text).split(b"%")
    decoded = [first]
    for piece in pieces:
        is_escape = len(piece) >= 2 and not piece[:2].translate(None, _HEX)
        decoded.append(bytes((int(piece[:2], 16),)) + piece[2:] if is_escape else b"%" + piece)
    try:
        return b"".join(decoded).decode()
    except UnicodeDecodeError:
        _refuse("has a user name or password that is not UTF-8 after percent-decoding")


def _split_port(place: str, what: str, secret: bool = False) -> tuple[str, str]:
    """Split ``host:port``; the port is empty if absent. Brackets of IPv6 stay on the host."""
    if place.startswith("["):
        host, bracket, port = place.partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise InvalidRequest(f"{what} has a broken IPv6 address: write [address] or [address]:port")
        return host + "]", port[1:]
    host, _, port = place.partition(":")
    if ":" in port:
        hint = "percent-encode '/', '?' and '#' in a password" if secret else "an IPv6 address stands in brackets"
        raise InvalidRequest(f"{what} has more than one colon in its host: {hint}")
    return host, port


def _port(text: str, scheme: str, host: str, secret: bool = False) -> int:
    if not text:  # "http://h:/" is allowed by RFC 3986 section 3.2.3
        return PROXY_PORTS[scheme]
    if text.isascii() and text.isdigit() and len(text) <= 8 and 0 < int(text) < 65536:
        return int(text)
    if secret:
        raise InvalidRequest("invalid port after host: percent-encode '/', '?' and '#' in a password")
    raise InvalidRequest(f"invalid port {':' + text[:20]!r} after host {host[:100]!r}: use 1 to 65535")


def _host(text: str, secret: bool = False) -> str:
    """Return the one form of a host: lower-cased ASCII name, or an IPv6 address without brackets."""
    if text.startswith("["):
        return _ipv6(text[1:-1])
    host = text.lower() if text.isascii() else _idna(text)
    encoded = host.encode()
    if encoded.translate(None, _HOST):
        bad = next(char for char in host if ord(char) not in _HOST)
        shown = "" if secret else f" {text[:100]!r}"
        raise InvalidRequest(f"invalid host{shown}: {bad!r} cannot be in a host name")
    labels = host.removesuffix(".").split(".")
    # getaddrinfo would raise UnicodeError for these, long after the request was accepted.
    if len(host) > 254 or not all(0 < len(label) < 64 for label in labels):
        shown = "" if secret else f" {text[:100]!r}"
        raise InvalidRequest(f"invalid host{shown}: a label has 1 to 63 characters, a name 253 (RFC 1035 §2.3.4)")
    return host


def _ipv6(text: str) -> str:
    import ipaddress  # noqa: PLC0415 - 2 ms that few programs need

    address, percent, zone = text.partition("%")
    zone = zone.removeprefix("25")  # RFC 6874 writes the "%" itself as "%25"
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        raise InvalidRequest(f"invalid IPv6 address {'[' + text[:60] + ']'!r} (RFC 4291 §2.2)") from None
    if percent and (not zone or not _ZONE.issuperset(zone)):
        raise InvalidRequest(f"invalid zone in the IPv6 address {'[' + address + '%...]'!r}: write %25eth0 (RFC 6874)")
    return address.lower() + percent + zone


def _idna(text: str) -> str:
    import idna  # noqa: PLC0415 - its tables take milliseconds to load

    try:
        return idna.encode(text, uts46=True, std3_rules=True, transitional=False).decode("ascii").lower()
    except UnicodeError as error:  # idna.IDNAError is one
        raise InvalidRequest(f"invalid host {text[:100]!r}: {error} (IDNA 2008)") from None


def _target(text: str) -> bytes:
    """Return path and query as they stand in the request line (origin-form, RFC 9112 section 3.2.1)."""
    if not text.startswith("/"):
        text = "/" + text
    raw = text.encode() if text.isascii() else _utf8(text)
    if not raw.translate(None, _IN_TARGET):
        return raw
    first, *pieces = raw.split(b"%")
    encoded = [_quote(first)]
    for piece in pieces:
        is_escape = len(piece) >= 2 and not piece[:2].translate(None, _HEX)
        encoded.append((b"%" if is_escape else b"%25") + _quote(piece))
    return b"".join(encoded)


def _quote(raw: bytes) -> bytes:
    return b"".join([_ENCODED[code] for code in raw])


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        _refuse("has a lone surrogate, which UTF-8 cannot carry")
