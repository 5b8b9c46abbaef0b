"""Making a connection: look-up, addresses, proxy, TLS. Detached from the request that asked for it: when
that goes away the dial goes on, and its connection goes to who can use it (Go's orphan dials).

One `dial_timeout` bounds all of it. A job reports its end to the pool exactly once, whatever happens.
"""

from __future__ import annotations

import random
import socket
import ssl
from functools import partial
from typing import TYPE_CHECKING, Any

from pooltransport import observers
from pooltransport.core.pool import DialState
from pooltransport.errors import (
    ConfigError,
    ConnectAttempt,
    ConnectError,
    ConnectTimeout,
    ProxyError,
    TLSError,
    TLSHandshakeTimeout,
    TransportError,
)
from pooltransport.options import DialRequest
from pooltransport.resolver import literal
from pooltransport.runtime.protocols import Address, Expired
from pooltransport.runtime.sockets import address_text
from pooltransport.trace import TLSHandshakeDoneInfo, TLSHandshakeStartInfo

from . import tls_errors
from .allowing import allowed_of
from .callables import call_dial
from .connection import Connection
from .hops import pass_proxy
from .lookup import Search
from .racing import Race
from .reasons import dial_error_type, reason, tried

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextvars import Context

    from pooltransport.core.keys import ConnectKey
    from pooltransport.core.pool import DialTicket
    from pooltransport.runtime.protocols import Runtime, Stream, Task
    from pooltransport.trace import Hooks

    from .clocks import Setting
    from .engine import Engine

_LIFETIME_JITTER = 0.1


