"""The tools around httpx and httpx2, over the adapters: each works, or says why not. No mocked request leaves.

The table of docs/adapters.md is what this file tests.
"""

from __future__ import annotations

import importlib
import sys

import pytest

from tests.support.colours import run_colour
from tests.support.responders import ok

pytestmark = pytest.mark.sdks

NOWHERE = "http://service.example/x"


def no_dial(request):
    raise AssertionError(f"a mocked request reached the network: {request.host}")


def run(colour, body, **options):
    """With a transport that can reach nothing."""
    run_colour(colour, body, dial=no_dial, **options)


@pytest.fixture
def spans():
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider, exporter
    provider.shutdown()


def instrumentor_of(kit):
    module = importlib.import_module("opentelemetry.instrumentation.httpx")
    return module.HTTPXClientInstrumentor if kit.name == "httpx" else module.HTTPX2ClientInstrumentor


class TestOpenTelemetry:
    @staticmethod
    def check(server, exporter):
        (span,) = exporter.get_finished_spans()
        assert (span.name, span.kind.name) == ("GET", "CLIENT")
        _, trace_id, span_id, _ = server.log[0].header("traceparent").split("-")
        assert (int(trace_id, 16), int(span_id, 16)) == (span.context.trace_id, span.context.span_id)

    def test_global(self, colour, kit, server_factory, spans):
        provider, exporter = spans
        server = server_factory(ok())
        instrumentor = instrumentor_of(kit)()
        instrumentor.instrument(tracer_provider=provider)
        try:
            run_colour(colour, lambda c: kit.get(c, server.url))
        finally:
            instrumentor.uninstrument()
        self.check(server, exporter)

    def test_per_client(self, colour, kit, server_factory, spans):
        provider, exporter = spans
        server = server_factory(ok())

        async def body(c):
            client = kit.client(c)
            instrumentor_of(kit).instrument_client(client, tracer_provider=provider)
            await c.call(client.get, server.url)
            instrumentor_of(kit).uninstrument_client(client)
            await c.call(client.get, server.url)
            await c.close(client)

        run_colour(colour, body)
        self.check(server, exporter)
        assert server.log[1].header("traceparent") is None

    def test_a_traced_transport_of_ours_below_makes_no_second_span(self, colour, kit, server_factory, spans):
        from pooltransport.observe.otel import AsyncTracedTransport, TracedTransport

        provider, exporter = spans
        server = server_factory(ok())
        instrumentor = instrumentor_of(kit)()
        instrumentor.instrument(tracer_provider=provider)

        async def body(c):
            traced = (TracedTransport if c.sync else AsyncTracedTransport)(c.transport, provider.get_tracer("mine"))
            client = kit.client(c, kit.transport(c, traced))
            await c.call(client.get, server.url)
            await c.close(client)

        try:
            run_colour(colour, body)
        finally:
            instrumentor.uninstrument()
        self.check(server, exporter)


class TestSentry:
    def test_spans_breadcrumbs_and_headers(self, colour, kit, server_factory):
        import sentry_sdk

        server = server_factory(ok())
        events = []

        class Keep(sentry_sdk.transport.Transport):
            def capture_envelope(self, envelope):
                events.extend(item.payload.json for item in envelope.items)

        integration = importlib.import_module(f"sentry_sdk.integrations.{kit.name}")
        kind = integration.HttpxIntegration if kit.name == "httpx" else integration.Httpx2Integration
        with sentry_sdk.isolation_scope() as scope:
            scope.clear_breadcrumbs()  # it is a copy of the one outside, with what other tests did there
            sentry_sdk.init(
                dsn="http://key@127.0.0.1:1/1",
                transport=Keep,
                traces_sample_rate=1.0,
                default_integrations=False,
                integrations=[kind()],
            )
            try:
                with sentry_sdk.start_transaction(name="work", op="task"):
                    run_colour(colour, lambda c: kit.get(c, f"{server.url}/x"))
                    sentry_sdk.capture_message("after")
            finally:
                sentry_sdk.get_client().close()
                sentry_sdk.init()
        message = next(event for event in events if event.get("message") == "after")
        (crumb,) = [c for c in message["breadcrumbs"]["values"] if c["type"] == "http"]
        assert (crumb["data"]["http.response.status_code"], crumb["data"]["url"]) == (200, f"{server.url}/x")
        transaction = next(event for event in events if event.get("type") == "transaction")
        (span,) = [span for span in transaction["spans"] if span["op"] == "http.client"]
        assert server.log[0].header("sentry-trace").startswith(f"{span['trace_id']}-{span['span_id']}")


