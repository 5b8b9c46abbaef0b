"""Who counts what lives in this process does so while others make and drop transports: the third cause, watched."""

from __future__ import annotations

import sys
import threading

import pytest

import pooltransport as pt
from pooltransport import census


@pytest.fixture
def impatient():
    """Let threads take turns all the time."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize(
    ("ask", "times"), [(census.transports, 300), (census.process_stats, 30)], ids=["transports", "process_stats"]
)
def test_they_may_be_looked_at_while_some_are_made(impatient, ask, times):
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            pt.Transport().close()

    makers = [threading.Thread(target=churn)]
    for maker in makers:
        maker.start()
    try:
        kept = [pt.Transport() for _ in range(20)]  # what takes long to look through
        for _ in range(times):
            seen = ask()
            assert len(seen) >= len(kept)
    finally:
        stop.set()
        for maker in makers:
            maker.join()
    for transport in kept:
        transport.close()
    assert [transport for transport in census.transports() if transport in kept] == kept
