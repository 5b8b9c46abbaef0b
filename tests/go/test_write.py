"""WRITE: what goes out, what is refused before anything does, and what happens to the caller's body."""

from __future__ import annotations

import io
import threading

import pytest

import pooltransport as pt
from tests.support.colours import run_colour
from tests.support.responders import Responder, echo, head, ok


class Counting:
    def __init__(self, *pieces, error=None):
        self._pieces = list(pieces)
        self._error = error
        self.read = 0
        self.closed = 0

    def next(self, end):
        self.read += 1
        if self._pieces:
            return self._pieces.pop(0)
        if self._error is not None:
            raise self._error
        raise end


class Closable(Counting):
    """A body that counts how often it is read and closed."""

    def __iter__(self):
        return self

    def __next__(self):
        return self.next(StopIteration)

    def close(self):
        self.closed += 1


class AsyncClosable(Counting):
    """The same, asynchronous."""

    def __aiter__(self):
        return self

    async def __anext__(self):
        return self.next(StopAsyncIteration)

    async def aclose(self):
        self.closed += 1


def bodies(colour):
    return [Closable] if colour == "threads" else [Closable, AsyncClosable]


@pytest.mark.go("WRITE-02", "CONC-04")
def test_a_request_is_not_changed_and_can_be_sent_again(colour, server_factory):
    server = server_factory(echo)

    async def body(c):
        headers = pt.Headers({"X-Mine": "1"})
        request = pt.Request("POST", server.url, headers=headers, content=b"x")
        before = request.headers.raw
        for _ in range(2):
            response = await c.round_trip(request)
            assert await c.read(response) == b"x"
            assert response.request is request
        assert request.headers.raw == before
        assert headers.raw == before
        assert server.log[0].headers == server.log[1].headers

    run_colour(colour, body)


@pytest.mark.go("WRITE-01", "WRITE-17")
def test_host_first_then_the_callers_fields_then_the_framing(colour, server_factory):
    server = server_factory(ok())

    async def body(c):
        await c.fetch(server.url + "/a?b", headers=[("Zeta", "1"), ("alpha", "2"), ("Zeta", "3")])
        response = await c.request("POST", server.url, headers={"b": "1"}, content=b"xy")
        await c.read(response)
        assert [name for name, _ in server.log[0].headers] == ["host", "zeta", "alpha", "zeta", "accept-encoding"]
        assert (server.log[0].method, server.log[0].target) == ("GET", "/a?b")
        assert [name for name, _ in server.log[1].headers] == ["host", "b", "content-length", "accept-encoding"]

    run_colour(colour, body)


@pytest.mark.go("WRITE-05")
@pytest.mark.parametrize(
    ("method", "length"),
    [("GET", None), ("HEAD", None), ("DELETE", None), ("OPTIONS", None), ("POST", "0"), ("PUT", "0"), ("PATCH", "0")],
)
def test_no_body_is_announced_only_where_one_is_expected(method, length, server_factory):
    server = server_factory(ok())

    async def body(c):
        await c.read(await c.request(method, server.url))
        assert server.log[0].header("content-length") == length
        assert server.log[0].header("transfer-encoding") is None

    run_colour("threads", body)


@pytest.mark.go("WRITE-03")
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_body_of_unknown_length_is_chunked_whatever_the_method(colour, method, server_factory):
    server = server_factory(ok())

    async def body(c):
        for kind in bodies(colour):
            source = kind(b"abc", b"de")
            await c.read(await c.request(method, server.url, content=source))
            assert server.log[-1].header("transfer-encoding") == "chunked"
            assert server.log[-1].body == b"abcde"
            assert source.closed == 1

    run_colour(colour, body)


@pytest.mark.go("WRITE-06", "WRITE-07")
def test_each_block_is_a_chunk_and_goes_out_at_once(colour, server_factory):
    """The server has the header before the first block exists, and each block before the next does."""
    steps = [threading.Event() for _ in range(3)]
    lines = []

    def handler(conn):
        request = conn.read_head()
        steps[0].set()
        for step in steps[1:]:
            lines.append(conn._read_line())
            conn.read_exactly(int(lines[-1], 16) + 2)
            step.set()
        assert conn.read_exactly(5) == b"0\r\n\r\n"
        conn.server.note_request(request)
        conn.send(head(length=0))

    server = server_factory(handler)

    def blocks():
        for step, block in zip(steps, (b"first", b"second block", None), strict=True):
            assert step.wait(5.0)
            if block is not None:
                yield block

    async def body(c):
        await c.read(await c.request("POST", server.url, content=blocks()))
        assert lines == [b"5", b"c"]

    run_colour(colour, body)


@pytest.mark.go("WRITE-08", "WRITE-09", "LEAK-04")
@pytest.mark.parametrize("pieces", [(b"ab",), (b"abcdef",), (b"abc", b"def", b"ghi")], ids=["short", "long", "longer"])
def test_a_body_of_the_wrong_length(colour, pieces, server_factory):
    """No more than was announced reaches the wire, and nothing is left of it, 20 times."""
    got = []

    def handler(conn):
        conn.read_head()
        got.append(conn.read_to_end())

    server = server_factory(handler)

    async def body(c):
        for _ in range(20):
            source = Closable(*pieces)
            with pytest.raises(pt.LocalProtocolError, match="Content-Length"):
                await c.request("POST", server.url, content=source, headers={"Content-Length": "5"})
            assert source.closed == 1
        stats = c.transport.stats()
        assert (stats.open, stats.leases) == (0, 0)
        await c.wait_until(lambda: len(got) == 20)
        assert all(len(data) <= 5 for data in got)

    run_colour(colour, body)


