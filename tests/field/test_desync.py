"""field-pains.md row 37: bytes that a server sends beyond an answer never become part of another answer."""

from __future__ import annotations

import random
import threading
from collections import Counter

import pytest

import pooltransport as pt
from tests.support.colours import run_colour
from tests.support.kernel import wait_received

EVIL = b"HTTP/1.1 200 OK\r\nX-Id: evil\r\nContent-Length: 4\r\n\r\nEVIL"


def answer(rng: random.Random, method: str, own: bytes) -> bytes:
    """Return one right answer, framed in one of the ways that keep a connection."""
    mark = b"X-Id: " + own + b"\r\n"
    body = b"own=" + own
    kind = rng.choice(["length", "chunked", "204", "304", "1xx", "empty"])
    if method == "HEAD":
        return b"HTTP/1.1 200 OK\r\n" + mark + b"Content-Length: %d\r\n\r\n" % rng.choice([0, len(EVIL)])
    if kind == "chunked":
        cut = rng.randrange(1, len(body))
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:cut], body[cut:]))
        trailer = rng.choice([b"", b"X-Sum: 1\r\n"])
        return (
            b"HTTP/1.1 200 OK\r\n"
            + mark
            + b"Transfer-Encoding: chunked\r\n\r\n"
            + chunks
            + b"0\r\n"
            + trailer
            + b"\r\n"
        )
    if kind == "204":
        return b"HTTP/1.1 204 No Content\r\n" + mark + b"\r\n"
    if kind == "304":
        return b"HTTP/1.1 304 Not Modified\r\n" + mark + b"Content-Length: %d\r\n\r\n" % len(EVIL)
    if kind == "empty":
        return b"HTTP/1.1 200 OK\r\n" + mark + b"Content-Length: 0\r\n\r\n"
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" if kind == "1xx" else b""
    return early + b"HTTP/1.1 200 OK\r\n" + mark + b"Content-Length: %d\r\n\r\n" % len(body) + body


def surplus(rng: random.Random) -> bytes:
    """Return what nobody asked for: never nothing, at worst another whole answer."""
    return rng.choice(
        [
            EVIL,
            EVIL * rng.randrange(2, 50),
            EVIL[: rng.randrange(1, len(EVIL))],
            b"\r\n" + EVIL,
            b"EVIL",
            b"0\r\n\r\n" + EVIL,
            b"HTTP/1.1 100 Continue\r\n\r\n" + EVIL,
            b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 4\r\n\r\nEVIL",
            b"\x00" * rng.randrange(1, 100),
            bytes(rng.randrange(256) for _ in range(rng.randrange(1, 60))),
        ]
    )


class Splitter:
    """A server whose answers carry what was asked for, and after it what was not.

    Where the surplus is sent in pieces, the last one has arrived before the client is told to go on.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.arrived: dict[bytes, threading.Event] = {}

    def __call__(self, conn) -> None:
        while (request := conn.read_request()) is not None:
            own = request.target.rpartition("/")[2].encode()
            told = self.arrived.setdefault(own, threading.Event())
            rng = random.Random(f"{self.seed} {own!r}")
            right = answer(rng, request.method, own)
            if request.target.startswith("/clean"):
                conn.send(right)
                told.set()
                continue
            whole = right + surplus(rng)
            how = rng.choice(["at once", "two segments", "after", "many"])
            cuts = {
                "at once": [],
                "two segments": [rng.randrange(1, len(whole))],
                "after": [len(right)],
                "many": sorted(rng.sample(range(1, len(whole)), min(5, len(whole) - 1))),
            }[how]
            try:
                for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
                    conn.send(whole[start:end])
                wait_received(conn.sock)
            except OSError:
                pass  # closed already: it saw enough
            finally:
                told.set()


@pytest.mark.parametrize("seed", [37])
def test_row_37_never_another_requests_bytes(colour, seed, server_factory, scaled):
    splitter = Splitter(seed)
    server = server_factory(splitter)
    cases = scaled(10_000, 150)
    rng = random.Random(seed)

    async def one(c, where: str, number: int) -> None:
        own = f"{where}-{number}".encode()
        method = rng.choice(["GET", "GET", "HEAD", "DELETE"])
        told = splitter.arrived.setdefault(own, threading.Event())
        try:
            response = await c.request(method, f"{server.url}/{where}/{where}-{number}")
            body = await c.read(response)
        except pt.RemoteProtocolError:
            assert where == "dirty", f"seed {seed}, case {own!r}: the clean answer was taken for a wrong one"
            return
        finally:
            await c.wait_until(told.is_set)
            splitter.arrived.pop(own, None)
        note = f"seed {seed}, case {own!r}: got {response.status_code} {body!r}"
        assert response.headers.get("X-Id") == own.decode(), note
        assert body in (b"", b"own=" + own), note

    async def body(c):
        for number in range(cases):
            await one(c, "dirty", number)
            await one(c, "clean", number)
            if number % 100 == 0:
                server.log.clear()
        stats = c.transport.stats()
        assert (stats.active, stats.waiting, stats.leases) == (0, 0, 0)
        # Nothing was asked twice, and no connection served anybody after it had said too much.
        assert server.accepted >= cases

    run_colour(colour, body, max_conns_per_host=1, retry_stale=False)


def test_row_37_under_concurrency(colour, server_factory, scaled):
    """Many requests at once on few connections; every second answer brings a whole foreign one with it."""

    def handler(conn):
        while (request := conn.read_request()) is not None:
            own = request.target.encode()
            right = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(own), own)
            conn.send(right + (EVIL if conn.requests % 2 == 0 else b""))

    server = server_factory(handler)
    rounds = scaled(200, 10)

    async def body(c):
        async def user(name: int):
            for number in range(rounds):
                assert await c.fetch(f"{server.url}/{name}/{number}") == f"/{name}/{number}".encode()

        await c.gather(*[lambda name=name: user(name) for name in range(16)])
        stats = c.transport.stats()
        assert (stats.active, stats.waiting) == (0, 0)
        served = Counter(request.conn for request in server.log)
        assert set(served.values()) <= {1, 2}  # nothing after the answer that said too much
        assert stats.closed["unsolicited_data"] == sum(count == 2 for count in served.values())

    run_colour(colour, body, max_conns_per_host=4)


@pytest.mark.parametrize(
    "bad",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcX0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ],
)
def test_row_37_a_doubtful_boundary_is_an_error_and_ends_the_connection(colour, bad, server_factory):
    def handler(conn):
        while (request := conn.read_request()) is not None:
            conn.send(bad if request.target == "/bad" else b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")

    server = server_factory(handler)

    async def body(c):
        with pytest.raises(pt.RemoteProtocolError):
            await c.fetch(f"{server.url}/bad")
        assert await c.fetch(f"{server.url}/good") == b"good"
        assert [request.conn for request in server.log] == [1, 2]

    run_colour(colour, body, max_conns_per_host=1)
