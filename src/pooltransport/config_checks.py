"""What is wrong, suspicious or worth a word about a whole configuration (contract 5.9).

Rules:

1. An error is what cannot work. A warning is what works and is probably not meant so. Advice is about where it will
   run, and is given only to who asks (`TransportOptions.check`).
2. Only what was given explicitly is judged. The defaults, and a value that is the default, give nothing.
3. A text shows the value and the rule, and says what to write. No rule raises, whatever the machine does not tell.
4. Each code has a page (`explain/`), whose examples are run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .trust_files import TRUSTSTORE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .models import Timeout
    from .options import TransportOptions
    from .url import URL

ERROR, WARNING, ADVICE = "error", "warning", "advice"

_GO_IDLE_PER_HOST = 2
_FILES_FOR_THE_REST = 64
CERT_NONE = 0  # ssl.CERT_NONE, without loading ssl
_PORT_RANGE = "/proc/sys/net/ipv4/ip_local_port_range"

# From where on seconds look like milliseconds. A life of an hour is common, a read timeout of one is not.
_MILLISECONDS = {
    "acquire_timeout": 1000,
    "idle_conn_timeout": 1000,
    "max_conn_lifetime": 100_000,
    "dial_timeout": 1000,
    "tls_handshake_timeout": 1000,
    "response_header_timeout": 1000,
    "read_timeout": 1000,
    "write_timeout": 1000,
    "expect_continue_timeout": 1000,
    "happy_eyeballs_delay": 10,
    "lease_warn_after": 100_000,
    "lease_max": 100_000,
}
_FIELDS = ("total", "acquire", "connect", "tls", "response_header", "read", "write")  # of a Timeout


class ConfigFinding(NamedTuple):
    """One thing that a check found. `level`: ``error``, ``warning`` or ``advice``. `option`: the one it is about, or
    empty. As text it is `text` with the code at its end.
    """

    code: str
    level: str
    option: str
    text: str

    def __str__(self) -> str:
        return f"{self.text} [{self.code}]"


# -- errors -------------------------------------------------------------------------------------


def unknown_option(name: str, known: Iterable[str]) -> str:
    """Return the words for an option that there is not, with the nearest that there is."""
    near = nearest_option(name, known)
    hint = f"did you mean {near}?" if near else f"there are: {', '.join(known)}"
    return f"{name}: unknown option; {hint} [PTC108]"


def nearest_option(name: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """Return the option that `name` was probably meant to be: also of Go's names, and of other libraries'."""
    import difflib  # noqa: PLC0415 - only the path of a typo pays for it

    bare = {option.replace("_", ""): option for option in known}
    asked = name.lower().replace("_", "").replace("-", "").replace("connection", "conn")
    near = difflib.get_close_matches(asked, bare, n=1, cutoff=likeness)
    return bare[near[0]] if near else None


def conflicts(options: TransportOptions) -> Iterator[ConfigFinding]:
    """Yield the combinations of explicit values that cannot work."""
    given = options.explicit
    per_host, total = options.max_conns_per_host, options.max_conns
    if per_host is not None and total is not None and per_host > total:
        text = f"max_conns_per_host={per_host} can never be reached: max_conns={total}"
        yield ConfigFinding("PTC103", ERROR, "max_conns_per_host", text)
    idle = options.max_idle_conns_per_host
    if idle is not None and per_host is not None and idle > per_host:
        text = f"max_idle_conns_per_host={idle} can never be reached: max_conns_per_host={per_host}"
        yield ConfigFinding("PTC102", ERROR, "max_idle_conns_per_host", text)
    if options.disable_keep_alives and {"max_idle_conns", "max_idle_conns_per_host", "idle_conn_timeout"} & given:
        text = "disable_keep_alives=True keeps nothing idle: leave the idle limits and idle_conn_timeout out"
        yield ConfigFinding("PTC106", ERROR, "disable_keep_alives", text)
    if options.max_waiting is not None and per_host is None and total is None:
        text = f"max_waiting={options.max_waiting} has no effect: nothing limits connections; set max_conns_per_host"
        yield ConfigFinding("PTC107", ERROR, "max_waiting", text)
    for name, text in _exclusions(options):
        yield ConfigFinding("PTC113", ERROR, name, text)
    for name, text in _without_effect(options):
        yield ConfigFinding("PTC114", ERROR, name, text)


def _exclusions(options: TransportOptions) -> Iterator[tuple[str, str]]:
    if options.uds is not None and options.local_address is not None:
        yield "uds", "uds and local_address exclude each other: a Unix socket has no source address"
    if options.uds is not None and "proxy" in options.explicit and options.proxy not in (None, "environment"):
        yield "uds", "uds and proxy exclude each other: a Unix socket is the whole way to the server"
    if options.ssl_context is not None and options.ca_file is not None:
        yield "ssl_context", "ssl_context and ca_file exclude each other: both say whom to trust"
    if options.ssl_context not in (None, TRUSTSTORE) and options.client_cert is not None:
        text = "client_cert and ssl_context exclude each other: call the load_cert_chain() of your context"
        yield "client_cert", text
    if options.allow_address is not None and not options.allow_address_through_proxy:
        # A proxy of the environment, or of a callable, is known with the request.
        proxy = options.proxy if isinstance(options.proxy, str) and options.proxy != "environment" else None
        ways = {"proxy": proxy, "uds": options.uds, "dial": options.dial}
        for name, way in ways.items():
            if way is not None:
                text = f"allow_address and {name} exclude each other: no address is seen there that could be judged"
                yield "allow_address", f"{text}; allow_address_through_proxy=True lets such requests pass unjudged"


def _without_effect(options: TransportOptions) -> Iterator[tuple[str, str]]:
    if options.allow_address_through_proxy and options.allow_address is None:
        yield "allow_address_through_proxy", "allow_address_through_proxy has no effect without allow_address="
    if options.uds is not None and options.resolver is not None:
        yield "resolver", "resolver has no effect with uds=: a Unix socket has no name to look up"
    proxy = options.proxy
    if options.proxy_connect_headers is not None and (
        proxy is None or (isinstance(proxy, str) and proxy.lower().startswith("socks"))
    ):
        text = "proxy_connect_headers has no effect: without an http or https proxy there is no CONNECT request"
        yield "proxy_connect_headers", text
    if options.dial is not None:
        refused = ("uds", "local_address", "socket_options", "resolver", "tcp_keepalive", "happy_eyeballs_delay")
        for name in refused:
            if name in options.explicit and getattr(options, name) is not None:
                yield name, f"{name} has no effect with dial=: the callable makes the socket itself"


# -- warnings -----------------------------------------------------------------------------------


def suspicions(options: TransportOptions) -> Iterator[ConfigFinding]:
    """Yield what works and is probably not meant so."""
    for rule in (_milliseconds, _idle_far_below, _too_many, _endless_reading, _short_lives, _leases, _drains):
        for code, name, text in rule(options):
            yield ConfigFinding(code, WARNING, name, text)
    context = options.ssl_context
    if getattr(context, "verify_mode", None) == CERT_NONE:
        text = "ssl_context verifies nothing (CERT_NONE): anybody on the way can read and change what is sent"
        yield ConfigFinding("PTC210", WARNING, "ssl_context", f"{text}; use ca_file= for an authority of your own")


def _milliseconds(options: TransportOptions) -> Iterator[tuple[str, str, str]]:
    for name, least in _MILLISECONDS.items():
        value = getattr(options, name)
        if name in options.explicit and value is not None and value >= least:
            yield "PTC109", name, _as_milliseconds(name, value)


def _as_milliseconds(name: str, value: float) -> str:
    length = next((f"{value / size:.3g} {unit}" for size, unit in _UNITS if value >= 2 * size), f"{value:g} seconds")
    return f"{name}={value:g} is {length}; seconds are expected: {value / 1000:g} if milliseconds were meant"


_UNITS = ((86_400, "days"), (3600, "hours"), (60, "minutes"))


def _idle_far_below(options: TransportOptions) -> Iterator[tuple[str, str, str]]:
    idle, limit = options.max_idle_conns_per_host, options.max_conns_per_host
    if idle is None or not 0 < idle <= _GO_IDLE_PER_HOST or (limit is not None and limit <= 8):
        return
    used = 20 if limit is None else limit
    text = f"max_idle_conns_per_host={idle}: with {used} in use, {used - idle} connections are closed after each burst"
    yield "PTC201", "max_idle_conns_per_host", f"{text}; set {used} or more, or leave it out"


def _too_many(options: TransportOptions) -> Iterator[tuple[str, str, str]]:
    for name in ("max_conns", "max_conns_per_host"):
        value = getattr(options, name)
        if name not in options.explicit or value is None:
            continue
        files = file_limit()
        if files is not None and value + _FILES_FOR_THE_REST > files:
            room = max(files - _FILES_FOR_THE_REST, 1)
            text = f"{name}={value}: this process may have {files} files open (RLIMIT_NOFILE), connections included"
            yield "PTC203", name, f"{text}; set {room} or less, or raise the limit"
        ports = _port_count() if options.uds is None and value > 1000 else None
        if ports is not None and value > ports:
            text = f"{name}={value}: there are {ports} local ports towards one host ({_PORT_RANGE})"
            yield "PTC211", name, f"{text}; set {ports} or less"


def _endless_reading(options: TransportOptions) -> Iterator[tuple[str, str, str]]:
    bounded = options.lease_max is not None or (
        options.min_rate is not None and options.response_header_timeout is not None
    )
    if "read_timeout" in options.explicit and options.read_timeout is None and not bounded:
        text = "read_timeout=None: where no total is given, a server that stops sending holds a connection for ever"
        yield "PTC204", "read_timeout", f"{text}; give seconds, or min_rate=(bytes_per_second, seconds)"


def _short_lives(options: TransportOptions) -> Iterator[tuple[str, str, str]]:
    life, idle = options.max_conn_lifetime, options.idle_conn_timeout
    if life is None:
        return
    if life < 30:
        text = f"max_conn_lifetime={life:g}: connections are made anew every {life:g} s; set 30 or more"
        yield "PTC207", "max_conn_lifetime", text
    elif "idle_conn_timeout" in options.explicit and idle is not None and life < idle:
        text = f"max_conn_lifetime={life:g} is below idle_conn_timeout={idle:g}, which then hardly ever acts"
        yield "PTC207", "max_conn_lifetime", f"{text}; leave one out"


def _leases(options: TransportOptions) -> Iterator[tuple[str, str, str]]:
    after, read = options.lease_warn_after, options.read_timeout
    if "lease_warn_after" not in options.explicit:
        return
    if 0 < after < 2:
        text = (
            f"lease_warn_after={after:g}: every response that takes as long is looked at; set 2 or more, or 0 for never"
        )
        yield "PTC208", "lease_warn_after", text
    elif "read_timeout" in options.explicit and read is not None and after > read * 10:
        text = f"lease_warn_after={after:g} is more than 10 times read_timeout={read:g}: held responses are found late"
        yield "PTC208", "lease_warn_after", f"{text}; set {read * 10:g} or less"


def _drains(options: TransportOptions) -> Iterator[tuple[str, str, str]]:
    size, seconds = options.drain_limit, options.drain_timeout
    if size > 2**20:
        text = f"drain_limit={size}: closing a response early reads up to {size / 2**20:.3g} MiB, to save one dial"
        yield "PTC209", "drain_limit", f"{text}; set {2**20} or less"
    if seconds > 1:
        text = f"drain_timeout={seconds:g}: closing a response early may take as many seconds, to save one dial"
        yield "PTC209", "drain_timeout", f"{text}; set 1 or less ({seconds / 1000:g} if milliseconds were meant)"


# -- clients ------------------------------------------------------------------------------------


def client_findings(timeout: Timeout, base_url: URL | None, transport: object) -> list[ConfigFinding]:
    """Return what is wrong or suspicious about a client with that transport. A timeout of a request is not judged.

    Making a client costs microseconds, and so does this.
    """
    found = []
    total = timeout.total
    if isinstance(total, (int, float)) and (later := _waits_longer(total, timeout.acquire, transport)) is not None:
        found.append(later)
    for name in _FIELDS:
        value = getattr(timeout, name)
        if isinstance(value, (int, float)) and value >= 1000:
            shown = "timeout" if name == "total" else f"timeout {name}"
            found.append(ConfigFinding("PTC109", WARNING, "timeout", _as_milliseconds(shown, value)))
    if base_url is not None and base_url.scheme == "http" and _option(transport, "https_only"):
        text = f"base_url is plain http ({base_url.redacted}), which the transport's https_only refuses"
        found.append(ConfigFinding("PTC113", ERROR, "base_url", f"{text}; write https://"))
    if base_url is not None and base_url.password:
        text = f"base_url has a password in it ({base_url.redacted}), and URLs get into logs"
        found.append(ConfigFinding("PTC214", WARNING, "base_url", f"{text}; give it as the header Authorization"))
    return found


def _option(transport: object, name: str) -> Any:
    """Return an option of `transport`; one of another kind may have none."""
    return getattr(getattr(transport, "options", None), name, None)


def _waits_longer(total: float, acquire: object, transport: object) -> ConfigFinding | None:
    if isinstance(acquire, (int, float)):
        if acquire <= total:
            return None
        text = f"timeout acquire={acquire:g} can never fire: the total is {total:g}; leave it out"
        return ConfigFinding("PTC105", ERROR, "timeout", text)
    # A transport of another kind may have options of another kind.
    options: TransportOptions | None = getattr(transport, "options", None)
    explicit = getattr(options, "explicit", None)
    if acquire is None or options is None or not isinstance(explicit, frozenset) or "acquire_timeout" not in explicit:
        return None
    waits = options.acquire_timeout
    if waits is None or waits <= total:
        return None
    # No error: the transport may serve other clients, whose requests may wait longer.
    text = f"the transport's acquire_timeout={waits:g} can never fire in this client, whose total is {total:g}"
    return ConfigFinding("PTC105", WARNING, "timeout", f"{text}; give Timeout(total={total:g}, acquire=...)")


# -- what is found elsewhere --------------------------------------------------------------------


def churn_finding(what: str, count: int, site: str) -> ConfigFinding:
    """Return the words for a line that made `what`, the name of a class, so often within a minute."""
    text = f"{what} was made {count} times within 60 s at {site}: make one and share it, or each has an empty pool"
    return ConfigFinding("PTC212", WARNING, "", text)


def near_variable(name: str, meant: str) -> ConfigFinding:
    """Return the words for an environment variable that is nearly an option's."""
    text = f"the environment variable {name} is no option's and is ignored; did you mean {meant}?"
    return ConfigFinding("PTC215", WARNING, "", text)


# -- the machine --------------------------------------------------------------------------------


def file_limit() -> int | None:
    """Return how many files this process may open, or None where that is not told, or without limit."""
    try:
        import resource  # noqa: PLC0415 - only POSIX has it
    except ImportError:
        return None
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if soft == resource.RLIM_INFINITY else soft


def _port_count() -> int | None:
    """Return how many local ports Linux gives out towards one address, or None elsewhere."""
    try:
        with open(_PORT_RANGE, encoding="ascii") as file:
            low, high = map(int, file.read().split())
    except (OSError, ValueError):
        return None
    return high - low + 1
