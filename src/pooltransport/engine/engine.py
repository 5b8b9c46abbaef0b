"""The map of this room. One request's way, in the order of its bytes:

`Engine.round_trip` (here)  ->  `acquire.acquire`: a connection, from the pool, by a `dial.DialJob`, or
after a wait  ->  `sending.send`: the request  ->  `receiving.receive_head`: the answer's header  ->
`body.Body`: the answer's body, and the one place where a lease of an answered request ends.

`ledger.Ledger` holds the mutex and carries out what the pool decides; `clocks` knows the time limits;
`lifecycle` closes, drains and warms; `housekeeping` watches what nobody uses.
"""

from __future__ import annotations

import itertools
import os
import time
from typing import TYPE_CHECKING, Any

from pooltransport import witness
from pooltransport.core.addresses import AddressMemory
from pooltransport.core.http1.exchange import Exchange
from pooltransport.core.keys import ConnectKey, host_of
from pooltransport.core.pool import DialState, Limits
from pooltransport.core.retry import Failure, should_retry
from pooltransport.errors import (
    LeaseExpired,
    RemoteProtocolError,
    ResponseHeaderTimeout,
    ServerClosedConnection,
    TLSError,
    TransportClosed,
    TransportError,
    TransportTimeout,
    WriteError,
)
from pooltransport.lease import Lease, Watch
from pooltransport.stats import CloseReason
from pooltransport.trace import RetriedInfo, bind

from .acquire import Tag, acquire
from .allowing import check_way
from .body import Body
from .callables import is_coroutine_function
from .clocks import Clocks, ClockSettings, seconds_asleep, settle
from .codings import accepted, to_take_off
from .dial import DialJob
from .exhaustion import Exhaustion
from .housekeeping import enrol
from .kernel_notes import KernelNotes
from .ledger import Ledger
from .lookup import make_resolver
from .reasons import failure_of
from .receiving import receive_head
from .routes import Routes, server_name
from .sending import send
from .tls_errors import refused_after_handshake
from .trusting import Trusted, trust_of
from .upgrade import Upgraded
from .upload import Sent

if TYPE_CHECKING:
    from collections.abc import Callable

    from pooltransport.core.http1.codec import Head, Http1Codec
    from pooltransport.core.pool import DialTicket, Waiter
    from pooltransport.lease import Site
    from pooltransport.models import Request, Timeout
    from pooltransport.options import TransportOptions
    from pooltransport.runtime.protocols import Runtime
    from pooltransport.trace import GotConnInfo, Hooks

    from .connection import Connection

_MOST_KEYS = 10_000
_MOST_SETTINGS = 256
_IDEMPOTENCY_KEYS = frozenset((b"idempotency-key", b"x-idempotency-key"))


