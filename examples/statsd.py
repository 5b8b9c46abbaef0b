"""Metrics for StatsD from hooks alone: one datagram for each thing that happens, and nothing to scrape.

    with StatsD() as statsd, pt.Transport(trace=statsd.trace()) as transport:
        pt.Client(transport=transport).get("https://api.example.com/data")

| sent | type | when |
| --- | --- | --- |
| `pool.acquired.reused`, `.dialed` | c | a request has a connection |
| `pool.queue` | ms | how long a request without a free slot waited |
| `pool.first_byte` | ms | from the request sent to the first byte of the answer |
| `pool.returned`, `pool.not_returned.<reason>` | c | a response has ended: its connection went back, or why not |
| `pool.closed.<reason>.<local or remote>` | c | a connection was closed |
| `pool.retried`, `pool.leaked`, `pool.overdue.<activity>` | c | what should be rare |
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any

import pooltransport as pt

if TYPE_CHECKING:
    from typing import Self


class StatsD:
    """Sends to a StatsD server; what is lost is lost, nothing waits for it."""

    def __init__(self, host: str = "127.0.0.1", port: int = 8125, prefix: str = "pool") -> None:
        self._prefix = prefix
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.connect((host, port))

    def count(self, name: str) -> None:
        """Add one to a counter."""
        self._send(f"{self._prefix}.{name}:1|c")

    def time(self, name: str, seconds: float) -> None:
        """Send a time."""
        self._send(f"{self._prefix}.{name}:{seconds * 1000:.3f}|ms")

    def _send(self, line: str) -> None:
        # A full buffer, or nobody who listens: a datagram less.
        with contextlib.suppress(OSError):
            self._socket.send(line.encode())

    def trace(self) -> pt.ClientTrace:
        """Return the hooks, for a transport, a client, a request or a block."""
        return pt.ClientTrace(
            got_conn=lambda info: self.count("acquired.reused" if info.reused else "acquired.dialed"),
            acquire_done=lambda info: self.time("queue", info.waited),
            got_first_response_byte=lambda info: self.time("first_byte", info.elapsed),
            put_idle_conn=self._put_idle_conn,
            conn_closed=lambda info: self.count(f"closed.{info.reason.value}.{info.closed_by}"),
            retried=lambda info: self.count("retried"),
            leaked=lambda report: self.count("leaked"),
            lease_overdue=lambda report: self.count(f"overdue.{report.activity}"),
        )

    def _put_idle_conn(self, error: Any) -> None:
        self.count("returned" if error is None else f"not_returned.{error.reason.value}")

    def close(self) -> None:
        """Send nothing more."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
