"""The kernel's side of a pool: local ports in use towards a server, and file descriptors. Linux only; else None.

Reading the tables costs some 40 us a row, so that it is done where there is a reason, and bounded.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

_MOST_ROWS = 100_000
_MOST_FILES = 65_536
_LISTEN = "0A"


class PortUse(NamedTuple):
    """Local ports in use towards one server's port (any, if None was asked), of `limit` that the system gives out."""

    used: int
    time_wait: int
    limit: int


def port_limit() -> int | None:
    """Return how many local ports the system gives out for outgoing connections, or None if it does not say."""
    try:
        with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
            low, high = map(int, file.read().split())
    except (OSError, ValueError):
        return None
    return high - low + 1


class Socket(NamedTuple):
    """A row of the kernel's tables. Addresses as the kernel spells them (`spelled`); inode 0 is nobody's."""

    local: str
    remote: str
    state: str
    inode: int


_STATES: tuple[str, ...] = ("established", "syn_sent", "syn_recv", "fin_wait1", "fin_wait2", "time_wait")
_STATES += ("close", "close_wait", "last_ack", "listen", "closing")


def tcp_sockets(remotes: Collection[str] | None, seconds: float | None = None) -> Iterator[Socket]:
    """Give the TCP sockets towards `remotes` (`spelled`; None: towards anything), but for those that listen; for no
    longer than `seconds`, and no more than 100,000 rows looked at.
    """
    until = None if seconds is None else time.monotonic() + seconds
    rows = 0
    for name in ("/proc/self/net/tcp", "/proc/self/net/tcp6"):
        try:
            with open(name) as file:
                next(file, None)
                for line in file:
                    rows += 1
                    if rows > _MOST_ROWS or (until is not None and rows % 256 == 0 and time.monotonic() > until):
                        return
                    _, local, remote, state, _, _, _, _, _, inode, *_ = line.split(None, 10)
                    if state != _LISTEN and (remotes is None or remote in remotes):
                        number = int(state, 16)
                        word = _STATES[number - 1] if 0 < number <= len(_STATES) else "other"
                        yield Socket(local, remote, word, int(inode))
        except OSError:
            continue


def port_use(addresses: Iterable[tuple[str, int]] | None = None) -> PortUse | None:
    """Return how many local ports are in use towards `addresses` (IP text and port; None: towards anything)."""
    limit = port_limit()
    if limit is None:
        return None
    used = waiting = 0
    for socket in tcp_sockets(None if addresses is None else {spelled(host, port) for host, port in addresses}):
        used += 1
        waiting += socket.state == "time_wait"
    return PortUse(used, waiting, limit)


def own_inodes() -> frozenset[int]:
    """Return the inodes of the sockets that this process has open."""
    found = set()
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        return frozenset()
    for name in names:
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # closed meanwhile
        if target.startswith("socket:["):
            found.add(int(target[8:-1]))
    return frozenset(found)


def spelled(host: str, port: int) -> str:
    """Return an address as the kernel's tables spell it: each 32-bit word in the machine's byte order."""
    import socket  # noqa: PLC0415 - only who looks at the kernel pays for it

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    packed = socket.inet_pton(family, host.partition("%")[0])
    words = [packed[i : i + 4] for i in range(0, len(packed), 4)]
    if sys.byteorder == "little":
        words = [word[::-1] for word in words]
    return f"{b''.join(words).hex().upper()}:{port:04X}"


class FileUse(NamedTuple):
    """Open file descriptors of this process, sockets among them, and the soft limit (None: no limit)."""

    used: int
    sockets: int
    limit: int | None


def file_use() -> FileUse | None:
    """Return how many file descriptors this process has open, or None where the system does not say."""
    if not os.path.isdir("/proc/self/fd"):
        return None
    import resource  # noqa: PLC0415 - as above; and not everywhere

    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    limit = None if soft == resource.RLIM_INFINITY else soft
    try:
        numbers: Iterable[int] = map(int, os.listdir("/proc/self/fd"))
    except OSError:  # that wants a descriptor itself, and this is asked when there is none
        if limit is None or limit > _MOST_FILES:
            return None
        numbers = range(limit)
    used = sockets = 0
    for number in numbers:
        try:
            sockets += stat.S_ISSOCK(os.fstat(number).st_mode)
        except OSError:
            continue  # not open, as that of the listing itself is not any more
        used += 1
    return FileUse(used, sockets, limit)
