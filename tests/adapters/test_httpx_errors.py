"""Our errors as the library's own: chained, with our words; and its clocks as ours."""

from __future__ import annotations

import threading

import pytest

import pooltransport as pt
from pooltransport import errors
from pooltransport.adapters._httpx.errors import NAMES, as_theirs, name_of
from pooltransport.adapters._httpx.pool import _pause
from tests.support.colours import run_colour
from tests.support.responders import (
    Responder,
    big,
    drip,
    head,
    no_response_close,
    no_response_reset,
    ok,
    raw,
    slow,
    stall,
)


def family(kind):
    return [kind, *(found for child in kind.__subclasses__() for found in family(child))]


OURS = [kind for kind in family(pt.Error) if kind.__module__.startswith("pooltransport")]


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_every_class_has_its_place(kit, kind):
    assert kind in NAMES, f"{kind.__name__} would leave as {name_of(kind.__new__(kind))}: say what it is for httpx"
    error = kind.__new__(kind)
    error.args = ("what happened",)
    theirs = as_theirs(error, kit.lib)
    assert type(theirs) is getattr(kit.lib, NAMES[kind])
    assert isinstance(theirs, (kit.lib.RequestError, kit.lib.StreamError))
    assert "what happened" in str(theirs)


def test_the_tree_is_walked():
    assert len(OURS) > 25
    assert errors.TLSHandshakeTimeout in OURS


def test_a_class_of_somebody_else_is_what_its_base_is(kit):
    class Mine(pt.ReadTimeout):
        pass

    assert type(as_theirs(Mine("x"), kit.lib)) is kit.lib.ReadTimeout


def raised_by(colour, kit, url, *, timeout=None, streamed=False, prepare=None, **options):
    """Return the error of one GET: theirs, whose cause must be ours."""

    async def body(c):
        client = kit.client(c, timeout=timeout)
        if prepare is not None:
            await prepare(c, client)
        with pytest.raises(kit.lib.HTTPError) as caught:
            response = await kit.open(c, client, "GET", url)
            try:
                async for _ in kit.raw(c, response):
                    assert streamed, "an error of the body comes from reading it"
            finally:
                await c.close(response)
        await c.close(client)
        return caught.value

    error = run_colour(colour, body, **options)
    assert isinstance(error.__cause__, pt.TransportError)
    assert str(error) == str(error.__cause__)
    assert str(error.request.url).startswith(url), "the client has said which request it was"
    return error


def test_refused(colour, kit):
    error = raised_by(colour, kit, "http://127.0.0.1:1/")
    assert type(error) is kit.lib.ConnectError
    assert "Connection refused" in str(error)


def test_no_such_name(colour, kit):
    def nobody(host, port):
        raise OSError(-2, "Name or service not known")

    error = raised_by(colour, kit, "http://nobody.example/", resolver=nobody)
    assert type(error) is kit.lib.ConnectError
    assert type(error.__cause__) is pt.DNSError


def test_an_address_that_is_not_allowed(colour, kit):
    error = raised_by(colour, kit, "http://127.0.0.1:1/", allow_address=pt.public_only)
    assert (type(error), type(error.__cause__)) == (kit.lib.ConnectError, pt.AddressRefused)


def test_untrusted(colour, kit, server_factory, server_ssl_context):
    server = server_factory(ok(), tls=server_ssl_context)
    error = raised_by(colour, kit, server.url)
    assert (type(error), type(error.__cause__)) == (kit.lib.ConnectError, pt.TLSError)
    assert "certificate" in str(error)


@pytest.mark.parametrize("handler", [no_response_close, no_response_reset])
def test_no_answer(colour, kit, server_factory, handler):
    error = raised_by(colour, kit, server_factory(handler).url)
    assert (type(error), type(error.__cause__)) == (kit.lib.RemoteProtocolError, pt.ServerClosedConnection)


def test_nonsense(colour, kit, server_factory):
    error = raised_by(colour, kit, server_factory(raw(b"SSH-2.0-x\r\n\r\n", then_close=True)).url)
    assert type(error) is kit.lib.RemoteProtocolError


def test_a_body_that_ends_too_early(colour, kit, server_factory):
    server = server_factory(raw(head(length=10) + b"short", then_close=True))
    error = raised_by(colour, kit, server.url, streamed=True)
    assert (type(error), type(error.__cause__)) == (kit.lib.RemoteProtocolError, pt.IncompleteBody)


def test_the_proxy_refuses(colour, kit, server_factory):
    proxy = server_factory(raw(head("407 Who Are You", length=0)))
    error = raised_by(colour, kit, "https://a.example/", proxy=proxy.url)
    assert (type(error), type(error.__cause__)) == (kit.lib.ProxyError, pt.ProxyError)


