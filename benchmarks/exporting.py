"""What exporters cost: one request with each of them, and a scrape with 1, 16 and 64 hosts. Run: make exporting.

As in observing.py all variants run in one process and take turns; each figure of the first table is CPU time, the
median of its blocks. The plain one is measured twice: how much the two differ is what a difference below them is worth.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest

import pooltransport as pt
from pooltransport.observe import otel
from pooltransport.observe.prometheus import PoolCollector
from tests.support.nginx import Nginx
from tests.support.responders import ok
from tests.support.server import ScriptedServer

BLOCK = 100


@contextlib.contextmanager
def plain(transport):
    yield transport


@contextlib.contextmanager
def collector(transport, **options):
    with contextlib.closing(PoolCollector([transport], **options)):
        yield transport


@contextlib.contextmanager
def metrics(transport, histograms):
    made = otel.instrument(MeterProvider([InMemoryMetricReader()]), [transport], histograms)
    yield transport
    made.uninstrument()


@contextlib.contextmanager
def spans(transport, provider):
    yield otel.TracedTransport(transport, provider.get_tracer("benchmark"))


def variants(tracing):
    """Return the variants: name, what goes around a transport for the time of a block."""
    return {
        "plain": plain,
        "the same again": plain,
        "PoolCollector": collector,
        "PoolCollector, details=True": lambda transport: collector(transport, details=True),
        "otel.instrument, one histogram": lambda transport: metrics(transport, "duration"),
        "otel.instrument, all histograms": lambda transport: metrics(transport, "all"),
        "TracedTransport, batch processor": lambda transport: spans(transport, tracing),
    }


def block(transport, url):
    """Return the CPU time of one request, in microseconds, over a block of them."""
    for warm_up in (True, False):
        began = time.process_time()
        for _ in range(10 if warm_up else BLOCK):
            transport.round_trip(pt.Request("GET", url)).read()
    return (time.process_time() - began) / BLOCK * 1e6


def requests(url, rounds):
    """Measure the variants by turns; return name: median."""
    tracing = TracerProvider()
    tracing.add_span_processor(BatchSpanProcessor(InMemorySpanExporter()))
    chosen = variants(tracing)
    times = {name: [] for name in chosen}
    with pt.Transport() as transport:
        for turn in range(rounds):
            names = list(chosen)
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                with chosen[name](transport) as watched:
                    times[name].append(block(watched, url))
    tracing.shutdown()
    return {name: statistics.median(found) for name, found in times.items()}


def scrape(hosts):
    """Return how long a scrape takes, in milliseconds: the numbers, and with the text; its size and series."""
    with contextlib.ExitStack() as stack:
        transport = stack.enter_context(pt.Transport())
        for _ in range(hosts):
            pt.Client(transport=transport).get(stack.enter_context(ScriptedServer(ok())).url)
        registry = CollectorRegistry()
        made = PoolCollector([transport], registry=registry)

        def milliseconds(call):
            found = []
            for _ in range(15):
                began = time.perf_counter()
                call()
                found.append((time.perf_counter() - began) * 1e3)
            return statistics.median(found)

        text = generate_latest(registry)
        series = sum(not line.startswith(b"#") for line in text.splitlines())
        return milliseconds(made.collect), milliseconds(lambda: generate_latest(registry)), len(text), series


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    args = parser.parse_args()
    with TemporaryDirectory() as folder, Nginx(Path(folder)) as server:
        found = requests(server.url, args.rounds)
    print("| one GET of 5 bytes, on one thread | us of CPU | more than plain |\n| --- | ---: | ---: |")
    for name, value in found.items():
        print(f"| {name} | {value:.1f} | {value - found['plain']:+.1f} us |")
    print("\n| a scrape | numbers, ms | and text, ms | KiB | series |\n| --- | ---: | ---: | ---: | ---: |")
    for hosts in (1, 16, 64):
        numbers, whole, size, series = scrape(hosts)
        print(f"| {hosts} hosts | {numbers:.1f} | {whole:.1f} | {size / 1024:.0f} | {series} |")


if __name__ == "__main__":
    main()
