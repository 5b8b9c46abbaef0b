"""TIME: every clock, in every colour, and contract section 2 where Go has no clock."""

from __future__ import annotations

import asyncio
import re
import threading
import time

import pytest
import trio

import pooltransport as pt
from tests.support import responders
from tests.support.colours import run_colour
from tests.support.field import wait_quiet
from tests.support.lag import Lag
from tests.support.neighbours import Neighbours
from tests.support.responders import Responder, head, ok, slow, stall


async def fails(c, kind, call, *, phase, setting, seconds, late=0.1):
    """Await `call`, which must time out, and compare what the error says and when it came."""
    with Lag() as lag:
        with pytest.raises(pt.TransportTimeout) as caught:
            await call
    error = caught.value
    assert type(error) is kind, repr(error)
    assert isinstance(error, TimeoutError)
    assert (error.phase, error.setting, error.seconds) == (phase, setting, seconds)
    assert lag.within(seconds, late)
    await wait_quiet(c)
    return error


@pytest.mark.go("TIME-01")
def test_one_clock_over_all_addresses(colour):
    with Neighbours("127.0.0.2", "127.0.0.3") as hosts:
        for host in hosts.hosts:
            hosts.black_hole(host)

        async def body(c):
            call = c.get(hosts.url)
            error = await fails(c, pt.ConnectTimeout, call, phase="connect", setting="dial_timeout", seconds=0.5)
            assert [attempt.address for attempt in error.attempts] == [f"{host}:{hosts.port}" for host in hosts.hosts]
            assert re.search(rf"127.0.0.2:{hosts.port}: no answer within 0\.(5|4\d) s", str(error))
            assert f"127.0.0.3:{hosts.port}: no answer within 0.2" in str(error)

        run_colour(colour, body, resolver=hosts.resolve, dial_timeout=0.5)


@pytest.mark.go("TIME-01")
def test_each_address_has_its_share():
    """Two seconds, so in one colour; tests/engine/test_racing.py has the rule."""
    with Neighbours("127.0.0.2", "127.0.0.3") as hosts:
        hosts.black_hole("127.0.0.2")
        hosts.serve("127.0.0.3", ok())

        async def body(c):
            began = time.monotonic()
            assert await c.fetch(hosts.url) == b"hello"
            assert time.monotonic() - began == pytest.approx(2.0, abs=0.15)

        run_colour("threads", body, resolver=hosts.resolve, dial_timeout=4.0, happy_eyeballs_delay=None)


@pytest.mark.go("TIME-02")
def test_tls_handshake(colour, server_factory, client_ssl_context):
    server = server_factory(lambda conn: conn.read_to_end())

    async def body(c):
        call = c.get(f"https://127.0.0.1:{server.port}")
        await fails(c, pt.TLSHandshakeTimeout, call, phase="tls", setting="tls_handshake_timeout", seconds=0.25)
        await c.wait_until(lambda: server.accepted == 1 and server.open == 0)

    run_colour(colour, body, ssl_context=client_ssl_context, tls_handshake_timeout=0.25)


@pytest.mark.go("TIME-03")
def test_response_header(colour, server_factory):
    server = server_factory(responders.in_turn(slow(threading.Event()), ok()))

    async def body(c):
        call = c.get(server.url)
        setting = "response_header_timeout"
        await fails(c, pt.ResponseHeaderTimeout, call, phase="headers", setting=setting, seconds=0.3)
        await c.wait_until(lambda: server.open == 0)
        assert await c.fetch(server.url) == b"hello"
        assert c.transport.stats().closed == {"header_timeout": 1}

    run_colour(colour, body, response_header_timeout=0.3)


@pytest.mark.go("TIME-04")
def test_it_runs_from_the_end_of_the_request_to_the_header(colour, server_factory):
    """Neither a slow upload nor a slow body counts; informational answers do not extend it."""

    @Responder
    def respond(conn, request):
        if request.target == "/hints":
            for _ in range(6):
                conn.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
                if conn.server.wait_stopping(0.1):
                    return
        conn.send(head(length=2))
        if not conn.server.wait_stopping(0.5):
            conn.send(b"ok")

    server = server_factory(respond)

    def pieces():
        for _ in range(3):
            time.sleep(0.15)
            yield b"x"

    async def body(c):
        response = await c.request("POST", server.url, content=pieces())
        assert await c.read(response) == b"ok"
        call = c.get(f"{server.url}/hints")
        setting = "response_header_timeout"
        await fails(c, pt.ResponseHeaderTimeout, call, phase="headers", setting=setting, seconds=0.3)

    run_colour(colour, body, response_header_timeout=0.3)
    assert server.log[0].body == b"xxx"


