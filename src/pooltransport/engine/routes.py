"""Which proxy a request goes through: none, one for all, the environment's, or what a callable says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pooltransport.core.proxy import from_environment, parse_proxy, require_socksio
from pooltransport.errors import ConfigError, InvalidRequest, ProxyError
from pooltransport.headers import Headers

if TYPE_CHECKING:
    from collections.abc import Callable

    from pooltransport.headers import HeaderItems
    from pooltransport.models import Request
    from pooltransport.options import TransportOptions
    from pooltransport.proxy_url import Proxy

_MOST_PROXIES = 1024


class Routes:
    """One transport's proxies. The environment is read here, once, when the transport is made.

    `asks`: a callable decides, and may decide differently for each attempt (Go RETRY-11). Else
    the origin does, so that the engine can keep the answer with its key.
    """

    def __init__(self, options: TransportOptions) -> None:
        option = options.proxy
        self._one: Proxy | None = None
        self._function: Callable[[Request], str | None] | None = None
        # A Unix socket is the whole way: it was asked for by name, the environment was not.
        follows = option == "environment" and options.uds is None
        self._environment = from_environment(os.environ) if follows else None
        self.asks = False
        if isinstance(option, str) and option != "environment":
            self._one = _usable(parse_proxy(option))
        elif callable(option):
            self._function = option
            self.asks = True
        self._parsed: dict[str, Proxy] = {}
        self.connect_headers: HeaderItems = list(Headers(options.proxy_connect_headers).raw)

    def proxy_for(self, scheme: str, host: str, port: int) -> Proxy | None:
        """Return the proxy on the way to that origin. Raises `ConfigError` for what cannot be used."""
        if self._environment is None:
            return self._one
        proxy = self._environment.proxy_for(scheme, host, port)
        return None if proxy is None else _usable(proxy)

    def ask(self, request: Request) -> Proxy | None:
        """Return what the callable says. Raises `ProxyError`, chained, if it raises or returns nonsense."""
        assert self._function is not None, "asked only with a callable"
        try:
            answer: Any = self._function(request)
        except Exception as error:
            raise ProxyError(f"the proxy= callable raised {type(error).__name__}: {error}") from error
        if answer is None:
            return None
        if not isinstance(answer, str):
            if hasattr(answer, "cr_code"):
                answer.close()  # a coroutine that nobody will await
            raise ProxyError(f"the proxy= callable returned {type(answer).__name__}: it must be a URL text or None")
        proxy = self._parsed.get(answer)
        if proxy is None:
            try:
                proxy = _usable(parse_proxy(answer))
            except ConfigError as error:
                raise ProxyError(f"the proxy= callable returned what cannot be used: {error}") from error
            if len(self._parsed) >= _MOST_PROXIES:
                self._parsed.clear()
            self._parsed[answer] = proxy
        return proxy


def server_name(request: Request) -> str | None:
    """Return the name that TLS is to ask for and check instead of the URL's host, if the request names one."""
    name = request.extensions.get("sni_hostname")
    if name is None or isinstance(name, str):
        return name
    raise InvalidRequest(f"extensions['sni_hostname'] must be a str, not {type(name).__name__}")


def _usable(proxy: Proxy) -> Proxy:
    if proxy.is_socks:
        require_socksio()
    return proxy
