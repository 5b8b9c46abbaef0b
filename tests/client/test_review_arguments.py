"""What users give wrongly, or as the other libraries take it."""

from __future__ import annotations

import copy
import io
import pickle
import time
from http.cookiejar import CookieJar

import pytest

import pooltransport as pt
from tests.support.colours import run_colour
from tests.support.responders import ok
from tests.support.routes import routes


@pytest.mark.parametrize("kind", [pt.BasicAuth, pt.DigestAuth])
@pytest.mark.parametrize(
    ("pair", "sentence"),
    [
        (("user", None), "password must be str, not NoneType"),  # sent as the word None
        ((1, "password"), "user must be str, not int"),
        ((b"user", b"password"), "user must be str, not bytes"),
    ],
)
def test_credentials_are_text(kind, pair, sentence):
    with pytest.raises(pt.ConfigError, match=sentence):
        kind(*pair)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"status_forcelist": 503}, "status_forcelist must be a collection"),
        ({"status_forcelist": ["503"]}, "status_forcelist must be a collection"),
        ({"allowed_methods": False}, "allowed_methods must be a collection"),
        ({"allowed_methods": "GET"}, "allowed_methods must be a collection"),
        ({"allowed_methods": [1]}, "allowed_methods must be a collection"),
        ({"respect_retry_after_header": "no"}, "must be True or False"),
    ],
)
def test_a_policy_says_what_is_wrong(options, sentence):
    with pytest.raises(pt.ConfigError, match=sentence):
        pt.Retry(3, **options)


def test_a_policy_of_what_can_be_iterated_once():
    policy = pt.Retry(status_forcelist=(code for code in (502, 503)), allowed_methods=iter(["get"]))
    assert policy.status_forcelist == {502, 503}
    assert policy.allowed_methods == {"GET"}
    assert pt.Retry(status_forcelist=None).status_forcelist == frozenset()  # as urllib3 takes it


class JarAndMapping(CookieJar, dict):
    """As that of requests."""

    __hash__ = object.__hash__


def test_a_jar_that_is_a_mapping_stores(colour, server_factory):
    server = server_factory(routes({"/": (200, {"Set-Cookie": "a=b"}, b"")}))

    async def body(c):
        client = c.make_client(cookies=JarAndMapping())
        await c.call(client.get, server.url)
        await c.call(client.get, server.url)

    run_colour(colour, body)
    assert [request.header("cookie") for request in server.log] == [None, "a=b"]


def test_a_netrc_that_is_no_text(tmp_path):
    path = tmp_path / "netrc"
    path.write_bytes(b"machine h login \xff password x\n")
    with pytest.raises(pt.ConfigError, match="not UTF-8"):
        pt.NetrcAuth(path)


def test_a_cookie_that_utf_8_cannot_carry():
    with pytest.raises(pt.InvalidRequest, match="lone surrogate"):
        pt.Client(cookies={"a": "\ud800"})


@pytest.mark.parametrize("token", ["naïve", "€", "a\nb"])
def test_a_token_is_never_changed(colour, server_factory, token):
    server = server_factory(ok())

    async def body(c):
        with pytest.raises(pt.InvalidRequest):
            await c.call(c.make_client(auth=pt.BearerAuth(token)).get, server.url)

    run_colour(colour, body)
    assert not server.log


def test_a_token_from_a_coroutine(loop_colour, server_factory):
    """A sentence, and no warning that it was never awaited."""
    server = server_factory(ok())

    async def token():
        return "t"

    async def body(c):
        with pytest.raises(pt.InvalidRequest, match="returned coroutine: a token is text"):
            await c.call(c.make_client(auth=pt.BearerAuth(token)).get, server.url)

    run_colour(loop_colour, body)


class Tokens(pt.Auth):
    """Fetches a token, as OAuth clients do."""

    def __init__(self):
        self.token = "old"

    async def authorize(self, request):
        return request.with_headers([*request.raw_header_items(), (b"Authorization", self.token.encode())])

    async def answer(self, request, response):
        self.token = "new"
        return request.with_headers([(b"Authorization", b"new")])


def test_coroutine_methods_of_an_auth(loop_colour, server_factory):
    def respond(request):
        return (200 if request.header("authorization") == "new" else 401), {}, b""

    server = server_factory(routes({"/": respond}))

    async def body(c):
        assert (await c.call(c.make_client(auth=Tokens()).get, server.url)).status_code == 200

    run_colour(loop_colour, body)
    assert [request.header("authorization") for request in server.log] == ["old", "new"]


def test_coroutine_methods_on_threads(server_factory):
    server = server_factory(ok())

    async def body(c):
        with pytest.raises(pt.InvalidRequest, match="use AsyncClient"):
            c.make_client(auth=Tokens()).get(server.url)

    run_colour("threads", body)


