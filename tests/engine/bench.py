"""An engine without a façade, for tests that tell its ledger things which no caller can."""

from __future__ import annotations

import warnings

from pooltransport import Request
from pooltransport.engine.engine import Engine
from pooltransport.options import TransportOptions
from pooltransport.testing.fakes import Answers, FakeRuntime
from tests.engine.scenarios import URL

SLOW = (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"he")


class Bench:
    """An engine on a runtime of its own. `held` has the bodies that are open: `drop` drops them."""

    def __init__(self, *answers, **options):
        self.runtime = FakeRuntime(Answers(*(answers or (SLOW,))))
        self.engine = Engine(TransportOptions(**options), "site", self.runtime.now, lambda: 0.0)
        self.engine.resolver = self.runtime.resolver
        self.ledger = self.engine.ledger
        self.held = []

    def open(self, url=URL, **fields):
        """Send a request and hold its body."""
        self.held.append(
            self.runtime.run(self.engine.round_trip(Request("GET", url, **fields), lambda: self.runtime))[1]
        )
        return self.held[-1]

    def drop(self):
        self.held.clear()

    @property
    def stats(self):
        self.ledger.pool.check()
        return self.ledger.snapshot()

    @property
    def gauges(self):
        stats = self.stats
        names = ("active", "idle", "dialing", "draining", "closing", "waiting", "leases")
        return {name: value for name in names if (value := getattr(stats, name))}

    def tell(self):
        """Come to a safe point; return the categories of the warnings."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.ledger.safe_point()
        return [warning.category for warning in caught]

    def end(self):
        """Close everything; nothing may be left open."""
        self.drop()
        self.ledger.apply(self.ledger.pool.close, self.runtime.now())
        self.runtime.run_until_idle()
        self.tell()
        assert self.gauges == {}
        assert self.runtime.open_streams == []
