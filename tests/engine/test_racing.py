"""Happy Eyeballs by hand: which address is tried when, in which lane, and what is left of the loser (RFC 8305)."""

from __future__ import annotations

import errno

import pytest

from pooltransport import ClientTrace, Request, Timeout
from pooltransport.errors import ConnectError, ConnectTimeout, DNSError, TLSError
from pooltransport.stats import CloseReason
from pooltransport.testing.fakes import Answers, FakeDial, FakeRuntime, FakeTransport
from tests.engine.scenarios import OK, TLS

URL = "http://host.test/"
A, B, C = "192.0.2.1", "192.0.2.2", "192.0.2.3"
A6, B6 = "2001:db8::1", "2001:db8::2"


class Network:
    """`addresses` by what they do: ``accept``, ``refuse``, an error, or seconds until they accept; else silence."""

    def __init__(self, make_world, addresses, behaviour=(), **options):
        self.answers = Answers(OK)
        self.behaviour = dict(behaviour)
        self.world = make_world(self.peer, **options)
        self.runtime = self.world.runtime
        self.runtime.resolver.names["host.test"] = addresses
        self.began = self.runtime.now()
        self.dialed = []  # (seconds, address)
        self.most = 0  # sockets at once

    def peer(self, dial):
        host = dial.address.sockaddr[0]
        self.dialed.append((round(self.runtime.now() - self.began, 3), host))
        self.most = max(self.most, sum(not d.ended for d in self.runtime.dials))
        does = self.behaviour.get(host)
        if does == "accept":
            self.answers(dial)
        elif does == "refuse":
            dial.refuse()
        elif isinstance(does, Exception):
            dial.refuse(does)
        elif does is not None:
            self.runtime.start(self.later(dial, does), "peer")

    async def later(self, dial, seconds):
        await self.runtime.sleep(seconds)
        if dial.pending:
            self.answers(dial)

    def get(self, **fields):
        return self.runtime.run(self.world.get(URL, **fields))

    @property
    def elapsed(self):
        return self.runtime.now() - self.began


@pytest.mark.parametrize(("addresses", "options"), [([A], {}), ([A, B], {"happy_eyeballs_delay": None})])
def test_one_address_or_one_lane_costs_no_task_and_no_latch(make_world, addresses, options):
    made = []

    class Counting(FakeRuntime):
        def spawn(self, context, fn, *args):
            made.append(fn.__qualname__)
            return super().spawn(context, fn, *args)

        def new_latch(self):
            made.append("latch")
            return super().new_latch()

    net = Network(make_world, addresses, {A: "accept"}, **options)
    net.runtime.__class__ = Counting
    net.get()
    assert made == ["latch", "DialJob._run"]  # the latch is the request's


def test_families_in_turn_the_resolvers_first(make_world):
    net = Network(make_world, [A6, B6, A, B], happy_eyeballs_delay=None, dial_timeout=40.0)
    with pytest.raises(ConnectTimeout):
        net.get()
    assert [host for _, host in net.dialed] == [A6, A, B6, B]


def test_the_second_lane_starts_after_the_delay(make_world):
    net = Network(make_world, [A6, A], {A: "accept"})
    assert net.get() == b"hi"
    assert net.dialed == [(0.0, A6), (0.25, A)]
    assert net.elapsed == pytest.approx(0.25)


def test_the_delay_is_an_option(make_world):
    net = Network(make_world, [A6, A], {A: "accept"}, happy_eyeballs_delay=0.1)
    net.get()
    assert net.dialed == [(0.0, A6), (0.1, A)]


def test_without_a_delay_one_after_another(make_world):
    net = Network(make_world, [A6, A], {A: "accept"}, happy_eyeballs_delay=None, dial_timeout=10.0)
    assert net.get() == b"hi"
    assert net.dialed == [(0.0, A6), (5.0, A)]  # its share of the time (Go)
    assert net.most == 1


def test_a_failure_lets_the_next_start_at_once(make_world):
    net = Network(make_world, [A, B, C], {A: "refuse", C: "accept"})
    net.get()
    # The delay runs from the latest attempt: the second lane does not open on a live address's heels.
    assert net.dialed == [(0.0, A), (0.0, B), (0.25, C)]


