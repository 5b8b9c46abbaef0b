"""UPG: 101 (Switching Protocols) and CONNECT give the caller the raw stream."""

from __future__ import annotations

import contextlib
import gc
import socket
import ssl
import threading

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Opcode
from websockets.sync.server import serve
from websockets.uri import parse_uri

import pooltransport as pt
from tests.support.colours import run_colour
from tests.support.responders import head, ok, routes

SWITCH = head("101 Switching Protocols", ("Connection", "keep-alive, Upgrade"), ("Upgrade", "shout"))
ASK = {"Connection": "Upgrade", "Upgrade": "shout"}


def shouter(conn):
    """Upgrade, and give back what comes in upper case; the first words stand behind the header already."""
    while (request := conn.read_request()) is not None:
        if request.header("upgrade") is None and request.method != "CONNECT":
            conn.send(head(length=2) + b"ok")
            continue
        conn.send((head("200 Connected") if request.method == "CONNECT" else SWITCH) + b"HELLO")
        with contextlib.suppress(ssl.SSLError):  # a TLS stream that is closed ends without a word
            while data := conn.sock.recv(65536):
                conn.send(data.upper())
            conn.send(b"BYE")
        return


async def read_exactly(c, stream, size):
    data = b""
    while len(data) < size:
        piece = await c.call(stream.read, size - len(data))
        assert piece, f"the stream ended after {data!r}"
        data += piece
    return data


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("how", ["101", "CONNECT"])
@pytest.mark.go("UPG-02", "UPG-07", "LIM-14")
def test_the_stream_is_raw_both_ways_and_counts(
    colour, how, secure, server_factory, server_ssl_context, client_ssl_context
):
    server = server_factory(shouter, tls=server_ssl_context if secure else None)
    reasons = []

    async def body(c):
        trace = pt.ClientTrace(put_idle_conn=reasons.append)
        fields = {"headers": ASK} if how == "101" else {}
        response = await c.request("GET" if how == "101" else "CONNECT", server.url, trace=trace, **fields)
        assert response.status_code == (101 if how == "101" else 200)
        stream = response.stream
        assert await read_exactly(c, stream, 5) == b"HELLO"
        for word in (b"a", b"bc" * 50_000):
            await c.call(stream.write, word)
            assert await read_exactly(c, stream, len(word)) == word.upper()
        stats = c.transport.stats()
        assert (stats.upgraded, stats.open, stats.leases, stats.active) == (1, 1, 1, 0)
        c.transport.close_idle_connections()
        await c.call(stream.write, b"still")
        assert await read_exactly(c, stream, 5) == b"STILL"
        assert not stream.is_closed
        await c.call(stream.close)
        assert stream.is_closed
        assert response.is_closed
        await c.call(stream.close)
        stats = c.transport.stats()
        assert (stats.upgraded, stats.open, stats.leases, stats.idle) == (0, 0, 0, 0)
        assert [error.reason for error in reasons] == [pt.CloseReason.UPGRADED]
        with pytest.raises(pt.StreamConsumed):
            await c.call(stream.read)

    run_colour(colour, body, ssl_context=client_ssl_context)


@pytest.mark.go("UPG-07")
def test_connect_asks_for_the_authority(colour, server_factory):
    server = server_factory(shouter)

    async def body(c):
        for url, host, target in (
            (server.url, None, server.url.partition("://")[2]),
            (server.url + "/ignored?x", "origin.example:443", "origin.example:443"),
        ):
            response = await c.request("CONNECT", url, headers={} if host is None else {"Host": host})
            assert server.log[-1].target == target
            assert server.log[-1].header("host") == target
            await c.close(response)

    run_colour(colour, body)


@pytest.mark.go("UPG-07")
def test_a_refused_connect_is_an_answer_and_the_connections_last(colour, server_factory):
    server = server_factory(ok(b"no", status="403 Forbidden"))

    async def body(c):
        for _ in range(2):
            response = await c.request("CONNECT", server.url)
            assert response.stream is None
            assert await c.read(response) == b"no"
        assert c.transport.stats().idle == 0  # KA-12

    run_colour(colour, body)


