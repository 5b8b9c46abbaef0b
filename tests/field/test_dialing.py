"""What hurts elsewhere while a connection is made: rows 29 (its dial phases) to 32, and failover between addresses."""

from __future__ import annotations

import threading
import time

import pytest

import pooltransport as pt
from tests.support import kernel
from tests.support.colours import run_colour
from tests.support.lag import Lag
from tests.support.neighbours import Neighbours
from tests.support.responders import ok, slow
from tests.support.scripts import run_script

DEAD = ("127.0.0.2", "127.0.0.3", "127.0.0.4")


class Failure:
    """The timeout that a request ended with, and after how many seconds."""

    def __init__(self):
        self.error = None
        self.lag = Lag()

    async def of(self, call):
        with self.lag:
            try:
                await call
            except pt.TransportTimeout as error:
                self.error = error
        return self

    def check(self, kind, phase, setting, seconds, tolerance):
        assert type(self.error) is kind, repr(self.error)
        assert (self.error.phase, self.error.setting, self.error.seconds) == (phase, setting, seconds)
        assert f"{seconds:g} s ({setting}), phase {phase}" in str(self.error) or phase == "queue"
        assert self.lag.within(seconds, tolerance)


@pytest.fixture
def stuck():
    """Give a resolver that answers after 30 s, or when the test ends."""
    release = threading.Event()

    def resolver(host, port):
        resolver.asked.append(host)
        resolver.threads.add(threading.get_ident())
        release.wait(30)
        return ["127.0.0.1"]

    resolver.asked, resolver.threads = [], set()
    yield resolver
    release.set()


# -- row 29 -------------------------------------------------------------------------------------


class TestRow29OneDeadline:
    """``deadline=1.0`` ends at 1.0 s, within 0.1 s, naming the phase: the phases before a request is sent."""

    def test_queue(self, colour, server_factory):
        server = server_factory(slow(threading.Event()))

        async def body(c):
            holder = await c.start(lambda: c.get(server.url, timeout=1.6))
            await c.wait_until(lambda: server.requests == 1)
            failure = await Failure().of(c.get(server.url, timeout=1.0))
            with pytest.raises(pt.ResponseHeaderTimeout):
                await c.wait(holder)
            return failure

        run_colour(colour, body, max_conns_per_host=1).check(pt.PoolTimeout, "queue", "timeout", 1.0, 0.1)

    def test_dns(self, colour, stuck):
        async def body(c):
            return await Failure().of(c.get("http://stuck.test/", timeout=1.0))

        run_colour(colour, body, resolver=stuck).check(pt.ConnectTimeout, "dns", "timeout", 1.0, 0.1)

    def test_connect(self, colour):
        with Neighbours("127.0.0.2", "127.0.0.3") as hosts:
            for host in hosts.hosts:
                hosts.black_hole(host)

            async def body(c):
                return await Failure().of(c.get(hosts.url, timeout=1.0))

            run_colour(colour, body, resolver=hosts.resolve).check(pt.ConnectTimeout, "connect", "timeout", 1.0, 0.1)

    def test_tls(self, colour, server_factory, client_ssl_context):
        server = server_factory(lambda conn: conn.read_to_end())

        async def body(c):
            return await Failure().of(c.get(f"https://127.0.0.1:{server.port}", timeout=1.0))

        failure = run_colour(colour, body, ssl_context=client_ssl_context)
        failure.check(pt.ConnectTimeout, "tls", "timeout", 1.0, 0.1)


# -- row 30 -------------------------------------------------------------------------------------

BY_REQUEST = ({}, {"timeout": pt.Timeout(connect=0.5)}, "connect")
BY_OPTION = ({"dial_timeout": 0.5}, {}, "dial_timeout")


