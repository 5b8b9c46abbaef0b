"""CONC: many at once, and who must not see whom."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from pooltransport import ClientTrace, Request
from pooltransport.errors import TransportError
from pooltransport.testing.fakes import Answers, Cancelled
from tests.engine.scenarios import OK
from tests.support.colours import run_colour
from tests.support.field import wait_quiet
from tests.support.responders import Responder, close_after, echo, head, ok


@pytest.mark.go("CONC-01", "POOL-12")
def test_500_requests_by_32(colour, server_factory):
    """With room for two idle ones: every answer is its request's, and no dial is lost."""
    server = server_factory(echo)

    async def some(c, number):
        for turn in range(16):
            content = b"%d/%d" % (number, turn)
            response = await c.request("POST", f"{server.url}/{number}/{turn}", content=content)
            assert response.headers["x-target"] == f"/{number}/{turn}"
            assert await c.read(response) == content

    async def body(c):
        await c.gather(*[lambda number=number: some(c, number) for number in range(32)])
        await c.wait_until(lambda: c.transport.stats().dialing == 0)
        stats = await wait_quiet(c)
        assert stats.idle <= 2
        assert stats.dials == stats.idle + sum(stats.closed.values())
        assert set(stats.closed) <= {"idle_limit_host", "dial_unused"}
        await c.wait_until(lambda: server.open == stats.idle)

    run_colour(colour, body, max_idle_conns_per_host=2)
    assert server.requests == 32 * 16


@pytest.mark.go("CONC-02", "RETRY-16")
def test_a_server_that_closes_after_each_answer(colour, server_factory):
    """It says keep-alive and closes: every GET succeeds all the same."""
    server = server_factory(close_after(1))

    async def some(c):
        for _ in range(25):
            assert await c.fetch(server.url) == b"hello"

    async def body(c):
        await c.gather(*[lambda: some(c)] * 20)
        await c.wait_until(lambda: server.open == 0)
        await wait_quiet(c)

    run_colour(colour, body, max_conns_per_host=20)


@pytest.mark.go("CONC-03")
@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_server_that_gives_up_in_the_middle_of_an_upload(colour, server_factory, how):
    """6 MiB in pieces: each call ends with an error, none hangs, and every slot comes back."""

    def handler(conn):
        if conn.read_head() is not None:
            conn.read_exactly(65_536)
            getattr(conn, how)()

    server = server_factory(handler)

    async def upload(c):
        pieces = (b"x" * 65_536 for _ in range(96))
        with pytest.raises(TransportError) as caught:
            await c.request("POST", server.url, content=pieces, headers={"Content-Length": str(96 * 65_536)})
        assert caught.value.may_have_been_processed

    async def body(c):
        for _ in range(2):
            await c.gather(*[lambda: upload(c)] * 5)
        assert (await wait_quiet(c)).open == 0

    run_colour(colour, body, max_conns_per_host=3)


@pytest.mark.go("CONC-04")
def test_one_request_again_and_again(colour, server_factory):
    server = server_factory(ok())

    async def body(c):
        request = Request("GET", server.url, headers={"X": "y"})
        for _ in range(3):
            assert await c.read(await c.round_trip(request)) == b"hello"

    run_colour(colour, body)
    assert [(request.conn, request.header("x")) for request in server.log] == [(1, "y")] * 3


@pytest.mark.go("CONC-04")
def test_one_request_at_once(colour, server_factory):
    """It never changes, so that any number may send it at the same time."""
    server = server_factory(echo)

    async def body(c):
        request = Request("POST", server.url, content=b"same")

        async def send():
            return await c.read(await c.round_trip(request))

        assert await c.gather(*[send] * 20) == [b"same"] * 20

    run_colour(colour, body)


@pytest.mark.go("CONC-05")
def test_an_idle_connection_keeps_nothing_of_its_request(colour, server_factory):
    """Not the request, not its body, not the response, not what its hooks are."""
    server = server_factory(echo)

    class Note:
        def __call__(self, info):
            pass

    async def send(c, refs):
        note, hook = Note(), Note()
        request = Request(
            "POST",
            server.url,
            content=b"x",
            extensions={"note": note},
            trace=ClientTrace(got_conn=hook, put_idle_conn=hook),
        )
        response = await c.round_trip(request)
        await c.read(response)
        refs += [weakref.ref(note), weakref.ref(hook)]

    async def body(c):
        refs = []
        await send(c, refs)
        assert c.transport.stats().idle == 1
        await c.wait_until(lambda: not gc.collect() and not [ref for ref in refs if ref() is not None])
        assert len(refs) == 2

    run_colour(colour, body)


@pytest.mark.go("CONC-06")
def test_who_gives_up_as_its_answer_comes_loses_no_slot(loop_colour, server_factory, scaled):
    """The cancellation and the answer race, over and over."""

    @Responder
    def respond(conn, request):
        conn.server.wait_stopping(0.001)
        conn.send(head(length=5) + b"hello")

    server = server_factory(respond)
    rounds = scaled(500, 60)

    async def body(c):
        for turn in range(rounds):
            handle = await c.start(lambda: c.fetch(server.url))
            await c.sleep(0.00025 * (turn % 9))
            handle.cancel()
            await c.wait_until(lambda handle=handle: handle.done)
        stats = await wait_quiet(c)
        assert stats.open <= 1
        assert set(stats.closed) <= {"cancelled"}
        assert await c.fetch(server.url) == b"hello"

    run_colour(loop_colour, body, max_conns_per_host=1)


@pytest.mark.go("CONC-07", "CANCEL-12")
def test_the_cancellation_of_who_takes_the_connection_is_not_the_first_ones(make_world):
    """An answer without a body gives its connection on before it is handed out itself."""
    empty = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    world = make_world(Answers((), OK), max_conns_per_host=1)
    first = world.runtime.start(world.get())
    second = world.runtime.start(world.get())
    world.runtime.run_until_idle()
    world.runtime.streams[0].feed(empty)

    async def cancel_when_handed_over():
        while world.transport.stats().acquired["handed_over"] == 0:
            await world.pause()
        second.cancel()

    world.runtime.start(cancel_when_handed_over())
    world.runtime.run_until_idle()
    assert first.outcome() == b""
    assert type(second.error) is Cancelled
    assert world.runtime.run(world.get()) == b"hi"
    assert world.transport.stats().leases == 0


@pytest.mark.go("CONC-01")
def test_no_answer_is_anybody_elses_while_limits_bind(server_factory):
    """Real threads, two connections, answers of every framing."""
    lock = threading.Lock()
    seen = []

    @Responder
    def respond(conn, request):
        number = request.target[1:].encode()
        if int(number) % 3 == 0:
            conn.send(
                head("200 OK", ("Transfer-Encoding", "chunked")) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(number), number)
            )
        elif int(number) % 3 == 1:
            conn.send(head(length=len(number)) + number)
        else:
            conn.send(head("200 OK", ("Connection", "close")) + number)
            conn.close()

    server = server_factory(respond)

    async def body(c):
        async def some(start):
            for number in range(start, 200, 20):
                assert await c.fetch(f"{server.url}/{number}") == b"%d" % number
                with lock:
                    seen.append(number)

        await c.gather(*[lambda start=start: some(start) for start in range(20)])
        assert sorted(seen) == list(range(200))
        assert server.peak <= 2

    run_colour("threads", body, max_conns_per_host=2)
