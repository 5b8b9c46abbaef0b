"""Authentication: the header is right, goes to the origin that was asked for, and a challenge is answered once."""

from __future__ import annotations

import hashlib
import re
import threading

import pytest

import pooltransport as pt
from pooltransport.client.digest import parse_challenges
from tests.support.colours import run_colour
from tests.support.routes import routes

BASIC = "Basic dXNlcjpww6RzcyB3b3Jk"


def authorizations(server):
    return [request.header("authorization") for request in server.log]


@pytest.mark.parametrize(
    ("auth", "expected"),
    [
        (("user", "päss word"), BASIC),
        (pt.BasicAuth("user", "päss word"), BASIC),
        (pt.BearerAuth("token"), "Bearer token"),
        (pt.BearerAuth(lambda: "fresh"), "Bearer fresh"),
        (lambda request: request.with_headers({"Authorization": f"Own {request.method}"}), "Own GET"),
    ],
    ids=["pair", "basic", "bearer", "callable bearer", "callable"],
)
def test_with_each_request(colour, server_factory, auth, expected):
    server = server_factory(routes({"/": (200, {}, b"")}))

    async def body(c):
        client = c.make_client(auth=auth)
        await c.call(client.get, server.url)
        await c.call(client.get, server.url, auth=None)
        await c.call(c.make_client().get, server.url, auth=auth)
        response = await c.call(client.send, pt.Request("GET", server.url), stream=True)
        await c.close(response)

    run_colour(colour, body)
    assert authorizations(server) == [expected, None, expected, expected]


def test_what_the_caller_set_stays(colour, server_factory):
    server = server_factory(routes({"/": (200, {}, b"")}))

    async def body(c):
        client = c.make_client(auth=("user", "pass"))
        await c.call(client.get, server.url, headers={"Authorization": "own"})

    run_colour(colour, body)
    assert authorizations(server) == ["own"]


def test_a_coroutine_function(loop_colour, server_factory):
    server = server_factory(routes({"/": (200, {}, b"")}))

    async def sign(request):
        return request.with_headers({"Authorization": "awaited"})

    async def body(c):
        await c.call(c.make_client(auth=sign).get, server.url)

    run_colour(loop_colour, body)
    assert authorizations(server) == ["awaited"]
    with pytest.raises(pt.InvalidRequest, match="is asynchronous: use AsyncClient"):
        pt.Client(auth=sign).get(server.url)


@pytest.mark.parametrize(
    ("auth", "error", "text"),
    [
        (lambda request: 1 / 0, ZeroDivisionError, "division"),
        (lambda request: None, pt.InvalidRequest, r"auth= callable returned NoneType: it must return a Request"),
        (pt.BearerAuth(lambda: None), pt.InvalidRequest, "callable of BearerAuth returned NoneType"),
    ],
)
def test_one_that_breaks_fails_its_request_alone(colour, server_factory, auth, error, text):
    server = server_factory(routes({"/": (200, {}, b"")}))

    async def body(c):
        client = c.make_client()
        with pytest.raises(error, match=text):
            await c.call(client.get, server.url, auth=auth)
        await c.call(client.get, server.url)

    run_colour(colour, body)
    assert len(server.log) == 1


@pytest.mark.parametrize("auth", ["user:pass", ("user",), ("user", "pass", "x"), pt.BasicAuth, 1])
def test_what_is_none(auth):
    with pytest.raises(pt.ConfigError, match="auth must be"):
        pt.Client(auth=auth)


def test_a_colon_in_a_user():
    with pytest.raises(pt.InvalidRequest, match="colon"):
        pt.BasicAuth("a:b", "c")


class TestNetrc:
    def test_only_when_asked(self, colour, server_factory, tmp_path, monkeypatch):
        path = tmp_path / "netrc"
        path.write_text("machine 127.0.0.1 login user password pass\n")
        path.chmod(0o600)
        monkeypatch.setenv("NETRC", str(path))
        server = server_factory(routes({"/": (200, {}, b"")}))

        async def body(c):
            await c.call(c.make_client().get, server.url)
            for auth in (pt.NetrcAuth(), pt.NetrcAuth(path)):
                await c.call(c.make_client(auth=auth).get, server.url)
            await c.call(c.make_client(auth=pt.NetrcAuth()).get, f"http://localhost:{server.port}")

        run_colour(colour, body)
        assert authorizations(server) == [None, "Basic dXNlcjpwYXNz", "Basic dXNlcjpwYXNz", None]

    def test_one_that_is_missing_or_broken(self, tmp_path):
        with pytest.raises(pt.ConfigError, match="there is no file"):
            pt.NetrcAuth(tmp_path / "none")
        (tmp_path / "broken").write_text("machine x login y password\nwhat s3cret")
        with pytest.raises(pt.ConfigError, match="cannot be read") as caught:
            pt.NetrcAuth(tmp_path / "broken")
        assert "s3cret" not in str(caught.value)