@pytest.mark.parametrize(("options", "fields", "setting"), [BY_REQUEST, BY_OPTION], ids=["connect", "dial_timeout"])
class TestRow30OneConnectTimeout:
    """0.5 s over all addresses and phases: at most 0.55 s."""

    def test_three_dead_addresses(self, colour, options, fields, setting):
        with Neighbours(*DEAD) as hosts:
            for host in DEAD:
                hosts.black_hole(host)

            async def body(c):
                return await Failure().of(c.get(hosts.url, **fields))

            failure = run_colour(colour, body, resolver=hosts.resolve, **options)
            failure.check(pt.ConnectTimeout, "connect", setting, 0.5, 0.05)

    def test_and_a_black_hole_in_tls(self, colour, options, fields, setting, client_ssl_context):
        with Neighbours(*DEAD, "127.0.0.5") as hosts:
            hosts.black_hole(DEAD[0])  # the two others refuse
            hosts.serve("127.0.0.5", lambda conn: conn.read_to_end())
            url = hosts.url.replace("http:", "https:")

            async def body(c):
                return await Failure().of(c.get(url, **fields))

            failure = run_colour(colour, body, resolver=hosts.resolve, ssl_context=client_ssl_context, **options)
            failure.check(pt.ConnectTimeout, "tls", setting, 0.5, 0.05)


# -- row 31 -------------------------------------------------------------------------------------


class TestRow31LookUps:
    @pytest.mark.parametrize("timeout", [0.5, pt.Timeout(connect=0.5)])
    def test_a_stuck_resolver_holds_no_deadline(self, colour, stuck, timeout):
        async def body(c):
            return await Failure().of(c.get("http://stuck.test/", timeout=timeout))

        setting = "timeout" if timeout == 0.5 else "connect"
        run_colour(colour, body, resolver=stuck).check(pt.ConnectTimeout, "dns", setting, 0.5, 0.05)

    def test_nor_the_dials_own(self, colour, stuck):
        async def body(c):
            return await Failure().of(c.get("http://stuck.test/"))

        failure = run_colour(colour, body, resolver=stuck, dial_timeout=0.5)
        failure.check(pt.ConnectTimeout, "dns", "dial_timeout", 0.5, 0.05)

    def test_the_systems_resolver_too(self, colour, monkeypatch):
        import socket

        release = threading.Event()
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: release.wait(30) and [])
        try:

            async def body(c):
                # A name for each colour: the resolver is shared by all transports, and is still busy with the last.
                return await Failure().of(c.get(f"http://stuck-{colour}.test/", timeout=0.5))

            run_colour(colour, body).check(pt.ConnectTimeout, "dns", "timeout", 0.5, 0.05)
        finally:
            release.set()

    def test_other_names_are_not_held_up(self, colour, stuck, server_factory):
        server = server_factory(ok())

        def resolver(host, port):
            return stuck(host, port) if host.startswith("stuck") else ["127.0.0.1"]

        async def body(c):
            held = [await c.start(lambda n=n: c.get(f"http://stuck{n}.test/", timeout=1.5)) for n in range(3)]
            await c.wait_until(lambda: len(stuck.asked) == 3)
            with Lag() as lag:
                assert await c.fetch(f"http://good.test:{server.port}/") == b"hello"
            assert lag.within(0.0, 0.5)
            for handle in held:
                with pytest.raises(pt.ConnectTimeout):
                    await c.wait(handle)

        run_colour(colour, body, resolver=resolver)

    def test_a_hundred_requests_look_up_once(self, colour, server_factory):
        server = server_factory(ok())
        release = threading.Event()
        asked = []

        def resolver(host, port):
            asked.append(host)
            release.wait(10)
            return ["127.0.0.1"]

        async def body(c):
            told = []
            trace = pt.ClientTrace(dns_start=told.append, dns_done=lambda info: told.append(info.coalesced))
            url = f"http://new.test:{server.port}/"
            handles = [await c.start(lambda: c.fetch(url, trace=trace)) for _ in range(100)]
            await c.wait_until(lambda: len(told) == 100)
            release.set()
            assert [await c.wait(handle) for handle in handles] == [b"hello"] * 100
            assert told[100:].count(True) == 99

        run_colour(colour, body, resolver=resolver)
        assert asked == ["new.test"]

    def test_four_threads_at_first(self, colour, stuck):
        async def body(c):
            calls = [lambda n=n: Failure().of(c.get(f"http://stuck{n}.test/", timeout=0.5)) for n in range(12)]
            await c.gather(*calls)

        run_colour(colour, body, resolver=stuck)
        assert len(stuck.threads) == 4


