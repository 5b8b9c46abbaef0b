"""The transport's options: names, defaults, ranges, and what cannot work.

Rules (contract 1.5, 5.5, 5.9):

1. Seconds everywhere, never milliseconds. ``None`` is "no limit" or "no timeout"; ``0`` idle
   connections means that nothing is kept.
2. A wrong type, range, name or combination raises one `ConfigError` that lists every problem.
3. `explicit` remembers what the caller gave: a default clock gives way to a total, a given one
   does not (contract 2.1).
4. What works but is probably not meant is a `PoolConfigWarning`; `check()` also gives advice. Both judge
   only what was given (`config_checks.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict

from . import option_checks as checks
from .config_checks import conflicts, suspicions, unknown_option
from .config_warnings import tell
from .errors import ConfigError, coded
from .proxy_url import connect_headers_problem, parse_proxy, proxy_problem
from .trust_files import check_ca_file, check_client_cert, check_context

if TYPE_CHECKING:
    import os
    import ssl
    from collections.abc import Callable, Iterable, Mapping
    from typing import Self

    from .config_checks import ConfigFinding
    from .headers import HeadersInput
    from .models import Request, TimeoutInput
    from .option_sources import Source
    from .peer_address import PeerAddress
    from .trace import ClientTrace
    from .url import URL

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
    allow_address: Callable[[PeerAddress], bool] | None
    allow_address_through_proxy: bool
    https_only: bool
    local_address: str | tuple[str, int] | None
    uds: str | None
    socket_options: Iterable[tuple[int, int, int | bytes]] | None
    tcp_keepalive: bool | tuple[int, int, int]
    happy_eyeballs_delay: float | None
    codec: Literal["auto", "h11", "httptools"]
    trace: ClientTrace | None
    leak_detection: Literal["off", "site", "full"]
    lease_warn_after: float
    lease_max: float | None
    gc_on_exhaustion: bool | Literal["auto"]
    deadlock_check: bool
    ignore_modules: Iterable[str]
    show_paths: bool
    name: str | None


class Option(NamedTuple):
    """One option: its default, the check of a value, and the code of what that finds (`explain/`)."""

    default: Any
    check: Callable[[str, object], str | None]
    code: str


# The order is that of the documentation.
_TABLE: dict[str, Option] = {
    "max_idle_conns": Option(100, checks.idle_limit, "PTC101"),
    "max_idle_conns_per_host": Option(None, checks.idle_limit, "PTC101"),
    "max_conns_per_host": Option(None, checks.limit, "PTC101"),
    "max_conns": Option(None, checks.limit, "PTC101"),
    "max_waiting": Option(None, checks.waiting_limit, "PTC101"),
    "acquire_timeout": Option(None, checks.seconds_or_none, "PTC104"),
    "idle_conn_timeout": Option(90.0, checks.seconds_or_none, "PTC104"),
    "max_conn_lifetime": Option(None, checks.seconds_or_none, "PTC104"),
    "honor_keep_alive_hint": Option(True, checks.flag, "PTC110"),
    "dial_timeout": Option(30.0, checks.seconds_or_none, "PTC104"),
    "tls_handshake_timeout": Option(10.0, checks.seconds_or_none, "PTC104"),
    "response_header_timeout": Option(60.0, checks.seconds_or_none, "PTC104"),
    "read_timeout": Option(60.0, checks.seconds_or_none, "PTC104"),
    "write_timeout": Option(60.0, checks.seconds_or_none, "PTC104"),
    "expect_continue_timeout": Option(1.0, checks.seconds, "PTC104"),
    "min_rate": Option(None, checks.rate, "PTC110"),
    "disable_keep_alives": Option(False, checks.flag, "PTC110"),
    "disable_compression": Option(False, checks.flag, "PTC110"),
    "max_response_header_bytes": Option(262_144, checks.header_size, "PTC101"),
    "max_body_bytes": Option(None, checks.size_or_none, "PTC101"),
    "max_decoded_bytes": Option(None, checks.size_or_none, "PTC101"),
    "drain_limit": Option(262_144, checks.size, "PTC101"),
    "drain_timeout": Option(0.05, checks.seconds, "PTC104"),
    "retry_stale": Option(True, checks.flag, "PTC110"),
    "proxy": Option("environment", proxy_problem, "PTC111"),
    "proxy_connect_headers": Option(None, connect_headers_problem, "PTC111"),
    "ssl_context": Option(None, check_context, "PTC112"),
    "ca_file": Option(None, check_ca_file, "PTC112"),
    "client_cert": Option(None, check_client_cert, "PTC112"),
    "server_hostname": Option(None, checks.text_or_none, "PTC110"),
    "dial": Option(None, checks.callable_or_none, "PTC110"),
    "resolver": Option(None, checks.callable_or_none, "PTC110"),
    "allow_address": Option(None, checks.judge_or_none, "PTC110"),
    "allow_address_through_proxy": Option(False, checks.flag, "PTC110"),
    "https_only": Option(False, checks.flag, "PTC110"),
    "local_address": Option(None, checks.local_address, "PTC110"),
    "uds": Option(None, checks.text_or_none, "PTC110"),
    "socket_options": Option(None, checks.socket_options, "PTC110"),
    "tcp_keepalive": Option(True, checks.keepalive, "PTC110"),
    "happy_eyeballs_delay": Option(0.25, checks.delay, "PTC104"),
    "codec": Option("auto", checks.codec, "PTC110"),
    "trace": Option(None, checks.trace, "PTC110"),
    "leak_detection": Option("site", checks.Choice("off", "site", "full"), "PTC110"),
    "lease_warn_after": Option(60.0, checks.seconds, "PTC104"),
    "lease_max": Option(None, checks.seconds_or_none, "PTC104"),
    "gc_on_exhaustion": Option("auto", checks.auto_or_flag, "PTC110"),
    "deadlock_check": Option(True, checks.flag, "PTC110"),
    "ignore_modules": Option((), checks.modules, "PTC110"),
    "show_paths": Option(False, checks.flag, "PTC110"),
    "name": Option(None, checks.text_or_none, "PTC110"),
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
    allow_address: Callable[[PeerAddress], bool] | None
    allow_address_through_proxy: bool
    https_only: bool
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
        problems = value_problems(options)
        for name, option in _TABLE.items():
            object.__setattr__(self, name, options.get(name, option.default))
        object.__setattr__(self, "explicit", frozenset(options))
        if not options:
            return
        problems = problems or [str(found) for found in conflicts(self)]
        if problems:
            raise ConfigError(problems)
        tell(suspicions(self), tuple(self.ignore_modules), self.name)

    @classmethod
    def from_env(cls, prefix: str = "POOLTRANSPORT_", environ: Mapping[str, str] | None = None) -> Self:
        """Make options from environment variables: ``POOLTRANSPORT_MAX_CONNS=50`` is ``max_conns=50``.

        `prefix`: what their names begin with. `environ`: where they are, by default `os.environ`. A value is read
        by its option's type: numbers, ``true``/``false`` (yes, no, on, off, 1, 0), ``none``, lists with commas; an
        empty one is not given. Names that are no option's are ignored, but one that is nearly an option's is
        warned of (PTC215).

        Raises `ConfigError` that names each wrong variable.
        """
        from .option_sources import read_environment  # noqa: PLC0415 - only who reads the environment pays for it

        return cls._from_source(read_environment(_TABLE, prefix, environ))

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str], profile: str | None = None) -> Self:
        """Make options from the table ``[pooltransport]`` of a TOML file.

        `profile`: also ``[pooltransport.profile.<profile>]``, whose values stand over the others. ``"none"`` is
        None, and a relative path of `ca_file`, `client_cert` or `uds` begins at the file's directory. Other tables
        are not looked at.

        Raises `ConfigError` that names each wrong key: unknown ones, in any profile, and what is wrong with the
        values of this one; also if the file cannot be read, or has no such table or profile.
        """
        from .option_sources import read_toml  # noqa: PLC0415 - as above

        return cls._from_source(read_toml(_TABLE, path, profile))

    @classmethod
    def _from_source(cls, source: Source) -> Self:
        problems = [*source.problems, *map(source.relabel, value_problems(source.values))]
        if problems:
            raise ConfigError(problems)
        tell(source.findings)
        try:
            return cls(**source.values)
        except ConfigError as error:
            raise ConfigError([source.relabel(problem) for problem in error.problems]) from None

    def check(self, *, timeout: TimeoutInput = None, base_url: str | URL = "") -> list[ConfigFinding]:
        """Return everything that can be said of these options: errors first, then warnings, then advice.

        `timeout`, `base_url`: those of a client that is to use them, to be judged with them. An error is what has
        come up since the options were made (a certificate's file is gone), or an extra that is missing. Never
        raises; meant for tests and deployment checks. Defaults give nothing.
        """
        from .config_advice import advise  # noqa: PLC0415 - as above

        given = {name: getattr(self, name) for name in self.explicit}
        return advise(self, value_problems(given), timeout, base_url)

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


def value_problems(options: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with each of `options` alone, with codes; unknown names first."""
    found = [unknown_option(name, _TABLE) for name in options if name not in _TABLE]
    for name, option in _TABLE.items():
        if name in options and (problem := option.check(name, options[name])) is not None:
            found.append(coded(problem, option.code))
    return found
