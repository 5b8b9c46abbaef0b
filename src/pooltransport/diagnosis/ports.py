"""The kernel's side of a pool: local ports in use towards a server, and file descriptors. Linux only; else None.

Reading the tables costs some 40 us a row, so that it is done where there is a reason, and bounded.
"""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

_MOST_ROWS = 100_000
_MOST_FILES = 65_536
_TIME_WAIT = "06"
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


def port_use(addresses: Iterable[tuple[str, int]] | None = None) -> PortUse | None:
    """Return how many local ports are in use towards `addresses` (IP text and port; None: towards anything)."""
    limit = port_limit()
    if limit is None:
        return None
    wanted = None if addresses is None else {_hex(host, port) for host, port in addresses}
    used = time_wait = rows = 0
    for name in ("/proc/self/net/tcp", "/proc/self/net/tcp6"):
        try:
            with open(name) as file:
                next(file, None)
                for line in file:
                    rows += 1
                    if rows > _MOST_ROWS:
                        return PortUse(used, time_wait, limit)
                    _, _, remote, state, *_ = line.split(None, 5)
                    if state != _LISTEN and (wanted is None or remote in wanted):
                        used += 1
                        time_wait += state == _TIME_WAIT
        except OSError:
            continue
    return PortUse(used, time_wait, limit)


def _hex(host: str, port: int) -> str:
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