def test_the_delay_runs_from_the_latest_attempt(make_world):
    net = Network(make_world, [A, B, C], {A: TimeoutError(errno.ETIMEDOUT, "late"), C: "accept"})
    refuse, net.behaviour[A] = net.behaviour[A], None

    async def later():
        await net.runtime.sleep(0.2)
        net.runtime.dials[0].refuse(refuse)

    net.runtime.start(later(), "peer")
    net.get()
    assert net.dialed == [(0.0, A), (0.2, B), (0.45, C)]


def test_a_failure_that_leaves_one_address_opens_no_lane(make_world):
    net = Network(make_world, [A, B], {A: "refuse", B: 1.0})
    net.get()
    assert net.dialed == [(0.0, A), (0.0, B)]
    assert net.most == 1


def test_a_lane_goes_on_to_the_next_address(make_world):
    net = Network(make_world, [A, B, C], {B: "refuse", C: "accept"})
    net.get()
    assert net.dialed == [(0.0, A), (0.25, B), (0.25, C)]


def test_the_first_may_still_win(make_world):
    net = Network(make_world, [A, B], {A: 0.3, B: 9.0})
    net.get()
    assert net.elapsed == pytest.approx(0.3)
    assert [stream.remote_addr for stream in net.runtime.open_streams] == [f"{A}:80"]


def test_never_more_than_two_sockets(make_world):
    net = Network(make_world, [A, A6, B, B6, C], {C: "accept"}, dial_timeout=100.0)
    net.get()
    assert net.most == 2
    assert [host for _, host in net.dialed] == [A, A6, B, B6, C]


def test_the_loser_is_closed_before_delivery(make_world):
    net = Network(make_world, [A, B], {B: "accept"})
    seen = []
    trace = ClientTrace(got_conn=lambda info: seen.append([d.address.text for d in net.runtime.dials if not d.ended]))
    net.get(trace=trace)
    assert seen == [[]]
    assert net.world.transport.stats().open == 1


def test_both_accept_at_once(make_world):
    net = Network(make_world, [A, B])
    task = net.runtime.start(net.world.get(URL))
    net.runtime.advance(0.3)
    for dial in net.runtime.dials:
        net.answers(dial)
    net.runtime.run_until_idle()
    assert task.outcome() == b"hi"
    assert len(net.runtime.open_streams) == 1
    assert net.world.transport.stats().open == 1


def test_hooks_tell_each_attempt(make_world):
    net = Network(make_world, [A, B, C], {A: "refuse", C: "accept"})
    told = []
    trace = ClientTrace(
        connect_start=lambda info: told.append(("start", info.address)),
        connect_done=lambda info: told.append((info.address, info.error and info.error.errno)),
    )
    net.get(trace=trace)
    assert told == [
        ("start", f"{A}:80"),
        (f"{A}:80", errno.ECONNREFUSED),
        ("start", f"{B}:80"),
        ("start", f"{C}:80"),
        (f"{C}:80", None),
        (f"{B}:80", errno.ECANCELED),
    ]


def test_the_hooks_run_in_the_context_of_the_request(make_world):
    import contextvars

    who = contextvars.ContextVar("who", default="nobody")
    net = Network(make_world, [A, B], {B: "accept"})
    told = []
    trace = ClientTrace(connect_start=lambda info: told.append(who.get()))
    who.set("me")
    net.get(trace=trace)
    assert told == ["me", "me"]


