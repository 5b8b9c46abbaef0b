"""The collector for Prometheus: names and labels are the catalogue's, values the snapshot's, and nothing goes down."""

from __future__ import annotations

import logging
import random
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

import pooltransport as pt
from pooltransport import census, observers
from pooltransport.observe import catalogue
from pooltransport.observe.prometheus import PoolCollector
from tests.support.colours import run_colour
from tests.support.responders import Responder, big, head, ok
from tests.support.scraping import scrape, total


@Responder
def by_path(conn, request):
    """Answer with the status that the path names."""
    status = request.target.strip("/").partition("?")[0] or "200"
    conn.send(head(f"{status} Some", length=5) + b"hello")


class TestCatalogue:
    @pytest.fixture
    def everything(self, server_factory):
        server = server_factory(by_path)
        with pt.Transport(max_conns_per_host=4, max_conns=8) as transport:
            collector = PoolCollector([transport], kernel=True, details=True)
            client = pt.Client(transport=transport)
            client.post(f"http://localhost:{server.port}/200", content=b"abc")
            client.get(server.url + "/404")
            with pytest.raises(pt.ConnectError):
                client.get(f"http://127.0.0.1:{unused_port()}/")
            registry = CollectorRegistry()
            registry.register(collector)
            yield collector, registry
            collector.close()

    def test_a_scrape_has_every_metric_and_no_other(self, everything):
        collector, _ = everything
        shown = {family.name + ("_total" if family.type == "counter" else "") for family in collector.collect()}
        assert shown == set(catalogue.BY_PROMETHEUS)
        assert set(scrape(collector)) == {name for metric in catalogue.METRICS for name in metric.series}

    def test_types_labels_and_buckets_are_those_of_the_catalogue(self, everything):
        collector, _ = everything
        for family in collector.collect():
            metric = catalogue.BY_PROMETHEUS[family.name + ("_total" if family.type == "counter" else "")]
            assert (family.type, family.documentation) == (metric.prometheus_type, metric.help)
            needed = {catalogue.label(name) for name in metric.labels}
            allowed = needed | {catalogue.label(name) for name in metric.optional}
            for sample in family.samples:
                labels = set(sample.labels) - {"le"}
                assert needed <= labels <= allowed, f"{sample.name} has {sorted(labels)}"
                for attribute, values in catalogue.VALUES.items():
                    assert sample.labels.get(catalogue.label(attribute), values[0]) in values
            bounds = {sample.labels["le"] for sample in family.samples if "le" in sample.labels}
            assert bounds == ({repr(b) for b in metric.buckets} | {"+Inf"} if metric.buckets else set())

    def test_it_can_be_written_down_and_parsed(self, everything):
        _, registry = everything
        text = generate_latest(registry).decode()
        for metric in catalogue.METRICS:
            assert f"# HELP {metric.prometheus} {metric.help}" in text

    def test_the_default_is_what_the_catalogue_says(self, server_factory):
        server = server_factory(ok())
        with pt.Transport(max_conns=3) as transport:
            pt.Client(transport=transport).get(server.url)
            shown = set(scrape(PoolCollector([transport])))
        assert shown == {name for metric in catalogue.METRICS if metric.prometheus_default for name in metric.series}

    def test_counters_are_there_at_0_before_anything_happened_to_them(self, server_factory):
        server = server_factory(ok())
        with pt.Transport() as transport:
            pt.Client(transport=transport).get(server.url)
            shown = scrape(PoolCollector([transport]))
        assert len(shown["pooltransport_leaks_total"]) == 4 + 1  # of responses, and of clients
        assert total(shown["pooltransport_leaks_total"]) == 0
        assert len(shown["pooltransport_connection_closed_total"]) == len(pt.CloseReason)
        assert len(shown["pooltransport_acquire_failures_total"]) == 7
        assert len(shown["pooltransport_body_drain_total"]) == 4
        assert len(shown["pooltransport_hook_errors_total"]) == len(pt.trace.HOOK_NAMES)
        assert len(shown["pooltransport_lease_overdue"]) == 5


