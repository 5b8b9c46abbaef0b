"""What `raise_for_status` may cost on a streamed response (contract 4.3)."""

from __future__ import annotations

import pytest

import pooltransport as pt
from tests.support.colours import run_colour
from tests.support.responders import head, ok, raw


def failing(server, **options):
    """Return what the error of a streamed response holds, on threads."""
    held = []

    async def body(c):
        response = await c.get(server.url)
        with pytest.raises(pt.HTTPStatusError) as caught:
            response.raise_for_status()
        held.append(caught.value.response.content)
        assert response.is_closed
        assert c.transport.stats().leases == 0

    run_colour("threads", body, **options)
    return held[0]


def test_it_reads_no_more_than_the_drain_limit(server_factory):
    server = server_factory(ok(b"x" * 100_000, status="500 Oops"))
    assert failing(server, drain_limit=1000) == b"x" * 1000
    assert failing(server) == b"x" * 100_000


def test_a_body_that_breaks_or_stalls_does_not_hide_the_status(server_factory):
    broken = raw(head("500 Oops", length=100) + b"part", then_close=True)
    assert failing(server_factory(broken)) == b"part"
    stalled = raw(head("500 Oops", length=100) + b"part")
    assert failing(server_factory(stalled), read_timeout=0.1) == b"part"
