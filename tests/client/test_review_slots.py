"""Whatever fails between two requests of one exchange, a user's code or the answer, no slot is lost; and what is not
wanted of an answer is not read.
"""

from __future__ import annotations

import gc
from http.cookiejar import CookieJar

import pytest

import pooltransport as pt
from tests.support.colours import run_colour
from tests.support.responders import Responder, head
from tests.support.routes import routes

CHALLENGE = 'Digest realm="r", nonce="n", qop="auth", algorithm=SHA-256'


class Broken(Exception):
    pass


class AnswerRaises(pt.Auth):
    def answer(self, request, response):
        raise Broken


class AnswerReturnsNonsense(pt.Auth):
    def answer(self, request, response):
        return "a token"


class AuthorizeReturnsNothing(pt.Auth):
    def authorize(self, request):
        return None


class JarRaises(CookieJar):
    def extract_cookies(self, response, request):
        raise Broken


class JarRaisesBefore(CookieJar):
    def add_cookie_header(self, request):
        raise Broken


def endless(status, *fields):
    """An answer whose body has no end, for as long as the client listens."""

    @Responder
    def respond(conn, request):
        conn.send(head(f"{status} Some", *fields, ("Transfer-Encoding", "chunked"), length=None))
        piece = b"10000\r\n" + bytes(0x10000) + b"\r\n"
        while True:
            conn.send(piece)

    return respond


async def call(c, client, url, streamed, **options):
    if not streamed:
        return await c.call(client.get, url, **options)
    request = client.build_request("GET", url)
    return await c.call(client.send, request, stream=True, **options)


@pytest.mark.parametrize("streamed", [False, True], ids=["read", "streamed"])
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"auth": AnswerRaises()}, Broken),
        ({"auth": AnswerReturnsNonsense()}, pt.InvalidRequest),
        ({"auth": AuthorizeReturnsNothing()}, pt.InvalidRequest),
        ({"cookies": JarRaises()}, Broken),
        ({"cookies": JarRaisesBefore()}, Broken),
        ({"auth": pt.DigestAuth("a\nb", "p")}, pt.InvalidRequest),
    ],
    ids=["answer raises", "answer gives str", "authorize gives None", "jar raises", "jar raises before", "line end"],
)
def test_a_users_mistake_fails_that_request_alone(colour, server_factory, options, error, streamed):
    table = {"/": (401, {"WWW-Authenticate": CHALLENGE, "Set-Cookie": "a=b"}, b"x" * 300_000)}
    server = server_factory(routes(table))

    async def body(c):
        client = c.make_client(timeout=5.0)
        with pytest.raises(error):
            await call(c, client, server.url, streamed, **options)
        await c.wait_until(lambda: c.transport.stats().leases == 0)
        assert c.transport.stats().leaks == 0
        gc.collect()
        assert c.transport.stats().leaks == 0

    run_colour(colour, body, max_conns_per_host=1)


@pytest.mark.parametrize("streamed", [False, True], ids=["read", "streamed"])
def test_the_body_of_a_challenge_is_not_read(colour, server_factory, streamed):
    def respond(conn, request):
        if request.header("authorization") is None:
            endless(401, ("WWW-Authenticate", CHALLENGE)).respond(conn, request)
        else:
            conn.send(head("200 OK", length=2) + b"ok")

    server = server_factory(Responder(respond))

    async def body(c):
        client = c.make_client(timeout=5.0, auth=pt.DigestAuth("u", "p"))
        response = await call(c, client, server.url, streamed)
        assert (response.status_code, await c.read(response)) == (200, b"ok")
        assert c.transport.stats().leases == 0

    run_colour(colour, body)


@pytest.mark.parametrize("streamed", [False, True], ids=["read", "streamed"])
def test_the_body_of_an_answer_that_is_repeated_is_not_read(colour, server_factory, streamed):
    bad = endless(503)

    def respond(conn, request):
        if request.conn == 1:
            bad.respond(conn, request)
        else:
            conn.send(head("200 OK", length=2) + b"ok")

    server = server_factory(Responder(respond))

    async def body(c):
        client = c.make_client(timeout=5.0, retry=pt.Retry(1, status_forcelist={503}, backoff_factor=0))
        response = await call(c, client, server.url, streamed)
        assert (response.status_code, await c.read(response)) == (200, b"ok")

    run_colour(colour, body)
