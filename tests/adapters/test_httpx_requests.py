"""Requests and answers through the adapters: what is on the wire, and what the client gets."""

from __future__ import annotations

import gzip
import io

import pytest

import pooltransport as pt
from tests.support.colours import run_colour
from tests.support.httpx_kit import Kit
from tests.support.responders import Responder, chunked, close_after, echo, head, ok, raw


def run(colour, body, **options):
    run_colour(colour, body, **options)


def test_a_request_and_its_answer(colour, kit, server_factory):
    server = server_factory(raw(head("203 As I Like It", ("X-Mixed", "a"), ("x-MIXED", "b"), length=5) + b"hello"))

    async def body(c):
        client = kit.client(c)
        response = await c.call(
            client.get, f"{server.url}/a%20b?q=1&q=%C3%A4", headers=[("X-One", "1"), ("x-one", "2")]
        )
        assert (response.status_code, response.reason_phrase, response.http_version) == (
            203,
            "As I Like It",
            "HTTP/1.1",
        )
        assert response.headers.raw == [(b"X-Mixed", b"a"), (b"x-MIXED", b"b"), (b"Content-Length", b"5")]
        assert response.content == b"hello"
        assert response.elapsed.total_seconds() > 0
        conn = response.extensions["pooltransport.conn"]
        assert (conn.reused, conn.remote_addr) == (False, f"127.0.0.1:{server.port}")
        again = await c.call(client.get, server.url)
        assert again.extensions["pooltransport.conn"].reused
        assert c.transport.stats().idle == 1
        await c.close(client)
        assert c.transport.stats().idle == 1, "a transport that was handed in stays open"

    run(colour, body)
    first = server.log[0]
    assert (first.method, first.target) == ("GET", "/a%20b?q=1&q=%C3%A4")
    assert [value for name, value in first.headers if name == "x-one"] == ["1", "2"]
    assert first.header("user-agent").startswith(f"python-{kit.name}/")
    assert [name for name, _ in first.headers].count("accept-encoding") == 1
    assert first.header("content-length") is None


def test_the_transport_of_options_is_closed_with_the_client(colour, kit, server_factory):
    server = server_factory(ok())

    async def body(c):
        adapter = kit.transport(c, max_conns_per_host=1, name="mine")
        client = kit.client(c, adapter)
        await c.call(client.get, server.url)
        assert "'mine' 0 active, 1 idle" in repr(adapter)
        assert adapter.transport.stats().idle == 1
        await c.close(client)
        assert "closed" in repr(adapter)

    run(colour, body)


def test_with_closes_it_too(kit, server_factory):
    server = server_factory(ok())
    with pt.Transport() as transport:
        with kit.lib.Client(transport=kit.adapter.HTTPTransport(transport)) as client:
            client.get(server.url)
        assert transport.stats().idle == 1
    adapter = kit.adapter.HTTPTransport()
    with kit.lib.Client(transport=adapter) as client:
        client.get(server.url)
    assert "closed" in repr(adapter)


def test_bodies(colour, kit, server_factory):
    server = server_factory(echo)

    async def body(c):
        client = kit.client(c)

        async def post(**fields):
            return (await c.call(client.post, server.url, **fields)).content

        assert await post() == b""
        assert await post(content=b"abc") == b"abc"
        assert await post(json=[1]) == b"[1]"
        assert await post(data={"a": "1"}) == b"a=1"
        assert await post(content=kit.body(c, b"ab", b"", b"cd")) == b"abcd"
        assert await post(content=kit.body(c, b"ab"), headers={"Content-Length": "2"}) == b"ab"
        assert b"\r\n\r\nfrom a file\r\n" in await post(files={"f": ("f.txt", io.BytesIO(b"from a file"))})
        if c.sync:
            assert await post(content=io.BytesIO(b"file")) == b"file"
        assert c.transport.stats().idle == 1
        await c.close(client)

    run(colour, body)
    lengths = [(request.header("content-length"), request.header("transfer-encoding")) for request in server.log]
    assert lengths[:6] == [("0", None), ("3", None), ("3", None), ("3", None), (None, "chunked"), ("2", None)]
    assert lengths[6][0].isdigit()


def test_nothing_is_decoded_but_by_the_client(colour, kit, server_factory):
    packed = gzip.compress(b"hello " * 100)
    server = server_factory(ok(packed, ("Content-Encoding", "gzip")))

    async def body(c):
        client = kit.client(c)
        assert (await c.call(client.get, server.url)).content == b"hello " * 100
        response = await kit.open(c, client, "GET", server.url, headers={"Accept-Encoding": "identity"})
        assert b"".join([piece async for piece in kit.raw(c, response)]) == packed
        assert response.headers["content-encoding"] == "gzip"
        await c.close(response)
        await c.close(client)

    run(colour, body)
    assert server.log[1].header("accept-encoding") == "identity"


def test_streaming_down_and_closing_early(colour, kit, server_factory):
    server = server_factory(chunked(b"one", b"two", b"three"))

    async def body(c):
        client = kit.client(c)
        response = await kit.open(c, client, "GET", server.url)
        assert c.transport.stats().active == 1
        assert b"".join([piece async for piece in kit.raw(c, response)]) == b"onetwothree"
        assert c.transport.stats().idle == 1
        response = await kit.open(c, client, "GET", server.url)
        await c.close(response)  # a short rest is drained: the connection is kept
        await c.wait_until(lambda: c.transport.stats().idle == 1)
        await c.close(client)

    run(colour, body)
    assert server.accepted == 1


