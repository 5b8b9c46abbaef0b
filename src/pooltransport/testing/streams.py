"""The network of `fakes.FakeRuntime`: streams, dials and look-ups that a test answers, by hand or by script."""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING, Any

from pooltransport.resolver import Lookup, normalise
from pooltransport.runtime.protocols import Expired
from pooltransport.stats import CloseReason
from pooltransport.trace import TLSInfo

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from pooltransport.runtime.protocols import Address, Data, SocketOptions

    from .fakes import FakeRuntime


class _End:
    def __repr__(self) -> str:
        return "END"


END = _End()  # in a script: the peer ends the stream


class FakeStream:
    """One connection as its peer sees it: `feed`, `end` and `fail` are the peer's, `sent` is what came.

    `on_sent` is called with the stream after each send, so that a script can answer. `hold_writes` and
    `hold_tls` make these waits last until they are set to False. `break_writes` (an `OSError`; a
    `NothingWritten` if the kernel took no byte) and `fail_tls` are errors to raise there. `is_open` is
    False from `abort` or `drop` on.
    """

    def __init__(self, runtime: FakeRuntime, address: str = "192.0.2.1:80") -> None:
        self._runtime = runtime
        self._inbox: deque[bytes] = deque()
        self._ended = False
        self._error: OSError | None = None
        self._busy: set[str] = set()
        self.remote_addr = address
        self.local_addr = f"192.0.2.200:{40_000 + len(runtime.streams)}"
        self.tls: TLSInfo | None = None
        self.cut_off = False
        self.on_idle_event: Callable[[CloseReason], None] | None = None
        self.on_sent: Callable[[FakeStream], object] | None = None
        self.sent = bytearray()
        self.is_open = True
        self.half_open: bool | None = None  # what `go_duplex` said
        self.was_opened = self.ended_writing = False
        self.hold_writes = self.hold_tls = False
        self.break_writes: OSError | None = None
        self.fail_tls: Exception | None = None
        self.alpn: str | None = None  # what the handshake agrees on

    # -- the peer's side ------------------------------------------------------------------------

    def feed(self, *pieces: bytes) -> None:
        """Send bytes to the client, each piece as one packet."""
        for piece in pieces:
            self._inbox.append(piece)
            self._tell_idle(CloseReason.UNSOLICITED_DATA)

    def end(self, *, cut_off: bool = False) -> None:
        """End the stream, after what was fed; `cut_off`: without TLS's word for it."""
        self._ended, self.cut_off = True, cut_off
        self._tell_idle(CloseReason.SERVER_CLOSED_IDLE)

    def fail(self, error: OSError | None = None) -> None:
        """Break the stream: reading raises `error` (default: a reset) after what was fed."""
        self._error = error or ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
        self._tell_idle(CloseReason.SERVER_CLOSED_IDLE)

    def play(self, script: object) -> None:
        """Do what `script` says: bytes, `END`, an `OSError`, or a sequence of these."""
        if isinstance(script, bytes):
            self.feed(script)
        elif isinstance(script, _End):
            self.end()
        elif isinstance(script, OSError):
            self.fail(script)
        else:
            for step in script:  # type: ignore[attr-defined]
                self.play(step)

    def _tell_idle(self, reason: CloseReason) -> None:
        if self._runtime.polls_idle or "receive" in self._busy:
            return
        tell, self.on_idle_event = self.on_idle_event, None
        if tell is not None:
            tell(reason)

    # -- the client's side (`runtime.protocols.Stream`) -----------------------------------------

    async def open(self) -> None:
        """Get ready."""
        await self._wait("open", lambda: True, None)
        self.was_opened = True

    async def start_tls(self, context: ssl.SSLContext, server_hostname: str, at: float | None) -> None:  # noqa: ARG002 - no real handshake
        """Pretend a handshake."""
        await self._wait("start_tls", lambda: not self.hold_tls, at)
        if self.fail_tls is not None:
            raise self.fail_tls
        self.was_opened = True
        self.tls = TLSInfo("TLSv1.3", "FAKE_AES_256", self.alpn, server_hostname)

    async def send(self, data: Data, stall: float | None, at: float | None) -> None:
        """Record `data`, and let the script answer."""
        if stall is not None:
            until = self._runtime.now() + stall
            at = until if at is None else min(at, until)
        await self._wait("send", lambda: not self.hold_writes or self.break_writes is not None, at)
        if self.break_writes is not None:
            raise self.break_writes
        self.sent += data
        if self.on_sent is not None:
            self.on_sent(self)

    async def send_until_answered(self, data: Data, stall: float | None, at: float | None) -> tuple[int, bool]:
        """As `send`, unless there is something to receive."""
        if stall is not None:
            until = self._runtime.now() + stall
            at = until if at is None else min(at, until)
        await self._wait("send", lambda: not self.hold_writes or self.break_writes is not None or self._heard(), at)
        if self._heard():
            return 0, True
        if self.break_writes is not None:
            raise self.break_writes
        self.sent += data
        if data and self.on_sent is not None:
            self.on_sent(self)
        return len(data), self._heard()

    def _heard(self) -> bool:
        return bool(self._inbox or self._ended or self._error)

    async def receive(self, at: float | None) -> bytes:
        """Return one piece, ``b""`` at the end."""
        await self._wait("receive", self._heard, at)
        if self._inbox:
            return self._inbox.popleft()
        if self._error is not None:
            raise self._error
        return b""

    async def _wait(self, kind: str, ready: Callable[[], bool], at: float | None) -> None:
        assert kind not in self._busy, f"two tasks {kind} at once on {self!r}"
        self._busy.add(kind)
        try:
            came = await self._runtime.wait(kind, lambda: not self.is_open or ready(), at)
        finally:
            self._busy.discard(kind)
        if not self.is_open:
            raise ConnectionAbortedError(errno.ECONNABORTED, "the connection was aborted")
        if not came:
            raise Expired

    def go_duplex(self, *, half_open: bool) -> None:
        """Note that it is used in both directions at once."""
        self.half_open = half_open

    def end_writing(self) -> None:
        """Note that the client ended its direction."""
        self.ended_writing = True

    def receive_nowait(self) -> bytes | None:
        """Return a piece that is there, or None."""
        return self._inbox.popleft() if self._inbox else None

    def read_ready(self) -> bytes | None:
        """Return a piece that is there, ``b""`` at the end, or None."""
        if self._inbox:
            return self._inbox.popleft()
        return b"" if self.hung_up() or not self.is_open else None

    def surplus(self) -> bool:
        """Report whether there are pieces that nobody has received."""
        return bool(self._inbox)

    def check(self) -> CloseReason | None:
        """Return why the idle stream must not be used again, or None."""
        if not self.is_open:
            return CloseReason.BAD_STATE
        if self._inbox:
            return CloseReason.UNSOLICITED_DATA
        return CloseReason.SERVER_CLOSED_IDLE if self.hung_up() else None

    def hung_up(self) -> bool:
        """Report whether the peer has ended or broken the stream."""
        return self._ended or self._error is not None

    def abort(self, on_closed: Callable[[], None]) -> None:
        """Close; `on_closed` at once, or in the next turn with `FakeRuntime.lazy_close`."""
        self.is_open = False
        self.on_idle_event = None
        if self._runtime.lazy_close:
            self._runtime.post(on_closed)
        else:
            on_closed()

    def drop(self) -> None:
        """Close without a word."""
        self.is_open = False

    def __repr__(self) -> str:
        return f"<FakeStream {self.remote_addr} {'open' if self.is_open else 'closed'} sent {len(self.sent)}>"


