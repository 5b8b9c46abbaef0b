"""The trio leaf, through anyio: non-blocking sockets that we own, and waits for readiness.

Background work runs in trio's system tasks, which must never raise; a clean-up that another thread
or a finalizer asks for goes through `TrioToken.run_sync_soon` (contract 3.1, 3.11). The socket is
ours, so that an idle one can be asked about and a dead loop's one can be closed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
import time
import weakref
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import trio

from . import workers
from .protocols import Address, Expired, NothingWritten, SocketOptions, Stream
from .sockets import ONE_RECORD, READ_SIZE, Probe, make_socket, names, unsolicited
from .tls import TLSPump

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
    from contextvars import Context

    from pooltransport.stats import CloseReason
    from pooltransport.trace import TLSInfo

_monotonic = time.monotonic
# After so many calls that had their data at once, others get a turn.
_TURNS = 16


class TrioLatch:
    """An event that any thread may set, once."""

    __slots__ = ("_event", "_token")

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        self._token = token
        self._event = anyio.Event()

    def set(self) -> None:
        try:
            self._token.run_sync_soon(self._event.set)
        except trio.RunFinishedError:
            return  # nobody waits there any more

    async def wait(self, at: float | None) -> bool:
        if at is None:
            await self._event.wait()
            return True
        with anyio.move_on_after(max(at - _monotonic(), 0.0)):
            await self._event.wait()
        return self._event.is_set()


class TrioTask:
    """A cancel scope that any thread may cancel."""

    __slots__ = ("_runtime", "_scope")

    def __init__(self, runtime: TrioRuntime, scope: trio.CancelScope) -> None:
        self._runtime = runtime
        self._scope = scope

    def cancel(self) -> None:
        if self._runtime.is_here():
            self._scope.cancel()
        else:
            self._runtime.post(self._scope.cancel)


class TrioStream:
    """A non-blocking socket, with TLS over memory when asked for."""

    __slots__ = (
        "_aborted",
        "_pump",
        "_runtime",
        "_probe",
        "_sock",
        "_turns",
        "local_addr",
        "on_idle_event",
        "remote_addr",
        "tls",
    )

    def __init__(self, runtime: TrioRuntime, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._runtime = runtime
        self._sock = sock
        self._probe = Probe(sock)
        self._pump: TLSPump | None = None
        self._aborted = False
        self._turns = 0
        self.remote_addr = self.local_addr = ""
        self.tls: TLSInfo | None = None
        self.on_idle_event: Callable[[CloseReason], None] | None = None

    async def connect(self, address: Address, at: float | None) -> None:
        code = self._sock.connect_ex(address.sockaddr)
        if code == errno.EINPROGRESS:
            await self._ready(anyio.wait_writable, at)
            code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        self.remote_addr, self.local_addr = names(self._sock)
        self.remote_addr = self.remote_addr or address.text

    async def open(self) -> None:
        """Do nothing: a connected socket is ready."""

    async def start_tls(self, context: ssl.SSLContext, server_hostname: str, at: float | None) -> None:
        pump = TLSPump(context, server_hostname)
        try:
            while not pump.handshake(server_hostname):
                await self._send_raw(pump.take(), None, at)
                pump.feed(await self._receive_raw(at))
        except ssl.SSLError:
            self._say(pump.take())  # the alert that says why not
            raise
        await self._send_raw(pump.take(), None, at)
        self._pump = pump
        self.tls = pump.info

    def _say(self, alert: bytes) -> None:
        try:
            self._socket().send(alert)
        except OSError:
            return  # the peer has gone: it needs no reason

    async def send(self, data: bytes, stall: float | None, at: float | None) -> None:
        if self._pump is not None:
            self._pump.write(data)
            data = self._pump.take()
        await self._send_raw(data, stall, at)

    async def _send_raw(self, data: bytes, stall: float | None, at: float | None) -> None:
        view = memoryview(data)
        await self._turn()
        while view:
            try:
                view = view[self._socket().send(view) :]
            except BlockingIOError:
                pass
            except OSError as error:
                if len(view) == len(data) <= ONE_RECORD:
                    raise NothingWritten(error.errno, error.strerror or str(error)) from error
                raise
            else:
                continue
            until = at
            if stall is not None:
                until = _monotonic() + stall if at is None else min(_monotonic() + stall, at)
            await self._ready(anyio.wait_writable, until)

    async def receive(self, at: float | None) -> bytes:
        pump = self._pump
        if pump is None:
            return await self._receive_raw(at)
        while True:
            data = pump.read()
            if data is not None:
                return data
            pump.feed(await self._receive_raw(at))
            reply = pump.take()  # a key update, for instance
            if reply:
                await self._send_raw(reply, None, at)

    async def _receive_raw(self, at: float | None) -> bytes:
        await self._turn()
        while True:
            try:
                return self._socket().recv(READ_SIZE)
            except BlockingIOError:
                await self._ready(anyio.wait_readable, at)

    def receive_nowait(self) -> bytes | None:
        return None

    def surplus(self) -> bool:
        return False

    async def _turn(self) -> None:
        """Be a checkpoint often enough, without a trip through the scheduler for each call."""
        self._turns += 1
        if self._turns >= _TURNS:
            self._turns = 0
            await anyio.lowlevel.checkpoint()
        else:
            await anyio.lowlevel.checkpoint_if_cancelled()

    async def _ready(self, wait: Callable[[Any], Awaitable[None]], at: float | None) -> None:
        self._turns = 0
        try:
            if at is None:
                await wait(self._socket())
                return
            with anyio.move_on_after(max(at - _monotonic(), 0.0)) as scope:
                await wait(self._socket())
            if scope.cancelled_caught:
                raise Expired
        except (anyio.ClosedResourceError, anyio.BusyResourceError) as error:
            raise OSError(errno.ECONNABORTED, "the connection was aborted") from error

    def _socket(self) -> socket.socket:
        if self._aborted:
            raise OSError(errno.ECONNABORTED, "the connection was aborted")
        return self._sock

    def check(self) -> CloseReason | None:
        """As on threads: with TLS a readable socket may be a session ticket; one read decides."""
        if self._aborted:
            return _closed_idle()
        pump = self._pump
        if pump is None:
            return self._probe.check()
        data = pump.read()
        while data is None and self._probe.events():
            try:
                pump.feed(self._sock.recv(READ_SIZE))
            except BlockingIOError:
                break
            except OSError:
                return _closed_idle()
            data = pump.read()
        return None if data is None else unsolicited(data[:16])

    def hung_up(self) -> bool:
        return not self._aborted and self._probe.gone()

    def abort(self, on_closed: Callable[[], None]) -> None:
        if self._runtime.is_here():
            self._abort_here(on_closed)
            return
        try:
            self._runtime.loop.run_sync_soon(self._abort_here, on_closed)
        except trio.RunFinishedError:
            self.drop()
            on_closed()

    def _abort_here(self, on_closed: Callable[[], None]) -> None:
        if not self._aborted:
            self._aborted = True
            if self._sock.fileno() >= 0:
                anyio.notify_closing(self._sock)
            self._sock.close()
        on_closed()

    def drop(self) -> None:
        self._aborted = True
        fd = self._sock.detach()
        if fd >= 0:
            os.close(fd)


def _closed_idle() -> CloseReason:
    return unsolicited(b"")


class TrioRuntime:
    """One `trio.run`."""

    name = "trio"
    polls_idle = True

    now = staticmethod(_monotonic)

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        self.loop = token
        self._over = False
        self.on_end: Callable[[], None] = _nothing

    def is_here(self) -> bool:
        return current_token() is self.loop

    def is_alive(self) -> bool:
        if not self._over:
            try:
                self.loop.run_sync_soon(_nothing, idempotent=True)
            except trio.RunFinishedError:
                self._over = True
        return not self._over

    def new_latch(self) -> TrioLatch:
        return TrioLatch(self.loop)

    def spawn(self, context: Context | None, fn: Callable[..., Coroutine[Any, Any, None]], *args: object) -> TrioTask:
        scope = trio.CancelScope()
        trio.lowlevel.spawn_system_task(_in_scope, scope, fn, args, context=context)
        return TrioTask(self, scope)

    def post(self, fn: Callable[..., object], *args: object) -> bool:
        try:
            self.loop.run_sync_soon(fn, *args)
        except trio.RunFinishedError:
            return False
        return True

    def watch(self, tick: Callable[[], float | None]) -> None:
        trio.lowlevel.spawn_system_task(_keep_house, tick)

    async def connect(
        self,
        address: Address,
        options: SocketOptions,
        at: float | None,
        register: Callable[[Stream], None],  # noqa: ARG002 - cancelling the task is enough here
    ) -> TrioStream:
        stream = TrioStream(self, make_socket(address, options))
        try:
            await stream.connect(address, at)
        except BaseException:
            stream.abort(_nothing)
            raise
        return stream

    async def adopt(self, sock: Any) -> TrioStream:
        stream = TrioStream(self, sock)
        stream.remote_addr, stream.local_addr = names(sock)
        return stream

    async def run_blocking(self, fn: Callable[[], Any], *, abandon: bool = False) -> Any:
        if abandon:
            return await workers.call(self.new_latch(), fn)
        return await anyio.to_thread.run_sync(fn)

    async def detach(self, fn: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.spawn(None, fn)

    async def settle(self) -> None:
        """Do nothing: sockets are closed at once."""

    def on_shutdown(self, fn: Callable[[], None]) -> None:
        self.on_end = fn
        row = _runs.get(self.loop)
        if row is None:
            runtimes: weakref.WeakSet[TrioRuntime] = weakref.WeakSet()
            row = _runs[self.loop] = (_sentinel(self.loop, runtimes), runtimes)
            with contextlib.suppress(StopIteration):
                row[0].asend(None).send(None)
        row[1].add(self)


# trio closes the asynchronous generators that are still open at the end of a run, and warns of those
# that are collected before: so there is one for each run, and it is held here.
_runs: dict[trio.lowlevel.TrioToken, tuple[AsyncGenerator[None, None], weakref.WeakSet[TrioRuntime]]] = {}


async def _sentinel(
    token: trio.lowlevel.TrioToken, runtimes: weakref.WeakSet[TrioRuntime]
) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        _runs.pop(token, None)
        for runtime in tuple(runtimes):
            runtime.on_end()


async def _in_scope(
    scope: trio.CancelScope, fn: Callable[..., Coroutine[Any, Any, None]], args: tuple[object, ...]
) -> None:
    with scope:
        await fn(*args)


async def _keep_house(tick: Callable[[], float | None]) -> None:
    while (delay := tick()) is not None:  # noqa: ASYNC110 - it keeps house, it waits for nothing
        await anyio.sleep(delay)


def _nothing() -> None:
    return None


def current_token() -> trio.lowlevel.TrioToken | None:
    """Return the token of the running trio loop, or None outside of one."""
    try:
        return trio.lowlevel.current_trio_token()
    except RuntimeError:
        return None
