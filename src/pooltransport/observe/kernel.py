"""The kernel's side of the hosts: sockets by state and owner, local ports in use. Linux only, elsewhere nothing.

The tables are read at most once in `TTL` seconds and for no longer than `BUDGET` seconds, whatever asks.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Any

from pooltransport.diagnosis import ports

from . import catalogue as c
from .forks import ProcessLock
from .hosts import Address, Hosts, address_of
from .table import Table
from .tabulate import host_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TTL = 5.0
BUDGET = 0.25
_MOST_ADDRESSES = 16  # remembered of a host: what is in TIME_WAIT has no connection any more


class Kernel:
    """What the kernel says of the hosts of some transports."""

    def __init__(self, hosts: Hosts, clock: Callable[[], float] = time.monotonic) -> None:
        self._hosts = hosts
        self._clock = clock
        self._mutex = ProcessLock(self._begin)
        self._begin()

    def _begin(self) -> None:
        self._known: dict[Address, OrderedDict[str, None]] = {}
        self._table: Table | None = None
        self._at = 0.0

    def look(self, transports: Iterable[Any]) -> Table:
        """Return the numbers, at most `TTL` seconds old."""
        with self._mutex:
            now = self._clock()
            if self._table is None or now - self._at > TTL:
                self._table = self._read(tuple(transports))
                self._at = now
            return self._table

    def _read(self, transports: tuple[Any, ...]) -> Table:
        table = Table()
        limit = ports.port_limit()
        if limit is None:
            return table
        table.add("pooltransport.kernel.ports_limit", (), limit)
        ours = self._note_addresses(transports)
        whose = {remote: address for address, remotes in self._known.items() for remote in remotes}
        inodes = ports.own_inodes()
        used: Counter[Address] = Counter(dict.fromkeys(self._known, 0))
        sockets: Counter[tuple[Address, str, str]] = Counter()
        for row in ports.tcp_sockets(whose, BUDGET):
            address = whose[row.remote]
            mine = "pool" if (row.local, row.remote) in ours else "process"
            used[address] += 1
            sockets[address, row.state, mine if row.inode in inodes else "none"] += 1
        counted: Counter[Address] = Counter()
        for address, many in used.items():
            counted[self._hosts.label(address)] += many
        for address, many in counted.items():
            table.add("pooltransport.kernel.ports_used", host_labels(address), many)
        labelled: Counter[tuple[Address, str, str]] = Counter()
        for (address, state, owner), many in sockets.items():
            labelled[self._hosts.label(address), state, owner] += many
        for (address, state, owner), many in labelled.items():
            labels = (*host_labels(address), (c.SOCKET_STATE, state), (c.SOCKET_OWNER, owner))
            table.add("pooltransport.kernel.sockets", labels, many)
        return table

    def _note_addresses(self, transports: tuple[Any, ...]) -> set[tuple[str, str]]:
        """Remember where the hosts are; return the two ends of each connection of ours."""
        ends = set()
        present = set()
        for transport in transports:
            hosts = {host.origin: host for host in transport.stats().hosts.values()}
            present |= {address_of(host.address, host.port, host.proxy) for host in hosts.values()}
            for conn in transport.connections():
                host = hosts.get(conn.origin)
                local, remote = _spelled(conn.local_addr), _spelled(conn.remote_addr)
                if host is None or remote is None:
                    continue
                if local is not None:
                    ends.add((local, remote))
                known = self._known.setdefault(address_of(host.address, host.port, host.proxy), OrderedDict())
                known[remote] = None
                known.move_to_end(remote)
                if len(known) > _MOST_ADDRESSES:
                    known.popitem(last=False)
        for gone in [address for address in self._known if address not in present]:
            del self._known[gone]
        return ends


def _spelled(text: str) -> str | None:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        return None  # a Unix socket
    try:
        return ports.spelled(host.strip("[]"), int(port))
    except (OSError, ValueError):
        return None
