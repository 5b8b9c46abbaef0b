"""The transport's options: names, defaults, ranges, and what cannot work.

Rules (contract 1.5, 5.5, 5.9):

1. Seconds everywhere, never milliseconds. ``None`` is "no limit" or "no timeout"; ``0`` idle
   connections means that nothing is kept.
2. A wrong type, range, name or combination raises one `ConfigError` that lists every problem.
3. `explicit` remembers what the caller gave: a default clock gives way to a total, a given one
   does not (contract 2.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict

from .errors import ConfigError
from .option_checks import delay, is_int, is_number, keepalive, local_address, socket_options
from .proxy_url import connect_headers_problem, parse_proxy, proxy_problem
from .trust_files import TRUSTSTORE, check_ca_file, check_client_cert, check_context

if TYPE_CHECKING:
    import os
    import ssl
    from collections.abc import Callable, Iterable, Mapping

    from .headers import HeadersInput
    from .models import Request
    from .trace import ClientTrace

    Path = str | os.PathLike[str]
    ClientCert = Path | tuple[Path] | tuple[Path, Path] | tuple[Path, Path, str]


class DialRequest(NamedTuple):
    """What a ``dial=`` callable is asked for: one connected `socket.socket` to `host`, `port`.

    `deadline`: the moment, on `time.monotonic()`'s clock, after which the result comes too late.
    `purpose`: ``origin``, or ``proxy`` where `host` and `port` are those of the proxy on the way.
    """

    host: str
    port: int
    deadline: float
    purpose: str


class OptionsDict(TypedDict, total=False):
    """The keyword arguments of `Transport`, `AsyncTransport` and `TransportOptions`."""

    max_idle_conns: int | None
    max_idle_conns_per_host: int | None
    max_conns_per_host: int | None
    max_conns: int | None
    max_waiting: int | None
    acquire_timeout: float | None
    idle_conn_timeout: float | None
    max_conn_lifetime: float | None
    honor_keep_alive_hint: bool
    dial_timeout: float | None
    tls_handshake_timeout: float | None
    response_header_timeout: float | None
    read_timeout: float | None
    write_timeout: float | None
    expect_continue_timeout: float
    min_rate: tuple[float, float] | None
    disable_keep_alives: bool
    disable_compression: bool
    max_response_header_bytes: int
    max_body_bytes: int | None
    max_decoded_bytes: int | None
    drain_limit: int
    drain_timeout: float
    retry_stale: bool
    proxy: str | Callable[[Request], str | None] | None
    proxy_connect_headers: HeadersInput
    ssl_context: ssl.SSLContext | Literal["truststore"] | None
    ca_file: str | os.PathLike[str] | None
    client_cert: ClientCert | None
    server_hostname: str | None
    dial: Callable[[DialRequest], Any] | None
    resolver: Callable[[str, int], Any] | None
    local_address: str | tuple[str, int] | None
    uds: str | None
    socket_options: Iterable[tuple[int, int, int | bytes]] | None
    tcp_keepalive: bool | tuple[int, int, int]
    happy_eyeballs_delay: float | None
    codec: Literal["auto", "h11"]
    trace: ClientTrace | None
    leak_detection: Literal["off", "site", "full"]
    lease_warn_after: float
    lease_max: float | None
    gc_on_exhaustion: bool | Literal["auto"]
    deadlock_check: bool
    ignore_modules: Iterable[str]
    show_paths: bool
    name: str | None


def _count_or_none(name: str, value: object, least: int) -> str | None:
    if value is None or (is_int(value) and value >= least):  # type: ignore[operator]
        return None
    hint = "0 keeps none idle; use disable_keep_alives=True to turn reuse off" if least == 0 else "None is no limit"
    return f"{name}={value!r}: must be None or a whole number of {least} or more ({hint})"


def _idle_limit(name: str, value: object) -> str | None:
    return _count_or_none(name, value, 0)


def _limit(name: str, value: object) -> str | None:
    return _count_or_none(name, value, 1)


def _waiting_limit(name: str, value: object) -> str | None:
    if value is None or (is_int(value) and value >= 0):  # type: ignore[operator]
        return None
    return f"{name}={value!r}: must be None (no bound) or a whole number of 0 or more (0: nobody may wait)"


def _seconds_or_none(name: str, value: object) -> str | None:
    if value is None or (is_number(value) and value > 0):  # type: ignore[operator]
        return None
    return f"{name}={value!r}: must be None (no timeout) or a number of seconds above 0"


def _seconds(name: str, value: object) -> str | None:
    if is_number(value) and value >= 0:  # type: ignore[operator]
        return None
    return f"{name}={value!r}: must be a number of seconds, 0 or more"


def _size(name: str, value: object) -> str | None:
    if is_int(value) and value >= 0:  # type: ignore[operator]
        return None
    return f"{name}={value!r}: must be a whole number of bytes, 0 or more"


def _header_size(name: str, value: object) -> str | None:
    if is_int(value) and value >= 1:  # type: ignore[operator]
        return None
    return f"{name}={value!r}: must be a whole number of bytes, 1 or more"


def _size_or_none(name: str, value: object) -> str | None:
    return None if value is None else _size(name, value)


def _flag(name: str, value: object) -> str | None:
    return None if isinstance(value, bool) else f"{name}={value!r}: must be True or False"


def _auto_or_flag(name: str, value: object) -> str | None:
    return None if value == "auto" or isinstance(value, bool) else f"{name}={value!r}: must be 'auto', True or False"


def _text_or_none(name: str, value: object) -> str | None:
    if value is None or (isinstance(value, str) and value and not any(c in value for c in "\r\n\0")):
        return None
    return f"{name}={value!r}: must be None or a text that is not empty"


def _callable_or_none(name: str, value: object) -> str | None:
    if value is None or callable(value):
        return None
    return f"{name}: must be None or a callable, not {type(value).__name__}"


def _rate(name: str, value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, tuple) and len(value) == 2 and all(is_number(v) and v > 0 for v in value):
        return None
    return f"{name}={value!r}: must be None or a pair (bytes_per_second, seconds), both above 0"


def _trace(name: str, value: object) -> str | None:
    if value is None or hasattr(value, "put_idle_conn"):
        return None
    return f"{name}: must be None or a ClientTrace, not {type(value).__name__}"


def _modules(name: str, value: object) -> str | None:
    if isinstance(value, (list, tuple)) and all(isinstance(row, str) for row in value):
        return None
    return f"{name}={value!r}: must be a list of module names"


class _Choice:
    def __init__(self, *values: str) -> None:
        self.values = values

    def __call__(self, name: str, value: object) -> str | None:
        if value in self.values:
            return None
        return f"{name}={value!r}: must be one of {', '.join(map(repr, self.values))}"


# name: (default, check). The order is that of the documentation.
_TABLE: dict[str, tuple[Any, Callable[[str, object], str | None]]] = {
    "max_idle_conns": (100, _idle_limit),
    "max_idle_conns_per_host": (None, _idle_limit),
    "max_conns_per_host": (None, _limit),
    "max_conns": (None, _limit),
    "max_waiting": (None, _waiting_limit),
    "acquire_timeout": (None, _seconds_or_none),
    "idle_conn_timeout": (90.0, _seconds_or_none),
    "max_conn_lifetime": (None, _seconds_or_none),
    "honor_keep_alive_hint": (True, _flag),
    "dial_timeout": (30.0, _seconds_or_none),
    "tls_handshake_timeout": (10.0, _seconds_or_none),
    "response_header_timeout": (60.0, _seconds_or_none),
    "read_timeout": (60.0, _seconds_or_none),
    "write_timeout": (60.0, _seconds_or_none),
    "expect_continue_timeout": (1.0, _seconds),
    "min_rate": (None, _rate),
    "disable_keep_alives": (False, _flag),
    "disable_compression": (False, _flag),
    "max_response_header_bytes": (262_144, _header_size),
    "max_body_bytes": (None, _size_or_none),
    "max_decoded_bytes": (None, _size_or_none),
    "drain_limit": (262_144, _size),
    "drain_timeout": (0.05, _seconds),
    "retry_stale": (True, _flag),
    "proxy": ("environment", proxy_problem),
    "proxy_connect_headers": (None, connect_headers_problem),
    "ssl_context": (None, check_context),
    "ca_file": (None, check_ca_file),
    "client_cert": (None, check_client_cert),
    "server_hostname": (None, _text_or_none),
    "dial": (None, _callable_or_none),
    "resolver": (None, _callable_or_none),
    "local_address": (None, local_address),
    "uds": (None, _text_or_none),
    "socket_options": (None, socket_options),
    "tcp_keepalive": (True, keepalive),
    "happy_eyeballs_delay": (0.25, delay),
    "codec": ("auto", _Choice("auto", "h11")),
    "trace": (None, _trace),
    "leak_detection": ("site", _Choice("off", "site", "full")),
    "lease_warn_after": (60.0, _seconds),
    "lease_max": (None, _seconds_or_none),
    "gc_on_exhaustion": ("auto", _auto_or_flag),
    "deadlock_check": (True, _flag),
    "ignore_modules": ((), _modules),
    "show_paths": (False, _flag),
    "name": (None, _text_or_none),
}

LEAK_DETECTION_VARIABLE = "POOLTRANSPORT_LEAK_DETECTION"


class TransportOptions:
    """A frozen, checked set of options (`Transport.from_options(options)`).

    Raises `ConfigError` naming every problem: an unknown name, a wrong type or range, a
    combination that cannot work.
    """

    __slots__ = (*_TABLE, "explicit")

    max_idle_conns: int | None
    max_idle_conns_per_host: int | None
    max_conns_per_host: int | None
    max_conns: int | None
    max_waiting: int | None
    acquire_timeout: float | None
    idle_conn_timeout: float | None
    max_conn_lifetime: float | None
    honor_keep_alive_hint: bool
    dial_timeout: float | None
    tls_handshake_timeout: float | None
    response_header_timeout: float | None
    read_timeout: float | None
    write_timeout: float | None
    expect_continue_timeout: float
    min_rate: tuple[float, float] | None
    disable_keep_alives: bool
    disable_compression: bool
    max_response_header_bytes: int
    max_body_bytes: int | None
    max_decoded_bytes: int | None
    drain_limit: int
    drain_timeout: float
    retry_stale: bool
    proxy: str | Callable[[Request], str | None] | None
    proxy_connect_headers: HeadersInput
    ssl_context: ssl.SSLContext | Literal["truststore"] | None
    ca_file: str | os.PathLike[str] | None
    client_cert: ClientCert | None
    server_hostname: str | None
    dial: Callable[[DialRequest], Any] | None
    resolver: Callable[[str, int], Any] | None
    local_address: str | tuple[str, int] | None
    uds: str | None
    socket_options: Iterable[tuple[int, int, int | bytes]] | None
    tcp_keepalive: bool | tuple[int, int, int]
    happy_eyeballs_delay: float | None
    codec: str
    trace: ClientTrace | None
    leak_detection: str
    lease_warn_after: float
    lease_max: float | None
    gc_on_exhaustion: bool | Literal["auto"]
    deadlock_check: bool
    ignore_modules: Iterable[str]
    show_paths: bool
    name: str | None
    explicit: frozenset[str]

    def __init__(self, **options: Any) -> None:
        put = object.__setattr__
        problems = [_unknown(name) for name in options if name not in _TABLE]
        for name, (default, check) in _TABLE.items():
            value = options.get(name, default)
            if name in options and (problem := check(name, value)) is not None:
                problems.append(problem)
            put(self, name, value)
        put(self, "explicit", frozenset(options))
        if not problems:
            problems = list(self._conflicts())
        if problems:
            raise ConfigError(problems)

    def _conflicts(self) -> Iterable[str]:
        """Combinations of explicit values that cannot work."""
        given = self.explicit
        per_host, total = self.max_conns_per_host, self.max_conns
        if per_host is not None and total is not None and per_host > total:
            yield f"max_conns_per_host={per_host} can never be reached: max_conns={total}"
        idle = self.max_idle_conns_per_host
        if idle is not None and per_host is not None and idle > per_host:
            yield f"max_idle_conns_per_host={idle} can never be reached: max_conns_per_host={per_host}"
        if self.disable_keep_alives and {"max_idle_conns", "max_idle_conns_per_host", "idle_conn_timeout"} & given:
            yield "disable_keep_alives=True keeps nothing idle: leave the idle limits and idle_conn_timeout out"
        if self.max_waiting is not None and per_host is None and total is None:
            yield f"max_waiting={self.max_waiting} has no effect: nothing limits connections; set max_conns_per_host"
        if self.uds is not None and self.local_address is not None:
            yield "uds and local_address exclude each other: a Unix socket has no source address"
        if self.uds is not None and self.resolver is not None:
            yield "resolver has no effect with uds=: a Unix socket has no name to look up"
        proxied = "proxy" in given and self.proxy not in (None, "environment")
        if self.uds is not None and proxied:
            yield "uds and proxy exclude each other: a Unix socket is the whole way to the server"
        if self.proxy_connect_headers is not None and (
            self.proxy is None or (isinstance(self.proxy, str) and self.proxy.lower().startswith("socks"))
        ):
            yield "proxy_connect_headers has no effect: without an http or https proxy there is no CONNECT request"
        if self.ssl_context is not None and self.ca_file is not None:
            yield "ssl_context and ca_file exclude each other: both say whom to trust"
        if self.ssl_context not in (None, TRUSTSTORE) and self.client_cert is not None:
            yield "client_cert and ssl_context exclude each other: call the load_cert_chain() of your context"
        if self.dial is not None:
            refused = ("uds", "local_address", "socket_options", "resolver", "tcp_keepalive", "happy_eyeballs_delay")
            for name in refused:
                if name in given and getattr(self, name) is not None:
                    yield f"{name} has no effect with dial=: the callable makes the socket itself"

    def replace(self, **changes: Any) -> TransportOptions:
        """Return a copy with `changes`; what was explicit stays so."""
        merged: dict[str, Any] = {name: getattr(self, name) for name in self.explicit}
        return TransportOptions(**(merged | changes))

    def as_dict(self) -> Mapping[str, Any]:
        """Return every option with its effective value."""
        return {name: getattr(self, name) for name in _TABLE}

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("TransportOptions is frozen: use replace()")

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={self._shown(name)}" for name in _TABLE if name in self.explicit)
        return f"TransportOptions({given})"

    def _shown(self, name: str) -> str:
        """Return the value as text, without a password: neither a proxy's nor a private key's."""
        value = getattr(self, name)
        if name == "proxy" and isinstance(value, str) and "@" in value:
            return repr(str(parse_proxy(value)))
        if name == "client_cert" and isinstance(value, tuple):
            return repr((*value[:2], *("***" for _ in value[2:])))
        return "..." if name == "proxy_connect_headers" and value is not None else repr(value)


def _unknown(name: str) -> str:
    import difflib  # noqa: PLC0415 - only the path of a typo pays for it

    near = difflib.get_close_matches(name, _TABLE, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(_TABLE)}"
    return f"{name}: unknown option; {hint}"
