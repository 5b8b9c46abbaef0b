"""`HandlerTransport`: a client works whole over a function, in all colours."""

from __future__ import annotations

import gzip
import io
import json
from http.cookiejar import CookieJar

import pytest

import pooltransport as pt
from pooltransport import testing
from pooltransport.testing import no_leaks, response
from tests.support.colours import COLOURS, run_colour

pytestmark = pytest.mark.parametrize("colour", COLOURS)


def over(c, handler, **options):
    """Make a transport of the colour over `handler`."""
    return (testing.HandlerTransport if c.sync else testing.AsyncHandlerTransport)(handler, **options)


def test_a_client_works_over_it(colour):
    def handler(request):
        assert request.method == "POST"
        assert request.url.host == "api.example"
        assert request.url.target == b"/v1/invoices?draft=true"
        assert request.headers["content-type"] == "application/json"
        assert request.content == b'{"amount":3}'
        assert request.text == '{"amount":3}'
        assert request.json() == {"amount": 3}
        return response(201, json={"id": 7}, headers={"X-Request-Id": "a"})

    async def body(c):
        transport = over(c, handler)
        client = c.make_client(transport=transport, base_url="https://api.example/v1/")
        answer = await c.call(client.post, "invoices", params={"draft": True}, json={"amount": 3})
        assert (answer.status_code, answer.reason, answer.http_version) == (201, "Created", "HTTP/1.1")
        assert answer.json() == {"id": 7}
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-request-id"] == "a"
        assert answer.elapsed.total_seconds() >= 0
        assert answer.is_closed
        assert [request.url.target for request in transport.requests] == [b"/v1/invoices?draft=true"]

    run_colour(colour, body)


def test_what_was_sent_is_read_whole(colour):
    async def body(c):
        transport = over(c, lambda request: response(content=request.content))
        client = c.make_client(transport=transport)
        sent = [b"abc", io.BytesIO(b"abc"), (part for part in (b"a", b"", b"bc")), [b"a", b"bc"]]
        if not c.sync:
            sent.append(letters())
        for content in sent:
            answer = await c.call(client.put, "http://a.example/", content=content)
            assert answer.content == b"abc"
        assert (await c.call(client.get, "http://a.example/")).content == b""
        assert {request.content for request in transport.requests} == {b"abc", b""}

    async def letters():
        for letter in (b"a", b"b", b"c"):
            yield letter

    run_colour(colour, body)


@pytest.mark.parametrize("client_like", [True, False])
def test_a_coded_body_is_decoded_as_from_the_network(colour, client_like):
    coded = gzip.compress(b"hello")

    async def body(c):
        transport = over(c, lambda _: response(content=coded, headers={"Content-Encoding": "gzip"}))
        if client_like:
            answer = await c.call(c.make_client(transport=transport).get, "http://a.example/")
        else:
            answer = await c.call(transport.round_trip, pt.Request("GET", "http://a.example/"))
        assert answer.decoded
        assert await c.read(answer) == b"hello"
        plain = await c.call(transport.round_trip, pt.Request("GET", "http://a.example/", decode=False))
        assert (plain.decoded, plain.headers["content-encoding"]) == (False, "gzip")
        assert await c.read(plain) == coded

    run_colour(colour, body)


def test_streaming(colour):
    closed = []

    def parts():
        try:
            yield b"one\r"
            yield b""
            yield b"\ntwo\n"
            yield b"three"
        finally:
            closed.append(True)

    async def body(c):
        made = []  # held, so that it is not the collector that closes them

        def handler(_):
            made.append(parts())
            return response(content=made[-1], trailers={"Digest": "x"})

        transport = over(c, handler)
        answer = await c.call(transport.round_trip, pt.Request("GET", "http://a.example/"))
        assert dict(answer.trailers.items()) == {}
        lines = answer.iter_lines() if c.sync else answer.aiter_lines()
        assert [line async for line in _each(lines)] == ["one", "two", "three"]
        assert answer.is_closed
        assert answer.trailers["digest"] == "x"

        early = await c.call(transport.round_trip, pt.Request("GET", "http://a.example/"))
        async for chunk in c.chunks(early):
            assert chunk == b"one\r"
            break
        closed.clear()
        await c.close(early)
        assert closed == [True]
        with pytest.raises(pt.StreamConsumed):
            await c.read(early)

    run_colour(colour, body)