def test_a_closed_transport(colour, kit):
    async def prepare(c, client):
        await c.close_transport()

    error = raised_by(colour, kit, "http://127.0.0.1:1/", prepare=prepare)
    assert (type(error), type(error.__cause__)) == (kit.lib.ConnectError, pt.TransportClosed)


def test_closed_while_it_ran(kit, server_factory):
    server = server_factory(slow(threading.Event()))
    with pt.Transport() as transport, kit.lib.Client(transport=kit.adapter.HTTPTransport(transport)) as client:

        def close():
            server.wait_for_requests(1)
            transport.close()

        closer = threading.Thread(target=close)
        closer.start()
        with pytest.raises(kit.lib.ReadError) as caught:
            client.get(server.url)
        closer.join()
    assert type(caught.value.__cause__) is pt.TransportClosed


@pytest.mark.parametrize(
    ("url", "name"),
    [("ftp://h/", "UnsupportedProtocol"), ("/x", "UnsupportedProtocol"), ("http://h:123456/", "ConnectError")],
)
def test_what_cannot_be_asked_for(colour, kit, url, name):
    async def body(c):
        client = kit.client(c)
        with pytest.raises(getattr(kit.lib, name)):
            await c.call(client.get, url)
        await c.close(client)

    run_colour(colour, body)


def test_an_error_of_the_callers_own_body_stays_its_own(colour, kit, server_factory):
    server = server_factory(ok())

    async def body(c):
        if c.sync:

            def broken():
                yield b"a"
                raise LookupError("mine")
        else:

            async def broken():
                yield b"a"
                raise LookupError("mine")

        client = kit.client(c)
        with pytest.raises(LookupError, match="mine"):
            await c.call(client.post, server.url, content=broken())
        assert c.transport.stats().open == 0
        await c.close(client)

    run_colour(colour, body)


# On trio httpx leaves its own generators to the collector then; httpx2 does not.
@pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")
def test_the_client_decodes_and_says_what_is_wrong(colour, kit, server_factory):
    server = server_factory(ok(b"no gzip", ("Content-Encoding", "gzip")))

    async def body(c):
        client = kit.client(c)
        with pytest.raises(kit.lib.DecodingError):
            await c.call(client.get, server.url)
        assert c.transport.stats().active == 0
        await c.close(client)

    run_colour(colour, body)


