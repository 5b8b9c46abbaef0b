"""What only the kernel knows: states of sockets, threads of the process, what a peer has received. Linux."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import termios
import time
from pathlib import Path

ESTABLISHED, CLOSE_WAIT = "01", "08"


def sockets_to(port: int, state: str | None = None) -> int:
    """Count the client's ends of TCP connections to `port` on loopback, in one state or in any that holds a socket."""
    held = {ESTABLISHED, CLOSE_WAIT} if state is None else {state}
    return sum(int(row[2].rpartition(":")[2], 16) == port and row[3] in held for row in _tcp())


def sockets_from(port: int) -> int:
    """Count the server's ends of connections to `port` that it has not closed."""
    return sum(int(row[1].rpartition(":")[2], 16) == port and row[3] in {ESTABLISHED, CLOSE_WAIT} for row in _tcp())


def _tcp() -> list[list[str]]:
    return [line.split() for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]]


def threads() -> int:
    """Count the threads of this process, those that Python's `threading` does not know included."""
    return len(os.listdir("/proc/self/task"))


def descriptors_to(port: int) -> set[int]:
    """Return this process's descriptors of sockets that are connected to `port`."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            with socket.socket(fileno=os.dup(int(name))) as sock:
                if sock.family == socket.AF_INET and sock.getpeername()[1] == port:
                    found.add(int(name))
    return found


def wait_received(sock: socket.socket, seconds: float = 5.0) -> None:
    """Wait until the peer's kernel has everything that was sent on `sock`."""
    deadline = time.monotonic() + seconds
    while struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0]:
        if time.monotonic() > deadline:
            raise TimeoutError("the peer does not take what was sent")
        time.sleep(0.0005)
