"""How a command ends: the exit status, and one sentence that says what failed and why."""

from __future__ import annotations

from pooltransport.errors import (
    AddressRefused,
    ConfigError,
    ConnectError,
    ConnectTimeout,
    DNSError,
    Error,
    IncompleteBody,
    InvalidRequest,
    ProxyError,
    RemoteProtocolError,
    ResponseHeaderTimeout,
    ServerClosedConnection,
    TLSError,
    TLSHandshakeTimeout,
    TransportTimeout,
)

OK, FAILED, USAGE, NAME, CONNECT, TLS, TIMEOUT, STATUS, INTERRUPTED = 0, 1, 2, 3, 4, 5, 6, 7, 130

# The first that fits counts.
_ENDINGS: tuple[tuple[type[BaseException], int, str], ...] = (
    (InvalidRequest, USAGE, "this cannot be asked for"),
    (ConfigError, USAGE, "this cannot work"),
    (DNSError, NAME, "the name does not resolve"),
    (TLSError, TLS, "there is no safe connection"),
    (ProxyError, CONNECT, "the proxy does not let it pass"),
    (AddressRefused, CONNECT, "the address is not allowed"),
    (ConnectError, CONNECT, "there is no connection"),
    (TLSHandshakeTimeout, TIMEOUT, "the server takes connections, and does not speak TLS in time"),
    (ConnectTimeout, TIMEOUT, "there was no connection in time"),
    (ResponseHeaderTimeout, TIMEOUT, "connected, and there was no answer in time"),
    (TransportTimeout, TIMEOUT, "time ran out"),
    (ServerClosedConnection, FAILED, "the server closed the connection instead of answering"),
    (IncompleteBody, FAILED, "the answer ended too early"),
    (RemoteProtocolError, FAILED, "what came is no answer in HTTP/1.1"),
)


def status_of(error: BaseException) -> int:
    """Return the exit status for `error`."""
    return next((status for kind, status, _ in _ENDINGS if isinstance(error, kind)), FAILED)


def sentence(error: Error, scheme: str = "") -> str:
    """Return one line: what failed, and why. `scheme`: the URL's, for a hint."""
    what = next((words for kind, _, words in _ENDINGS if isinstance(error, kind)), "it failed")
    if isinstance(error, TransportTimeout) and error.phase == "headers":
        what = "connected, and there was no answer in time"
    why = str(error).partition("\n")[0] if not isinstance(error, ConfigError) else "; ".join(error.problems)
    hint = ""
    if scheme == "http" and isinstance(error, (ServerClosedConnection, RemoteProtocolError)):
        hint = "; if this port speaks TLS, write https://"
    return printable(f"{what}: {why}{hint}")


def printable(text: str) -> str:
    """Return `text` without what a terminal would obey: a server's words are shown, and do nothing."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