def unused_port():
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def compare(shown, transports):
    """Compare sums over label sets with the totals of the snapshots."""
    stats = [transport.stats() for transport in transports]

    def counted(name):
        return sum(sum(getattr(s, name).values()) for s in stats)

    assert total(shown["pooltransport_connection_acquired_total"]) == counted("acquired")
    assert total(shown["pooltransport_connection_closed_total"]) == counted("closed")
    assert total(shown["pooltransport_acquire_failures_total"]) == counted("acquire_failures")
    assert total(shown["pooltransport_body_drain_total"]) == counted("drains")
    assert total(shown["pooltransport_leaks_total"]) == sum(s.leaks for s in stats)
    assert total(shown["pooltransport_acquire_waiting"]) == sum(s.waiting for s in stats)
    connections = shown["http_client_open_connections"]
    assert total(connections, http_connection_state="idle") == sum(s.idle for s in stats)
    assert total(connections, http_connection_state="active") == sum(s.open - s.idle for s in stats)
    assert total(shown["http_client_active_requests"]) == sum(s.leases for s in stats)
    times = [s.histograms for s in stats]
    requests = [row for t in times for row in t.requests.values()]
    failures = [row for t in times for row in t.dial_failures.values()]
    for name, rows in {
        "http_client_request_duration_seconds": requests,
        "http_client_request_time_in_queue_seconds": [t.time_in_queue for t in times],
        "http_client_connection_duration_seconds": [t.connection_duration for t in times],
        "pooltransport_connection_requests": [t.connection_requests for t in times],
        "pooltransport_lease_duration_seconds": [t.lease_duration for t in times],
        "pooltransport_dial_duration_seconds": [t.dial_duration for t in times] + failures,
    }.items():
        assert total(shown[name + "_count"]) == sum(row.total for row in rows), name
        assert total(shown[name + "_bucket"], le="+Inf") == sum(row.total for row in rows), name
        assert total(shown[name + "_sum"]) == pytest.approx(sum(row.sum for row in rows), abs=1e-4), name
        for bound in ("0.01", "1.0", "10.0"):
            below = sum(
                sum(n for b, n in zip(row.bounds, row.counts, strict=False) if b <= float(bound)) for row in rows
            )
            assert total(shown[name + "_bucket"], le=bound) == below, (name, bound)


class TestValues:
    @pytest.mark.parametrize("seed", range(3))
    def test_they_are_the_snapshots_after_any_traffic(self, colour, seed, server_factory):
        """Two transports, three hosts, every kind of end."""
        rng = random.Random(f"{colour} {seed}")
        servers = [server_factory(by_path), server_factory(big(300_000)), server_factory(ok())]
        refused = f"http://127.0.0.1:{unused_port()}"

        async def one(c, transport):
            kind = rng.randrange(8)
            server = servers[kind % 3]
            try:
                response = await c.request(
                    rng.choice(["GET", "POST", "BREW"]),
                    refused if kind == 7 else f"{server.url}/{rng.choice([200, 404, 503])}",
                    transport=transport,
                )
            except pt.ConnectError:
                return None
            if kind in {0, 1, 2}:
                await c.read(response)
            if kind == 6 and rng.random() < 0.3:
                return response
            await c.close(response)
            return None

        async def body(c):
            other = c.make_transport(max_idle_conns=1)
            collector = PoolCollector([c.transport, other])
            held = []
            for _ in range(30):
                held.append(await one(c, rng.choice([c.transport, other])))
                if rng.random() < 0.3:
                    compare(scrape(collector), [c.transport, other])
            for response in filter(None, held):
                await c.close(response)
            await c.wait_until(lambda: not (c.transport.stats().closing or c.transport.stats().draining))
            compare(scrape(collector), [c.transport, other])
            await c.close_transport(other)
            compare(scrape(collector), [c.transport, other])

        run_colour(colour, body, max_idle_conns_per_host=2)

    def test_requests_by_method_status_and_error(self, server_factory):
        server = server_factory(by_path)
        with pt.Transport() as transport:
            client = pt.Client(transport=transport)
            for path in ("200", "201", "404", "503?secret=1"):
                client.get(f"{server.url}/{path}")
            client.request("BREW", server.url)
            counts = scrape(PoolCollector([transport]))["http_client_request_duration_seconds_count"]
            rough = scrape(PoolCollector([transport], methods=False, status="class"))
        by = {tuple(sorted((k, v) for k, v in labels if not k.startswith("server"))): n for labels, n in counts.items()}
        version = ("network_protocol_version", "1.1")
        get, status, error = ("http_request_method", "GET"), "http_response_status_code", "error_type"
        assert by == {
            (get, (status, "200"), version): 1,
            (get, (status, "201"), version): 1,
            ((error, "404"), get, (status, "404"), version): 1,
            ((error, "503"), get, (status, "503"), version): 1,
            (("http_request_method", "_OTHER"), (status, "200"), version): 1,
        }
        counts = rough["http_client_request_duration_seconds_count"]
        assert {dict(labels)[status]: n for labels, n in counts.items()} == {"2xx": 3, "4xx": 1, "5xx": 1}
        assert not any("http_request_method" in dict(labels) for labels in counts)
        assert "secret" not in str(counts)

    def test_transports_to_one_host_are_one_series_and_limits_are_summed(self, server_factory):
        server = server_factory(ok())
        with pt.Transport(max_conns_per_host=3, max_conns=5) as a, pt.Transport(max_conns_per_host=4) as b:
            for transport in (a, b):
                pt.Client(transport=transport).get(server.url)
            shown = scrape(PoolCollector([a, b]))
            limits = shown["pooltransport_connection_limit"]
            assert total(limits, pooltransport_limit_scope="per_host") == 7
            assert total(limits, pooltransport_limit_scope="idle_per_host") == 200
            assert total(limits, pooltransport_limit_scope="idle_total") == 200
            # One of them has no limit in total, so there is none.
            assert not any(("pooltransport_limit_scope", "total") in labels for labels in limits)
            assert total(shown["http_client_open_connections"], http_connection_state="idle") == 2

    def test_beyond_max_hosts_is_other(self, server_factory):
        servers = [server_factory(ok()) for _ in range(5)]
        with pt.Transport() as transport:
            client = pt.Client(transport=transport)
            for server in servers:
                client.get(server.url)
            shown = scrape(PoolCollector([transport], max_hosts=2))
        acquired = shown["pooltransport_connection_acquired_total"]
        assert total(acquired, server_address="_other", server_port=0) == 3
        assert total(acquired) == 5
        assert len({dict(labels)["server_port"] for labels in acquired}) == 3

    def test_waits_and_overdue_leases_are_seen_while_they_last(self, server_factory):
        server = server_factory(big(100_000))
        with pt.Transport(max_conns_per_host=1, lease_warn_after=0.05) as transport:
            collector = PoolCollector([transport])
            held = transport.round_trip(pt.Request("GET", server.url))
            run = []

            def overdue():
                run.append(scrape(collector))
                return total(run[-1]["pooltransport_lease_overdue"], pooltransport_lease_class="idle_holder") == 1

            server.wait_until(overdue, "an idle holder")
            assert total(run[-1]["pooltransport_lease_oldest_age_seconds"]) >= 0.05
            held.close()
            assert total(scrape(collector)["pooltransport_lease_oldest_age_seconds"]) == 0


