"""The life of a response body, and the one place where the lease of an answered request ends.

States: OPEN until the body is complete (the connection goes back), closed early (drained within
bounds, or closed), failed, or dropped (the guard). The connection is back in the pool before the read
that delivers the end returns (Go POOL-10), and for an answer without a body before `round_trip` does
(POOL-09). One reads at a time; anybody may close, also while somebody reads: then nothing is drained,
since bytes read by two have no order, and the reader is woken.
"""

from __future__ import annotations

from copy import copy
from enum import Enum
from typing import TYPE_CHECKING
from weakref import ref

from pooltransport.core.http1.exchange import Framing
from pooltransport.errors import ReadError, ReadTimeout, RemoteProtocolError, StreamConsumed, TransportTimeout
from pooltransport.leaks import Guarded
from pooltransport.runtime.protocols import Expired
from pooltransport.stats import CloseReason, DrainOutcome
from pooltransport.trace import BodyClosedInfo, DrainedInfo

if TYPE_CHECKING:
    from pooltransport.core.http1.codec import RawHeaders
    from pooltransport.core.http1.exchange import Exchange
    from pooltransport.lease import Lease

    from .clocks import Clocks
    from .engine import Engine


_UNREAD = frozenset((CloseReason.BODY_NOT_CONSUMED, CloseReason.DRAIN_LIMIT, CloseReason.DRAIN_TIMEOUT))


class State(Enum):
    """What can still be done with a body."""

    OPEN = "open"
    COMPLETE = "complete"
    CLOSED = "closed"
    FAILED = "failed"


_OPEN = State.OPEN


