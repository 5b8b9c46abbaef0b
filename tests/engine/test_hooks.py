"""Hooks in the order of contract section 6, and what closing early tells and does."""

from __future__ import annotations

import pytest

from pooltransport import ClientTrace, Request
from pooltransport.stats import CloseReason, DrainOutcome
from pooltransport.testing.fakes import Answers
from tests.engine.scenarios import CHUNKS, OK, TLS, URL
from tests.engine.told import Told, request

COLD = [
    "get_conn",
    "dns_start",
    "dns_done",
    "connect_start",
    "connect_done",
    "tls_handshake_start",
    "tls_handshake_done",
    "got_conn",
    "wrote_header_field",  # Host
    "wrote_header_field",  # Accept-Encoding
    "wrote_headers",
    "wrote_request",
    "got_first_response_byte",
    "put_idle_conn",
    "body_closed",
]


def test_order_of_a_cold_request(make_world):
    world = make_world(Answers(OK), ssl_context=TLS)
    world.runtime.resolver.names["host.test"] = ["192.0.2.1"]
    told = Told()
    world.runtime.run(world.get("https://host.test/", trace=told.trace))
    assert told.names == COLD
    assert told.info("get_conn") == "host.test:443"
    assert told.info("dns_done").addresses == ("192.0.2.1:443",)
    assert told.info("tls_handshake_done").tls.server_hostname == "host.test"
    assert told.info("put_idle_conn") is None
    assert told.info("body_closed")[:3] == (2, 0, True)


def test_a_trace_of_the_request_comes_before_that_of_the_transport(make_world):
    order = []
    own = ClientTrace(get_conn=lambda _: order.append("transport"))
    world = make_world(Answers(OK), trace=own)
    world.runtime.run(world.get(trace=ClientTrace(get_conn=lambda _: order.append("request"))))
    assert order == ["request", "transport"]


def test_a_broken_hook_breaks_nothing(make_world, caplog):
    def broken(info):
        raise ZeroDivisionError

    world = make_world(Answers(OK))
    trace = ClientTrace(got_conn=broken, put_idle_conn=broken)
    for _ in range(2):
        assert world.runtime.run(world.get(trace=trace)) == b"hi"
    assert world.transport.stats().hook_errors == 4
    assert len(caplog.records) == 2  # once for each hook


def test_expect_continue(make_world):
    world = make_world(Answers(OK))
    told = Told()
    fields = {"headers": {"Expect": "100-continue"}, "content": b"x", "trace": told.trace}
    began = world.runtime.now()

    async def post():
        async with await world.transport.round_trip(request("POST", **fields)) as response:
            return await response.aread()

    assert world.runtime.run(post()) == b"hi"
    assert world.runtime.now() - began == pytest.approx(1.0)  # silence: the body is sent anyway
    names = told.names
    assert names.index("wrote_headers") < names.index("wait_100_continue") < names.index("wrote_request")