@pytest.mark.filterwarnings("ignore:unclosed Transport with:ResourceWarning")  # dropped on purpose
class TestNothingGoesDown:
    def test_when_transports_go_away(self):
        """Of the whole process; one of its own, since a scrape of all that other tests have left takes seconds."""
        done = subprocess.run(
            [sys.executable, "-m", "tests.observe.going_away"],
            cwd=Path(__file__).parent.parent.parent,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, "8 transports gone, nothing fell\n"), done.stderr


class _Broken:
    options = None

    def stats(self):
        raise RuntimeError("broken on purpose")


class TestScraping:
    def test_no_request_is_followed_unless_details_are_asked_for(self):
        plain = PoolCollector()
        assert observers.anybody == ()
        detailed = PoolCollector(details=True)
        assert len(observers.anybody) == 1
        for collector in (plain, detailed):
            collector.close()
        assert observers.anybody == ()

    def test_registering_looks_at_nothing(self):
        registry = CollectorRegistry(auto_describe=True)

        class Watched(_Broken):
            looked = 0

            def stats(self):
                self.looked += 1
                return super().stats()

        transport = Watched()
        PoolCollector([transport], registry=registry)
        assert transport.looked == 0

    def test_a_broken_transport_is_logged_once_and_left_out(self, server_factory, caplog):
        server = server_factory(ok())
        with pt.Transport() as transport:
            collector = PoolCollector([_Broken(), transport])
            pt.Client(transport=transport).get(server.url)
            with caplog.at_level(logging.WARNING, "pooltransport.pool"):
                for _ in range(3):
                    assert total(scrape(collector)["pooltransport_connection_acquired_total"]) == 1
        assert [record.message for record in caplog.records] == [
            "a transport is left out of the metrics: RuntimeError('broken on purpose')"
        ]

    def test_nothing_is_raised_whatever_breaks(self, monkeypatch, caplog):
        collector = PoolCollector()
        monkeypatch.setattr(census, "clients", lambda: 1 / 0)
        assert collector.collect() == []
        assert "cannot be collected" in caplog.text

    @pytest.mark.parametrize(
        ("options", "word"),
        [
            ({"status": "text"}, "status"),
            ({"max_hosts": 0}, "max_hosts"),
            ({"max_hosts": True}, "max_hosts"),
            ({"max_hosts": 1.5, "status": ""}, r"PTC110\]\nmax_hosts=1.5"),
            ({"directory": "/nowhere"}, "directory"),
        ],
    )
    def test_values_that_cannot_be(self, options, word):
        with pytest.raises(pt.ConfigError, match=word):
            PoolCollector(**options)

    @pytest.mark.parametrize(
        ("module", "missing", "extra"),
        [("prometheus", "prometheus_client", "prometheus"), ("otel", "opentelemetry", "otel")],
    )
    def test_a_missing_extra_is_named(self, module, missing, extra):
        code = (
            f"import sys; sys.modules[{missing!r}] = None\n"
            f"try:\n    import pooltransport.observe.{module}\n"
            f"except ImportError as error:\n    print(error)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
        assert f"pip install pooltransport[{extra}]" in done.stdout