class Body(Guarded):
    """The body of one response. `read_some` and `close` are the engine's; nothing here is public."""

    __slots__ = (
        "_clocks",
        "_engine",
        "_error",
        "_exchange",
        "_lease",
        "_reading",
        "_slow_bytes",
        "_slow_since",
        "__weakref__",
        "codings",
        "state",
    )

    def __init__(
        self, engine: Engine, lease: Lease, exchange: Exchange, clocks: Clocks, *, codings: tuple[bytes, ...] = ()
    ) -> None:
        self._engine = engine
        self._lease = lease
        self.state = State.OPEN
        self._exchange = exchange
        self._clocks = clocks
        self._error: Exception | None = None
        self._slow_bytes = 0
        self._slow_since = 0.0  # seconds of waiting in this window
        self._reading = False
        self.codings = codings  # to be taken off by the response, in the order they were applied
        lease.bytes_expected = exchange.left
        if exchange.complete:
            self._finish()
        elif lease.detail is not None:
            lease.detail.owner = ref(self)

    def dropped(self) -> None:
        """Give the slot back if nobody has read it to its end, or closed it."""
        if self.state is _OPEN:
            self._engine.ledger.abandon(self._lease)

    def hold_long(self, declared: bool) -> None:
        """Say whether it is meant to be held for long."""
        self._lease.is_stream = declared

    @property
    def max_body_bytes(self) -> int | None:
        """The bound of calls that read everything."""
        return self._engine.options.max_body_bytes

    @property
    def max_decoded_bytes(self) -> int | None:
        """The bound of what decoding may give."""
        return self._engine.options.max_decoded_bytes

    @property
    def drain_limit(self) -> int:
        """How much may be read away on close."""
        return self._engine.options.drain_limit

    @property
    def trailers(self) -> RawHeaders:
        """The trailer section, once the body was read to its end; what a drain reads stays away (Go DRAIN-12)."""
        return self._exchange.trailers if self.state is State.COMPLETE else []

    def take_whole(self) -> bytes | None:
        """Return the whole body if all of it came with the header, as small ones do; else None, with nothing done."""
        exchange, lease = self._exchange, self._lease
        left = exchange.left
        most = self._engine.options.max_body_bytes
        if left is None or self._reading or lease.detail is not None or (most is not None and left > most):
            return None
        self._reading = True  # as in `read_some`
        try:
            deadline = self._clocks.deadline
            if self.state is not _OPEN or (deadline is not None and self._engine.now() >= deadline):
                return None
            data = exchange.take_whole()
            if data is not None:
                lease.bytes_read = left
                if self.state is _OPEN:  # not closed meanwhile by another thread
                    self._finish()
        finally:
            self._reading = False
        lease.read_at = lease.headers_at
        return data

    async def read_some(self) -> bytes:
        """Return the next bytes of the body, ``b""`` at its end. Errors are sticky."""
        if self._reading:
            raise StreamConsumed("the body is being read by another thread or task: two cannot read it at once")
        # Before the look at the state: of `close` in another thread and this one, one sees the other.
        self._reading = True
        try:
            if self.state is not State.OPEN:
                return self._read_after_end()
            if self._lease.detail is not None:
                self._lease.detail.access()
            data = await self._next()
            if self._exchange.complete and self.state is State.OPEN:
                self._finish()
            return data
        finally:
            self._reading = False
            self._lease.read_at = self._engine.now()

    async def _next(self) -> bytes:
        exchange = self._exchange
        try:
            data = exchange.next_data()
            while data is None:
                await self._receive()
                data = exchange.next_data()
            deadline = self._clocks.deadline
            if deadline is not None and data and self._engine.now() >= deadline:
                raise Expired
        except Exception as error:
            if self.state is State.CLOSED:
                raise StreamConsumed("the response was closed while its body was read") from error
            failure = self._fail(error)
            try:
                if failure is error:
                    raise
                raise failure from error
            finally:
                del failure  # no cycle through its traceback
        except BaseException:
            if self.state is State.OPEN:
                self._end(CloseReason.CANCELLED, State.FAILED)
                self._error = ReadError("reading the body was cancelled before: its connection is closed")
            raise
        self._lease.bytes_read += len(data)
        return data

    def _read_after_end(self) -> bytes:
        if self.state is State.COMPLETE:
            return b""
        if self._error is not None:
            raise copy(self._error)
        detail = self._lease.detail
        where = f"; it was closed at {detail.closed_at}" if detail is not None and detail.closed_at is not None else ""
        raise StreamConsumed(f"the response was closed before its body was read to the end{where}")

    async def _receive(self) -> None:
        """Receive once more from the connection, within the clocks of a body."""
        self._engine.ledger.check_process()
        clocks = self._clocks
        setting = clocks.settings.read
        now = self._engine.now()
        at = clocks.until(setting, now)
        rate = self._engine.options.min_rate
        if rate is not None:
            window_ends = now + max(rate[1] - self._slow_since, 0.0)
            at = window_ends if at is None else min(at, window_ends)
        lease = self._lease
        lease.reading_since = now
        try:
            data = await lease.conn.stream.receive(at)
        except Expired:
            if rate is not None:
                self._count_slow(now, 0, rate)
                late = clocks.until(setting, now)
                if late is None or self._engine.now() < late:
                    return
            raise
        finally:
            lease.reading_since = 0.0
            lease.moved_at = self._engine.now()
            lease.waited += lease.moved_at - now
        if rate is not None:
            self._count_slow(now, len(data), rate)
        if data:
            self._exchange.feed(data)
        else:
            self._exchange.end_of_stream(lease.bytes_read, cut_off=lease.conn.stream.cut_off)

    def _count_slow(self, since: float, size: int, rate: tuple[float, float]) -> None:
        """Only waiting counts: a reader that pauses is not a slow server (`min_rate`)."""
        self._slow_since += self._engine.now() - since
        self._slow_bytes += size
        if self._slow_since < rate[1]:
            return
        if self._slow_bytes < rate[0] * self._slow_since:
            raise ReadTimeout(
                f"{self._lease.origin}: the body came at {self._slow_bytes / self._slow_since:.0f} bytes/s "
                f"for {self._slow_since:.1f} s, slower than {rate[0]:g} bytes/s (min_rate)",
                phase="body",
                setting="min_rate",
                seconds=rate[1],
            )
        self._slow_since, self._slow_bytes = 0.0, 0

    # -- the ends -------------------------------------------------------------------------------

    def _finish(self) -> None:
        """The body is complete: the connection goes back, or says why it cannot."""
        exchange, lease = self._exchange, self._lease
        self.state = State.COMPLETE
        if not exchange.reusable or lease.conn.stream.surplus():
            self._engine.ledger.discard(lease, self._why_not_reusable(), answered=True)
        elif exchange.hint_timeout is None and exchange.hint_max is None:
            self._engine.ledger.release(lease, None, None)
        else:
            self._engine.ledger.release(lease, *self._hints())
        if lease.hooks is not None:
            self._tell_closed()

    def _hints(self) -> tuple[float | None, int | None]:
        """Return the server's own limits for an idle connection, a little earlier than it says."""
        exchange = self._exchange
        if not self._engine.options.honor_keep_alive_hint:
            return None, None
        timeout, most = exchange.hint_timeout, exchange.hint_max
        if timeout is not None:
            # The clock runs at the server since it sent the answer; leave it a tenth, or a second.
            timeout = max(timeout - min(1.0, timeout * 0.1), 0.0)
        served = self._lease.conn.requests_served + 1
        return timeout, None if most is None else served + most

    def _why_not_reusable(self) -> CloseReason:
        exchange = self._exchange
        if exchange.has_surplus or self._lease.conn.stream.surplus():
            return CloseReason.UNSOLICITED_DATA
        if not exchange.request_sent:
            return CloseReason.BAD_STATE
        if self._engine.options.disable_keep_alives:
            return CloseReason.KEEPALIVE_DISABLED
        return CloseReason.SERVER_CLOSE_HEADER

    def _fail(self, error: Exception) -> Exception:
        lease, ledger = self._lease, self._engine.ledger
        origin = lease.origin
        result: Exception = error
        if isinstance(error, Expired):
            setting = self._clocks.settings.read
            result = self._clocks.expired("body", setting, self._engine.now(), where=origin, done=True)
        elif isinstance(error, OSError) and not isinstance(error, (ReadError, TransportTimeout)):
            result = ReadError(f"{origin}: receiving the body failed after {lease.bytes_read} bytes: {text_of(error)}")
        reason = CloseReason.READ_ERROR
        if isinstance(result, TransportTimeout):
            reason = CloseReason.BODY_TIMEOUT
            ledger.note(ledger.pool.note_timeout, lease.conn.key.host, "body")
        elif isinstance(result, RemoteProtocolError):
            reason = CloseReason.PROTOCOL_ERROR
        self._end(reason, State.FAILED)
        result = self._engine.explain(result, lease.conn)
        self._error = copy(result)  # without a traceback: its frames know the response
        return result

    def _end(self, reason: CloseReason, state: State) -> None:
        self.state = state
        self._engine.ledger.discard(self._lease, reason, answered=True)
        self._tell_closed()

    def _tell_closed(self) -> None:
        hooks = self._lease.hooks
        if hooks is not None:
            lease, complete = self._lease, self.state is State.COMPLETE
            info = BodyClosedInfo(lease.bytes_read, self._exchange.left, complete, lease.bytes_sent)
            hooks.tell("body_closed", info)

    # -- closing early --------------------------------------------------------------------------

    async def close(self, *, wait: bool = False) -> None:
        """End it now. What is left of the body is read away within the bounds, so that the connection
        can be used again: at once on threads and with `wait`, else in the background on loops.
        """
        if self.state is not State.OPEN:
            return
        self.state = State.CLOSED
        if self._lease.detail is not None:
            self._lease.detail.close()
        lease, exchange, options = self._lease, self._exchange, self._engine.options
        left = exchange.left
        if self._engine.ledger.is_inherited(lease):
            self._give_up(CloseReason.FORK)  # draining would take the parent's bytes
        elif self._reading:
            self._give_up(CloseReason.BODY_NOT_CONSUMED)
        elif not exchange.may_be_reusable:
            closing = exchange.framing is Framing.UNTIL_CLOSE or exchange.wants_close
            reason = CloseReason.SERVER_CLOSE_HEADER if closing else CloseReason.BODY_NOT_CONSUMED
            self._give_up(reason)
        elif options.drain_limit == 0 or (left is not None and left > options.drain_limit):
            self._give_up(CloseReason.DRAIN_LIMIT, DrainOutcome.LIMIT)
        else:
            lease.given_back = True
            self._engine.ledger.note(self._engine.ledger.pool.set_draining, lease.conn)
            if wait:
                await self._drain()
            else:
                await lease.conn.runtime.detach(self._drain)

    def _give_up(self, reason: CloseReason, outcome: DrainOutcome | None = None, drained: int = 0) -> None:
        ledger, lease = self._engine.ledger, self._lease
        if reason in _UNREAD:
            ledger.memory.note_unread(lease)
        if outcome is not None:
            self._tell_drained(outcome, drained)
        ledger.discard(lease, reason, answered=True)
        self._tell_closed()

    def _tell_drained(self, outcome: DrainOutcome, drained: int) -> None:
        ledger, lease = self._engine.ledger, self._lease
        ledger.note(ledger.pool.note_drain, lease.conn, outcome)
        if lease.hooks is not None:
            lease.hooks.tell("drained", DrainedInfo(drained, self._exchange.left, outcome))

    async def _drain(self) -> None:
        """Read the rest away. The trailers of a drained body are parsed and dropped (Go DRAIN-11)."""
        exchange, options, stream = self._exchange, self._engine.options, self._lease.conn.stream
        until = self._engine.now() + options.drain_timeout
        drained = 0
        try:
            while not exchange.complete:
                data = exchange.next_data()
                if data is None:
                    raw = stream.receive_nowait() or await stream.receive(until)
                    if raw:
                        exchange.feed(raw)
                    else:
                        exchange.end_of_stream(self._lease.bytes_read + drained, cut_off=stream.cut_off)
                    continue
                drained += len(data)
                if drained > options.drain_limit:
                    self._give_up(CloseReason.DRAIN_LIMIT, DrainOutcome.LIMIT, drained)
                    return
        except Expired:
            self._give_up(CloseReason.DRAIN_TIMEOUT, DrainOutcome.TIMEOUT, drained)
        except (OSError, RemoteProtocolError):
            self._give_up(CloseReason.READ_ERROR, DrainOutcome.ERROR, drained)
        except BaseException:
            self._give_up(CloseReason.CANCELLED, DrainOutcome.ERROR, drained)
            raise
        else:
            self._after_drain(drained)

    def _after_drain(self, drained: int) -> None:
        lease = self._lease
        if self._exchange.reusable and not lease.conn.stream.surplus():
            self._tell_drained(DrainOutcome.REUSED, drained)
            self._engine.ledger.release(lease, *self._hints())
            self._tell_closed()
        else:
            self._give_up(self._why_not_reusable(), DrainOutcome.ERROR, drained)


def text_of(error: OSError) -> str:
    """Return what the system says of `error`."""
    return error.strerror or str(error) or type(error).__name__