class TestClosingEarly:
    """`close` before the end: the rest is read away within bounds (design section 4: drain_limit, drain_timeout)."""

    @staticmethod
    def peek(world, told):
        async def peek():
            async with await world.transport.round_trip(request(trace=told.trace)) as response:
                async for _ in response.aiter_bytes():
                    return

        world.runtime.run(peek())

    @pytest.mark.parametrize("detaches", [True, False])
    def test_reused(self, make_world, detaches):
        world = make_world(Answers(CHUNKS), runtime={"detaches": detaches})
        told = Told()
        self.peek(world, told)
        world.runtime.run_until_idle()
        assert told.names[-3:] == ["drained", "put_idle_conn", "body_closed"]
        assert told.info("drained").outcome is DrainOutcome.REUSED
        assert told.info("put_idle_conn") is None
        assert world.transport.stats().idle == 1
        assert world.transport.stats().drains["reused"] == 1

    def test_the_lease_counts_until_it_is_drained(self, make_world):
        # contract 3.12
        world = make_world(Answers(CHUNKS[:2]))
        told = Told()
        self.peek(world, told)
        stats = world.transport.stats()
        assert (stats.draining, stats.leases, stats.open) == (1, 1, 1)
        world.runtime.streams[0].feed(CHUNKS[2])
        world.runtime.run_until_idle()
        stats = world.transport.stats()
        assert (stats.draining, stats.leases, stats.idle) == (0, 0, 1)

    def test_timeout(self, make_world):
        world = make_world(Answers(CHUNKS[:2]), drain_timeout=0.5)
        told = Told()
        self.peek(world, told)
        world.runtime.advance(0.49)
        assert world.transport.stats().draining == 1
        world.runtime.advance(0.02)
        assert told.info("drained").outcome is DrainOutcome.TIMEOUT
        assert told.info("put_idle_conn").reason is CloseReason.DRAIN_TIMEOUT
        assert world.runtime.open_streams == []

    @pytest.mark.parametrize(
        ("answer", "limit"),
        [
            ((b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\na",), 50),  # what is missing decides, unread
            ((b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n", b"60\r\n" + b"x" * 96 + b"\r\n"), 50),
            (CHUNKS, 0),
        ],
    )
    def test_limit(self, make_world, answer, limit):
        world = make_world(Answers(answer), drain_limit=limit)
        told = Told()
        self.peek(world, told)
        world.runtime.run_until_idle()
        assert told.info("drained").outcome is DrainOutcome.LIMIT
        assert told.info("put_idle_conn").reason is CloseReason.DRAIN_LIMIT
        assert world.transport.stats().drains["limit"] == 1
        assert world.runtime.open_streams == []

    def test_until_close_is_not_drained(self, make_world):
        world = make_world(Answers((b"HTTP/1.1 200 OK\r\n\r\nabc",)))
        told = Told()
        self.peek(world, told)
        assert told.info("put_idle_conn").reason is CloseReason.SERVER_CLOSE_HEADER
        assert "drained" not in told.names
        assert world.runtime.open_streams == []

    def test_a_dropped_response(self, make_world):
        world = make_world(Answers((b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na",)), max_conns_per_host=1)
        told = Told()
        response = world.runtime.run(world.transport.round_trip(Request("GET", URL, trace=told.trace)))
        del response
        world.runtime.run_until_idle()
        with pytest.warns(ResourceWarning, match="response never closed: GET http://192.0.2.1:80"):
            stats = world.transport.stats()  # a safe point (contract 3.2)
        assert (stats.leaks, stats.leases, stats.open, stats.closing) == (1, 0, 0, 0)
        assert told.info("leaked").status_code == 200

    def test_a_cancelled_read_ends_the_lease_at_once(self, make_world):
        """Without any closing by the user (contract 3.9)."""
        world = make_world(Answers((b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",)))
        response = world.runtime.run(world.transport.round_trip(request()))
        reading = world.runtime.start(response.aread())
        world.runtime.run_until_idle()
        reading.cancel()
        world.runtime.run_until_idle()
        stats = world.transport.stats()
        assert (stats.leases, stats.open, stats.closed) == (0, 0, {"cancelled": 1})
        assert response.is_closed


def test_fields_of_requests_that_are_alike_are_told_each_time(make_world):
    world = make_world(Answers(OK, OK, OK))
    told = []
    trace = ClientTrace(wrote_header_field=lambda info: told.append((info.name, info.values)))
    for headers in ({"X-A": "1"}, {"X-A": "1"}, {"X-A": "2"}):
        world.runtime.run(world.get(headers=headers, trace=trace))
    assert [value for name, value in told if name == "X-A"] == [("1",), ("1",), ("2",)]
    assert len(told) == 9


def test_only_the_size_of_the_header_is_wanted(make_world):
    world = make_world(Answers(OK))
    told = []
    world.runtime.run(world.get(trace=ClientTrace(wrote_headers=told.append)))
    assert told[0].size > 10
