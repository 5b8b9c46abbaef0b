"""One line for each request, whatever becomes of it; and nothing in it that is nobody's business."""

from __future__ import annotations

import gc
import logging
import sys
import threading

import pytest
from opentelemetry.sdk.trace import TracerProvider

import pooltransport as pt
from pooltransport.observe import access_log
from pooltransport.observe.access_log import AccessLog, AsyncAccessLog
from tests.support.colours import run_colour
from tests.support.logs import extras, recorded
from tests.support.responders import (
    big,
    chunked,
    echo,
    in_turn,
    no_response_close,
    ok,
    raw,
    stall,
    until_close,
)

NAME = "pooltransport.access"
TIMES = {f"{name}_ms" for name in ("queue", "dns", "connect", "tls", "first_byte", "body", "total")}
FIELDS = {"pool_name", "method", "origin", "server_address", "server_port", "status_code", "outcome", "error"}
FIELDS |= {"retries", "trace_id", "reused", "bytes_sent", "bytes_received", *TIMES}


def logged(c, **options):
    """Wrap the transport of the colour."""
    return (AccessLog if c.sync else AsyncAccessLog)(c.transport, **options)


def lines_of(colour, body, **options):
    """Run ``body(c, log)`` and return the fields of each line, in order."""
    with recorded(NAME) as records:

        async def run(c):
            await body(c, logged(c))

        run_colour(colour, run, **options)
    found = [extras(record) for record in records.records]
    assert all(set(fields) == FIELDS for fields in found)
    for record, fields in zip(records.records, found, strict=True):
        assert "secret" not in record.getMessage() + str(fields)
        assert record.levelno == logging.INFO
    return found


def secret(url: str, method: str = "GET", **fields) -> pt.Request:
    """Ask for what no line may show."""
    where = url.replace("://", "://secret:secret@") + "/secret?secret=secret"
    return pt.Request(method, where, headers={"X-Secret": "secret"}, **fields)