class TestShares:
    def test_each_gets_its_share_but_two_seconds(self, make_world):
        net = Network(make_world, [A, B, C], dial_timeout=4.5, happy_eyeballs_delay=None)
        with pytest.raises(ConnectTimeout):
            net.get()
        assert net.dialed == [(0.0, A), (2.0, B), (4.0, C)]
        assert net.elapsed == pytest.approx(4.5)

    def test_the_dial_ends_at_its_moment(self, make_world):
        net = Network(make_world, [A, B, C], dial_timeout=0.5)
        with pytest.raises(ConnectTimeout, match=r"0.5 s \(dial_timeout\), phase connect") as caught:
            net.get()
        assert net.elapsed == pytest.approx(0.5)
        assert [attempt.address for attempt in caught.value.attempts] == [f"{A}:80", f"{B}:80"]

    def test_who_waited_for_one_that_is_silent_timed_out(self, make_world):
        net = Network(make_world, [A, B], {B: "refuse"}, dial_timeout=0.5)
        with pytest.raises(ConnectTimeout) as caught:
            net.get()
        assert [attempt.errno for attempt in caught.value.attempts] == [errno.ETIMEDOUT, errno.ECONNREFUSED]

    def test_the_callers_own_clock_says_what_is_under_way(self, make_world):
        net = Network(make_world, [A, B, C], {A: "refuse"})
        with pytest.raises(ConnectTimeout) as caught:
            net.get(timeout=Timeout(connect=0.5))
        assert str(caught.value) == (
            "http://host.test:80: no connection was made within 0.5 s (connect), phase connect; "
            "tried 192.0.2.1:80: Connection refused (errno 111); trying 192.0.2.2:80, 192.0.2.3:80"
        )
        assert [attempt.address for attempt in caught.value.attempts] == [f"{A}:80"]

    def test_without_a_limit_nothing_is_shared(self, make_world):
        net = Network(make_world, [A, B], {B: "accept"}, dial_timeout=None)
        net.get()
        assert [dial.at for dial in net.runtime.dials] == [None, None]


class TestFailures:
    def test_every_address_is_listed(self, make_world):
        gone = OSError(errno.EHOSTUNREACH, "No route to host")
        net = Network(make_world, [A, B], {A: "refuse", B: gone})
        with pytest.raises(ConnectError) as caught:
            net.get()
        assert str(caught.value) == (
            "cannot connect to http://host.test:80: 192.0.2.1:80: Connection refused (errno 111); "
            "192.0.2.2:80: No route to host (errno 113): unreachable from here"
        )
        rows = [(a.address, a.errno, a.phase) for a in caught.value.attempts]
        assert rows == [(f"{A}:80", errno.ECONNREFUSED, "connect"), (f"{B}:80", errno.EHOSTUNREACH, "connect")]
        assert caught.value.__cause__ is gone

    def test_refused_dropped_unreachable_and_unknown_differ(self, make_world):
        texts = {}
        for does in ("refuse", None, OSError(errno.ENETUNREACH, "Network is unreachable")):
            net = Network(make_world, [A, B], {A: does, B: "refuse"}, dial_timeout=6.0, happy_eyeballs_delay=None)
            with pytest.raises(ConnectError) as caught:
                net.get()
            texts[caught.value.attempts[0].errno] = str(caught.value).partition("; ")[0].partition(f"{A}:80: ")[2]
        assert texts == {
            errno.ECONNREFUSED: "Connection refused (errno 111)",
            errno.ETIMEDOUT: "no answer within 3 s (errno 110)",
            errno.ENETUNREACH: "Network is unreachable (errno 101): unreachable from here",
        }

    @pytest.mark.parametrize(
        ("number", "means"),
        [
            (errno.EADDRNOTAVAIL, "no local port is free towards it"),
            (errno.EMFILE, "this process may open no more files"),
            (errno.ENFILE, "this machine may open no more files"),
        ],
    )
    def test_what_is_wrong_with_this_machine_is_not_the_addresses_fault(self, make_world, number, means):
        net = Network(make_world, [A, B], {A: OSError(number, "no")})
        net.runtime.resolver.names["host.test"] = [A]
        with pytest.raises(ConnectError, match=means):
            net.get()
        net.runtime.resolver.names["host.test"] = [A, B]
        net.behaviour = {A: "accept"}
        net.dialed.clear()
        net.get()
        assert [host for _, host in net.dialed] == [A]

    def test_what_is_no_os_error_fails_its_address_only(self, make_world):
        net = Network(make_world, [A, B], {A: OverflowError("port must be 0-65535"), B: "accept"})
        assert net.get() == b"hi"

    def test_another_family_than_the_local_address(self, make_world):
        net = Network(make_world, [A6, A], {A: "refuse"}, local_address="192.0.2.77")
        with pytest.raises(ConnectError, match=r"\[2001:db8::1\]:80: left out: local_address .* family") as caught:
            net.get()
        assert [host for _, host in net.dialed] == [A]
        assert [attempt.errno for attempt in caught.value.attempts] == [errno.EAFNOSUPPORT, errno.ECONNREFUSED]
        assert net.runtime.dials[0].options.local_address == ("192.0.2.77", 0)

    @pytest.mark.parametrize(
        ("number", "local", "means"),
        [
            (errno.EADDRNOTAVAIL, "192.0.2.77", "local_address 192.0.2.77 is not an address of this machine"),
            (errno.EADDRINUSE, ("192.0.2.77", 4000), "local_address 192.0.2.77: its port 4000 is in use"),
            (errno.EADDRINUSE, "192.0.2.77", "local_address 192.0.2.77: every port of it is in use"),
            (errno.ECONNREFUSED, "192.0.2.77", "made up"),
        ],
    )
    def test_what_is_wrong_with_the_local_address(self, make_world, number, local, means):
        net = Network(make_world, [A], {A: OSError(number, "made up")}, local_address=local)
        with pytest.raises(ConnectError, match=means) as caught:
            net.get()
        assert caught.value.attempts[0].errno == number

    def test_a_path(self, make_world):
        gone = FileNotFoundError(errno.ENOENT, "No such file or directory")
        world = make_world(lambda dial: dial.refuse(gone), uds="/run/x")
        with pytest.raises(ConnectError, match="/run/x: No such file or directory") as caught:
            world.runtime.run(world.get(URL))
        assert caught.value.attempts == (("/run/x", gone, "connect"),)

    def test_a_handshake_that_fails_names_its_address_and_phase(self, make_world):
        broken = ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
        net = Network(make_world, [A, B], {A: "refuse"}, ssl_context=TLS)
        net.behaviour[B] = 0.0

        async def later(dial, seconds):
            dial.accept().fail_tls = broken

        net.later = later
        with pytest.raises(TLSError) as caught:
            net.runtime.run(net.world.get("https://host.test/"))
        rows = [(a.address, a.errno, a.phase) for a in caught.value.attempts]
        assert rows == [(f"{A}:443", errno.ECONNREFUSED, "connect"), (f"{B}:443", errno.ECONNRESET, "tls")]

    def test_no_address_of_the_local_addresss_family(self, make_world):
        net = Network(make_world, [A], local_address=("2001:db8::77", 4000))
        with pytest.raises(ConnectError, match="left out"):
            net.get()
        assert net.dialed == []


