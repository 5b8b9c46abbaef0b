"""DIAL: the race between a request's own dial and what else may serve it."""

from __future__ import annotations

import contextvars
import itertools
import threading
import time

import pytest

import pooltransport as pt
from tests.support.colours import run_colour
from tests.support.dialer import Dialer
from tests.support.field import wait_quiet
from tests.support.responders import ok, slow

who = contextvars.ContextVar("who", default="nobody")


def gauges(c):
    stats = c.transport.stats()
    return {name: value for name in ("active", "idle", "dialing", "waiting") if (value := getattr(stats, name))}


@pytest.fixture
def server(server_factory):
    return server_factory(ok())


@pytest.fixture
def dialer(server):
    with Dialer(server.port) as made:
        yield made


async def give_up(c, url, **fields):
    """Let a request go away while it dials."""
    with pytest.raises(pt.ConnectTimeout):
        await c.get(url, timeout=0.1, **fields)


@pytest.mark.go("DIAL-01")
def test_every_cold_request_dials(colour, server, dialer):
    async def body(c):
        handles = [await c.start(lambda: c.fetch(server.url)) for _ in range(3)]
        await dialer.wait_for(c, 3)
        assert gauges(c) == {"dialing": 3}
        for call in dialer.calls:
            call.finish()
        assert [await c.wait(handle) for handle in handles] == [b"hello"] * 3

    run_colour(colour, body, dial=dialer)
    assert len(dialer.calls) == 3


@pytest.mark.go("DIAL-02", "DIAL-03", "DIAL-09", "DIAL-12")
def test_what_becomes_idle_serves_who_dials_and_the_dial_goes_on(colour, server, dialer):
    async def body(c):
        puts, got = [], []
        trace = pt.ClientTrace(put_idle_conn=puts.append, got_conn=got.append)
        first = await c.start(lambda: c.fetch(server.url, trace=trace))
        await dialer.wait_for(c, 1)
        second = await c.start(lambda: c.fetch(server.url, trace=trace))
        await dialer.wait_for(c, 2)
        dialer.calls[0].finish()
        # The second is served although its own dial has not come back.
        assert [await c.wait(first), await c.wait(second)] == [b"hello"] * 2
        assert [info.reused for info in got] == [False, True]
        assert got[0].id == got[1].id
        assert gauges(c) == {"idle": 1, "dialing": 1}
        dialer.calls[1].finish()
        await c.wait_until(lambda: gauges(c) == {"idle": 2})
        assert puts == [None, None]  # of the two requests; none of the dial

    run_colour(colour, body, dial=dialer)
    assert server.requests == 2


@pytest.mark.go("DIAL-03")
def test_a_dial_that_nobody_waits_for_serves_the_oldest_waiter(colour, server_factory):
    release = threading.Event()
    server = server_factory(slow(release))

    async def body(c):
        await give_up(c, server.url)
        queued, told = [], []
        traces = [
            pt.ClientTrace(acquire_queued=lambda info, n=n: queued.append(n), got_conn=lambda info, n=n: told.append(n))
            for n in range(2)
        ]
        handles = [await c.start(lambda trace=trace: c.fetch(server.url, trace=trace)) for trace in traces]
        await c.wait_until(lambda: gauges(c) == {"dialing": 1, "waiting": 1})
        dialer.calls[0].finish()
        await c.wait_until(lambda: server.requests == 1)
        assert told == [1 - queued[0]]  # who asked first did not queue, but adopted the dial
        release.set()
        assert [await c.wait(handle) for handle in handles] == [b"hello"] * 2

    with Dialer(server.port) as dialer:
        run_colour(colour, body, dial=dialer, max_conns_per_host=1)
    assert len(dialer.calls) == 1


@pytest.mark.go("DIAL-05")
def test_the_error_of_a_dial_that_nobody_waits_for_is_nobodys(colour, server, dialer):
    async def body(c):
        await give_up(c, server.url)
        (call,) = dialer.calls
        assert gauges(c) == {"dialing": 1}
        call.fail(OSError("no"))
        await c.wait_until(lambda: not gauges(c))  # its slot is free
        dialer.at_once = True
        assert await c.fetch(server.url) == b"hello"
        assert c.transport.stats().dial_errors == 1

    run_colour(colour, body, dial=dialer, max_conns_per_host=1)


@pytest.mark.go("DIAL-06", "DIAL-07")
def test_a_failed_dial_fails_its_own_request_at_once_and_no_other(colour, server, dialer):
    async def body(c):
        handles = [await c.start(lambda: c.fetch(server.url))]
        await dialer.wait_for(c, 1)
        handles.append(await c.start(lambda: c.fetch(server.url)))
        await dialer.wait_for(c, 2)
        dialer.calls[0].fail(OSError(113, "made up"))
        with pytest.raises(pt.ConnectError, match="made up"):
            await c.wait(handles[0])
        assert not handles[1].done
        assert gauges(c) == {"dialing": 1}
        dialer.calls[1].finish()
        assert await c.wait(handles[1]) == b"hello"
        assert len(dialer.calls) == 2, "a failed dial is not done again"

    run_colour(colour, body, dial=dialer)