def test_each_attempt_has_credentials_of_its_own(colour, server_factory):
    """A signature is of one moment; a Digest counter that comes twice is a replay."""
    server = server_factory(routes({"/": (503, {}, b"")}))
    made = iter(range(9))

    async def body(c):
        client = c.make_client(retry=pt.Retry(2, status_forcelist={503}, backoff_factor=0))
        auth = pt.BearerAuth(lambda: str(next(made)))
        await c.call(client.get, server.url, auth=auth)

    run_colour(colour, body)
    assert [request.header("authorization") for request in server.log] == ["Bearer 0", "Bearer 1", "Bearer 2"]


def test_two_that_were_challenged_with_one_nonce_count_on():
    auth = pt.DigestAuth("u", "p")
    request = pt.Request("GET", "http://h/")
    counts = []
    for _ in range(2):
        answered = auth.answer(request, _Challenge('Digest realm="r", nonce="n", qop="auth"'))
        counts.append(answered.headers["authorization"].partition("nc=")[2][:8])
    assert counts == ["00000001", "00000002"]
    # The server's own word on an answer to an older nonce, while another thread has learnt of the new one already.
    late = auth.authorize(request)
    renewed = _Challenge('Digest realm="r", nonce="n2", qop="auth"')
    assert auth.answer(request, renewed) is not None
    assert auth.answer(late, renewed) is not None
    assert auth.answer(auth.authorize(request), renewed) is None  # refused: the password is wrong


def test_an_authorization_of_the_callers_is_not_answered():
    auth = pt.DigestAuth("u", "p")
    own = pt.Request("GET", "http://h/", headers={"Authorization": "Basic eDp5"})
    auth.answer(pt.Request("GET", "http://h/"), _Challenge('Digest realm="r", nonce="n"'))
    assert auth.answer(own, _Challenge('Digest realm="r", nonce="n2"')) is None


class _Challenge:
    def __init__(self, value):
        self.headers = pt.Headers({"WWW-Authenticate": value})


def test_the_request_of_an_answer_may_be_sent_again(colour, server_factory):
    """What was spent before it in its own exchange is not spent again."""

    server = server_factory(ok())

    def slow(request):
        time.sleep(0.001)
        return request

    async def body(c):
        client = c.make_client(timeout=60.0)
        response = await c.call(client.get, server.url, auth=slow)
        assert response.request.spent > 0.0
        again = await c.call(client.send, response.request)
        assert again.request.spent == 0.0

    run_colour(colour, body)


def test_nothing_is_sent_after_the_total(colour, server_factory):
    """A connection that is there takes a request in no time: it was sent, and its answer not waited for."""
    server = server_factory(ok())

    def slow(request):
        time.sleep(0.03)
        return request

    async def body(c):
        client = c.make_client()
        await c.call(client.get, server.url)
        with pytest.raises(pt.TransportTimeout, match="before this request") as caught:
            await c.call(client.post, server.url, json=1, auth=slow, timeout=0.02)
        error = caught.value
        assert (error.phase, error.setting, error.seconds) == ("queue", "timeout", 0.02)
        assert not error.may_have_been_processed

    run_colour(colour, body)
    assert len(server.log) == 1


def test_a_body_larger_than_the_bound_is_fetched_once(colour, server_factory):
    server = server_factory(ok(b"x" * 2000))

    async def body(c):
        with pytest.raises(pt.BodyTooLarge, match="max_body_bytes"):
            await c.call(c.make_client(retry=pt.Retry(3, backoff_factor=0)).get, server.url)

    run_colour(colour, body, max_body_bytes=1000)
    assert len(server.log) == 1


@pytest.mark.parametrize("given", ["multipart/form-data", "application/json", "multipart/form-data; boundary=own"])
def test_files_with_a_content_type_that_cannot_be_read(given):
    """Without the boundary that was drawn nobody can tell the parts."""
    for fields in ({"headers": {"Content-Type": given}}, {}):
        client = pt.Client(headers=None if fields else {"Content-Type": given})
        with pytest.raises(pt.InvalidRequest, match="leave out the header 'Content-Type'"):
            client.build_request("POST", "http://h/", files={"a": io.BytesIO(b"x")}, **fields)


@pytest.mark.parametrize("content", [None, b"x", [b"a", b"b"]], ids=["none", "bytes", "list"])
@pytest.mark.parametrize("how", ["copy", "deepcopy", "pickle"])
def test_a_request_can_be_copied(content, how):
    request = pt.Request(
        "PUT", "http://u:p@h/a?b", headers={"A": "b"}, content=content, timeout=pt.Timeout(3.0, read=1.0)
    )
    copies = {"copy": copy.copy, "deepcopy": copy.deepcopy, "pickle": lambda each: pickle.loads(pickle.dumps(each))}
    twin = copies[how](request)
    assert (twin.method, twin.url, twin.headers, twin.timeout) == ("PUT", request.url, request.headers, request.timeout)
    assert twin.chunked == request.chunked
    assert b"".join(twin.body.chunks()) == b"".join(request.body.chunks())


def test_params_of_a_url_with_a_fragment():
    request = pt.Client(params={"a": 1}).build_request("GET", "http://h/p?x=y#part", params={"b": "#"})
    assert request.url.target == b"/p?x=y&a=1&b=%23"
