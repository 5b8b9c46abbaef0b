"""The transports of one adapter: its own, and those made from the same options for calls that say otherwise.

requests says with each call whom to trust, which certificate to show and which proxy to take. What a transport has
options for is kept in one transport for each such answer; which proxy it is goes with the request, so that all
proxies share one transport and its limits.

Rules:

1. A call that says nothing of its own, or what the transport would do anyway, goes through the transport that was
   given: limits, hooks and statistics are its own. Of a plain http URL only the proxy matters.
2. At most `_MOST` others are kept. The one used least recently is let go, but never under a response that is open.
3. A transport that was given is never closed here.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from requests.utils import get_environ_proxies, prepend_scheme_if_needed, select_proxy

from pooltransport.errors import ConfigError
from pooltransport.proxy_url import parse_proxy
from pooltransport.transport import Transport, default_transport

from .trust import Trust, trust_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pooltransport.models import Request
    from pooltransport.options import TransportOptions
    from pooltransport.roundtripper import RoundTripper
    from pooltransport.url import URL

_MOST = 16
_DEFAULT = "default"
PROXY = "pooltransport.adapters.requests.proxy"  # in `Request.extensions`: where this request goes through


_all: weakref.WeakSet[Pools] = weakref.WeakSet()


def _after_fork() -> None:
    for pools in tuple(_all):
        pools.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Route(NamedTuple):
    """How one request goes. `key`: of the transport, None for the adapter's own. `proxy`: to be told to it, if it
    is one that asks. `proxied`: whether there is a proxy on the way.
    """

    transport: RoundTripper
    key: tuple[Trust | None, bool] | None
    proxy: str | None
    proxied: bool


class _Kept:
    __slots__ = ("transport", "users")

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.users = 0  # requests that have it in hand and no response yet


class Pools:
    """See above. Thread-safe."""

    def __init__(self, transport: RoundTripper | None, options: TransportOptions | None) -> None:
        self._given = transport
        self._options = options  # of a transport of our own
        self._own = None if options is None else Transport.from_options(options)
        self._kept: dict[tuple[Trust | None, bool], _Kept] = {}  # most recently used last
        self._made_from: object = None
        self._lock = threading.Lock()
        _all.add(self)

    @property
    def base(self) -> RoundTripper:
        """The adapter's own transport: given, made from its options, or the default one of this moment."""
        if self._given is not None:
            return self._given
        if self._options is None:
            return default_transport()
        own = self._own
        if own is None:  # closed, and used again, as sessions may be
            with self._lock:
                own = self._own = self._own or Transport.from_options(self._options)
        return own

    @property
    def others(self) -> tuple[Transport, ...]:
        """The transports that were made for calls that said something else."""
        return tuple(kept.transport for kept in tuple(self._kept.values()))

    def route(self, place: URL, url: str, verify: Any, cert: Any, proxies: Mapping[str, str] | None) -> Route:
        """Return how a request to `url`, which is `place`, goes; `left` must be called after it was sent.

        Raises `OSError` for a file of `verify` or `cert` that is not there, `ConfigError` for what cannot be.
        """
        base = self.base
        trust = None
        if place.scheme == "https" and not (verify in (True, None) and cert is None):
            trust = Trust.of(verify, cert)
        proxy, moved, proxied = self._proxy(place, url, proxies, base)
        if trust is None and not moved:
            return Route(base, None, None, proxied)
        if not isinstance(base, Transport):
            what = "verify= and cert=" if trust is not None else "proxies="
            raise ConfigError(
                f"{what} of a call cannot be told to a {type(base).__name__}, which is no Transport: "
                "set it up in there [PTC115]"
            )
        key = (trust, moved)
        return Route(self._take(base, key), key, proxy if moved else None, proxied)

    def left(self, route: Route) -> None:
        """Say that the request of `route` has its response, or failed."""
        if route.key is not None:
            with self._lock:
                kept = self._kept.get(route.key)
                if kept is not None and kept.transport is route.transport:
                    kept.users -= 1

    def _proxy(
        self, place: URL, url: str, proxies: Mapping[str, str] | None, base: RoundTripper
    ) -> tuple[str | None, bool, bool]:
        """Return the proxy that requests chose, whether that is not what `base` does by itself, and whether there is
        a proxy on the way.
        """
        chosen: Any = select_proxy(url, dict(proxies)) if proxies else None
        chosen = prepend_scheme_if_needed(chosen, "http") if chosen else None
        wanted = parse_proxy(chosen) if chosen else None
        if not isinstance(base, Transport):
            return chosen, wanted is not None and not _is_of_the_environment(url, chosen), False
        options = base.options
        if options.uds is not None:
            return None, False, False  # a Unix socket is the whole way
        routes = base._engine.routes  # noqa: SLF001 - what it would do, its environment read as it did
        if routes.asks:
            return chosen, wanted is not None, True
        own = routes.proxy_for(place.scheme, place.host, place.port)
        if wanted is None and options.proxy != "environment":
            return None, False, own is not None  # the option says it for all requests
        return chosen, wanted != own, wanted is not None

    def _take(self, base: Transport, key: tuple[Trust | None, bool]) -> Transport:
        gone: list[Transport] = []
        with self._lock:
            if self._made_from is not base.options:
                # Another default transport, or another life of our own.
                gone += [kept.transport for kept in self._kept.values()]
                self._kept.clear()
                self._made_from = base.options
            kept = self._kept.pop(key, None)
            if kept is None:
                kept = _Kept(_variant(base.options, *key))
                unused = [other for other, row in self._kept.items() if not row.users]
                for other in unused[: max(len(self._kept) + 1 - _MOST, 0)]:
                    gone.append(self._kept.pop(other).transport)
            self._kept[key] = kept
            kept.users += 1
        for transport in gone:
            _let_go(transport)
        return kept.transport

    def after_fork(self) -> None:
        """In a child process: another thread of the parent may have held the lock, or had a transport in hand."""
        self._lock = threading.Lock()
        for kept in self._kept.values():
            kept.users = 0

    def close(self) -> None:
        """Close what is ours; responses that are open stay so, and their connections go with them."""
        with self._lock:
            gone = [kept.transport for kept in self._kept.values()]
            self._kept.clear()
            if self._own is not None:
                gone.append(self._own)
                self._own = None
        for transport in gone:
            _let_go(transport)


def _let_go(transport: Transport) -> None:
    if transport.stats().leases:
        # `requests.get(url, stream=True)` closes its session before anybody has read.
        transport.close_idle_connections()
    else:
        transport.close()


class _Changed:
    """What `Transport.from_options` asks of options: what was said of them is not said again."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)
        self.explicit = tuple(values)


def _variant(options: TransportOptions, trust: Trust | None, moved: bool) -> Transport:
    values = {name: getattr(options, name) for name in options.explicit}
    if trust is not None:
        values = trust_options(values, trust)
    if moved:
        values["proxy"] = _told
    if values.get("name") == _DEFAULT:
        values["name"] = "requests"  # statistics take what is called so for the one that clients borrow
    changed: Any = _Changed(values)
    return Transport.from_options(changed)


def _is_of_the_environment(url: str, chosen: str) -> bool:
    """Report whether `chosen` is what everybody goes through here: what is no transport may know that, or not."""
    there: Any = select_proxy(url, get_environ_proxies(url))
    return bool(there) and prepend_scheme_if_needed(there, "http") == chosen


def _told(request: Request) -> str | None:
    proxy: str | None = request.extensions.get(PROXY)
    return proxy
