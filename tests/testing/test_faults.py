"""`FaultTransport`: what fails, when, and with which error; nobody sleeps."""

from __future__ import annotations

import time

import pytest

import pooltransport as pt
from pooltransport import errors, testing
from pooltransport.testing import drop_after, ok, response, slow, stall, status
from tests.support.colours import COLOURS, run_colour

pytestmark = pytest.mark.parametrize("colour", COLOURS)
URL = "http://a.example/"


def faulty(c, steps, inner=None, **options):
    """Make a transport of the colour that fails as told."""
    return (testing.FaultTransport if c.sync else testing.AsyncFaultTransport)(steps, inner, **options)


async def outcome(c, transport, **request):
    """Send one request, read it, and say what came of it."""
    try:
        answer = await c.call(transport.round_trip, pt.Request("GET", URL, **request))
        return answer.status_code, await c.read(answer)
    except (pt.Error, RuntimeError) as error:
        return type(error)


def test_each_request_takes_the_next_step_and_the_last_stays(colour):
    async def body(c):
        transport = faulty(c, [pt.PoolTimeout, status(503, headers={"Retry-After": "1"}), response(text="x"), ok])
        client = c.make_client(transport=transport)
        with pytest.raises(pt.PoolTimeout):
            await c.call(client.get, URL)
        answer = await c.call(client.get, URL)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert [await outcome(c, transport) for _ in range(3)] == [(200, b"x"), (200, b"ok"), (200, b"ok")]
        assert transport.taken == 5

    run_colour(colour, body)


def test_repeat_begins_again(colour):
    async def body(c):
        transport = faulty(c, [pt.ConnectError, ok], repeat=True)
        expected = [pt.ConnectError, (200, b"ok")] * 2
        assert [await outcome(c, transport) for _ in range(4)] == expected

    run_colour(colour, body)


def test_an_instance_is_raised_as_it_is(colour):
    error = pt.ReadError("mine")

    async def body(c):
        with pytest.raises(pt.ReadError) as caught:
            await c.call(faulty(c, [error]).round_trip, pt.Request("GET", URL))
        assert caught.value is error

    run_colour(colour, body)


# Every error that a transport raises, whether the server may have acted, and what stands in the text.
RAISED = [
    (pt.PoolTimeout, False, r"no connection to http://a.example:80 within 3.00 s: 7 of 7 in use.*\[PT-EXHAUSTED\]"),
    (pt.ConnectTimeout, False, r"http://a.example:80: no connection was made within 3 s \(timeout\), phase connect"),
    (pt.TLSHandshakeTimeout, False, r"the TLS handshake did not end within 3 s \(timeout\), phase tls"),
    (pt.ResponseHeaderTimeout, True, r"no response headers came within 2 s \(response_header\), phase headers"),
    (pt.ReadTimeout, True, r"within 1 s \(read_timeout\), phase body"),
    (pt.WriteTimeout, True, r"the request was not sent within 3 s \(timeout\), phase write"),
    (pt.ConnectError, False, "cannot connect to http://a.example:80: a.example:80: Connection refused"),
    (pt.AddressRefused, False, r"allow_address refused a.example:80 \[PT-ADDRESS-REFUSED\]"),
    (pt.DNSError, False, "cannot resolve a.example"),
    (pt.TLSError, False, "TLS handshake with http://a.example:80 failed"),
    (pt.ProxyError, False, "the proxy refused with 503"),
    (pt.ServerClosedConnection, True, "closed the connection without answering, on a connection that had served"),
    (pt.ReadError, True, "Connection reset"),
    (pt.BodyTooLarge, True, "larger than"),
    (pt.WriteError, True, "Broken pipe"),
    (pt.RemoteProtocolError, True, "not HTTP"),
    (pt.LocalProtocolError, True, "fewer bytes"),
    (pt.IncompleteBody, True, "inside a chunked body"),
    (pt.TransportClosed, False, "was closed"),
    (pt.PoolQueueFull, False, r"10 requests wait already \(max_waiting\) \[PT-QUEUE-FULL\]"),
    (pt.PoolDeadlock, False, r"\[PT-DEADLOCK\]"),
    (pt.LeaseExpired, True, "longer than 300 s"),
]


