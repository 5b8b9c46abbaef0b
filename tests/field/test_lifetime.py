"""field-pains.md rows 24, 25, 27, 28 and 49: how long a connection lives, and whose it is."""

from __future__ import annotations

import random
import threading
import time

import pytest

import pooltransport as pt
from pooltransport.testing.fakes import Answers, FakeRuntime, FakeTransport
from tests.support.colours import run_colour
from tests.support.responders import Responder, head, ok

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
URL = "http://192.0.2.1/"


class Fake:
    """One transport on a clock moved by hand, and what it dialed."""

    def __init__(self, *script, **options):
        self.runtime = FakeRuntime(Answers(*(script or (OK,))))
        self.transport = FakeTransport(self.runtime, **options)

    def get(self, url=URL):
        """Ask, and return on which connection (from 1) the answer came, and whether it was reused."""

        async def ask():
            async with await self.transport.round_trip(pt.Request("GET", url)) as response:
                await response.aread()
                return response.conn

        return self.runtime.run(ask())

    @property
    def dials(self):
        return len(self.runtime.dials)

    def close(self):
        self.transport.check()
        self.runtime.run(self.transport.aclose())


@pytest.fixture
def make_fake():
    made = []

    def make(*script, **options):
        made.append(Fake(*script, **options))
        return made[-1]

    yield make
    for fake in made:
        fake.close()


class TestRow24NothingIsHandedOutTooLate:
    def test_row_24_the_moment(self, make_fake):
        """A poll right before its end gets the same connection; at the end another one, whoever was first
        to notice: the request, or the housekeeper.
        """
        fake = make_fake(idle_conn_timeout=10.0)
        fake.get()
        fake.runtime.clock.advance(9.999)  # the housekeeper does not run: it is late
        assert fake.get().reused
        fake.runtime.clock.advance(10.001)
        assert not fake.get().reused
        fake.runtime.advance(10.001)
        assert fake.transport.stats().idle == 0
        assert fake.transport.stats().closed["idle_timeout"] == 2

    def test_row_24_gaps_of_any_length(self, colour, server_factory, scaled):
        """Whatever the gap, the server never sees a request on a connection that idled for longer than 1.01 x."""
        timeout, idled = 0.1, []
        lock = threading.Lock()

        def handler(conn):
            last = None
            while conn.read_request() is not None:
                with lock:
                    idled.append(0.0 if last is None else time.monotonic() - last)
                conn.send(head(length=5) + b"hello")
                last = time.monotonic()

        server = server_factory(handler)
        rng = random.Random(24)
        gaps = [[rng.uniform(0.0, 2 * timeout) for _ in range(scaled(100, 10))] for _ in range(8)]

        async def body(c):
            async def user(mine):
                for gap in mine:
                    response = await c.request("POST", server.url, content=b"x")
                    handed.append((response.conn.reused, response.conn.idle_time))
                    await c.read(response)
                    await c.sleep(gap)

            handed = []
            await c.gather(*[lambda mine=mine: user(mine) for mine in gaps])
            assert all(idle <= 1.01 * timeout for _, idle in handed)
            assert {reused for reused, _ in handed} == {True, False}

        run_colour(colour, body, idle_conn_timeout=timeout)
        # What the server sees is later by the way there: the processor may be somebody else's for a while.
        assert sorted(idled)[int(len(idled) * 0.9)] <= 1.01 * timeout + 0.02


def test_row_26_one_that_was_never_used(colour, server_factory):
    """Warmed, and then no request at all: it is closed in time all the same."""
    server = server_factory(ok())

    async def body(c):
        await c.call(c.transport.warm, server.url, 2)
        assert c.transport.stats().idle == 2
        await c.wait_until(lambda: server.accepted == 2 and server.open == 0, 2.0)
        assert c.transport.stats().closed == {"idle_timeout": 2}

    run_colour(colour, body, idle_conn_timeout=0.2)


