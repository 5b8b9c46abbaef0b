"""What the engine does, as scripts over the fake runtime, for `test_every_await`.

A scenario is told the world and starts its callers with `world.start`; each caller is a task that may be
interrupted anywhere, and cleans up as users' code does: ``async with``, or ``finally: aclose()``.
"""

from __future__ import annotations

import ssl

from pooltransport import Request
from pooltransport.testing.fakes import END, Answers, FakeRuntime, FakeTransport
from tests.engine import tunnels

URL = "http://192.0.2.1/"
OTHER = "http://192.0.2.2/"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
PIECES = (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n", b"\r\nabc", b"def", b"ghi")
CHUNKS = (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"3\r\nabc\r\n", b"2\r\nde\r\n0\r\nX: y\r\n\r\n")
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class World:
    """One runtime, one transport, and the callers. `peer` is what `FakeRuntime` takes as ``on_dial``."""

    def __init__(self, peer=None, runtime=None, **options):
        self.peer = peer or Answers(OK)
        self.runtime = FakeRuntime(self.peer, **(runtime or {}))
        self.transport = FakeTransport(self.runtime, **options)
        self.callers = []
        self.ends = False  # the scenario closes the transport: there is no next request
        self.next_url = URL
        self.next_peer = Answers(OK)  # who answers from the injection on

    def start(self, coro, name="caller"):
        self.callers.append(self.runtime.start(coro, f"{name}-{len(self.callers) + 1}"))

    async def get(self, url=URL, **fields):
        response = await self.transport.round_trip(Request("GET", url, **fields))
        try:
            return await response.aread()
        finally:
            await response.aclose()

    async def pause(self):
        """Be at an await point of the user's own."""
        await self.runtime.wait("pause", lambda: True, None)


def cold():
    world = World()
    world.start(world.get())
    return world


def warm_reuse():
    world = World()

    async def twice():
        await world.get()
        await world.get()

    world.start(twice())
    return world


def queued():
    world = World(max_conns_per_host=1)
    for _ in range(3):
        world.start(world.get())
    return world


def queued_behind_another_host():
    world = World(max_conns=1, runtime={"lazy_close": True})
    for url in (URL, OTHER, URL):
        world.start(world.get(url))
    return world


def late_binding():
    """The first one's connection serves the second, whose own dial is answered at the end."""
    answers = Answers(OK)
    dials = []

    def peer(dial):
        dials.append(dial)
        if len(dials) == 1:
            answers(dial)

    world = World(peer)

    async def second():
        await world.pause()
        await world.get()

    world.start(world.get())
    world.start(second())
    return world


def orphan_gives_way():
    """The first caller's own dial is not wanted any more when the third needs its slot."""
    answers = Answers(OK)
    dials = []

    def peer(dial):
        dials.append(dial)
        if len(dials) != 2:
            answers(dial)

    world = World(peer, max_conns=2)

    async def third():
        for _ in range(4):
            await world.pause()
        await world.get(OTHER)

    world.start(world.get())
    world.start(world.get())
    world.start(third())
    return world


def upload():
    world = World()

    async def chunks():
        try:
            for _ in range(2):
                await world.pause()
                yield b"chunk"
        finally:
            await world.pause()

    async def post():
        async with await world.transport.round_trip(Request("POST", URL, content=chunks())) as response:
            await response.aread()

    world.start(post())
    return world


def upload_after_continue():
    world = World(lambda dial: setattr(dial.accept(), "on_sent", answer))

    def answer(stream):
        if stream.sent.endswith(b"body"):
            stream.feed(OK)
        elif stream.sent.endswith(b"\r\n\r\n"):
            stream.feed(b"HTTP/1.1 100 Continue\r\n\r\n" if b"Expect" in stream.sent else OK)

    async def post():
        request = Request("POST", URL, headers={"Expect": "100-continue"}, content=b"body")
        async with await world.transport.round_trip(request) as response:
            await response.aread()

    world.start(post())
    return world


def _streamed(script):
    world = World(Answers(script))

    async def read():
        async with await world.transport.round_trip(Request("GET", URL)) as response:
            async for _ in response.aiter_bytes():
                await world.pause()

    world.start(read())
    return world


def streamed():
    return _streamed(PIECES)


def streamed_chunks():
    return _streamed(CHUNKS)


def streamed_until_close():
    return _streamed((b"HTTP/1.1 200 OK\r\n\r\nabc", b"def", END))


def _closed_early(**runtime):
    world = World(Answers(CHUNKS[:2]), runtime=runtime, max_conns_per_host=1)
    ended = {}

    async def rest():
        """End each answer a little later, so that draining has to wait."""
        for turn in range(30):
            await world.pause()
            for stream in world.runtime.open_streams:
                asked = stream.sent.count(b"GET ")
                if turn % 10 == 9 and asked > ended.get(stream, 0) and not stream.surplus():
                    ended[stream] = asked
                    stream.feed(CHUNKS[2])

    async def peek():
        async with await world.transport.round_trip(Request("GET", URL)) as response:
            async for _ in response.aiter_bytes():
                break

    world.start(peek())
    world.start(peek())
    world.runtime.start(rest(), "peer")
    return world


def drained_in_the_background():
    return _closed_early()


def drained_at_once():
    return _closed_early(detaches=False)


def tls_dial():
    world = World(ssl_context=TLS)
    world.start(world.get("https://192.0.2.1/"))
    world.start(world.get("https://192.0.2.1/"))
    return world


def _through(peer, proxy, url):
    world = World(peer, proxy=proxy, ssl_context=tunnels.client_context())
    world.next_url, world.next_peer = url, peer
    world.start(world.get(url))
    world.start(world.get(url))
    return world


def forward_proxy_over_tls():
    return _through(Answers(OK), tunnels.HTTPS_PROXY, URL)


def tunnel():
    return _through(tunnels.connect(), tunnels.HTTP_PROXY, tunnels.SECURE)


def tunnel_over_tls():
    return _through(tunnels.connect(), tunnels.HTTPS_PROXY, tunnels.SECURE)


def socks_tunnel():
    peer = tunnels.socks(b"\x05\x02", b"\x01\x00", tunnels.GRANTED)
    return _through(peer, "socks5://user:pass@192.0.2.9", tunnels.SECURE)


def socks_tunnel_in_pieces():
    pieces = [tunnels.GRANTED[i : i + 3] for i in range(0, 10, 3)]
    return _through(tunnels.socks(b"\x05\x00", pieces, tls=False), tunnels.SOCKS_PROXY, URL)


def names_and_addresses():
    """A look-up, a refused address, and one that accepts."""
    answers = Answers(OK)

    def peer(dial):
        if dial.address.text.startswith("192.0.2.1"):
            dial.refuse()
        else:
            answers(dial)

    world = World(peer)
    world.runtime.resolver.names["host.test"] = ["192.0.2.1", "192.0.2.2"]
    world.start(world.get("http://host.test/"))
    return world


def _race(answered):
    """Two addresses; those in `answered` accept, the others are silent."""
    answers = Answers(OK)

    def peer(dial):
        if dial.address.text in answered:
            answers(dial)

    world = World(peer)
    world.runtime.resolver.names["host.test"] = ["192.0.2.1", "192.0.2.2"]
    return world


def second_lane_wins():
    world = _race({"192.0.2.2:80"})
    world.start(world.get("http://host.test/"))
    world.runtime.start(_pass_time(world, 0.3), "peer")
    return world


def racing_while_closing():
    """Both lanes hold a socket as the transport is closed."""
    world = _race(())
    world.ends = True

    async def close():
        while len(world.runtime.dials) < 2 and not world.callers[0].done:
            await world.pause()
        await world.transport.aclose()

    world.start(world.get("http://host.test/"))
    world.runtime.start(_pass_time(world, 0.3), "peer")
    world.start(close())
    return world


async def _pass_time(world, seconds):
    """Let time pass once the first dial is under way; by hand, as no other clock may fire here."""
    for _ in range(12):
        await world.pause()
    world.runtime.clock.advance(seconds)


def stale():
    """The server ends the connection as the second request comes: it is done again on a new one."""
    world = World(Answers(OK, END, OK))

    async def twice():
        await world.get()
        await world.get()

    world.start(twice())
    return world


def informational_head():
    world = World(Answers((b"HTTP/1.1 103 Early Hints\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")))

    async def head():
        async with await world.transport.round_trip(Request("HEAD", URL)) as response:
            await response.aread()

    world.start(head())
    return world


def dialed_ahead():
    world = World()
    world.start(world.transport.warm(URL, 2))
    return world


def _closing(pauses):
    world = World(Answers(PIECES), max_conns_per_host=1)
    world.ends = True

    async def slow():
        async with await world.transport.round_trip(Request("GET", URL)) as response:
            for _ in range(4):
                await world.pause()
            await response.aread()

    async def close():
        for _ in range(pauses):
            await world.pause()
        await world.transport.aclose(grace=1.0)

    world.start(slow())
    world.start(world.get())
    world.start(close())
    return world


def closing():
    """`aclose` with patience, while one response is open and one request waits."""
    return _closing(7)


def closing_while_dialing():
    """The dial is aborted, before its first step or later."""
    return _closing(1)


def closing_at_once():
    return _closing(0)


def draining():
    world = World(Answers(PIECES), max_conns_per_host=1)
    world.ends = True

    async def drain():
        await world.pause()
        await world.transport.drain(5.0)

    world.start(world.get())
    world.start(world.get())
    world.start(drain())
    return world


def _upload_answered(status):
    """The server answers once the header is there, before the body has come."""

    def peer(dial):
        stream = dial.accept()
        if len(stream_of) > 0:
            Answers(OK).serve(stream)
            return
        stream_of.append(stream)

        def answer(stream):
            stream.on_sent = None
            stream.feed(b"HTTP/1.1 %d Early\r\n" % status, b"Content-Length: 3\r\n\r\nabc")

        stream.on_sent = answer

    stream_of = []
    world = World(peer)

    async def pieces():
        for piece in (b"one", b"two", b"three"):
            await world.pause()
            yield piece

    async def put():
        async with await world.transport.round_trip(Request("PUT", URL, content=pieces())) as response:
            assert response.status_code == status
            assert await response.aread() == b"abc"

    world.start(put())
    return world


def upload_refused_early():
    return _upload_answered(413)


def upload_accepted_early():
    return _upload_answered(201)


def upgraded():
    """A raw stream, read and written; the peer ends it."""
    switch = b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nfirst"
    used = []

    def peer(dial):
        stream = dial.accept()
        Answers(OK if used else switch).serve(stream)
        used.append(stream)

    world = World(peer)

    async def talk():
        headers = {"Connection": "upgrade", "Upgrade": "x"}
        async with await world.transport.round_trip(Request("GET", URL, headers=headers)) as response:
            stream = response.stream
            assert await stream.aread() == b"first"
            used[0].on_sent = lambda peer: peer.play((b"second", END))
            await stream.awrite(b"more")
            assert await stream.aread() == b"second"
            assert await stream.aread() == b""

    world.start(talk())
    return world


ALL = (
    cold,
    warm_reuse,
    queued,
    queued_behind_another_host,
    late_binding,
    orphan_gives_way,
    upload,
    upload_after_continue,
    upload_refused_early,
    upload_accepted_early,
    upgraded,
    streamed,
    streamed_chunks,
    streamed_until_close,
    drained_in_the_background,
    drained_at_once,
    tls_dial,
    forward_proxy_over_tls,
    tunnel,
    tunnel_over_tls,
    socks_tunnel,
    socks_tunnel_in_pieces,
    names_and_addresses,
    second_lane_wins,
    racing_while_closing,
    stale,
    informational_head,
    dialed_ahead,
    closing,
    closing_while_dialing,
    closing_at_once,
    draining,
)
