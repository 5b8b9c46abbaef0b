"""Connecting to one of several addresses: Happy Eyeballs (RFC 8305), written once for all colours.

Rules:

1. Two lanes at most, and each holds one socket at most (contract 1.1). A lane goes on to the next
   address when one fails, or when its share of the time is over.
2. The second lane starts `happy_eyeballs_delay` after the latest attempt of the first. A failure lets
   the next attempt start at once, in the lane that it happened in.
3. The first to connect wins. The other is aborted, and has closed its socket, before `run` returns.
   The same holds when the job is aborted.
4. One address, or no delay, costs no task and no latch: the only lane is the caller's own.

`abort` may be called from any thread and from finalizers: nothing here takes a lock. Who sets
`_over` looks at each lane's stream afterwards, and who registers a stream looks at `_over` afterwards,
so one of them sees the other.
"""

from __future__ import annotations

import _thread
import errno
import socket
from collections import deque
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING

from pooltransport.errors import ConnectAttempt, ConnectError
from pooltransport.resolver import literal
from pooltransport.runtime.protocols import Address, Expired, SocketOptions
from pooltransport.stats import CloseReason
from pooltransport.trace import ConnectDoneInfo, ConnectStartInfo

from .reasons import DEAD, tried

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pooltransport.runtime.protocols import Runtime, Stream, Task
    from pooltransport.trace import Hooks

    from .engine import Engine

# Go gives each address its share of what is left, but no less than this.
_LEAST_SHARE = 2.0
# A wait may end this much before its moment, as the clocks of loops are rounded.
_SLACK = 1e-4


class _Lane:
    """One attempt after another. `trying` is the address of the one under way, and since when."""

    __slots__ = ("began", "done", "stream", "task", "trying")

    def __init__(self) -> None:
        self.began = self.done = False
        self.trying: tuple[str, float] | None = None
        self.stream: Stream | None = None  # the socket that it holds, where it must be told of an abort
        self.task: Task | None = None

    def stop(self) -> None:
        stream = self.stream
        if stream is not None:
            stream.abort(_nothing)
        if self.task is not None:
            self.task.cancel()


