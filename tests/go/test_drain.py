"""DRAIN: what becomes of a response that is closed before its end, and of one that nobody closes."""

from __future__ import annotations

import gc
import gzip
import threading
import time

import pytest

from pooltransport import ClientTrace, Request
from pooltransport.errors import IncompleteBody, ReadError, StreamConsumed
from pooltransport.testing.fakes import END, Answers
from tests.engine.scenarios import OK, URL
from tests.support.colours import run_colour
from tests.support.field import wait_quiet
from tests.support.responders import Responder, chunked, head, in_turn, ok, raw, routes, stall

LIMIT = 262_144
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def told_of(*names):
    told = []
    hooks = {name: (lambda info, name=name: told.append((name, getattr(info, "outcome", info)))) for name in names}
    return told, ClientTrace(**hooks)


def length_of(size):
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size


def closed_early(world, script, read=0):
    """Open a response, read `read` bytes, close it; the connection's stream is `world.runtime.streams[0]`."""

    async def body():
        response = await world.transport.round_trip(Request("GET", URL))
        if read:
            await anext(response.aiter_bytes(read))
        await response.aclose()
        return response

    world.runtime.on_dial = Answers(script)
    return world.runtime.run(body())


@pytest.mark.go("DRAIN-01", "DRAIN-06")
def test_closing_does_not_wait_for_the_server(colour, server_factory):
    """On threads at most the drain_timeout, on loops not at all; the server that stalls loses its connection."""
    gate = threading.Event()
    server = server_factory(stall(gate))

    async def body(c):
        response = await c.get(server.url)
        began = time.monotonic()
        await c.close(response)
        assert time.monotonic() - began < (0.25 if c.sync else 0.04)
        stats = await wait_quiet(c)
        assert (stats.closed, stats.drains["timeout"], stats.idle) == ({"drain_timeout": 1}, 1, 0)
        await c.wait_until(lambda: server.open == 0)

    run_colour(colour, body)


@pytest.mark.go("DRAIN-01", "DRAIN-13")
def test_on_loops_close_returns_before_the_drain(make_world):
    world = make_world()
    told, trace = told_of("drained", "put_idle_conn")
    world.runtime.on_dial = Answers((length_of(4), b"ab"))

    async def body():
        response = await world.transport.round_trip(Request("GET", URL, trace=trace))
        before = world.runtime.now()
        await response.aclose()
        assert world.runtime.now() == before
        assert told == []

    world.runtime.run(body())
    stats = world.transport.stats()
    assert (stats.draining, stats.leases) == (1, 1)
    world.runtime.advance(0.04)
    world.runtime.streams[0].feed(b"cd")
    world.runtime.run_until_idle()
    assert [name for name, _ in told] == ["drained", "put_idle_conn"]
    assert told[1] == ("put_idle_conn", None)
    assert world.transport.stats().idle == 1


@pytest.mark.go("DRAIN-02")
@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_200_kib_are_read_away(colour, server_factory, coding):
    size = 200 * 1024
    first = ok(b"x" * size) if coding == "length" else chunked(*[b"x" * 4096] * 50)
    server = server_factory(in_turn(first, ok(b"next")))

    async def body(c):
        await c.close(await c.get(server.url))
        stats = await wait_quiet(c)
        assert (stats.idle, stats.closed, stats.drains["reused"]) == (1, {}, 1)
        assert await c.fetch(server.url) == b"next"

    # The row is about the size; the time that a busy machine takes for it is not.
    run_colour(colour, body, drain_timeout=5.0)
    assert server.accepted == 1


