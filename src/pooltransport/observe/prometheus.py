"""Metrics for Prometheus: a collector for `prometheus_client`, fed by snapshots, so that a request pays nothing.

    from pooltransport.observe.prometheus import PoolCollector

    PoolCollector(registry=prometheus_client.REGISTRY)

`catalogue.METRICS` lists what there is; docs/metrics.md says what it means.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from pooltransport import census
from pooltransport.errors import ConfigError
from pooltransport.stats import ClientStats

from . import catalogue as c
from .hosts import Hosts
from .kernel import Kernel
from .recording import DETAILS, Recording, Tallies
from .table import Table
from .tabulate import Shape, tabulate

try:
    from prometheus_client import Metric
    from prometheus_client.utils import floatToGoString
except ImportError as _error:
    raise ImportError(
        "pooltransport.observe.prometheus needs prometheus_client: pip install pooltransport[prometheus]"
    ) from _error

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prometheus_client import CollectorRegistry

    from pooltransport.stats import PoolStats

__all__ = ["PoolCollector"]

_logger = logging.getLogger("pooltransport.pool")
_KERNEL = "pooltransport.kernel."
_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


class PoolCollector:
    """What the pools of this process do, as a collector of `prometheus_client`.

    `transports`: whose numbers; None is every transport of this process, those that are gone included, so that no
    counter goes down. Several transports to one host are summed, limits too.
    `registry`: where it registers itself; without one, do it yourself.
    `kernel`: sockets by state and local ports in use, from /proc (Linux), read at most each 5 s.
    `details`: body sizes, look-ups and the phases of dials as well, which costs each request some microseconds.
    `max_hosts`: so many hosts (1 or more) have labels of their own, others are ``_other``, port 0.
    `methods`: False leaves ``http_request_method`` out. `status`: ``"code"``, or ``"class"`` for ``2xx`` and so on.
    `directory`: where the processes of one service share their numbers, so that one scrape shows the sum of all; None
    is what the environment variable PROMETHEUS_MULTIPROC_DIR says, ``""`` is none. It must exist, and should be empty
    when the service starts.

    Raises `ConfigError` for a value that cannot be.
    """

    def __init__(
        self,
        transports: Iterable[Any] | None = None,
        *,
        registry: CollectorRegistry | None = None,
        kernel: bool = False,
        details: bool = False,
        max_hosts: int = 64,
        methods: bool = True,
        status: str = "code",
        directory: str | os.PathLike[str] | None = None,
    ) -> None:
        if status not in {"code", "class"}:
            raise ConfigError(f"status={status!r}: must be 'code' or 'class'")
        if max_hosts < 1:
            raise ConfigError(f"max_hosts={max_hosts!r}: must be 1 or more")
        self._transports = None if transports is None else tuple(transports)
        self._shape = Shape(methods, status)
        self._hosts = Hosts(max_hosts)
        self._kernel = Kernel(self._hosts) if kernel else None
        self._tallies = Tallies()
        self._recording: Recording | None = None
        if details:
            self._recording = Recording(
                DETAILS, self._tallies, shape=self._shape, max_hosts=max_hosts, transports=self._transports
            )
            self._recording.start()
        self._metrics = tuple(metric for metric in c.METRICS if self._shows(metric))
        self._broken: set[int] = set()
        path = os.fspath(os.environ.get(_VARIABLE, "") if directory is None else directory)
        self._directory = _open_directory(path, self._numbers) if path else None
        if registry is not None:
            registry.register(self)

    def _shows(self, metric: c.Metric) -> bool:
        if metric.name.startswith(_KERNEL):
            return self._kernel is not None
        return metric.prometheus_default or (self._recording is not None and metric.name in DETAILS)

    def describe(self) -> list[Metric]:
        """Return the metrics without their series, so that registering looks at nothing."""
        return [_family(metric) for metric in self._metrics]

    def collect(self) -> list[Metric]:
        """Return everything as it is now. Never raises: what cannot be had is logged and left out."""
        try:
            table = self._numbers()
            if self._kernel is not None:
                table.merge(self._kernel.look(self._alive()))
            if self._directory is not None:
                table = self._directory.gather(table)
        except Exception as error:  # noqa: BLE001 - a scrape must not fail for our sake
            _logger.warning("the pools' metrics cannot be collected: %r", error, exc_info=error)
            return []
        return [_filled(metric, table) for metric in self._metrics if table.rows.get(metric.name)]

    def close(self) -> None:
        """Stop what runs in the background, if `details` or `directory` was asked for. It can still be scraped."""
        if self._recording is not None:
            self._recording.stop()
        if self._directory is not None:
            self._directory.close()

    def _alive(self) -> tuple[Any, ...]:
        return census.transports() if self._transports is None else self._transports

    def _numbers(self) -> Table:
        """Return this process's own numbers."""
        snapshots = self._snapshots()
        if self._transports is None:
            clients, dropped = census.clients(), census.dropped()
        else:
            rows = [stats.clients for stats in snapshots]
            clients, dropped = ClientStats(sum(row.created for row in rows), sum(row.live for row in rows)), 0
        table = tabulate(snapshots, self._hosts, self._shape, clients, dropped)
        self._tallies.add_to(table)
        return table

    def _snapshots(self) -> Sequence[PoolStats]:
        if self._transports is None:
            return census.process_stats(self._left_out)
        found = []
        for transport in self._transports:
            try:
                found.append(transport.stats())
            except Exception as error:  # noqa: BLE001 - as in `collect`
                self._left_out(transport, error)
        return found

    def _left_out(self, transport: object, error: Exception) -> None:
        if id(transport) not in self._broken:
            self._broken.add(id(transport))
            _logger.warning("a transport is left out of the metrics: %r", error, exc_info=error)


def _open_directory(path: str, live: Any) -> Any:
    if not os.path.isdir(path):
        raise ConfigError(f"directory={path!r}: must be a directory that exists")
    try:
        from .workers import Directory  # noqa: PLC0415 - only where there are several processes
    except ImportError as error:  # no fcntl
        raise ConfigError("directory: sharing numbers between processes needs a POSIX system") from error
    return Directory(path, live)


def _family(metric: c.Metric) -> Metric:
    name = metric.prometheus.removesuffix("_total") if metric.kind is c.Kind.COUNTER else metric.prometheus
    return Metric(name, metric.help, metric.prometheus_type)


def _filled(metric: c.Metric, table: Table) -> Metric:
    family = _family(metric)
    name = metric.prometheus
    for labels, value in sorted(table.rows[metric.name].items()):
        named = {c.label(attribute): text for attribute, text in labels}
        if metric.kind is not c.Kind.HISTOGRAM:
            family.add_sample(name, named, value)
            continue
        total = 0
        for bound, count in zip((*metric.buckets, float("inf")), value[:-1], strict=True):
            total += count
            family.add_sample(f"{name}_bucket", {**named, "le": floatToGoString(bound)}, total)
        family.add_sample(f"{name}_count", named, total)
        # Rounded: sums of the same numbers in another order differ in the last bits, and a sum that goes down by one of
        # them is a restart to Prometheus.
        family.add_sample(f"{name}_sum", named, round(value[-1], 6))
    return family
