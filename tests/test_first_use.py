"""The first requests of a process, from many threads at once, share one pool."""

from __future__ import annotations

import subprocess
import sys

from tests.support.responders import ok

SCRIPT = """
import sys, threading, time
import pooltransport as pt
from pooltransport.runtime.threads import ThreadRuntime

class Slow(ThreadRuntime):
    def __init__(self):
        time.sleep(0.1)  # what a thread switch may do
        super().__init__()

import pooltransport.runtime.threads
pooltransport.runtime.threads.ThreadRuntime = Slow
with pt.Transport(max_conns_per_host=2) as transport:
    def work():
        for _ in range(5):
            transport.round_trip(pt.Request("GET", sys.argv[1])).read()
    threads = [threading.Thread(target=work) for _ in range(10)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    stats = transport.stats()
    assert sum(stats.acquired.values()) == 50, stats
    assert (stats.dials, stats.closed) == (2, {}), stats
"""


def test_threads_that_start_at_once_share_connections(server_factory):
    server = server_factory(ok())
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, server.url], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert server.accepted == 2
