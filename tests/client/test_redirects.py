"""Redirects of a client: method rules, bodies sent again, credentials kept at home, and what a redirect may cost."""

from __future__ import annotations

import ssl
import threading

import pytest

import pooltransport as pt
from tests.support.colours import run_colour
from tests.support.responders import Responder, head
from tests.support.routes import routes, told

SECRETS = {"Authorization": "secret", "Cookie": "a=secret", "Proxy-Authorization": "secret", "X-Own": "stays"}


def redirect(to, status=302, body=b"moved"):
    return (status, {"Location": to}, body)


def run(colour, server_url, call, **options):
    """Return ``call(client, url)``, and that no slot was lost."""

    async def body(c):
        client = c.make_client()
        result = await call(c, client, server_url)
        assert c.transport.stats().leases == 0
        return result

    return run_colour(colour, body, **options)


class TestMethods:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
    def test_method_and_body(self, colour, server_factory, status, method):
        """Go's rule, which for POST is the browsers': 301, 302 and 303 make a GET of all but GET and HEAD."""
        server = server_factory(routes({"/a": redirect("/b", status), "/b": (200, {}, b"there")}))
        has_body = method not in ("GET", "HEAD")

        async def call(c, client, url):
            fields = {"content": b"payload", "headers": {"Content-Type": "x/y", "X-Own": "1"}} if has_body else {}
            response = await c.call(client.request, method, url + "/a", **fields)
            assert response.status_code == 200
            assert [hop.status_code for hop in response.history] == [status]

        run(colour, server.url, call)
        second = server.log[1]
        keeps = status in (307, 308) or not has_body
        assert second.method == (method if keeps else "GET")
        assert second.body == (b"payload" if has_body and keeps else b"")
        assert second.header("content-type") == ("x/y" if has_body and keeps else None)
        assert second.header("x-own") == ("1" if has_body else None)
        assert second.header("content-length") == ("7" if has_body and keeps else None)

    @pytest.mark.parametrize("status", [300, 304, 305, 306, 309])
    def test_others_are_answers(self, colour, server_factory, status):
        server = server_factory(routes({"/a": redirect("/b", status, b"")}))

        async def call(c, client, url):
            response = await c.call(client.get, url + "/a")
            assert (response.status_code, response.history) == (status, ())

        run(colour, server.url, call)

    def test_without_a_location_it_is_an_answer(self, colour, server_factory):
        server = server_factory(routes({"/a": (302, {}, b"nowhere")}))

        async def call(c, client, url):
            response = await c.call(client.get, url + "/a")
            assert (response.status_code, response.content) == (302, b"nowhere")

        run(colour, server.url, call)


class TestBodies:
    @pytest.mark.parametrize("status", [307, 308])
    def test_one_that_cannot_be_sent_again_returns_the_3xx(self, colour, server_factory, status):
        """Contract 4.6."""
        server = server_factory(routes({"/a": redirect("/b", status)}))

        async def call(c, client, url):
            response = await c.call(client.post, url + "/a", content=iter([b"once"]))
            assert (response.status_code, response.content) == (status, b"moved")

        run(colour, server.url, call)
        assert len(server.log) == 1

    def test_a_file_is_sent_again_from_where_it_stood(self, colour, server_factory, tmp_path):
        server = server_factory(routes({"/a": redirect("/b", 307), "/b": (200, {}, b"")}))
        path = tmp_path / "file"
        path.write_bytes(b"skipped" + b"x" * 100_000)

        async def call(c, client, url):
            with path.open("rb") as file:
                file.seek(7)
                await c.call(client.put, url + "/a", content=file)

        run(colour, server.url, call)
        assert [request.body for request in server.log] == [b"x" * 100_000] * 2


