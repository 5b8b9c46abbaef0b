"""What a proxy is told, and which one a request goes through by the environment's rules. No I/O.

Rules:

1. The environment is an argument, and read once: `from_environment` keeps what it needs of it.
2. A variable that makes no sense fails the requests that it is about, and no others: going there
   directly could be what the proxy was to prevent (Go ignores such a value).
3. Credentials are in what is sent to the proxy, and in no text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pooltransport.errors import ConfigError
from pooltransport.proxy_url import Proxy, parse_proxy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pooltransport.headers import HeaderItems

__all__ = ["Environment", "Proxy", "Refused", "Socks5", "connect_request", "from_environment", "parse_proxy"]

_CGI = "refusing to use HTTP_PROXY in a CGI program, where any client can set it with a header (REQUEST_METHOD is set)"


class Refused(Exception):
    """The proxy said no, or nothing that can be understood. The text says which."""


# -- the environment ------------------------------------------------------------------------------


class Environment:
    """The proxies of the environment (Go: httpproxy.Config; rows PROXY-15 to PROXY-18)."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._variables: dict[str, tuple[str, str]] = {}
        for scheme in ("http", "https"):
            for name in (f"{scheme.upper()}_PROXY", f"{scheme}_proxy", "ALL_PROXY", "all_proxy"):
                if env.get(name):
                    self._variables[scheme] = (name, env[name])
                    break
        self._is_cgi = bool(env.get("REQUEST_METHOD"))
        self._exceptions = _Exceptions(env.get("NO_PROXY") or env.get("no_proxy") or "")

    @property
    def is_empty(self) -> bool:
        """Whether no variable names a proxy."""
        return not self._variables

    def proxy_for(self, scheme: str, host: str, port: int) -> Proxy | None:
        """Return the proxy for requests to that origin, or None. `host` is lower-cased, without brackets.

        Raises `ConfigError` for a value that is no proxy's URL, and in CGI programs for HTTP_PROXY.
        """
        variable = self._variables.get(scheme)
        if variable is None:
            return None
        name, value = variable
        if self._is_cgi and name.upper() == "HTTP_PROXY":
            raise ConfigError(_CGI, "PTC111")
        if self._exceptions.include(host.partition("%")[0].removesuffix("."), port):
            return None
        try:
            return parse_proxy(value.strip(), lenient=True)
        except ConfigError as error:
            raise ConfigError(f"the environment variable {name}: {error}", "PTC111") from None


def from_environment(env: Mapping[str, str]) -> Environment | None:
    """Return the rules in `env`, or None if it names no proxy."""
    rules = Environment(env)
    return None if rules.is_empty else rules


class _Name(NamedTuple):
    suffix: str  # ".example.com"
    port: str
    itself: bool  # also example.com, not only what is below it


class _Exceptions:
    """NO_PROXY, entry by entry, as Go reads it."""

    def __init__(self, text: str) -> None:
        self._all = False
        self._networks: list[tuple[Any, str]] = []
        self._names: list[_Name] = []
        for entry in text.lower().split(","):
            self._add(entry.strip())

    def _add(self, entry: str) -> None:
        if entry == "*":
            self._all = True
        elif network := _network(entry):
            self._networks.append((network, ""))
        else:
            host, port = _host_and_port(entry)
            if address := _address(host):
                self._networks.append((_only(address), port))
            elif host.strip("*."):
                name = host.removesuffix(".")
                name = name[1:] if name.startswith("*.") else name
                itself = not name.startswith(".")
                self._names.append(_Name(_ascii(f".{name}" if itself else name), port, itself))

    def include(self, host: str, port: int) -> bool:
        """Report whether no proxy is used for `host`; never one for this machine itself."""
        if self._all or host == "localhost":
            return True
        address = _address(host)
        if address is not None and (address.is_loopback or any(_fits(address, port, *row) for row in self._networks)):
            return True
        return any(
            (host.endswith(name.suffix) or (name.itself and host == name.suffix[1:])) and name.port in ("", str(port))
            for name in self._names
        )


def _fits(address: Any, port: int, network: Any, wanted: str) -> bool:
    return address in network and wanted in ("", str(port))


def _looks_like_an_address(text: str) -> bool:
    return ":" in text or text.rpartition(".")[2].isdigit()


def _address(text: str) -> Any:
    """Return the address that `text` is, IPv4 in IPv6 taken out, or None."""
    if not _looks_like_an_address(text):
        return None
    import ipaddress  # noqa: PLC0415 - 2 ms, for addresses only

    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _network(entry: str) -> Any:
    address, slash, bits = entry.partition("/")
    if not slash or not bits.isdigit() or not _looks_like_an_address(address):
        return None
    import ipaddress  # noqa: PLC0415 - as above

    try:
        return ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return None


def _only(address: Any) -> Any:
    import ipaddress  # noqa: PLC0415 - as above

    return ipaddress.ip_network(address)


def _host_and_port(entry: str) -> tuple[str, str]:
    """Split ``host:port``, ``[v6]:port``, ``v6``; what is neither is a host."""
    if entry.startswith("["):
        host, _, port = entry[1:].partition("]")
        return host, port.removeprefix(":")
    host, colon, port = entry.rpartition(":")
    return (host, port) if colon and ":" not in host else (entry, "")


def _ascii(name: str) -> str:
    if name.isascii():
        return name
    import idna  # noqa: PLC0415 - its tables take milliseconds to load

    try:
        return "." + idna.encode(name[1:], uts46=True).decode("ascii")
    except UnicodeError:
        return name