@pytest.mark.go("WRITE-09")
def test_what_is_too_long_is_not_read_on(colour, server_factory):
    """Go counts how much there would have been, for ever if it never ends."""
    server = server_factory(lambda conn: (conn.read_head(), conn.read_to_end()))

    def endless():
        while True:
            yield b"x" * 100

    async def body(c):
        with pytest.raises(pt.LocalProtocolError, match="longer than the Content-Length of 250"):
            await c.request("POST", server.url, content=endless(), headers={"Content-Length": "250"})

    run_colour(colour, body)


@pytest.mark.go("WRITE-10", "WRITE-11", "WRITE-14", "WRITE-15", "WRITE-16", "ERR-08")
def test_what_cannot_be_sent_is_refused_before_a_connection_is_taken(server_factory):
    server = server_factory(ok())
    bad = [
        {"headers": {"Content-Length": "5"}},
        {"headers": {"bad name": "x"}},
        {"headers": {"": "x"}},
        {"headers": {"na\u00efve": "x"}},
        {"headers": {"X": "a\nb"}},
        {"headers": {"X": "a\0b"}},
        {"headers": {"Host": "go.dev\r\nX-Evil:evil"}},
        {"headers": {"Host": ""}},
        {"method": " "},
        {"url": "faux://h/"},
        {"url": "http:///path"},
        {"url": "http://h:123foo/"},
        {"url": None},
    ]

    async def body(c):
        await c.fetch(server.url)
        for fields in bad:
            with pytest.raises(pt.InvalidRequest) as caught:
                await c.request(fields.pop("method", "GET"), fields.pop("url", server.url), **fields)
            assert "evil" not in str(caught.value), "a value is never shown"
        assert c.transport.stats().idle == 1
        assert server.accepted == 1
        for value in ("", "caf\u00e9"):
            await c.fetch(server.url, headers={"X": value})

    run_colour("threads", body)


@pytest.mark.go("WRITE-17")
def test_an_ipv6_zone_is_not_sent(server_factory):
    assert pt.Request("GET", "http://[fe80::1%25lo]:8080/").host_header == b"[fe80::1]:8080"


class TestTheBodyIsClosedOnce:
    """WRITE-12: on success, on every error, and when nothing was sent at all."""

    @pytest.mark.go("WRITE-12")
    def test_on_success(self, colour, server_factory):
        server = server_factory(ok())

        async def body(c):
            for kind in bodies(colour):
                source = kind(b"a", b"b")
                await c.read(await c.request("POST", server.url, content=source))
                assert source.closed == 1

        run_colour(colour, body)

    @pytest.mark.go("WRITE-12", "ERR-01")
    def test_when_nobody_listens(self, colour, server_factory):
        server = server_factory(ok())
        server.stop()

        async def body(c):
            for kind in bodies(colour):
                source = kind(b"a")
                with pytest.raises(pt.ConnectError):
                    await c.request("POST", server.url, content=source)
                assert (source.closed, source.read) == (1, 0)

        run_colour(colour, body)

    @pytest.mark.go("WRITE-12")
    def test_when_the_transport_is_closed_or_full(self, colour, server_factory):
        gate = threading.Event()

        @Responder
        def respond(conn, request):
            conn.wait_for(gate)
            conn.send(head(length=0))

        server = server_factory(respond)

        async def body(c):
            for kind in bodies(colour):
                holder = await c.start(lambda: c.fetch(server.url))
                await c.wait_until(lambda: c.transport.stats().active == 1)
                source = kind(b"a")
                with pytest.raises(pt.PoolTimeout):
                    await c.request("POST", server.url, content=source, timeout=pt.Timeout(acquire=0.05))
                assert (source.closed, source.read) == (1, 0)
                gate.set()
                await c.wait(holder)
                gate.clear()
            await c.close_transport()
            for kind in bodies(colour):
                source = kind(b"a")
                with pytest.raises(pt.TransportClosed):
                    await c.request("POST", server.url, content=source)
                assert (source.closed, source.read) == (1, 0)

        run_colour(colour, body, max_conns=1)

    @pytest.mark.go("WRITE-12", "WRITE-13")
    def test_when_it_raises(self, colour, server_factory):
        """The caller gets that very error, once, and no attempt is made again."""
        server = server_factory(lambda conn: conn.read_to_end())
        mine = LookupError("mine")

        async def body(c):
            for kind in bodies(colour):
                source = kind(b"a", error=mine)
                with pytest.raises(LookupError) as caught:
                    await c.request("POST", server.url, content=source, headers={"Idempotency-Key": "1"})
                assert caught.value is mine
                assert (source.closed, source.read) == (1, 2)
            assert c.transport.stats().open == 0
            assert c.transport.stats().retries == 0

        run_colour(colour, body)

    @pytest.mark.go("WRITE-12")
    def test_a_file_stays_open(self, colour, server_factory):
        """As everywhere in Python: who opened it closes it."""
        server = server_factory(echo)

        async def body(c):
            with io.BytesIO(b"file") as file:
                assert await c.read(await c.request("POST", server.url, content=file)) == b"file"
                assert not file.closed

        run_colour(colour, body)


@pytest.mark.go("WRITE-18")
def test_a_stalled_peer_does_not_block_for_ever(colour, server_factory):
    server = server_factory(lambda conn: conn.server.stopping.wait(10.0))

    async def body(c):
        with pytest.raises(pt.WriteTimeout) as caught:
            await c.request("POST", server.url, content=b"x" * 20_000_000)
        assert (caught.value.phase, caught.value.setting) == ("write", "write_timeout")

    run_colour(colour, body, write_timeout=0.2)