class TestASuspendedMachine:
    """`time.monotonic` stands still while the machine sleeps; the server's clock does not (Go IDLE-12)."""

    @pytest.mark.parametrize(("slept", "reused"), [(5.0, True), (8.9, True), (9.1, False), (3600.0, False)])
    def test_what_idled_through_it(self, make_fake, slept, reused):
        fake = make_fake(idle_conn_timeout=10.0)
        fake.get()
        fake.runtime.clock.advance(1.0)
        fake.runtime.seconds_asleep += slept
        assert fake.get().reused is reused
        assert fake.dials == 2 - reused

    def test_it_counts_once(self, make_fake):
        fake = make_fake(idle_conn_timeout=10.0)
        fake.get()
        fake.runtime.seconds_asleep += 6.0
        assert fake.get().reused
        fake.runtime.clock.advance(5.0)
        assert fake.get().reused
        fake.runtime.seconds_asleep += 6.0
        assert fake.get().reused

    def test_the_servers_hint_and_the_lifetime_too(self, make_fake):
        hinted = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: timeout=5\r\n\r\nhi"
        fake = make_fake(hinted)
        fake.get()
        fake.runtime.seconds_asleep += 4.6
        assert not fake.get().reused
        fake = make_fake(max_conn_lifetime=100.0)
        fake.get()
        fake.runtime.seconds_asleep += 80.0
        assert fake.get().reused
        fake.runtime.seconds_asleep += 80.0
        assert not fake.get().reused
        assert fake.transport.stats().closed["max_lifetime"] == 1

    def test_the_housekeeper_notices(self, make_fake):
        fake = make_fake(idle_conn_timeout=10.0)
        fake.get()
        fake.runtime.seconds_asleep += 60.0
        fake.runtime.advance(1.0)
        assert fake.transport.stats().idle == 0

    def test_one_in_use_is_left_alone(self, make_fake):
        fake = make_fake((b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",), OK, idle_conn_timeout=10.0)

        async def ask():
            async with await fake.transport.round_trip(pt.Request("GET", URL)) as response:
                fake.runtime.seconds_asleep += 60.0
                other = await fake.transport.round_trip(pt.Request("GET", URL))  # which looks at the clocks
                await other.aclose()
                fake.runtime.streams[0].feed(b"hi")
                return await response.aread()

        assert fake.runtime.run(ask()) == b"hi"

    def test_the_real_clock_does_not_jump(self):
        """No false alarm while the machine is awake."""
        from pooltransport.engine.clocks import seconds_asleep

        highest = max(seconds_asleep() for _ in range(100))
        assert all(seconds_asleep() <= highest + 0.001 for _ in range(20_000))


class TestRow25TheServersHint:
    def test_row_25_no_stale_hit(self, colour, server_factory, scaled):
        """It says ``timeout=1`` and means it: requests at random gaps never meet its close."""
        announced = scaled(2, 1)
        rounds, users = scaled(25, 2), scaled(20, 24)

        def handler(conn):
            while True:
                conn.sock.settimeout(announced)
                try:
                    if conn.read_request() is None:
                        return
                except TimeoutError:
                    return  # idle for too long: closed, as announced
                conn.send(head("200 OK", ("Keep-Alive", f"timeout={announced}"), length=5) + b"hello")

        server = server_factory(handler)
        rng = random.Random(25)
        gaps = [[rng.uniform(0.0, 2.0 * announced) for _ in range(rounds)] for _ in range(users)]

        async def body(c):
            async def user(mine):
                for gap in mine:
                    response = await c.request("POST", server.url, retry_stale=False, content=b"x")
                    reused.append(response.conn.reused)
                    assert await c.read(response) == b"hello"
                    await c.sleep(gap)

            reused = []
            await c.gather(*[lambda mine=mine: user(mine) for mine in gaps])
            assert len(reused) == users * rounds
            assert {True, False} <= set(reused)
            stats = c.transport.stats()
            assert stats.retries == 0

        run_colour(colour, body)

    @pytest.mark.parametrize(
        ("announced", "last"),
        [("timeout=2", 1.8), ("timeout=5", 4.5), ("timeout=60", 59.0), ("timeout=1", 0.9), ('Timeout="5"', 4.5)],
    )
    def test_row_25_a_little_earlier_than_it_says(self, make_fake, announced, last):
        script = f"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: {announced}, max=100\r\n\r\nhi".encode()
        fake = make_fake(script)
        fake.get()
        fake.runtime.clock.advance(last - 0.001)
        assert fake.get().reused
        fake.runtime.clock.advance(last + 0.001)
        assert not fake.get().reused

    def test_row_25_max(self, make_fake):
        fake = make_fake(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: timeout=5, max=2\r\n\r\nhi")
        # Each answer says that two more may follow; the count that was said first binds no longer.
        assert [fake.get().reused for _ in range(5)] == [False, True, True, True, True]
        fake = make_fake(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: max=0\r\n\r\nhi")
        assert [fake.get().reused for _ in range(3)] == [False, False, False]
        assert fake.transport.stats().closed["max_requests"] == 3

    def test_row_25_may_be_ignored(self, make_fake):
        script = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: timeout=1, max=0\r\n\r\nhi"
        fake = make_fake(script, honor_keep_alive_hint=False)
        fake.get()
        fake.runtime.clock.advance(80.0)
        assert fake.get().reused

    def test_row_25_it_never_lengthens(self, make_fake):
        fake = make_fake(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: timeout=500\r\n\r\nhi")
        fake.get()
        fake.runtime.clock.advance(90.1)
        assert not fake.get().reused


class TestRow27MaximumAge:
    def test_row_27_retired_at_check_in(self, colour, server_factory, scaled):
        lifetime, length = scaled(10, 3) / 10, scaled(50, 12) / 10
        answered = []

        @Responder
        def respond(conn, asked):
            answered.append((conn.number, time.monotonic()))
            conn.send(head(length=5) + b"hello")

        server = server_factory(respond)
        users = 4  # at 200 requests a second in all

        async def body(c):
            async def user():
                until = time.monotonic() + length
                while time.monotonic() < until:
                    assert await c.fetch(server.url, retry_stale=False) == b"hello"
                    await c.sleep(0.02)

            await c.gather(*[user for _ in range(users)])
            assert c.transport.stats().closed["max_lifetime"] >= users

        run_colour(colour, body, max_conn_lifetime=lifetime)
        ages: dict[int, list[float]] = {}
        for number, moment in answered:
            ages.setdefault(number, []).append(moment)
        longest = sorted(moments[-1] - moments[0] for moments in ages.values())
        assert longest[-1] <= 1.1 * lifetime + 0.05

    def test_row_27_jitter(self, make_fake):
        """Connections of one moment do not all end at one moment."""
        fake = make_fake(max_conn_lifetime=100.0, idle_conn_timeout=None)

        async def ask():
            responses = [
                await fake.transport.round_trip(pt.Request("GET", f"http://192.0.2.{n}/")) for n in range(1, 51)
            ]
            for response in responses:
                await response.aread()

        fake.runtime.run(ask())
        fake.runtime.advance(89.9)
        assert fake.transport.stats().idle == 50
        fake.runtime.advance(10.1)
        assert 5 < fake.transport.stats().idle < 45
        fake.runtime.advance(10.1)
        assert fake.transport.stats().idle == 0

    def test_row_27_one_in_use_is_not_cut_off(self, make_fake):
        fake = make_fake((b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",), max_conn_lifetime=10.0)

        async def ask():
            async with await fake.transport.round_trip(pt.Request("GET", URL)) as response:
                await fake.runtime.sleep(30.0)
                fake.runtime.streams[0].feed(b"hi")
                return await response.aread()

        assert fake.runtime.run(ask()) == b"hi"
        assert fake.transport.stats().idle == 0
        assert fake.transport.stats().closed["max_lifetime"] == 1

    def test_row_27_a_new_address_is_found(self, colour, server_factory):
        old, new = server_factory(ok(b"old")), None
        for _ in range(20):  # the same port on another loopback address
            try:
                new = _server_at("127.0.0.2", old.port)
                break
            except OSError:
                old = server_factory(ok(b"old"))
        assert new is not None
        address = ["127.0.0.1"]
        lifetime = 0.3

        async def body(c):
            url = f"http://host.example:{old.port}/"
            seen = []

            async def user():
                while not seen or time.monotonic() < seen[0] + 1.0:
                    got = await c.fetch(url)
                    if len(seen) and got == b"old":
                        late.append(time.monotonic() - seen[0])
                    await c.sleep(0.01)

            async def swap():
                await c.sleep(0.1)
                address[:] = ["127.0.0.2"]
                seen.append(time.monotonic())

            late: list[float] = []
            await c.gather(user, user, user, swap)
            assert late
            assert max(late) <= 1.2 * lifetime + 0.05

        try:
            run_colour(colour, body, max_conn_lifetime=lifetime, resolver=lambda host, port: list(address))
        finally:
            new.stop()


def _server_at(host: str, port: int):
    """Make a server at a port that is known."""
    import socket

    from tests.support.server import ScriptedServer

    class Here(ScriptedServer):
        def _listen(self, backlog, bound):
            listener = socket.create_server((host, port), backlog=backlog)
            self.host = host
            return listener

    return Here(ok(b"new"))


class TestRow28TheDefaultsKeepAPollersConnection:
    def test_row_28_every_ten_seconds(self, make_fake):
        fake = make_fake()
        for _ in range(7):
            fake.get()
            fake.runtime.advance(10.0)
        assert fake.dials == 1

    def test_row_28_every_minute(self, make_fake):
        fake = make_fake()
        for _ in range(5):
            fake.get()
            fake.runtime.advance(60.0)
        assert fake.dials == 1


class TestRow49ClientsShareATransport:
    def test_row_49_closing_a_hundred_leaves_it_open(self, colour, server_factory):
        server = server_factory(ok())

        async def body(c):
            clients = [c.make_client(headers={"X-Tenant": str(n), "Authorization": f"Bearer {n}"}) for n in range(100)]

            async def use(client):
                response = await c.call(client.get, server.url)
                assert response.status_code == 200
                await c.close(client)

            await c.gather(*[lambda client=client: use(client) for client in clients])
            assert server.peak <= 3
            assert await c.fetch(server.url) == b"hello"
            assert c.transport.stats().open >= 1

        run_colour(colour, body, max_conns_per_host=3)
        tenants = {request.header("x-tenant") for request in server.log}
        assert len(tenants - {None}) == 100