def test_an_asynchronous_iterable_is_closed_too(colour):
    closed = []

    async def parts():
        try:
            yield b"one"
            yield b"two"
        finally:
            closed.append(True)

    async def body(c):
        made = parts()
        transport = over(c, lambda _: response(content=made))
        if c.sync:
            with pytest.raises(TypeError, match="AsyncHandlerTransport"):
                await c.call(transport.round_trip, pt.Request("GET", "http://a.example/"))
            return
        answer = await transport.round_trip(pt.Request("GET", "http://a.example/"))
        assert await anext(answer.aiter_bytes()) == b"one"
        await answer.aclose()
        assert closed == [True]

    run_colour(colour, body)


def test_the_body_of_the_request_is_closed(colour):
    class Parts:
        def __init__(self):
            self.left, self.closed = [b"a", b"b"], 0

        def __iter__(self):
            return self

        def __next__(self):
            if not self.left:
                raise StopIteration
            return self.left.pop(0)

        def close(self):
            self.closed += 1

    async def body(c):
        parts = Parts()
        answer = await c.call(
            c.make_client(transport=over(c, lambda request: response(content=request.content))).post,
            "http://a.example/",
            content=parts,
        )
        assert (answer.content, parts.closed) == (b"ab", 1)

    run_colour(colour, body)


def test_a_part_is_not_decoded(colour):
    async def body(c):
        transport = over(c, lambda _: response(206, content=b"\x1f\x8b", headers={"Content-Encoding": "gzip"}))
        answer = await c.call(c.make_client(transport=transport).get, "http://a.example/")
        assert (answer.decoded, answer.content) == (False, b"\x1f\x8b")

    run_colour(colour, body)


def test_what_breaks_in_the_middle_comes_out_of_the_read(colour):
    def parts():
        yield b"half"
        raise pt.ReadError("reset")

    async def body(c):
        answer = await c.call(
            over(c, lambda _: response(content=parts())).round_trip, pt.Request("GET", "http://a.example/")
        )
        for _ in range(2):  # errors are sticky
            with pytest.raises((pt.ReadError, pt.StreamConsumed)):
                await c.read(answer)
        assert answer.is_closed
        short = over(c, lambda _: response(content=b"1234", headers={"Content-Length": "9"}))
        answer = await c.call(short.round_trip, pt.Request("GET", "http://a.example/"))
        with pytest.raises(pt.IncompleteBody, match="after 4 of 9 body bytes") as caught:
            await c.read(answer)
        assert (caught.value.bytes_read, caught.value.bytes_expected) == (4, 9)

    run_colour(colour, body)


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_answers_without_a_body(colour, method, status):
    async def body(c):
        transport = over(c, lambda _: response(status, content=b"never sent"))
        answer = await c.call(transport.round_trip, pt.Request(method, "http://a.example/"))
        assert answer.is_closed
        assert await c.read(answer) == b""

    run_colour(colour, body)


def test_status_errors(colour):
    async def body(c):
        transport = over(c, lambda _: response(503, text="down for repair"))
        answer = await c.call(c.make_client(transport=transport).get, "http://a.example/")
        with pytest.raises(pt.HTTPStatusError, match="503 Service Unavailable"):
            answer.raise_for_status()
        assert answer.text == "down for repair"

    run_colour(colour, body)


def test_errors_of_the_handler_are_the_callers(colour):
    async def body(c):
        client = c.make_client(transport=over(c, _raise))
        with pytest.raises(pt.ConnectError, match="as told"):
            await c.call(client.get, "http://a.example/")
        wrong = c.make_client(transport=over(c, lambda _: {"status": 200}))
        with pytest.raises(TypeError, match=r"the handler returned dict: return pooltransport\.testing\.response"):
            await c.call(wrong.get, "http://a.example/")

    def _raise(_):
        raise pt.ConnectError("as told")

    run_colour(colour, body)


