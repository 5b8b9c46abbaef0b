import gc
import inspect
import weakref

import pytest

import pooltransport
import pooltransport.transport
from pooltransport.client import AsyncClient, Client
from pooltransport.client.async_client import AsyncStream
from pooltransport.client.client import Stream
from pooltransport.errors import ConfigError, InvalidRequest, TransportClosed
from pooltransport.models import NO_TIMEOUT_SET, Request, Timeout
from pooltransport.roundtripper import RoundTripper
from pooltransport.trace import ClientTrace

URL = "http://h/x"


class FakeResponse:
    status_code = 200

    def __init__(self, request, error=None):
        self.request = request
        self.error = error
        self.was_read = 0
        self.was_closed = 0

    def read(self):
        self.was_read += 1
        if self.error is not None:
            raise self.error
        return b""

    def close(self):
        self.was_closed += 1


class FakeTransport:
    def __init__(self, error=None, read_error=None):
        self.error = error
        self.read_error = read_error
        self.requests = []
        self.responses = []
        self.was_closed = False

    def round_trip(self, request):
        if self.error is not None:
            raise self.error
        self.requests.append(request)
        self.responses.append(FakeResponse(request, self.read_error))
        return self.responses[-1]

    def stats(self):
        return "stats"

    def close(self):
        self.was_closed = True


@pytest.fixture
def transport():
    return FakeTransport()


def sent(transport):
    return transport.requests[-1]


@pytest.mark.parametrize("verb", ["get", "head", "options", "post", "put", "patch", "delete"])
def test_verbs_send_their_method_and_read_the_response(transport, verb):
    response = getattr(Client(transport), verb)(URL, params={"a": 1}, headers={"X": "1"}, timeout=3)
    assert sent(transport).method == verb.upper()
    assert sent(transport).url.target == b"/x?a=1"
    assert sent(transport).headers["x"] == "1"
    assert sent(transport).timeout == Timeout(3)
    assert response is transport.responses[0]
    assert (response.was_read, response.was_closed) == (1, 0)


def test_request_takes_any_method(transport):
    Client(transport).request("PROPFIND", URL, content=b"x")
    assert sent(transport).method == "PROPFIND"
    assert sent(transport).body.length == 1


def test_an_error_while_reading_closes_the_response():
    for error in (OSError("broken"), KeyboardInterrupt()):
        transport = FakeTransport(read_error=error)
        with pytest.raises(type(error)):
            Client(transport).get(URL)
        with pytest.raises(type(error)):
            Client(transport).send(Request("GET", URL))
        assert [response.was_closed for response in transport.responses] == [1, 1]


def test_bodies(transport):
    client = Client(transport)
    client.post(URL, json={"a": 1})
    assert (sent(transport).content, sent(transport).headers["content-type"]) == (b'{"a":1}', "application/json")
    client.post(URL, data={"a": "b c"})
    assert sent(transport).content == "a=b+c"
    assert sent(transport).headers["content-type"] == "application/x-www-form-urlencoded"
    client.post(URL, json=1, headers={"content-type": "application/x"})
    assert sent(transport).headers.get_list("content-type") == ["application/x"]
    client.post(URL, json=1, headers={"content-type": None})
    assert "content-type" not in sent(transport).headers
    client.put(URL, content=iter([b"a"]))
    assert sent(transport).chunked
    client.patch(URL, data=b"raw")
    assert "content-type" not in sent(transport).headers
    client.delete(URL, content="text")
    assert sent(transport).body.length == 4


def test_user_agent(transport):
    Client(transport).get(URL)
    assert sent(transport).headers["user-agent"] == f"python-pooltransport/{pooltransport.__version__}"
    Client(transport).get(URL, headers={"user-agent": "mine"})
    assert sent(transport).headers.get_list("User-Agent") == ["mine"]
    Client(transport, headers={"User-Agent": None}).get(URL)
    assert "user-agent" not in sent(transport).headers


