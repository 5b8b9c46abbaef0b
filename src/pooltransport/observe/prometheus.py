"""Metrics for Prometheus: a collector for `prometheus_client`, fed by snapshots, so that a request pays nothing.

    from pooltransport.observe.prometheus import PoolCollector

    PoolCollector(registry=prometheus_client.REGISTRY)

`catalogue.METRICS` lists what there is; docs/metrics.md says what it means.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from pooltransport.errors import ConfigError

from . import catalogue as c
from .recording import DETAILS, Recording, Tallies
from .source import Source

try:
    from prometheus_client import Metric
except ImportError as _error:
    raise ImportError(
        "pooltransport.observe.prometheus needs prometheus_client: pip install pooltransport[prometheus]"
    ) from _error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client import CollectorRegistry

    from .table import Table
    from .workers import Directory

__all__ = ["PoolCollector"]

_logger = logging.LoggerAdapter(logging.getLogger("pooltransport.pool"), {"pool_name": None})
_INFINITY = float("inf")
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
        self._source = Source(transports, kernel=kernel, max_hosts=max_hosts, methods=methods, status=status)
        self._has_kernel = kernel
        self._tallies = Tallies()
        self._recording = Recording(DETAILS if details else (), self._tallies, self._source)
        self._recording.start()
        self._metrics = tuple(metric for metric in c.METRICS if self._shows(metric))
        path = os.fspath(os.environ.get(_VARIABLE, "") if directory is None else directory)
        self._directory = _open_directory(path, self._numbers) if path else None
        if registry is not None:
            registry.register(self)

    def _shows(self, metric: c.Metric) -> bool:
        if metric.name.startswith(_KERNEL):
            return self._has_kernel
        return metric.prometheus_default or metric.name in self._recording.wanted

    def describe(self) -> list[Metric]:
        """Return the metrics without their series, so that registering looks at nothing."""
        return [_family(metric) for metric in self._metrics]

    def collect(self) -> list[Metric]:
        """Return everything as it is now. Never raises: what cannot be had is logged and left out."""
        try:
            table = self._numbers()
            if self._directory is not None:
                table = self._directory.gather(table)
            self._source.add_kernel(table)
        except Exception as error:
            _logger.warning("the pools' metrics cannot be collected: %r", error, exc_info=error)
            return []
        return [_filled(metric, table) for metric in self._metrics if table.rows.get(metric.name)]

    def close(self) -> None:
        """Stop what runs in the background, if `details` or `directory` was asked for. It can still be scraped."""
        self._recording.stop()
        if self._directory is not None:
            self._directory.close()

    def _numbers(self) -> Table:
        """Return this process's own numbers."""
        table = self._source.numbers()
        self._tallies.add_to(table)
        return table


def _open_directory(path: str, live: Callable[[], Table]) -> Directory:
    if not os.path.isdir(path):
        raise ConfigError(f"directory={path!r}: must be a directory that exists [PTC110]")
    try:
        from .workers import Directory  # noqa: PLC0415 - only where there are several processes
    except ImportError as error:  # no fcntl
        raise ConfigError("directory: sharing numbers between processes needs a POSIX system [PTC116]") from error
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
        for bound, count in zip((*metric.buckets, _INFINITY), value[:-1], strict=True):
            total += count
            le = repr(bound) if bound < _INFINITY else "+Inf"
            family.add_sample(f"{name}_bucket", {**named, "le": le}, total)
        family.add_sample(f"{name}_count", named, total)
        # Rounded: sums of the same numbers in another order differ in the last bits, and a sum that goes down by one of
        # them is a restart to Prometheus.
        family.add_sample(f"{name}_sum", named, round(value[-1], 6))
    return family