class DialJob:
    """One dial. `phase` is where it is: dns, connect, proxy, tls."""

    def __init__(self, engine: Engine, ticket: DialTicket[Connection], hooks: Hooks | None, tls: Setting) -> None:
        self._engine = engine
        self._ticket = ticket
        self._hooks = hooks
        self._tls = tls
        self.key: ConnectKey = ticket.key  # type: ignore[assignment]
        self.runtime: Runtime = self.key.runtime
        self._phase, self._since = "dns", engine.now()
        self._spent: dict[str, float] = {}
        self._whose = ""
        self._task: Task | None = None
        self._search: Search | None = None
        self._race: Race | None = None
        self._stream: Stream | None = None
        self._began = self._aborted = self._reported = False
        self._attempts: list[ConnectAttempt] = []
        self._at: float | None = None
        self._context: Any = None

    # -- beginning and end ----------------------------------------------------------------------

    @property
    def phase(self) -> str:
        """Where it is."""
        return self._phase

    @phase.setter
    def phase(self, phase: str) -> None:
        self._enter(phase, self._engine.now())

    def _enter(self, phase: str, now: float) -> None:
        self._spent[self._phase] = self._spent.get(self._phase, 0.0) + now - self._since
        self._phase, self._since = phase, now

    def _tell_ended(self, now: float, error: str | None) -> None:
        """Let observers know how long it took, before anybody has the connection: at the next safe point."""
        if not observers.anybody or self._ticket.state is DialState.ABORTED:
            return
        self._enter(self._phase, now)
        search = self._search
        name = None if search is None else self.key.first_hop[0]
        phases = tuple((phase, seconds) for phase, seconds in self._spent.items() if phase != "dns" or name is not None)
        seconds = now - self._ticket.started
        self._engine.ledger.reports.observed(observers.Dialed(self.key.host, seconds, error, phases, name))

    def start(self, context: Context | None, *, soon: bool) -> None:
        """Begin, on the runtime that the connection is for."""
        self._engine.ledger.dials.add(self)
        if not soon and self.runtime.is_here():
            self._spawn(context)
        elif not self.runtime.post(self._spawn, context):
            self.lost()

    def _spawn(self, context: Context | None) -> None:
        self._task = self.runtime.spawn(context, self._run)

    def abort(self) -> None:
        """Nobody wants it any more, and somebody needs its slot."""
        self._aborted = True
        race = self._race
        ends_by_itself = race is not None and race.abort()
        if self._task is not None and not ends_by_itself:
            self._task.cancel()
        search = self._search
        if search is not None and search.latch is not None:
            search.latch.set()
        if self._stream is not None:
            self._stream.abort(_nothing)
        if not self._began and not self.runtime.post(self._fail, self._unwanted()):
            # asyncio drops a task that is cancelled before its first step: it would never report its end.
            self.lost()

    def lost(self) -> None:
        """Its loop is gone before it could end."""
        self._fail(ConnectError(f"{self.key.origin}: the event loop of the dial is closed"))

    async def _run(self) -> None:
        stream: Stream | None = None
        self._began = True
        try:
            stream = await self._dial()
            self._deliver(stream)
        except Exception as error:  # noqa: BLE001 - whatever a dial= callable raises belongs to its request
            self._drop(stream)
            self._fail(self._translate(error))
        except BaseException:
            self._drop(stream)
            self._fail(ConnectError(f"{self.key.origin}: the dial was cancelled"))
            raise

    def _drop(self, stream: Stream | None) -> None:
        if stream is not None and not self._reported:
            stream.abort(_nothing)

    def _deliver(self, stream: Stream) -> None:
        engine = self._engine
        options = engine.options
        now = self._engine.now()
        conn = Connection(self.key, self.runtime, stream, engine.new_codec(), now)
        conn.on_idle_event = partial(engine.idle_event, conn)
        conn.context = self._context
        retire_at = None
        if options.max_conn_lifetime is not None:
            retire_at = now + options.max_conn_lifetime * random.uniform(1 - _LIFETIME_JITTER, 1 + _LIFETIME_JITTER)
        self._reported = True
        engine.ledger.dials.discard(self)
        engine.ledger.memory.note_peer(self.key.origin, stream.remote_addr)
        if self._ticket.waiter is None:
            # An orphan's connection may lie in the pool: let the loop tell of its end, as of others.
            conn.reused = True
            stream.on_idle_event = conn.on_idle_event
        self._tell_ended(now, None)
        engine.ledger.apply(engine.ledger.pool.dialed, self._ticket, conn, now, 1, retire_at)
        engine.ledger.keep_house(self.runtime)  # it may lie idle before there is any lease
        engine.trusted.retire_if_outdated(conn)  # the files may have changed since the handshake began

    def _fail(self, error: BaseException) -> None:
        if self._reported:
            return
        self._reported = True
        ledger = self._engine.ledger
        ledger.dials.discard(self)
        kind = dial_error_type(error)
        if not self._aborted:
            ledger.memory.note_dial_failure(self.key.host, error)
            self._engine.kernel_notes.add(error, kind, self.key)
        now = self._engine.now()
        self._tell_ended(now, kind)
        ledger.apply(ledger.pool.dial_failed, self._ticket, error, now, kind)

    # -- the phases -----------------------------------------------------------------------------

    async def _dial(self) -> Stream:
        options = self._engine.options
        if options.dial_timeout is not None:
            self._at = self._engine.now() + options.dial_timeout
        self._check_wanted()
        if options.dial is not None:
            stream = await self._custom_dial()
        else:
            stream = await self._connect_one_of(await self._addresses())
        self._stream = stream
        try:
            self._check_wanted()
            if self.key.proxy is not None:
                stream = await pass_proxy(self, self._engine, stream, self._at)
            elif self.key.is_tls:
                # A trailing dot is for the resolver; certificates and SNI do without (RFC 6066 section 3).
                await self.handshake(stream, self.key.server_hostname or self.key.host.host.rstrip("."))
            else:
                await stream.open()
            self._check_wanted()
        except BaseException:
            stream.abort(_nothing)
            raise
        return stream

    def _check_wanted(self) -> None:
        if self._aborted:
            raise self._unwanted()

    def _unwanted(self) -> ConnectError:
        return ConnectError(f"{self.key.origin}: the dial was aborted, nobody needs it")

    async def _addresses(self) -> Sequence[Address]:
        key = self.key
        if key.uds is not None:
            return [Address(socket.AF_UNIX, key.uds, key.uds)]
        host, port = key.first_hop
        spelled = literal(host, port)
        if spelled is not None:
            return [Address(spelled.family, spelled.sockaddr, address_text(spelled.sockaddr))]
        return await self._look_up(host, port)

    async def _look_up(self, host: str, port: int) -> Sequence[Address]:
        self._search = Search(self._engine, self.runtime, self._hooks)
        return await self._search.run(host, port, self._at, self._check_wanted)

    async def _connect_one_of(self, addresses: Sequence[Address]) -> Stream:
        self.phase = "connect"
        self._race = Race(self._engine, self.runtime, self._hooks, self._at, self._attempts)
        self._check_wanted()  # an abort before this line knew of no race
        try:
            allowed = allowed_of(self._engine.options, self.key, addresses, self._attempts)
            return await self._race.run(allowed, self.key.origin)
        finally:
            self._race = None

    async def _custom_dial(self) -> Stream:
        """Let the ``dial=`` callable make the socket; TLS stays ours (contract 5.6)."""
        function = self._engine.options.dial
        assert function is not None, "asked only with the option"
        self.phase = "connect"
        host, port = self.key.first_hop
        at = self._at
        purpose = "origin" if self.key.proxy is None else "proxy"
        wish = DialRequest(host, port, float("inf") if at is None else at, purpose)
        made = await call_dial(function, self.runtime, wish, self)
        if not isinstance(made, socket.socket):
            raise ConnectError(
                f"{self.key.origin}: the dial= callable returned {type(made).__name__}, not a connected socket"
            )
        if self._aborted:
            made.close()
        self._check_wanted()
        return await self.runtime.adopt(made)

    @property
    def is_aborted(self) -> bool:
        """Report whether nobody wants it any more."""
        return self._aborted

    async def handshake(self, stream: Stream, name: str, whose: str = "") -> None:
        """Do one TLS handshake with who is called `name`: the origin, or before it ("the proxy of ") the proxy."""
        self.phase, self._whose = "tls", whose
        if self._hooks is not None:
            self._hooks.tell("tls_handshake_start", TLSHandshakeStartInfo(name))
        error: BaseException | None = None
        at = self._at
        if self._tls.seconds is not None:
            own = self._engine.now() + self._tls.seconds
            at = own if at is None else min(at, own)
        try:
            self._context = self._engine.trusted.context_of(self.key)
            await stream.start_tls(self._context, name, at)
            self._check_alpn(stream)
        except BaseException as failure:
            error = failure
            raise
        finally:
            if self._hooks is not None:
                self._hooks.tell("tls_handshake_done", TLSHandshakeDoneInfo(name, stream.tls, error))
            del error  # its traceback has this frame: no cycle

    def _check_alpn(self, stream: Stream) -> None:
        if stream.tls is not None and stream.tls.alpn not in (None, "http/1.1"):
            peer = f"{self._whose}{self.key.origin}"
            raise TLSError(
                f"TLS handshake with {peer} failed: the server chose {stream.tls.alpn!r}, which "
                'ssl_context= offers; this version speaks HTTP/1.1: leave it out of set_alpn_protocols(["http/1.1"])'
            )

    # -- errors ---------------------------------------------------------------------------------

    def _translate(self, error: Exception) -> BaseException:
        if isinstance(error, (TransportError, ConfigError)):
            return error
        where = self.key.origin
        if self._stream is not None and not isinstance(error, Expired):
            self._attempts.append(ConnectAttempt(self._stream.remote_addr, error, self.phase))
        result: TransportError
        if isinstance(error, Expired):
            result = self._expired()
        elif isinstance(error, ssl.SSLError) or (self.phase == "tls" and isinstance(error, OSError)):
            text = f"TLS handshake with {self._whose}{where} failed: {tls_errors.explain(error)}"
            result = TLSError(text, attempts=self._attempts)
        elif self.phase == "proxy":
            result = ProxyError(f"{where}: the proxy ended the connection ({reason(error)})")
        else:
            result = ConnectError(f"cannot connect to {where}: {reason(error)}", attempts=self._attempts)
        result.__cause__ = error
        return result

    def _expired(self) -> TransportError:
        options = self._engine.options
        where, phase = self.key.origin, self.phase
        late = self._at is not None and self._engine.now() >= self._at - 1e-4
        if phase == "tls" and not late:
            seconds, setting = self._tls.seconds or 0.0, self._tls.name
            return TLSHandshakeTimeout(
                f"{where}: the TLS handshake did not end within {seconds:g} s ({setting}), phase {phase}",
                phase=phase,
                setting=setting,
                seconds=seconds,
            )
        seconds = options.dial_timeout or 0.0
        timeout = ConnectTimeout(
            f"{where}: no connection within {seconds:g} s (dial_timeout), phase {phase}",
            phase=phase,
            setting="dial_timeout",
            seconds=seconds,
        )
        self.add_attempts(timeout)
        return timeout

    def add_attempts(self, timeout: ConnectTimeout) -> None:
        """Say in `timeout`, the dial's own or that of who waits for it, what was tried. From any thread."""
        attempts = tuple(self._attempts)
        timeout.attempts = attempts
        race = self._race
        trying = "" if race is None else ", ".join(race.trying)
        clauses = (f"; tried {tried(attempts)}" if attempts else "", f"; trying {trying}" if trying else "")
        timeout.args = (f"{timeout}{''.join(clauses)}",)


def _nothing() -> None:
    return None
