"""What a dial that failed for want of a local port, or of a file descriptor, says of the machine (contract 7.4)."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from pooltransport import census
from pooltransport.diagnosis import ports

if TYPE_CHECKING:
    from pooltransport.core.keys import ConnectKey

    from .engine import Engine
    from .ledger import Ledger

_REST = 10.0  # s: the kernel's tables are long when ports run out
_SHOWN = 3


class KernelNotes:
    """Adds notes to errors of one engine, seldom enough to cost nothing that counts."""

    __slots__ = ("_engine", "_last", "_told_at")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._told_at = -_REST
        self._last: list[str] = []

    def add(self, error: BaseException, kind: str, key: ConnectKey) -> None:
        """Say in `error`, a failed dial of this `kind`, what is used up and by whom."""
        if kind not in {"no_local_port", "too_many_files"}:
            return
        now = self._engine.now()
        attempts = getattr(error, "attempts", ())
        if attempts:
            self._engine.ledger.memory.note_peer(key.origin, attempts[-1].address)
        if now - self._told_at >= _REST:
            self._told_at = now
            self._last = self._ports(key) if kind == "no_local_port" else self._files()
        for note in self._last:
            error.add_note(note)

    def _ports(self, key: ConnectKey) -> list[str]:
        ledger = self._engine.ledger
        stats = ledger.snapshot()
        addresses = remote_addresses(ledger, key.origin)
        use = ports.port_use(addresses)
        notes = []
        if use is not None:
            share = use.time_wait / use.used if use.used else 0.0
            towards = key.host.host if addresses is not None else "anybody"
            notes.append(
                f"{use.used} of {use.limit} local ports towards {towards} are in use, "
                f"{use.time_wait} of them in TIME_WAIT ({share:.0%})"
            )
        host = stats.hosts.get(key.origin)
        reasons = Counter({} if host is None else host.closed)
        made = sum(reasons.values())
        told = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common(_SHOWN)) or "none"
        open_now = 0 if host is None else host.open
        notes.append(f"this pool: {open_now} connections open to {key.origin}, {made} closed since it began: {told}")
        notes.append("more: python -m pooltransport explain PT-PORTS")
        return notes

    def _files(self) -> list[str]:
        use = ports.file_use()
        notes = []
        if use is not None:
            limit = "without a limit" if use.limit is None else f"of {use.limit} (RLIMIT_NOFILE)"
            notes.append(f"{use.used} file descriptors open, {limit}; {use.sockets} of them are sockets")
        stats = self._engine.ledger.snapshot()
        clients = census.clients()
        notes.append(
            f"this pool: {stats.open} connections open, {stats.idle} of them idle; "
            f"this process made {clients.created} clients and transports, {clients.live} are alive"
        )
        lines = census.busiest_lines(time.monotonic())[:_SHOWN]
        notes += [f"{line.made} made in the last minute: {line.name}" for line in lines]
        return notes


def remote_addresses(ledger: Ledger, origin: str) -> set[tuple[str, int]] | None:
    """Return the addresses and ports that connections of `origin` go to, or the last one went to; None if none did."""
    texts = {conn.stream.remote_addr for conn in ledger.open_conns() if conn.key.origin == origin}
    rows = [text.rpartition(":") for text in texts | {ledger.memory.peers.get(origin, "")}]
    return {(host.strip("[]"), int(port)) for host, _, port in rows if host and port.isdigit()} or None
