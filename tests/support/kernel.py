"""What only the kernel knows: states of sockets, threads of the process, what a peer has received. Linux."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ESTABLISHED, SYN_SENT, CLOSE_WAIT = 1, 2, 8  # as in linux/tcp_states.h


def sockets_to(port: int, *states: int) -> int:
    """Count this process's TCP sockets that are connected to `port`, in one of `states` or in any."""
    # Not from /proc/net/tcp: that lists the TIME_WAITs of the whole machine, which takes its time.
    count = 0
    for _, sock in _own_sockets():
        with contextlib.suppress(OSError):
            count += sock.getpeername()[1] == port and (not states or _state(sock) in states)
    return count


def sockets_from(port: int) -> int:
    """Count the ends of accepted connections at `port` that this process has not closed."""
    count = 0
    for _, sock in _own_sockets():
        with contextlib.suppress(OSError):
            count += sock.getsockname()[1] == port and bool(sock.getpeername())
    return count


def in_state(state: int) -> int:
    """Count this process's TCP sockets in `state`; one that is connecting tells no peer."""
    return sum(_state(sock) == state for _, sock in _own_sockets())


def options_to(port: int, *options: tuple[int, int]) -> list[tuple[int, ...]]:
    """Return the values of some socket options, of each socket of this process that is connected to `port`."""
    found = []
    for _, sock in _own_sockets():
        with contextlib.suppress(OSError):
            if sock.getpeername()[1] == port:
                found.append(tuple(sock.getsockopt(level, option) for level, option in options))
    return found


def _state(sock: socket.socket) -> int:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)[0]


def threads() -> int:
    """Count the threads of this process, those that Python's `threading` does not know included."""
    return len(os.listdir("/proc/self/task"))


def descriptors_to(port: int) -> set[int]:
    """Return this process's descriptors of sockets that are connected to `port`."""
    found = set()
    for descriptor, sock in _own_sockets():
        with contextlib.suppress(OSError):
            if sock.getpeername()[1] == port:
                found.add(descriptor)
    return found


def _own_sockets() -> Iterator[tuple[int, socket.socket]]:
    """Give a duplicate of each TCP socket of this process, and the number that it has there."""
    for name in os.listdir("/proc/self/fd"):
        try:
            copy = os.dup(int(name))
        except OSError:
            continue
        try:
            sock = socket.socket(fileno=copy)
        except OSError:
            os.close(copy)  # no socket
            continue
        with sock:
            if sock.family in {socket.AF_INET, socket.AF_INET6} and sock.type == socket.SOCK_STREAM:
                yield int(name), sock


IP_LOCAL_PORT_RANGE = 51  # linux/in.h; Python has no name for it


def local_ports(count: int) -> tuple[int, int, bytes]:
    """Return the socket option that leaves `count` local ports: in a row, free, of those that the system gives."""
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    for _ in range(100):
        first = random.randrange(low, high - count)
        try:
            for port in range(first, first + count):
                with socket.socket() as sock:
                    sock.bind(("127.0.0.1", port))
        except OSError:
            continue
        return socket.IPPROTO_IP, IP_LOCAL_PORT_RANGE, struct.pack("I", ((first + count - 1) << 16) | first)
    raise RuntimeError("no ports are free")


def wait_received(sock: socket.socket, seconds: float = 5.0) -> None:
    """Wait until the client's end, which is in this process too, has everything that was sent on `sock`,
    or is closed. (Its acknowledgement would come up to 200 ms later.)
    """
    deadline = time.monotonic() + seconds
    try:
        # A busy machine answers late, and what is sent twice for that counts twice.
        address, sent = sock.getpeername(), _bytes(sock, _SENT) - _bytes(sock, _SENT_AGAIN)
    except OSError:  # ENOTCONN: the client has closed it already
        return
    while (received := _received_at(address)) is not None and received < sent:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{received} of {sent} bytes have arrived")
        time.sleep(0.0005)


def _received_at(address: tuple[str, int]) -> int | None:
    for _, sock in _own_sockets():
        if sock.getsockname() == address:
            return _bytes(sock, _RECEIVED)
    return None


# Where linux/tcp.h has these in its struct tcp_info.
_RECEIVED, _SENT, _SENT_AGAIN = 128, 200, 208


def _bytes(sock: socket.socket, offset: int) -> int:
    return int(struct.unpack_from("Q", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256), offset)[0])
