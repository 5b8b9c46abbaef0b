"""What a user gives the adapter: a transport, our options, or those arguments of httpx that mean the same."""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pooltransport.errors import ConfigError
from pooltransport.models import UNSET
from pooltransport.transport import AsyncTransport, Transport

if TYPE_CHECKING:
    from .errors import Library

_OTHER = {Transport: AsyncTransport, AsyncTransport: Transport}


def borrow_or_make(
    kind: type[Any], transport: Any, theirs: dict[str, Any], options: dict[str, Any], library: Library
) -> tuple[Any, bool]:
    """Return the transport to send through, and whether it is ours to close.

    Raises `ConfigError` for what cannot be: each problem says what to write instead.
    """
    given = {name for name, value in theirs.items() if value is not _DEFAULTS[name]}
    if transport is None:
        made = kind(**_translated(theirs, options, library))
        return made, True
    problems = []
    if names := sorted(given | set(options)):
        first = "transport=... and " + ", ".join(f"{name}=" for name in names)
        problems.append(f"{first}: give the options to the {kind.__name__} that is handed in [PTC113]")
    if isinstance(transport, _OTHER[kind]) or not hasattr(transport, "round_trip"):
        article = "an" if kind.__name__.startswith("A") else "a"
        hint = f"must be {article} {kind.__name__}, or what else has its round_trip, not {type(transport).__name__}"
        problems.append(f"transport: {hint} [PTC115]")
    if problems:
        raise ConfigError(problems)
    return transport, False


# httpx's arguments and their defaults there; None for `limits` stands for ours.
_DEFAULTS: dict[str, Any] = {
    "verify": True,
    "cert": None,
    "trust_env": True,
    "http1": True,
    "http2": False,
    "limits": None,
    "retries": 0,
    "proxy": UNSET,
}


def _translated(theirs: dict[str, Any], options: dict[str, Any], library: Library) -> dict[str, Any]:
    made = dict(options)
    problems: list[str] = []

    def put(name: str, value: object, argument: str) -> None:
        if name in made:
            problems.append(f"{argument}= and {name}=: they say the same, give {name}= alone [PTC113]")
        made[name] = value

    _put_trust(theirs["verify"], theirs["cert"], put, problems)
    if not theirs["http1"] or theirs["http2"]:
        problems.append("http1=, http2=: HTTP/1.1 is what pooltransport speaks, leave both out [PTC110]")
    retries = theirs["retries"]
    if not isinstance(retries, int) or retries < 0:
        problems.append(f"retries={retries!r}: must be a whole number, 0 or more [PTC101]")
    limits = theirs["limits"]
    if limits is not None:
        put("max_conns", limits.max_connections, "limits")
        nothing_kept = limits.keepalive_expiry is not None and limits.keepalive_expiry <= 0
        put("max_idle_conns", 0 if nothing_kept else limits.max_keepalive_connections, "limits")
        if not nothing_kept:
            put("idle_conn_timeout", limits.keepalive_expiry, "limits")
    proxy = theirs["proxy"]
    if proxy is not UNSET:
        made["proxy"] = _put_proxy(proxy, put, problems, library)
    elif not theirs["trust_env"]:
        made["proxy"] = None
    if "socket_options" in made and made["socket_options"] is None:
        del made["socket_options"]  # httpx's way to say none
    if problems:
        raise ConfigError(problems)
    return made


def _put_trust(verify: object, cert: object, put: Any, problems: list[str]) -> None:
    if verify is False:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        put("ssl_context", context, "verify")
    elif isinstance(verify, ssl.SSLContext):
        put("ssl_context", verify, "verify")
    elif isinstance(verify, (str, os.PathLike)):
        if os.path.isdir(verify):
            put("ssl_context", ssl.create_default_context(capath=verify), "verify")
        else:
            put("ca_file", verify, "verify")
    elif verify is not True:
        problems.append(
            f"verify={type(verify).__name__}: must be True, False, an ssl.SSLContext or a path; "
            "ssl_context= and ca_file= are our names [PTC112]"
        )
    if cert is not None:
        put("client_cert", cert, "cert")


def _put_proxy(proxy: Any, put: Any, problems: list[str], library: Library) -> Any:
    """Return what ``proxy=`` is for us."""
    if isinstance(proxy, library.client.URL):
        return str(proxy)
    if not isinstance(proxy, library.client.Proxy):
        return proxy
    if proxy.ssl_context is not None:
        problems.append(
            "proxy=Proxy(ssl_context=...): a proxy is trusted as servers are, give the context as ssl_context= [PTC112]"
        )
    if proxy.headers:
        put("proxy_connect_headers", list(proxy.headers.multi_items()), "Proxy(headers=...)")
    url = proxy.url
    if proxy.auth is None:
        return str(url)
    user, password = (quote(part, safe="") for part in proxy.auth)
    return str(url).replace("://", f"://{user}:{password}@", 1)
