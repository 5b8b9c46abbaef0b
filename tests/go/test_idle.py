"""Rows IDLE of Go's behaviour: what happens to connections that nobody uses."""

from __future__ import annotations

import threading
import time

import pytest

import pooltransport as pt
from pooltransport.testing.fakes import Answers, FakeRuntime, FakeTransport
from tests.support import kernel
from tests.support.colours import run_colour
from tests.support.field import wait_quiet
from tests.support.responders import head, ok, raw

HELLO = head(length=5) + b"hello"
UNASKED = b"HTTP/1.1 409 Conflict\r\nContent-Length: 0\r\n\r\n"
TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Told:
    """A server whose first connection does something, when told, behind its answer."""

    def __init__(self, server_factory, deed, before=0, **options):
        self.go, self.done = threading.Event(), threading.Event()

        def handler(conn):
            served = 0
            while conn.number > 1 or served < 1 - before:
                if conn.read_request() is None:
                    return
                conn.send(HELLO)
                served += 1
            conn.wait_for(self.go)
            deed(conn)
            self.done.set()
            if not conn.closed:
                conn.read_to_end()

        self.server = server_factory(handler, **options)

    def do(self):
        self.go.set()
        assert self.done.wait(5)


@pytest.mark.go("IDLE-01", "IDLE-02")
@pytest.mark.parametrize("deed", ["close", "reset", "half_close"])
def test_the_servers_end_is_noticed_without_a_request(colour, server_factory, deed):
    """At once on asyncio, within a second by the housekeeper on threads and trio."""
    told = Told(server_factory, lambda conn: getattr(conn, deed)())

    async def body(c):
        assert await c.fetch(told.server.url) == b"hello"
        assert c.transport.stats().idle == 1
        told.do()
        await c.wait_until(lambda: c.transport.stats().idle == 0, 3.0)
        assert c.transport.stats().closed["server_closed_idle"] == 1
        assert kernel.sockets_to(told.server.port, kernel.CLOSE_WAIT) == 0
        response = await c.request("POST", told.server.url, content=b"x", retry_stale=False)
        assert await c.read(response) == b"hello"
        assert not response.conn.reused

    run_colour(colour, body)


@pytest.mark.go("IDLE-02", "IDLE-03")
def test_or_by_the_request_that_takes_it(colour, server_factory):
    """The kernel is asked at check-out: nothing of the request is written on a dead connection."""
    told = Told(server_factory, lambda conn: conn.close())
    reasons = []
    trace = pt.ClientTrace(conn_closed=lambda info: reasons.append((info.reason.value, info.reason.sentence)))

    async def body(c):
        assert await c.fetch(told.server.url) == b"hello"
        told.do()
        response = await c.request("POST", told.server.url, content=b"x", retry_stale=False)
        assert await c.read(response) == b"hello"
        assert c.transport.stats().retries == 0
        assert reasons == [("server_closed_idle", "the server closed the idle connection")]

    run_colour(colour, body, trace=trace)


@pytest.mark.go("IDLE-03")
def test_an_end_that_crosses_the_request_is_tried_again(colour, server_factory):
    """It was taken a moment before: no answer came, and a GET goes out again."""

    def handler(conn):
        first = conn.number == 1
        while conn.read_request() is not None:
            if first and conn.requests == 2:
                return
            conn.send(HELLO)

    server = server_factory(handler)

    async def body(c):
        for _ in range(2):
            assert await c.fetch(server.url) == b"hello"
        assert c.transport.stats().retries == 1
        assert server.accepted == 2

    run_colour(colour, body)


@pytest.mark.go("IDLE-04")
@pytest.mark.parametrize("deed", ["close", "greet"])
def test_a_connection_that_was_never_used(colour, server_factory, deed):
    told = Told(server_factory, lambda conn: conn.close() if deed == "close" else conn.send(b"220 hello\r\n"), before=1)

    async def body(c):
        await c.call(c.transport.warm, told.server.url, 1)
        told.do()
        if deed == "close":
            await c.wait_until(lambda: c.transport.stats().idle == 0, 3.0)
        response = await c.request("POST", told.server.url, content=b"x", retry_stale=False)
        assert await c.read(response) == b"hello"
        assert not response.conn.reused
        assert c.transport.stats().closed == {"server_closed_idle" if deed == "close" else "unsolicited_data": 1}

    run_colour(colour, body)


@pytest.mark.go("IDLE-05")
def test_bytes_that_nobody_asked_for_end_it(colour, server_factory):
    told = Told(server_factory, lambda conn: conn.send(UNASKED))

    async def body(c):
        assert await c.fetch(told.server.url) == b"hello"
        told.do()
        response = await c.request("POST", told.server.url, content=b"x")
        assert (response.status_code, await c.read(response)) == (200, b"hello")
        assert not response.conn.reused
        assert c.transport.stats().closed == {"unsolicited_data": 1}

    run_colour(colour, body)


@pytest.mark.go("IDLE-05", "IDLE-08", "IDLE-09")
@pytest.mark.parametrize("surplus", [b"\r\n", b"x", UNASKED, b"\0"])
@pytest.mark.parametrize("pieces", ["one", "two"])
def test_bytes_behind_an_answer_end_it_and_are_never_the_next_answer(colour, server_factory, surplus, pieces):
    """In one piece they are seen before anybody could be given the connection (Go: after). In a piece of
    their own they are seen as the next request takes it, if not before.
    """
    deed = raw(HELLO + surplus) if pieces == "one" else raw(HELLO, surplus)

    def handler(conn):
        while (request := conn.read_request()) is not None:
            if conn.number == 1:
                deed.respond(conn, request)
                kernel.wait_received(conn.sock)
                sent.set()
            else:
                conn.send(HELLO)

    sent = threading.Event()
    server = server_factory(handler)

    async def body(c):
        assert await c.fetch(server.url) == b"hello"
        if pieces == "one":
            assert (await wait_quiet(c)).idle == 0
        assert sent.wait(5)
        for _ in range(2):
            response = await c.request("POST", server.url, content=b"x")
            assert (response.status_code, await c.read(response)) == (200, b"hello")
        assert server.accepted == 2
        assert c.transport.stats().closed == {"unsolicited_data": 1}

    run_colour(colour, body)


