"""TLS against a real nginx: large bodies, what was agreed on, and certificates that are not accepted."""

from __future__ import annotations

import random
import ssl

import pytest
import trustme

import pooltransport as pt
from tests.support.colours import run_colour
from tests.support.responders import echo

pytestmark = pytest.mark.peers

SIZE = 1_000_000


@pytest.fixture
def other_host(server_factory, tls_ca):
    """Give the root of a server on loopback whose certificate is for another name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls_ca.issue_cert("other.example").configure_cert(context)
    return server_factory(echo, tls=context)


def test_bodies_of_a_megabyte_both_ways(nginx, colour, server_factory, server_ssl_context, client_ssl_context):
    data = random.Random(12).randbytes(SIZE)
    (nginx.prefix / "html" / "bytes" / "random-1M").write_bytes(data)
    server = server_factory(echo, tls=server_ssl_context)

    async def body(c):
        for _ in range(3):
            assert await c.fetch(f"{nginx.https_url}/bytes/random-1M") == data
            response = await c.request("POST", server.url, content=data)
            assert await c.read(response) == data
        assert c.transport.stats().dials == 2

    run_colour(colour, body, ssl_context=client_ssl_context)


def test_a_megabyte_both_ways_at_once(colour, server_factory, server_ssl_context, client_ssl_context):
    """Several connections at a time, each with a body of its own."""
    server = server_factory(echo, tls=server_ssl_context)

    async def body(c):
        async def work(number: int):
            data = random.Random(number).randbytes(SIZE)
            response = await c.request("POST", server.url, content=data)
            assert await c.read(response) == data

        await c.gather(*[lambda number=number: work(number) for number in range(8)])

    run_colour(colour, body, max_conns_per_host=4, ssl_context=client_ssl_context)


def test_what_was_agreed_on(nginx, colour, client_ssl_context):
    async def body(c):
        for path in ("/", "/"):
            response = await c.get(f"{nginx.https_url}{path}")
            assert await c.read(response) == b"hello"
            assert response.conn.tls.version == "TLSv1.3"
            assert response.conn.tls.cipher
            assert response.conn.remote_addr == f"127.0.0.1:{nginx.tls_port}"

    run_colour(colour, body, ssl_context=client_ssl_context)


def test_a_tls_1_2_server(colour, server_factory, server_cert, client_ssl_context):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    server_cert.configure_cert(context)
    server = server_factory(echo, tls=context)

    async def body(c):
        for number in range(3):
            response = await c.request("POST", server.url, content=b"x" * 100_000)
            assert await c.read(response) == b"x" * 100_000
            assert response.conn.reused is (number > 0)
            assert response.conn.tls.version == "TLSv1.2"

    run_colour(colour, body, ssl_context=client_ssl_context)


class TestRefused:
    """The text names the host and port and says what is wrong with the certificate; nothing was sent."""

    def refuse(self, colour: str, url: str, *texts: str, **options) -> pt.TLSError:
        async def body(c):
            with pytest.raises(pt.TLSError) as caught:
                await c.get(f"{url}/secret?query")
            await c.wait_until(lambda: c.transport.stats().open + c.transport.stats().dialing == 0)
            assert c.transport.stats().dial_errors == 1
            return caught.value

        error = run_colour(colour, body, **options)
        for text in (url.removeprefix("https://"), *texts):
            assert text in str(error)
        assert "secret" not in str(error)
        assert not error.may_have_been_processed
        assert isinstance(error, pt.ConnectError)
        return error

    def test_a_wrong_host(self, colour, other_host, client_ssl_context):
        error = self.refuse(
            colour,
            other_host.url,
            "the certificate is not accepted",
            "IP address mismatch",
            "127.0.0.1",
            ssl_context=client_ssl_context,
        )
        assert isinstance(error.__cause__, ssl.SSLCertVerificationError)
        assert other_host.requests == 0

    def test_a_wrong_name(self, colour, other_host, client_ssl_context):
        url = f"https://localhost:{other_host.port}"
        self.refuse(colour, url, "Hostname mismatch", "'localhost'", ssl_context=client_ssl_context)
        assert other_host.requests == 0

    def test_an_unknown_authority(self, nginx, colour):
        error = self.refuse(
            colour,
            nginx.https_url,
            "the certificate is not accepted",
            "unable to get local issuer certificate",
        )
        assert isinstance(error.__cause__, ssl.SSLCertVerificationError)

    def test_another_authority(self, nginx, colour):
        context = ssl.create_default_context()
        trustme.CA().configure_trust(context)
        self.refuse(colour, nginx.https_url, "the certificate is not accepted", ssl_context=context)

    def test_a_server_that_speaks_no_tls(self, nginx, colour, client_ssl_context):
        self.refuse(colour, f"https://127.0.0.1:{nginx.port}", "TLS handshake", ssl_context=client_ssl_context)

    def test_the_next_request_works(self, nginx, colour, other_host, client_ssl_context):
        async def body(c):
            for _ in range(10):
                with pytest.raises(pt.TLSError):
                    await c.get(other_host.url)
            assert await c.fetch(f"{nginx.https_url}/") == b"hello"
            stats = c.transport.stats()
            assert (stats.open, stats.dialing, stats.dial_errors, stats.waiting) == (1, 0, 10, 0)

        run_colour(colour, body, max_conns=2, max_conns_per_host=1, ssl_context=client_ssl_context)


def test_http_to_the_tls_port_is_an_answer(nginx, colour):
    """nginx says in plain text that it wanted TLS."""

    async def body(c):
        response = await c.get(f"http://127.0.0.1:{nginx.tls_port}/")
        assert response.status_code == 400
        assert b"plain HTTP request was sent to HTTPS port" in await c.read(response)

    run_colour(colour, body)