def test_the_clients_headers_and_params_come_with_each_request(transport):
    client = Client(transport, headers={"X-A": "1", "X-B": "2"}, params={"k": "v"})
    client.get(URL + "?q=1", headers={"x-b": "3"}, params=[("r", "2")])
    assert sent(transport).headers["x-a"] == "1"
    assert sent(transport).headers.get_list("x-b") == ["3"]
    assert sent(transport).url.target == b"/x?q=1&k=v&r=2"
    client.get(URL)
    assert sent(transport).url.target == b"/x?k=v"
    assert sent(transport).headers is client.headers
    with pytest.raises(TypeError):
        client.headers["x-a"] = "2"


def test_base_url(transport):
    client = Client(transport, base_url="https://u:p@h/api")
    client.get("users")
    assert str(sent(transport).url) == "https://u:***@h/api/users"
    client.get("")
    assert sent(transport).url.target == b"/api"
    client.get("http://other/x")
    assert sent(transport).url.host == "other"
    assert "p@" not in repr(client)
    with pytest.raises(InvalidRequest, match="params="):
        Client(base_url="https://h/?a=1")
    with pytest.raises(InvalidRequest, match="no scheme"):
        Client(transport).get("/relative")


def test_userinfo_becomes_basic_authentication(transport):
    client = Client(transport)
    client.get("http://user:p%40ss@h/")
    assert sent(transport).headers["authorization"] == "Basic dXNlcjpwQHNz"
    client.get("http://user@h/")
    assert sent(transport).headers["authorization"] == "Basic dXNlcjo="
    client.get("http://user:pass@h/", headers={"authorization": "Bearer x"})
    assert sent(transport).headers.get_list("authorization") == ["Bearer x"]
    client.get("http://user:pass@h/", headers={"authorization": None})
    assert "authorization" not in sent(transport).headers


def test_timeouts_merge(transport):
    client = Client(transport, timeout=Timeout(10, read=2))
    client.get(URL)
    assert sent(transport).timeout == Timeout(10, read=2)
    client.get(URL, timeout=5)
    assert sent(transport).timeout == Timeout(5, read=2)
    client.get(URL, timeout=None)
    assert sent(transport).timeout == Timeout(None, read=2)
    client.get(URL, timeout=Timeout(read=None))
    assert sent(transport).timeout == Timeout(10, read=None)
    Client(transport).get(URL)
    assert sent(transport).timeout is NO_TIMEOUT_SET
    assert client.timeout == Timeout(10, read=2)


def test_traces_stay_apart(transport):
    ours, theirs = ClientTrace(), ClientTrace()
    client = Client(transport, trace=ours)
    client.get(URL, trace=theirs)
    assert sent(transport).client_trace is client.trace is ours
    assert sent(transport).trace is theirs


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"a": "b\r\nEvil: 1"}},
        {"headers": {"a\r\n": "b"}},
        {"params": "a\r\nb"},
        {"params": {"a": object()}},
        {"content": 5},
        {"json": float("nan")},
        {"json": 1, "data": {}},
        {"timeout": 0},
    ],
)
def test_bad_arguments_send_nothing(transport, options):
    client = Client(transport)
    with pytest.raises((InvalidRequest, ConfigError)):
        client.post(URL, **options)
    with pytest.raises((InvalidRequest, ConfigError)):
        client.stream("POST", URL, **options)
    assert not transport.requests


def test_arguments_that_do_not_exist(transport):
    for name in ("verify", "proxies", "allow_redirects", "stream"):
        with pytest.raises(TypeError, match=name):
            Client(transport).get(URL, **{name: None})


def test_send(transport):
    trace = ClientTrace()
    client = Client(transport, timeout=5, trace=trace, headers={"X": "1"})
    request = Request("GET", URL)
    response = client.send(request)
    assert (response.was_read, response.was_closed) == (1, 0)
    assert sent(transport).timeout == Timeout(5)
    assert sent(transport).client_trace is trace
    assert "x" not in sent(transport).headers
    assert request.timeout is NO_TIMEOUT_SET
    built = client.build_request("GET", URL)
    assert client.send(built, stream=True).was_read == 0
    assert sent(transport) is built
    with pytest.raises(InvalidRequest, match="takes a Request"):
        client.send(URL)


