"""What `TransportOptions.check` says: errors and warnings anew, and advice about where the options will run.

The rules are those of `config_checks.py`; this is loaded by who asks.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from .config_checks import (
    ADVICE,
    CERT_NONE,
    ERROR,
    WARNING,
    ConfigFinding,
    client_findings,
    conflicts,
    file_limit,
    suspicions,
)
from .errors import ConfigError, InvalidRequest, code_of
from .models import Timeout
from .proxy_url import parse_proxy
from .url import parse_url

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .models import TimeoutInput
    from .options import TransportOptions
    from .url import URL

_DEFAULT_IDLE_TIMEOUT = 90.0
_BALANCER_IDLE = 60.0  # s; what load balancers commonly close idle connections after
_PROXY_VARIABLES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
_SIZES = frozenset(("max_idle_conns", "max_idle_conns_per_host", "max_conns_per_host", "max_conns", "acquire_timeout"))


def advise(
    options: TransportOptions, problems: Sequence[str], timeout: TimeoutInput, base_url: str | URL
) -> list[ConfigFinding]:
    """Return all findings, errors first. `problems`: what is wrong with single values now."""
    found = [_from_text(text, "") for text in problems]
    found += conflicts(options)
    found += _missing_extras(options)
    found += suspicions(options)
    found += _of_client(options, timeout, base_url)
    for rule in (_no_limit, _endless_queue, _idle_too_long, _names_unchecked, _environment_proxies, _credentials):
        found += [ConfigFinding(code, ADVICE, name, text) for code, name, text in rule(options)]
    return sorted(found, key=lambda finding: (ERROR, WARNING, ADVICE).index(finding.level))


def _from_text(text: str, option: str) -> ConfigFinding:
    code = code_of(text)
    bare = text.removesuffix(f" [{code}]")
    name = bare.partition("=")[0].partition(":")[0]
    return ConfigFinding(code, ERROR, option or (name if name.isidentifier() else ""), bare)


def _missing_extras(options: TransportOptions) -> Iterator[ConfigFinding]:
    if isinstance(options.proxy, str) and options.proxy.lower().startswith("socks"):
        from importlib.util import find_spec  # noqa: PLC0415 - only who asks for the extra pays for it

        if find_spec("socksio") is None:
            text = "SOCKS proxies need the library socksio: pip install pooltransport[socks]"
            yield ConfigFinding("PTC116", ERROR, "proxy", text)


def _of_client(options: TransportOptions, timeout: TimeoutInput, base_url: str | URL) -> Iterator[ConfigFinding]:
    url, clock = None, Timeout()
    try:
        clock = Timeout() if timeout is None else Timeout.of(timeout)
    except ConfigError as error:
        yield from [_from_text(problem, "timeout") for problem in error.problems]
    try:
        url = parse_url(base_url) if base_url else None
    except (InvalidRequest, TypeError, ValueError) as error:
        yield ConfigFinding("PTC110", ERROR, "base_url", f"base_url: {error}")
    yield from client_findings(clock, url, _Holder(options))
    if url is not None and url.scheme == "http" and options.uds is None and not _is_loopback(url.host):
        text = f"base_url is plain http to {url.host}: everybody on the way reads and changes what is sent; use https"
        yield ConfigFinding("PTC210", ADVICE, "base_url", text)


class _Holder(NamedTuple):
    """Stands for a transport with `options`."""

    options: TransportOptions


def _is_loopback(host: str) -> bool:
    return host == "localhost" or host.endswith(".localhost") or host.startswith("127.") or host == "::1"


def _no_limit(options: TransportOptions) -> Iterator[tuple[str, str, str]]:
    if options.max_conns is None and options.max_conns_per_host is None and _SIZES & options.explicit:
        files = file_limit()
        all_files = "all" if files is None else f"all {files}"
        text = f"nothing limits connections: a slow server can take {all_files} file descriptors of the process"
        yield "PTC202", "max_conns_per_host", f"{text}; set max_conns_per_host, max_conns or both"


def _endless_queue(options: TransportOptions) -> Iterator[tuple[str, str, str]]:
    limited = options.max_conns is not None or options.max_conns_per_host is not None
    if limited and "acquire_timeout" in options.explicit and options.acquire_timeout is None:
        text = "acquire_timeout=None: if connections leak, a request without a total waits 60 s for one"
        yield "PTC205", "acquire_timeout", f"{text}; give the seconds after which waiting is of no use"


def _idle_too_long(options: TransportOptions) -> Iterator[tuple[str, str, str]]:
    idle = options.idle_conn_timeout
    if "idle_conn_timeout" not in options.explicit or idle == _DEFAULT_IDLE_TIMEOUT:
        return
    if idle is None or idle >= _BALANCER_IDLE:
        shown = "None" if idle is None else f"{idle:g}"
        text = f"idle_conn_timeout={shown}: load balancers commonly close idle connections after 60 s"
        yield "PTC206", "idle_conn_timeout", f"{text}; set it below the keep-alive timeout of the servers"


def _names_unchecked(options: TransportOptions) -> Iterator[tuple[str, str, str]]:
    context = options.ssl_context
    if getattr(context, "verify_mode", CERT_NONE) != CERT_NONE and not getattr(context, "check_hostname", True):
        text = "ssl_context does not check names: a certificate of any server is good for every other"
        yield "PTC210", "ssl_context", f"{text}; server_hostname= says which name to check"


def _environment_proxies(options: TransportOptions) -> Iterator[tuple[str, str, str]]:
    names = [name for name in _PROXY_VARIABLES if os.environ.get(name)]
    if names and options.proxy == "environment" and options.uds is None:
        limit = options.max_conns_per_host
        share = "" if limit is None else f", and plain http to all hosts shares max_conns_per_host={limit}"
        text = f"{', '.join(names)} of the environment: requests go through a proxy{share}"
        yield "PTC213", "proxy", f"{text}; set proxy=None if that is not meant"


def _credentials(options: TransportOptions) -> Iterator[tuple[str, str, str]]:
    proxy = options.proxy
    if isinstance(proxy, str) and "@" in proxy:
        text = f"proxy has credentials in its URL ({parse_proxy(proxy)})"
        yield "PTC214", "proxy", f"{text}; keep it out of files that are shared: from_env() reads POOLTRANSPORT_PROXY"