class TestMemory:
    """An address that failed is tried last for a while, and its idle connections go."""

    def test_a_refusing_address_is_tried_last_for_a_while(self, make_world):
        net = Network(make_world, [A, B], {A: "refuse", B: "accept"}, disable_keep_alives=True)
        net.get()
        net.get()
        assert [host for _, host in net.dialed] == [A, B, B]
        net.runtime.advance(10.1)
        net.get()
        assert [host for _, host in net.dialed][3:] == [A, B]

    def test_a_success_wipes_it_out(self, make_world):
        net = Network(make_world, [A, B], {A: "refuse", B: "refuse"}, disable_keep_alives=True)
        with pytest.raises(ConnectError):
            net.get()
        net.behaviour = {A: "accept", B: "accept"}
        net.get()
        net.runtime.resolver.names["host.test"] = [B, A]
        net.dialed.clear()
        net.get()
        assert [host for _, host in net.dialed] == [A]  # B has not answered since

    def test_who_did_not_answer_within_its_head_start_is_tried_last(self, make_world):
        # RFC 8305 section 4: prefer what was faster
        net = Network(make_world, [A, B], {B: "accept"}, disable_keep_alives=True)
        net.get()
        net.dialed.clear()
        net.get()
        assert [host for _, host in net.dialed] == [B]
        net.runtime.advance(10.1)
        net.get()
        assert [host for _, host in net.dialed] == [B, A, B]

    def test_who_lost_without_a_head_start_did_not_fail(self, make_world):
        net = Network(make_world, [A, B], {A: 0.3}, disable_keep_alives=True)
        net.get()  # B had 0.05 s
        net.runtime.resolver.names["host.test"] = [B, A]
        net.dialed.clear()
        net.get()
        assert net.dialed[0][1] == B

    def retire(self, make_world, addresses):
        """Have two idle connections to A and one to C, by other names, then let A refuse."""
        net = Network(make_world, addresses, {A: "accept", B: "accept", C: "accept"})
        net.runtime.resolver.names |= {"other.test": [A], "third.test": [C]}
        for name in ("other", "other", "third"):
            net.world.start(net.world.get(f"http://{name}.test/"))
        net.runtime.run_until_idle()
        assert net.world.transport.stats().idle == 3
        net.behaviour[A] = "refuse"
        net.world.start(net.world.get(URL))
        net.runtime.run_until_idle()
        return net

    def test_its_idle_connections_are_retired(self, make_world):
        net = self.retire(make_world, [A, B])
        assert net.world.transport.stats().closed == {CloseReason.ADDRESS_FAILED.value: 2}
        assert {stream.remote_addr for stream in net.runtime.open_streams} == {f"{B}:80", f"{C}:80"}

    def test_but_not_where_there_is_no_other_address(self, make_world):
        net = self.retire(make_world, [A])
        assert net.world.transport.stats().closed == {}


