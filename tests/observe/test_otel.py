"""OpenTelemetry: names, units and attributes are the catalogue's, one snapshot serves a cycle, and it can be ended."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import Histogram, InMemoryMetricReader, Sum

import pooltransport as pt
from pooltransport import observers
from pooltransport.observe import catalogue, otel
from pooltransport.observe.catalogue import Kind
from tests.support.colours import run_colour
from tests.support.responders import Responder, big, head, ok
from tests.support.scripts import run_script

DURATION = "http.client.request.duration"


@Responder
def by_path(conn, request):
    """Answer with the status that the path names."""
    conn.send(head(f"{request.target.strip('/') or 200} Some", length=5) + b"hello")


WHOLE_PROCESS = """
    import gc, sys
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    import pooltransport as pt
    from pooltransport.observe import otel
    from tests.observe.test_otel import collect, total

    reader = InMemoryMetricReader()
    otel.instrument(MeterProvider([reader]))
    for _ in range(3):
        with pt.Transport(name="gone, for otel") as transport:
            pt.Client(transport=transport).get(sys.argv[1])
        del transport
        gc.collect()
        print(total(collect(reader)["pooltransport.connection.acquired"], server_port=int(sys.argv[2])))
    otel.uninstrument()
    """


@pytest.fixture
def meter():
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    yield provider, reader
    otel.uninstrument()
    provider.shutdown()
    assert observers.anybody == ()


def collect(reader):
    """Return {name: metric} of one cycle."""
    data = reader.get_metrics_data()
    if data is None:
        return {}
    return {metric.name: metric for r in data.resource_metrics for s in r.scope_metrics for metric in s.metrics}


def points(metric):
    """Return {attributes: value, or count of a histogram}."""
    return {
        tuple(sorted(point.attributes.items())): point.count if isinstance(metric.data, Histogram) else point.value
        for point in metric.data.data_points
    }


def total(metric, **attributes):
    wanted = set(attributes.items())
    names = {name.replace(".", "_"): name for point in metric.data.data_points for name in point.attributes}
    wanted = {(names.get(name, name), value) for name, value in wanted}
    return sum(value for found, value in points(metric).items() if wanted <= set(found))


def visit(transport, server):
    """Make one request of each kind that there is."""
    client = pt.Client(transport=transport)
    client.post(f"http://localhost:{server.port}/200", content=b"abc")
    client.get(server.url + "/404")
    with pytest.raises(pt.ConnectError):
        client.get("http://127.0.0.1:1/")


class TestCatalogue:
    def test_everything(self, meter, server_factory):
        provider, reader = meter
        server = server_factory(by_path)
        with pt.Transport(max_conns=9) as transport:
            otel.instrument(provider, [transport], "all", kernel=True)
            visit(transport, server)
            transport.close_idle_connections()
            transport.stats()  # a safe point: dials and closed connections are told
            pt.Client(transport=transport).get(server.url)
            found = collect(reader)
        assert set(found) == set(catalogue.BY_NAME)
        for name, metric in found.items():
            known = catalogue.BY_NAME[name]
            assert (metric.unit, metric.description) == (known.unit, known.help)
            kind = type(metric.data)
            assert (kind is Histogram) == (known.kind is Kind.HISTOGRAM)
            if known.kind in {Kind.COUNTER, Kind.UP_DOWN}:
                assert kind is Sum
                assert metric.data.is_monotonic == (known.kind is Kind.COUNTER)
            for point in metric.data.data_points:
                assert set(known.labels) <= set(point.attributes) <= {*known.labels, *known.optional}, name
                if kind is Histogram:
                    assert tuple(point.explicit_bounds) == known.buckets

    def test_the_default(self, meter, server_factory):
        provider, reader = meter
        server = server_factory(ok())
        with pt.Transport(max_conns=9) as transport:
            otel.instrument(provider, [transport])
            pt.Client(transport=transport).get(server.url)
            found = collect(reader)
        assert set(found) == {metric.name for metric in catalogue.METRICS if metric.otel_default}

    def test_without_histograms_no_request_is_followed(self, meter, server_factory):
        provider, reader = meter
        server = server_factory(ok())
        with pt.Transport() as transport:
            otel.instrument(provider, [transport], "none")
            assert observers.anybody == ()
            pt.Client(transport=transport).get(server.url)
            found = collect(reader)
        assert not any(isinstance(metric.data, Histogram) for metric in found.values())
        assert total(found["pooltransport.connection.acquired"]) == 1


class TestValues:
    def test_duration_by_method_status_and_error(self, colour, meter, server_factory):
        provider, reader = meter
        server = server_factory(by_path)

        async def body(c):
            otel.instrument(provider, [c.transport])
            for path in ("200", "404"):
                await c.fetch(f"{server.url}/{path}")
            with pytest.raises(pt.ConnectError):
                await c.fetch("http://127.0.0.1:1/")
            await c.close(await c.request("BREW", server.url))

        run_colour(colour, body)
        host = (("server.address", "127.0.0.1"), ("server.port", server.port))
        method, status, version = (
            "http.request.method",
            "http.response.status_code",
            ("network.protocol.version", "1.1"),
        )
        assert points(collect(reader)[DURATION]) == {
            ((method, "GET"), (status, 200), version, *host): 1,
            (("error.type", "404"), (method, "GET"), (status, 404), version, *host): 1,
            ((method, "_OTHER"), (status, 200), version, *host): 1,
            (("error.type", "ConnectError"), (method, "GET"), ("server.address", "127.0.0.1"), ("server.port", 1)): 1,
        }

    def test_histograms_are_what_the_pool_measures(self, colour, meter, server_factory):
        """The same counts, and about the same sums, though measured a second time."""
        provider, reader = meter
        server = server_factory(big(70_000))

        async def body(c):
            otel.instrument(provider, [c.transport], "all")
            for number in range(6):
                response = await c.get(server.url)
                if number % 2:
                    await c.read(response)
                await c.close(response)
            await c.wait_until(lambda: not c.transport.stats().leases)
            c.transport.close_idle_connections()
            await c.wait_until(lambda: not c.transport.stats().open and not c.transport.stats().closing)
            return c.transport.stats().histograms

        kept = run_colour(colour, body)
        found = collect(reader)
        for name, histogram in {
            "http.client.request.time_in_queue": kept.time_in_queue,
            "http.client.connection.duration": kept.connection_duration,
            "pooltransport.connection.requests": kept.connection_requests,
            "pooltransport.dial.duration": kept.dial_duration,
            "pooltransport.lease.duration": kept.lease_duration,
        }.items():
            (point,) = found[name].data.data_points
            assert point.count == histogram.total, name
            assert point.sum == pytest.approx(histogram.sum, abs=2.0), name
        assert sum(point.sum for point in found["http.client.response.body.size"].data.data_points) >= 3 * 70_000

    def test_numbers_are_the_snapshots_and_of_one_moment(self, meter, server_factory):
        """All instruments of one cycle are from one snapshot: the transport is asked once."""
        provider, reader = meter
        server = server_factory(ok())
        asked = []

        class Asked:
            def __init__(self, transport):
                self.transport = transport
                self.options = transport.options

            def stats(self):
                asked.append(1)
                return self.transport.stats()

        with pt.Transport() as transport:
            otel.instrument(provider, [Asked(transport)])
            for cycle in range(1, 4):
                pt.Client(transport=transport).get(server.url)
                found = collect(reader)
                assert len(asked) == cycle
                assert total(found["pooltransport.connection.acquired"]) == cycle
                connections = points(found["http.client.open_connections"])
                assert sorted(connections.values()) == [0, 1]
                assert all(type(dict(attributes)["server.port"]) is int for attributes in connections)

    def test_the_whole_process_and_what_is_gone(self, server_factory, tmp_path):
        """In a process of its own: one of all tests together has more hosts than the SDK keeps apart (2,000)."""
        server = server_factory(ok())
        done = run_script(tmp_path / "app.py", WHOLE_PROCESS, server.url, server.port)
        assert done.stdout.split() == ["1", "2", "3"]

    def test_only_chosen_transports_are_followed(self, meter, server_factory):
        provider, reader = meter
        server = server_factory(ok())
        with pt.Transport() as mine, pt.Transport() as other:
            otel.instrument(provider, [mine], "all")
            for transport in (mine, other, other):
                pt.Client(transport=transport).get(server.url)
            mine.stats(), other.stats()
            found = collect(reader)
        assert total(found[DURATION]) == total(found["pooltransport.dial.duration"]) == 1


class TestEnding:
    def test_uninstrument_is_silence_and_instrument_begins_again(self, meter, server_factory):
        provider, reader = meter
        server = server_factory(ok())
        with pt.Transport() as transport:
            client = pt.Client(transport=transport)
            made = otel.instrument(provider, [transport])
            client.get(server.url)
            assert total(collect(reader)[DURATION]) == 1
            made.uninstrument()
            client.get(server.url)
            found = collect(reader)
            assert "pooltransport.connection.acquired" not in found
            assert total(found[DURATION]) == 1
            otel.instrument(provider, [transport])
            client.get(server.url)
            found = collect(reader)
            assert total(found[DURATION]) == 2
            assert total(found["pooltransport.connection.acquired"]) == 3

    def test_instrumenting_twice_counts_once(self, meter, server_factory):
        provider, reader = meter
        server = server_factory(ok())
        with pt.Transport() as transport:
            otel.instrument(provider, [transport])
            otel.instrument(provider, [transport])
            pt.Client(transport=transport).get(server.url)
            found = collect(reader)
        assert total(found[DURATION]) == total(found["pooltransport.connection.acquired"]) == 1

    @pytest.mark.parametrize("options", [{"histograms": "some"}, {"status": "text"}, {"max_hosts": 0}])
    def test_values_that_cannot_be(self, options):
        with pytest.raises(pt.ConfigError, match=next(iter(options))):
            otel.instrument(**options)