def test_every_transport_error_is_in_the_list(colour):
    del colour
    made = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, pt.TransportError)}
    assert made - {pt.TransportError, pt.TransportTimeout} == {row[0] for row in RAISED}


@pytest.mark.parametrize(("kind", "maybe", "text"), RAISED)
def test_a_class_is_made_as_the_transport_would(colour, kind, maybe, text):
    async def body(c):
        transport = faulty(c, [kind], max_conns_per_host=7, read_timeout=1.0)
        request = pt.Request("GET", URL, timeout=pt.Timeout(3.0, response_header=2.0))
        with pytest.raises(kind, match=text) as caught:
            await c.call(transport.round_trip, request)
        error = caught.value
        assert type(error) is kind
        assert error.may_have_been_processed is maybe
        if isinstance(error, pt.TransportTimeout):
            assert error.phase
            assert error.setting
            assert error.seconds > 0
        if isinstance(error, (pt.PoolTimeout, pt.PoolQueueFull)):
            assert error.origin == "http://a.example:80"
            assert error.stats.to_json()
        if kind is pt.ConnectError:
            assert error.attempts[0].errno is not None

    run_colour(colour, body)


SLOW = [
    # timeout, the seconds waited, what came of it
    (None, 2.0, (200, b"ok")),
    (5.0, 2.0, (200, b"ok")),
    (1.5, 1.5, pt.ResponseHeaderTimeout),
    (pt.Timeout(read=0.5), 0.5, pt.ReadTimeout),
    (pt.Timeout(response_header=0.25), 0.25, pt.ResponseHeaderTimeout),
    (pt.Timeout(1.0, read=0.5), 0.5, pt.ReadTimeout),
]


@pytest.mark.parametrize(("timeout", "waited", "expected"), SLOW)
def test_slow_ends_by_the_clocks_of_the_request(colour, timeout, waited, expected):
    waits = []

    async def body(c):
        transport = faulty(c, [slow(2.0)], sleep=waits.append)
        assert await outcome(c, transport, timeout=timeout) == expected
        assert transport.now() == waited

    run_colour(colour, body)
    assert waits == [waited]


def test_what_is_waited_counts_in_the_total_and_in_elapsed(colour):
    spent = []

    def inner(request):
        spent.append(request.spent)
        return response(text="ok")

    async def body(c):
        transport = faulty(c, [slow(2.0)], inner, sleep=lambda _: None)
        request = pt.Request("GET", URL, timeout=5.0)
        answer = await c.call(transport.round_trip, request)
        assert answer.elapsed.total_seconds() >= 2.0
        assert answer.request is request
        assert await c.read(answer) == b"ok"

    run_colour(colour, body)
    assert spent == [2.0]


def test_what_was_spent_before_counts(colour):
    async def body(c):
        transport = faulty(c, [slow(2.0)], sleep=lambda _: None)
        request = pt.Request("GET", URL, timeout=1.5).with_spent(1.0)
        with pytest.raises(pt.ResponseHeaderTimeout):
            await c.call(transport.round_trip, request)
        assert transport.now() == 0.5

    run_colour(colour, body)


def test_by_itself_it_sleeps(colour):
    async def body(c):
        began = time.monotonic()
        assert await outcome(c, faulty(c, [slow(0.05)])) == (200, b"ok")
        assert time.monotonic() - began >= 0.05
        assert await outcome(c, faulty(c, [stall()]), timeout=0.05) is pt.ResponseHeaderTimeout

    run_colour(colour, body)


def test_stall(colour):
    async def body(c):
        transport = faulty(c, [stall()], sleep=lambda _: None)
        assert await outcome(c, transport) is pt.ResponseHeaderTimeout  # the default
        assert transport.now() == 60.0
        transport = faulty(c, [stall()], sleep=lambda _: None, response_header_timeout=None, read_timeout=None)
        with pytest.raises(RuntimeError, match="would wait for ever"):
            await c.call(transport.round_trip, pt.Request("GET", URL))

    run_colour(colour, body)