class Race:
    """The connects of one dial. `attempts` gets a row for each address that failed or was left out."""

    def __init__(
        self, engine: Engine, runtime: Runtime, hooks: Hooks | None, at: float | None, attempts: list[ConnectAttempt]
    ) -> None:
        self._engine = engine
        self._runtime = runtime
        self._hooks = hooks
        self._at = at
        self._attempts = attempts
        self._todo: deque[Address] = deque()
        self._taken: list[str] = []
        self._lanes: list[_Lane] = []
        self._over = self._has_lanes = self._alternatives = False
        self._first = _thread.allocate_lock()  # who gets it, without waiting, has won
        self._winner: Stream | None = None
        self._wake: Callable[[], None] = _nothing  # lets `run` look again
        self._started = 0.0
        self._options = socket_options(engine)

    async def run(self, addresses: Sequence[Address], where: str) -> Stream:
        """Return a stream to one of `addresses`. Raises `Expired` at the dial's moment, `ConnectError`
        when none is left.
        """
        engine = self._engine
        self._alternatives = len(addresses) > 1
        self._todo.extend(engine.addresses.order(self._usable(addresses), engine.now()))
        delay = engine.options.happy_eyeballs_delay
        if delay is None or len(self._todo) < 2:
            lane = _Lane()
            self._lanes.append(lane)
            await self._walk(lane)
        else:
            await self._race(delay)
        if self._winner is not None:
            return self._winner
        self._attempts.sort(key=self._place)  # two lanes may have ended in another order
        if self._is_late() and (self._todo or any(isinstance(row.error, TimeoutError) for row in self._attempts)):
            raise Expired
        cause = self._attempts[-1].error if self._attempts else None
        raise ConnectError(
            f"cannot connect to {where}: {tried(self._attempts) or 'the dial was cancelled'}", attempts=self._attempts
        ) from cause

    def abort(self) -> bool:
        """End it; report whether `run` ends by itself now. If not, its task is to be cancelled."""
        self._over = True
        for lane in tuple(self._lanes):
            lane.stop()
        self._wake()
        return self._has_lanes

    def _is_over(self) -> bool:
        return self._over  # any thread sets it, between any two looks

    @property
    def trying(self) -> list[str]:
        """The addresses under way; from any thread."""
        return [trying[0] for lane in tuple(self._lanes) if (trying := lane.trying) is not None]

    # -- lanes ----------------------------------------------------------------------------------

    async def _race(self, delay: float) -> None:
        self._has_lanes = True
        self._open_lane()
        try:
            while True:
                latch = self._runtime.new_latch()
                self._wake = latch.set
                if all(lane.done or (self._over and not lane.began) for lane in self._lanes):
                    return
                due = None
                if self._todo and len(self._lanes) == 1 and not self._over:
                    due = self._started + delay
                    if self._engine.now() >= due:
                        self._open_lane()
                        continue
                await latch.wait(due)
        except BaseException:
            self._has_lanes = False
            self.abort()
            if self._winner is not None:
                self._winner.abort(_nothing)
            raise

    def _open_lane(self) -> None:
        lane = _Lane()
        self._lanes.append(lane)
        self._started = self._engine.now()
        # Copies, because the hooks are told in the context of the request that dials.
        lane.task = self._runtime.spawn(copy_context(), self._run_lane, lane)

    async def _run_lane(self, lane: _Lane) -> None:
        lane.began = True
        try:
            await self._walk(lane)
        finally:
            lane.done = True
            self._wake()

    async def _walk(self, lane: _Lane) -> None:
        """Try addresses until one accepts, none is left, or there is no need any more."""
        engine = self._engine
        while not (self._is_over() or self._is_late()):
            try:
                address = self._todo.popleft()
            except IndexError:
                return
            began = engine.now()
            lane.trying = address.text, began
            self._taken.append(address.text)
            if lane is self._lanes[0]:
                self._started = began
            try:
                stream = await self._connect(lane, address, began)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with one address is its own
                if not self._is_over():
                    self._note_failure(address, error)
                continue
            finally:
                lane.stream = lane.trying = None
            if self._is_over() or not self._first.acquire(blocking=False):
                stream.abort(_nothing)
                return
            self._winner = stream
            self._over = True
            engine.addresses.succeeded(address.text)
            for other in tuple(self._lanes):
                if other is not lane:
                    self._beat(other)
            return

    def _beat(self, lane: _Lane) -> None:
        """Stop the loser. If it did not even answer within the head start, the winner is tried first
        next time (RFC 8305 section 4); its idle connections may be as good as ever.
        """
        trying, now = lane.trying, self._engine.now()
        lane.stop()
        delay = self._engine.options.happy_eyeballs_delay
        if trying is not None and delay is not None and now - trying[1] >= delay - _SLACK:
            self._engine.addresses.failed(trying[0], now)

    async def _connect(self, lane: _Lane, address: Address, began: float) -> Stream:
        network = "unix" if address.family == socket.AF_UNIX else "tcp"
        if self._hooks is not None:
            self._hooks.tell("connect_start", ConnectStartInfo(network, address.text))
        error: BaseException | None = None
        try:
            return await self._runtime.connect(address, self._options, self._share(began), partial(self._hold, lane))
        except Exception as failure:
            error = self._explain(failure, began)
            if error is failure:
                raise
            raise error from (None if isinstance(failure, Expired) else failure)
        except BaseException as failure:
            error = _beaten() if self._over else failure
            raise
        finally:
            if self._hooks is not None:
                self._hooks.tell("connect_done", ConnectDoneInfo(network, address.text, error))
            del error  # its traceback has this frame: no cycle

    def _hold(self, lane: _Lane, stream: Stream) -> None:
        lane.stream = stream
        if self._over:
            raise _beaten()

    def _place(self, attempt: ConnectAttempt) -> int:
        return self._taken.index(attempt.address) if attempt.address in self._taken else -1

    # -- time -----------------------------------------------------------------------------------

    def _share(self, now: float) -> float | None:
        """Return until when the address that was just taken may be tried."""
        if self._at is None:
            return None
        left = len(self._todo) + 1
        return min(self._at, now + max((self._at - now) / left, _LEAST_SHARE))

    def _is_late(self) -> bool:
        return self._at is not None and self._engine.now() >= self._at - _SLACK

    # -- addresses ------------------------------------------------------------------------------

    def _usable(self, addresses: Sequence[Address]) -> list[Address]:
        """Leave out what cannot be reached from `local_address`."""
        local = self._options.local_address
        if local is None:
            return list(addresses)
        family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
        usable = []
        for address in addresses:
            if address.family == family:
                usable.append(address)
                continue
            error = OSError(errno.EAFNOSUPPORT, f"left out: local_address {local[0]} is of another address family")
            self._attempts.append(ConnectAttempt(address.text, error))
        return usable

    def _note_failure(self, address: Address, error: Exception) -> None:
        engine = self._engine
        self._attempts.append(ConnectAttempt(address.text, error))
        if not isinstance(error, OSError) or error.errno not in DEAD or address.family == socket.AF_UNIX:
            return
        if engine.addresses.failed(address.text, engine.now()) and self._alternatives:
            # Where there is nobody else to go to, its idle connections are the best there is.
            retire_idle(engine, address.text)

    def _explain(self, error: Exception, began: float) -> Exception:
        """Return `error`, or one that says what it means."""
        if self._over:
            return _beaten()
        if isinstance(error, Expired):
            return TimeoutError(errno.ETIMEDOUT, f"no answer within {self._engine.now() - began:.2g} s")
        local = self._options.local_address
        if local is not None and isinstance(error, OSError):
            if error.errno == errno.EADDRNOTAVAIL:
                return OSError(error.errno, f"local_address {local[0]} is not an address of this machine")
            if error.errno == errno.EADDRINUSE:
                what = f"its port {local[1]} is in use" if local[1] else "every port of it is in use"
                return OSError(error.errno, f"local_address {local[0]}: {what}")
        return error


def socket_options(engine: Engine) -> SocketOptions:
    """Return what the transport's options say about sockets."""
    options = engine.options
    local = None
    if options.local_address is not None:
        host, port = (options.local_address, 0) if isinstance(options.local_address, str) else options.local_address
        spelled = literal(host, port)
        assert spelled is not None, "the options let only addresses pass"
        local = spelled.sockaddr
    probes = options.tcp_keepalive
    keepalive = probes if not isinstance(probes, bool) else KEEPALIVE if probes else None
    return SocketOptions(local, keepalive, tuple(options.socket_options or ()))


# Seconds without traffic, seconds between probes, probes: Go's.
KEEPALIVE = (15, 15, 9)


def retire_idle(engine: Engine, address: str) -> None:
    """Close what lies idle to `address`: who asks next is served by another."""
    ledger = engine.ledger
    for conn in ledger.open_conns():
        if conn.stream.remote_addr == address:
            ledger.apply(ledger.pool.remove_idle, conn, CloseReason.ADDRESS_FAILED)


def _beaten() -> OSError:
    return OSError(errno.ECANCELED, "another address was faster, or nobody needs it")


def _nothing() -> None:
    return None
