"""The recipes on the `RoundTripper` seam do what they say; see examples/recipes.py."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import pooltransport as pt
from pooltransport import testing
from tests.support.responders import ok

PATH = Path(__file__).parent.parent / "examples" / "recipes.py"
URL = "http://a.example/"


@pytest.fixture(scope="module")
def recipes():
    spec = importlib.util.spec_from_file_location("recipes_example", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def outcome(transport, url=URL, method="GET"):
    """Send one request, and say what came of it."""
    try:
        return pt.Client(transport).request(method, url).status_code
    except pt.TransportError as error:
        return type(error).__name__


def test_it_runs():
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", str(PATH)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "breaker at 0 s: ConnectError",
        "breaker at 0 s: ConnectError",
        "breaker at 1 s: BreakerOpen",
        "breaker at 11 s: 200",
        "rate limit: waited [0.25, 0.5]",
        "hedging: 200, sent twice: 1",
        "cache: ['hello', 'hello'] from 2 requests, the last a 304",
    ]


class TestBreaker:
    def test_each_origin_has_its_own(self, recipes):
        def handler(request):
            return testing.response(500 if request.url.host == "b.example" else 200)

        breaker = recipes.Breaker(testing.HandlerTransport(handler), most=2, now=lambda: 0.0)
        assert [outcome(breaker, "http://b.example/") for _ in range(3)] == [500, 500, "BreakerOpen"]
        assert outcome(breaker) == 200

    def test_one_tries_after_the_pause(self, recipes):
        now = [0.0]
        inner = testing.FaultTransport([pt.ConnectError, pt.ConnectError, testing.ok])
        breaker = recipes.Breaker(inner, most=1, pause=5.0, now=lambda: now[0])
        assert [outcome(breaker) for _ in range(2)] == ["ConnectError", "BreakerOpen"]
        now[0] = 6.0
        assert [outcome(breaker) for _ in range(2)] == ["ConnectError", "BreakerOpen"]
        now[0] = 12.0
        assert [outcome(breaker) for _ in range(2)] == [200, 200]
        assert inner.taken == 4

    def test_a_full_pool_says_nothing_of_the_server(self, recipes):
        breaker = recipes.Breaker(testing.FaultTransport([pt.PoolTimeout]), most=1)
        assert [outcome(breaker) for _ in range(3)] == ["PoolTimeout"] * 3


class TestRateLimit:
    def test_bursts_and_turns(self, recipes):
        now, pauses = [0.0], []
        limit = recipes.RateLimit(
            testing.FaultTransport([testing.ok]), 10, burst=3, now=lambda: now[0], sleep=pauses.append
        )
        for _ in range(5):
            outcome(limit)
        assert pauses == pytest.approx([0.1, 0.2])
        now[0] = 10.0
        pauses.clear()
        for _ in range(4):
            outcome(limit)
        assert pauses == pytest.approx([0.1])

    def test_who_cannot_wait_fails_at_once_and_takes_no_turn(self, recipes):
        pauses = []
        limit = recipes.RateLimit(testing.FaultTransport([testing.ok]), 1, now=lambda: 0.0, sleep=pauses.append)
        outcome(limit)
        with pytest.raises(pt.PoolTimeout, match=r"1 requests a second are allowed.* in 1\.00 s, after its timeout"):
            pt.Client(limit).get(URL, timeout=0.5)
        outcome(limit)
        assert pauses == [1.0]


class TestHedge:
    def test_the_first_answer_is_taken_and_the_other_closed(self, recipes, server_factory):
        server = server_factory(ok())
        late = threading.Event()

        class First:
            """Holds the first request back until the second was answered."""

            def __init__(self, inner):
                self.inner, self.count = inner, 0

            def round_trip(self, request):
                self.count += 1
                if self.count == 1:
                    late.wait(10)
                return self.inner.round_trip(request)

            def close(self):
                self.inner.close()

        with pt.Transport() as transport:
            hedge = recipes.Hedge(First(transport), delay=0.02)
            with testing.no_leaks():
                assert outcome(hedge, server.url) == 200
                late.set()
                hedge._workers.shutdown(wait=True)
            assert hedge.sent_twice == 1
            assert transport.stats().leases == 0

    def test_only_what_may_be_sent_twice(self, recipes):
        inner = testing.FaultTransport([testing.slow(0.05)])
        hedge = recipes.Hedge(inner, delay=0.001)
        assert outcome(hedge, method="POST") == 200
        assert inner.taken == 1
        hedge.close()

    def test_both_fail(self, recipes):
        hedge = recipes.Hedge(testing.FaultTransport([pt.ConnectError]), delay=1.0)
        assert outcome(hedge) == "ConnectError"
        hedge.close()


class TestCache:
    def transport(self, recipes, **fields):
        """Give a cache, and what it asked the server."""

        def handler(request):
            if request.headers.get("if-none-match") == '"1"':
                return testing.response(304)
            return testing.response(text="hello", headers={"ETag": '"1"', **fields})

        inner = testing.HandlerTransport(handler)
        return recipes.Cache(inner, most=1), inner

    def get(self, cache, url=URL, **headers):
        return pt.Client(cache, headers={"Accept-Encoding": "identity", **headers}).get(url)

    def test_the_second_time_costs_no_body(self, recipes):
        cache, inner = self.transport(recipes)
        for _ in range(2):
            answer = self.get(cache)
            assert (answer.status_code, answer.text, answer.headers["etag"]) == (200, "hello", '"1"')
        assert [request.headers.get("if-none-match") for request in inner.requests] == [None, '"1"']

    @pytest.mark.parametrize("fields", [{"Cache-Control": "no-store"}, {"Vary": "Cookie"}, {"Set-Cookie": "a=b"}])
    def test_what_must_not_be_kept(self, recipes, fields):
        cache, inner = self.transport(recipes, **fields)
        assert [self.get(cache).text for _ in range(2)] == ["hello"] * 2
        assert [request.headers.get("if-none-match") for request in inner.requests] == [None, None]

    @pytest.mark.parametrize("headers", [{"Authorization": "Bearer x"}, {"Cookie": "a=b"}])
    def test_nobody_gets_what_is_anothers(self, recipes, headers):
        cache, inner = self.transport(recipes)
        for _ in range(2):
            self.get(cache, **headers)
        assert [request.headers.get("if-none-match") for request in inner.requests] == [None, None]

    def test_it_is_bounded(self, recipes):
        cache, inner = self.transport(recipes)
        for url in (URL, f"{URL}other", URL):
            self.get(cache, url)
        assert [request.headers.get("if-none-match") for request in inner.requests] == [None, None, None]

    def test_leaves_nothing_open(self, recipes, server_factory):
        server = server_factory(ok(b"hello", ("ETag", '"1"')))
        with pt.Transport() as transport:
            cache = recipes.Cache(transport)
            for _ in range(2):
                assert self.get(cache, server.url).text == "hello"
            stats = transport.stats()
            assert (stats.leases, stats.idle, stats.dials) == (0, 1, 1)


def test_they_go_around_each_other(recipes):
    together = recipes.Breaker(
        recipes.RateLimit(recipes.Cache(testing.FaultTransport([testing.ok])), 1000, burst=100), most=1
    )
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda _: outcome(together), range(50))) == [200] * 50