def test_hooks_conn_and_closing(colour):
    told = []
    trace = pt.ClientTrace(
        get_conn=lambda where: told.append(("get_conn", where)),
        got_conn=lambda got: told.append(("got_conn", got.reused)),
        wrote_request=lambda error: told.append(("wrote_request", error)),
        got_first_response_byte=lambda _: told.append(("first_byte",)),
        body_closed=lambda info: told.append(("body_closed", info.bytes_read, info.bytes_left, info.complete)),
        put_idle_conn=lambda error: told.append(("put_idle_conn", error if error is None else str(error))),
    )

    async def body(c):
        transport = over(c, lambda _: response(text="hello"), trace=trace)
        answer = await c.call(transport.round_trip, pt.Request("GET", "https://a.example/"))
        assert await c.read(answer) == b"hello"
        assert told == [
            ("get_conn", "a.example:443"),
            ("got_conn", False),
            ("wrote_request", None),
            ("first_byte",),
            ("body_closed", 5, 0, True),
            ("put_idle_conn", None),
        ]
        assert answer.conn.tls.server_hostname == "a.example"
        told.clear()
        again = await c.call(transport.round_trip, pt.Request("GET", "https://a.example/"))
        assert (again.conn.reused, again.conn.id) == (True, answer.conn.id)
        await c.close(again)
        assert told[-2:] == [("body_closed", 0, 5, False), ("put_idle_conn", str(pt.NotPooled(_NOT_READ)))]
        await c.close_transport(transport)
        with pytest.raises(pt.TransportClosed):
            await c.call(transport.round_trip, pt.Request("GET", "https://a.example/"))

    run_colour(colour, body)


_NOT_READ = pt.CloseReason.BODY_NOT_CONSUMED


def test_limits_of_the_options_act(colour):
    async def body(c):
        transport = over(c, lambda _: response(content=b"x" * 100), max_body_bytes=50)
        with pytest.raises(pt.ReadError, match="larger than 50 bytes"):
            await c.call(c.make_client(transport=transport).get, "http://a.example/")
        bomb = gzip.compress(b"\0" * 5_000_000)
        coded = over(c, lambda _: response(content=bomb, headers={"Content-Encoding": "gzip"}), max_decoded_bytes=1000)
        with pytest.raises(pt.DecodingError):
            await c.call(c.make_client(transport=coded).get, "http://a.example/")

    run_colour(colour, body)


def test_is_a_published_round_tripper(colour):
    async def body(c):
        kind = pt.RoundTripper if c.sync else pt.AsyncRoundTripper
        assert isinstance(over(c, lambda _: response()), kind)

    run_colour(colour, body)


def test_an_asynchronous_handler_is_for_the_asynchronous_one(colour):
    async def handler(request):
        return response(json=json.loads(request.content))

    async def body(c):
        if c.sync:
            with pytest.raises(TypeError, match="AsyncHandlerTransport"):
                over(c, handler)
            return
        client = c.make_client(transport=over(c, handler))
        assert (await client.post("http://a.example/", json=[1])).json() == [1]

    run_colour(colour, body)


def test_redirects_cookies_and_events(colour):
    def handler(request):
        if request.url.target == b"/start":
            return response(302, headers={"Location": "https://b.example/end", "Set-Cookie": "a=1"}, text="moved")
        return response(
            content=[b"event: tick\ndata: 1\n", b"\ndata: 2\n\n"], headers={"Content-Type": "text/event-stream"}
        )

    async def body(c):
        transport = over(c, handler)
        client = c.make_client(transport=transport, auth=("user", "password"), cookies=CookieJar())
        async with no_leaks():
            answer = await c.call(client.get, "https://a.example/start")
            assert (answer.status_code, [old.status_code for old in answer.history]) == (200, [302])
            assert str(answer.url) == "https://b.example/end"
            request = client.build_request("GET", "https://b.example/end")
            streamed = await c.call(client.send, pt.Request("GET", request.url), stream=True)
            events = streamed.iter_events() if c.sync else streamed.aiter_events()
            found = [(event.event, event.data) async for event in _each(events)]
        assert found == [("tick", "1"), ("message", "2")]
        first, second, _ = transport.requests
        assert first.headers["authorization"].startswith("Basic ")
        assert "authorization" not in second.headers  # another origin

    run_colour(colour, body)


async def _each(source):
    """Iterate over either kind."""
    if hasattr(source, "__anext__"):
        async for item in source:
            yield item
    else:
        for item in source:
            yield item
