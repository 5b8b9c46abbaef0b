"""Issue 2: 10,000 GETs to a real nginx with a limit of 20 sockets; all answers right, nothing held after."""

from __future__ import annotations

import pytest

from tests.support.colours import run_colour

LIMIT = 20
WORKERS = 50
PORTION = 2_500  # `gather` is patient for a minute

pytestmark = pytest.mark.peers


def fetch_many(nginx, colour: str, scheme: str, total: int, context) -> None:
    """Let `WORKERS` at a time fetch `total` answers, each another, and count sockets on both sides."""
    mark = f"many-{colour}-{scheme}-"
    base = nginx.https_url if scheme == "https" else nginx.url
    done: list[int] = []

    async def body(c):
        async def work():
            for number in numbers:
                response = await c.get(f"{base}/echo?{mark}{number}")
                assert response.status_code == 200
                assert await c.read(response) == f"{mark}{number}".encode()
                done.append(number)

        for start in range(0, total, PORTION):
            numbers = iter(range(start, min(start + PORTION, total)))
            await c.gather(*[work] * WORKERS)
        stats = c.transport.stats()
        assert (stats.active, stats.dialing, stats.draining, stats.upgraded, stats.waiting, stats.leases) == (0,) * 6
        assert stats.idle == stats.open <= LIMIT
        assert sum(stats.acquired.values()) == total
        assert (stats.leaks, stats.timeouts, stats.dial_errors, stats.retries) == (0, {}, 0, 0)
        assert nginx.active_connections() == stats.idle
        assert set(stats.closed) <= {"dial_unused"}  # the ninth dial that nobody waits for (contract 1.4)
        return stats.dials

    nginx.wait_for_active(0)
    accepted = nginx.accepted()
    with nginx.sampling(0.01) as peak:
        dials = run_colour(colour, body, max_conns_per_host=LIMIT, ssl_context=context)
    nginx.wait_for_active(0)
    assert sorted(done) == list(range(total))
    assert 0 < peak.value <= LIMIT
    # A dial that nobody needs any more is aborted (contract 1.4), and nginx may have accepted it by then.
    assert nginx.accepted() - accepted <= dials
    log = nginx.wait_for_log(total, mark)
    assert len(log) == total
    assert {(line.scheme, line.status) for line in log} == {(scheme, 200)}
    assert len({line.connection for line in log}) <= LIMIT


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_many_gets_take_no_more_sockets_than_the_limit(nginx, colour, scheme, scaled, client_ssl_context):
    fetch_many(nginx, colour, scheme, scaled(10_000, 1_000), client_ssl_context)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_many_gets_on_uvloop(nginx, scheme, client_ssl_context):
    fetch_many(nginx, "uvloop", scheme, 500, client_ssl_context)