@pytest.mark.go("DIAL-08")
def test_a_dial_has_the_requests_context_but_not_its_deadline(colour, server):
    seen = []

    def dial(request):
        seen.append((who.get(), request.deadline - time.monotonic(), request.host, request.port, request.purpose))
        with Dialer(server.port) as inner:
            inner.at_once = True
            return inner(request)

    async def body(c):
        who.set("A")
        assert await c.fetch(server.url, timeout=5.0) == b"hello"

    run_colour(colour, body, dial=dial)
    ((name, left, host, port, purpose),) = seen
    assert (name, host, port, purpose) == ("A", "127.0.0.1", server.port, "origin")
    assert left == pytest.approx(30.0, abs=0.5)  # dial_timeout


@pytest.mark.go("DIAL-10")
def test_without_keep_alives_a_dial_that_nobody_waits_for_is_closed(colour, server, dialer):
    async def body(c):
        await give_up(c, server.url)
        dialer.calls[0].finish()
        await c.wait_until(lambda: server.accepted == 1 and server.open == 0)
        await c.wait_until(lambda: not gauges(c))
        assert server.requests == 0

    run_colour(colour, body, dial=dialer, disable_keep_alives=True)


@pytest.mark.go("DIAL-11")
def test_it_completes_the_setup_and_tells_the_hooks_of_who_left(
    colour, server_factory, server_ssl_context, client_ssl_context
):
    server = server_factory(ok(), tls=server_ssl_context)
    told, got = [], []
    trace = pt.ClientTrace(
        tls_handshake_done=lambda info: told.append(info.tls.version), got_conn=lambda info: told.append("got")
    )

    async def body(c):
        await give_up(c, server.url, trace=trace)
        assert told == []
        dialer.calls[0].finish()
        await c.wait_until(lambda: gauges(c) == {"idle": 1})
        assert len(told) == 1
        assert told[0].startswith("TLS")
        assert await c.fetch(server.url, trace=pt.ClientTrace(got_conn=got.append)) == b"hello"
        assert got[0].reused

    with Dialer(server.port) as dialer:
        run_colour(colour, body, dial=dialer, ssl_context=client_ssl_context)
    assert server.accepted == 1


@pytest.mark.go("DIAL-13")
def test_what_idled_out_before_use_fails_no_request(colour, server_factory):
    def handler(conn):
        if conn.number == 1:
            conn.close()  # at once, unused
        else:
            ok()(conn)

    server = server_factory(handler)

    async def body(c):
        await give_up(c, server.url)
        dialer.calls[0].finish()
        await c.wait_until(lambda: server.accepted == 1 and server.open == 0)
        await c.wait_until(lambda: not c.transport.stats().dialing)  # or it would be adopted, as if new
        dialer.at_once = True
        assert await c.fetch(server.url) == b"hello"

    with Dialer(server.port) as dialer:
        run_colour(colour, body, dial=dialer)


@pytest.mark.go("DIAL-14")
@pytest.mark.parametrize("made", [None, 42, "a text", object()])
def test_a_dial_that_returns_no_socket_is_an_error(colour, server, made):
    async def body(c):
        with pytest.raises(pt.ConnectError, match=f"returned {type(made).__name__}, not a connected socket"):
            await c.fetch(server.url)
        await wait_quiet(c)

    run_colour(colour, body, dial=lambda request: made)


@pytest.mark.go("DIAL-15")
def test_one_outcome_for_each_request_and_no_connection_is_lost(colour, server, scaled):
    """Dials come back, fail, and their requests go away, all at about the same time."""
    rounds = scaled(60, 8)

    def dial(request):
        number = next(counter)
        time.sleep(0.001 * (number % 7))
        if number % 5 == 0 and not settled.is_set():
            raise OSError(111, "made up")
        with Dialer(server.port) as inner:
            inner.at_once = True
            return inner(request)

    counter = itertools.count(1)
    settled = threading.Event()
    outcomes = []

    async def one(c, number):
        try:
            outcomes.append(await c.fetch(server.url, timeout=0.001 * (number % 9 + 1)))
        except pt.TransportError as error:
            outcomes.append(error)

    async def body(c):
        for _ in range(rounds):
            await c.gather(*[lambda n=n: one(c, n) for n in range(12)])
        stats = await wait_quiet(c)
        assert stats.open == stats.idle <= 4
        await c.wait_until(lambda: server.open == stats.idle)
        settled.set()  # the last one may have to dial
        assert await c.fetch(server.url, timeout=5.0) == b"hello"

    run_colour(colour, body, dial=dial, max_conns_per_host=4)
    assert len(outcomes) == 12 * rounds
    assert all(o == b"hello" or isinstance(o, pt.TransportError) for o in outcomes)