class TestWhere:
    @pytest.mark.parametrize(
        ("location", "target"),
        [
            ("b", "/dir/b"),
            ("/b?x=1#part", "/b?x=1"),
            ("../b", "/b"),
            ("?q=2", "/dir/a?q=2"),
            ("//127.0.0.1:{port}/b", "/b"),
            ("  /b ", "/b"),
            ("/b c", "/b%20c"),
            ("/ä", "/%C3%A4"),
            ("/\udcff", "/%FF"),
            ("/%2e%2e/b", "/%2e%2e/b"),
        ],
    )
    def test_location_is_a_reference(self, colour, server_factory, location, target):
        @Responder
        def respond(conn, request):
            if request.target == "/dir/a":
                raw = location.format(port=conn.server.port).encode("utf-8", "surrogateescape")
                conn.send(b"HTTP/1.1 302 Found\r\nLocation: " + raw + b"\r\nContent-Length: 0\r\n\r\n")
            else:
                conn.send(head(length=0))

        server = server_factory(respond)

        async def call(c, client, url):
            response = await c.call(client.get, url + "/dir/a")
            assert response.url.target.decode() == target
            assert response.request.url is response.url

        run(colour, server.url, call)
        assert server.log[1].target == target

    @pytest.mark.parametrize(
        "location", ["ftp://a.test/", "mailto:x", "http://[", "http://a.test:99999/", "http://a b/"]
    )
    def test_what_cannot_be_followed(self, colour, server_factory, location):
        server = server_factory(routes({"/a": redirect(location)}))

        async def call(c, client, url):
            with pytest.raises(pt.RemoteProtocolError, match="a redirect's Location cannot be followed") as caught:
                await c.call(client.get, url + "/a")
            assert isinstance(caught.value.__cause__, ValueError)

        run(colour, server.url, call)

    def test_ten_are_followed_and_no_more(self, colour, server_factory):
        server = server_factory(routes({f"/{n}": redirect(f"/{n + 1}") for n in range(30)} | {"/end": (200, {}, b"")}))

        async def call(c, client, url):
            with pytest.raises(pt.TooManyRedirects, match=r"more than 10 redirects \(max_redirects\)") as caught:
                await c.call(client.get, url + "/0")
            last = caught.value.response
            assert last.url.target == b"/10"
            assert [hop.url.target.decode() for hop in last.history] == [f"/{n}" for n in range(10)]
            assert last.is_closed
            assert not isinstance(caught.value, pt.TransportError)
            few = c.make_client(max_redirects=0)
            with pytest.raises(pt.TooManyRedirects):
                await c.call(few.get, url + "/0")
            response = await c.call(client.get, url + "/20", follow_redirects=False)
            assert (response.status_code, response.content) == (302, b"moved")
            off = c.make_client(follow_redirects=False)
            assert (await c.call(off.get, url + "/20")).status_code == 302

        run(colour, server.url, call)
        assert server.accepted == 1

    def test_a_streamed_one(self, colour, server_factory):
        server = server_factory(routes({"/a": redirect("/b"), "/b": (200, {}, b"streamed")}))

        async def call(c, client, url):
            response = await c.call(client.send, client.build_request("GET", url + "/a"), stream=True)
            assert await c.read(response) == b"streamed"
            assert len(response.history) == 1

        run(colour, server.url, call)
        assert server.accepted == 1