# -- CONNECT --------------------------------------------------------------------------------------


def authority(host: str, port: int) -> str:
    """Return ``host:port`` of a target, the port always there (Go PROXY-02); a zone is this machine's own."""
    return f"[{host.partition('%')[0]}]:{port}" if ":" in host else f"{host}:{port}"


def connect_request(proxy: Proxy, host: str, port: int, headers: HeaderItems) -> bytes:
    """Return the CONNECT request (RFC 9110 section 9.3.6) with `headers`, which stand instead of ours."""
    target = authority(host, port).encode("ascii")
    parts = [b"CONNECT %b HTTP/1.1\r\n" % target]
    given = {name.lower() for name, _ in headers}
    if b"host" not in given:
        parts.append(b"Host: %b\r\n" % target)
    parts += [b"%b: %b\r\n" % item for item in headers]
    if proxy.authorization is not None and b"proxy-authorization" not in given:
        parts.append(b"Proxy-Authorization: %b\r\n" % proxy.authorization)
    return b"".join((*parts, b"\r\n"))


# -- SOCKS5 ---------------------------------------------------------------------------------------


def require_socksio() -> Any:
    """Return the module ``socksio.socks5``. Raises `ConfigError` if it is not installed."""
    try:
        from socksio import socks5  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigError(
            "SOCKS proxies need the library socksio: pip install pooltransport[socks]", "PTC116"
        ) from None
    return socks5


class Socks5:
    """One SOCKS5 handshake (RFC 1928, 1929): send `first`, then what `feed` returns, until `done`.

    The target's name is resolved by the proxy, with socks5 as with socks5h (Go PROXY-12).
    """

    def __init__(self, proxy: Proxy, host: str, port: int) -> None:
        self._lib = lib = require_socksio()
        self._machine = lib.SOCKS5Connection()
        self._proxy = proxy
        self._target = (host.partition("%")[0], port)
        self._buffer = b""
        self.done = False
        methods = [lib.SOCKS5AuthMethod.NO_AUTH_REQUIRED]
        if proxy.user is not None:
            methods.append(lib.SOCKS5AuthMethod.USERNAME_PASSWORD)
        self.first = self._say(lib.SOCKS5AuthMethodsRequest(methods))

    def feed(self, data: bytes) -> bytes:
        """Take bytes from the proxy; return what to send next, perhaps nothing. Raises `Refused`."""
        self._buffer += data
        answer = b""
        while not self.done and (size := self._size()) <= len(self._buffer):
            reply, self._buffer = self._buffer[:size], self._buffer[size:]
            answer += self._take(reply)
        if self.done and self._buffer:
            raise Refused("it sent bytes before the tunnel was used")
        return answer

    def _size(self) -> int:
        """Return how long the reply is that comes next, as far as that is known yet."""
        state = self._lib.SOCKS5State
        if self._machine.state != state.CLIENT_AUTHENTICATED:
            return 2
        head = self._buffer[:5]
        if len(head) < 5:
            return 5
        sizes = {1: 10, 3: 7 + head[4], 4: 22}
        if head[3] not in sizes:
            raise Refused(f"its reply has an address of the unknown type {head[3]}")
        return sizes[head[3]]

    def _take(self, reply: bytes) -> bytes:
        lib = self._lib
        from socksio.exceptions import ProtocolError  # noqa: PLC0415 - an extra

        if reply[0] != (1 if self._machine.state == lib.SOCKS5State.SERVER_VERIFY_USERNAME_PASSWORD else 5):
            raise Refused(f"its reply {reply[:8].hex(' ')} is not SOCKS5")
        if reply[1:2] == b"\xff" and self._machine.state == lib.SOCKS5State.SERVER_AUTH_REPLY:
            asked = "needs credentials" if self._proxy.user is None else "takes no user name and password"
            raise Refused(f"it {asked} (no acceptable methods)")
        try:
            answer = self._machine.receive_data(reply)
        except (ProtocolError, ValueError) as error:
            raise Refused(f"its reply {reply[:8].hex(' ')} is not SOCKS5") from error
        if isinstance(answer, lib.SOCKS5AuthReply):
            return self._authenticate(answer)
        if isinstance(answer, lib.SOCKS5UsernamePasswordReply):
            if not answer.success:
                raise Refused("it refused the user name or password")
            return self._command()
        if answer.reply_code != lib.SOCKS5ReplyCode.SUCCEEDED:
            words = answer.reply_code.name.lower().replace("_", " ")
            raise Refused(f"it answered: {words} ({answer.reply_code.value[0]})")
        self.done = True
        return b""

    def _authenticate(self, answer: Any) -> bytes:
        lib, proxy = self._lib, self._proxy
        if answer.method == lib.SOCKS5AuthMethod.NO_AUTH_REQUIRED:
            return self._command()
        if answer.method != lib.SOCKS5AuthMethod.USERNAME_PASSWORD or proxy.user is None:
            raise Refused(f"it chose the method {answer.method.name.lower()}, which was not offered")
        return self._say(lib.SOCKS5UsernamePasswordRequest(proxy.user.encode(), (proxy.password or "").encode()))

    def _command(self) -> bytes:
        return self._say(self._lib.SOCKS5CommandRequest.from_address(self._lib.SOCKS5Command.CONNECT, self._target))

    def _say(self, request: Any) -> bytes:
        self._machine.send(request)
        return bytes(self._machine.data_to_send())
