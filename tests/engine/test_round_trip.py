"""One request after another: reuse, stale connections, the ends of a body, hooks in the order of contract section 6."""

from __future__ import annotations

import pytest

from pooltransport import ClientTrace
from pooltransport.errors import (
    IncompleteBody,
    LocalProtocolError,
    NotPooled,
    ReadError,
    RemoteProtocolError,
    ServerClosedConnection,
    StreamConsumed,
    WriteError,
)
from pooltransport.runtime.protocols import NothingWritten
from pooltransport.testing.fakes import END, Answers
from tests.engine.scenarios import OK, URL
from tests.engine.told import Told, request

RESET = ConnectionResetError(104, "Connection reset by peer")
NOTHING_WRITTEN = NothingWritten(32, "Broken pipe")


async def read(world, req):
    async with await world.transport.round_trip(req) as response:
        return response.status_code, await response.aread()


class TestReuse:
    def test_warm(self, make_world):
        world = make_world(Answers(OK))
        told = []
        trace = ClientTrace(got_conn=told.append)
        for _ in range(3):
            world.runtime.run(world.get(trace=trace))
            world.runtime.advance(10)
        assert len(world.runtime.streams) == 1
        assert [(i.reused, i.was_idle, i.idle_time, i.requests_served) for i in told] == [
            (False, False, 0.0, 0),
            (True, True, 10.0, 1),
            (True, True, 10.0, 2),
        ]
        assert world.transport.stats().acquired == {"reused": 2, "dialed": 1, "handed_over": 0}

    def test_idle_expiry_without_traffic(self, make_world):
        world = make_world(Answers(OK), idle_conn_timeout=30.0)
        world.runtime.run(world.get())
        world.runtime.advance(29.9)
        assert world.transport.stats().idle == 1
        world.runtime.advance(0.2)
        assert world.transport.stats().closed == {"idle_timeout": 1}
        assert world.runtime.open_streams == []

    def test_idle_expiry_of_what_no_request_ever_used(self, make_world):
        world = make_world(Answers(OK), idle_conn_timeout=30.0)
        world.runtime.run(world.transport.warm(URL, 2))
        world.runtime.advance(30.1)
        assert world.transport.stats().closed == {"idle_timeout": 2}

    @pytest.mark.parametrize(("hint", "honoured", "idle"), [(20, True, 19.0), (5, True, 4.5), (20, False, 90.0)])
    def test_keep_alive_hint(self, make_world, hint, honoured, idle):
        answer = b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=%d\r\nContent-Length: 0\r\n\r\n" % hint
        world = make_world(Answers(answer), honor_keep_alive_hint=honoured)
        world.runtime.run(world.get())
        world.runtime.advance(idle - 0.1)
        assert world.transport.stats().idle == 1
        world.runtime.advance(0.2)
        assert world.transport.stats().idle == 0

    def test_keep_alive_max(self, make_world):
        first = b"HTTP/1.1 200 OK\r\nKeep-Alive: max=1\r\nContent-Length: 0\r\n\r\n"
        world = make_world(Answers(first, OK))
        for _ in range(2):
            world.runtime.run(world.get())
        assert len(world.runtime.streams) == 1
        assert world.transport.stats().closed == {"max_requests": 1}

    @pytest.mark.parametrize("events", [True, False])
    def test_the_end_of_an_idle_connection_is_noticed(self, make_world, events):
        world = make_world(Answers(OK), runtime={"idle_events": events})
        world.runtime.run(world.get())
        world.runtime.streams[0].end()
        world.runtime.advance(1.0)
        assert world.transport.stats().closed == {"server_closed_idle": 1}

    def test_noticed_at_check_out(self, make_world):
        world = make_world(Answers(OK), runtime={"idle_events": False})
        world.runtime.run(world.get())
        world.runtime.streams[0].end()
        assert world.runtime.run(world.get()) == b"hi"
        assert len(world.runtime.streams) == 2
        assert world.transport.stats().retries == 0

    def test_unsolicited_bytes(self, make_world):
        world = make_world(Answers(OK))
        world.runtime.run(world.get())
        world.runtime.streams[0].feed(b"HTTP/1.1 408 Timeout\r\n\r\n")
        assert world.transport.stats().closed == {"unsolicited_data": 1}
        assert world.runtime.run(world.get()) == b"hi"

    @pytest.mark.parametrize(
        ("answer", "options", "reason"),
        [
            (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", {}, "server_close_header"),
            (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", {}, "server_close_header"),
            (OK, {"disable_keep_alives": True}, "keepalive_disabled"),
            (OK + b"HTTP/1.1 200", {}, "unsolicited_data"),
            ((OK, b"HTTP/1.1 200"), {}, "unsolicited_data"),
            (OK, {"max_idle_conns": 0}, "idle_limit_host"),
        ],
    )
    def test_not_pooled_and_says_why(self, make_world, answer, options, reason):
        world = make_world(Answers(answer), **options)
        told = Told()
        world.runtime.run(world.get(trace=told.trace))
        error = told.info("put_idle_conn")
        assert isinstance(error, NotPooled)
        assert error.reason.value == reason
        assert world.transport.stats().closed == {reason: 1}


class TestStale:
    @pytest.mark.parametrize("end", [END, RESET])
    def test_get_is_done_again(self, make_world, end):
        world = make_world(Answers(OK, end, OK))
        world.runtime.run(world.get())
        told = Told()
        assert world.runtime.run(world.get(trace=told.trace)) == b"hi"
        retried = told.info("retried")
        assert retried.attempt == 1
        assert isinstance(retried.error, ServerClosedConnection)
        assert [info.reused for name, info in told.calls if name == "got_conn"] == [True, False]
        assert told.names.count("get_conn") == 2
        assert world.transport.stats().retries == 1

    @pytest.mark.parametrize(
        ("method", "fields", "again"),
        [
            ("GET", {}, True),
            ("POST", {"content": b"x"}, False),
            ("PUT", {"content": b"x"}, False),
            ("POST", {"content": b"x", "headers": {"Idempotency-Key": "1"}}, True),
            ("GET", {"retry_stale": False}, False),
            ("GET", {"content": iter([b"x"])}, False),
        ],
    )
    def test_what_is_done_again(self, make_world, method, fields, again):
        world = make_world(Answers(OK, END, OK))
        world.runtime.run(world.get())
        world.runtime.advance(4)
        if again:
            assert world.runtime.run(read(world, request(method, **fields))) == (200, b"hi")
            return
        with pytest.raises(ServerClosedConnection) as caught:
            world.runtime.run(read(world, request(method, **fields)))
        error = caught.value
        assert (error.reused, error.idle_time) == (True, 4.0)
        assert error.bytes_written > 0
        assert error.may_have_been_processed is True

    def test_a_post_that_may_have_gone_in_part(self, make_world):
        world = make_world(Answers(OK))
        world.runtime.run(world.get())
        world.runtime.streams[0].break_writes = RESET
        with pytest.raises(WriteError) as caught:
            world.runtime.run(read(world, request("POST", content=b"x")))
        assert caught.value.may_have_been_processed is True

    def test_a_post_of_which_nothing_was_written(self, make_world):
        world = make_world(Answers(OK))
        world.runtime.run(world.get())
        world.runtime.streams[0].break_writes = NOTHING_WRITTEN
        assert world.runtime.run(read(world, request("POST", content=b"x"))) == (200, b"hi")
        assert world.transport.stats().retries == 1

    def test_never_on_a_new_connection(self, make_world):
        world = make_world(Answers(END))
        with pytest.raises(ServerClosedConnection, match="on a new connection"):
            world.runtime.run(world.get())
        assert len(world.runtime.streams) == 1

    def test_never_after_a_byte_of_the_answer(self, make_world):
        world = make_world(Answers(OK, (b"HTTP/1.1 2", END)))
        world.runtime.run(world.get())
        with pytest.raises(RemoteProtocolError, match="inside the response header"):
            world.runtime.run(world.get())
        assert len(world.runtime.streams) == 1

    def test_the_last_one_is_fresh(self, make_world):
        """However many have gone stale: it ends with a new connection."""
        world = make_world(Answers(OK))
        world.runtime.run(world.transport.warm(URL, 3))
        for stream in world.runtime.streams:
            stream.break_writes = RESET
        assert world.runtime.run(world.get()) == b"hi"
        assert world.transport.stats().retries == 3


class TestAnswers:
    def test_head_and_no_content(self, make_world):
        length = b"Content-Length: 99\r\n\r\n"
        ok, unchanged = b"HTTP/1.1 200 OK\r\n" + length, b"HTTP/1.1 304 S\r\n" + length
        world = make_world(Answers(ok, b"HTTP/1.1 204 N\r\n\r\n", unchanged))
        for method, status in (("HEAD", 200), ("GET", 204), ("GET", 304)):
            assert world.runtime.run(read(world, request(method))) == (status, b"")
        assert len(world.runtime.streams) == 1

    def test_informational(self, make_world):
        world = make_world(Answers((b"HTTP/1.1 103 Early\r\nLink: a\r\n\r\n", b"HTTP/1.1 102 P\r\n\r\n" + OK)))
        told = Told()
        assert world.runtime.run(world.get(trace=told.trace)) == b"hi"
        found = [info for name, info in told.calls if name == "got_1xx_response"]
        assert [info.status_code for info in found] == [103, 102]
        assert found[0].headers["link"] == "a"

    def test_nonsense(self, make_world):
        world = make_world(Answers(b"SSH-2.0-OpenSSH\r\n\r\n"))
        with pytest.raises(RemoteProtocolError):
            world.runtime.run(world.get())
        assert world.transport.stats().closed == {"protocol_error": 1}

    @pytest.mark.parametrize(
        ("end", "kind", "text"),
        [(END, IncompleteBody, "after 2 of 5 body bytes"), (RESET, ReadError, "failed after 2 bytes: Connection")],
    )
    def test_a_body_that_breaks_off(self, make_world, end, kind, text):
        world = make_world(Answers((b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", end)))
        with pytest.raises(kind, match=text):
            world.runtime.run(world.get())
        assert world.transport.stats().leases == 0

    def test_errors_of_a_body_are_sticky(self, make_world):
        world = make_world(Answers((b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", END)))

        async def twice():
            async with await world.transport.round_trip(request()) as response:
                for _ in range(2):
                    with pytest.raises((IncompleteBody, StreamConsumed)):
                        await response.aread()

        world.runtime.run(twice())


class TestUploads:
    def test_length_mismatch(self, make_world):
        for content, text in (([b"abcdef"], "longer than the Content-Length of 5"), ([b"ab"], "after 2 of the 5")):
            world = make_world(Answers(OK))
            req = request("POST", content=content, headers={"Content-Length": "5"})
            with pytest.raises(LocalProtocolError, match=text):
                world.runtime.run(read(world, req))
            assert world.transport.stats().leases == 0
            assert world.runtime.open_streams == []

    def test_an_answer_before_the_write_error_is_read(self, make_world):
        world = make_world(lambda dial: refuse(dial.accept()))

        def refuse(stream):
            stream.on_sent = lambda s: (s.feed(b"HTTP/1.1 413 Big\r\nContent-Length: 0\r\n\r\n"), breaks(s))

        def breaks(stream):
            stream.break_writes = RESET

        assert world.runtime.run(read(world, request("POST", content=[b"a", b"b"]))) == (413, b"")
        assert len(world.runtime.open_streams) == 0

    def test_a_write_error_without_an_answer(self, make_world):
        world = make_world(lambda dial: setattr(dial.accept(), "break_writes", NOTHING_WRITTEN))
        with pytest.raises(WriteError, match="sending failed after 0 bytes: Broken pipe") as caught:
            world.runtime.run(read(world, request("POST", content=b"x")))
        assert caught.value.may_have_been_processed is False
        assert world.transport.stats().closed == {"write_error": 1}

    def test_the_users_own_error_passes_through(self, make_world):
        def broken():
            yield b"a"
            raise LookupError("mine")

        world = make_world(Answers(OK))
        with pytest.raises(LookupError, match="mine"):
            world.runtime.run(read(world, request("POST", content=broken())))
        assert world.runtime.open_streams == []