# -- row 32 -------------------------------------------------------------------------------------


class TestRow32HappyEyeballs:
    """AAAA black-holed, A good: connected within 0.35 s (RFC 8305: 250 ms)."""

    @pytest.mark.parametrize("name", ["threads", "asyncio", "uvloop", "trio"])
    def test_a_silent_family_costs_a_quarter_of_a_second(self, name):
        with Neighbours("::1", "127.0.0.1") as hosts:
            hosts.black_hole("::1")
            server = hosts.serve("127.0.0.1", ok())

            async def body(c):
                connecting = []
                trace = pt.ClientTrace(got_conn=lambda info: connecting.append(kernel.in_state(kernel.SYN_SENT)))
                fillers = kernel.in_state(kernel.SYN_SENT)
                await c.fetch(f"http://127.0.0.1:{hosts.port}/")  # what is imported once is not the race's time
                began = time.monotonic()
                assert await c.fetch(hosts.url, trace=trace) == b"hello"
                seconds = time.monotonic() - began
                assert connecting == [fillers], "the loser's socket is closed before delivery"
                assert c.transport.stats().open == 2
                return seconds

            # Three times, as a busy machine may need a moment longer once; each transport starts without a memory.
            took = [run_colour(name, body, resolver=hosts.resolve) for _ in range(3)]
            assert 0.24 < min(took) <= 0.35
            assert server.accepted == 6

    def test_a_refusing_family_costs_nothing(self, colour):
        with Neighbours("::1", "127.0.0.1") as hosts:
            hosts.serve("127.0.0.1", ok())

            async def body(c):
                with Lag() as lag:
                    assert await c.fetch(hosts.url) == b"hello"
                assert lag.within(0.0, 0.2)

            run_colour(colour, body, resolver=hosts.resolve)

    def test_a_family_that_answers_is_the_only_one_asked(self, colour):
        with Neighbours("::1", "127.0.0.1") as hosts:
            servers = [hosts.serve(host, ok()) for host in hosts.hosts]

            async def body(c):
                for _ in range(10):
                    assert await c.fetch(hosts.url) == b"hello"

            run_colour(colour, body, resolver=hosts.resolve, disable_keep_alives=True)
            assert [server.accepted for server in servers] == [10, 0]

    def test_closing_while_both_are_under_way(self, colour):
        with Neighbours("::1", "127.0.0.1") as hosts:
            for host in hosts.hosts:
                hosts.black_hole(host)
            fillers = kernel.in_state(kernel.SYN_SENT)

            async def body(c):
                handle = await c.start(lambda: c.get(hosts.url))
                await c.wait_until(lambda: kernel.in_state(kernel.SYN_SENT) == fillers + 2)
                await c.close_transport()
                with pytest.raises(pt.TransportClosed):
                    await c.wait(handle)
                await c.wait_until(lambda: kernel.in_state(kernel.SYN_SENT) == fillers)
                await c.wait_until(lambda: c.transport.stats().dialing == 0)

            run_colour(colour, body, resolver=hosts.resolve)


# -- three backends behind one name ---------------------------------------------------------------


class Backends(Neighbours):
    """Three of them; the resolver begins with another each time."""

    def __init__(self):
        super().__init__(*DEAD)

    def resolve(self, host, port):
        found = super().resolve(host, port)
        turn = len(self.asked) % len(found)
        return found[turn:] + found[:turn]


