"""A server for what nginx cannot do: it counts uploads, answers late, and answers many at once.

``POST`` answers the number of bytes that came. ``GET /slow`` answers after `LATE` seconds. ``GET /gather/N`` answers
when N requests wait, all together, so that N connections are surely open. Run as ``python -m benchmarks.sink``: it
prints its port, and ends when its input does. Any other path is answered at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LATE = 0.5
PIECE = 1 << 20


class Connection(asyncio.BufferedProtocol):
    """One connection; a body is read into one buffer of all and only counted."""

    buffer = bytearray(PIECE)
    waiting: list[Connection] = []  # noqa: RUF012 - of all connections: who waits to be answered together

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.head = b""
        self.left = 0  # bytes of the body to come
        self.size = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport  # type: ignore[assignment]

    def get_buffer(self, sizehint: int) -> bytearray:
        """Give the buffer of all."""
        return self.buffer

    def buffer_updated(self, count: int) -> None:
        """Read a head, or count."""
        if self.left:
            self._count(count)
            return
        self.head += self.buffer[:count]
        top, end, rest = self.head.partition(b"\r\n\r\n")
        if end:
            self.head = b""
            self._asked(top, len(rest))

    def _asked(self, top: bytes, more: int) -> None:
        words, lower = top.split(b" ", 2), top.lower()
        if words[0] == b"POST":
            self.size = self.left = int(lower.partition(b"content-length:")[2].partition(b"\r\n")[0])
            if b"expect:" in lower:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._count(more)
        elif words[1].startswith(b"/gather/"):
            self.waiting.append(self)
            if len(self.waiting) == int(words[1].rpartition(b"/")[2]):
                for other in self.waiting:
                    other.answer(b"hello")
                self.waiting.clear()
        elif words[1] == b"/slow":
            asyncio.get_running_loop().call_later(LATE, self.answer, b"hello")
        else:
            self.answer(b"hello")

    def _count(self, count: int) -> None:
        self.left -= count
        if not self.left:
            self.answer(b"%d" % self.size)

    def answer(self, body: bytes) -> None:
        """Send an answer, unless the client went."""
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    def connection_lost(self, error: Exception | None) -> None:
        """Forget it."""
        if self in self.waiting:
            self.waiting.remove(self)


async def serve() -> None:
    """Serve until the input ends."""
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0, backlog=8192)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


@contextlib.contextmanager
def running() -> Iterator[str]:
    """Run one in a process of its own; give its root, without a slash."""
    command = [sys.executable, "-m", "benchmarks.sink"]
    here = Path(__file__).parent.parent
    with subprocess.Popen(command, cwd=here, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()
            process.wait(30)


if __name__ == "__main__":
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(serve())
