"""`Proxy`: where a proxy is, how it is spoken to, and who we are to it.

A value beside `url`, not in `core`, because the options check a proxy's text together with everything else.
"""

from __future__ import annotations

from typing import NamedTuple

from .errors import ConfigError, InvalidRequest
from .headers import Headers
from .url import PROXY_PORTS, split_authority

_CONTROLS = frozenset(chr(code) for code in (*range(0x21), 0x7F))
# RFC 1929 section 2: one byte says how long each is.
_SOCKS_FIELD = 255


class Proxy(NamedTuple):
    """A parsed proxy URL. `scheme`: ``http``, ``https``, ``socks5`` or ``socks5h``. `user` and `password` are
    percent-decoded. As text it is scheme, host and port: credentials are in no message.
    """

    scheme: str
    host: str
    port: int
    user: str | None = None
    password: str | None = None

    @property
    def is_socks(self) -> bool:
        """Whether it makes tunnels only, for http as well."""
        return self.scheme not in ("http", "https")

    @property
    def host_port(self) -> str:
        """``host:port``, with brackets around an IPv6 address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def authorization(self) -> bytes | None:
        """The value of Proxy-Authorization (RFC 7617), or None without credentials (Go PROXY-03)."""
        if self.user is None:
            return None
        import binascii  # noqa: PLC0415 - only who has credentials pays for it

        return b"Basic " + binascii.b2a_base64(f"{self.user}:{self.password or ''}".encode(), newline=False)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host_port}"

    def __repr__(self) -> str:
        return f"Proxy({str(self)!r}{', with credentials' if self.user is not None else ''})"


def parse_proxy(text: str, *, lenient: bool = False) -> Proxy:
    """Parse ``scheme://user:password@host:port``; the port is by default 80, 443 or 1080.

    `lenient` is for the environment's variables, as Go reads them (row PROXY-16): without a scheme it is
    http, and a path is ignored. Raises `ConfigError` for anything else, never showing credentials.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        if not lenient:
            raise ConfigError(
                "the proxy's URL has no scheme: write http://host:port (or https, socks5, socks5h)", "PTC111"
            )
        scheme, rest = "http", text
    scheme = scheme.lower()
    if scheme not in PROXY_PORTS:
        raise ConfigError(
            f"proxies of the scheme {scheme[:20]!r} are not known: use http, https, socks5 or socks5h", "PTC111"
        )
    end = min((at for at in map(rest.find, "/?#") if at >= 0), default=len(rest))
    authority, path = rest[:end], rest[end:]
    if path not in ("", "/") and not lenient:
        hint = "percent-encode '/', '?' and '#' in a password" if "@" in path else "a PAC file is not understood"
        raise ConfigError(f"the proxy's URL has a path or query: write {scheme}://host:port only ({hint})", "PTC111")
    if not _CONTROLS.isdisjoint(authority) or "\\" in authority:
        raise ConfigError("the proxy's URL has a blank, a backslash or a control character before its path", "PTC111")
    try:
        user, password, host, port = split_authority(scheme, authority, secret="@" in path)
    except InvalidRequest as error:
        raise ConfigError(f"the proxy's {error}".replace("the proxy's URL URL", "the proxy's URL"), "PTC111") from None
    proxy = Proxy(scheme, host, port, user, password)
    _check_credentials(proxy)
    return proxy


def _check_credentials(proxy: Proxy) -> None:
    if proxy.user is None:
        return
    if not proxy.is_socks:
        if ":" in proxy.user:
            raise ConfigError(
                "the proxy's user name has a colon, which Basic cannot carry (RFC 7617 section 2)", "PTC111"
            )
    elif not 0 < len(proxy.user.encode()) <= _SOCKS_FIELD or len((proxy.password or "").encode()) > _SOCKS_FIELD:
        raise ConfigError("SOCKS5 takes a user name of 1 to 255 bytes and a password of up to 255 (RFC 1929)", "PTC111")


def proxy_problem(name: str, value: object) -> str | None:
    """Return what is wrong with the option `proxy`, or None."""
    if value is None or callable(value) or value == "environment":
        return None
    if not isinstance(value, str):
        return f"{name}: must be 'environment', None, a URL text, or a callable, not {type(value).__name__}"
    try:
        parse_proxy(value)
    except ConfigError as error:
        return f"{name}: {error}"
    return None


def connect_headers_problem(name: str, value: object) -> str | None:
    """Return what is wrong with the option `proxy_connect_headers`, or None."""
    try:
        headers = Headers(value)  # type: ignore[arg-type]
    except InvalidRequest as error:
        return f"{name}: {error}"
    refused = [field for field in ("Content-Length", "Transfer-Encoding", "Trailer") if field in headers]
    return f"{name}: CONNECT has no body, leave {', '.join(refused)} out" if refused else None
