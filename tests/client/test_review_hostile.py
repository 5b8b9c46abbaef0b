"""Answers of a server that means no good, or knows no better: charsets, bombs, challenges and redirects."""

from __future__ import annotations

import gzip
import time
from http.cookiejar import CookieJar

import pytest

import pooltransport as pt
from pooltransport.client.digest import parse_challenges
from pooltransport.client.retry import Attempts
from tests.support.colours import run_colour
from tests.support.responders import Responder, head
from tests.support.routes import routes

NAMES = [
    "zlib",
    "hex",
    "base64",
    "rot13",
    "idna",
    "punycode",
    "undefined",
    "unicode_escape",
    "x" * 5000,
    "../x",
    "b\xe9",
]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:12])
def test_a_charset_that_is_none_is_utf_8(colour, server_factory, name):
    text = "ä \\q b\nc"
    server = server_factory(routes({"/": (200, {"Content-Type": f"text/plain; charset={name}"}, text.encode())}))

    async def body(c):
        client = c.make_client()
        response = await c.call(client.get, server.url)
        assert response.text == text
        lines = response.iter_lines() if c.sync else response.aiter_lines()
        assert [line async for line in _each(lines)] == ["ä \\q b", "c"]

    run_colour(colour, body)


@pytest.mark.parametrize("name", ["utf-16", "utf-32"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["bare", "marked"])
def test_lines_of_utf_16(colour, server_factory, name, mark):
    """Without a mark it is little-endian, as of browsers, and for `text`."""
    content = (mark + "ä\nb").encode(f"{name}-le")

    @Responder
    def respond(conn, request):
        conn.send(head("200 OK", ("Content-Type", f"text/plain; charset={name}"), length=len(content)))
        conn.send_pieces([content[:1], content[1:3], content[3:]])

    server = server_factory(respond)

    async def body(c):
        response = await c.get(server.url)
        lines = response.iter_lines() if c.sync else response.aiter_lines()
        assert [line async for line in _each(lines)] == ["ä", "b"]
        assert (await c.call(c.make_client().get, server.url)).text == "ä\nb"

    run_colour(colour, body)


async def _each(lines):
    if hasattr(lines, "__anext__"):
        async for line in lines:
            yield line
        return
    for line in lines:
        yield line


def test_a_bomb_of_empty_streams(colour, server_factory):
    """Each costs its setting up and gives nothing that a bound on bytes could see: 250 kB made a minute."""
    inner = gzip.compress(b"", mtime=0) * 50_000
    bomb = gzip.compress(inner)
    server = server_factory(routes({"/": (200, {"Content-Encoding": "gzip, gzip"}, bomb)}))

    async def body(c):
        with pytest.raises(pt.DecodingError, match="streams, one behind the other"):
            await c.call(c.make_client().get, server.url)
        assert c.transport.stats().leases == 0

    run_colour(colour, body)


def test_many_streams_on_the_wire_are_fine(colour, server_factory):
    content = gzip.compress(b"", mtime=0) * 5_000 + gzip.compress(b"end")
    server = server_factory(routes({"/": (200, {"Content-Encoding": "gzip"}, content)}))

    async def body(c):
        assert (await c.call(c.make_client().get, server.url)).content == b"end"

    run_colour(colour, body)


@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", 200), ("GET", 204), ("HEAD", 204), ("GET", 304), ("HEAD", 304)]
)
@pytest.mark.parametrize("coding", ["gzip", "gzip, br", "deflate"])
def test_a_coding_of_no_body(colour, server_factory, method, status, coding):
    raw = head(f"{status} Some", ("Content-Encoding", coding), *([] if status == 204 else [("Content-Length", "99")]))
    server = server_factory(Responder(lambda conn, request: conn.send(raw)))

    async def body(c):
        client = c.make_client()
        for _ in range(2):
            response = await c.call(client.request, method, server.url)
            assert (response.status_code, response.content, response.text) == (status, b"", "")
        assert c.transport.stats().idle == 1

    run_colour(colour, body)


def test_a_redirect_whose_body_is_not_in_its_coding(colour, server_factory):
    table = {"/": (302, {"Location": "/b", "Content-Encoding": "gzip"}, b"no gzip"), "/b": (200, {}, b"there")}
    server = server_factory(routes(table))

    async def body(c):
        assert (await c.call(c.make_client().get, server.url)).content == b"there"
        assert c.transport.stats().idle == 1

    run_colour(colour, body)


def test_an_empty_location_leads_nowhere(colour, server_factory):
    """Go returns the answer; its own address again would be a circle."""
    server = server_factory(routes({"/": (302, {"Location": ""}, b"moved")}))

    async def body(c):
        response = await c.call(c.make_client().get, server.url)
        assert (response.status_code, response.content, response.history) == (302, b"moved", ())

    run_colour(colour, body)


def test_a_location_with_a_user_that_cannot_be_sent(colour, server_factory):
    """The server's mistake: no `InvalidRequest`, which is a mistake of the caller."""
    server = server_factory(routes({"/": (302, {"Location": "http://a%3Ab:c@localhost/"}, b"")}))

    async def body(c):
        with pytest.raises(pt.RemoteProtocolError, match="user that cannot be sent"):
            await c.call(c.make_client().get, server.url)
        assert c.transport.stats().leases == 0

    run_colour(colour, body)


def test_a_long_challenge_costs_no_time():
    """As long as a header may be, it took seconds of a loop."""
    value = "Digest nonce=x," + "a," * 120_000
    began = time.thread_time()
    assert parse_challenges([value]) is None
    assert time.thread_time() - began < 1  # the bound is far from both: what is linear takes some ms


def test_a_realm_goes_back_as_it_came(colour, server_factory):
    """Its bytes are hashed and sent back, whatever charset they are in."""
    realm = "Bereich ä".encode()

    @Responder
    def respond(conn, request):
        challenge = ("WWW-Authenticate", f'Digest realm="{realm.decode("latin-1")}", nonce="n", qop="auth"')
        conn.send(head("401 No", challenge, length=0) if request.header("authorization") is None else b"")
        if request.header("authorization") is not None:
            conn.send(head("200 OK", length=0))

    server = server_factory(respond)

    async def body(c):
        await c.call(c.make_client(auth=pt.DigestAuth("ü", "p")).get, server.url)

    run_colour(colour, body)
    sent = server.log[1].header("authorization").encode("latin-1")
    assert b'realm="' + realm + b'"' in sent
    assert 'username="ü"'.encode() in sent


def test_a_jar_of_cookies_that_came_in_utf_8(colour, server_factory):
    value = "ä".encode().decode("latin-1")
    server = server_factory(routes({"/": (200, {"Set-Cookie": f"a={value}"}, b"")}))

    async def body(c):
        client = c.make_client(cookies=CookieJar())
        await c.call(client.get, server.url)
        await c.call(client.get, server.url)

    run_colour(colour, body)
    assert server.log[1].header("cookie") == f"a={value}"


@pytest.mark.parametrize("zone", [" GMT", "", " -0000"])
def test_a_date_without_a_zone_is_not_local(zone, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        policy = pt.Retry(1, status_forcelist={503})
        delay = Attempts(policy).after_answer(
            _Answer(f"Wed, 21 Oct 2026 07:28:00{zone}"), _request(), 0.0, 1792567660.0
        )
        assert delay == 20.0
    finally:
        monkeypatch.undo()
        time.tzset()


class _Answer:
    status_code = 503

    def __init__(self, retry_after):
        self.headers = pt.Headers({"Retry-After": retry_after})


def _request():
    return pt.Request("GET", "http://h/", timeout=60.0)