@pytest.mark.go("IDLE-06")
@pytest.mark.parametrize("answer", [TIMED_OUT, b"HTTP/1.0 408 Request Timeout\r\n\r\n", b"HTTP/1.1 408"])
def test_a_stray_408_is_an_end_in_words(colour, server_factory, answer):
    told = Told(server_factory, lambda conn: conn.send(answer))

    async def body(c):
        assert await c.fetch(told.server.url) == b"hello"
        told.do()
        response = await c.request("POST", told.server.url, content=b"x")
        assert (response.status_code, await c.read(response)) == (200, b"hello")
        assert c.transport.stats().closed == {"server_closed_idle": 1}

    run_colour(colour, body)


@pytest.mark.go("IDLE-07")
def test_a_408_behind_a_request_is_its_answer(colour, server_factory):
    def handler(conn):
        conn.read_request()
        conn.send(HELLO)
        conn.read_request()
        conn.send(TIMED_OUT)

    server = server_factory(handler)

    async def body(c):
        assert await c.fetch(server.url) == b"hello"
        response = await c.get(server.url)
        assert response.status_code == 408
        await c.read(response)
        assert c.transport.stats().retries == 0

    run_colour(colour, body)


class TestIdleTimeout:
    OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

    @pytest.fixture
    def fake(self):
        runtime = FakeRuntime(Answers(self.OK))
        transport = FakeTransport(runtime, idle_conn_timeout=10.0, max_conns_per_host=1)
        yield transport
        transport.check()
        runtime.run(transport.aclose())

    async def ask(self, fake):
        async with await fake.round_trip(pt.Request("GET", "http://192.0.2.1/")) as response:
            await response.aread()
            return response.conn.reused

    @pytest.mark.go("IDLE-10")
    def test_each_return_starts_it_anew(self, fake):
        assert fake.runtime.run(self.ask(fake)) is False
        for _ in range(5):
            fake.runtime.advance(9.0)
            assert fake.runtime.run(self.ask(fake)) is True
        fake.runtime.advance(10.1)
        assert fake.stats().idle == 0
        assert fake.runtime.run(self.ask(fake)) is False

    @pytest.mark.go("IDLE-11")
    def test_it_does_not_run_while_the_connection_is_used(self, fake):
        async def ask_slowly():
            async with await fake.round_trip(pt.Request("GET", "http://192.0.2.1/")) as response:
                await fake.runtime.sleep(35.0)
                return await response.aread()

        # The header is there with the body, so that only an answer without its end keeps the connection.
        runtime = FakeRuntime(Answers((b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",)))
        other = FakeTransport(runtime, idle_conn_timeout=10.0)

        async def held():
            async with await other.round_trip(pt.Request("GET", "http://192.0.2.1/")) as response:
                await runtime.sleep(35.0)
                runtime.streams[0].feed(b"hi")
                return await response.aread()

        assert runtime.run(held()) == b"hi"
        assert other.stats().idle == 1
        runtime.run(other.aclose())

    @pytest.mark.go("IDLE-12")
    def test_a_late_timer_does_not_matter(self, fake):
        """The request looks at the clock itself; a suspended machine is in tests/field/test_lifetime.py."""
        fake.runtime.run(self.ask(fake))
        fake.runtime.clock.advance(10.1)
        assert fake.runtime.run(self.ask(fake)) is False
        fake.runtime.seconds_asleep += 10.1
        assert fake.runtime.run(self.ask(fake)) is False
        assert fake.stats().closed == {"idle_timeout": 2}

    @pytest.mark.go("IDLE-13")
    def test_a_request_that_races_with_it_never_fails(self, colour, server_factory, scaled):
        server = server_factory(ok())

        async def body(c):
            async def user(number):
                for turn in range(scaled(400, 60)):
                    response = await c.request("POST", server.url, content=b"x", retry_stale=False)
                    assert await c.read(response) == b"hello"
                    await c.sleep(0.004 + 0.0001 * ((turn + number) % 20))

            await c.gather(*[lambda number=number: user(number) for number in range(4)])
            assert c.transport.stats().closed["idle_timeout"] > 10

        run_colour(colour, body, idle_conn_timeout=0.005)

    @pytest.mark.go("IDLE-14")
    def test_the_slot_of_an_expired_one_is_free(self, fake):
        assert fake.runtime.run(self.ask(fake)) is False
        fake.runtime.clock.advance(10.1)
        assert fake.runtime.run(self.ask(fake)) is False

    @pytest.mark.go("IDLE-14")
    def test_the_slot_of_a_broken_one_is_free(self, colour, server_factory):
        told = Told(server_factory, lambda conn: conn.reset())

        async def body(c):
            assert await c.fetch(told.server.url) == b"hello"
            told.do()
            began = time.monotonic()
            assert await c.fetch(told.server.url) == b"hello"
            assert time.monotonic() - began < 1.0

        run_colour(colour, body, max_conns_per_host=1)

    @pytest.mark.go("IDLE-15")
    def test_without_the_option_there_is_no_greatest_age(self, fake):
        """`max_conn_lifetime` and the server's own `Keep-Alive` are ours: tests/field/test_lifetime.py."""
        for turn in range(200):
            assert fake.runtime.run(self.ask(fake)) is (turn > 0)
            fake.runtime.advance(9.0)
