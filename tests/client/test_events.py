"""`iter_events()`: the rules and examples of WHATWG HTML, section 9.2.6, however the bytes are cut."""

from __future__ import annotations

import pytest

import pooltransport as pt
from pooltransport.events import EventParser
from pooltransport.pieces import Lines
from tests.support.colours import run_colour
from tests.support.responders import Responder, head

STREAM = "text/event-stream; charset=latin-1"


def events_of(data, size):
    lines, parser = Lines("utf-8"), EventParser()
    found = []
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    for piece in [*pieces, b""]:
        lines.put(piece)
        while (line := lines.pop()) is not None:
            found.append(parser.put(line))
    return [event for event in found if event is not None]


def event(data, kind="message", last="", retry=None):
    return pt.ServerSentEvent(kind, data, last, retry)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [event("YHOO\n+2\n10")]),
        (
            b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n",
            [event("first event", last="1"), event("second event")],
        ),
        (b"data\n\ndata\ndata\n\ndata:", [event(""), event("\n")]),
        (b"data:test\n\ndata: test\n\n", [event("test"), event("test")]),
        (b"event: add\ndata: 73857293\n\nevent: none\n\ndata: x\n\n", [event("73857293", "add"), event("x")]),
        (b"data: a\r\ndata: b\r\n\r\ndata: c\r\rdata: d\n\r\n", [event("a\nb"), event("c"), event("d")]),
        ("\ufeffdata: \ufeffä€\n\n".encode(), [event("\ufeffä€")]),
        (
            b"id: 1\ndata: a\n\nid: 2\x00\ndata: b\n\ndata: c\n\n",
            [event("a", last="1"), event("b", last="1"), event("c", last="1")],
        ),
        (b"retry: 10\ndata: a\n\nretry: 1x\nretry: -5\ndata: b\n\n", [event("a", retry=10), event("b", retry=10)]),
        (b"DATA: a\ndata : b\nunknown: c\ndata: d\n\n", [event("d")]),
        (b"data: \xff\n\n", [event("\ufffd")]),
        (b"data: cut off", []),
        (b"", []),
    ],
)
def test_the_standards_rules(data, expected, size):
    assert events_of(data, size) == expected


def test_from_a_server(colour, server_factory):
    """Each event as soon as its blank line is there, also after a bare CR; the charset is UTF-8 whatever it says."""
    seen = []

    @Responder
    def respond(conn, request):
        conn.send(head("200 OK", ("Content-Type", STREAM), ("Transfer-Encoding", "chunked")))
        for number, piece in enumerate(["data: ä\n\n", "id: 7\rdata: {}\r\r", "data: rest\n\n"]):
            raw = piece.encode()
            conn.send(b"%x\r\n%b\r\n" % (len(raw), raw))
            conn.server.wait_until(lambda number=number: len(seen) > number, "the event was read")
        conn.send(b"0\r\n\r\n")

    server = server_factory(respond)

    async def body(c):
        response = await c.get(server.url)
        if c.sync:
            seen.extend(response.iter_events())
        else:
            async for each in response.aiter_events():
                seen.append(each)
        assert response.is_closed

    class Watched(list):
        def extend(self, items):
            for item in items:
                self.append(item)

    seen = Watched()
    run_colour(colour, body)
    assert seen == [event("ä"), event("{}", last="7"), event("rest", last="7")]
    assert seen[1].json() == {}


def test_another_type_has_no_events(colour, server_factory):
    @Responder
    def respond(conn, request):
        conn.send(head("200 OK", ("Content-Type", "application/json"), length=2) + b"{}")

    server = server_factory(respond)

    async def body(c):
        response = await c.get(server.url)
        with pytest.raises(pt.DecodingError, match="is application/json, not text/event-stream"):
            response.iter_events() if c.sync else response.aiter_events()
        assert await c.read(response) == b"{}"

    run_colour(colour, body)
