"""A span for each request, in three colours."""

from __future__ import annotations

import threading

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import pooltransport as pt
from pooltransport.observe.otel import AsyncTracedTransport, TracedTransport
from tests.support.colours import run_colour
from tests.support.responders import Responder, close_after, head, ok, slow


@pytest.fixture
def spans():
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider.get_tracer("test"), exporter
    provider.shutdown()


def traced(c, tracer, transport=None):
    return (TracedTransport if c.sync else AsyncTracedTransport)(transport or c.transport, tracer)


@Responder
def by_path(conn, request):
    """Answer with the status that the path names."""
    conn.send(head(f"{request.target.strip('/').partition('?')[0]} Some", length=5) + b"hello")


def test_a_request(colour, server_factory, spans):
    tracer, exporter = spans
    server = server_factory(by_path)

    async def body(c):
        client = c.make_client(transport=traced(c, tracer))
        with tracer.start_as_current_span("parent"):
            response = await c.call(client.get, f"http://user:secret@127.0.0.1:{server.port}/200?token=secret")
            assert response.text == "hello"
        assert client.stats().idle == 1
        await c.close(client)

    run_colour(colour, body)
    span, parent = exporter.get_finished_spans()
    assert (span.name, span.kind, span.parent.span_id) == ("GET", SpanKind.CLIENT, parent.context.span_id)
    assert dict(span.attributes) == {
        "http.request.method": "GET",
        "server.address": "127.0.0.1",
        "server.port": server.port,
        "url.full": f"{server.url}/200",
        "http.response.status_code": 200,
        "network.protocol.version": "1.1",
    }
    assert span.status.status_code is StatusCode.UNSET
    assert not span.events
    # The server is told which span it belongs to.
    _, trace_id, span_id, _ = server.log[0].header("traceparent").split("-")
    assert (int(trace_id, 16), int(span_id, 16)) == (span.context.trace_id, span.context.span_id)
    assert server.log[0].header("authorization") is None or "secret" not in server.log[0].header("authorization")


def test_statuses_and_errors(colour, server_factory, spans):
    tracer, exporter = spans
    server = server_factory(by_path)

    async def body(c):
        client = c.make_client(transport=traced(c, tracer))
        await c.call(client.get, f"{server.url}/404")
        await c.call(client.request, "BREW", f"{server.url}/200")
        with pytest.raises(pt.ConnectError):
            await c.call(client.get, "http://127.0.0.1:1/")

    run_colour(colour, body)
    missing, brewed, refused = exporter.get_finished_spans()
    assert (missing.status.status_code, missing.attributes["error.type"]) == (StatusCode.ERROR, "404")
    assert brewed.name == "HTTP"
    assert brewed.attributes["http.request.method"] == "_OTHER"
    assert brewed.attributes["http.request.method_original"] == "BREW"
    assert (refused.status.status_code, refused.attributes["error.type"]) == (StatusCode.ERROR, "ConnectError")
    assert "Connection refused" in refused.status.description
    assert "http.response.status_code" not in refused.attributes


def test_it_ends_with_the_headers_and_not_with_the_body(colour, server_factory, spans):
    tracer, exporter = spans
    server = server_factory(ok(b"x" * 300_000))

    async def body(c):
        response = await c.round_trip(pt.Request("GET", server.url), traced(c, tracer))
        assert len(exporter.get_finished_spans()) == 1
        assert trace.get_current_span() is trace.INVALID_SPAN
        assert len(await c.read(response)) == 300_000

    run_colour(colour, body)


def test_waiting_for_a_connection_is_a_span_only_if_it_waited(colour, server_factory, spans):
    tracer, exporter = spans
    go = threading.Event()
    server = server_factory(slow(go))

    async def body(c):
        transport = traced(c, tracer)

        async def get():
            return await c.read(await c.round_trip(pt.Request("GET", server.url), transport))

        first = await c.start(get)
        await c.wait_until(lambda: server.requests == 1)
        second = await c.start(get)
        await c.wait_until(lambda: c.transport.stats().waiting == 1)
        go.set()
        await c.wait(first)
        await c.wait(second)

    run_colour(colour, body, max_conns_per_host=1)
    found = exporter.get_finished_spans()
    waits = [span for span in found if span.name != "GET"]
    assert [span.name for span in waits] == [f"HTTP wait_for_connection 127.0.0.1:{server.port}"]
    requests = {span.context.span_id: span for span in found if span.name == "GET"}
    assert len(requests) == 2
    request = requests[waits[0].parent.span_id]
    assert request.start_time <= waits[0].start_time <= waits[0].end_time <= request.end_time
    assert waits[0].attributes["pooltransport.acquire.outcome"] == "handed_over"


def test_a_stale_connection_is_an_event(colour, server_factory, spans):
    """The server ends the connection in the moment it is used again: the retry is told, the span is one."""
    tracer, exporter = spans
    server = server_factory(close_after(2))

    async def body(c):
        client = c.make_client(transport=traced(c, tracer))
        for _ in range(6):
            await c.call(client.get, server.url)

    run_colour(colour, body)
    found = exporter.get_finished_spans()
    assert len(found) == 6
    assert {event.name for span in found for event in span.events} <= {"retry"}
    assert all(span.status.status_code is StatusCode.UNSET for span in found)


def test_a_cancelled_request_ends_its_span(loop_colour, server_factory, spans):
    tracer, exporter = spans
    server = server_factory(slow(threading.Event()))

    async def body(c):
        async def get():
            await c.round_trip(pt.Request("GET", server.url), traced(c, tracer))

        handle = await c.start(get)
        await c.wait_until(lambda: server.requests == 1)
        handle.cancel()
        await c.wait_until(lambda: handle.done)

    run_colour(loop_colour, body)
    (span,) = exporter.get_finished_spans()
    assert span.attributes["error.type"] in {"CancelledError", "Cancelled"}


def test_the_request_is_not_changed(server_factory, spans):
    tracer, _ = spans
    server = server_factory(ok())
    request = pt.Request(
        "POST", server.url, headers={"X-Mine": "1", "traceparent": "mine"}, content=iter([b"ab", b"c"])
    )
    with pt.Transport() as transport:
        TracedTransport(transport, tracer).round_trip(request).read()
    assert request.headers.multi_items() == [("X-Mine", "1"), ("traceparent", "mine")]
    (sent,) = server.log
    assert (sent.body, sent.header("x-mine")) == (b"abc", "1")
    assert sent.header("traceparent").startswith("00-"), "replaced, and not sent twice"


def test_without_an_sdk_nothing_is_sent(server_factory):
    server = server_factory(ok())
    with pt.Transport() as transport:
        pt.Client(transport=TracedTransport(transport, trace.NoOpTracer())).get(server.url)
    assert server.log[0].header("traceparent") is None


def test_closing_it_closes_what_is_inside(colour, spans):
    tracer, _ = spans

    async def body(c):
        transport = traced(c, tracer)
        await c.close(transport)
        with pytest.raises(pt.TransportClosed):
            await c.round_trip(pt.Request("GET", "http://127.0.0.1:1/"), transport)

    run_colour(colour, body)
