"""The scripted server, the leak check and nginx do what the other tests rely on."""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl
import threading

import pytest
import trio

from tests.support import responders
from tests.support.leaks import find_leaks, snapshot
from tests.support.nginx import Nginx
from tests.support.responders import Responder, ok
from tests.support.server import ScriptedServer


def connect(server: ScriptedServer) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(server.host, server.port, timeout=5)


def get(conn: http.client.HTTPConnection, path: str = "/", method: str = "GET", **fields) -> bytes:
    conn.request(method, path, **fields)
    return conn.getresponse().read()


@pytest.fixture
def ask():
    """Ask a server on one connection that is closed after the test."""
    conns = []

    def start(server: ScriptedServer) -> http.client.HTTPConnection:
        conns.append(connect(server))
        return conns[-1]

    yield start
    for conn in conns:
        conn.close()


class TestServer:
    def test_keeps_a_connection_and_counts(self, server_factory, ask):
        server = server_factory(ok(b"hi"))
        conn = ask(server)
        assert [get(conn), get(conn)] == [b"hi", b"hi"]
        other = ask(server)
        get(other)
        assert (server.accepted, server.requests, server.open, server.peak) == (2, 3, 2, 2)
        assert [request.conn for request in server.log] == [1, 1, 2]

    def test_a_connection_that_its_client_closed_is_not_counted_in_the_peak(self, server_factory, ask):
        never = threading.Event()

        def handler(conn):
            conn.wait_for(never)  # reads nothing, so does not see the end

        server = server_factory(handler)
        for number in range(1, 4):
            socket.create_connection((server.host, server.port)).close()
            server.wait_for_accepted(number)
            server.wait_for_open(0)
        assert server.peak <= 1

    def test_reads_both_kinds_of_body(self, server_factory, ask):
        server = server_factory(responders.echo)
        conn = ask(server)
        assert get(conn, method="POST", body=b"x" * 100_000) == b"x" * 100_000
        assert get(conn, method="POST", body=iter([b"ab", b"cd"]), headers={"A": "1"}, encode_chunked=True) == b"abcd"
        assert server.log[1].header("a") == "1"
        assert server.log[1].body == b"abcd"

    def test_continues_where_asked_to(self, server_factory):
        server = server_factory(responders.echo)
        with socket.create_connection((server.host, server.port), timeout=5) as sock:
            sock.sendall(b"PUT / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
            assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            sock.sendall(b"ok")
            assert sock.recv(1000).startswith(b"HTTP/1.1 200 OK")

    @pytest.mark.parametrize(
        ("responder", "expected"),
        [
            (ok(b"hello"), b"hello"),
            (responders.big(300_000), b"x" * 300_000),
            (responders.chunked(b"ab", b"c", trailers=[("X-Sum", "1")]), b"abc"),
            (responders.until_close(b"end"), b"end"),
            (responders.drip(b"drip", 0.001), b"drip"),
            (responders.routes({"/": ok(b"root")}), b"root"),
            (responders.routes({"/other": ok()}), b"not found"),
            (responders.in_turn(ok(b"first"), ok(b"then")), b"first"),
        ],
    )
    def test_ready_responders(self, server_factory, ask, responder, expected):
        assert get(ask(server_factory(responder))) == expected

    def test_head_has_no_body(self, server_factory, ask):
        conn = ask(server_factory(ok(b"hello")))
        assert get(conn, method="HEAD") == b""
        assert get(conn) == b"hello"

    def test_slow_waits_for_the_event(self, server_factory, ask):
        event = threading.Event()
        server = server_factory(responders.slow(event))
        conn = ask(server)
        conn.request("GET", "/")
        server.wait_for_requests(1)
        event.set()
        assert conn.getresponse().read() == b"hello"

    def test_stall_sends_the_rest_after_the_event(self, server_factory, ask):
        event = threading.Event()
        conn = ask(server_factory(responders.stall(event, b"hello", sent=2)))
        conn.request("GET", "/")
        response = conn.getresponse()
        assert response.read(2) == b"he"
        event.set()
        assert response.read() == b"llo"

    def test_close_after(self, server_factory, ask):
        server = server_factory(responders.close_after(2))
        conn = ask(server)
        assert [get(conn), get(conn)] == [b"hello", b"hello"]
        with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
            get(conn)
        server.wait_for_open(0)

    def test_no_response_close(self, server_factory, ask):
        with pytest.raises(http.client.RemoteDisconnected):
            get(ask(server_factory(responders.no_response_close)))

    def test_reset(self, server_factory, ask):
        with pytest.raises(ConnectionResetError):
            get(ask(server_factory(responders.no_response_reset)))

    def test_half_close_still_reads(self, server_factory):
        got = []

        def handler(conn):
            conn.half_close()
            got.append(conn.read_to_end())

        server = server_factory(handler)
        with socket.create_connection((server.host, server.port), timeout=5) as sock:
            assert sock.recv(10) == b""
            sock.sendall(b"late")
        server.wait_until(lambda: got == [b"late"])

    def test_tls(self, server_factory, server_ssl_context, client_ssl_context):
        server = server_factory(ok(), tls=server_ssl_context)
        assert server.url.startswith("https://127.0.0.1:")
        conn = http.client.HTTPSConnection(server.host, server.port, timeout=5, context=client_ssl_context)
        assert get(conn) == b"hello"
        conn.close()

    def test_a_failed_handshake_is_written_down(self, server_factory, server_ssl_context):
        server = server_factory(ok(), tls=server_ssl_context)
        conn = http.client.HTTPSConnection(server.host, server.port, timeout=5)
        with pytest.raises(ssl.SSLCertVerificationError):
            conn.connect()
        server.wait_until(lambda: len(server.handshake_errors) == 1)

    def test_does_not_let_a_body_stop_its_loop(self, server_factory):
        server = server_factory(ok())

        async def body():
            server.wait_for_requests(1)

        for run in (lambda: asyncio.run(body()), lambda: trio.run(body)):
            with pytest.raises(RuntimeError, match=r"use `await c\.wait_until"):
                run()

    def test_unix_socket(self, server_factory, tmp_path):
        server = server_factory(ok(), uds=str(tmp_path / "s"))
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(server.uds)
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert sock.recv(1000).endswith(b"hello")

    def test_stops_while_a_client_is_connected_and_a_handler_waits(self):
        server = ScriptedServer(responders.slow(threading.Event()))
        with socket.create_connection((server.host, server.port)) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            server.wait_for_requests(1)
            server.stop()
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("scripted-")]

    def test_an_error_in_a_handler_fails_the_test(self):
        @Responder
        def broken(conn, request):
            raise ValueError("a mistake in the test")

        server = ScriptedServer(broken)
        conn = connect(server)
        with pytest.raises(http.client.RemoteDisconnected):
            get(conn)
        conn.close()
        with pytest.raises(BaseExceptionGroup) as caught:
            server.stop()
        assert caught.group_contains(ValueError, match="a mistake in the test")


