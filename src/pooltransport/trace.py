"""Hooks: what the transport tells while it works (Go: net/http/httptrace; contract section 6).

Rules:

1. A hook is a plain callable with one argument: a frozen info object (`get_conn` is told the
   ``host:port`` text, `put_idle_conn` and `wrote_request` the error or None).
2. It runs outside the pool's mutex, on the thread or loop where the thing happened. It may call
   `stats()` and `close()`. What it returns is ignored.
3. An `Exception` it raises is swallowed, counted (`stats().hook_errors`) and logged once for each
   hook; a hook can never break a request.
4. Order: request, block (`client_trace`), client, transport. The set is bound when the request
   starts, so `put_idle_conn` is told even after the block has ended.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextvars import Token
    from types import TracebackType

    from .stats import CloseReason, DrainOutcome

    Hook = Callable[[Any], object]

HOOK_NAMES = (
    "get_conn",
    "acquire_queued",
    "acquire_done",
    "dns_start",
    "dns_done",
    "connect_start",
    "connect_done",
    "tls_handshake_start",
    "tls_handshake_done",
    "got_conn",
    "wrote_header_field",
    "wrote_headers",
    "wait_100_continue",
    "wrote_request",
    "got_first_response_byte",
    "got_100_continue",
    "got_1xx_response",
    "body_closed",
    "drained",
    "put_idle_conn",
    "conn_closed",
    "retried",
    "leaked",
    "lease_overdue",
)


class TLSInfo(NamedTuple):
    """What the handshake agreed on."""

    version: str
    cipher: str
    alpn: str | None
    server_hostname: str | None


class ConnInfo(NamedTuple):
    """One connection, as `conn_closed` tells it. `age` in seconds."""

    id: int
    origin: str
    remote_addr: str
    local_addr: str
    age: float
    requests_served: int


class GotConnInfo(NamedTuple):
    """A connection was obtained (Go: httptrace.GotConnInfo).

    `reused`: it came from the pool or from another request. `was_idle`, `idle_time` (s): it lay in
    the pool. `queue_time` (s): from asking the pool to having it. `age` (s) since it was dialed.
    `requests_served`: before this one.
    """

    remote_addr: str
    local_addr: str
    reused: bool
    was_idle: bool
    idle_time: float
    queue_time: float
    protocol: str
    tls: TLSInfo | None
    age: float
    requests_served: int
    id: int


class AcquireQueuedInfo(NamedTuple):
    """The request waits for a slot; `position` is its place in its host's queue, 1 the front."""

    origin: str
    position: int


class AcquireDoneInfo(NamedTuple):
    """The wait ended. `waited` in seconds; `outcome`: reused, dialed, handed_over, or the error's class."""

    origin: str
    waited: float
    outcome: str


class DNSStartInfo(NamedTuple):
    """A name is being looked up."""

    host: str


class DNSDoneInfo(NamedTuple):
    """The look-up ended. `coalesced`: the answer was shared with another request's look-up."""

    host: str
    addresses: Sequence[str]
    coalesced: bool
    error: BaseException | None


class ConnectStartInfo(NamedTuple):
    """A connect to one address begins; `network` is ``tcp`` or ``unix``."""

    network: str
    address: str


class ConnectDoneInfo(NamedTuple):
    """That connect ended, with the error or None."""

    network: str
    address: str
    error: BaseException | None


class TLSHandshakeStartInfo(NamedTuple):
    """A TLS handshake begins."""

    server_hostname: str | None


class TLSHandshakeDoneInfo(NamedTuple):
    """The handshake ended: `tls` says what was agreed on, or `error` why not."""

    server_hostname: str | None
    tls: TLSInfo | None
    error: BaseException | None


class WroteHeaderFieldInfo(NamedTuple):
    """One header field was put into the request; all its values."""

    name: str
    values: Sequence[str]


class WroteHeadersInfo(NamedTuple):
    """The request's header section was serialised."""

    size: int


class Wait100ContinueInfo(NamedTuple):
    """The headers are flushed; the body waits at most `timeout` seconds for 100 (Continue)."""

    timeout: float


class FirstByteInfo(NamedTuple):
    """The first byte of the answer came `elapsed` seconds after the request was written."""

    elapsed: float


class InformationalInfo(NamedTuple):
    """A 1xx answer."""

    status_code: int
    headers: Any


class BodyClosedInfo(NamedTuple):
    """The response ended. `bytes_left` is None where the length was not declared; `bytes_sent`: of the request."""

    bytes_read: int
    bytes_left: int | None
    complete: bool
    bytes_sent: int = 0


class DrainedInfo(NamedTuple):
    """The rest of a body closed early was read away, or given up."""

    bytes_read: int
    bytes_left: int | None
    outcome: DrainOutcome


class ConnClosedInfo(NamedTuple):
    """A connection is gone. `closed_by` is ``local`` or ``remote``."""

    conn: ConnInfo
    reason: CloseReason
    closed_by: str


