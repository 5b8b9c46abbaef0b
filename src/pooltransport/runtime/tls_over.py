"""TLS over a stream that is in use already: inside the TLS of an https proxy, or in a tunnel on asyncio,
where the loop's transport owns the socket. One wrapper for all colours.

What an idle connection may say without having ended is decided here, since only here it is text: the
stream below sees bytes, and cannot tell a session ticket from an answer that nobody asked for.
"""

from __future__ import annotations

import _thread
import contextlib
import errno
import ssl
import time
from collections import deque
from typing import TYPE_CHECKING

from pooltransport.stats import CloseReason

from .protocols import Expired
from .sockets import ONE_RECORD, unsolicited
from .tls import TLSPump

if TYPE_CHECKING:
    from collections.abc import Callable

    from pooltransport.trace import TLSInfo

    from .protocols import Data, Stream

# For the alert that says why a handshake failed: it goes out at once or not at all.
_LAST_WORD = 0.05


class TLSOver:
    """A `runtime.protocols.Stream`; `start_tls` comes first."""

    __slots__ = (
        "_ended",
        "_error",
        "_guard",
        "_on_idle",
        "_plain",
        "_pump",
        "_unsent",
        "inner",
        "local_addr",
        "remote_addr",
        "tls",
    )

    _pump: TLSPump

    def __init__(self, inner: Stream) -> None:
        self.inner = inner
        self._plain: deque[bytes] = deque()  # decrypted, and not received yet
        self._unsent = b""  # encrypted, and to go out before anything else
        self._ended = False
        self._error: OSError | None = None
        self._on_idle: Callable[[CloseReason], None] | None = None
        self.remote_addr = inner.remote_addr
        self.local_addr = inner.local_addr
        self.tls: TLSInfo | None = None
        self._guard = _thread.allocate_lock()  # one TLS object serves no two threads at once

    @property
    def cut_off(self) -> bool:
        return self._pump.cut_off

    async def open(self) -> None:
        """Do nothing: the stream below is open."""

    async def start_tls(self, context: ssl.SSLContext, server_hostname: str, at: float | None) -> None:
        self._pump = pump = TLSPump(context, server_hostname)
        try:
            while not pump.handshake(server_hostname):
                await self._say(at)
                pump.feed(await self.inner.receive(at))
        except ssl.SSLError:
            with contextlib.suppress(OSError, Expired):
                await self._say(time.monotonic() + _LAST_WORD)
            raise
        await self._say(at)
        self.tls = pump.info

    async def _say(self, at: float | None) -> None:
        """Send what TLS itself has to say."""
        if records := self._records(b""):
            await self.inner.send(records, None, at)

    def _records(self, data: Data) -> bytes:
        """Encrypt `data`; return what is to go out, in the order in which it was encrypted."""
        with self._guard:
            if data:
                self._pump.write(data)
            records, self._unsent = self._unsent + self._pump.take(), b""
        return records

    # -- I/O ------------------------------------------------------------------------------------

    async def send(self, data: Data, stall: float | None, at: float | None) -> None:
        await self.inner.send(self._records(data), stall, at)

    async def send_until_answered(self, data: Data, stall: float | None, at: float | None) -> tuple[int, bool]:
        view = memoryview(data)
        while True:
            taken, _ = await self.inner.send_until_answered(self._unsent, stall, at)
            self._unsent = self._unsent[taken:]
            # What stopped the stream below may have been a session ticket.
            self._soak(self.inner.read_ready)
            answered = bool(self._plain) or self._ended
            if not self._unsent:
                if answered or not view:
                    return len(data) - len(view), answered
                # What is encrypted must go out: so it is one record at a time.
                self._pump.write(view[:ONE_RECORD])
                view = view[ONE_RECORD:]
            elif answered:
                return len(data) - len(view), True
            self._unsent += self._pump.take()

    def go_duplex(self, *, half_open: bool) -> None:  # noqa: ARG002 - TLS ends in both directions at once
        self.inner.go_duplex(half_open=False)

    def end_writing(self) -> None:
        raise OSError(errno.EOPNOTSUPP, "a TLS connection ends in both directions at once")

    async def receive(self, at: float | None) -> bytes:
        while (data := self._next()) is None:
            received = await self.inner.receive(at)
            with self._guard:
                self._pump.feed(received)
            await self._say(at)  # a key update, for instance
        return data

    def _next(self) -> bytes | None:
        with self._guard:
            return self._decrypted()

    def _decrypted(self) -> bytes | None:
        if self._plain:
            return self._plain.popleft()
        if self._error is not None:
            raise self._error
        return b"" if self._ended else self._pump.read()

    def receive_nowait(self) -> bytes | None:
        self._decrypt_what_came()
        return self._plain.popleft() if self._plain else None

    def surplus(self) -> bool:
        self._decrypt_what_came()
        return bool(self._plain)

    def _decrypt_what_came(self) -> None:
        self._soak(self.inner.receive_nowait)

    def _soak(self, more: Callable[[], bytes | None]) -> None:
        """Decrypt what is there, and what `more` returns until it has no more. What is no TLS ends the
        stream, and is an error for who receives: OpenSSL would not say so a second time.
        """
        while not self._ended:
            try:
                data = self._pump.read()
            except OSError as error:
                self._error, self._ended = error, True
                return
            if data:
                self._plain.append(data)
            elif data is not None:
                self._ended = True
            elif (raw := more()) is None:
                return
            else:
                self._pump.feed(raw)

    # -- idle -----------------------------------------------------------------------------------

    def check(self) -> CloseReason | None:
        self._soak(self.inner.read_ready)
        if self._plain:
            return unsolicited(self._plain[0][:16])
        return CloseReason.SERVER_CLOSED_IDLE if self._ended else None

    def read_ready(self) -> bytes | None:
        self._soak(self.inner.read_ready)
        if self._plain:
            return self._plain.popleft()
        return b"" if self._ended else None

    def hung_up(self) -> bool:
        return self.inner.hung_up()

    @property
    def on_idle_event(self) -> Callable[[CloseReason], None] | None:
        return self._on_idle

    @on_idle_event.setter
    def on_idle_event(self, tell: Callable[[CloseReason], None] | None) -> None:
        self._on_idle = tell
        self.inner.on_idle_event = None if tell is None else self._spoke

    def _spoke(self, _: CloseReason) -> None:
        """The stream below ended or got bytes, which may be a session ticket."""
        found = self.check()
        if found is None:
            if self._on_idle is not None:
                self.inner.on_idle_event = self._spoke
            return
        tell, self._on_idle = self._on_idle, None
        if tell is not None:
            tell(found)

    # -- the end --------------------------------------------------------------------------------

    def abort(self, on_closed: Callable[[], None]) -> None:
        self._on_idle = None
        self.inner.abort(on_closed)

    def drop(self) -> None:
        self._on_idle = None
        self.inner.drop()
