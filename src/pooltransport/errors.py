"""Every exception of the library: one root, builtin bases where users already catch them.

The rules (contract 7.2 - 7.5):

1. `Error` is the root of everything; `TransportError` is what the network and the pool did.
   A typo (`InvalidRequest`, `ConfigError`) or a 404 (`HTTPStatusError`) is never a `TransportError`,
   so `except TransportError: retry()` can never retry either.
2. The text carries the numbers: which limit, which setting, how long, how many.
3. Host and port may appear in a text; path, query, userinfo and header values never do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Error(Exception):
    """Root of all exceptions of pooltransport."""


class InvalidRequest(Error, ValueError):
    """The caller's request cannot be sent as it is; nothing was dialed and nothing was sent."""


class ConfigError(Error, ValueError):
    """Options that cannot work.

    `problems` lists every one of them, each in words that say what to write instead, and each with its code at
    the end: ``max_conns=-1: must be ... [PTC101]``. `codes` are these codes, in the same order (an empty text for
    a problem without one); ``python -m pooltransport explain PTC101`` prints the page of one.
    `code` is that of the problems which bring none.
    """

    def __init__(self, problems: Sequence[str] | str, code: str = "") -> None:
        texts = (problems,) if isinstance(problems, str) else tuple(problems)
        self.problems = tuple(coded(text, code) for text in texts)
        self.codes = tuple(map(code_of, self.problems))
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.problems,)


def code_of(text: str) -> str:
    """Return the code at the end of `text`, as PTC101 of ``... [PTC101]``, or an empty text."""
    last = text.rpartition(" [")[2]
    return last[:-1] if last.startswith("PTC") and last.endswith("]") else ""


def coded(text: str, code: str) -> str:
    """Return `text` with a code at its end: its own, or `code`."""
    return text if not code or code_of(text) else f"{text} [{code}]"


class HTTPStatusError(Error):
    """Raised by `raise_for_status()` for a 4xx or 5xx answer; `.response` is that answer."""

    def __init__(self, message: str, response: Any = None) -> None:
        super().__init__(message)
        self.response = response


class TooManyRedirects(Error):
    """More redirects than `max_redirects`. `.response` is the last one, closed; its `history` has those before."""

    def __init__(self, message: str, response: Any = None) -> None:
        super().__init__(message)
        self.response = response


class DecodingError(Error):
    """The content coding of a body is broken, or gives more than it may.

    `offset`: how many bytes had come from the wire by then; None where that is not known.
    """

    offset: int | None

    def __init__(self, message: str = "", *, offset: int | None = None) -> None:
        super().__init__(message)
        self.offset = offset


class BodyNotRead(Error):
    """`content`, `text` or `json()` of an `AsyncResponse` was asked for before `aread()`."""


class StreamConsumed(Error):
    """The body was iterated, or partly iterated, before: its bytes are gone."""


class TransportError(Error):
    """What the network or the pool did to one request.

    `may_have_been_processed` is True unless it is certain that the server did not act on the
    request: nothing of it was written, or no connection was made at all.
    """

    may_have_been_processed = False

    def __init__(self, message: str = "", *, may_have_been_processed: bool | None = None) -> None:
        super().__init__(message)
        if may_have_been_processed is not None:
            self.may_have_been_processed = may_have_been_processed


class LocalProtocolError(TransportError):
    """The request broke HTTP's rules while it was being sent (e.g. a body of the wrong length)."""

    may_have_been_processed = True


class RemoteProtocolError(TransportError):
    """The server sent what is not HTTP, or a message whose end cannot be trusted. Never retried."""

    may_have_been_processed = True


class IncompleteBody(RemoteProtocolError):
    """The connection ended before the body did (RFC 9112 section 8)."""

    def __init__(self, message: str, *, bytes_read: int = 0, bytes_expected: int | None = None) -> None:
        super().__init__(message)
        self.bytes_read = bytes_read
        self.bytes_expected = bytes_expected


class ConnectAttempt(NamedTuple):
    """One address that a dial tried in vain: ``host:port`` or a path, why, and in which phase."""

    address: str
    error: BaseException
    phase: str = "connect"

    @property
    def errno(self) -> int | None:
        """The system's number of the error, if it has one."""
        return getattr(self.error, "errno", None)


class ConnectError(TransportError, ConnectionError):
    """No connection could be made. `attempts` lists each address tried, with error, errno and phase."""

    attempts: Sequence[ConnectAttempt] = ()

    def __init__(self, message: str = "", *, attempts: Sequence[ConnectAttempt] = ()) -> None:
        super().__init__(message)
        self.attempts = tuple(attempts)


class AddressRefused(ConnectError):
    """``allow_address=`` let none of the addresses pass, or there was none that it could judge.

    `refused`: the texts of all addresses refused (`ConnectError.attempts` has them with their ports); empty for
    a request that would have gone through a proxy, a Unix socket or a ``dial=`` callable. Trying again is of no use.
    """

    code = "PT-ADDRESS-REFUSED"
    refused: Sequence[str] = ()

    def __init__(
        self, message: str = "", *, refused: Sequence[str] = (), attempts: Sequence[ConnectAttempt] = ()
    ) -> None:
        super().__init__(message, attempts=attempts)
        self.refused = tuple(refused)