class TestRespx:
    """respx replaces httpcore's pools: the adapters tell it of theirs."""

    @pytest.fixture(autouse=True)
    def _unheard_of(self):
        """Let it know nothing of our pools, as when it was just imported."""
        from respx.mocks import HTTPCoreMocker

        from pooltransport.adapters._httpx.mocks import _POOLS

        HTTPCoreMocker.remove_targets(*_POOLS)

    def test_answers(self, colour, kit):
        import respx

        async def body(c):
            with respx.mock:
                route = respx.post(NOWHERE).respond(201, json={"mocked": True}, headers={"X-A": "b"})
                client = kit.client(c)
                response = await c.call(client.post, NOWHERE, content=b"sent")
                assert (response.status_code, response.json(), response.headers["x-a"]) == (201, {"mocked": True}, "b")
                assert (route.call_count, route.calls.last.request.content) == (1, b"sent")
                await c.close(client)

        run(colour, body)

    def test_what_no_route_takes(self, colour, kit):
        import respx

        async def body(c):
            with respx.mock(assert_all_called=False):
                client = kit.client(c)
                with pytest.raises(respx.models.AllMockedAssertionError):
                    await c.call(client.get, NOWHERE)
                await c.close(client)

        run(colour, body)

    def test_what_it_lets_through(self, colour, kit, server_factory):
        import respx

        server = server_factory(ok())

        async def body(c):
            with respx.mock:
                respx.route(host="127.0.0.1").pass_through()
                assert (await kit.get(c, server.url)).text == "hello"
            assert (await kit.get(c, server.url)).text == "hello", "and afterwards"

        run_colour(colour, body)
        assert server.requests == 2

    def test_errors(self, colour, kit):
        import respx

        async def body(c):
            with respx.mock:
                respx.get(NOWHERE).mock(side_effect=kit.lib.ConnectTimeout("mocked"))
                client = kit.client(c)
                with pytest.raises(kit.lib.ConnectTimeout, match="mocked"):
                    await c.call(client.get, NOWHERE)
                await c.close(client)

        run(colour, body)

    def test_its_other_way_to_mock(self, colour, kit):
        """``using="httpx"`` replaces the client's choice of a transport: of httpx's clients alone."""
        import respx

        async def body(c):
            with respx.mock(using="httpx", assert_all_called=False) as router:
                router.get(NOWHERE).respond(204)
                if kit.name == "httpx":
                    assert (await kit.get(c, NOWHERE)).status_code == 204
                else:
                    with pytest.raises(kit.lib.ConnectError):
                        await kit.get(c, NOWHERE)

        run(colour, body)


class TestPytestHttpx:
    def test_answers(self, colour, kit, request):
        httpx_mock = request.getfixturevalue("httpx_mock")

        async def body(c):
            if kit.name == "httpx":
                httpx_mock.add_response(url=NOWHERE, json=[1, 2])
                assert (await kit.get(c, NOWHERE)).json() == [1, 2]
                httpx_mock.add_exception(kit.lib.ReadTimeout("mocked"))
                with pytest.raises(kit.lib.ReadTimeout, match="mocked"):
                    await kit.get(c, NOWHERE)
            else:
                with pytest.raises(RuntimeError, match="pytest-httpx mocks httpx alone"):
                    await kit.get(c, NOWHERE)

        run(colour, body)

    def test_without_its_fixture_nothing_is_refused(self, colour, kit, server_factory):
        server = server_factory(ok())

        async def body(c):
            assert "pytest_httpx" in sys.modules
            assert (await kit.get(c, server.url)).text == "hello"

        run_colour(colour, body)


class TestVcr:
    def test_records_once_and_plays(self, colour, kit, server_factory, tmp_path):
        import vcr

        server = server_factory(ok(b'{"a": 1}', ("Content-Type", "application/json")))
        cassette = str(tmp_path / "c.yaml")

        async def record(c):
            with vcr.use_cassette(cassette):
                assert (await kit.get(c, f"{server.url}/x")).json() == {"a": 1}
            assert c.transport.stats().idle == 1

        async def play(c):
            with vcr.use_cassette(cassette, record_mode="none") as tape:
                response = await kit.get(c, f"{server.url}/x")
                assert (response.status_code, response.json(), tape.play_count) == (200, {"a": 1}, 1)
                with pytest.raises(vcr.errors.CannotOverwriteExistingCassetteException):
                    await kit.get(c, f"{server.url}/other")

        run_colour(colour, record)
        server.stop()
        run(colour, play)
        assert server.requests == 1


class TestMockTransport:
    """The libraries' own: it stands in the place of ours, and needs no word."""

    def test_answers(self, colour, kit):
        async def body(c):
            client = kit.client(c, kit.lib.MockTransport(lambda request: kit.lib.Response(204)))
            assert (await c.call(client.get, NOWHERE)).status_code == 204
            await c.close(client)

        run(colour, body)


def test_the_network_is_really_out_of_reach(colour, kit):
    """What the tests above rely on."""

    async def body(c):
        client = kit.client(c)
        with pytest.raises(kit.lib.ConnectError, match="reached the network"):
            await c.call(client.get, NOWHERE)
        await c.close(client)

    run(colour, body)