class TestFailover:
    @pytest.mark.parametrize("how", ["refuses", "is silent"])
    def test_one_of_three_is_dead(self, colour, how):
        with Backends() as hosts:
            if how == "is silent":
                hosts.black_hole(DEAD[0])
            servers = [hosts.serve(host, ok()) for host in DEAD[1:]]

            async def body(c):
                for _ in range(30):
                    assert await c.fetch(hosts.url, timeout=1.0) == b"hello"

            run_colour(colour, body, resolver=hosts.resolve, disable_keep_alives=True)
            assert sum(server.accepted for server in servers) == 30

    def test_one_of_three_is_killed_while_connections_lie_idle(self, colour):
        with Backends() as hosts:
            for host in DEAD:
                hosts.serve(host, ok())

            async def body(c):
                for _ in range(3):  # each look-up begins with another: connections to all of them
                    await c.gather(*[lambda: c.fetch(hosts.url, timeout=2.0) for _ in range(9)])
                hosts.kill(DEAD[1])
                for _ in range(10):
                    await c.gather(*[lambda: c.fetch(hosts.url, timeout=1.0) for _ in range(9)])

            run_colour(colour, body, resolver=hosts.resolve)

    def test_idle_connections_to_an_address_that_stopped_listening_are_retired(self, colour):
        """Their server is still there; what they are worth nobody knows, and there is another."""
        with Neighbours(*DEAD[:2]) as hosts:
            old = hosts.serve(DEAD[0], ok())
            hosts.serve(DEAD[1], ok())
            closed = []
            trace = pt.ClientTrace(conn_closed=lambda info: closed.append((info.conn.remote_addr, info.reason.value)))

            def resolver(host, port):
                return DEAD[:1] if host == "old.test" else DEAD[:2]

            async def body(c):
                held = [await c.get(f"http://old.test:{hosts.port}/") for _ in range(3)]
                for response in held:
                    await c.read(response)
                idle = c.transport.stats().idle
                assert idle >= 1
                old.stop_listening()
                assert await c.fetch(hosts.url, timeout=1.0) == b"hello"
                assert closed == [(f"{DEAD[0]}:{hosts.port}", "address_failed")] * idle
                assert c.transport.stats().idle == 1

            run_colour(colour, body, resolver=resolver, trace=trace)

    def test_a_silent_address_costs_its_delay_once(self, colour):
        with Neighbours(*DEAD[:2]) as hosts:
            hosts.black_hole(DEAD[0])
            hosts.serve(DEAD[1], ok())

            async def body(c):
                seconds = []
                for _ in range(5):
                    began = time.monotonic()
                    await c.fetch(hosts.url)
                    seconds.append(time.monotonic() - began)
                assert seconds[0] > 0.24
                assert sorted(seconds[1:])[1] < 0.2, "a busy machine may hold up one or two"

            run_colour(colour, body, resolver=hosts.resolve, disable_keep_alives=True)


NO_THREADS = """
    import sys, threading, time
    import pooltransport as pt

    hosts, port = sys.argv[1].split(), int(sys.argv[2])
    transport = pt.Transport(resolver=lambda host, port: hosts, dial_timeout=float(sys.argv[3]))
    threading.stack_size(1 << 46)  # more than there is: no thread can start
    try:
        threading.Thread(target=print).start()
    except RuntimeError:
        pass
    else:
        raise AssertionError("threads start all the same")
    for _ in range(3):
        with transport.round_trip(pt.Request("GET", f"http://a.test:{port}/")) as response:
            assert response.read() == b"hello"
        transport.close_idle_connections()
    stats = transport.stats()
    assert (stats.open, stats.dialing, stats.dials) == (0, 0, 3)
    transport.close()
"""


@pytest.mark.parametrize(("how", "limit"), [("refuses", 30.0), ("is silent", 4.0)])
def test_where_no_thread_can_start_the_caller_tries_one_address_after_another(tmp_path, how, limit):
    """A process at its limit of threads still gets its answers."""
    with Neighbours(*DEAD) as hosts:
        if how == "is silent":
            hosts.black_hole(DEAD[0])
        hosts.serve(DEAD[1], ok())
        run_script(tmp_path / "s.py", NO_THREADS, " ".join(DEAD), hosts.port, limit)