class DNSError(ConnectError):
    """The name could not be resolved."""


class TLSError(ConnectError):
    """The TLS handshake failed; the text says what was wrong with the certificate or the peer."""


class ProxyError(ConnectError):
    """The proxy refused. `status_code` and `headers` are those of its answer."""

    def __init__(self, message: str = "", *, status_code: int | None = None, headers: Any = None) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.headers = headers


class ReadError(TransportError, ConnectionError):
    """Receiving failed after the request was sent."""

    may_have_been_processed = True


class ServerClosedConnection(ReadError):
    """The server closed the connection without answering.

    `reused`: the connection had been in the pool. `idle_time`: seconds it idled there.
    `bytes_written`: how much of this request was handed to the socket.
    """

    def __init__(
        self, message: str = "", *, reused: bool = False, idle_time: float = 0.0, bytes_written: int = 0
    ) -> None:
        super().__init__(message, may_have_been_processed=bytes_written > 0)
        self.reused = reused
        self.idle_time = idle_time
        self.bytes_written = bytes_written


class WriteError(TransportError, ConnectionError):
    """Sending failed."""

    may_have_been_processed = True


class TransportClosed(TransportError):
    """The transport (or client) was closed: before the request, or while it ran."""


class PoolQueueFull(TransportError):
    """`max_waiting` requests are waiting for a connection already. The attributes are those of `PoolTimeout`;
    `limit` is `max_waiting`.
    """

    code = "PT-QUEUE-FULL"
    origin = ""
    limit: int | None = None
    stats: Any = None
    holders: Sequence[tuple[str, int, float]] = ()
    suspects: Sequence[str] = ()


class PoolDeadlock(TransportError):
    """Every slot is held by someone who waits in this pool: nobody can ever go on."""

    code = "PT-DEADLOCK"


class LeaseExpired(TransportError):
    """The response was held longer than `lease_max`."""

    may_have_been_processed = True


class TransportTimeout(TransportError, TimeoutError):
    """A clock of contract section 2 ran out.

    `phase`: where it fell (queue, dns, connect, proxy, tls, write, headers, body).
    `setting`: the option or `Timeout` field that fired. `seconds`: its value.
    """

    def __init__(
        self,
        message: str = "",
        *,
        phase: str = "",
        setting: str = "",
        seconds: float = 0.0,
        may_have_been_processed: bool | None = None,
    ) -> None:
        super().__init__(message, may_have_been_processed=may_have_been_processed)
        self.phase = phase
        self.setting = setting
        self.seconds = seconds


class PoolTimeout(TransportTimeout):
    """No connection became free in time. The first line names the limit and the top suspect.

    `origin`, `limit_scope` (``per_host`` or ``total``), `limit`, `waited` (s), `stats`
    (a `PoolStats`), `holders` (tuples of site, count, oldest age in s), `suspects` (sites).
    """

    code = "PT-EXHAUSTED"
    origin = ""
    limit_scope = ""
    limit: int | None = None
    waited = 0.0
    stats: Any = None
    holders: Sequence[tuple[str, int, float]] = ()
    suspects: Sequence[str] = ()


class ConnectTimeout(TransportTimeout):
    """The dial (look-up, connect, proxy, TLS) took too long. `attempts`: as of `ConnectError`."""

    attempts: Sequence[ConnectAttempt] = ()


class TLSHandshakeTimeout(TransportTimeout):
    """One TLS handshake took longer than `tls_handshake_timeout`."""


class ResponseHeaderTimeout(TransportTimeout):
    """The final response headers did not come in time."""

    may_have_been_processed = True


class ReadTimeout(TransportTimeout):
    """No byte came for `read_timeout` seconds, or fewer than `min_rate` asks for."""

    may_have_been_processed = True


class WriteTimeout(TransportTimeout):
    """The peer took no byte for `write_timeout` seconds."""

    may_have_been_processed = True


class PoolTransportWarning(UserWarning):
    """Root of the warnings that are not about resources."""


class PoolConfigWarning(PoolTransportWarning):
    """An option that works but is probably not meant so. `code`, as ``PTC204``, is also at the end of the text."""

    @property
    def code(self) -> str:
        """The code; ``python -m pooltransport explain`` prints its page."""
        return code_of(str(self))


class UnclosedResponseWarning(ResourceWarning):
    """A response was garbage-collected unclosed; its connection was closed, its slot given back."""


class UnclosedTransportWarning(ResourceWarning):
    """A transport was garbage-collected with connections open."""


class NotPooled(Error):
    """Told to the `put_idle_conn` hook: why a connection did not go back to the pool (`.reason`)."""

    def __init__(self, reason: Any) -> None:
        super().__init__(reason.sentence)
        self.reason = reason