class RetriedInfo(NamedTuple):
    """Attempt number `attempt` failed with `error` before anything was answered; it is done again."""

    attempt: int
    error: BaseException


class LeakReport(NamedTuple):
    """A response was dropped unclosed.

    `site` is ``file:line`` of the call that opened it (empty with ``leak_detection="off"``),
    `function` its function. `age` in seconds since it was opened. `number`: the how-manieth of this line it is.
    `found`: one of `LeakFound`. `stack`: from the site outwards, each ``file:line in function``.
    """

    method: str
    origin: str
    status_code: int
    site: str
    function: str
    age: float
    bytes_read: int
    bytes_expected: int | None
    thread: str
    number: int
    message: str
    found: str = "gc"
    task: str | None = None
    stack: tuple[str, ...] = ()


class OverdueReport(NamedTuple):
    """A response is held for longer than `lease_warn_after`; it need not be a leak.

    `activity`: one of `Activity`. `age` in seconds since its connection was acquired; the rest as in `LeakReport`.
    """

    id: int
    method: str
    origin: str
    status_code: int
    activity: str
    site: str
    function: str
    age: float
    bytes_read: int
    bytes_expected: int | None
    thread: str
    task: str | None
    stack: tuple[str, ...]
    message: str


class ClientTrace:
    """A set of hooks; each is a callable or None. See `HOOK_NAMES` and contract section 6.

    Attach it to a transport, a client, a request (``trace=``), or a block (`client_trace`).
    Raises `TypeError` for an unknown name or what cannot be called.
    """

    __slots__ = HOOK_NAMES

    def __init__(self, **hooks: Hook | None) -> None:
        for name in HOOK_NAMES:
            object.__setattr__(self, name, None)
        for name, hook in hooks.items():
            if name not in HOOK_NAMES:
                raise TypeError(f"ClientTrace has no hook {name!r}; there are: {', '.join(HOOK_NAMES)}")
            if hook is not None and not callable(hook):
                raise TypeError(f"the hook {name} must be callable, not {type(hook).__name__}")
            object.__setattr__(self, name, hook)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a ClientTrace is frozen: make a new one")

    def __repr__(self) -> str:
        told = ", ".join(name for name in HOOK_NAMES if getattr(self, name) is not None)
        return f"<ClientTrace {told or 'empty'}>"


_block_traces: ContextVar[tuple[ClientTrace, ...]] = ContextVar("pooltransport_traces", default=())


class client_trace:  # noqa: N801 - a context manager reads like a verb, as contextlib's do
    """Attach `trace` to every request started inside the block (``with pt.client_trace(trace):``).

    A context variable: it follows asyncio and trio tasks started in the block, and other threads
    only where the context is copied to them. The inner block's hooks are told first.
    """

    __slots__ = ("_token", "_trace")

    def __init__(self, trace: ClientTrace) -> None:
        self._trace = trace
        self._token: Token[tuple[ClientTrace, ...]] | None = None

    def __enter__(self) -> ClientTrace:
        self._token = _block_traces.set((self._trace, *_block_traces.get()))
        return self._trace

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._token is not None:
            _block_traces.reset(self._token)
            self._token = None


class Hooks:
    """The traces bound to one request, and who counts their errors. Falsy things stay out of it:
    a request without traces has ``hooks = None`` and pays one test for each place.
    """

    __slots__ = ("_first", "_on_error", "_others")

    def __init__(self, traces: tuple[ClientTrace, ...], on_error: Callable[[str, Exception], None]) -> None:
        self._first, *self._others = traces
        self._on_error = on_error

    def tell(self, name: str, info: object) -> None:
        """Call the hook `name` of each trace with `info`."""
        hook = getattr(self._first, name)
        if hook is not None:
            try:
                hook(info)
            except Exception as error:  # noqa: BLE001 - a hook cannot break a request
                self._on_error(name, error)
        if self._others:
            self._tell_others(name, info)

    def _tell_others(self, name: str, info: object) -> None:
        for trace in self._others:
            hook = getattr(trace, name)
            if hook is not None:
                try:
                    hook(info)
                except Exception as error:  # noqa: BLE001 - as above
                    self._on_error(name, error)

    def wants(self, name: str) -> bool:
        """Report whether any trace has the hook `name`."""
        return any(getattr(trace, name) is not None for trace in (self._first, *self._others))


def bind(
    request_trace: ClientTrace | None,
    client: ClientTrace | None,
    transport: ClientTrace | None,
    on_error: Callable[[str, Exception], None],
    bound: Hooks | None = None,
) -> Hooks | None:
    """Collect the traces of one request in the order of rule 4; None when there are none. `bound`: the transport's
    own alone, made before.
    """
    block = _block_traces.get()
    if request_trace is None and client is None and not block:
        return bound if bound is not None or transport is None else Hooks((transport,), on_error)
    candidates = (request_trace, *block, client, transport)
    return Hooks(tuple(trace for trace in candidates if trace is not None), on_error)
