"""Four recipes on the `RoundTripper` seam: a breaker, a rate limit, hedging and a cache. Run it to see each at work.

Each is an object with `round_trip` and `close` around another one, so they can be put around each other. Copy what you
need: how long to give up, what may be cached and what may be sent twice is your service's to say, and no option of a
transport. For loops the same with `async def round_trip` and `aclose`.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

import pooltransport as pt
from pooltransport import testing

if TYPE_CHECKING:
    from collections.abc import Callable


class Wrapper:
    """What all have in common."""

    def __init__(self, inner: pt.RoundTripper) -> None:
        self.inner = inner

    def close(self) -> None:
        self.inner.close()


# -- breaker ------------------------------------------------------------------------------------


class BreakerOpen(pt.TransportError):
    """Nothing was sent: this origin failed too often just now."""


class Breaker(Wrapper):
    """After `most` failures in a row an origin is left alone for `pause` seconds; then one request tries it.

    A 5xx is a failure; a queue that is full, or a request that could not be sent, says nothing about the server.
    """

    def __init__(
        self, inner: pt.RoundTripper, most: int = 5, pause: float = 10.0, now: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(inner)
        self.most, self.pause, self.now = most, pause, now
        self._failures: dict[str, int] = {}
        self._open_until: dict[str, float] = {}
        self._mutex = threading.Lock()

    def round_trip(self, request: pt.Request) -> pt.Response:
        origin = request.url.origin
        with self._mutex:
            until = self._open_until.get(origin)
            if until is not None:
                if self.now() < until:
                    raise BreakerOpen(f"{origin}: failed {self.most} times, left alone for {self.pause:g} s")
                self._open_until[origin] = self.now() + self.pause  # this one tries, the others still wait
        try:
            response = self.inner.round_trip(request)
        except (pt.PoolTimeout, pt.PoolQueueFull, pt.LocalProtocolError):
            raise
        except pt.TransportError:
            self._note(origin, failed=True)
            raise
        self._note(origin, failed=response.status_code >= 500)
        return response

    def _note(self, origin: str, *, failed: bool) -> None:
        with self._mutex:
            if not failed:
                self._failures.pop(origin, None)
                self._open_until.pop(origin, None)
                return
            self._failures[origin] = self._failures.get(origin, 0) + 1
            if self._failures[origin] >= self.most:
                self._open_until[origin] = self.now() + self.pause


# -- rate limit ---------------------------------------------------------------------------------


class RateLimit(Wrapper):
    """At most `per_second` requests to each origin, in bursts of `burst`: who comes too early waits its turn.

    The wait is not in the request's timeouts, whose clocks start in the transport. A request that would wait longer
    than its total raises at once.
    """

    def __init__(
        self,
        inner: pt.RoundTripper,
        per_second: float,
        burst: int = 1,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        super().__init__(inner)
        self.interval, self.burst, self.now, self.sleep = 1.0 / per_second, burst, now, sleep
        self._next: dict[str, float] = {}  # when the bucket of an origin would be full again
        self._mutex = threading.Lock()

    def round_trip(self, request: pt.Request) -> pt.Response:
        origin, total = request.url.origin, request.timeout.total
        with self._mutex:
            now = self.now()
            full_at = max(self._next.get(origin, now), now) + self.interval
            pause = full_at - now - self.burst * self.interval
            if isinstance(total, (int, float)) and pause >= total:
                raise pt.PoolTimeout(
                    f"{origin}: {1 / self.interval:g} requests a second are allowed, and the turn of this one comes in "
                    f"{pause:.2f} s, after its timeout",
                    phase="queue",
                    setting="timeout",
                    seconds=total,
                )
            self._next[origin] = full_at
        if pause > 1e-9:
            self.sleep(pause)
        return self.inner.round_trip(request)


# -- hedging ------------------------------------------------------------------------------------


class Hedge(Wrapper):
    """A GET or HEAD that is not answered after `delay` seconds is sent once more; the first answer is taken, and the
    other closed. For a tail of slow servers behind one name. It costs a connection and a thread for each one more.
    """

    def __init__(self, inner: pt.RoundTripper, delay: float, workers: int = 32) -> None:
        super().__init__(inner)
        self.delay = delay
        self.sent_twice = 0
        self._workers = ThreadPoolExecutor(workers, thread_name_prefix="hedge")

    def round_trip(self, request: pt.Request) -> pt.Response:
        if request.method not in ("GET", "HEAD"):
            return self.inner.round_trip(request)
        tries = {self._workers.submit(self.inner.round_trip, request)}
        if wait(tries, timeout=self.delay).not_done:
            self.sent_twice += 1
            tries.add(self._workers.submit(self.inner.round_trip, request))
        last: BaseException | None = None
        while tries:
            done, tries = wait(tries, return_when=FIRST_COMPLETED)
            for attempt in done:
                last = attempt.exception()
                if last is None:
                    for other in (*tries, *(done - {attempt})):
                        other.add_done_callback(_close)
                    return attempt.result()
        assert last is not None, "every try has ended, none with an answer"
        raise last

    def close(self) -> None:
        self._workers.shutdown(wait=True)
        super().close()


def _close(attempt: Future[pt.Response]) -> None:
    if attempt.exception() is None:
        attempt.result().close()


# -- cache --------------------------------------------------------------------------------------


class Cache(Wrapper):
    """Keeps answers to GET that have an ETag, and asks the server whether they still hold: a 304 costs no body.

    Only whole and small ones (`most_bytes`), of requests without Authorization and Cookie, whose answers do not vary,
    and which are not forbidden to be kept.
    """

    def __init__(self, inner: pt.RoundTripper, most: int = 1000, most_bytes: int = 1_000_000) -> None:
        super().__init__(inner)
        self.most, self.most_bytes = most, most_bytes
        self._kept: OrderedDict[str, tuple[str, testing.Reply]] = OrderedDict()
        self._mutex = threading.Lock()

    def round_trip(self, request: pt.Request) -> pt.Response:
        private = "authorization" in request.headers or "cookie" in request.headers
        if request.method != "GET" or private or "range" in request.headers or "if-none-match" in request.headers:
            return self.inner.round_trip(request)
        key = str(request.url)
        with self._mutex:
            etag, reply = self._kept.get(key, (None, None))
        asked = request
        if etag is not None:
            headers = pt.Headers(request.headers)
            headers.set("If-None-Match", etag)
            asked = request.with_headers(headers)
        response = self.inner.round_trip(asked)
        if response.status_code == 304 and reply is not None:
            response.close()
        else:
            made = self._keep(key, response)
            if made is None:
                return response
            reply = made
        with self._mutex:
            if key in self._kept:
                self._kept.move_to_end(key)
        # A response out of memory: what the testing doubles make is an ordinary one.
        return testing.HandlerTransport(lambda _: reply).round_trip(request)

    def _keep(self, key: str, response: pt.Response) -> testing.Reply | None:
        """Keep a response, and return it as what can be given again; None, and it is as it was, if it may not be."""
        headers = response.headers
        etag, length = headers.get("etag"), headers.get("content-length", "")
        small = length.isdigit() and int(length) <= self.most_bytes
        if response.status_code != 200 or etag is None or not small or response.decoded:
            return None
        if "no-store" in headers.get("cache-control", "") or "vary" in headers or "set-cookie" in headers:
            return None
        reply = testing.response(content=response.read(), headers=headers)
        with self._mutex:
            self._kept[key] = (etag, reply)
            while len(self._kept) > self.most:
                self._kept.popitem(last=False)
        return reply


def main() -> None:
    """Show each against a peer that behaves as told."""
    url = "https://api.example.com/data"
    clock = [0.0]

    broken = testing.FaultTransport([pt.ConnectError, pt.ConnectError, testing.ok])
    breaker = pt.Client(Breaker(broken, most=2, now=lambda: clock[0]))
    for seconds in (0.0, 0.0, 1.0, 11.0):
        clock[0] = seconds
        try:
            print(f"breaker at {seconds:g} s: {breaker.get(url).status_code}")
        except pt.TransportError as error:
            print(f"breaker at {seconds:g} s: {type(error).__name__}")

    pauses: list[float] = []
    limited = RateLimit(testing.FaultTransport([testing.ok]), 4, burst=2, now=lambda: 0.0, sleep=pauses.append)
    for _ in range(4):
        pt.Client(limited).get(url)
    print(f"rate limit: waited {pauses}")

    hedge = Hedge(testing.FaultTransport([testing.slow(0.2), testing.ok]), delay=0.01)
    answer = pt.Client(hedge).get(url)
    print(f"hedging: {answer.status_code}, sent twice: {hedge.sent_twice}")
    hedge.close()

    def server(request: testing.ReceivedRequest) -> testing.Reply:
        if request.headers.get("if-none-match") == '"1"':
            return testing.response(304)
        return testing.response(text="hello", headers={"ETag": '"1"'})

    origin = testing.HandlerTransport(server)
    cached = pt.Client(Cache(origin), headers={"Accept-Encoding": "identity"})
    print(f"cache: {[cached.get(url).text for _ in range(2)]} from {len(origin.requests)} requests, the last a 304")


if __name__ == "__main__":
    main()
