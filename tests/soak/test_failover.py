"""Three backends behind one name, one killed or restarted at a time: 99.99 % of idempotent requests succeed.

``python -m benchmarks.failover`` prints the same run of the peers beside ours.
"""

from __future__ import annotations

import os

import pytest

from benchmarks.failover import Backends, run_client, table

pytestmark = pytest.mark.soak

SECONDS = float(os.environ.get("POOLTRANSPORT_SOAK", "60"))


@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.parametrize("client", ["pooltransport asyncio", "pooltransport threads"])
def test_idempotent_requests_succeed(client):
    backends = Backends()
    try:
        outcome = run_client(client, backends, SECONDS, min(10.0, SECONDS / 6))
    finally:
        backends.stop()
    print(table([outcome]))
    assert outcome.requests > SECONDS * 100
    assert outcome.share >= 0.9999, table([outcome])