class TestCredentials:
    @pytest.mark.parametrize("where", ["another port", "another name", "http"])
    def test_they_stay_at_home(self, colour, server_factory, where, server_ssl_context, client_ssl_context):
        """Contract 4.6; done-when 4: never over the border, and not back again either."""
        table = {"/b": redirect("{home}/c"), "/c": (200, {}, b"")}
        other = server_factory(routes({"/b": lambda request: redirect(f"{home.url}/c"), "/c": (200, {}, b"")}))
        tls = server_ssl_context if where == "http" else None
        target = {"another port": other.url, "another name": f"http://localhost:{other.port}", "http": other.url}[where]
        home = server_factory(routes({"/a": redirect(f"{target}/b"), "/c": table["/c"]}), tls=tls)

        async def call(c, client, url):
            asked = c.make_client(cookies={"kept": "home"}, auth=("user", "secret"))
            for who, fields in ((client, {"headers": SECRETS}), (asked, {})):
                response = await c.call(who.get, url + "/a", **fields)
                assert len(response.history) == 2

        options = {"ssl_context": client_ssl_context} if tls else {}
        run(colour, home.url, call, **options)
        assert [bool(told(request)[2]) for request in home.log] == [True, False, True, False]
        assert [told(request)[2] for request in other.log] == [{}, {}]
        assert other.log[0].header("x-own") == "stays"

    def test_they_go_along_at_home(self, colour, server_factory):
        server = server_factory(routes({"/a": redirect("/b"), "/b": (200, {}, b"")}))

        async def call(c, client, url):
            await c.call(client.get, url + "/a", headers=SECRETS)
            await c.call(client.get, url + "/a", auth=("user", "pass"), cookies={"a": "b"})
            await c.call(client.get, url.replace("//", "//user:pass@") + "/a")

        run(colour, server.url, call)
        basic = "Basic dXNlcjpwYXNz"
        mine = {name.lower(): value for name, value in SECRETS.items() if name != "X-Own"}
        assert [told(request)[2] for request in server.log] == [
            mine,
            mine,
            *[{"authorization": basic, "cookie": "a=b"}] * 2,
            *[{"authorization": basic}] * 2,
        ]

    def test_those_of_the_location_are_used(self, colour, server_factory):
        """As Go: the server itself said who to be there."""
        other = server_factory(routes({"/b": (200, {}, b"")}))
        server = server_factory(routes({"/a": redirect(f"http://user:pass@127.0.0.1:{other.port}/b")}))

        async def call(c, client, url):
            await c.call(client.get, url + "/a", headers={"Authorization": "mine"})

        run(colour, server.url, call)
        assert told(other.log[0])[2] == {"authorization": "Basic dXNlcjpwYXNz"}

    def test_a_host_of_the_callers_own_does_not_go_elsewhere(self, colour, server_factory):
        other = server_factory(routes({"/b": (200, {}, b"")}))
        server = server_factory(routes({"/a": redirect("/b"), "/b": redirect(f"{other.url}/b")}))

        async def call(c, client, url):
            await c.call(client.get, url + "/a", headers={"Host": "virtual.test"})

        run(colour, server.url, call)
        assert [request.header("host") for request in server.log] == ["virtual.test"] * 2
        assert other.log[0].header("host") == f"127.0.0.1:{other.port}"

    def test_the_name_for_tls_does_not_go_elsewhere(
        self, colour, server_factory, server_ssl_context, client_ssl_context
    ):
        names = []
        server_ssl_context.sni_callback = lambda sock, name, context: names.append(name)
        other = server_factory(routes({"/b": (200, {}, b"")}), tls=server_ssl_context)
        server = server_factory(routes({"/a": redirect(f"https://localhost:{other.port}/b")}), tls=server_ssl_context)

        async def call(c, client, url):
            await c.call(client.get, url + "/a", extensions={"sni_hostname": "localhost"})

        assert isinstance(client_ssl_context, ssl.SSLContext)
        run(colour, f"https://127.0.0.1:{server.port}", call, ssl_context=client_ssl_context)
        assert names == ["localhost", "localhost"]


class TestCost:
    def test_a_small_body_is_read_away_and_the_connection_used_again(self, colour, server_factory):
        server = server_factory(routes({"/a": redirect("/b", body=b"x" * 100_000), "/b": (200, {}, b"")}))

        async def call(c, client, url):
            for _ in range(5):
                await c.call(client.get, url + "/a")

        run(colour, server.url, call)
        assert server.accepted == 1

    def test_an_endless_one_costs_the_drains_time(self, colour, server_factory):
        """Pain 36: the body of a redirect has no end; the next request is sent all the same."""

        @Responder
        def endless(conn, request):
            conn.send(head("302 Found", ("Location", other.url + "/b"), ("Transfer-Encoding", "chunked")))
            conn.send(b"1\r\nx\r\n")
            conn.wait_for(threading.Event())

        other = server_factory(routes({"/b": (200, {}, b"there")}))
        server = server_factory(endless)

        async def call(c, client, url):
            response = await c.call(client.get, url + "/a")
            assert response.content == b"there"
            assert c.transport.stats().drains["timeout"] == 1

        run(colour, server.url, call)

    def test_one_total_over_all(self, colour, server_factory):
        """Contract 2: redirects count; the error tells the whole setting, not what was left of it."""
        pause = 0.15

        @Responder
        def slow(conn, request):
            conn.server.wait_stopping(pause)
            conn.send(head("302 Found", ("Location", "/next"), length=0))

        server = server_factory(slow)

        async def call(c, client, url):
            with pytest.raises(pt.TransportTimeout, match=r"within 0.4 s \(timeout\)") as caught:
                await c.call(client.get, url + "/a", timeout=0.4)
            assert (caught.value.setting, caught.value.seconds) == ("timeout", 0.4)

        run(colour, server.url, call)
        assert len(server.log) <= 0.4 / pause + 1
