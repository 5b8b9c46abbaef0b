"""Servers whose pooled connections turn out to be stale."""

from __future__ import annotations

import threading

from tests.support.responders import head


class Stale:
    """Keeps the first request of each connection alive; on the second reads it, counts it and closes."""

    def __init__(self, stale=None):
        self.processed = []
        self._stale = stale  # how many connections do so; None: all
        self._lock = threading.Lock()

    def __call__(self, conn):
        with self._lock:
            is_stale = self._stale is None or conn.number <= self._stale
        while (request := conn.read_request()) is not None:
            if is_stale and conn.requests > 1:
                self.processed.append(request)
                conn.close()
                return
            conn.send(head(length=2) + b"ok")


async def make_idle(c, server, count):
    """Leave `count` idle connections, each of which has served one request."""
    held = [await c.get(server.url + "/held") for _ in range(count)]
    for response in held:
        await c.read(response)
    assert c.transport.stats().idle == count


class Held(Stale):
    """As `Stale`, but answers to ``/held`` come in two pieces, so that many can be open at once."""

    def __call__(self, conn):
        is_stale = self._stale is None or conn.number <= self._stale
        while (request := conn.read_request()) is not None:
            if request.target == "/held":
                conn.send(head(length=2) + b"o")
                conn.server.wait_stopping(0.002)
                conn.send(b"k")
            elif is_stale and conn.requests > 1:
                self.processed.append(request)
                conn.close()
                return
            else:
                conn.send(head(length=2) + b"ok")
