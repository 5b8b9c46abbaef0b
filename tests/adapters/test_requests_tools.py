"""The tools around requests, over our adapter (`make test-sdks`): each works, or is refused with a sentence.

Tests that mock must never reach the network: here it is a server that fails the test when it is asked.
"""

from __future__ import annotations

import pytest
import requests

import pooltransport as pt
from tests.support.requests_kit import session_over
from tests.support.responders import Responder, ok

pytestmark = pytest.mark.sdks


@pytest.fixture
def forbidden(server_factory):
    """Give a server that nobody may ask."""
    server = server_factory(ok(b"from the network"))
    yield server
    assert server.requests == 0


class TestOpenTelemetry:
    def test_a_span_for_each_request_and_its_context_on_the_way(self, server_factory):
        from opentelemetry.instrumentation.requests import RequestsInstrumentor
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        provider, exporter = TracerProvider(), InMemorySpanExporter()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        server = server_factory(ok())
        RequestsInstrumentor().instrument(tracer_provider=provider)
        try:
            with session_over() as session:
                assert session.get(server.url + "/x").content == b"hello"
                with pytest.raises(requests.ConnectionError):
                    session.get("http://127.0.0.1:1/")
        finally:
            RequestsInstrumentor().uninstrument()
            provider.shutdown()
        good, bad = exporter.get_finished_spans()
        (request,) = server.log
        assert request.header("traceparent").split("-")[1] == f"{good.context.trace_id:032x}"
        assert good.status.is_ok or good.status.status_code.name == "UNSET"
        assert bad.status.status_code.name == "ERROR"

    def test_a_leak_is_named_by_the_line_below_the_instrumentation(self, server_factory, recwarn):
        from opentelemetry.instrumentation.requests import RequestsInstrumentor

        server = server_factory(ok(b"x" * 400_000))
        RequestsInstrumentor().instrument()
        try:
            with session_over() as session:
                session.get(server.url, stream=True)
                assert session.adapter.transport.stats().leaks == 1
        finally:
            RequestsInstrumentor().uninstrument()
        (said,) = [found for found in recwarn.list if found.category is pt.UnclosedResponseWarning]
        assert said.filename == __file__


class TestSentry:
    """It looks into `http.client`, which is not used here: no span and no breadcrumb comes by itself. An adapter of
    one's own makes them; errors have our cause in any case.
    """

    @pytest.fixture
    def sent(self):
        import sentry_sdk

        envelopes = []

        class Keep(sentry_sdk.transport.Transport):
            def capture_envelope(self, envelope):
                envelopes.extend(item.payload.json for item in envelope.items)

        sentry_sdk.init(dsn="http://key@127.0.0.1:1/1", transport=Keep, traces_sample_rate=1.0)
        yield envelopes
        sentry_sdk.init()

    def test_errors_have_our_cause(self, sent):
        import sentry_sdk

        with session_over() as session:
            try:
                session.get("http://127.0.0.1:1/")
            except requests.ConnectionError as error:
                sentry_sdk.capture_exception(error)
        (event,) = sent
        types = [row["type"] for row in event["exception"]["values"]]
        assert types[-2:] == ["ConnectError", "ConnectionError"]

    def test_spans_and_headers_by_an_adapter_of_ones_own(self, sent, server_factory):
        import sentry_sdk

        from pooltransport.adapters.requests import HTTPAdapter

        class Traced(HTTPAdapter):
            def send(self, request, *args, **kwargs):
                with sentry_sdk.start_span(op="http.client", name=f"{request.method} {request.url}"):
                    for name, value in sentry_sdk.get_current_scope().iter_trace_propagation_headers():
                        request.headers[name] = value
                    return super().send(request, *args, **kwargs)

        server = server_factory(ok())
        with requests.Session() as session, sentry_sdk.start_transaction(name="t"):
            session.trust_env = False
            session.mount("http://", Traced(name="tests"))
            session.get(server.url)
        (transaction,) = sent
        assert [span["op"] for span in transaction["spans"]] == ["http.client"]
        assert server.log[0].header("sentry-trace").startswith(transaction["contexts"]["trace"]["trace_id"])


class TestResponses:
    def test_answers(self, forbidden):
        import responses

        with session_over() as session, responses.RequestsMock() as mock:
            mock.add(responses.GET, forbidden.url + "/x", json={"mocked": True}, headers={"X-A": "1"})
            mock.add(responses.GET, forbidden.url + "/fails", body=requests.ConnectionError("made up"))
            response = session.get(forbidden.url + "/x", timeout=pt.Timeout(3))
            assert (response.json(), response.headers["x-a"]) == ({"mocked": True}, "1")
            with pytest.raises(requests.ConnectionError, match="made up"):
                session.get(forbidden.url + "/fails")
            with pytest.raises(requests.ConnectionError, match="Connection refused by Responses"):
                session.get(forbidden.url + "/not-mocked")

    def test_passes_through(self, server_factory):
        import responses

        server = server_factory(ok())
        with session_over() as session, responses.RequestsMock() as mock:
            mock.add_passthru(server.url)
            assert session.get(server.url).content == b"hello"

    def test_afterwards_ours_is_at_work_again(self, server_factory):
        import responses

        server = server_factory(ok())
        with session_over() as session:
            with responses.RequestsMock(assert_all_requests_are_fired=False):
                pass
            assert session.get(server.url).content == b"hello"
            assert session.adapter.transport.stats().idle == 1


class TestRequestsMock:
    def test_answers(self, forbidden):
        import requests_mock

        with session_over() as session, requests_mock.Mocker() as mock:
            mock.get(forbidden.url + "/x", text="mocked")
            assert session.get(forbidden.url + "/x").text == "mocked"
            with pytest.raises(requests_mock.NoMockAddress):
                session.get(forbidden.url + "/other")


class TestVcr:
    def test_records_once_and_plays(self, server_factory, tmp_path):
        import vcr

        answers = iter([b"first", b"second"])

        @Responder
        def count(conn, request):
            ok(next(answers)).respond(conn, request)

        server = server_factory(count)
        with session_over() as session:
            for _ in range(2):
                with vcr.use_cassette(str(tmp_path / "cassette.yaml")):
                    assert session.get(server.url).content == b"first"
            assert server.requests == 1
            with vcr.use_cassette(str(tmp_path / "cassette.yaml"), record_mode="none"):
                with pytest.raises(vcr.errors.CannotOverwriteExistingCassetteException):
                    session.get(server.url + "/new")
            assert session.get(server.url).content == b"second"  # and ours again
            assert session.adapter.transport.stats().idle == 1
