"""`Request` and `Timeout`: what a caller asks for. Values: no I/O, no clock.

Rules:

1. Everything is validated here, before anything is dialed: Go finds some of it only after taking a
   connection, and kills that (Go row WRITE-11).
2. A request never changes: transports, retries and other threads share it. What differs for one
   client is a copy (`Request.with_defaults`). Only its body and its trailers have a state.
3. Headers that decide where a message ends belong to us (RFC 9112 section 6): given by the caller,
   they must agree with the body.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

from .bodies import NO_BODY, RequestBody
from .errors import ConfigError
from .headers import EMPTY_HEADERS, Headers, check_method
from .option_checks import MOST_SECONDS, is_number
from .request_framing import NO_FIELDS, checked_trailers, fields_of, framing, host_override
from .url import URL, parse_url

if TYPE_CHECKING:
    from typing import TypeAlias

    from .bodies import Content
    from .headers import HeaderItems, HeadersInput
    from .request_framing import Fields
    from .trace import ClientTrace

__all__ = ["UNSET", "URL", "Headers", "Request", "Timeout", "Unset", "parse_url"]


class Unset:
    """The type of `UNSET`: "not given", where None means "none"."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNSET"

    def __bool__(self) -> Literal[False]:
        return False

    def __reduce__(self) -> str:
        return "UNSET"  # copies and pickles are the one object: it is compared with "is"


UNSET: Final = Unset()

if TYPE_CHECKING:
    Seconds: TypeAlias = float | Unset | None
    TimeoutInput: TypeAlias = "float | Timeout | Unset | None"


class Timeout:
    """How long a request may take; each field in seconds, None for no such limit (contract section 2).

    `total`: everything, from the call to the last body byte, redirects and retries included.
    `acquire`: waiting for a connection. `connect`: from the dial's permission to its end. `tls`: one
    handshake. `response_header`: from the request fully sent to the final headers. `read`, `write`:
    without any progress. A field left out takes the client's value, then the transport's.

    Immutable, hashable. Raises `ConfigError` unless each is None or a positive finite number.
    """

    __slots__ = ("_hash", "acquire", "connect", "read", "response_header", "tls", "total", "write")

    _hash: int
    total: Seconds
    acquire: Seconds
    connect: Seconds
    tls: Seconds
    response_header: Seconds
    read: Seconds
    write: Seconds

    def __init__(
        self,
        total: Seconds = UNSET,
        *,
        acquire: Seconds = UNSET,
        connect: Seconds = UNSET,
        tls: Seconds = UNSET,
        response_header: Seconds = UNSET,
        read: Seconds = UNSET,
        write: Seconds = UNSET,
    ) -> None:
        values = (total, acquire, connect, tls, response_header, read, write)
        problems = [
            _timeout_problem(name, value)
            for name, value in zip(_FIELDS, values, strict=True)
            if not (value is UNSET or value is None or _is_seconds(value))
        ]
        if problems:
            raise ConfigError(problems)
        self._fill(values)

    @staticmethod
    def of(value: TimeoutInput) -> Timeout:
        """Return `value` as a `Timeout`: a number is the total, None is "no total", UNSET sets nothing.

        Raises `ConfigError` for anything else, and for a number that is not positive and finite.
        """
        if value is UNSET:
            return NO_TIMEOUT_SET
        if isinstance(value, Timeout):
            return value
        if value is None or _is_seconds(value):
            return _timeout((value, *_NOTHING_ELSE))
        raise ConfigError(_timeout_problem("", value))

    def over(self, other: Timeout) -> Timeout:
        """Return a `Timeout` with this one's fields where they are set, else those of `other`."""
        if self is other or other is NO_TIMEOUT_SET:
            return self
        if self is NO_TIMEOUT_SET:
            return other
        mine, others = self._values(), other._values()
        merged = tuple(b if a is UNSET else a for a, b in zip(mine, others, strict=True))
        return self if merged == mine else _timeout(merged)

    def _fill(self, values: tuple[Seconds, ...]) -> None:
        for name, value in zip(_FIELDS, values, strict=True):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_hash", hash(values))  # each request looks its settings up by it

    def _values(self) -> tuple[Seconds, ...]:
        return (self.total, self.acquire, self.connect, self.tls, self.response_header, self.read, self.write)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a Timeout does not change: make a new one")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a Timeout does not change: make a new one")

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if isinstance(other, Timeout) else NotImplemented

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        pairs = zip(_FIELDS, self._values(), strict=True)
        return f"Timeout({', '.join(f'{name}={value!r}' for name, value in pairs if value is not UNSET)})"

    def __reduce__(self) -> tuple[object, ...]:
        return _timeout, (self._values(),)


