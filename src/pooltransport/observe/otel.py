"""Metrics and spans for OpenTelemetry. Only its API is needed here; who sets no SDK up gets nothing, and pays little.

    from pooltransport.observe import otel

    otel.instrument()                                           # metrics of every transport of this process
    otel.instrument_spans()                                     # and a span for each request
    client = pt.Client(transport=otel.TracedTransport(pt.Transport()))      # or for those of one transport

`catalogue.METRICS` lists the metrics; docs/metrics.md says what they mean and what they cost.
"""

from __future__ import annotations

import _thread
import time
import weakref
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from pooltransport import __version__, observers
from pooltransport.errors import ConfigError

from . import catalogue as c
from .forks import ProcessLock
from .recording import DURATION, EVERYTHING, Recording
from .source import Source

try:
    from opentelemetry import metrics
    from opentelemetry.metrics import Observation
except ImportError as _error:
    raise ImportError("pooltransport.observe.otel needs opentelemetry-api: pip install pooltransport[otel]") from _error

from .spans import AsyncTracedTransport, SpanObserver, TracedTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opentelemetry.metrics import CallbackOptions, Histogram, Meter, MeterProvider
    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.trace import TracerProvider

    from .table import Labels, Table

__all__ = [
    "AsyncTracedTransport",
    "Instrumentation",
    "SpanInstrumentation",
    "TracedTransport",
    "instrument",
    "instrument_spans",
    "uninstrument",
]

_HISTOGRAMS = {"duration": frozenset((DURATION,)), "all": EVERYTHING, "none": frozenset[str]()}
_NUMBERS = frozenset(("server.port", "http.response.status_code"))
_OLDEST = 10.0  # seconds for which one snapshot serves a cycle of collection
_KERNEL = "pooltransport.kernel."


class Instrumentation:
    """What `instrument` began."""

    def __init__(self, meters: _Meters, cycle: _Cycle, recording: Recording) -> None:
        self._meters = meters
        self._cycle = cycle
        self._recording = recording

    def uninstrument(self) -> None:
        """Say nothing more. OpenTelemetry keeps instruments for ever; these are silent, and used again by the next."""
        self._recording.stop()
        if self._meters.cycle is self._cycle:
            self._meters.cycle = None
        _made.discard(self)


def instrument(
    meter_provider: MeterProvider | None = None,
    transports: Iterable[Any] | None = None,
    histograms: str = "duration",
    *,
    kernel: bool = False,
    max_hosts: int = 64,
    methods: bool = True,
    status: str = "code",
) -> Instrumentation:
    """Give the metrics of the catalogue to a meter; with the same provider once more, the former ends.

    `meter_provider`: None is the global one. `transports`: whose; None is every transport of this process, those that
    are gone included. `histograms`: OpenTelemetry has none that can be observed, so that each value costs its
    request: ``"duration"`` is `http.client.request.duration` alone, ``"all"`` all of them, ``"none"`` none. `kernel`,
    `max_hosts` (1 or more), `methods` and `status` (``"code"``, ``"class"``): as of the Prometheus collector.

    Raises `ConfigError` for a value that cannot be.
    """
    if histograms not in _HISTOGRAMS:
        raise ConfigError(f"histograms={histograms!r}: must be 'duration', 'all' or 'none' [PTC110]")
    source = Source(transports, kernel=kernel, max_hosts=max_hosts, methods=methods, status=status)
    provider = metrics.get_meter_provider() if meter_provider is None else meter_provider
    with _guard:
        meters = _known.get(provider)
        if meters is None:
            meters = _known[provider] = _Meters(provider.get_meter("pooltransport", __version__))
    former = None if meters.current is None else meters.current()
    if former is not None:
        former.uninstrument()
    recording = Recording(_HISTOGRAMS[histograms], meters.record, source)
    meters.make(_HISTOGRAMS[histograms], kernel=kernel)
    meters.cycle = cycle = _Cycle(source)
    recording.start()
    made = Instrumentation(meters, cycle, recording)
    meters.current = weakref.ref(made)
    _made.add(made)
    return made