class Engine:
    """One transport's control flow. `now` is the time:
    the clock of `Runtime.now`, which every runtime of one engine shares; `asleep` for how long it stood still.
    """

    def __init__(
        self,
        options: TransportOptions,
        leak_level: str,
        now: Callable[[], float] = time.monotonic,
        asleep: Callable[[], float] = seconds_asleep,
    ) -> None:
        self.options = options
        self.now = now
        self.watch = Watch(leak_level, tuple(options.ignore_modules))
        self.routes = Routes(options)
        limits = Limits(
            options.max_idle_conns,
            options.max_idle_conns_per_host,
            options.max_conns_per_host,
            options.max_conns,
            options.max_waiting,
            options.idle_conn_timeout,
            options.disable_keep_alives,
        )
        self.ledger = Ledger(options, limits, self.watch, self._start_dial, now, asleep)
        enrol(self.ledger)
        self.exhaustion = Exhaustion(self)
        self.kernel_notes = KernelNotes(self)
        self.resolver = make_resolver(options.resolver, is_async=is_coroutine_function(options.resolver))
        self.addresses = AddressMemory()
        self.is_closed = self.is_draining = False
        self.fails: Waiter[Connection] | None = None  # who is about to, for all that are deadlocked with it
        self._lease_ids = itertools.count(1)
        self.trusted = Trusted(options, self.ledger)
        self.ledger.before_tick = self.trusted.look
        self._keys: dict[tuple[Any, ...], ConnectKey] = {}
        self._settings: dict[Timeout, ClockSettings] = {}

    # -- one request ----------------------------------------------------------------------------

    async def round_trip(
        self, request: Request, find_runtime: Callable[[], Runtime]
    ) -> tuple[Head, Body | Upgraded, GotConnInfo]:
        """Send `request`; return its header, the body, still to be read or closed, and on what it came.

        `find_runtime` says on which the caller runs. Raises `TransportError` for what network and pool did, and
        whatever the caller's own body raised. Retries what is certainly not answered by a connection that had gone
        stale (Go RETRY).
        """
        sent: Sent | None = None
        attempts = 0
        try:
            self.begin()
            runtime = find_runtime()
            clocks = Clocks(self.settings_of(request.timeout), self.now(), request.spent)
            key = self.key_for(request, runtime)
            hooks = self._hooks_of(request)
            site = self.watch.site()
            while True:
                if hooks is not None:
                    hooks.tell("get_conn", key.host_port)
                try:
                    conn, got = await acquire(self, key, runtime, clocks, hooks)
                except BaseException as error:
                    self._note_failure(request, key, clocks, error)
                    raise
                lease = self._open_lease(request, conn, runtime, clocks, hooks, site)
                sent = Sent()
                attempts += 1
                try:
                    head, body = await self._exchange(request, lease, clocks, sent)
                except Exception as error:
                    if not self._may_retry(request, conn, sent, error):
                        self._note_error(request, key, clocks, error)
                        raise
                    self.ledger.note(self.ledger.pool.note_retry, key.host)
                    if hooks is not None:
                        hooks.tell("retried", RetriedInfo(attempts, error))
                else:
                    return head, body, got
                if request.body.started:
                    await _close_body(request, sent)
                request.body.rewind()
                if self.routes.asks:
                    key = self.key_for(request, runtime)
        except BaseException:
            # Last of all: the caller's generator may wait, or raise. It is closed whatever happened (Go WRITE-12).
            await _close_body(request, sent)
            raise

    def begin(self) -> None:
        """Look whether a request may start, and say what is to be said before it does."""
        ledger = self.ledger
        if os.getpid() != ledger.pid:
            ledger.after_fork()
        if self.is_closed or self.is_draining:
            self.check_open()
        if ledger.has_reports:
            ledger.safe_point()

    def _hooks_of(self, request: Request) -> Hooks | None:
        reports = self.ledger.reports
        return bind(
            request.trace, request.client_trace, self.options.trace, reports.hook_error, reports.transport_hooks
        )

    def _open_lease(
        self,
        request: Request,
        conn: Connection,
        runtime: Runtime,
        clocks: Clocks,
        hooks: Hooks | None,
        site: Site | None,
    ) -> Lease:
        ledger = self.ledger
        lease = Lease(
            next(self._lease_ids),
            conn,
            request.method,
            hooks,
            site,
            clocks.started,
            self.now(),
            ledger.epoch,
            runtime.holder(),
        )
        lease.detail = self.watch.detail(site)
        if self.options.show_paths:
            lease.path = request.url.target.partition(b"?")[0].decode("latin-1")
        if (onlooker := witness.current) is not None:
            onlooker.lease_opened(lease)
        ledger.open_lease(lease)
        return lease

    def _note_failure(self, request: Request, key: ConnectKey, clocks: Clocks, error: BaseException) -> None:
        """Count a request that got no connection."""
        self.ledger.note(self.ledger.pool.note_failure, key.host, failure_of(error))
        self._note_error(request, key, clocks, error)

    def _note_error(self, request: Request, key: ConnectKey, clocks: Clocks, error: BaseException) -> None:
        seconds = self.now() - clocks.started
        self.ledger.note(self.ledger.pool.note_request, key.host, request.method, type(error).__name__, seconds)

    async def _exchange(
        self, request: Request, lease: Lease, clocks: Clocks, sent: Sent
    ) -> tuple[Head, Body | Upgraded]:
        """Send and receive on one connection. Whatever is raised here has ended the lease."""
        conn = lease.conn
        options = self.options
        close = options.disable_keep_alives
        accept = accepted(request, options)
        exchange = Exchange(
            conn.codec, request.method, options.max_response_header_bytes, close_sent=close or request.fields.close
        )
        try:
            head = await send(request, lease, exchange, clocks, sent, options, close=close, accept_encoding=accept)
            if head is None:
                head = await receive_head(lease, exchange, clocks, sent)
        except Exception as error:  # noqa: BLE001 - raised again, or what explains it
            self.ledger.discard(lease, close_reason_of(error), answered=False)
            if isinstance(error, TransportTimeout):
                self.ledger.note(self.ledger.pool.note_timeout, conn.key.host, error.phase)
            explained = self.explain(error, conn)
            try:
                if explained is error:
                    raise
                raise explained from error
            finally:
                del explained  # its traceback has this frame: a cycle would hold those of callers, and what they know
        except BaseException:
            # Cancelled, or interrupted: the connection is in the middle of something.
            self.ledger.discard(lease, CloseReason.CANCELLED, answered=False)
            raise
        lease.status_code = head.status
        lease.headers = head.headers  # before the moment that says they are there
        lease.bytes_sent = sent.bytes_written
        lease.headers_at = self.now()
        if exchange.upgraded:
            return head, Upgraded(self, lease, exchange.take_rest())
        return head, Body(
            self, lease, exchange, clocks, codings=to_take_off(request, accept, head.status, exchange.coded)
        )

    def explain(self, error: Exception, conn: Connection) -> Exception:
        """Return `error`, or why it really happened: the transport was closed meanwhile, or the server
        ended TLS because of our certificate, which in TLS 1.3 it may say only now.
        """
        if conn.close_reason is CloseReason.POOL_CLOSED and isinstance(error, TransportError):
            closed = TransportClosed(f"{conn.key.origin}: the transport was closed while the request ran")
            closed.may_have_been_processed = error.may_have_been_processed
            return closed
        if conn.close_reason is CloseReason.LEASE_EXPIRED and isinstance(error, TransportError):
            text = f"{conn.key.origin}: the response was held for longer than {self.options.lease_max:g} s (lease_max)"
            return LeaseExpired(text)
        if not conn.requests_served and (why := refused_after_handshake(error)) is not None:
            return TLSError(f"TLS handshake with {conn.key.origin} failed: {why}")
        return error

    def _may_retry(self, request: Request, conn: Connection, sent: Sent, error: Exception) -> bool:
        wanted = self.options.retry_stale if request.retry_stale is None else request.retry_stale
        if not wanted or self.is_closed or conn.close_reason is CloseReason.LEASE_EXPIRED:
            return False
        return should_retry(
            Failure(
                conn.reused,
                sent.bytes_written,
                sent.response_started,
                sent.connection_lost and isinstance(error, TransportError),
                request.body.rewindable or not request.body.started,
                request.method,
                any(name.lower() in _IDEMPOTENCY_KEYS for name, _ in request.raw_header_items()),
            )
        )

    # -- what a request needs -------------------------------------------------------------------

    def check_open(self) -> None:
        """Raise `TransportClosed` if nothing new may start."""
        if self.is_closed or self.is_draining:
            state = "is draining: it takes no new request" if not self.is_closed else "is closed"
            raise TransportClosed(f"this transport {state}")

    def settings_of(self, timeout: Timeout) -> ClockSettings:
        """Return the effective clocks of a request."""
        settings = self._settings.get(timeout)
        if settings is None:
            if len(self._settings) >= _MOST_SETTINGS:
                self._settings.clear()
            settings = self._settings[timeout] = settle(self.options, timeout)
        return settings

    def key_for(self, request: Request, runtime: Runtime) -> ConnectKey:
        """Return the one key object of everything that makes a connection usable for `request`."""
        url = request.url
        parts: tuple[Any, ...] = (url.scheme, url.host, url.port, runtime)
        name = server_name(request) if request.extensions else None
        if self.routes.asks or name is not None:
            parts = (*parts, (self.routes.ask(request),) if self.routes.asks else (), name)
        key = self._keys.get(parts)
        if key is None:
            key = self._keys.get(parts) or self._make_key(parts)
        return key

    def _make_key(self, parts: tuple[Any, ...]) -> ConnectKey:
        scheme, host, port, runtime, *special = parts
        asked, name = special or ((), None)
        proxy = asked[0] if asked else self.routes.proxy_for(scheme, host, port)
        options = self.options
        check_way(options, scheme, host, port, proxy)
        local = options.local_address
        is_tls = scheme == "https" or (proxy is not None and proxy.scheme == "https")
        key = ConnectKey(
            host_of(scheme, host, port, proxy),
            trust=trust_of(options) if is_tls else None,
            server_hostname=(name or options.server_hostname) if scheme == "https" else None,
            uds=options.uds,
            local_address=(local, 0) if isinstance(local, str) else local,
            runtime=runtime,
            proxy=proxy,
        )
        if len(self._keys) >= _MOST_KEYS:
            # A connection's key stays alive with it, and is just not found again: it idles out.
            self._keys.clear()
        if key.forward is not None:
            # One key for all that a forward proxy is asked for. The runtime is at its usual place.
            key = self._keys.setdefault(("forward", proxy, None, runtime), key)
        return self._keys.setdefault(parts, key)

    def forget_runtime(self, runtime: Runtime) -> None:
        """A loop has ended."""
        for parts in [parts for parts in tuple(self._keys) if parts[3] is runtime]:
            self._keys.pop(parts, None)
        self.ledger.drop_runtime(runtime)

    def new_codec(self) -> Http1Codec:
        """Return a parser for a new connection."""
        from pooltransport.core.http1.codecs import codec_class  # noqa: PLC0415 - the first dial pays for it

        return codec_class(self.options.codec)(self.options.max_response_header_bytes)

    # -- what the ledger and dials ask ----------------------------------------------------------

    def _start_dial(self, ticket: DialTicket[Connection], soon: bool) -> None:
        waiter = ticket.waiter
        tag: Tag = Tag(None, None, self.settings_of_none().tls) if waiter is None else waiter.tag
        job = DialJob(self, ticket, tag.hooks, tag.tls)
        ticket.tag = job
        job.start(tag.context, soon=soon)
        if ticket.state is DialState.ABORTED:
            job.abort()  # another thread said so before there was a job to tell

    def settings_of_none(self) -> ClockSettings:
        """Return the clocks of a request that says nothing itself."""
        from pooltransport.models import NO_TIMEOUT_SET  # noqa: PLC0415 - a rare path

        return self.settings_of(NO_TIMEOUT_SET)

    def idle_event(self, conn: Connection, reason: CloseReason) -> None:
        """The loop says that an idle connection ended, or spoke unasked."""
        self.ledger.apply(self.ledger.pool.remove_idle, conn, reason)


async def _close_body(request: Request, sent: Sent | None) -> None:
    """Close what the last attempt read of the body, and no other's: two may send one request at a time."""
    body = request.body
    if sent is not None and (chunks := sent.chunks) is not None:
        await chunks.close()
    elif not body.is_empty:
        await body.aclose()


def close_reason_of(error: BaseException) -> CloseReason:
    """Return why a connection on which `error` happened is closed."""
    if isinstance(error, ServerClosedConnection):
        return CloseReason.READ_LOOP_EXIT
    if isinstance(error, RemoteProtocolError):
        return CloseReason.PROTOCOL_ERROR
    if isinstance(error, TransportTimeout):
        in_head = isinstance(error, ResponseHeaderTimeout) or error.phase == "headers"
        return CloseReason.HEADER_TIMEOUT if in_head else CloseReason.BODY_TIMEOUT
    return CloseReason.WRITE_ERROR if isinstance(error, WriteError) else CloseReason.BAD_STATE