def _timeout(values: tuple[Seconds, ...]) -> Timeout:
    """Return a Timeout of values that were checked before."""
    timeout = object.__new__(Timeout)
    timeout._fill(values)
    return timeout


_FIELDS = ("total", "acquire", "connect", "tls", "response_header", "read", "write")
_NOTHING_ELSE = (UNSET,) * 6
NO_TIMEOUT_SET: Final = Timeout()


def _is_seconds(value: object) -> bool:
    return is_number(value) and 0 < value <= MOST_SECONDS


def _timeout_problem(name: str, value: object) -> str:
    what = f"timeout {name}={value!r}" if name else f"timeout={value!r}"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{what}: give seconds above 0 (and at most 1e9), or use None for no timeout [PTC104]"
    kinds = "a number of seconds or None" if name else "a number of seconds, a Timeout or None"
    return f"{what} is {type(value).__name__}: give {kinds} (None for no timeout) [PTC104]"


class Request:
    """One request, to be sent by `round_trip` of a transport or `send` of a client. Never changed by either.

    `method`: a token, sent as given but for the nine of RFC 9110, which go out in upper case. `url`: an
    absolute http or https address. `headers`: anything `Headers` takes; a Host among them is sent
    instead of the URL's. `content`: see `RequestBody.of`. `timeout`: seconds for everything, a
    `Timeout`, or None for no total. `trace`: hooks for this request. `retry_stale`: False (True)
    never (always, where that is safe) repeats it on a connection that had gone stale; None leaves it
    to the transport. `trailers`: fields sent behind a chunked body; the names given here are announced,
    and `request.trailers` may be changed until the body has been read, to hold a digest of it.
    `decode`: None is Go's rule (a request that says nothing of codings asks for gzip, and the answer comes
    without it: GZIP-01); True asks for every coding known here and decodes what comes, which is what a
    client's requests do; False asks for none and decodes nothing. `extensions`: notes of yours and of
    adapters, for callables that are given the request; one is ours: ``sni_hostname``, the name that TLS
    asks for and checks instead of the URL's host.

    Raises `InvalidRequest` before anything is dialed for what cannot be sent: also a Content-Length
    that differs from a known length or has no body, a Transfer-Encoding other than ``chunked`` or
    without a body or beside a Content-Length, several Hosts, trailers without a body or with a
    Content-Length. `ConfigError` for a bad timeout.
    """

    __slots__ = (
        "_body",
        "_chunked",
        "_content",
        "_fields",
        "_headers",
        "_host",
        "_method",
        "_trailers",
        "_url",
        "client_trace",
        "decode",
        "extensions",
        "retry_stale",
        "spent",
        "timeout",
        "trace",
    )

    _fields: Fields | None
    client_trace: ClientTrace | None  # of the client that made the request; `trace` is the caller's
    decode: bool | None
    extensions: dict[str, Any]
    retry_stale: bool | None
    spent: float  # s, of the total, by requests before this one in the same exchange: redirects, retries
    timeout: Timeout
    trace: ClientTrace | None

    def __init__(
        self,
        method: str,
        url: str | URL,
        *,
        headers: HeadersInput = None,
        content: Content = None,
        timeout: TimeoutInput = UNSET,
        trace: ClientTrace | None = None,
        retry_stale: bool | None = None,
        trailers: HeadersInput = None,
        decode: bool | None = None,
        extensions: dict[str, Any] | None = None,
    ) -> None:
        self._method = check_method(method)
        self._url = parse_url(url)
        self._content = content
        self._body = NO_BODY if content is None else RequestBody.of(content)
        self.timeout = NO_TIMEOUT_SET if timeout is UNSET else Timeout.of(timeout)
        self.trace = trace
        self.client_trace = None
        self.retry_stale = retry_stale
        self.decode = decode
        self.spent = 0.0
        self.extensions = {} if extensions is None else extensions
        self._trailers = None if trailers is None else Headers(trailers)
        if headers is None and trailers is None:
            self._headers = EMPTY_HEADERS
            self._fields = NO_FIELDS
            self._host = None
            self._chunked = self._body.length is None
        else:
            self._headers = _own_headers(headers)
            self._fields = None
            self._host = host_override(self._headers)
            self._chunked = framing(self._headers, self._body, content is not None, self._trailers)

    @property
    def method(self) -> str:
        """The method, as it is sent."""
        return self._method

    @property
    def url(self) -> URL:
        """Where it goes."""
        return self._url

    @property
    def headers(self) -> Headers:
        """The caller's headers, frozen. What the transport adds is not among them (Go row WRITE-02)."""
        return self._headers

    @property
    def content(self) -> Content:
        """What was given as the body."""
        return self._content

    @property
    def body(self) -> RequestBody:
        """The body as it is sent; its `length` is the Content-Length, unless the request is `chunked`."""
        return self._body

    @property
    def chunked(self) -> bool:
        """Whether the body goes out in chunked coding: of unknown length, with trailers, or as the caller said."""
        return self._chunked

    @property
    def trailers(self) -> Headers | None:
        """The fields behind the body; of all of the request, only these may be changed."""
        return self._trailers

    @property
    def host_header(self) -> bytes:
        """The value of Host: the caller's, else the URL's."""
        return self._url.host_header if self._host is None else self._host

    def raw_header_items(self) -> HeaderItems:
        """Return the caller's fields as bytes, in order, as given; not a copy: do not change it."""
        return self._headers._raw  # noqa: SLF001 - `raw` copies, and this is on the hot path

    @property
    def fields(self) -> Fields:
        """What the caller's fields mean for the message; for the transport."""
        if self._fields is None:
            self._fields = fields_of(self._headers._raw)  # noqa: SLF001 - as above
        return self._fields

    def raw_trailer_items(self) -> HeaderItems:
        """Return the trailers as they are now. Raises `InvalidRequest` for one that cannot be a trailer."""
        return [] if self._trailers is None else checked_trailers(self._trailers)

    def with_defaults(self, timeout: Timeout, client_trace: ClientTrace | None) -> Request:
        """Return this request with a client's timeout under its own and the client's trace; itself if
        that changes nothing. The copy shares the body: of a stream only one of the two can be sent.
        """
        merged = self.timeout.over(timeout)
        trace = client_trace if self.client_trace is None else self.client_trace
        if merged is self.timeout and trace is self.client_trace:
            return self
        return self._copy(timeout=merged, client_trace=trace)

    def with_headers(self, headers: HeadersInput) -> Request:
        """Return a copy with these headers instead, those of body and Host as they were; it shares the body, too."""
        return self._copy(_headers=_own_headers(headers), _fields=None)

    def with_spent(self, seconds: float) -> Request:
        """Return a copy that has `seconds` less of its total; it shares the body."""
        return self._copy(spent=seconds)

    def with_url(self, url: URL, headers: Headers, *, method: str | None = None, is_same_host: bool = True) -> Request:
        """Return a copy that goes to `url` with `headers`: with the same body, or with another `method` and none.

        To another host its own Host and ``sni_hostname`` do not go.
        """
        changes: dict[str, Any] = {"_url": url, "_headers": headers.freeze(), "_fields": None}
        if method is not None:
            changes |= {"_method": method, "_body": NO_BODY, "_content": None, "_chunked": False, "_trailers": None}
        if not is_same_host:
            extensions = {name: value for name, value in self.extensions.items() if name != "sni_hostname"}
            changes |= {"_host": None, "extensions": extensions}
        return self._copy(**changes)

    def _copy(self, **changes: Any) -> Request:
        copy = object.__new__(Request)
        for name in Request.__slots__:
            setattr(copy, name, changes.get(name, getattr(self, name)))
        return copy

    def __repr__(self) -> str:
        return f"<Request {self._method} {self._url.redacted}>"


def _own_headers(headers: HeadersInput) -> Headers:
    """Return frozen headers: those of another request as they are, else a copy that nobody else has."""
    if isinstance(headers, Headers) and headers.is_frozen:
        return headers
    return Headers(headers).freeze()