@pytest.mark.go("TIME-05")
def test_queue_and_dial_are_outside_of_it(colour, server_factory):
    server = server_factory(ok())

    def resolver(host, port):
        time.sleep(0.4)
        return ["127.0.0.1"]

    async def body(c):
        url = f"http://slow.test:{server.port}"
        held = await c.get(url)
        waiting = await c.start(lambda: c.fetch(url))
        await c.sleep(0.4)
        await c.read(held)
        assert await c.wait(waiting) == b"hello"

    run_colour(colour, body, resolver=resolver, response_header_timeout=0.3, max_conns_per_host=1)


class TestClientTimeout:
    """Go's Client.Timeout is ``Client(timeout=)``: one deadline over everything."""

    @pytest.mark.go("TIME-06")
    def test_before_headers(self, colour, server_factory):
        server = server_factory(slow(threading.Event()))

        async def body(c):
            client = c.make_client(timeout=0.3)
            call = c.call(client.get, server.url)
            text = r"no response headers came within 0\.3 s \(timeout\), phase headers"
            with pytest.raises(pt.ResponseHeaderTimeout, match=text):
                await call
            await c.close(client)
            await wait_quiet(c)

        run_colour(colour, body)

    @pytest.mark.go("TIME-07")
    def test_in_the_body(self, colour, server_factory):
        server = server_factory(stall(threading.Event()))

        async def body(c):
            client = c.make_client(timeout=0.3)
            began = time.monotonic()
            with pytest.raises(pt.ReadTimeout, match=r"within 0\.3 s \(timeout\), phase body"):
                await c.call(client.get, server.url)
            assert time.monotonic() - began == pytest.approx(0.3, abs=0.1)
            await c.close(client)
            await wait_quiet(c)
            assert c.transport.stats().closed == {"body_timeout": 1}

        run_colour(colour, body)

    @pytest.mark.go("TIME-08", "TIME-10")
    def test_a_cancellation_is_told_as_such(self, loop_colour, server_factory):
        server = server_factory(slow(threading.Event()))

        async def body(c):
            handle = await c.start(lambda: c.get(server.url, timeout=5.0))
            await c.wait_until(lambda: server.requests == 1)
            handle.cancel()
            await c.wait_until(lambda: handle.done)
            cancelled = asyncio.CancelledError if c.name == "asyncio" else trio.Cancelled
            with pytest.raises(cancelled):
                handle.outcome()
            await wait_quiet(c)
            assert c.transport.stats().timeouts == {}

        run_colour(loop_colour, body)

    @pytest.mark.go("TIME-08")
    def test_what_has_ended_never_times_out(self, colour, server_factory):
        server = server_factory(ok())

        async def body(c):
            client = c.make_client(timeout=0.2)
            response = await c.call(client.get, server.url)
            await c.sleep(0.3)
            assert response.content == b"hello"
            assert await c.fetch(server.url) == b"hello"  # on the same connection
            await c.close(client)

        run_colour(colour, body)
        assert server.accepted == 1

    @pytest.mark.go("TIME-09")
    def test_a_transport_of_ones_own_sees_it(self, colour, server_factory):
        server = server_factory(ok())

        async def body(c):
            seen = []

            class Seeing:
                def round_trip(self, request):
                    seen.append(request.timeout.total)
                    return c.transport.round_trip(request)

            client = c.make_client(transport=Seeing(), timeout=7.0)
            await c.call(client.get, server.url)
            await c.call(client.get, server.url, timeout=3.0)
            await c.close(client)
            assert seen == [7.0, 3.0]

        run_colour(colour, body)

    @pytest.mark.go("TIME-10")
    def test_a_deadline_of_the_loop_is_the_loops_and_ours_is_ours(self, loop_colour, server_factory):
        server = server_factory(slow(threading.Event()))

        async def body(c):
            if c.name == "asyncio":
                with pytest.raises(TimeoutError) as caught:
                    async with asyncio.timeout(0.2):
                        await c.get(server.url)
                assert not isinstance(caught.value, pt.TransportTimeout)
            else:
                with trio.move_on_after(0.2) as scope:
                    await c.get(server.url)
                assert scope.cancelled_caught
            call = c.get(server.url, timeout=0.2)
            await fails(c, pt.ResponseHeaderTimeout, call, phase="headers", setting="timeout", seconds=0.2)
            assert c.transport.stats().timeouts == {"headers": 1}

        run_colour(loop_colour, body)


