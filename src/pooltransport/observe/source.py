"""This process's numbers, whoever exports them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from pooltransport import census
from pooltransport.errors import ConfigError
from pooltransport.stats import ClientStats

from .hosts import Hosts
from .kernel import Kernel
from .tabulate import Shape, tabulate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pooltransport.stats import PoolStats

    from .table import Table

_logger = logging.getLogger("pooltransport.pool")


class Source:
    """The numbers of `transports`, or of every transport of this process. See `PoolCollector` for the arguments.

    Raises `ConfigError` for a value that cannot be.
    """

    def __init__(
        self,
        transports: Iterable[Any] | None = None,
        *,
        kernel: bool = False,
        max_hosts: int = 64,
        methods: bool = True,
        status: str = "code",
    ) -> None:
        problems = []
        if status not in {"code", "class"}:
            problems.append(f"status={status!r}: must be 'code' or 'class' [PTC110]")
        if type(max_hosts) is not int or max_hosts < 1:
            problems.append(f"max_hosts={max_hosts!r}: must be a whole number, 1 or more [PTC101]")
        if problems:
            raise ConfigError(problems)
        self.transports = None if transports is None else tuple(transports)
        self.shape = Shape(methods, status)
        self.max_hosts = max_hosts
        self._hosts = Hosts(max_hosts)
        self._kernel = Kernel(self._hosts) if kernel else None
        self._broken: set[int] = set()

    def numbers(self) -> Table:
        """Return what the pools and the clients say. A transport that raises is logged, once, and left out."""
        snapshots = self._snapshots()
        if self.transports is None:
            clients, dropped = census.clients(), census.dropped()
        else:
            rows = [stats.clients for stats in snapshots]
            clients, dropped = ClientStats(sum(row.created for row in rows), sum(row.live for row in rows)), 0
        return tabulate(snapshots, self._hosts, self.shape, clients, dropped)

    def add_kernel(self, table: Table) -> None:
        """Add what the kernel says, if that was asked for."""
        if self._kernel is not None:
            table.merge(self._kernel.look(census.transports() if self.transports is None else self.transports))

    def _snapshots(self) -> Sequence[PoolStats]:
        if self.transports is None:
            return census.process_stats(self._left_out)
        found = []
        for transport in self.transports:
            try:
                found.append(transport.stats())
            except Exception as error:  # noqa: BLE001 - one of them must not take the others along
                self._left_out(transport, error)
        return found

    def _left_out(self, transport: object, error: Exception) -> None:
        if id(transport) not in self._broken:
            self._broken.add(id(transport))
            name = getattr(getattr(transport, "options", None), "name", None)
            extra = {"pool_name": name}
            _logger.warning("a transport is left out of the metrics: %r", error, exc_info=error, extra=extra)