class TestEnds:
    @pytest.mark.parametrize("seconds", [0.0, 0.1, 0.3, 1.0])
    def test_closing_the_transport_leaves_no_socket(self, make_world, seconds):
        net = Network(make_world, [A, B, C])
        task = net.runtime.start(net.world.get(URL))
        net.runtime.run_until_idle()
        net.runtime.advance(seconds)
        net.runtime.run(net.world.transport.aclose())
        net.runtime.run_until_idle()
        assert task.done
        assert all(dial.ended for dial in net.runtime.dials)
        assert net.world.transport.stats().dialing == 0

    def test_the_dial_has_not_ended_before_its_sockets_are_closed(self, make_world):
        # contract 1.1: limits mean sockets
        net = Network(make_world, [A, B])
        dialing = []
        trace = ClientTrace(connect_done=lambda info: dialing.append(net.world.transport.stats().dialing))
        first = net.runtime.start(net.world.get(URL, trace=trace))
        net.runtime.run_until_idle()
        net.runtime.advance(0.3)
        first.cancel()
        net.runtime.run_until_idle()
        net.world.transport.close_idle_connections()  # aborts the dial, which is nobody's by now
        net.runtime.run_until_idle()
        assert dialing == [1, 1]
        assert net.world.transport.stats().dialing == 0

    def test_the_slot_is_free_when_both_sockets_are_closed(self, make_world):
        # contract 1.1: limits mean sockets
        net = Network(make_world, [A, B], max_conns_per_host=1)
        first = net.runtime.start(net.world.get(URL))
        net.runtime.advance(0.3)
        seen = []
        dial_again = net.peer

        def peer(dial):
            seen.append([d.address.text for d in net.runtime.dials if not d.ended])
            dial_again(dial)

        net.runtime.on_dial = peer
        net.behaviour = {A: "accept"}
        first.cancel()
        net.runtime.run_until_idle()
        net.world.transport.close_idle_connections()  # aborts the orphan
        net.get()
        assert seen == [[f"{A}:80"]]


class ThreadDial(FakeDial):
    """One whose stream is there before it is connected."""

    connected = False


class Threadlike(FakeRuntime):
    """Cancelling a task does nothing, as on threads: what it waits for is aborted, and it may even be told
    that a socket is connected which somebody has shut down meanwhile (`lies`).
    """

    lies = False

    def spawn(self, context, fn, *args):
        super().spawn(context, fn, *args)
        return self

    def cancel(self):
        """Do nothing."""

    async def connect(self, address, options, at, register):
        dial = ThreadDial(self, address, options, at)
        stream = dial.accept()
        self.dials.append(dial)
        try:
            register(stream)
            self.on_dial(dial)
            came = await self.wait("connect", lambda: dial.connected or not stream.is_open, at)
            for _ in range(5):  # who is inside takes his time to leave
                await self.wait("leave", lambda: True, None)
            if not came or not (dial.connected or self.lies):
                raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
        except BaseException:
            stream.drop()
            raise
        finally:
            dial.ended = True
        return stream


