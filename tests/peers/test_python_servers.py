"""uvicorn, hypercorn and granian, as `test_http_servers.py`; they come with the extra `sdks` (`make test-sdks`)."""

from __future__ import annotations

import pytest

from tests.support.http_matrix import PAUSES, check
from tests.support.http_peers import PIP, Peer

pytestmark = pytest.mark.sdks


@pytest.fixture(scope="module", params=PIP)
def peer(request, tmp_path_factory):
    """Give each of the servers, running."""
    with Peer(request.param, tmp_path_factory.mktemp(request.param)) as running:
        yield running


@pytest.mark.timeout(180)
def test_everything_is_answered_and_nothing_that_may_be_repeated_fails(peer, colour):
    check(peer, colour, requests=500, pauses=PAUSES, conns=60)