@pytest.mark.go("UPG-01")
def test_101_without_upgrade_headers_is_final_and_ends_the_connection(colour, server_factory):
    server = server_factory(routes({"/": ok(b"", status="101 Whatever")}))

    async def body(c):
        response = await c.get(server.url + "/")
        assert response.status_code == 101
        assert response.stream is None
        assert await c.read(response) == b""
        assert c.transport.stats().open == 0

    run_colour(colour, body)


@pytest.mark.go("UPG-03", "UPG-05")
def test_no_clock_of_the_request_runs_on_the_stream(colour, server_factory):
    server = server_factory(shouter)

    async def body(c):
        response = await c.get(server.url, headers=ASK, timeout=0.3)
        stream = response.stream
        assert await read_exactly(c, stream, 5) == b"HELLO"
        with pytest.raises(pt.ReadTimeout) as caught:
            await c.call(stream.read, 10, timeout=0.5)  # longer than the request's own total
        assert caught.value.setting == "timeout"
        assert caught.value.seconds == 0.5
        await c.call(stream.write, b"late", timeout=5.0)
        assert await read_exactly(c, stream, 4) == b"LATE", "a late read leaves the stream as it was"
        await c.close(response)
        assert stream.is_closed

    run_colour(colour, body, read_timeout=0.3)


@pytest.mark.go("UPG-04")
def test_one_direction_can_be_ended(colour, server_factory):
    server = server_factory(shouter)

    async def body(c):
        response = await c.get(server.url, headers=ASK)
        stream = response.stream
        await c.call(stream.write, b"last")
        stream.end_writing()
        assert await read_exactly(c, stream, 12) == b"HELLOLASTBYE"
        assert await c.call(stream.read) == b""
        await c.call(stream.close)

    run_colour(colour, body)


@pytest.mark.go("UPG-04")
def test_tls_cannot_end_one_direction(colour, server_factory, server_ssl_context, client_ssl_context):
    server = server_factory(shouter, tls=server_ssl_context)

    async def body(c):
        response = await c.get(server.url, headers=ASK)
        with pytest.raises(OSError, match="both directions"):
            response.stream.end_writing()
        await c.close(response)

    run_colour(colour, body, ssl_context=client_ssl_context)


def test_the_peer_may_end_first(colour, server_factory):
    """Its end leaves our direction open: on asyncio too, whose loop would close both."""
    got = []

    def handler(conn):
        conn.read_request()
        conn.send(SWITCH)
        conn.half_close()
        got.append(conn.read_to_end())

    server = server_factory(handler)

    async def body(c):
        response = await c.get(server.url, headers=ASK)
        stream = response.stream
        assert await c.call(stream.read) == b""
        await c.call(stream.write, b"after your end")
        await c.call(stream.close)
        await c.wait_until(lambda: got)
        assert got == [b"after your end"]

    run_colour(colour, body)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_one_reads_while_another_writes(colour, secure, server_factory, server_ssl_context, client_ssl_context):
    server = server_factory(shouter, tls=server_ssl_context if secure else None)
    whole = b"x" * 3_000_000

    async def body(c):
        response = await c.get(server.url, headers=ASK)
        stream = response.stream

        async def write():
            await c.call(stream.write, whole)
            return b""

        async def read():
            return await read_exactly(c, stream, 5 + len(whole))

        _, data = await c.gather(write, read)
        assert data == b"HELLO" + whole.upper()
        await c.call(stream.close)

    run_colour(colour, body, ssl_context=client_ssl_context)


def test_both_directions_begin_at_once_with_clocks_of_their_own(server_factory, scaled):
    """A socket's timeout is one for both: what one thread set, or was setting, made the other's call fail."""
    server = server_factory(shouter)

    async def body(c):
        for _ in range(scaled(300, 40)):
            response = await c.get(server.url, headers=ASK)
            stream = response.stream

            async def write(stream=stream):
                for _ in range(20):
                    await c.call(stream.write, b"y" * 20_000)
                return b""

            async def read(stream=stream):
                data = b""
                while len(data) < 5 + 20 * 20_000:
                    data += await c.call(stream.read, 65_536, timeout=10.0)
                return data

            _, data = await c.gather(write, read)
            assert data == b"HELLO" + b"Y" * 400_000
            await c.call(stream.close)

    run_colour("threads", body)