class TestOutcomes:
    def test_read(self, colour, server_factory):
        server = server_factory(ok())

        async def body(c, log):
            for _ in range(2):
                response = await c.round_trip(secret(server.url), log)
                assert await c.read(response) == b"hello"

        first, second = lines_of(colour, body, name="billing")
        for fields in (first, second):
            assert fields["pool_name"] == "billing"
            assert fields["method"] == "GET"
            assert fields["origin"] == server.url
            assert (fields["server_address"], fields["server_port"]) == ("127.0.0.1", server.port)
            assert (fields["status_code"], fields["outcome"], fields["error"]) == (200, "complete", None)
            assert fields["bytes_received"] == 5
            assert fields["bytes_sent"] > 60
            assert fields["retries"] == 0
            assert fields["total_ms"] >= fields["body_ms"] >= 0.0
            assert fields["total_ms"] >= fields["first_byte_ms"] > 0.0
            assert fields["tls_ms"] is None
        assert (first["reused"], second["reused"]) == (False, True)
        assert first["connect_ms"] > 0.0
        assert second["connect_ms"] is None
        assert 0.0 <= second["queue_ms"] <= second["total_ms"]

    def test_no_body(self, colour, server_factory):
        server = server_factory(raw(b"HTTP/1.1 204 No Content\r\n\r\n"))

        async def body(c, log):
            await c.round_trip(secret(server.url), log)

        (fields,) = lines_of(colour, body)
        assert (fields["status_code"], fields["outcome"], fields["bytes_received"]) == (204, "complete", 0)

    def test_a_body_is_sent(self, colour, server_factory):
        server = server_factory(echo)

        async def body(c, log):
            response = await c.round_trip(secret(server.url, "POST", content=b"x" * 200_000), log)
            await c.read(response)
            response = await c.round_trip(
                secret(server.url, "POST", content=[b"x" * 1000] * 3)
                if c.sync
                else secret(server.url, "POST", content=b"x" * 3000),
                log,
            )
            await c.read(response)

        first, second = lines_of(colour, body)
        assert 200_050 < first["bytes_sent"] < 200_500
        assert first["bytes_received"] == 200_000
        assert 3_050 < second["bytes_sent"] < 3_500

    def test_closed_early(self, colour, server_factory):
        server = server_factory(big(1_000_000))

        async def body(c, log):
            await c.close(await c.round_trip(secret(server.url), log))

        (fields,) = lines_of(colour, body)
        assert (fields["status_code"], fields["outcome"], fields["error"]) == (200, "closed", None)

    def test_drained_in_the_background(self, colour, server_factory):
        server = server_factory(chunked(b"x" * 1000, b"y" * 1000))

        async def body(c, log):
            await c.close(await c.round_trip(secret(server.url), log))
            await c.wait_until(lambda: c.transport.stats().idle)

        (fields,) = lines_of(colour, body, drain_timeout=5.0)
        assert fields["outcome"] == "closed"

    @pytest.mark.filterwarnings("ignore::ResourceWarning")
    def test_dropped(self, colour, server_factory):
        server = server_factory(big(1_000_000))

        async def body(c, log):
            await c.round_trip(secret(server.url), log)
            gc.collect()
            c.transport.stats()

        (fields,) = lines_of(colour, body)
        assert (fields["status_code"], fields["outcome"], fields["bytes_received"]) == (200, "dropped", 0)
        assert fields["total_ms"] >= 0.0

    def test_cut_off(self, colour, server_factory):
        server = server_factory(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", then_close=True))

        async def body(c, log):
            response = await c.round_trip(secret(server.url), log)
            with pytest.raises(pt.IncompleteBody):
                await c.read(response)

        (fields,) = lines_of(colour, body)
        assert (fields["status_code"], fields["outcome"], fields["error"]) == (200, "failed", "protocol_error")
        assert fields["bytes_received"] == 4

    def test_no_answer(self, colour, server_factory):
        server = server_factory(no_response_close)

        async def body(c, log):
            with pytest.raises(pt.ServerClosedConnection):
                await c.round_trip(secret(server.url, "POST", content=b"x"), log)

        (fields,) = lines_of(colour, body)
        assert (fields["status_code"], fields["outcome"], fields["error"]) == (None, "failed", "ServerClosedConnection")
        assert fields["bytes_sent"] > 60
        assert fields["body_ms"] is fields["first_byte_ms"] is None

    def test_too_late(self, colour, server_factory):
        stop = threading.Event()
        server = server_factory(stall(stop))
        server.release_on_stop(stop)

        async def body(c, log):
            response = await c.round_trip(secret(server.url, timeout=pt.Timeout(read=0.05)), log)
            with pytest.raises(pt.ReadTimeout):
                await c.read(response)

        (fields,) = lines_of(colour, body)
        assert (fields["outcome"], fields["error"]) == ("failed", "body_timeout")
        assert fields["body_ms"] >= 40.0

    def test_no_connection(self, colour, server_factory):
        server = server_factory(big(1_000_000))

        async def body(c, log):
            kept = await c.get(server.url)
            with pytest.raises(pt.PoolTimeout):
                await c.round_trip(secret(server.url, timeout=pt.Timeout(acquire=0.05)), log)
            await c.close(kept)

        (fields,) = lines_of(colour, body, max_conns_per_host=1)
        assert (fields["outcome"], fields["error"], fields["reused"]) == ("failed", "PoolTimeout", None)
        assert fields["queue_ms"] >= 45.0

    def test_cancelled(self, loop_colour, server_factory):
        stop = threading.Event()
        server = server_factory(stall(stop, sent=0))
        server.release_on_stop(stop)

        async def body(c, log):
            async def ask():
                response = await c.round_trip(secret(server.url), log)
                await c.read(response)

            handle = await c.start(ask)
            await c.wait_until(lambda: server.requests == 1)
            await c.sleep(0.02)
            handle.cancel()
            await c.wait_until(lambda: handle.done)

        (fields,) = lines_of(loop_colour, body)
        assert fields["outcome"] == "failed"
        assert fields["error"] in {"CancelledError", "Cancelled", "cancelled"}


class TestTimes:
    def test_a_wait_is_no_dial(self, colour, server_factory):
        server = server_factory(until_close())

        async def body(c, log):
            kept = await c.get(server.url)

            async def ask():
                await c.read(await c.round_trip(secret(server.url), log))

            handle = await c.start(ask)
            await c.wait_until(lambda: c.transport.stats().waiting == 1)
            await c.sleep(0.05)
            await c.read(kept)
            await c.wait(handle)

        (fields,) = lines_of(colour, body, max_conns_per_host=1)
        assert fields["reused"] is False  # the server closes: it was dialed for this request, after the wait
        assert fields["queue_ms"] >= 45.0
        assert 0.0 < fields["connect_ms"] < fields["queue_ms"] + 1000.0
        assert fields["total_ms"] >= fields["queue_ms"] + fields["connect_ms"]

    def test_tls_and_look_up(self, colour, server_factory, server_ssl_context, client_ssl_context):
        server = server_factory(ok(), tls=server_ssl_context)

        async def body(c, log):
            await c.read(await c.round_trip(secret(server.url.replace("127.0.0.1", "localhost")), log))

        (fields,) = lines_of(colour, body, ssl_context=client_ssl_context)
        assert fields["dns_ms"] > 0.0
        assert fields["connect_ms"] > 0.0
        assert fields["tls_ms"] > 0.0
        assert fields["server_address"] == "localhost"

    def test_a_stale_connection_is_tried_again(self, colour, server_factory):
        server = server_factory(in_turn(ok(), no_response_close, ok()))

        async def body(c, log):
            await c.fetch(server.url)
            await c.read(await c.round_trip(secret(server.url), log))

        (fields,) = lines_of(colour, body)
        assert (fields["retries"], fields["reused"], fields["outcome"]) == (1, False, "complete")


class TestUse:
    def test_under_a_client(self, colour, server_factory):
        server = server_factory(ok())
        told = []

        async def body(c, log):
            trace = pt.ClientTrace(got_conn=told.append)
            client = c.make_client(transport=log, base_url=server.url, trace=trace)
            block = pt.ClientTrace(got_conn=told.append)
            with pt.client_trace(block):
                assert (await c.call(client.get, "/secret", trace=block)).content == b"hello"
            assert log.stats().idle == 1
            log.close_idle_connections()
            assert log.stats(detail=True).idle_list == ()

        (fields,) = lines_of(colour, body)
        assert fields["outcome"] == "complete"
        assert len(told) == 3

    def test_closes_what_is_under_it(self, colour, server_factory):
        server = server_factory(ok())

        async def body(c, log):
            if c.sync:
                with log as entered:
                    await c.read(entered.round_trip(secret(server.url)))
            else:
                async with log as entered:
                    await c.read(await entered.round_trip(secret(server.url)))
            with pytest.raises(pt.TransportClosed):
                await c.round_trip(secret(server.url), log)
            await c.close_transport(log)

        _, failed = lines_of(colour, body)
        assert failed["error"] == "TransportClosed"

    def test_over_what_is_no_pool(self):
        """A double that answers itself: nothing is told of it but its status."""

        class Answer:
            status_code = 304

        class Cache:
            closed = False

            def round_trip(self, request):
                return Answer()

            def close(self):
                self.closed = True

        cache = Cache()
        with recorded(NAME) as records, AccessLog(cache) as log:
            assert log.round_trip(secret("http://host.test")).status_code == 304
        assert cache.closed
        (fields,) = map(extras, records.records)
        assert (fields["status_code"], fields["outcome"], fields["reused"]) == (304, "complete", None)

    def test_another_logger(self, server_factory):
        server = server_factory(ok())
        with recorded("mine") as records, pt.Transport() as transport:
            AccessLog(transport, "mine").round_trip(secret(server.url)).read()
            AccessLog(transport, logging.getLogger("mine")).round_trip(secret(server.url)).read()
            assert len(records.records) == 2

    def test_a_disabled_one_binds_no_trace(self, colour, server_factory):
        server = server_factory(ok())
        asked = []

        async def body(c):
            log = logged(c, trace_id=lambda: asked.append(1))
            await c.read(await c.round_trip(secret(server.url), log))
            (lease,) = [await c.round_trip(secret(server.url), log)]
            await c.close(lease)

        with recorded(NAME, logging.WARNING) as records:
            run_colour(colour, body)
        assert records.records == []
        assert asked == []

    def test_the_text(self, server_factory):
        server = server_factory(ok())
        with recorded(NAME) as records, pt.Transport() as transport:
            log = AccessLog(transport, trace_id=lambda: "4bf9")
            log.round_trip(secret(server.url)).read()
            with pytest.raises(pt.PoolTimeout), pt.Transport(max_conns=1) as small:
                held = AccessLog(small)
                with small.round_trip(secret(server.url)):
                    held.round_trip(secret(server.url, timeout=pt.Timeout(acquire=0.01)))
        first, second = [record.getMessage() for record in records.records]
        words = first.split()
        assert words[:5] == ["GET", server.url, "200", "complete", "new"]
        names = [word.partition("=")[0] for word in words[5:]]
        assert names == [
            "queue",
            "dns",
            "connect",
            "tls",
            "first_byte",
            "body",
            "total",
            "sent",
            "received",
            "retries",
            "trace",
        ]
        assert words[-1] == "trace=4bf9"
        assert words[-3] == "received=5"
        assert second.split()[:5] == ["GET", server.url, "PoolTimeout", "failed", "-"]

    def test_a_logger_that_raises_breaks_no_request(self, colour, server_factory, monkeypatch):
        server = server_factory(raw(b"HTTP/1.1 204 No Content\r\n\r\n"))
        unraisable = []
        monkeypatch.setattr(sys, "unraisablehook", lambda found: unraisable.append(found.exc_type))

        def refuse(record):
            raise ZeroDivisionError

        async def body(c):
            assert (await c.round_trip(secret(server.url), logged(c))).status_code == 204

        with recorded(NAME) as records:
            records.addFilter(refuse)
            run_colour(colour, body)
        assert unraisable == [ZeroDivisionError]

    def test_a_traced_response_can_be_collected(self, server_factory):
        """The trace is held by the connection: it must not hold the response."""
        server = server_factory(big(1_000_000))
        with recorded(NAME), pt.Transport() as transport:
            log = AccessLog(transport)
            before = transport.stats().leaks
            log.round_trip(secret(server.url))
            with pytest.warns(ResourceWarning, match="response never closed"):
                assert transport.stats().leaks == before + 1


class TestTraceId:
    def test_of_open_telemetry(self, server_factory):
        server = server_factory(ok())
        tracer = TracerProvider().get_tracer("test")
        with recorded(NAME) as records, pt.Transport() as transport:
            log = AccessLog(transport)
            with tracer.start_as_current_span("work") as span:
                response = log.round_trip(secret(server.url))
            response.read()  # where the span has ended
            log.round_trip(secret(server.url)).read()
        wanted = f"{span.get_span_context().trace_id:032x}"
        assert [record.trace_id for record in records.records] == [wanted, None]

    def test_without_it(self, monkeypatch):
        monkeypatch.delitem(access_log.sys.modules, "opentelemetry.trace", raising=False)
        assert access_log.otel_trace_id() is None

    def test_one_that_raises(self, server_factory):
        server = server_factory(ok())

        def broken():
            raise ZeroDivisionError

        with recorded(NAME) as records, pt.Transport(name="billing") as transport:
            log = AccessLog(transport, trace_id=broken)
            for _ in range(2):
                log.round_trip(secret(server.url)).read()
        first, *lines = records.records
        assert first.levelno == logging.WARNING
        assert extras(first) == {"pool_name": "billing", "hook": "trace_id"}
        assert [line.trace_id for line in lines] == [None, None]
