"""When what a finalizer left to be said is said (contract 3.2)."""

from __future__ import annotations

import gc
import threading

import pooltransport as pt
from tests.support.responders import ok


def test_stats_waits_for_a_report_that_another_thread_is_telling(server_factory):
    """Row 1: the hook has fired as often as `stats()` counts once that returned, whoever tells it."""
    server = server_factory(ok(b"x" * 3_000_000))
    begun, gate, told = threading.Event(), threading.Event(), []

    def leaked(report):
        begun.set()
        assert gate.wait(5.0)
        told.append(report)

    with pt.Transport(trace=pt.ClientTrace(leaked=leaked)) as transport:
        transport.round_trip(pt.Request("GET", server.url))
        gc.collect()
        assert begun.wait(5.0), "the housekeeper tells it within a second"
        opener = threading.Timer(0.05, gate.set)
        opener.start()
        assert transport.stats().leaks == len(told) == 1
        opener.join()
