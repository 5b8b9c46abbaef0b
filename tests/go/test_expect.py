"""EXP and 1XX: what comes before the final header. Row 39 of field-pains.md is in tests/field."""

from __future__ import annotations

import pytest

import pooltransport as pt
from tests.support.colours import run_colour
from tests.support.responders import Responder, head, ok
from tests.support.uploads import Short

EXPECT = {"Expect": "100-continue"}


def hooks_of(names):
    called = []
    hooks = {name: lambda info, name=name: called.append(name) for name in names}
    return called, pt.ClientTrace(**hooks)


@pytest.mark.go("EXP-01", "EXP-02", "EXP-08")
@pytest.mark.parametrize("value", ["100-continue", "100-Continue", "x, 100-CONTINUE"])
def test_the_body_waits_for_100(colour, value, server_factory):
    before = []

    def handler(conn):
        request = conn.read_head()
        before.append(conn._buffer)
        conn.send(head("100 Continue"))
        body = conn.read_body(request)
        conn.server.note_request(request._replace(body=body))
        conn.send(head(length=2) + b"ok")
        conn.read_to_end()

    server = server_factory(handler)
    names = ["wrote_headers", "wait_100_continue", "got_first_response_byte", "got_100_continue", "got_1xx_response"]
    called, trace = hooks_of([*names, "wrote_request"])

    async def body(c):
        source = Short()
        response = await c.request("POST", server.url, headers={"Expect": value}, content=source, trace=trace)
        assert await c.read(response) == b"ok"
        assert before == [b""], "nothing of the body came with the header"
        assert server.log[0].body == b"abcabc"
        assert called == [*names, "wrote_request"]
        assert c.transport.stats().idle == 1

    run_colour(colour, body, expect_continue_timeout=10.0)


@pytest.mark.go("EXP-01")
def test_an_end_instead_of_100_is_named(colour, server_factory):
    server = server_factory(lambda conn: (conn.read_head(), conn.close()))

    async def body(c):
        source = Short()
        with pytest.raises(pt.ServerClosedConnection):
            await c.request("POST", server.url, headers=EXPECT, content=source)
        assert (source.asked, source.closed) == (0, True)

    run_colour(colour, body, expect_continue_timeout=10.0)


@pytest.mark.go("EXP-01")
def test_no_body_no_wait(colour, server_factory):
    server = server_factory(ok())
    called, trace = hooks_of(["wait_100_continue"])

    async def body(c):
        await c.fetch(server.url, headers=EXPECT, trace=trace)
        assert called == []

    run_colour(colour, body, expect_continue_timeout=10.0)


def informational(*statuses, size=0):
    @Responder
    def respond(conn, request):
        fields = [("X-Pad", "x" * size)] if size else []
        for status in statuses:
            conn.send(head(status, *fields))
        conn.send(head(length=2) + b"ok")

    return respond


@pytest.mark.go("1XX-01", "1XX-06")
def test_1xx_are_skipped_and_the_conversation_stays_in_step(colour, server_factory):
    server = server_factory(informational("100 Continue", "102 Processing", "199 Odd"))
    called, trace = hooks_of(["got_100_continue", "got_1xx_response"])

    async def body(c):
        for _ in range(5):
            assert await c.fetch(server.url, trace=trace) == b"ok"
        assert server.accepted == 1
        assert called == ["got_1xx_response"] * 15, "nobody expected the 100"

    run_colour(colour, body)


@pytest.mark.go("1XX-02", "1XX-03")
def test_all_header_bytes_are_bounded_together(colour, server_factory):
    """Go lifts the bound when there is a hook: here a hook changes nothing but what is told."""
    server = server_factory(informational(*["103 Early Hints"] * 10, size=100))
    told = []

    async def body(c):
        for trace in (None, pt.ClientTrace(got_1xx_response=told.append)):
            with pytest.raises(pt.RemoteProtocolError, match="max_response_header_bytes"):
                await c.fetch(server.url, trace=trace)
        assert c.transport.stats().open == 0

    run_colour(colour, body, max_response_header_bytes=1000)
    assert len(told) < 10
    server.errors.clear()


@pytest.mark.go("1XX-02")
def test_their_number_is_not_bounded(colour, server_factory):
    server = server_factory(informational(*["102 Processing"] * 500))

    async def body(c):
        assert await c.fetch(server.url) == b"ok"

    run_colour(colour, body)


@pytest.mark.go("1XX-04", "1XX-05")
def test_early_hints_are_told_with_their_headers(colour, server_factory):
    @Responder
    def respond(conn, request):
        conn.send(head("103 Early Hints", ("Link", "</a.css>")))
        conn.send(head("200 OK", ("X-Final", "yes"), length=0))

    server = server_factory(respond)
    told = []

    def hook(info):
        told.append((info.status_code, info.headers["link"]))
        raise ValueError("a hook cannot break a request")

    async def body(c):
        response = await c.get(server.url, trace=pt.ClientTrace(got_1xx_response=hook))
        assert response.status_code == 200
        assert "link" not in response.headers
        assert response.headers["x-final"] == "yes"
        await c.read(response)
        assert told == [(103, "</a.css>")]
        assert c.transport.stats().hook_errors == 1

    run_colour(colour, body)