class TestLeakCheck:
    def test_sees_a_socket_and_its_end(self, monkeypatch):
        monkeypatch.setattr("tests.support.leaks.PATIENCE", 0.05)
        before = snapshot()
        with socket.socket() as sock:
            assert find_leaks(before) == [f"socket with descriptor {sock.fileno()}"]
            assert find_leaks(before, frozenset({"sockets"})) == []
        assert find_leaks(before) == []

    def test_sees_a_reused_descriptor(self, monkeypatch):
        monkeypatch.setattr("tests.support.leaks.PATIENCE", 0.05)
        first = socket.socket()
        number = first.fileno()
        before = snapshot()
        first.close()
        with socket.socket() as second:
            assert second.fileno() == number
            assert find_leaks(before) == [f"socket with descriptor {number}"]

    @pytest.mark.parametrize(("name", "daemon"), [("anything", False), ("pooltransport-keeper", True)])
    def test_sees_a_thread(self, monkeypatch, name, daemon):
        monkeypatch.setattr("tests.support.leaks.PATIENCE", 0.05)
        end = threading.Event()
        before = snapshot()
        thread = threading.Thread(target=end.wait, name=name, daemon=daemon)
        thread.start()
        assert find_leaks(before) == [f"thread {name!r}"]
        end.set()
        thread.join()
        assert find_leaks(before) == []


@pytest.mark.peers
class TestNginx:
    def test_serves_over_both_schemes_and_counts(self, nginx: Nginx, client_ssl_context):
        accepted = nginx.accepted()
        nginx.wait_for_active(0)
        plain = http.client.HTTPConnection("127.0.0.1", nginx.port, timeout=5)
        secure = http.client.HTTPSConnection("127.0.0.1", nginx.tls_port, timeout=5, context=client_ssl_context)
        with nginx.sampling() as peak:
            assert get(plain, "/?support") == get(secure, "/?support") == b"hello"
            assert len(get(plain, "/bytes/200k?support")) == 200_000
            assert len(get(secure, "/big?support")) == 10_000_000
            assert nginx.active_connections() == 2
            seen = peak.samples
            while peak.samples < seen + 2:
                plain.request("GET", "/?support-more")
                plain.getresponse().read()
        plain.close()
        secure.close()
        nginx.wait_for_active(0)
        assert (peak.value, nginx.accepted() - accepted) == (2, 2)
        log = nginx.wait_for_log(4, "support")
        assert len({line.connection for line in log}) == 2
        assert {line.scheme for line in log} == {"http", "https"}

    @pytest.mark.parametrize("path", ["/post", "/close", "/gzip"])
    def test_other_places(self, nginx: Nginx, path):
        conn = http.client.HTTPConnection("127.0.0.1", nginx.port, timeout=5)
        conn.request("POST" if path == "/post" else "GET", path, body=b"x" * 100_000 if path == "/post" else None)
        response = conn.getresponse()
        assert response.status == 200
        assert response.read()
        conn.close()

    def test_says_how_to_install_it(self, tmp_path, monkeypatch):
        monkeypatch.setattr("shutil.which", lambda *args, **kwargs: None)
        with pytest.raises(RuntimeError, match="apt-get install nginx"):
            Nginx(tmp_path)
