"""One request, or one client, used by several at once."""

from __future__ import annotations

from http.cookiejar import CookieJar

import pytest

import pooltransport as pt
from tests.support.colours import run_colour
from tests.support.responders import echo
from tests.support.routes import routes


class Halves:
    """A body that can be sent again; every iteration waits in its middle until `n` are there."""

    def __init__(self, c, n):
        self.c = c
        self.n = n
        self.inside = 0
        self.ended = 0


class OfThreads(Halves):
    def __iter__(self):
        import time

        try:
            yield b"one "
            self.inside += 1
            while self.inside < self.n:
                time.sleep(0.001)
            yield b"two"
        finally:
            self.ended += 1


class OfLoops(Halves):
    async def __aiter__(self):
        try:
            yield b"one "
            self.inside += 1
            await self.c.wait_until(lambda: self.inside >= self.n)
            yield b"two"
        finally:
            self.ended += 1


def test_a_body_that_two_send_at_once_arrives_whole_twice(colour, server_factory):
    """As a hedging round tripper does: the second closed the first's generator, whose body then ended in its middle."""
    server = server_factory(echo)

    async def body(c):
        halves = (OfThreads if c.sync else OfLoops)(c, 2)
        request = pt.Request("POST", server.url, content=halves)
        client = c.make_client(timeout=10.0)
        answers = await c.gather(lambda: c.call(client.send, request), lambda: c.call(client.send, request))
        assert [answer.content for answer in answers] == [b"one two"] * 2
        assert halves.ended == 2

    run_colour(colour, body)


@pytest.mark.parametrize("as_file", [False, True], ids=["content", "part"])
def test_a_generator_of_an_attempt_that_failed_is_closed(colour, server_factory, as_file):
    """Before the next begins, and not by chance."""

    def early(conn):
        conn.read_head()
        conn.read_exactly(1000)  # the body has begun
        conn.reset()

    class Many:
        ended = 0
        begun = 0

        def __iter__(self):
            self.begun += 1
            try:
                for _ in range(2000):
                    yield bytes(65536)
            finally:
                self.ended += 1

    server = server_factory(early)

    async def body(c):
        many = Many()
        given = {"files": {"a": ("a", many)}} if as_file else {"content": many}
        client = c.make_client(timeout=10.0, retry=pt.Retry(2, backoff_factor=0))
        with pytest.raises(pt.TransportError) as caught:
            await c.call(client.put, server.url, **given)
        assert caught.value.__traceback__ is not None  # it holds the frames, so that nothing is collected by chance
        assert (many.begun, many.ended) == (3, 3)
        assert c.transport.stats().leases == 0

    run_colour(colour, body)


def test_a_jar_and_digest_shared_by_many(colour, server_factory):
    def respond(request):
        if request.header("authorization") is None:
            return 401, {"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth"', "Set-Cookie": "a=b"}, b"no"
        return 200, {"Set-Cookie": f"n{request.conn}=1"}, b"yes"

    server = server_factory(routes({"/": respond}))

    async def body(c):
        client = c.make_client(cookies=CookieJar(), auth=pt.DigestAuth("u", "p"), timeout=10.0)

        async def some():
            for _ in range(10):
                assert (await c.call(client.get, server.url)).content == b"yes"

        await c.gather(*[some] * 5)

    run_colour(colour, body)
    sent = [request.header("authorization") for request in server.log]
    counts = [value.partition("nc=")[2][:8] for value in sent if value is not None]
    assert len(counts) == len(set(counts)) == 50