class DigestServer:
    """Checks the answers to its challenges by RFC 7616 section 3.4, independently of the client."""

    def __init__(self, algorithm="SHA-256", qop='qop="auth"', extra="", uses=100):
        self.algorithm, self.qop, self.extra, self.uses = algorithm, qop, extra, uses
        self.lock = threading.Lock()
        self.nonces = {}
        self.counts = []

    def hash(self, text):
        name = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}[self.algorithm.removesuffix("-sess")]
        return hashlib.new(name, text.encode()).hexdigest()

    def __call__(self, request):
        with self.lock:
            got = request.header("authorization")
            if got is not None:
                fields = {
                    name: quoted or plain
                    for name, quoted, plain in re.findall(r'(\w+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))', got)
                }
                left = self.nonces.get(fields["nonce"], 0)
                if left > 0 and self.is_right(request, fields):
                    self.nonces[fields["nonce"]] = left - 1
                    self.counts.append(int(fields.get("nc", "1"), 16))
                    return (200, {}, b"in")
                if fields["nonce"] in self.nonces and not left:
                    return self.challenge(", stale=true")
            return self.challenge("")

    def challenge(self, more):
        nonce = f"nonce{len(self.nonces)}"
        self.nonces[nonce] = self.uses
        parts = ['realm="the \\"realm\\""', f'nonce="{nonce}"', f"algorithm={self.algorithm}"]
        parts += [part for part in (self.qop, self.extra) if part]
        return (401, {"WWW-Authenticate": "Basic realm=x, Digest " + ", ".join(parts) + more}, b"who?")

    def is_right(self, request, fields):
        secret = self.hash('user:the "realm":pass')
        if self.algorithm.endswith("-sess"):
            secret = self.hash(f"{secret}:{fields['nonce']}:{fields['cnonce']}")
        what = self.hash(f"{request.method}:{request.target}")
        middle = f"{fields['nc']}:{fields['cnonce']}:{fields['qop']}:" if self.qop else ""
        user = self.hash('user:the "realm"') if "userhash" in self.extra else "user"
        assert fields["uri"] == request.target
        assert fields.get("opaque") == ("x,y=z" if "opaque" in self.extra else None)
        return fields["username"] == user and fields["response"] == self.hash(
            f"{secret}:{fields['nonce']}:{middle}{what}"
        )


class TestDigest:
    @pytest.mark.parametrize("algorithm", ["MD5", "MD5-sess", "SHA-256", "SHA-256-sess", "SHA-512-256"])
    def test_a_challenge_is_answered_once_and_then_known(self, colour, server_factory, algorithm):
        asked = DigestServer(algorithm)
        server = server_factory(routes({"/a": asked}))

        async def body(c):
            client = c.make_client(auth=pt.DigestAuth("user", "pass"))
            for _ in range(3):
                response = await c.call(client.post, server.url + "/a?x=1", content=b"again")
                assert (response.status_code, response.content, response.history) == (200, b"in", ())
            assert c.transport.stats().leases == 0

        run_colour(colour, body)
        assert len(server.log) == 4
        assert asked.counts == [1, 2, 3]
        assert {request.body for request in server.log} == {b"again"}
        assert server.accepted == 1

    @pytest.mark.parametrize(
        ("qop", "extra"), [("", ""), ('qop="auth-int,auth"', 'opaque="x,y=z"'), ("qop=auth", "userhash=true")]
    )
    def test_variants(self, server_factory, qop, extra):
        server = server_factory(routes({"/a": DigestServer("MD5" if not qop else "SHA-256", qop, extra)}))
        with pt.Transport() as transport:
            client = pt.Client(transport, auth=pt.DigestAuth("user", "pass"))
            assert [client.get(server.url + "/a").status_code for _ in range(2)] == [200, 200]

    def test_a_nonce_that_is_used_up(self, server_factory):
        asked = DigestServer(uses=2)
        server = server_factory(routes({"/a": asked}))
        with pt.Transport() as transport:
            client = pt.Client(transport, auth=pt.DigestAuth("user", "pass"))
            assert [client.get(server.url + "/a").status_code for _ in range(5)] == [200] * 5
        assert asked.counts == [1, 2, 1, 2, 1]

    def test_a_wrong_password_is_not_tried_twice(self, colour, server_factory):
        server = server_factory(routes({"/a": DigestServer()}))

        async def body(c):
            client = c.make_client(auth=pt.DigestAuth("user", "wrong"))
            response = await c.call(client.get, server.url + "/a")
            assert (response.status_code, response.content) == (401, b"who?")

        run_colour(colour, body)
        assert len(server.log) == 2

    def test_a_body_that_cannot_be_sent_again(self, colour, server_factory):
        server = server_factory(routes({"/a": DigestServer()}))

        async def body(c):
            client = c.make_client(auth=pt.DigestAuth("user", "pass"))
            response = await c.call(client.post, server.url + "/a", content=iter([b"once"]))
            assert (response.status_code, response.content) == (401, b"who?")

        run_colour(colour, body)

    def test_a_401_without_a_challenge_for_us(self, server_factory):
        answers = [
            "",
            "Basic realm=x",
            'Digest realm="x"',
            "Digest nonce=x, algorithm=ROT13",
            "Digest nonce=x, qop=auth-int",
        ]
        for value in answers:
            server = server_factory(routes({"/": (401, {"WWW-Authenticate": value}, b"no")}))
            with pt.Transport() as transport:
                client = pt.Client(transport, auth=pt.DigestAuth("user", "pass"))
                assert client.get(server.url).content == b"no"
            assert len(server.log) == 1

    def test_the_strongest_is_taken(self):
        found = parse_challenges(
            ['Digest nonce="a", algorithm=MD5, Digest nonce="b", algorithm=SHA-256, realm="r"', "Digest nonce=c"]
        )
        assert (found.nonce, found.algorithm, found.realm) == ("b", "SHA-256", "r")

    def test_of_threads_at_once(self, server_factory):
        asked = DigestServer(uses=10)
        server = server_factory(routes({"/a": asked}))
        with pt.Transport() as transport:
            client = pt.Client(transport, auth=pt.DigestAuth("user", "pass"))
            found = []
            threads = [
                threading.Thread(
                    target=lambda: found.extend(client.get(server.url + "/a").status_code for _ in range(10))
                )
                for _ in range(4)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert (
            found.count(200) >= 36
        )  # one whose nonce another has used up meanwhile is challenged once more, not twice
        assert set(found) <= {200, 401}
