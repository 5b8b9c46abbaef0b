"""An engine without I/O: performs the pool's actions on strings, and notices an action said twice."""

from __future__ import annotations

import pytest

from pooltransport.core.pool import AbortDial, Close, Dial, Limits, Pool, Waiter, Wake
from pooltransport.stats import CloseReason


def host_of(key):
    """Keys ``a1`` and ``a2`` share the host ``a``."""
    return key.rstrip("0123456789")


@pytest.fixture(autouse=True)
def drained():
    """At the end of a test let everything end, in every pool that it made."""
    Driver.kept = []
    yield
    drivers, Driver.kept = Driver.kept, None
    for driver in drivers:
        driver.drain()


class Driver:
    """Keeps what an engine would keep: dials under way, sockets being closed, leases. Checks each step."""

    kept = None

    def __init__(self, **limits):
        if self.kept is not None:
            self.kept.append(self)
        self.pool = Pool(Limits(**limits), host_of)
        self.now = 1000.0
        self.dials = []  # tickets whose Dial was said and whose end was not reported
        self.aborted = set()
        self.closing = {}  # conn: reason
        self.leases = []  # one item for each lease
        self.waiting = []  # waiters left pending by get
        self.woken = []
        self.reasons = []  # of every Close, in order
        self.made = 0

    # -- one step, one list of actions ---------------------------------------------

    def apply(self, actions):
        dialed = False
        for action in actions:
            match action:
                case Close(conn, reason):
                    assert not dialed, "Close precedes Dial"
                    assert conn not in self.closing, "closed twice"
                    assert isinstance(reason, CloseReason)
                    self.closing[conn] = reason
                    self.reasons.append(reason.value)
                    self.leases = [lease for lease in self.leases if lease != conn]
                case Dial(ticket):
                    dialed = True
                    assert ticket not in self.dials, "dialed twice"
                    self.dials.append(ticket)
                case AbortDial(ticket):
                    assert ticket in self.dials
                    assert ticket not in self.aborted
                    self.aborted.add(ticket)
                case Wake(waiter):
                    assert waiter in self.waiting, "answered twice, or never waited"
                    assert not waiter.pending
                    self.waiting.remove(waiter)
                    self.woken.append(waiter)
                    if waiter.conn is not None:
                        self.leases.append(waiter.conn)
        self.pool.check()
        return list(actions)

    def ask(self, key):
        """Return the connection if it is had at once, else the waiter."""
        conn = self.pool.take(key, self.now)
        if conn is not None:
            self.leases.append(conn)
            return conn
        return self.get(key)

    def get(self, key):
        """Ask by the full path only."""
        waiter = Waiter(key)
        actions = self.pool.get(waiter, self.now)
        if waiter.pending:
            self.waiting.append(waiter)
        elif waiter.conn is not None:
            self.leases.append(waiter.conn)
        self.apply(actions)
        return waiter if waiter.pending else waiter.conn

    def dialed(self, ticket=None, conn=None, **more):
        ticket = ticket or self.dials[0]
        self.dials.remove(ticket)
        self.made += 1
        conn = conn or f"{ticket.key}#{self.made}"
        self.apply(self.pool.dialed(ticket, conn, self.now, **more))
        return conn

    def dial_failed(self, ticket=None):
        ticket = ticket or self.dials[0]
        self.dials.remove(ticket)
        return self.apply(self.pool.dial_failed(ticket, OSError("refused"), self.now))

    def put(self, conn, **hints):
        self.leases.remove(conn)
        return self.apply(self.pool.put_idle(conn, self.now, **hints))

    def remove(self, conn, reason=CloseReason.READ_ERROR):
        return self.apply(self.pool.remove(conn, reason))

    def closed(self, conn=None):
        conn = conn or next(iter(self.closing))
        del self.closing[conn]
        return self.apply(self.pool.closed(conn, self.now))

    def cancel(self, waiter):
        if waiter in self.waiting:
            self.waiting.remove(waiter)
        elif waiter.conn is not None and waiter.conn in self.leases:
            self.leases.remove(waiter.conn)
        return self.apply(self.pool.cancel(waiter, self.now))

    # -- several steps ---------------------------------------------------------------

    def make(self, key, **more):
        """Return a new leased connection."""
        waiter = self.get(key)
        assert isinstance(waiter, Waiter), f"{waiter} was available"
        ticket = waiter.dial
        assert ticket in self.dials, "no slot for it"
        return self.dialed(ticket, **more)

    def make_idle(self, *keys):
        """Make one idle connection for each key."""
        conns = [self.make(key) for key in keys]
        for conn in conns:
            self.put(conn)
        return conns

    def settle(self):
        """Report the end of every aborted dial and every close."""
        while self.closing or self.aborted & set(self.dials):
            for conn in list(self.closing):
                self.closed(conn)
            for ticket in [t for t in self.dials if t in self.aborted]:
                self.dial_failed(ticket)

    def drain(self):
        """Let everything come to its end; afterwards nobody waits and nothing is in use."""
        for _ in range(100_000):
            if self.closing:
                self.closed()
            elif self.dials:
                self.dialed()
            elif self.leases:
                self.put(self.leases[0])
            else:
                break
        assert not self.waiting, f"never answered: {self.waiting}"
        stats = self.pool.stats()
        assert (stats.leases, stats.dialing, stats.closing, stats.waiting) == (0, 0, 0, 0)

    @property
    def stats(self):
        return self.pool.stats(self.now)

    @property
    def running(self):
        """Dials that were not aborted."""
        return [ticket for ticket in self.dials if ticket not in self.aborted]