def test_the_target_extension(colour, kit, server_factory):
    server = server_factory(echo)

    async def body(c):
        client = kit.client(c)
        response = await c.call(client.options, server.url, extensions={"target": b"*"})
        assert response.headers["x-target"] == "*"
        response = await c.call(client.get, server.url, extensions={"target": b"/other?b"})
        assert response.headers["x-target"] == "/other?b"
        with pytest.raises(kit.lib.LocalProtocolError, match="not printable ASCII"):
            await c.call(client.get, server.url, extensions={"target": b"* HTTP/1.1\r\nX: y"})
        await c.close(client)

    run(colour, body)


def test_the_server_name_extension(colour, kit, server_factory, server_ssl_context, client_ssl_context):
    server = server_factory(ok(), tls=server_ssl_context)

    async def body(c):
        client = kit.client(c)
        response = await c.call(client.get, server.url, extensions={"sni_hostname": "localhost"})
        wire = response.extensions["network_stream"]
        assert response.extensions["pooltransport.conn"].tls.server_hostname == "localhost"
        assert wire.get_extra_info("ssl_object").version() == "TLSv1.3"
        assert ("DNS", "localhost") in wire.get_extra_info("ssl_object").getpeercert()["subjectAltName"]
        with pytest.raises(kit.lib.ConnectError, match="other.example"):
            await c.call(client.get, server.url, extensions={"sni_hostname": "other.example"})
        await c.close(client)

    run(colour, body, ssl_context=client_ssl_context)


def test_what_is_known_of_the_connection(colour, kit, server_factory):
    server = server_factory(ok())

    async def body(c):
        wire = (await kit.get(c, server.url)).extensions["network_stream"]
        assert wire.get_extra_info("server_addr") == ("127.0.0.1", server.port)
        host, port = wire.get_extra_info("client_addr")
        assert host == "127.0.0.1"
        assert port > 0
        assert wire.get_extra_info("ssl_object") is None
        assert wire.get_extra_info("socket") is None
        with pytest.raises(RuntimeError, match="belongs to the pool"):
            await c.call(wire.read, 10)

    run(colour, body)


def test_an_ipv6_address(kit, server_factory):
    server = server_factory(ok(), host="::1")
    with kit.lib.Client(transport=kit.adapter.HTTPTransport()) as client:
        assert client.get(server.url).text == "hello"
    assert server.log[0].header("host") == f"[::1]:{server.port}"


def test_hooks_and_metrics_go_on(colour, kit, server_factory):
    """Of the transport and of a block around the call: nothing of ours is lost below a client of theirs."""
    server = server_factory(ok())
    told = []

    def trace(who):
        return pt.ClientTrace(
            got_conn=lambda info: told.append((who, "got_conn", info.reused)),
            put_idle_conn=lambda error: told.append((who, "put_idle_conn", error)),
        )

    async def body(c):
        client = kit.client(c)
        with pt.client_trace(trace("block")):
            await c.call(client.get, server.url)
        await c.call(client.get, server.url)
        stats = c.transport.stats()
        (host,) = stats.hosts.values()
        assert (stats.dials, host.idle, sum(stats.acquired.values())) == (1, 1, 2)
        await c.close(client)

    run(colour, body, trace=trace("transport"))
    assert told == [
        ("block", "got_conn", False),
        ("transport", "got_conn", False),
        ("block", "put_idle_conn", None),
        ("transport", "put_idle_conn", None),
        ("transport", "got_conn", True),
        ("transport", "put_idle_conn", None),
    ]


def test_redirects_and_cookies_are_the_clients(colour, kit, server_factory):
    @Responder
    def respond(conn, request):
        if request.target == "/a":
            conn.send(head("302 Found", ("Location", "/b"), ("Set-Cookie", "k=v"), length=0))
        else:
            conn.send(head(length=2) + b"ok")

    server = server_factory(respond)

    async def body(c):
        client = kit.client(c)
        assert (await c.call(client.get, f"{server.url}/a")).status_code == 302
        response = await c.call(client.get, f"{server.url}/a", follow_redirects=True)
        assert (response.text, [r.status_code for r in response.history]) == ("ok", [302])
        await c.close(client)

    run(colour, body)
    assert server.log[-1].header("cookie") == "k=v"


def test_a_connection_that_had_gone_stale_is_no_error(colour, kit, server_factory):
    server = server_factory(close_after(1))

    async def body(c):
        client = kit.client(c)
        for _ in range(3):
            assert (await c.call(client.get, server.url)).text == "hello"
        await c.close(client)

    run(colour, body)


def test_a_round_tripper_of_the_user(colour, kit, server_factory):
    """The seam stays: what goes around a transport of ours goes below the client."""
    server = server_factory(ok())

    async def body(c):
        seen = []

        class Around:
            if c.sync:

                def round_trip(self, request):
                    seen.append(request)
                    return c.transport.round_trip(request)
            else:

                async def round_trip(self, request):
                    seen.append(request)
                    return await c.transport.round_trip(request)

        client = kit.client(c, kit.transport(c, Around()))
        assert (await c.call(client.get, server.url, extensions={"note": 1})).text == "hello"
        assert (seen[0].decode, seen[0].extensions) == (False, {"note": 1})
        await c.close(client)

    run(colour, body)


def test_the_modules_name_what_is_missing(kit):
    """Each adapter is of its own library: both can be used in one program."""
    other = Kit("httpx2" if kit.name == "httpx" else "httpx")
    assert issubclass(kit.adapter.HTTPTransport, kit.lib.HTTPTransport)
    assert not issubclass(kit.adapter.HTTPTransport, other.lib.HTTPTransport)