def test_stream_sends_when_entered_and_closes_when_left(transport):
    client = Client(transport)
    stream = client.stream("POST", URL, content=b"x", params={"a": 1})
    assert not transport.requests
    with stream as response:
        assert response is transport.responses[0]
        assert sent(transport).url.target == b"/x?a=1"
        assert (response.was_read, response.was_closed) == (0, 0)
    assert (response.was_read, response.was_closed) == (0, 1)
    with pytest.raises(RuntimeError, match="again"), stream:
        pass


def test_stream_closes_on_errors(transport):
    with pytest.raises(KeyError), Client(transport).stream("GET", URL) as response:
        raise KeyError
    assert response.was_closed == 1
    with pytest.raises(OSError, match="refused"), Client(FakeTransport(OSError("refused"))).stream("GET", URL):
        pass


def test_a_left_stream_does_not_hold_the_response(transport):
    stream = Client(transport).stream("GET", URL)
    with stream as response:
        pass
    gone = weakref.ref(response)
    transport.responses.clear()
    del response
    gc.collect()
    assert gone() is None


def test_stream_without_with_says_what_to_write(transport):
    with pytest.raises(AttributeError, match=r"`with client\.stream"):
        Client(transport).stream("GET", URL).status_code


def test_close_leaves_the_transport_open(transport):
    with Client(transport) as client:
        client.get(URL)
        pending = client.stream("GET", URL)
    assert client.is_closed
    assert not transport.was_closed
    client.close()
    for use in (
        lambda: client.get(URL),
        lambda: client.stream("GET", URL),
        lambda: client.send(Request("GET", URL)),
        client.__enter__,
        pending.__enter__,
    ):
        with pytest.raises(TransportClosed, match="this client is closed"):
            use()
    assert len(transport.requests) == 1


def test_without_a_transport_the_default_one_is_looked_up_at_each_request(monkeypatch):
    transports = [FakeTransport(), FakeTransport()]
    monkeypatch.setattr(pooltransport.transport, "default_transport", lambda: transports[0])
    with Client() as client:
        client.get(URL)
        transports.reverse()
        client.get(URL)
    assert [len(transport.requests) for transport in transports] == [1, 1]
    assert not any(transport.was_closed for transport in transports)


def test_stats_are_the_transports(transport):
    assert Client(transport).stats() == "stats"
    assert Client(transport).transport is transport


@pytest.mark.parametrize("transport", [5, "http://proxy", object(), FakeResponse(None)])
def test_a_transport_that_is_none(transport):
    with pytest.raises(ConfigError, match="RoundTripper"):
        Client(transport)


def test_a_transport_of_the_other_colour():
    class Other:
        async def round_trip(self, request): ...

    with pytest.raises(ConfigError, match="use AsyncClient"):
        Client(Other())
    with pytest.raises(ConfigError, match="use Client"):
        AsyncClient(FakeTransport())


def test_the_fake_satisfies_the_published_protocol(transport):
    assert isinstance(transport, RoundTripper)
    assert not isinstance(object(), RoundTripper)


@pytest.mark.parametrize(("sync", "colour"), [(Client, AsyncClient), (Stream, AsyncStream)])
def test_both_colours_have_the_same_signatures(sync, colour):
    names = {"close": "aclose", "__enter__": "__aenter__", "__exit__": "__aexit__"}
    ours = {name for name in vars(sync) if callable(getattr(sync, name)) or not name.startswith("_")}
    theirs = {name for name in vars(colour) if callable(getattr(colour, name)) or not name.startswith("_")}
    assert {names.get(name, name) for name in ours} == theirs
    for name in ours:
        method = getattr(sync, name)
        if not inspect.isfunction(method):
            continue
        mine = inspect.signature(method)
        other = inspect.signature(getattr(colour, names.get(name, name)))
        assert list(mine.parameters) == list(other.parameters), name
        for left, right in zip(mine.parameters.values(), other.parameters.values(), strict=True):
            assert (left.kind, left.default) == (right.kind, right.default), name
            assert str(left.annotation) == str(right.annotation).replace("Async", ""), name
        assert str(mine.return_annotation) == str(other.return_annotation).replace("Async", ""), name
