"""What is asked of every server of `http_peers`, in every colour: many kinds of requests, and races with its timer."""

from __future__ import annotations

from collections import Counter
from http.cookiejar import CookieJar
from typing import TYPE_CHECKING, Any

from tests.support.colours import run_colour

if TYPE_CHECKING:
    from .http_peers import Peer

WORKERS = 20
LIMIT = 10
KEPT = 1.0  # seconds for which the servers keep an idle connection
PAUSES = (1.0, 0.98, 1.2, 1.02, 0.9, 1.1, 0.8)  # at 1.2 all are closed


async def mixed(c: Any, peer: Peer, total: int) -> Counter[str]:
    """Make `total` requests, of each kind as many; return how many there were of each."""
    done: Counter[str] = Counter()
    numbers = iter(range(total))

    async def work() -> None:
        client = c.make_client(cookies=CookieJar(), timeout=30.0)
        seen = ""
        for number in numbers:
            kind = KINDS[number % len(KINDS)]
            if kind is cookie:
                seen = await cookie(c, client, peer, f"n{number}", seen)
            else:
                await kind(c, client, peer, f"n{number}")
            done[kind.__name__] += 1

    await c.gather(*[work] * WORKERS)
    return done


async def plain(c: Any, client: Any, peer: Peer, mark: str) -> None:
    response = await c.call(client.get, f"{peer.url}/echo?{mark}")
    assert (response.status_code, response.text) == (200, mark)


async def no_body(c: Any, client: Any, peer: Peer, mark: str) -> None:
    response = await c.call(client.head, f"{peer.url}/echo?{mark}")
    assert (response.status_code, response.content) == (200, b"")


async def packed(c: Any, client: Any, peer: Peer, mark: str) -> None:
    response = await c.call(client.get, f"{peer.url}/gzip?{mark}")
    assert response.headers["content-encoding"] == "gzip"
    assert response.text == mark * 100


async def chunked(c: Any, client: Any, peer: Peer, mark: str) -> None:
    response = await c.call(client.get, f"{peer.url}/chunked?{mark}")
    assert response.headers["transfer-encoding"] == "chunked"
    assert response.content == b"x" * 200_000


async def moved(c: Any, client: Any, peer: Peer, mark: str) -> None:
    response = await c.call(client.get, f"{peer.url}/moved?{mark}")
    assert [old.status_code for old in response.history] == [302]
    assert response.text == mark


async def cookie(c: Any, client: Any, peer: Peer, mark: str, seen: str) -> str:
    response = await c.call(client.get, f"{peer.url}/cookie?{mark}")
    assert response.text == (f"seen={seen}" if seen else "")
    return mark


async def upload(c: Any, client: Any, peer: Peer, mark: str) -> None:
    response = await c.call(client.post, f"{peer.url}/upload", content=b"y" * 100_000)
    assert response.text == "100000"


async def upload_in_chunks(c: Any, client: Any, peer: Peer, mark: str) -> None:
    response = await c.call(client.put, f"{peer.url}/upload", content=iter([b"y" * 30_000] * 3))
    assert response.status_code == 200
    if peer.name != "nginx":  # which does not say how much came in chunks
        assert response.text == "90000"


async def upload_again(c: Any, client: Any, peer: Peer, mark: str) -> None:
    response = await c.call(client.post, f"{peer.url}/again", content=mark.encode() * 100)
    assert [old.status_code for old in response.history] == [307]
    assert response.text == str(len(mark) * 100)


KINDS = [plain, no_body, packed, chunked, moved, cookie, upload, upload_in_chunks, upload_again]


async def raced(c: Any, peer: Peer, pauses: tuple[float, ...], conns: int) -> None:
    """Let `conns` connections idle for about as long as the server keeps them, and use them all again; for each of
    `pauses`, in seconds. What may be repeated must never fail.
    """
    client = c.make_client(timeout=30.0)

    async def one(number: int, pause: float, spread: float) -> None:
        await c.sleep(pause + spread)
        mark = f"r{number}"
        if number % 4 == 0:
            key = {"Idempotency-Key": mark}
            response = await c.call(client.post, f"{peer.url}/upload", content=b"z" * 50, headers=key)
            assert response.text == "50"
        elif number % 4 == 1:
            await no_body(c, client, peer, mark)
        else:
            await plain(c, client, peer, mark)

    for pause in (0.0, *pauses):
        # Each a millisecond after the other, around the moment at which the server's timer fires.
        spreads = [(number - conns / 2) / 1000 if pause else 0.0 for number in range(conns)]
        await c.gather(
            *(lambda n=n, spread=spread, pause=pause: one(n, pause, spread) for n, spread in enumerate(spreads))
        )


def check(peer: Peer, colour: str, *, requests: int, pauses: tuple[float, ...], conns: int) -> None:
    """Ask everything of `peer`."""

    async def many(c: Any) -> None:
        done = await mixed(c, peer, requests)
        assert sum(done.values()) == requests
        assert len(done) == len(KINDS)
        stats = c.transport.stats()
        assert (stats.active, stats.dialing, stats.draining, stats.waiting, stats.leases, stats.leaks) == (0,) * 6
        assert stats.open <= LIMIT

    run_colour(colour, many, max_conns_per_host=LIMIT)

    async def race(c: Any) -> None:
        await raced(c, peer, pauses, conns)
        stats = c.transport.stats()
        assert (stats.active, stats.leases, stats.leaks) == (0, 0, 0)
        # The server closed some of them, or nothing was raced.
        assert stats.closed.get("server_closed_idle", 0) + stats.retries > 0, stats.closed

    # Node says how long it keeps them. Whoever heeds that never meets its timer.
    run_colour(colour, race, honor_keep_alive_hint=False)
