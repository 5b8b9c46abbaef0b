"""TLS over a stream in use: what an idle connection may say, on a runtime that tells and on one that is asked."""

from __future__ import annotations

import errno

import pytest

from pooltransport.errors import ReadError
from pooltransport.runtime.tls_over import TLSOver
from pooltransport.stats import CloseReason
from pooltransport.testing.fakes import END, FakeRuntime, FakeStream
from tests.engine.scenarios import World
from tests.engine.tunnels import HTTP_PROXY, SECURE, Origin, client_context, connect

BIG = bytes(range(256)) * 2000


@pytest.fixture(params=["told", "asked"])
def idle(request):
    """Give a world with one idle tunnel, and the origin at its end, which has held its session tickets back."""
    peer = connect(hold=True)
    world = World(
        peer, proxy=HTTP_PROXY, ssl_context=client_context(), runtime={"idle_events": request.param == "told"}
    )
    world.runtime.run(world.transport.warm(SECURE, 1))
    assert world.transport.stats().idle == 1
    yield world, peer.origins[0]
    world.transport.check()
    world.runtime.run(world.transport.aclose())
    assert world.runtime.open_streams == []


def closed(world):
    return world.transport.stats().closed


class TestIdle:
    def test_session_tickets_are_no_reason_to_close(self, idle):
        world, origin = idle
        assert origin.held
        origin.release(10)
        world.runtime.advance(2)
        origin.release()
        world.runtime.advance(2)
        assert world.transport.stats().idle == 1
        assert world.runtime.run(world.get(SECURE)) == b"hi"
        assert (world.transport.stats().dials, closed(world)) == (1, {})

    def test_text_is_unsolicited(self, idle):
        world, origin = idle
        origin.say(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        assert world.runtime.run(world.get(SECURE)) == b"hi"
        assert closed(world) == {"unsolicited_data": 1}

    def test_text_behind_a_ticket(self, idle):
        world, origin = idle
        origin.release()
        origin.say(b"x")
        assert world.runtime.run(world.get(SECURE)) == b"hi"
        assert closed(world) == {"unsolicited_data": 1}

    def test_a_goodbye(self, idle):
        world, origin = idle
        origin.goodbye()
        assert world.runtime.run(world.get(SECURE)) == b"hi"
        assert closed(world) == {"server_closed_idle": 1}

    @pytest.mark.parametrize("what", [END, ConnectionResetError(104, "reset"), b"no TLS at all, but long enough"])
    def test_the_end(self, idle, what):
        world, origin = idle
        origin.stream.play(what)
        world.runtime.advance(1.0)
        assert world.runtime.run(world.get(SECURE)) == b"hi"
        assert closed(world) == {"server_closed_idle": 1}
        assert world.transport.stats().retries == 0

    def test_the_loop_is_told_of_an_end_after_a_ticket(self, idle):
        world, origin = idle
        origin.release()
        origin.stream.end()
        world.runtime.advance(1.0)
        assert world.transport.stats().idle == 0


class Pair:
    """A `TLSOver` and its server, shaken hands."""

    def __init__(self, **origin):
        self.runtime = FakeRuntime()
        self.below = FakeStream(self.runtime)
        self.origin = Origin(self.below, b"", **origin)
        seen = 0

        def on_sent(stream):
            nonlocal seen
            data, seen = bytes(stream.sent[seen:]), len(stream.sent)
            self.origin.hear(data)

        self.below.on_sent = on_sent
        self.stream = TLSOver(self.below)
        self.runtime.run(self.stream.start_tls(client_context(), "192.0.2.1", None))

    def receive(self, size):
        async def all_of_it():
            data = b""
            while len(data) < size:
                data += await self.stream.receive(None)
            return data

        return self.runtime.run(all_of_it())


class TestStream:
    def test_what_it_knows(self):
        pair = Pair()
        assert (pair.stream.tls.version, pair.stream.tls.server_hostname) == ("TLSv1.3", "192.0.2.1")
        assert pair.stream.remote_addr == pair.below.remote_addr
        assert pair.stream.local_addr == pair.below.local_addr
        pair.runtime.run(pair.stream.open())

    def test_much_both_ways(self):
        pair = Pair()
        pair.origin.answer = BIG
        pair.runtime.run(pair.stream.send(BIG, 1.0, None))
        assert b"".join(pair.origin.requests) == BIG
        assert pair.receive(len(BIG)) == BIG * (len(BIG) // len(BIG))

    def test_without_asking_the_kernel(self):
        pair = Pair()
        assert pair.stream.receive_nowait() is None
        assert not pair.stream.surplus()
        pair.origin.say(b"abc")
        assert pair.stream.surplus()
        assert pair.stream.receive_nowait() == b"abc"
        assert pair.stream.receive_nowait() is None

    def test_what_was_decrypted_early_comes_first(self):
        pair = Pair()
        pair.origin.say(b"abc")
        assert pair.stream.surplus()
        pair.origin.say(b"def")
        assert pair.receive(6) == b"abcdef"

    def test_for_what_lies_over_it(self):
        pair = Pair()
        assert pair.stream.read_ready() is None
        pair.origin.say(b"abc")
        pair.origin.goodbye()
        assert pair.stream.read_ready() == b"abc"
        assert pair.stream.read_ready() == b""
        assert pair.receive(0) == b""
        assert pair.runtime.run(pair.stream.receive(None)) == b""

    def test_garbage(self):
        pair = Pair()
        pair.below.feed(b"this is no TLS record")
        assert not pair.stream.surplus()  # an error is for `receive`
        with pytest.raises(OSError, match="."):
            pair.runtime.run(pair.stream.receive(None))
        pair.below.feed(b"nor is this one, at all")
        assert pair.stream.check() is CloseReason.SERVER_CLOSED_IDLE
        assert pair.stream.read_ready() == b""

    def test_a_session_ticket_is_no_answer(self):
        """What stops the stream below goes on here, until there is text; what was encrypted still goes out."""
        pair = Pair(hold=True)
        pair.below.hold_writes = True
        task = pair.runtime.start(pair.stream.send_until_answered(BIG, None, None))
        pair.origin.release()
        pair.runtime.run_until_idle()
        assert not task.done
        pair.origin.say(b"413")
        pair.runtime.run_until_idle()
        taken, answered = task.outcome()
        assert (0 < taken <= 16_384, answered) == (True, True)
        assert pair.receive(3) == b"413"
        pair.below.hold_writes = False
        pair.runtime.run(pair.stream.send(b"", None, None))
        assert b"".join(pair.origin.requests) == BIG[:taken]

    def test_all_of_it_is_taken_where_nobody_answers(self):
        pair = Pair()
        assert pair.runtime.run(pair.stream.send_until_answered(BIG, None, None)) == (len(BIG), False)
        assert pair.runtime.run(pair.stream.send_until_answered(b"", None, None)) == (0, False)
        assert b"".join(pair.origin.requests) == BIG

    @pytest.mark.parametrize("end", ["goodbye", "end"])
    def test_the_end_is_an_answer(self, end):
        pair = Pair()
        pair.origin.goodbye() if end == "goodbye" else pair.below.end()
        assert pair.runtime.run(pair.stream.send_until_answered(b"x", None, None)) == (0, True)
        assert pair.runtime.run(pair.stream.receive(None)) == b""

    @pytest.mark.parametrize(("end", "cut_off"), [("goodbye", False), ("end", True)])
    def test_an_end_without_a_goodbye_is_told_apart(self, end, cut_off):
        pair = Pair()
        pair.origin.goodbye() if end == "goodbye" else pair.below.end()
        assert pair.runtime.run(pair.stream.receive(None)) == b""
        assert pair.stream.cut_off is cut_off

    def test_there_is_no_half_of_an_end(self):
        pair = Pair()
        with pytest.raises(OSError, match="both directions"):
            pair.stream.end_writing()
        pair.stream.go_duplex(half_open=True)
        assert pair.below.half_open is False

    def test_writing_fails_as_below(self):
        pair = Pair()
        pair.below.break_writes = BrokenPipeError(errno.EPIPE, "Broken pipe")
        with pytest.raises(BrokenPipeError):
            pair.runtime.run(pair.stream.send(b"x", None, None))

    @pytest.mark.parametrize("end", ["abort", "drop"])
    def test_ends_with_the_one_below(self, end):
        pair = Pair()
        told = []
        pair.stream.on_idle_event = told.append
        assert not pair.stream.hung_up()
        if end == "abort":
            pair.stream.abort(lambda: told.append("closed"))
        else:
            pair.stream.drop()
        assert not pair.below.is_open
        assert told == (["closed"] if end == "abort" else [])
        assert pair.stream.check() is CloseReason.SERVER_CLOSED_IDLE

    def test_hung_up(self):
        pair = Pair()
        pair.below.end()
        assert pair.stream.hung_up()

    def test_is_told_once(self):
        pair = Pair()
        told = []
        pair.stream.on_idle_event = told.append
        assert pair.stream.on_idle_event is not None
        pair.origin.say(b"x")
        pair.below.end()
        assert told == [CloseReason.UNSOLICITED_DATA]
        pair.stream.on_idle_event = None
        assert pair.below.on_idle_event is None

    def test_the_last_word_says_why(self):
        """A certificate that is refused: the alert reaches the server."""
        from tests.engine.tunnels import server_context

        runtime = FakeRuntime()
        below = FakeStream(runtime)
        origin = Origin(below, context=server_context("other.test"))
        seen = []

        def on_sent(stream):
            seen.append(bytes(stream.sent[sum(map(len, seen)) :]))
            if len(seen) == 1:
                origin.hear(seen[0])

        below.on_sent = on_sent
        with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
            runtime.run(TLSOver(below).start_tls(client_context(), "192.0.2.1", None))
        assert len(seen) == 2


def test_a_broken_record_inside_an_answer():
    peer = connect()
    world = World(peer, proxy=HTTP_PROXY, ssl_context=client_context())
    assert world.runtime.run(world.get(SECURE)) == b"hi"
    peer.origins[0].answer = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"
    task = world.runtime.start(world.get(SECURE))
    world.runtime.run_until_idle()
    peer.origins[0].stream.feed(b"\x17\x03\x03\x00\x20" + bytes(32))
    world.runtime.run_until_idle()
    assert isinstance(task.error, ReadError)
    world.runtime.run(world.transport.aclose())
