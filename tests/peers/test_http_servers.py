"""Real nginx, Node and Go: every kind of request, and a keep-alive of a second raced by pauses around a second."""

from __future__ import annotations

import pytest

from tests.support.http_matrix import PAUSES, check
from tests.support.http_peers import SYSTEM, Peer

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module", params=SYSTEM)
def peer(request, tmp_path_factory):
    """Give each of the servers, running."""
    with Peer(request.param, tmp_path_factory.mktemp(request.param)) as running:
        yield running


@pytest.mark.timeout(180)
def test_everything_is_answered_and_nothing_that_may_be_repeated_fails(peer, colour, scaled):
    check(peer, colour, requests=scaled(500, 180), pauses=PAUSES[: scaled(7, 3)], conns=scaled(60, 40))
