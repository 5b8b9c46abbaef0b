"""Rows TLS of Go's behaviour. What else there is to say of TLS: tests/field/test_tls.py."""

from __future__ import annotations

import socket
import ssl

import pytest

import pooltransport as pt
from tests.support.colours import run_colour
from tests.support.responders import Responder, head, ok


def named_server(server_factory, ca, *names: str):
    """Make a server for `names`; return it, and the list of the names that clients asked for."""
    asked: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*names).configure_cert(context)
    context.sni_callback = lambda _sock, name, _context: asked.append(name)
    return server_factory(ok(), tls=context), asked


def here(host: str, port: int):
    return ["127.0.0.1"]


@pytest.mark.go("TLS-01")
def test_the_name_is_the_urls_host(colour, server_factory, tls_ca, client_ssl_context):
    """Without port, and whatever the Host field says."""
    server, asked = named_server(server_factory, tls_ca, "site.example")

    async def body(c):
        url = f"https://site.example:{server.port}"
        assert await c.fetch(url) == b"hello"
        assert await c.fetch(url, headers={"Host": "other.example"}) == b"hello"
        with pytest.raises(pt.TLSError, match=r"not valid for 'other\.example'"):
            await c.get(f"https://other.example:{server.port}", headers={"Host": "site.example"})

    run_colour(colour, body, ssl_context=client_ssl_context, resolver=here)
    assert set(asked) == {"site.example", "other.example"}


@pytest.mark.go("TLS-01")
def test_or_the_options(colour, server_factory, tls_ca, client_ssl_context):
    server, asked = named_server(server_factory, tls_ca, "inner.example")

    async def body(c):
        assert await c.fetch(f"https://site.example:{server.port}") == b"hello"
        wrong = c.make_transport(ssl_context=client_ssl_context, resolver=here, server_hostname="third.example")
        with pytest.raises(pt.TLSError, match=r"not valid for 'third\.example'; it is for 'inner\.example'"):
            await c.request("GET", f"https://inner.example:{server.port}", transport=wrong)
        await c.close_transport(wrong)

    run_colour(colour, body, ssl_context=client_ssl_context, resolver=here, server_hostname="inner.example")
    assert asked[0] == "inner.example"


@pytest.mark.go("TLS-02")
def test_a_response_knows_its_tls(colour, server_factory, server_ssl_context, client_ssl_context):
    secure, plain = server_factory(ok(), tls=server_ssl_context), server_factory(ok())

    async def body(c):
        first = await c.get(secure.url)
        await c.read(first)
        second = await c.get(secure.url)
        assert first.conn.tls.version == "TLSv1.3"
        assert first.conn.tls.cipher.startswith("TLS_")
        assert first.conn.tls.server_hostname == "127.0.0.1"
        assert second.conn.tls is first.conn.tls
        assert (await c.get(plain.url)).conn.tls is None

    run_colour(colour, body, ssl_context=client_ssl_context)


@pytest.mark.go("TLS-03")
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nhello",
        b"HTTP/1.1 301 Moved\r\nLocation: /\r\n\r\n",
    ],
)
def test_plain_http_on_a_tls_port_is_told(colour, server_factory, client_ssl_context, answer):
    def handler(conn):
        conn.sock.recv(1)
        conn.send(answer)
        conn.read_to_end()

    server = server_factory(handler)

    async def body(c):
        with pytest.raises(pt.TLSError, match="does not speak TLS on this port .*; is it an http:// address"):
            await c.get(f"https://127.0.0.1:{server.port}")

    run_colour(colour, body, ssl_context=client_ssl_context)


@pytest.mark.go("TLS-04")
def test_a_certificate_that_is_not_accepted(colour, server_factory, tls_ca, client_ssl_context):
    server, _ = named_server(server_factory, tls_ca, "site.example")
    told = []
    trace = pt.ClientTrace(
        tls_handshake_start=lambda info: told.append(("start", info.server_hostname)),
        tls_handshake_done=lambda info: told.append(("done", type(info.error))),
        got_conn=lambda info: told.append(("got", info)),
    )

    async def body(c):
        with pytest.raises(pt.TLSError):
            await c.get(f"https://127.0.0.1:{server.port}")

    run_colour(colour, body, ssl_context=client_ssl_context, trace=trace)
    assert told == [("start", "127.0.0.1"), ("done", ssl.SSLCertVerificationError)]
    assert server.requests == 0


@pytest.mark.go("TLS-05")
def test_a_dial_of_ones_own_makes_the_socket_below(colour, server_factory, server_ssl_context, client_ssl_context):
    """It makes the connection; the handshake on it stays ours, so that what is verified stays known."""
    server = server_factory(ok(), tls=server_ssl_context)
    wishes = []

    def dial(wish):
        wishes.append((wish.host, wish.port, wish.purpose))
        return socket.create_connection(("127.0.0.1", server.port))

    async def body(c):
        response = await c.get("https://localhost:443/")
        assert await c.read(response) == b"hello"
        assert response.conn.tls.server_hostname == "localhost"

    run_colour(colour, body, ssl_context=client_ssl_context, dial=dial)
    assert wishes == [("localhost", 443, "origin")]


@pytest.mark.go("TLS-07")
def test_http_1_1_is_what_alpn_offers(colour, server_factory, server_cert, tls_ca, tmp_path):
    """Also before an upgrade. (Go offers nothing then.)"""
    tls_ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_cert.configure_cert(context)
    context.set_alpn_protocols(["h2", "http/1.1"])

    @Responder
    def respond(conn, request):
        chosen = str(conn.sock.selected_alpn_protocol()).encode()
        conn.send(head(length=len(chosen)) + chosen)

    server = server_factory(respond, tls=context)

    async def body(c):
        assert await c.fetch(server.url) == b"http/1.1"
        headers = {"Connection": "Upgrade", "Upgrade": "websocket"}
        assert await c.fetch(server.url, headers=headers) == b"http/1.1"

    run_colour(colour, body, ca_file=tmp_path / "ca.pem")
