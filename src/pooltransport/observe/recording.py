"""Histograms that are recorded as things happen, one value at a time, because no snapshot has them or none will do.

What each costs a request is in docs/metrics.md. The server of a request is the one in its URL, also where a forward
proxy is asked for it.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from typing import TYPE_CHECKING, Any

from pooltransport import observers
from pooltransport.observers import Closed, Dialed, Observer, Recorder

from . import catalogue as c
from .forks import ProcessLock
from .hosts import Hosts, address_of
from .table import Table
from .tabulate import host_labels, request_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pooltransport.models import Request

    from .source import Source
    from .table import Labels

    Sink = Callable[[str, Labels, float], object]

DURATION = "http.client.request.duration"
QUEUE = "http.client.request.time_in_queue"
SENT = "http.client.request.body.size"
RECEIVED = "http.client.response.body.size"
LOOKUP = "dns.lookup.duration"
CONNECTION = "http.client.connection.duration"
REQUESTS = "pooltransport.connection.requests"
DIAL = "pooltransport.dial.duration"
PHASES = "pooltransport.dial.phase.duration"
LEASE = "pooltransport.lease.duration"

EVERYTHING = frozenset(m.name for m in c.METRICS if m.kind is c.Kind.HISTOGRAM)
# What the pool does not measure by itself.
DETAILS = frozenset((SENT, RECEIVED, LOOKUP, PHASES))
_PER_REQUEST = frozenset((DURATION, QUEUE, SENT, RECEIVED, LEASE))
_WITH_HOOKS = frozenset((QUEUE, RECEIVED, LEASE))
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"))


class Recording(Observer):
    """Gives `sink` each value of the histograms called `wanted`: name, labels, value. `source` says whose requests."""

    def __init__(self, wanted: Collection[str], sink: Sink, source: Source) -> None:
        self.wanted = frozenset(wanted)
        self.sink = sink
        self.shape = source.shape
        self._hosts = Hosts(source.max_hosts)
        self._options = None if source.transports is None else [transport.options for transport in source.transports]
        self._kind = _Followed if self.wanted & _WITH_HOOKS else _Timed
        self._per_request = bool(self.wanted & _PER_REQUEST)

    def start(self) -> None:
        """Listen from now on."""
        if self.wanted:
            observers.add(self)

    def stop(self) -> None:
        """Listen no more."""
        observers.remove(self)

    def _concerns(self, options: object) -> bool:
        return self._options is None or any(options is mine for mine in self._options)

    def where(self, address: str, port: int) -> Labels:
        """Return the labels of a host."""
        return host_labels(self._hosts.use((address, port)))

    def begin(self, request: Request, options: object) -> Recorder | None:
        """A request begins."""
        return self._kind(self, request) if self._per_request and self._concerns(options) else None

    def dialed(self, dial: Dialed, options: object) -> None:
        """A dial ended."""
        if not self._concerns(options):
            return
        where = self._where(dial.host)
        error: Labels = () if dial.error is None else (("error.type", dial.error),)
        if DIAL in self.wanted:
            self.sink(DIAL, (*where, *error), dial.seconds)
        for phase, seconds in dial.phases:
            if PHASES in self.wanted:
                self.sink(PHASES, (*where, (c.DIAL_PHASE, phase)), seconds)
            if phase == "dns" and dial.name is not None and LOOKUP in self.wanted:
                name = self._hosts.use((dial.name, 0))[0]
                failed = error if dial.error == "dns_error" else ()
                self.sink(LOOKUP, (("dns.question.name", name), *failed), seconds)

    def closed(self, conn: Closed, options: object) -> None:
        """A connection was closed."""
        if not self._concerns(options):
            return
        where = self._where(conn.host)
        if CONNECTION in self.wanted:
            self.sink(CONNECTION, where, conn.age)
        if REQUESTS in self.wanted:
            self.sink(REQUESTS, where, conn.requests)

    def _where(self, host: Any) -> Labels:
        return self.where(*address_of(host.host, host.port, host.proxy))


class _Timed(Recorder):
    """How long until the headers."""

    __slots__ = ("began", "labels", "owner", "request", "where")

    def __init__(self, owner: Recording, request: Request) -> None:
        self.owner = owner
        self.request = request
        self.began = time.monotonic()
        self.where = owner.where(request.url.host, request.url.port)
        self.labels: Labels | None = None  # known with the answer

    def answered(self, response: Any) -> None:
        self._done(str(response.status_code), response.conn.protocol)

    def failed(self, error: BaseException) -> None:
        self._done(type(error).__name__, None)

    def _done(self, outcome: str, protocol: str | None) -> None:
        owner, request = self.owner, self.request
        method = request.method if request.method in _METHODS else "_OTHER"
        self.labels = labels = request_labels(self.where, method, outcome, owner.shape, protocol)
        if DURATION in owner.wanted:
            owner.sink(DURATION, labels, time.monotonic() - self.began)
        if SENT in owner.wanted and request.body.length:
            owner.sink(SENT, labels, request.body.length)


class _Followed(_Timed):
    """And what happens to its connections and its body, as hooks tell."""

    __slots__ = ("leased", "received")

    hooks = True

    def __init__(self, owner: Recording, request: Request) -> None:
        super().__init__(owner, request)
        self.leased: float | None = None
        self.received: int | None = None

    def got_conn(self, info: Any) -> None:
        """Have a connection."""
        if QUEUE in self.owner.wanted:
            self.owner.sink(QUEUE, self.where, info.queue_time)
        self.leased = time.monotonic()

    def _gave_back(self, _: Any) -> None:
        leased, self.leased = self.leased, None
        if leased is not None and LEASE in self.owner.wanted:
            self.owner.sink(LEASE, self.where, time.monotonic() - leased)

    put_idle_conn = retried = conn_closed = _gave_back

    def body_closed(self, info: Any) -> None:
        """Read the body, or no more of it."""
        self.received = info.bytes_read
        self._measure_body()

    def _done(self, outcome: str, protocol: str | None) -> None:
        super()._done(outcome, protocol)
        if not outcome.isdigit():
            self._gave_back(None)
        self._measure_body()

    def _measure_body(self) -> None:
        # A body may end before its headers are told, if it is empty or came with them.
        if self.received is not None and self.labels is not None and RECEIVED in self.owner.wanted:
            self.owner.sink(RECEIVED, self.labels, self.received)
            self.received = None


class Tallies:
    """A sink that keeps what it is given, as histograms. In a child process it begins anew."""

    def __init__(self) -> None:
        self._mutex = ProcessLock(self._begin)
        self._begin()

    def _begin(self) -> None:
        self._table = Table()

    def __call__(self, name: str, labels: Labels, value: float) -> None:
        """Count one value."""
        bounds = c.BY_NAME[name].buckets
        index = bisect_left(bounds, value)
        with self._mutex:
            rows = self._table.rows.setdefault(name, {})
            row = rows.get(labels)
            if row is None:
                row = rows[labels] = [0] * (len(bounds) + 2)
            row[index] += 1
            row[-1] += value

    def add_to(self, table: Table) -> None:
        """Add everything to `table`."""
        with self._mutex:
            table.merge(self._table)