class TestAsOnThreads:
    def start(self, peer, **options):
        self.runtime = Threadlike(peer)
        self.runtime.resolver.names["host.test"] = [A, B]
        self.transport = FakeTransport(self.runtime, **options)

        async def get():
            trace = ClientTrace(got_conn=lambda info: self.delivered.append([d.ended for d in self.runtime.dials]))
            async with await self.transport.round_trip(Request("GET", URL, trace=trace)) as response:
                return await response.aread()

        self.delivered = []
        return self.runtime.start(get())

    def end(self):
        self.transport.check()
        self.runtime.run(self.transport.aclose())
        self.runtime.run_until_idle()
        assert self.runtime.open_streams == []
        assert self.transport.stats().dialing == 0

    @pytest.mark.parametrize("lies", [False, True])
    def test_the_loser_is_aborted_by_its_stream(self, lies):
        def peer(dial):
            if dial.address.text.startswith(B):
                dial.connected = True
                Answers(OK).serve(dial.stream)

        task = self.start(peer)
        self.runtime.lies = lies
        self.runtime.run_until_idle()
        self.runtime.advance(0.3)
        assert task.outcome() == b"hi"
        assert self.delivered == [[True, True]], "the loser's socket is closed before delivery"
        assert [stream.remote_addr for stream in self.runtime.open_streams] == [f"{B}:80"]
        self.end()

    def test_both_connect_in_the_same_moment(self):
        answers = Answers(OK)

        def peer(dial):
            answers.serve(dial.stream)

        task = self.start(peer)
        self.runtime.advance(0.3)
        for dial in self.runtime.dials:
            dial.connected = True
        self.runtime.run_until_idle()
        assert task.outcome() == b"hi"
        assert len(self.runtime.open_streams) == 1
        self.end()

    def test_a_socket_that_is_made_after_the_end_is_not_connected(self):
        """The end comes as a hook is told, before there is a socket: it is learnt at the registration."""
        connected = []

        def on_start(info):
            if info.address.startswith(B):
                self.transport.close_idle_connections()  # aborts the dial, which is nobody's by now

        trace = ClientTrace(connect_start=on_start)
        task = self.start(connected.append, trace=trace, happy_eyeballs_delay=5.0)
        self.runtime.run_until_idle()
        task.cancel()
        self.runtime.run_until_idle()
        self.runtime.dials[0].stream.drop()
        self.runtime.run_until_idle()
        assert [dial.address.text for dial in self.runtime.dials] == [f"{A}:80", f"{B}:80"]
        assert [dial.address.text for dial in connected] == [f"{A}:80"]
        self.end()

    def test_the_end_comes_between_look_up_and_race(self):
        trace = ClientTrace(dns_done=lambda info: self.transport.close_idle_connections())
        connected = []
        task = self.start(connected.append, trace=trace)
        del self.runtime.resolver.names["host.test"]
        self.runtime.run_until_idle()
        task.cancel()
        self.runtime.run_until_idle()
        self.runtime.resolver.answer("host.test", [A, B])
        self.runtime.run_until_idle()
        assert connected == []
        assert self.transport.stats().dialing == 0
        self.end()


class TestLookUp:
    def test_the_name_and_the_resolvers_reason(self, make_world):
        import socket

        net = Network(make_world, socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
        with pytest.raises(DNSError, match="cannot resolve 'host.test': unknown name: Name or service not known"):
            net.get()
        net.runtime.resolver.names["host.test"] = socket.gaierror(socket.EAI_AGAIN, "Temporary failure")
        with pytest.raises(DNSError, match="no name server answered: Temporary failure"):
            net.get()

    def test_no_address(self, make_world):
        net = Network(make_world, [])
        with pytest.raises(DNSError, match="the resolver knows no address"):
            net.get()

    def test_a_hundred_requests_look_up_once(self, make_world):
        net = Network(make_world, [A], {A: "accept"})
        del net.runtime.resolver.names["host.test"]
        tasks = [net.runtime.start(net.world.get(URL)) for _ in range(100)]
        net.runtime.run_until_idle()
        net.runtime.resolver.answer("host.test", [A])
        net.runtime.run_until_idle()
        assert [task.outcome() for task in tasks] == [b"hi"] * 100
        assert net.runtime.resolver.asked == ["host.test"]