class TestTimeouts:
    def test_waiting_for_a_connection(self, colour, kit, server_factory):
        """The first line of ours is theirs: who sees only their error can read the cause."""
        server = server_factory(stall(threading.Event(), b"x" * 100))

        async def prepare(c, client):
            c.held = await kit.open(c, client, "GET", server.url)

        error = raised_by(
            colour, kit, server.url, prepare=prepare, max_conns_per_host=1, timeout=kit.lib.Timeout(30, pool=0.1)
        )
        assert (type(error), type(error.__cause__)) == (kit.lib.PoolTimeout, pt.PoolTimeout)
        first = str(error).partition("\n")[0]
        assert first.startswith(f"no connection to {server.url} within 0.1")
        assert "1 of 1 in use" in first
        assert "colours.py:" in first, "the line that holds the connection, and none of the library's"
        assert first.endswith("[PT-EXHAUSTED]")

    def test_a_full_queue(self, colour, kit, server_factory):
        server = server_factory(stall(threading.Event(), b"x" * 100))

        async def prepare(c, client):
            c.held = await kit.open(c, client, "GET", server.url)

        error = raised_by(colour, kit, server.url, prepare=prepare, max_conns_per_host=1, max_waiting=0)
        assert (type(error), type(error.__cause__)) == (kit.lib.PoolTimeout, pt.PoolQueueFull)

    def test_connecting(self, colour, kit):
        held = threading.Event()

        def never(host, port):
            held.wait(5)
            raise OSError(-2, "too late")

        try:
            timeout = kit.lib.Timeout(30, connect=0.1)
            error = raised_by(colour, kit, "http://slow.example/", resolver=never, timeout=timeout)
        finally:
            held.set()
        assert (type(error), type(error.__cause__)) == (kit.lib.ConnectTimeout, pt.ConnectTimeout)

    def test_the_handshake(self, colour, kit, server_factory):
        server = server_factory(Responder(lambda conn, request: None))  # speaks no TLS, and waits
        url = server.url.replace("http", "https")
        error = raised_by(colour, kit, url, timeout=kit.lib.Timeout(30, connect=0.1))
        assert type(error) is kit.lib.ConnectTimeout

    def test_the_headers(self, colour, kit, server_factory):
        server = server_factory(slow(threading.Event()))
        error = raised_by(colour, kit, server.url, timeout=kit.lib.Timeout(30, read=0.1))
        assert (type(error), type(error.__cause__)) == (kit.lib.ReadTimeout, pt.ReadTimeout)

    def test_the_body(self, colour, kit, server_factory):
        server = server_factory(stall(threading.Event()))
        error = raised_by(colour, kit, server.url, timeout=kit.lib.Timeout(30, read=0.1), streamed=True)
        assert type(error) is kit.lib.ReadTimeout

    def test_reading_is_a_time_without_a_byte_and_no_total(self, colour, kit, server_factory):
        server = server_factory(drip(b"hello world", 0.03))

        async def body(c):
            assert (await kit.get(c, server.url, timeout=kit.lib.Timeout(0.2))).text == "hello world"

        run_colour(colour, body)

    def test_writing(self, colour, kit, server_factory):
        gate = threading.Event()

        def handler(conn):
            conn.wait_for(gate)

        server = server_factory(handler)

        async def body(c):
            client = kit.client(c)
            with pytest.raises(kit.lib.WriteTimeout):
                await c.call(client.post, server.url, content=b"x" * 30_000_000, timeout=kit.lib.Timeout(30, write=0.1))
            gate.set()
            await c.close(client)

        run_colour(colour, body)

    def test_a_response_header_timeout_that_was_given_stays(self, colour, kit, server_factory):
        server = server_factory(slow(threading.Event()))
        error = raised_by(colour, kit, server.url, timeout=30, response_header_timeout=0.1)
        assert (type(error), type(error.__cause__)) == (kit.lib.ReadTimeout, pt.ResponseHeaderTimeout)

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ({}, pt.Timeout()),
            (
                {"pool": 1.0, "connect": 2.0, "read": 3.0, "write": 4.0},
                pt.Timeout(acquire=1.0, connect=2.0, tls=2.0, response_header=None, read=3.0, write=4.0),
            ),
            (
                {"pool": None, "connect": None, "read": None, "write": None},
                pt.Timeout(acquire=None, connect=None, tls=None, response_header=None, read=None, write=None),
            ),
            ({"write": 4}, pt.Timeout(write=4)),
            ({"pool": 1e12, "read": 0}, pt.Timeout(acquire=None, response_header=None, read=1e-6)),
        ],
    )
    def test_what_they_become(self, kit, given, expected):
        with pt.Transport() as transport:
            assert kit.adapter.HTTPTransport(transport)._pool._timeout(given) == expected
        with pt.Transport(tls_handshake_timeout=1, response_header_timeout=1) as transport:
            mine = kit.adapter.HTTPTransport(transport)._pool._timeout(given)
            assert (mine.tls, mine.response_header) == (pt.UNSET, pt.UNSET)

    def test_no_timeout_waits(self, colour, kit, server_factory):
        gate = threading.Event()
        server = server_factory(slow(gate))

        async def body(c):
            handle = await c.start(lambda: kit.get(c, server.url, timeout=None))
            await c.wait_until(lambda: server.requests == 1)
            gate.set()
            assert (await c.wait(handle)).text == "hello"

        run_colour(colour, body, read_timeout=60.0)


class TestRetries:
    def test_connecting_is_tried_again_and_a_stream_is_not_spent(self, colour, kit, server_factory):
        server = server_factory(ok())
        tries = []

        def resolve(host, port):
            tries.append(host)
            if len(tries) < 2:
                raise OSError(-3, "Temporary failure in name resolution")
            return ["127.0.0.1"]

        async def body(c):
            client = kit.client(c, kit.transport(c, retries=1, resolver=resolve))
            url = f"http://late.example:{server.port}/"
            assert (await c.call(client.post, url, content=kit.body(c, b"a", b"b"))).text == "hello"
            await c.close(client)

        run_colour(colour, body)
        assert len(tries) == 2
        assert server.log[0].body == b"ab"

    def test_the_pauses_are_those_of_httpcore(self):
        assert [_pause(attempt) for attempt in range(4)] == [0.0, 0.5, 1.0, 2.0]

    def test_the_last_error_is_raised(self, kit):
        transport = kit.adapter.HTTPTransport(retries=1)
        with kit.lib.Client(transport=transport) as client, pytest.raises(kit.lib.ConnectError):
            client.get("http://127.0.0.1:1/")

    def test_nothing_else_is(self, kit, server_factory):
        server = server_factory(no_response_close)
        with kit.lib.Client(transport=kit.adapter.HTTPTransport(retries=3)) as client:
            with pytest.raises(kit.lib.RemoteProtocolError):
                client.post(server.url, content=b"x")
        assert server.requests == 1


def test_a_large_answer_that_is_closed_early_costs_its_connection_alone(colour, kit, server_factory):
    server = server_factory(big(5_000_000))

    async def body(c):
        client = kit.client(c)
        response = await kit.open(c, client, "GET", server.url)
        await c.close(response)
        assert c.transport.stats().active == 0
        await c.close(client)

    run_colour(colour, body, max_conns_per_host=1)
