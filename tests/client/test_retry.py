"""`Retry`: what is repeated, how often, after how long; off by default, and inside the one deadline."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

import pooltransport as pt
from pooltransport.client.retry import Attempts
from tests.support.colours import run_colour
from tests.support.responders import Responder, head
from tests.support.routes import routes

NOW = 1_800_000_000.0


class Answer:
    """What a policy looks at."""

    def __init__(self, status, **headers):
        self.status_code = status
        self.headers = pt.Headers({name.replace("_", "-"): value for name, value in headers.items()})


def request(method="GET", **fields):
    return pt.Request(method, "http://a.test/", **fields)


def after(policy, *events, method="GET", chance=0.0, **fields):
    """Return the delays that `policy` gives for errors and answers, one after another."""
    attempts = Attempts(policy)
    asked = request(method, **fields)
    return [
        attempts.after_error(event, asked, chance)
        if isinstance(event, Exception)
        else attempts.after_answer(event, asked, chance, NOW)
        for event in events
    ]


REFUSED = pt.ConnectError("refused")
BROKEN = pt.ReadError("reset")
UNSENT = pt.ServerClosedConnection("closed", reused=True, bytes_written=0)


class TestPolicy:
    def test_as_often_as_it_says(self):
        assert after(pt.Retry(2), REFUSED, REFUSED, REFUSED) == [0.1, 0.2, None]
        assert after(pt.Retry(0), REFUSED) == [None]
        assert after(pt.Retry(5, connect=1), REFUSED, BROKEN, REFUSED) == [0.1, 0.2, None]
        assert after(pt.Retry(5, read=0), BROKEN) == [None]
        assert after(pt.Retry(5, status=1, status_forcelist=[500]), Answer(500), Answer(500)) == [0.1, None]
        assert after(pt.Retry(2, status_forcelist=[500]), REFUSED, Answer(500), BROKEN) == [0.1, 0.2, None]

    def test_backing_off(self):
        policy = pt.Retry(8, backoff_factor=1.0, backoff_max=10.0)
        assert after(policy, *[REFUSED] * 6) == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
        jittered = pt.Retry(3, backoff_factor=1.0, backoff_jitter=0.5)
        assert after(jittered, REFUSED, REFUSED, chance=0.5) == [1.25, 2.25]
        assert after(pt.Retry(10_000, backoff_factor=0.5), *[REFUSED] * 2_000)[-1] == 120.0

    @pytest.mark.parametrize(
        "error",
        [
            pt.PoolTimeout("none free", phase="queue", setting="timeout", seconds=1.0),
            pt.PoolQueueFull("full"),
            pt.TransportClosed("closed"),
            pt.LeaseExpired("held"),
            pt.LocalProtocolError("wrong"),
            pt.RemoteProtocolError("nonsense"),
            pt.TLSError("certificate"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_what_would_only_fail_again(self, error):
        assert after(pt.Retry(), error) == [None]

    def test_by_method(self):
        sent = [BROKEN, pt.ReadTimeout("slow", may_have_been_processed=True), pt.IncompleteBody("cut")]
        for error in sent:
            for method in ("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"):
                assert after(pt.Retry(), error, method=method) == [0.1]
            assert after(pt.Retry(), error, method="POST") == [None]
            assert after(pt.Retry(), error, method="POST", headers={"Idempotency-Key": "k"}) == [0.1]
        for error in (REFUSED, UNSENT, pt.ConnectTimeout("slow"), pt.DNSError("unknown")):
            assert after(pt.Retry(), error, method="POST") == [0.1]
        named = pt.Retry(status_forcelist=[500])
        assert after(named, Answer(500), method="POST") == [None]
        assert after(pt.Retry(status_forcelist=[500], allowed_methods=None), Answer(500), method="POST") == [0.1]
        assert after(pt.Retry(status_forcelist=[500], allowed_methods=["post"]), Answer(500), method="POST") == [0.1]

    def test_retry_after(self):
        named = pt.Retry(9, status_forcelist=[500])
        date = formatdate(NOW + 30.0, usegmt=True)
        assert after(named, Answer(500, Retry_After="7")) == [7.0]
        assert after(named, Answer(500, Retry_After=date)) == [30.0]
        assert after(named, Answer(500, Retry_After=formatdate(NOW - 30.0, usegmt=True))) == [0.0]
        assert after(named, Answer(500, Retry_After="soon")) == [0.1]
        for status in (413, 429, 503):
            assert after(pt.Retry(), Answer(status, Retry_After="1"), Answer(status)) == [1.0, None]
        assert after(pt.Retry(), Answer(200, Retry_After="1"), Answer(500, Retry_After="1")) == [None, None]
        deaf = pt.Retry(status_forcelist=[503], respect_retry_after_header=False)
        assert after(deaf, Answer(503, Retry_After="9"), Answer(429, Retry_After="9")) == [0.1, None]

    def test_retry_after_is_cut_where_no_total_bounds_it(self):
        """Contract 2.2."""
        assert after(pt.Retry(), Answer(503, Retry_After="3600")) == [60.0]
        assert after(pt.Retry(), Answer(503, Retry_After="3600"), timeout=10.0) == [3600.0]

    def test_a_body_that_cannot_be_sent_again(self):
        asked = request("PUT", content=iter([b"once"]))
        assert Attempts(pt.Retry()).after_error(REFUSED, asked, 0.0) == 0.1  # none of it was taken
        next(asked.body.chunks())
        assert Attempts(pt.Retry()).after_error(REFUSED, asked, 0.0) is None

    @pytest.mark.parametrize(
        "options",
        [
            {"total": -1},
            {"total": None},
            {"total": True},
            {"connect": 1.5},
            {"backoff_factor": -1},
            {"backoff_max": float("inf")},
            {"backoff_jitter": "x"},
            {"status_forcelist": 500},
            {"allowed_methods": "GET"},
        ],
    )
    def test_what_is_none(self, options):
        with pytest.raises(pt.ConfigError, match="Retry: "):
            pt.Retry(**options)

    def test_a_client_takes_a_number(self):
        pt.Client(retry=3)
        for wrong in ("3", True, 1.5):
            with pytest.raises(pt.ConfigError, match="retry must be"):
                pt.Client(retry=wrong)


def failing(count, answer=(200, {}, b"at last"), *, status=503, headers=None):
    """Answer with `status` `count` times, then with `answer`."""
    left = [count]

    def respond(request):
        left[0] -= 1
        return (status, headers or {}, b"sorry") if left[0] >= 0 else answer

    return respond


class TestClient:
    def test_off_by_default(self, colour, server_factory):
        server = server_factory(routes({"/": failing(1)}))

        async def body(c):
            assert (await c.call(c.make_client().get, server.url)).status_code == 503

        run_colour(colour, body)

    def test_until_it_works(self, colour, server_factory):
        server = server_factory(routes({"/": failing(3)}))
        policy = pt.Retry(3, status_forcelist=[503], backoff_factor=0.0)

        async def body(c):
            client = c.make_client(retry=policy)
            response = await c.call(client.put, server.url, content=b"again")
            assert (response.status_code, response.content, response.history) == (200, b"at last", ())
            assert c.transport.stats().leases == 0

        run_colour(colour, body)
        assert [request.body for request in server.log] == [b"again"] * 4
        assert server.accepted == 1

    def test_the_last_answer_is_returned(self, colour, server_factory):
        server = server_factory(routes({"/": failing(9)}))

        async def body(c):
            client = c.make_client(retry=pt.Retry(2, status_forcelist=[503], backoff_factor=0.0))
            response = await c.call(client.get, server.url)
            assert (response.status_code, response.content) == (503, b"sorry")

        run_colour(colour, body)
        assert len(server.log) == 3

    def test_the_last_error_tells_what_was_tried(self, colour, server_factory):
        @Responder
        def cut(conn, request):
            conn.send(head(length=100) + b"half")
            conn.close()

        server = server_factory(cut)

        async def body(c):
            client = c.make_client(retry=pt.Retry(2, backoff_factor=0.001))
            with pytest.raises(pt.IncompleteBody) as caught:
                await c.call(client.get, server.url)
            first, second = caught.value.__notes__
            assert first.startswith("attempt 1: IncompleteBody: ")
            assert second.startswith("attempt 2: IncompleteBody: ")
            assert first.endswith("; sent again after 0.00 s")
            assert c.transport.stats().leases == 0

        run_colour(colour, body)
        assert len(server.log) == 3

    def test_what_does_not_fit_the_deadline_is_not_waited_for(self, colour, server_factory):
        """Contract 2.2: at once, the answer or the error."""
        server = server_factory(routes({"/": failing(9, headers={"Retry-After": "30"})}))

        async def body(c):
            client = c.make_client(retry=3, timeout=20.0)
            began = time.monotonic()
            response = await c.call(client.get, server.url)
            assert response.status_code == 503
            with pytest.raises(pt.ConnectError) as caught:
                await c.call(client.get, "http://127.0.0.1:1/", retry=pt.Retry(3, backoff_factor=30.0))
            assert caught.value.__notes__ == ["not sent again: 30.00 s to wait are more than its timeout leaves"]
            assert time.monotonic() - began < 15.0

        run_colour(colour, body)
        assert len(server.log) == 1

    def test_the_total_is_not_begun_anew(self, colour, server_factory):
        server = server_factory(routes({"/": failing(10_000)}))

        async def body(c):
            client = c.make_client(
                timeout=0.3, retry=pt.Retry(10_000, status_forcelist=[503], backoff_factor=0.02, backoff_max=0.02)
            )
            began = time.monotonic()
            try:
                found = (await c.call(client.get, server.url)).status_code
            except pt.TransportTimeout as error:  # the end came in the middle of an attempt
                found = error.setting, error.seconds
            assert found in (503, ("timeout", 0.3))
            assert time.monotonic() - began < 10.0

        run_colour(colour, body)
        assert 2 <= len(server.log) <= 0.3 / 0.02 + 1

    def test_a_streamed_answer(self, colour, server_factory):
        server = server_factory(routes({"/": failing(1)}))

        async def body(c):
            client = c.make_client(retry=pt.Retry(1, status_forcelist=[503], backoff_factor=0.0))
            response = await c.call(client.send, pt.Request("GET", server.url), stream=True)
            assert not response.is_closed
            assert await c.read(response) == b"at last"

        run_colour(colour, body)

    def test_with_redirects_and_auth(self, colour, server_factory):
        table = {"/a": (302, {"Location": "/b"}, b""), "/b": failing(2)}
        server = server_factory(routes(table))

        async def body(c):
            client = c.make_client(retry=pt.Retry(2, status_forcelist=[503], backoff_factor=0.0), auth=("u", "p"))
            response = await c.call(client.get, server.url + "/a")
            assert (response.status_code, len(response.history)) == (200, 1)

        run_colour(colour, body)
        assert [request.target for request in server.log] == ["/a", "/b", "/b", "/b"]
        assert {request.header("authorization") for request in server.log} == {"Basic dTpw"}