@pytest.mark.go("DRAIN-03")
@pytest.mark.parametrize(("size", "reused"), [(LIMIT, True), (LIMIT + 1, False)])
@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_the_limit_to_the_byte(make_world, size, reused, coding):
    world = make_world()
    pieces = [b"x" * 4096] * (size // 4096) + [b"x"] * (size % 4096)
    if coding == "length":
        script = (length_of(size), *pieces)
    else:
        script = (CHUNKED, *(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces), b"0\r\n\r\n")
    closed_early(world, script)
    world.runtime.run_until_idle()
    stats = world.transport.stats()
    assert (stats.idle, stats.closed) == ((1, {}) if reused else (0, {"drain_limit": 1}))


@pytest.mark.go("DRAIN-04")
@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_500_kib_are_not(colour, server_factory, coding):
    first = ok(b"x" * 512_000) if coding == "length" else chunked(*[b"x" * 4096] * 125)
    server = server_factory(in_turn(first, ok(b"next")))

    async def body(c):
        await c.close(await c.get(server.url))
        stats = await wait_quiet(c)
        assert (stats.idle, stats.closed) == (0, {"drain_limit": 1})
        assert await c.fetch(server.url) == b"next"

    run_colour(colour, body, drain_timeout=5.0)
    assert server.accepted == 2


@pytest.mark.go("DRAIN-05")
def test_what_is_missing_decides_not_what_was_declared(make_world):
    """Here we differ: 300,000 declared, 1 byte left, and the connection is kept."""
    world = make_world()
    closed_early(world, (length_of(300_000), *[b"x" * 100_000] * 2, b"x" * 99_999, b"x"), read=299_999)
    world.runtime.run_until_idle()
    assert (world.transport.stats().idle, world.transport.stats().closed) == (1, {})


@pytest.mark.go("DRAIN-06")
def test_an_endless_answer_is_given_up(colour, server_factory):
    """The server sees that nobody listens any more."""
    refused = threading.Event()

    @Responder
    def endless(conn, request):
        conn.send(CHUNKED)
        try:
            while not conn.server.stopping.is_set():
                conn.send(b"1000\r\n" + b"x" * 4096 + b"\r\n")
        except OSError:
            refused.set()
            raise

    server = server_factory(endless)

    async def body(c):
        await c.close(await c.get(server.url))
        await c.wait_until(refused.is_set)
        assert not (await wait_quiet(c)).idle

    run_colour(colour, body)


@pytest.mark.go("DRAIN-07")
@pytest.mark.parametrize(
    ("script", "fields", "options", "reason"),
    [
        ((b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nab",), {}, {}, "server_close_header"),
        ((length_of(4), b"ab"), {"headers": {"Connection": "close"}}, {}, "server_close_header"),
        ((length_of(4), b"ab"), {}, {"disable_keep_alives": True}, "server_close_header"),
        ((b"HTTP/1.1 200 OK\r\n\r\nab",), {}, {}, "server_close_header"),
    ],
    ids=["server", "request", "transport", "until_close"],
)
def test_nothing_is_read_from_what_is_not_kept(make_world, script, fields, options, reason):
    world = make_world(Answers(script), **options)

    async def body():
        response = await world.transport.round_trip(Request("GET", URL, **fields))
        before = world.runtime.now()
        await response.aclose()
        assert not world.runtime.streams[0].is_open
        assert world.runtime.now() == before

    world.runtime.run(body())
    stats = world.transport.stats()
    assert stats.closed == {reason: 1}
    assert not any(stats.drains.values())


@pytest.mark.go("DRAIN-08")
def test_a_compressed_body_is_measured_as_it_came(make_world):
    """Bytes of the wire count, before any decoding of content: 262,144 of them are read away."""
    world = make_world()
    head_of_it = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    closed_early(world, (head_of_it % LIMIT, *[b"z" * 65_536] * 4))
    world.runtime.run_until_idle()
    assert (world.transport.stats().idle, world.transport.stats().closed) == (1, {})


@pytest.mark.go("DRAIN-09", "LIM-13")
def test_a_connection_being_drained_is_not_idle_and_counts(make_world):
    """Who comes meanwhile dials, or with a limit waits; both take what comes first."""
    world = make_world(max_conns_per_host=2)
    closed_early(world, (length_of(4), b"ab"))
    world.runtime.run_until_idle()
    stats = world.transport.stats()
    assert (stats.draining, stats.idle, stats.open) == (1, 0, 1)
    world.runtime.on_dial = None
    second = world.runtime.start(world.get())
    third = world.runtime.start(world.get())
    world.runtime.run_until_idle()
    stats = world.transport.stats()
    assert (stats.dials, stats.dialing, stats.waiting) == (2, 1, 1)
    Answers(OK).serve(world.runtime.streams[0])
    world.runtime.streams[0].feed(b"cd")
    world.runtime.run_until_idle()
    assert (second.outcome(), third.outcome()) == (b"hi", b"hi")
    assert len(world.runtime.streams) == 1
    world.runtime.dials[1].refuse()


@pytest.mark.go("DRAIN-10", "CANCEL-11")
def test_a_cancellation_after_close_does_not_reach_the_drain(loop_colour, server_factory):
    gate = threading.Event()
    server = server_factory(in_turn(stall(gate), ok(b"next")))

    async def body(c):
        async def open_and_close():
            await c.close(await c.get(server.url))
            closed.set()
            await c.sleep(60.0)

        closed = threading.Event()
        handle = await c.start(open_and_close)
        await c.wait_until(closed.is_set)
        handle.cancel()
        await c.wait_until(lambda: handle.done)
        assert c.transport.stats().draining == 1
        gate.set()
        assert (await wait_quiet(c)).idle == 1
        assert await c.fetch(server.url) == b"next"

    run_colour(loop_colour, body, drain_timeout=5.0)
    assert server.accepted == 1


@pytest.mark.go("DRAIN-11", "DRAIN-12")
def test_trailers_of_a_drained_body_are_dropped(colour, server_factory):
    """They are parsed, so that the connection is in step; the response was closed, and does not change."""
    server = server_factory(chunked(b"hello", b"world", trailers=[("X-Sum", "1")]))

    async def body(c):
        for _ in range(3):
            response = await c.get(server.url)
            await c.close(response)
            before = (response.is_closed, dict(response.trailers))
            await wait_quiet(c)
            assert (response.is_closed, dict(response.trailers)) == before == (True, {})
        response = await c.get(server.url)
        await c.read(response)
        assert dict(response.trailers) == {"x-sum": "1"}

    run_colour(colour, body, drain_timeout=5.0)
    assert server.accepted == 1


@pytest.mark.go("DRAIN-13")
@pytest.mark.parametrize(("rest", "reason"), [(b"cd", None), (b"cd?", "unsolicited_data"), (END, "read_error")])
def test_put_idle_conn_tells_how_a_drain_ended(make_world, rest, reason):
    """Go tells of success alone; here every end is told, with its reason."""
    told, trace = told_of("put_idle_conn")
    world = make_world(Answers((length_of(4), b"ab")), trace=trace)

    async def body():
        await (await world.transport.round_trip(Request("GET", URL))).aclose()

    world.runtime.run(body())
    assert told == []
    world.runtime.streams[0].play(rest)
    world.runtime.run_until_idle()
    assert [error and error.reason.value for _, error in told] == [reason]


@pytest.mark.go("DRAIN-14", "DRAIN-15")
@pytest.mark.parametrize("read", [False, True])
def test_reading_after_close(colour, server_factory, read):
    """An error for what is gone; what had ended before stays ended. Closing again does nothing."""
    server = server_factory(routes({"/": ok(), "/empty": ok(b"")}))

    async def body(c):
        response = await c.get(server.url + "/")
        if read:
            await c.read(response)
        for _ in range(3):
            await c.close(response)
        if read:
            assert await c.read(response) == b"hello"
        else:
            with pytest.raises(StreamConsumed, match="closed before its body was read"):
                await c.read(response)
        await wait_quiet(c)
        empty = await c.get(server.url + "/empty")
        await c.close(empty)
        assert [part async for part in c.chunks(empty)] == []
        stats = await wait_quiet(c)
        assert (stats.idle, stats.acquired["dialed"]) == (1, 1)

    run_colour(colour, body, drain_timeout=5.0)


@pytest.mark.go("DRAIN-16", "DRAIN-19")
def test_closing_after_a_read_that_failed(colour, server_factory):
    """It says nothing more and waits for nothing; reading again says the same again."""
    server = server_factory(raw(head(length=10) + b"hello", then_close=True))

    async def body(c):
        response = await c.get(server.url)
        parts = c.chunks(response)
        assert await anext(parts) == b"hello"
        errors = []
        for _ in range(3):
            with pytest.raises(IncompleteBody, match="after 5 of 10 body bytes") as caught:
                await anext(parts)
            errors.append(caught.value)
            await c.close(response)
        assert [(type(error), str(error)) for error in errors] == [(IncompleteBody, str(errors[0]))] * 3
        stats = await wait_quiet(c)
        assert (stats.closed, any(stats.drains.values())) == ({"protocol_error": 1}, False)

    run_colour(colour, body)


@pytest.mark.go("DRAIN-19")
def test_the_end_stays_the_end(colour, server_factory):
    server = server_factory(ok())

    async def body(c):
        parts = c.chunks(await c.get(server.url))
        assert [part async for part in parts] == [b"hello"]
        for _ in range(3):
            assert [part async for part in parts] == []

    run_colour(colour, body)


@pytest.mark.go("DRAIN-17", "DRAIN-18")
@pytest.mark.parametrize("coding", ["", "Content-Encoding: gzip\r\n"], ids=["plain", "gzip"])
def test_closing_wakes_a_read(colour, server_factory, coding):
    """Here we differ from Go, which drains beside the reader: bytes read by two have no order.

    The reader is told at once, the connection is closed, and nobody else ever gets it.
    """
    ended = threading.Event()

    @Responder
    def half(conn, request):
        conn.send(b"HTTP/1.1 200 OK\r\n%bContent-Length: 10\r\n\r\n" % coding.encode())
        conn.send(gzip.compress(b"hello")[:5] if coding else b"x")
        conn.read_to_end()
        ended.set()

    server = server_factory(in_turn(half, ok(b"next")))
    told, trace = told_of("put_idle_conn", "body_closed")

    async def body(c):
        response = await c.get(server.url, trace=trace)
        parts = c.chunks(response)
        reading = threading.Event()

        async def read():
            if not coding:
                assert await anext(parts) == b"x"
            reading.set()
            return await anext(parts)

        reader = await c.start(read)
        await c.wait_until(reading.is_set)
        await c.sleep(0.05)  # it waits for more now
        began = time.monotonic()
        await c.close(response)
        with pytest.raises((StreamConsumed, ReadError), match="closed"):
            await c.wait(reader)
        assert time.monotonic() - began < 2.0
        await c.wait_until(ended.is_set)
        stats = await wait_quiet(c)
        assert (stats.closed, stats.idle) == ({"body_not_consumed": 1}, 0)
        assert await c.fetch(server.url) == b"next"

    run_colour(colour, body, drain_timeout=5.0)
    assert sorted(name for name, _ in told) == ["body_closed", "put_idle_conn"]


@pytest.mark.go("DRAIN-17")
def test_closing_races_with_a_reader(server_factory, scaled):
    """Threads: whoever comes first, nobody hangs, no connection is out of step, and no slot is lost."""
    server = server_factory(chunked(*[b"x" * 100] * 50, trailers=[("X", "y")]))
    rounds = scaled(500, 60)

    async def body(c):
        for turn in range(rounds):
            response = await c.get(server.url)
            reader = await c.start(lambda response=response: c.read(response))
            if turn % 3:
                await c.sleep(0.0001 * (turn % 7))
            await c.close(response)
            await c.wait_until(lambda reader=reader: reader.done)
            reader.asked = True
            if reader.error is None:
                assert reader.value == b"x" * 5000
            else:
                assert isinstance(reader.error, (StreamConsumed, ReadError))
                assert "closed" in str(reader.error)
        stats = await wait_quiet(c)
        assert sum(stats.closed.values()) + stats.idle == stats.acquired["dialed"]
        assert not set(stats.closed) - {"body_not_consumed", "drain_timeout"}

    run_colour("threads", body, max_conns_per_host=1)


@pytest.mark.go("DRAIN-20")
def test_two_read_at_once(colour, server_factory):
    """The second is refused with words; the first gets all of it."""
    gate = threading.Event()
    server = server_factory(stall(gate))

    async def body(c):
        response = await c.get(server.url)
        parts = c.chunks(response)
        first = await anext(parts)

        reading = threading.Event()

        async def rest():
            reading.set()
            return b"".join([part async for part in parts])

        reader = await c.start(rest)
        await c.wait_until(reading.is_set)
        await c.sleep(0.05)
        with pytest.raises(StreamConsumed, match="at once"):
            await anext(parts)
        with pytest.raises(StreamConsumed):
            await c.read(response)
        gate.set()
        assert first + await c.wait(reader) == b"hello"
        assert c.transport.stats().idle == 1

    run_colour(colour, body)


@pytest.mark.go("DRAIN-21", "LEAK-06")
@pytest.mark.filterwarnings("ignore:response never closed")
def test_what_nobody_closes_is_held_as_long_as_somebody_has_it(colour, server_factory):
    """And no longer: dropped, it gives its slot back and says so."""
    gate = threading.Event()
    server = server_factory(in_turn(stall(gate), ok()))
    told = []

    async def body(c):
        response = await c.get(server.url)
        waiting = await c.start(lambda: c.fetch(server.url))
        await c.wait_until(lambda: c.transport.stats().waiting == 1)
        await c.sleep(0.1)
        assert not waiting.done
        del response
        gc.collect()
        assert await c.wait(waiting) == b"hello"
        stats = c.transport.stats()
        assert (stats.leaks, stats.closed) == (1, {"leaked": 1})
        gate.set()
        await c.wait_until(lambda: c.transport.stats() and told)

    run_colour(colour, body, max_conns_per_host=1, trace=ClientTrace(leaked=told.append))
    assert (told[0].status_code, told[0].bytes_expected) == (200, 5)