class FakeDial:
    """One `connect` that waits for its answer: `accept` or `refuse`, once."""

    def __init__(self, runtime: FakeRuntime, address: Address, options: SocketOptions, at: float | None) -> None:
        self._runtime = runtime
        self.address = address
        self.options = options
        self.at = at
        self.stream: FakeStream | None = None
        self.error: Exception | None = None
        self.ended = False  # the one who dialed has gone, with or without a stream

    @property
    def pending(self) -> bool:
        """Whether nobody has answered, and somebody still waits."""
        return self.stream is None and self.error is None and not self.ended

    def accept(self) -> FakeStream:
        """Connect it; return the new stream."""
        assert self.pending, "a dial is answered once"
        self.stream = FakeStream(self._runtime, self.address.text)
        self._runtime.streams.append(self.stream)
        return self.stream

    def refuse(self, error: Exception | None = None) -> None:
        """Let it fail."""
        assert self.pending, "a dial is answered once"
        self.error = error or ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")


class Answers:
    """A peer by script: accepts every dial, and gives the next answer for each whole request; the last
    answer is given again and again. An answer is what `FakeStream.play` takes. Give it as `on_dial`.
    """

    def __init__(self, *answers: object) -> None:
        self._answers = deque(answers)
        self._read: dict[FakeStream, int] = {}
        self.requests: list[bytes] = []

    def __call__(self, dial: FakeDial) -> None:
        """Accept a dial."""
        self.serve(dial.accept())

    def serve(self, stream: FakeStream) -> None:
        """Answer on `stream` from now on."""
        stream.on_sent = self._on_sent
        self._read[stream] = len(stream.sent)

    def _on_sent(self, stream: FakeStream) -> None:
        data = bytes(stream.sent[self._read[stream] :])
        if _is_whole(data):
            self._read[stream] += len(data)
            self.requests.append(data)
            answer = self._answers[0] if len(self._answers) == 1 else self._answers.popleft()
            stream.play(answer)


def _is_whole(data: bytes) -> bool:
    """Report whether `data`, one request or the beginning of one, is complete."""
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return False
    for line in head.lower().split(b"\r\n")[1:]:
        name, _, value = line.partition(b": ")
        if name == b"content-length":
            return len(body) >= int(value)
        if name == b"transfer-encoding":
            return body.endswith(b"\r\n\r\n") and (body.startswith(b"0\r\n") or b"\r\n0\r\n" in body)
    return True


class FakeResolver:
    """Look-ups by table (`names`: host to address texts, or an error), else by hand with `answer`."""

    def __init__(self) -> None:
        self.names: dict[str, Sequence[str] | Exception] = {}
        self.asked: list[str] = []
        self._inflight: dict[str, Lookup] = {}
        self._ports: dict[str, int] = {}

    def start(self, host: str, port: int) -> tuple[Lookup, bool]:
        """Begin a look-up, or join the one under way."""
        lookup = self._inflight.get(host)
        if lookup is not None:
            return lookup, True
        self.asked.append(host)
        self._ports[host] = port
        lookup = self._inflight[host] = Lookup()
        if host in self.names:
            self.answer(host, self.names[host])
        return lookup, False

    def answer(self, host: str, answer: Sequence[str] | Exception) -> None:
        """Answer the look-up of `host` that is under way."""
        rows: Any = ()
        if not isinstance(answer, Exception):
            rows = normalise(answer, self._ports[host])
        self._inflight.pop(host).finish(rows, answer if isinstance(answer, Exception) else None)

    def grow(self, now: float) -> None:
        """Do nothing: there are no workers."""
