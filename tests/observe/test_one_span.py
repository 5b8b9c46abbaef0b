"""One request, one span: whoever makes it, and however many would."""

from __future__ import annotations

import threading

import pytest
from opentelemetry import context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import pooltransport as pt
from pooltransport import observers
from pooltransport.observe import otel
from tests.support.colours import run_colour
from tests.support.responders import ok, slow


@pytest.fixture
def provider():
    made = TracerProvider()
    made.exporter = InMemorySpanExporter()
    made.add_span_processor(SimpleSpanProcessor(made.exporter))
    yield made
    otel.uninstrument()
    made.shutdown()


def finished(provider):
    return provider.exporter.get_finished_spans()


def client_span(provider, **attributes):
    """As the instrumentation of a client above would begin it."""
    return provider.get_tracer("above").start_as_current_span("GET", kind=SpanKind.CLIENT, attributes=attributes)


class TestInstrumentSpans:
    def test_every_transport(self, colour, server_factory, provider):
        server = server_factory(ok(status="404 Not Found"))
        otel.instrument_spans(provider)

        async def body(c):
            with provider.get_tracer("app").start_as_current_span("parent"):
                await c.fetch(server.url, headers={"X-Mine": "1"})

        run_colour(colour, body)
        span, parent = finished(provider)
        assert (span.name, span.kind, span.parent.span_id) == ("GET", SpanKind.CLIENT, parent.context.span_id)
        assert span.attributes["http.response.status_code"] == 404
        assert span.attributes["server.port"] == server.port
        assert span.status.status_code is StatusCode.ERROR
        _, trace_id, span_id, _ = server.log[0].header("traceparent").split("-")
        assert (int(trace_id, 16), int(span_id, 16)) == (span.context.trace_id, span.context.span_id)
        assert server.log[0].header("x-mine") == "1"

    def test_errors(self, colour, provider):
        otel.instrument_spans(provider)

        async def body(c):
            with pytest.raises(pt.ConnectError):
                await c.fetch("http://127.0.0.1:1/")

        run_colour(colour, body)
        (span,) = finished(provider)
        assert (span.attributes["error.type"], span.status.status_code) == ("ConnectError", StatusCode.ERROR)

    def test_waits(self, colour, server_factory, provider):
        go = threading.Event()
        server = server_factory(slow(go))
        otel.instrument_spans(provider)

        async def body(c):
            first = await c.start(lambda: c.fetch(server.url))
            await c.wait_until(lambda: server.requests == 1)
            second = await c.start(lambda: c.fetch(server.url))
            await c.wait_until(lambda: c.transport.stats().waiting == 1)
            go.set()
            await c.wait(first)
            await c.wait(second)

        run_colour(colour, body, max_conns_per_host=1)
        names = sorted(span.name for span in finished(provider))
        assert names == ["GET", "GET", f"HTTP wait_for_connection 127.0.0.1:{server.port}"]

    def test_a_cancelled_request_ends_its_span(self, loop_colour, server_factory, provider):
        server = server_factory(slow(threading.Event()))
        otel.instrument_spans(provider)

        async def body(c):
            handle = await c.start(lambda: c.fetch(server.url))
            await c.wait_until(lambda: server.requests == 1)
            handle.cancel()
            await c.wait_until(lambda: handle.done)

        run_colour(loop_colour, body)
        (span,) = finished(provider)
        assert span.attributes["error.type"] in {"CancelledError", "Cancelled"}

    def test_twice_is_once(self, server_factory, provider):
        server = server_factory(ok())
        otel.instrument_spans(provider)
        made = otel.instrument_spans(provider)
        with pt.Transport() as transport:
            transport.round_trip(pt.Request("GET", server.url)).read()
            made.uninstrument()
            transport.round_trip(pt.Request("GET", server.url)).read()
        assert len(finished(provider)) == 1
        assert observers.anybody == ()
        assert server.log[1].header("traceparent") is None

    def test_the_caller_s_request_is_not_changed(self, server_factory, provider):
        server = server_factory(ok())
        otel.instrument_spans(provider)
        request = pt.Request("POST", server.url, headers={"traceparent": "mine"}, content=iter([b"ab"]))
        with pt.Transport() as transport:
            response = transport.round_trip(request)
            response.read()
        assert response.request is not request
        assert request.headers.multi_items() == [("traceparent", "mine")]
        assert server.log[0].body == b"ab"