def test_stall_within_the_body(colour):
    async def body(c):
        transport = faulty(c, [stall(after=3)], lambda _: response(text="hello"), sleep=lambda _: None)
        answer = await c.call(transport.round_trip, pt.Request("GET", URL, timeout=pt.Timeout(read=1.0)))
        chunks = c.chunks(answer)
        assert await chunks.__anext__() == b"hel"
        with pytest.raises(pt.ReadTimeout, match=r"within 1 s \(read\), phase body"):
            await chunks.__anext__()
        assert answer.is_closed
        with pytest.raises(pt.ReadTimeout):
            await chunks.__anext__()
        assert transport.now() == 1.0  # at once

    run_colour(colour, body)


@pytest.mark.parametrize("size", [0, 3, 5, 99])
def test_drop_after(colour, size):
    async def body(c):
        transport = faulty(c, [drop_after(size)], lambda _: response(text="hello"))
        answer = await c.call(transport.round_trip, pt.Request("GET", URL))
        with pytest.raises(pt.IncompleteBody, match=rf"after {min(size, 5)} of 5 body bytes") as caught:
            await c.read(answer)
        assert (caught.value.bytes_read, caught.value.bytes_expected) == (min(size, 5), 5)
        assert answer.is_closed
        unread = await c.call(transport.round_trip, pt.Request("GET", URL))
        assert not unread.is_closed
        await c.close(unread)
        assert unread.is_closed
        head = await c.call(transport.round_trip, pt.Request("HEAD", URL))  # without a body nothing can break
        assert await c.read(head) == b""

    run_colour(colour, body)


def test_what_broke_stays_broken_and_holds_nothing(colour, server_factory):
    from tests.support.responders import big

    server = server_factory(big(4_000_000))

    async def body(c):
        transport = faulty(c, [drop_after(2)], c.transport)
        answer = await c.call(transport.round_trip, pt.Request("GET", server.url))
        chunks = c.chunks(answer)
        assert len(await chunks.__anext__()) == 2
        for _ in range(2):
            with pytest.raises(pt.IncompleteBody, match="after 2 of 4000000 body bytes"):
                await chunks.__anext__()
        assert answer.is_closed
        assert c.transport.stats().leases == 0

    run_colour(colour, body)


def test_over_a_real_transport(colour, server_factory):
    from tests.support.responders import ok as server_ok

    server = server_factory(server_ok(b"hello"))

    async def body(c):
        transport = faulty(c, [drop_after(2), slow(1.0), ok], c.transport, sleep=lambda _: None)
        answer = await c.call(transport.round_trip, pt.Request("GET", server.url))
        with pytest.raises(pt.IncompleteBody):
            await c.read(answer)
        for _ in range(2):
            answer = await c.call(transport.round_trip, pt.Request("GET", server.url, timeout=5.0))
            assert await c.read(answer) == b"hello"
        stats = c.transport.stats()
        assert (stats.active, stats.leases) == (0, 0)

    run_colour(colour, body)


def test_a_client_that_repeats_takes_a_step_for_each_attempt(colour):
    async def body(c):
        transport = faulty(c, [pt.ConnectError, status(503), drop_after(1), ok])
        policy = pt.Retry(3, status_forcelist={503}, backoff_factor=0)
        answer = await c.call(c.make_client(transport=transport, retry=policy).get, URL)
        assert (answer.status_code, transport.taken) == (200, 4)
        transport = faulty(c, [pt.ReadTimeout, ok])
        with pytest.raises(pt.ReadTimeout):  # it may have been processed
            await c.call(c.make_client(transport=transport, retry=policy).post, URL)
        assert transport.taken == 1

    run_colour(colour, body)


def test_steps_that_are_none(colour):
    async def body(c):
        with pytest.raises(ValueError, match="one step at least"):
            faulty(c, [])
        with pytest.raises(TypeError, match="slow is a function: call it"):
            faulty(c, [slow])
        with pytest.raises(TypeError, match="a step is an error"):
            faulty(c, [503])
        for wrong in (-1, 1.5, True):
            with pytest.raises(ValueError, match="number of bytes"):
                drop_after(wrong)
        with pytest.raises(ValueError, match="seconds, 0 or more"):
            slow(-1)

    run_colour(colour, body)
