import anyio
import pytest

import pooltransport.transport
from pooltransport.client import AsyncClient
from pooltransport.errors import ConfigError, InvalidRequest, TransportClosed
from pooltransport.models import NO_TIMEOUT_SET, Request, Timeout
from pooltransport.roundtripper import AsyncRoundTripper
from pooltransport.trace import ClientTrace

URL = "http://h/x"


class FakeResponse:
    status_code = 200

    def __init__(self, request, error=None, wait=False):
        self.request = request
        self.error = error
        self.wait = wait
        self.was_read = 0
        self.was_closed = 0

    async def aread(self):
        self.was_read += 1
        await anyio.lowlevel.checkpoint()
        if self.wait:
            await anyio.sleep_forever()
        if self.error is not None:
            raise self.error
        return b""

    async def aclose(self):
        self.was_closed += 1


class FakeTransport:
    def __init__(self, error=None, read_error=None, wait=False):
        self.error = error
        self.read_error = read_error
        self.wait = wait
        self.requests = []
        self.responses = []
        self.was_closed = False

    async def round_trip(self, request):
        await anyio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        self.requests.append(request)
        self.responses.append(FakeResponse(request, self.read_error, self.wait))
        return self.responses[-1]

    def stats(self):
        return "stats"

    async def aclose(self):
        self.was_closed = True


@pytest.fixture
def transport():
    return FakeTransport()


@pytest.fixture(params=["asyncio", "trio"])
def run(request):
    return lambda main: anyio.run(main, backend=request.param)


@pytest.mark.parametrize("verb", ["get", "head", "options", "post", "put", "patch", "delete"])
def test_verbs_send_their_method_and_read_the_response(run, transport, verb):
    async def main():
        client = AsyncClient(transport)
        response = await getattr(client, verb)(URL, params={"a": 1}, headers={"X": "1"}, timeout=3)
        [request] = transport.requests
        assert request.method == verb.upper()
        assert request.url.target == b"/x?a=1"
        assert request.headers["x"] == "1"
        assert request.timeout == Timeout(3)
        assert response is transport.responses[0]
        assert (response.was_read, response.was_closed) == (1, 0)

    run(main)


def test_request_with_an_asynchronous_body(run, transport):
    async def chunks():
        yield b"a"

    async def main():
        await AsyncClient(transport).request("POST", URL, content=chunks())
        [request] = transport.requests
        assert request.body.is_async
        assert request.chunked
        await request.body.aclose()

    run(main)


def test_an_error_while_reading_closes_the_response(run):
    async def main():
        transport = FakeTransport(read_error=OSError("broken"))
        for send in (AsyncClient(transport).get(URL), AsyncClient(transport).send(Request("GET", URL))):
            with pytest.raises(OSError, match="broken"):
                await send
        assert [response.was_closed for response in transport.responses] == [1, 1]

    run(main)


def test_a_cancellation_while_reading_closes_the_response(run):
    async def main():
        transport = FakeTransport(wait=True)
        with anyio.move_on_after(0) as scope:
            await AsyncClient(transport).get(URL)
        assert scope.cancelled_caught
        # Cancelled before the round trip answered: nothing to close then.
        assert all(response.was_closed == 1 for response in transport.responses)
        async with anyio.create_task_group() as group:
            group.start_soon(AsyncClient(transport).get, URL)
            while not (transport.responses and transport.responses[-1].was_read):
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        assert transport.responses[-1].was_closed == 1

    run(main)


def test_what_is_built_is_as_the_synchronous_clients(run, transport):
    async def main():
        trace = ClientTrace()
        client = AsyncClient(
            transport, base_url="http://u:p@h/api", headers={"X": "1"}, params={"k": "v"}, timeout=9, trace=trace
        )
        await client.post("users", json=[1], timeout=Timeout(read=1))
        [request] = transport.requests
        assert request.url.target == b"/api/users?k=v"
        assert request.content == b"[1]"
        assert set(request.headers) == {"user-agent", "x", "content-type", "authorization"}
        assert request.timeout == Timeout(9, read=1)
        assert request.client_trace is trace

    run(main)


@pytest.mark.parametrize("options", [{"headers": {"a": "b\r\n"}}, {"content": 5}, {"timeout": 0}, {"json": {1}}])
def test_bad_arguments_send_nothing(run, transport, options):
    async def main():
        with pytest.raises((InvalidRequest, ConfigError)):
            await AsyncClient(transport).post(URL, **options)
        with pytest.raises((InvalidRequest, ConfigError)):
            AsyncClient(transport).stream("POST", URL, **options)
        assert not transport.requests

    run(main)


def test_send(run, transport):
    async def main():
        client = AsyncClient(transport, timeout=5)
        request = Request("GET", URL)
        response = await client.send(request)
        assert (response.was_read, response.was_closed) == (1, 0)
        assert transport.requests[0].timeout == Timeout(5)
        assert request.timeout is NO_TIMEOUT_SET
        assert (await client.send(request, stream=True)).was_read == 0

    run(main)


def test_stream_sends_when_entered_and_closes_when_left(run, transport):
    async def main():
        stream = AsyncClient(transport).stream("GET", URL)
        assert not transport.requests
        async with stream as response:
            assert (response.was_read, response.was_closed) == (0, 0)
        assert (response.was_read, response.was_closed) == (0, 1)
        with pytest.raises(RuntimeError, match="again"):
            await stream.__aenter__()
        with pytest.raises(KeyError):
            async with AsyncClient(transport).stream("GET", URL) as response:
                raise KeyError
        assert response.was_closed == 1
        with pytest.raises(AttributeError, match=r"`async with client\.stream"):
            AsyncClient(transport).stream("GET", URL).status_code

    run(main)


def test_close_leaves_the_transport_open(run, transport):
    async def main():
        async with AsyncClient(transport) as client:
            await client.get(URL)
            pending = client.stream("GET", URL)
        assert client.is_closed
        assert not transport.was_closed
        await client.aclose()
        uses = (client.get(URL), client.send(Request("GET", URL)), client.__aenter__(), pending.__aenter__())
        for use in uses:
            with pytest.raises(TransportClosed, match="this client is closed"):
                await use
        with pytest.raises(TransportClosed):
            client.stream("GET", URL)
        assert len(transport.requests) == 1

    run(main)


def test_without_a_transport_the_loops_default_one_is_looked_up_at_each_request(run, monkeypatch):
    async def main():
        transports = [FakeTransport(), FakeTransport()]
        monkeypatch.setattr(pooltransport.transport, "default_async_transport", lambda: transports[0])
        async with AsyncClient() as client:
            await client.get(URL)
            transports.reverse()
            await client.get(URL)
        assert [len(transport.requests) for transport in transports] == [1, 1]

    run(main)


def test_a_client_can_be_made_without_a_loop(transport):
    assert AsyncClient().is_closed is False
    assert AsyncClient(transport).stats() == "stats"
    assert isinstance(transport, AsyncRoundTripper)