class TestClocksThatGoHasNot:
    """Contract section 2."""

    @pytest.mark.parametrize(
        ("options", "fields", "setting"),
        [({"acquire_timeout": 0.3}, {}, "acquire_timeout"), ({}, {"timeout": pt.Timeout(acquire=0.3)}, "acquire")],
    )
    def test_queue(self, colour, server_factory, options, fields, setting):
        server = server_factory(stall(threading.Event()))

        async def body(c):
            held = await c.get(server.url)
            began = time.monotonic()
            with pytest.raises(pt.PoolTimeout) as caught:
                await c.get(server.url, **fields)
            assert time.monotonic() - began == pytest.approx(0.3, abs=0.1)
            assert (caught.value.phase, caught.value.setting) == ("queue", setting)
            await c.close(held)

        run_colour(colour, body, max_conns_per_host=1, **options)

    @pytest.mark.parametrize(
        ("options", "fields", "setting"),
        [({"read_timeout": 0.3}, {}, "read_timeout"), ({}, {"timeout": pt.Timeout(read=0.3)}, "read")],
    )
    @pytest.mark.parametrize("phase", ["headers", "body"])
    def test_read(self, colour, server_factory, options, fields, setting, phase):
        event = threading.Event()
        server = server_factory(slow(event) if phase == "headers" else stall(event))

        async def body(c):
            call = c.fetch(server.url, **fields)
            await fails(c, pt.ReadTimeout, call, phase=phase, setting=setting, seconds=0.3)

        run_colour(colour, body, **options)

    @pytest.mark.parametrize(
        ("options", "fields", "setting"),
        [({"write_timeout": 0.3}, {}, "write_timeout"), ({}, {"timeout": pt.Timeout(write=0.3)}, "write")],
    )
    def test_write(self, colour, server_factory, options, fields, setting):
        release = threading.Event()
        server = server_factory(lambda conn: conn.wait_for(release))  # reads nothing

        async def body(c):
            call = c.request("POST", server.url, content=b"x" * 20_000_000, **fields)
            # It runs from the last byte taken, and the kernel takes some megabytes first.
            error = await fails(c, pt.WriteTimeout, call, phase="write", setting=setting, seconds=0.3, late=0.6)
            assert error.may_have_been_processed
            release.set()

        run_colour(colour, body, **options)

    def test_min_rate(self, colour, server_factory):
        server = server_factory(responders.drip(b"x" * 100, 0.05))

        async def body(c):
            call = c.fetch(server.url)
            await fails(c, pt.ReadTimeout, call, phase="body", setting="min_rate", seconds=0.4)

        run_colour(colour, body, min_rate=(1000, 0.4))

    def test_a_drip_does_not_defeat_the_total(self, colour, server_factory):
        server = server_factory(responders.drip(b"x" * 100, 0.05))

        async def body(c):
            call = c.fetch(server.url, timeout=0.4)
            await fails(c, pt.ReadTimeout, call, phase="body", setting="timeout", seconds=0.4)

        run_colour(colour, body)

    def test_nor_do_dripping_trailers(self, colour, server_factory):
        @Responder
        def respond(conn, request):
            conn.send(head("200 OK", ("Transfer-Encoding", "chunked")) + b"1\r\nx\r\n0\r\n")
            conn.send_pieces([b"X-%d: y\r\n" % number for number in range(100)], 0.05)

        server = server_factory(respond)

        async def body(c):
            call = c.fetch(server.url, timeout=0.4)
            await fails(c, pt.ReadTimeout, call, phase="body", setting="timeout", seconds=0.4)

        run_colour(colour, body)

    def test_a_total_takes_the_place_of_the_defaults(self, colour, server_factory):
        """The defaults of header and read, 60 s, are not waited for here: the options say which clocks run."""
        server = server_factory(slow(threading.Event()))

        async def body(c):
            error = await fails(
                c,
                pt.ResponseHeaderTimeout,
                c.get(server.url, timeout=0.3),
                phase="headers",
                setting="timeout",
                seconds=0.3,
            )
            assert error.may_have_been_processed

        run_colour(colour, body)