class SpanInstrumentation:
    """What `instrument_spans` began."""

    def __init__(self, observer: SpanObserver) -> None:
        self._observer = observer

    def uninstrument(self) -> None:
        """Make no more spans; those of requests that are under way end as they would have."""
        observers.remove(self._observer)
        _made.discard(self)


def instrument_spans(
    tracer_provider: TracerProvider | None = None, *, propagator: TextMapPropagator | None = None
) -> SpanInstrumentation:
    """Make a CLIENT span for each request of each transport of this process, and tell the server of it (traceparent).

    A request that has a span from the instrumentation of a client above, or from a `TracedTransport`, gets no second
    one: waits and retries are added to that. `tracer_provider`, `propagator`: None are the global ones. Once more, and
    the former ends.
    """
    for former in tuple(_made):
        if isinstance(former, SpanInstrumentation):
            former.uninstrument()
    observer = SpanObserver(tracer_provider, propagator)
    observers.add(observer)
    made = SpanInstrumentation(observer)
    _made.add(made)
    return made


def uninstrument() -> None:
    """End whatever `instrument` and `instrument_spans` began in this process."""
    for made in tuple(_made):
        made.uninstrument()


_guard = _thread.allocate_lock()
_made: set[Instrumentation | SpanInstrumentation] = set()


class _Cycle:
    """One snapshot for one cycle of collection, whichever instruments ask."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._mutex = ProcessLock(self._begin)
        self._begin()

    def _begin(self) -> None:
        self._table: Table | None = None
        self._asked: set[str] = set()
        self._at = 0.0

    def rows(self, name: str) -> dict[Labels, Any]:
        """Return the numbers of one metric. Who asks for one a second time begins a new cycle."""
        with self._mutex:
            now = time.monotonic()
            if self._table is None or name in self._asked or now - self._at > _OLDEST:
                self._table, self._at = self._source.numbers(), now
                self._source.add_kernel(self._table)
                self._asked.clear()
            self._asked.add(name)
            return self._table.rows.get(name, {})


class _Meters:
    """The instruments of one meter, made once: OpenTelemetry cannot unmake them."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._histograms: dict[str, Histogram] = {}
        self._made: set[str] = set()
        self.cycle: _Cycle | None = None
        self.current: weakref.ref[Instrumentation] | None = None

    def make(self, histograms: frozenset[str], *, kernel: bool) -> None:
        """Make the instruments that are not there yet."""
        makers: dict[c.Kind, Callable[..., object]] = {
            c.Kind.COUNTER: self._meter.create_observable_counter,
            c.Kind.UP_DOWN: self._meter.create_observable_up_down_counter,
            c.Kind.GAUGE: self._meter.create_observable_gauge,
        }
        for metric in c.METRICS:
            if metric.name in self._made:
                continue
            if metric.kind is c.Kind.HISTOGRAM:
                if metric.name in histograms:
                    self._histograms[metric.name] = self._meter.create_histogram(
                        metric.name, metric.unit, metric.help, explicit_bucket_boundaries_advisory=metric.buckets
                    )
                    self._made.add(metric.name)
            elif kernel if metric.name.startswith(_KERNEL) else metric.otel_default:
                makers[metric.kind](metric.name, [partial(self._observe, metric.name)], metric.unit, metric.help)
                self._made.add(metric.name)

    def _observe(self, name: str, _: CallbackOptions) -> list[Observation]:
        cycle = self.cycle
        if cycle is None:
            return []
        return [Observation(value, _attributes(labels)) for labels, value in cycle.rows(name).items()]

    def record(self, name: str, labels: Labels, value: float) -> None:
        """Record one value of a histogram."""
        self._histograms[name].record(value, _attributes(labels))


_known: weakref.WeakKeyDictionary[MeterProvider, _Meters] = weakref.WeakKeyDictionary()


@lru_cache(4096)
def _attributes(labels: Labels) -> dict[str, str | int]:
    return {key: int(text) if key in _NUMBERS and text.isdigit() else text for key, text in labels}