class TestNeverTwo:
    @pytest.mark.parametrize("key", ["url.full", "http.url"])
    def test_a_span_of_the_client_above(self, colour, server_factory, provider, key):
        """Its words are those of the new convention or of the old; the query may be cut off, or not."""
        server = server_factory(ok())
        otel.instrument_spans(provider)

        async def body(c):
            with client_span(provider, **{key: f"{server.url}/a?b=c"}):
                await c.fetch(f"{server.url}/a?b=d")
            traced = (otel.TracedTransport if c.sync else otel.AsyncTracedTransport)(c.transport)
            with client_span(provider, **{key: f"{server.url}/a"}):
                await c.read(await c.round_trip(pt.Request("GET", f"{server.url}/a"), traced))

        run_colour(colour, body)
        assert len(finished(provider)) == 2
        assert {span.instrumentation_scope.name for span in finished(provider)} == {"above"}

    def test_a_traced_transport_and_the_observer(self, colour, server_factory, provider):
        server = server_factory(ok())
        otel.instrument_spans(provider)

        async def body(c):
            kind = otel.TracedTransport if c.sync else otel.AsyncTracedTransport
            traced = kind(kind(c.transport, provider.get_tracer("inner")), provider.get_tracer("outer"))
            await c.read(await c.round_trip(pt.Request("GET", server.url), traced))

        run_colour(colour, body)
        (span,) = finished(provider)
        assert span.instrumentation_scope.name == "outer"
        assert span.attributes["http.response.status_code"] == 200

    def test_waits_are_children_of_the_span_that_is_there(self, server_factory, provider):
        go = threading.Event()
        server = server_factory(slow(go))
        otel.instrument_spans(provider)
        with pt.Transport(max_conns_per_host=1) as transport:

            def get():
                transport.round_trip(pt.Request("GET", server.url)).read()

            def get_below_a_span():
                with client_span(provider, **{"url.full": server.url}):
                    get()

            threads = [threading.Thread(target=get)]
            threads[0].start()
            server.wait_for_requests(1)
            threads.append(threading.Thread(target=get_below_a_span))
            threads[1].start()
            server.wait_until(lambda: transport.stats().waiting == 1)
            go.set()
            for thread in threads:
                thread.join()
        spans = {span.context.span_id: span for span in finished(provider)}
        (wait,) = [span for span in spans.values() if "wait_for_connection" in span.name]
        assert spans[wait.parent.span_id].instrumentation_scope.name == "above"
        assert len(spans) == 3


class TestAParentIsNone:
    @pytest.mark.parametrize(
        "attributes",
        [
            {},
            {"gen_ai.system": "x"},
            {"url.full": "http://127.0.0.1:1/other"},
            {"url.full": "no address"},
            {"url.full": 7},
        ],
    )
    def test_a_span_for_something_else(self, server_factory, provider, attributes):
        server = server_factory(ok())
        otel.instrument_spans(provider)
        with pt.Transport() as transport, client_span(provider, **attributes):
            transport.round_trip(pt.Request("GET", server.url)).read()
        inner, outer = finished(provider)
        assert inner.parent.span_id == outer.context.span_id

    def test_a_servers_span_for_the_same_address(self, server_factory, provider):
        server = server_factory(ok())
        otel.instrument_spans(provider)
        with (
            pt.Transport() as transport,
            provider.get_tracer("x").start_as_current_span(
                "GET", kind=SpanKind.SERVER, attributes={"url.full": server.url}
            ),
        ):
            transport.round_trip(pt.Request("GET", server.url)).read()
        assert len(finished(provider)) == 2


@pytest.mark.parametrize(
    "key",
    [
        "suppress_instrumentation",
        context._SUPPRESS_INSTRUMENTATION_KEY,
        context._SUPPRESS_HTTP_INSTRUMENTATION_KEY,
    ],
    ids=["by its name", "all", "http"],  # the keys are made anew in each process
)
def test_suppressed_is_nothing_at_all(server_factory, provider, key):
    server = server_factory(ok())
    otel.instrument_spans(provider)
    token = context.attach(context.set_value(key, True))
    try:
        with pt.Transport() as transport:
            transport.round_trip(pt.Request("GET", server.url)).read()
            traced = otel.TracedTransport(transport, provider.get_tracer("x"))
            traced.round_trip(pt.Request("GET", server.url)).read()
    finally:
        context.detach(token)
    assert finished(provider) == ()
    assert [request.header("traceparent") for request in server.log] == [None, None]
    assert trace.get_current_span() is trace.INVALID_SPAN
