"""The seam between the engine, written once, and the three colours that run it.

Rules:

1. Only what may block is ``async``. On threads an ``async def`` blocks and never suspends.
2. `Stream.abort`, `Latch.set`, `Runtime.post` and `Task.cancel` may be called from any thread and
   from finalizers: they never wait, never take a lock that somebody may hold, never raise.
3. Moments (`at`) are absolute, on the clock of `Runtime.now`, which is `time.monotonic` in every
   colour, since one pool serves many loops; None is "no bound". A wait that reaches its moment
   raises `Expired`; which setting that was is the engine's business.
4. I/O errors are `OSError`; the engine translates them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Coroutine
    from contextvars import Context

    from pooltransport.stats import CloseReason
    from pooltransport.trace import TLSInfo


Data: TypeAlias = "bytes | memoryview"


class Expired(Exception):
    """The moment given to a waiting call has come."""


class NothingWritten(OSError):
    """Sending failed before the kernel took a single byte of this call's data."""


class SocketOptions(NamedTuple):
    """What is set on a socket before it connects.

    `keepalive`: seconds without traffic, seconds between probes, number of probes; None for none.
    """

    local_address: tuple[Any, ...] | None
    keepalive: tuple[int, int, int] | None
    extra: tuple[tuple[int, int, int | bytes], ...]


class Address(NamedTuple):
    """One place to connect to: a family of `socket` and its address tuple (or a path)."""

    family: int
    sockaddr: Any
    text: str


class Latch(Protocol):
    """A wake-up that is given at most once."""

    def set(self) -> None:
        """Wake who waits, now or later."""

    async def wait(self, at: float | None) -> bool:
        """Wait; report whether it was set before `at`."""


class Task(Protocol):
    """Something running in the background."""

    def cancel(self) -> None:
        """Ask it to end. On threads this is a wish: what it waits for must be aborted as well."""


class Stream(Protocol):
    """One connected byte stream and everything that its colour needs to drive it."""

    remote_addr: str
    local_addr: str
    tls: TLSInfo | None
    # Told once, by the loops only, when an idle connection ended or spoke unasked.
    on_idle_event: Callable[[CloseReason], None] | None

    @property
    def cut_off(self) -> bool:
        """Report whether the stream ended without the peer's TLS having said that it would."""

    async def open(self) -> None:
        """Get ready for I/O without TLS."""

    async def start_tls(self, context: ssl.SSLContext, server_hostname: str, at: float | None) -> None:
        """Do a TLS handshake; ready for I/O afterwards."""

    async def send(self, data: Data, stall: float | None, at: float | None) -> None:
        """Give `data`, which may be empty, to the kernel; `stall` bounds the time without any progress, in seconds.
        Raises `NothingWritten` where that is certain, another `OSError` where it is not.
        """

    async def send_until_answered(self, data: Data, stall: float | None, at: float | None) -> tuple[int, bool]:
        """As `send`, but stop when there is something to receive, the end included. Return how many
        bytes of `data` were taken, and whether there is. What was taken may still be on its way to the
        kernel: `send` waits for that, and so does this method, asked again with ``b""``.
        """

    async def receive(self, at: float | None) -> bytes:
        """Return some bytes; ``b""`` at the end of the stream."""

    def go_duplex(self, *, half_open: bool) -> None:
        """From here on two threads or tasks use it at once, one for each direction; with `half_open` the
        peer's end leaves ours open. After an upgrade, once, while nobody else uses it.
        """

    def end_writing(self) -> None:
        """End our direction; what was sent before still goes out. Raises `OSError` with TLS, which has no such thing
        on its own.
        """

    def receive_nowait(self) -> bytes | None:
        """Return bytes that are there already without asking the kernel, or None."""

    def read_ready(self) -> bytes | None:
        """Return bytes that have come, asking the kernel; ``b""`` at the end, also a broken one; None
        if there is nothing; never blocks. For what lies over this stream.
        """

    def surplus(self) -> bool:
        """Report, without asking the kernel, whether bytes came that nobody has received."""

    def check(self) -> CloseReason | None:
        """Return why an idle stream must not be used again, or None; never blocks."""

    def hung_up(self) -> bool:
        """Report whether the peer has ended the stream, as far as the kernel says; from any thread."""

    def abort(self, on_closed: Callable[[], None]) -> None:
        """Close now, without a word to the peer's TLS. `on_closed` is called once, when the
        descriptor is closed, or is sure to be before anything that is started after this call.
        """

    def drop(self) -> None:
        """Close the raw descriptor and nothing else: after a fork, or when the loop is gone."""


class Runtime(Protocol):
    """One colour, on one thread world or one event loop."""

    name: str
    polls_idle: bool  # the peer's end of an idle connection must be asked for (`Stream.hung_up`)

    def now(self) -> float:
        """Return the monotonic clock, in seconds."""

    def holder(self) -> object:
        """Return who runs now: the thread's number, or a weak reference to the task. Equal for the same one."""

    def new_latch(self) -> Latch:
        """Make a latch to be waited for on this runtime."""

    def spawn(self, context: Context | None, fn: Callable[..., Coroutine[Any, Any, None]], *args: object) -> Task:
        """Run ``fn(*args)`` in the background in `context` (None: an empty one). It must not raise.
        Only on the runtime's own loop: elsewhere `post` it.
        """

    def post(self, fn: Callable[..., object], *args: object) -> bool:
        """Call ``fn(*args)`` soon on this runtime; from any thread and from finalizers. Report
        whether there is still a loop to do so.
        """

    def watch(self, tick: Callable[[], float | None]) -> None:
        """Keep house: call `tick` now, and again after as many seconds as it returned, until it
        returns None. Keeps no process alive.
        """

    async def connect(
        self,
        address: Address,
        options: SocketOptions,
        at: float | None,
        register: Callable[[Stream], None],
    ) -> Stream:
        """Connect one socket. Where cancelling a task does not end what it waits for (threads),
        `register` is told the stream before the wait, so that it can be aborted.
        """

    async def adopt(self, sock: Any) -> Stream:
        """Make a stream of a connected socket that a ``dial=`` callable made."""

    def aside(self, fn: Callable[[], None]) -> None:
        """Call `fn`, which must not raise, soon: on threads not in the caller's own, on loops at once."""

    async def run_blocking(self, fn: Callable[[], Any], *, abandon: bool = False) -> Any:
        """Run `fn`, which may block, without holding up the loop. With `abandon` it may block for long:
        it takes no thread of those that others wait for, and a cancellation leaves it behind.
        """

    async def detach(self, fn: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do `fn` without making the caller wait where that is possible; threads do it at once."""

    async def settle(self) -> None:
        """Let aborted connections close their sockets."""

    def is_here(self) -> bool:
        """Report whether the caller runs on this runtime's thread or loop."""

    def is_alive(self) -> bool:
        """Report whether the loop is still open."""

    def on_shutdown(self, fn: Callable[[], None]) -> None:
        """Call `fn` when the loop is being shut down, while it still runs. Threads never do."""