def test_closing_the_transport_wakes_who_reads(colour, server_factory):
    server = server_factory(shouter)

    async def body(c):
        response = await c.get(server.url, headers=ASK)
        stream = response.stream
        await read_exactly(c, stream, 5)

        async def read():
            with pytest.raises(pt.TransportClosed):
                await c.call(stream.read)

        reader = await c.start(read)
        await c.sleep(0.05)  # in the read or not, it ends the same
        await c.close_transport()
        await c.wait(reader)

    run_colour(colour, body)


def test_a_dropped_stream_is_a_leak(colour, server_factory, monkeypatch):
    server = server_factory(shouter)
    told = []

    async def body(c):
        response = await c.get(server.url, headers=ASK)
        stream = response.stream
        assert stream is not None
        del response
        gc.collect()
        assert c.transport.stats().leaks == 0, "the stream is in use"
        del stream
        gc.collect()
        await c.wait_until(lambda: c.transport.stats().leaks == 1)
        await c.wait_until(lambda: c.transport.stats().open == 0)
        assert len(told) == 1

    run_colour(colour, body, trace=pt.ClientTrace(leaked=told.append), max_conns=1)


def test_a_slot_is_held_until_the_stream_is_closed(colour, server_factory):
    server = server_factory(shouter)

    async def body(c):
        response = await c.get(server.url, headers=ASK)
        with pytest.raises(pt.PoolTimeout):
            await c.get(server.url, timeout=pt.Timeout(acquire=0.1))
        await c.call(response.stream.close)
        assert await c.fetch(server.url) == b"ok"

    run_colour(colour, body, max_conns_per_host=1)


@pytest.mark.go("KA-06")
def test_keep_alives_off_do_not_take_the_connection_field(colour, server_factory):
    server = server_factory(shouter)

    async def body(c):
        response = await c.get(server.url, headers=ASK)
        assert server.log[0].header("connection") == "Upgrade"
        await c.call(response.stream.close)

    run_colour(colour, body, disable_keep_alives=True)


@pytest.mark.go("UPG-02", "UPG-06")
def test_a_websocket_of_a_real_library(colour):
    """The sans-I/O half of websockets speaks over our stream to its own server."""

    def echo(websocket):
        for message in websocket:
            websocket.send(message[::-1])

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with serve(echo, sock=listener) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                run_colour(colour, lambda c: talk(c, port))
            finally:
                server.shutdown()
                thread.join()


async def talk(c, port):
    protocol = ClientProtocol(parse_uri(f"ws://127.0.0.1:{port}/chat"))
    asked = protocol.connect()
    response = await c.get(f"http://127.0.0.1:{port}/chat", headers=list(asked.headers.raw_items()))
    assert response.status_code == 101
    stream = response.stream
    protocol.send_request(asked)
    protocol.data_to_send()  # the request, which has gone out by us
    lines = "".join(f"{name}: {value}\r\n" for name, value in response.headers.multi_items())
    protocol.receive_data(f"HTTP/1.1 101 Switching Protocols\r\n{lines}\r\n".encode())

    async def exchange(*wanted):
        for data in protocol.data_to_send():
            await c.call(stream.write, data)
        events = []
        while len(events) < len(wanted):
            data = await c.call(stream.read)
            assert data
            protocol.receive_data(data)
            events += [event for event in protocol.events_received() if getattr(event, "opcode", None) is not None]
        assert [(event.opcode, event.data) for event in events] == list(wanted)

    protocol.events_received()
    for text in (b"hello", b"x" * 100_000):
        protocol.send_text(text)
        await exchange((Opcode.TEXT, text[::-1]))
    protocol.send_close(1000)
    for data in protocol.data_to_send():
        await c.call(stream.write, data)
    await c.call(stream.close)
