"""Cookies of a client (contract 4.7): none by default, a dict as it is, a jar that stores."""

from __future__ import annotations

from http.cookiejar import CookieJar

import pytest

import pooltransport as pt
from tests.support.colours import run_colour
from tests.support.routes import routes, told

LOGIN = (200, [("Set-Cookie", "session=1; Path=/"), ("Set-Cookie", "theme=dark; Path=/settings"), ("X", "y")], b"")


def sent(server):
    return [told(request)[2].get("cookie") for request in server.log]


def test_none_is_no_jar(colour, server_factory):
    """As Go: a shared client must not mix its users' sessions."""
    server = server_factory(routes({"/login": LOGIN, "/": (200, {}, b"")}))

    async def body(c):
        client = c.make_client()
        response = await c.call(client.get, server.url + "/login")
        assert response.cookies == {"session": "1", "theme": "dark"}
        await c.call(client.get, server.url + "/")

    run_colour(colour, body)
    assert sent(server) == [None, None]


def test_a_dict_is_sent_as_it_is(colour, server_factory):
    server = server_factory(routes({"/login": LOGIN, "/": (200, {}, b"")}))

    async def body(c):
        client = c.make_client(cookies={"a": "1", "b": 'x="y" ä'})
        await c.call(client.get, server.url + "/login")
        await c.call(client.get, server.url + "/")
        await c.call(client.get, server.url + "/", cookies={"c": "2"})
        await c.call(client.get, server.url + "/", cookies=None)
        await c.call(client.get, server.url + "/", headers={"Cookie": "own=1"})

    run_colour(colour, body)
    both = 'a=1; b=x="y" ä'.encode().decode("latin-1")
    assert sent(server) == [both, both, "c=2", None, "own=1"]


def test_a_jar_stores(colour, server_factory):
    table = {
        "/login": LOGIN,
        "/settings/x": (200, {}, b""),
        "/": (200, {}, b""),
        "/out": (200, {"Set-Cookie": "session=; Max-Age=0; Path=/"}, b""),
    }
    server = server_factory(routes(table))
    other = server_factory(routes(table))
    jar = CookieJar()

    async def body(c):
        client = c.make_client(cookies=jar)
        for url in ("/", "/login", "/", "/settings/x", "/out", "/"):
            await c.call(client.get, server.url + url)
        await c.call(client.get, f"http://localhost:{other.port}/")
        assert {cookie.name for cookie in jar} == {"theme"}

    run_colour(colour, body)
    assert sent(server) == [None, None, "session=1", "theme=dark; session=1", "session=1", None]
    assert sent(other) == [None]


def test_a_jar_over_redirects(colour, server_factory):
    """What a redirect sets is sent to where it leads, and to another origin only what is that one's."""
    other = server_factory(routes({"/": (200, {"Set-Cookie": "theirs=1"}, b"")}))
    table = {
        "/a": (302, {"Location": "/b", "Set-Cookie": "mine=1"}, b""),
        "/b": (302, {"Location": f"http://localhost:{other.port}/"}, b""),
    }
    server = server_factory(routes(table))
    jar = CookieJar()

    async def body(c):
        await c.call(c.make_client(cookies=jar).get, server.url + "/a")

    run_colour(colour, body)
    assert sent(server) == [None, "mine=1"]
    assert sent(other) == [None]
    assert {cookie.name for cookie in jar} == {"mine", "theirs"}


def test_a_secure_one_stays_off_plain_http(colour, server_factory, server_ssl_context, client_ssl_context):
    tls = server_factory(routes({"/": (200, {"Set-Cookie": "s=1; Secure; HttpOnly"}, b"")}), tls=server_ssl_context)
    plain = server_factory(routes({"/": (200, {}, b"")}))
    jar = CookieJar()

    async def body(c):
        client = c.make_client(cookies=jar)
        await c.call(client.get, tls.url + "/")
        await c.call(client.get, plain.url + "/")
        await c.call(client.get, tls.url + "/")

    run_colour(colour, body, ssl_context=client_ssl_context)
    assert sent(plain) == [None]
    assert sent(tls) == [None, "s=1"]


@pytest.mark.parametrize(
    "cookies", [{"a": "b; c=d"}, {"a": "b\r\nX: y"}, {"a b": "c"}, {"": "c"}, {"a=b": "c"}, {"a": 1}, {"ä": "c"}]
)
def test_what_cannot_be_sent(cookies):
    with pytest.raises(pt.InvalidRequest, match="cookie"):
        pt.Client(cookies=cookies)
    with pytest.raises(pt.InvalidRequest, match="cookie"):
        pt.Client().get("http://127.0.0.1:1/", cookies=cookies)


def test_what_is_none():
    with pytest.raises(pt.ConfigError, match=r"must be None, a dict or a http\.cookiejar\.CookieJar, not str"):
        pt.Client(cookies="a=b")
