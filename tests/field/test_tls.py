"""field-pains.md rows 33, 47 and 50, and what else users of TLS meet: certificates, files, ends, alerts."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import os
import socket
import ssl
import threading
import time

import pytest
import trustme

import pooltransport as pt
from pooltransport.engine.engine import Engine
from tests.support.colours import run_colour
from tests.support.field import wait_quiet
from tests.support.lag import Lag
from tests.support.responders import Responder, head, ok
from tests.support.scripts import run_script


def server_context(cert: trustme.LeafCert | trustme.CA, *, wants: trustme.CA | None = None, **fields) -> ssl.SSLContext:
    """Make a server's context; `wants`: whose client certificates it asks for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if isinstance(cert, trustme.CA):
        with cert.private_key_pem.tempfile() as key, cert.cert_pem.tempfile() as file:
            context.load_cert_chain(file, key)
    else:
        cert.configure_cert(context)
    for name, value in fields.items():
        setattr(context, name, value)
    if wants is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        wants.configure_trust(context)
    return context


def trusting(ca: trustme.CA, **fields) -> ssl.SSLContext:
    context = ssl.create_default_context()
    ca.configure_trust(context)
    for name, value in fields.items():
        setattr(context, name, value)
    return context


def refusal(colour: str, url: str, **options) -> pt.TLSError:
    """Ask, and return the error; nothing may be left."""

    async def body(c):
        with pytest.raises(pt.TLSError) as caught:
            await c.get(f"{url}/secret?query")
        stats = await wait_quiet(c)
        assert (stats.open, stats.dials) == (0, 1)
        return caught.value

    error = run_colour(colour, body, **options)
    assert not error.may_have_been_processed
    assert isinstance(error, pt.ConnectError)
    assert str(error).startswith(f"TLS handshake with {url} failed: ")
    assert "secret" not in str(error)
    return error


class TestWhatIsWrongWithACertificate:
    """The same words in every colour."""

    def refuse(self, colour, server_factory, cert, text, *, url="https://127.0.0.1:{}", **options):
        server = server_factory(ok(), tls=server_context(cert))
        error = refusal(colour, url.format(server.port), **options)
        assert text in str(error)
        assert isinstance(error.__cause__, ssl.SSLCertVerificationError)
        assert server.requests == 0

    def test_expired(self, colour, server_factory, tls_ca, client_ssl_context):
        cert = tls_ca.issue_cert("127.0.0.1", not_after=dt.datetime(2021, 2, 3, 4, 5, 6, tzinfo=dt.UTC))
        text = "not accepted: certificate has expired: valid until 2021-02-03 04:05:06 UTC, "
        self.refuse(colour, server_factory, cert, text, ssl_context=client_ssl_context)

    def test_expired_an_hour_ago(self, colour, server_factory, tls_ca, client_ssl_context):
        end = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1, minutes=30)
        cert = tls_ca.issue_cert("127.0.0.1", not_after=end)
        self.refuse(colour, server_factory, cert, "UTC, 1.5 hours ago", ssl_context=client_ssl_context)

    def test_not_yet_valid(self, colour, server_factory, tls_ca, client_ssl_context):
        cert = tls_ca.issue_cert("127.0.0.1", not_before=dt.datetime(2190, 1, 1, tzinfo=dt.UTC))
        text = "certificate is not yet valid: valid from 2190-01-01 00:00:00 UTC, "
        self.refuse(colour, server_factory, cert, text, ssl_context=client_ssl_context)

    def test_another_name(self, colour, server_factory, tls_ca, client_ssl_context):
        cert = tls_ca.issue_cert("a.example", "*.b.example", "192.0.2.7")
        names = "'127.0.0.1'; it is for 'a.example', '*.b.example', '192.0.2.7'"
        self.refuse(colour, server_factory, cert, names, ssl_context=client_ssl_context)
        text = "Hostname mismatch, certificate is not valid for 'localhost'; it is for 'a.example'"
        url = "https://localhost:{}"
        self.refuse(colour, server_factory, cert, text, url=url, ssl_context=client_ssl_context)

    def test_many_names(self, colour, server_factory, tls_ca, client_ssl_context):
        cert = tls_ca.issue_cert(*[f"n{number}.example" for number in range(30)])
        self.refuse(colour, server_factory, cert, "'n4.example' and 25 more", ssl_context=client_ssl_context)

    def test_an_unknown_authority(self, colour, server_factory, client_ssl_context):
        cert = trustme.CA(organization_name="Elsewhere").issue_cert("127.0.0.1")
        text = "it was issued by 'Elsewhere, Testing CA"
        self.refuse(colour, server_factory, cert, text, ssl_context=client_ssl_context)

    def test_an_authority_that_was_not_sent(self, colour, server_factory, tls_ca, client_ssl_context):
        cert = tls_ca.create_child_ca().issue_cert("127.0.0.1")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with cert.private_key_pem.tempfile() as key, cert.cert_chain_pems[0].tempfile() as file:
            context.load_cert_chain(file, key)
        server = server_factory(ok(), tls=context)
        error = refusal(colour, server.url, ssl_context=client_ssl_context)
        assert "a server must send those between it and one of them" in str(error)

    def test_it_vouches_for_itself(self, colour, server_factory, client_ssl_context):
        alone = trustme.CA(organization_name="Alone")
        self.refuse(colour, server_factory, alone, "'Alone, Testing CA", ssl_context=client_ssl_context)
        self.refuse(colour, server_factory, alone, "vouches for itself", ssl_context=client_ssl_context)

    def test_the_hook_is_told_once(self, colour, server_factory, tls_ca, client_ssl_context):
        server = server_factory(ok(), tls=server_context(tls_ca.issue_cert("other.example")))
        told = []
        trace = pt.ClientTrace(
            tls_handshake_start=lambda info: told.append(info.server_hostname),
            tls_handshake_done=lambda info: told.append(type(info.error)),
        )
        refusal(colour, server.url, ssl_context=client_ssl_context, trace=trace)
        assert told == ["127.0.0.1", ssl.SSLCertVerificationError]


class TestWhatIsWrongWithTheServer:
    def test_it_speaks_plain_http(self, colour, server_factory, client_ssl_context):
        def handler(conn):
            conn.sock.recv(1)
            conn.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            conn.read_to_end()

        server = server_factory(handler)
        error = refusal(colour, f"https://127.0.0.1:{server.port}", ssl_context=client_ssl_context)
        assert "the server does not speak TLS on this port" in str(error)
        assert "is it an http:// address?" in str(error)

    def test_it_ends_the_connection(self, colour, server_factory, client_ssl_context):
        server = server_factory(lambda conn: conn.close())
        error = refusal(colour, f"https://127.0.0.1:{server.port}", ssl_context=client_ssl_context)
        assert "the server closed the connection during the handshake" in str(error)

    def test_it_resets_the_connection(self, colour, server_factory, client_ssl_context):
        def handler(conn):
            conn.sock.recv(1)
            conn.reset()

        server = server_factory(handler)
        error = refusal(colour, f"https://127.0.0.1:{server.port}", ssl_context=client_ssl_context)
        assert "the server closed the connection during the handshake" in str(error)

    def test_it_is_too_old(self, colour, server_factory, server_cert, tls_ca):
        server = server_factory(ok(), tls=server_context(server_cert, maximum_version=ssl.TLSVersion.TLSv1_2))
        context = trusting(tls_ca, minimum_version=ssl.TLSVersion.TLSv1_3)
        assert "no version of TLS that both sides accept" in str(refusal(colour, server.url, ssl_context=context))

    def test_it_chose_http2(self, colour, server_factory, server_ssl_context, tls_ca, server_cert):
        tls = server_context(server_cert)
        tls.set_alpn_protocols(["h2", "http/1.1"])
        server = server_factory(ok(), tls=tls)
        context = trusting(tls_ca)
        context.set_alpn_protocols(["h2", "http/1.1"])
        assert "the server chose 'h2', which ssl_context= offers" in str(
            refusal(colour, server.url, ssl_context=context)
        )

    def test_ours_offers_http_1_1_only(self, colour, server_factory, server_cert, tls_ca, tmp_path):
        tls_ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        tls = server_context(server_cert)
        tls.set_alpn_protocols(["h2", "http/1.1"])
        server = server_factory(ok(), tls=tls)

        async def body(c):
            response = await c.get(server.url)
            assert await c.read(response) == b"hello"
            assert response.conn.tls.alpn == "http/1.1"

        run_colour(colour, body, ca_file=tmp_path / "ca.pem")


class TestClientCertificates:
    """In TLS 1.3 the server's no comes after the handshake, instead of the first answer."""

    @pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
    def mutual(self, request, server_factory, server_cert, tls_ca, tmp_path):
        """Give a server that wants a certificate and answers with its serial number."""

        @Responder
        def respond(conn, asked):
            serial = conn.sock.getpeercert()["serialNumber"].encode()
            conn.send(head(length=len(serial)) + serial)

        tls_ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        tls = server_context(server_cert, wants=tls_ca, maximum_version=request.param)
        server = server_factory(respond, tls=tls)
        server.version = request.param
        return server

    @pytest.mark.parametrize("pieces", [1, 2])
    def test_one_is_shown(self, colour, mutual, tls_ca, tmp_path, pieces):
        cert = tls_ca.issue_cert("client@example.org")
        cert.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
        paths = tmp_path / "both.pem"

        async def body(c):
            serial = f"{int(await c.fetch(mutual.url), 16):X}"
            assert serial == f"{_serial(cert):X}"

        run_colour(colour, body, ca_file=tmp_path / "ca.pem", client_cert=paths if pieces == 1 else (paths, paths))

    @pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
    def refusing(self, request, server_factory, server_cert, tls_ca, tmp_path):
        """Give a server that says no and reads on: no reset overtakes its alert."""
        tls_ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        context = server_context(server_cert, wants=tls_ca, maximum_version=request.param)

        def handler(conn):
            # The plain socket stays the server's, to be closed and looked at.
            with context.wrap_socket(conn.sock.dup(), server_side=True, do_handshake_on_connect=False) as wrapped:
                with pytest.raises(ssl.SSLError):
                    wrapped.do_handshake()
            conn.read_to_end()

        server = server_factory(handler)
        server.version = request.param
        return server

    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_none_is_shown(self, colour, refusing, tmp_path, method):
        content = b"x" * 300_000 if method == "POST" else None

        async def body(c):
            for _ in range(5):
                with pytest.raises(pt.TLSError, match="client_cert=") as caught:
                    await c.request(method, f"https://127.0.0.1:{refusing.port}", content=content)
                assert not caught.value.may_have_been_processed
                if refusing.version is ssl.TLSVersion.TLSv1_3:
                    assert "the server wants a client certificate, and none was shown" in str(caught.value)
            assert (await wait_quiet(c)).open == 0
            assert c.transport.stats().retries == 0

        run_colour(colour, body, ca_file=tmp_path / "ca.pem")

    def test_the_alert_is_heard_before_anything_is_written(
        self, colour, server_factory, server_cert, tls_ca, client_ssl_context
    ):
        """The server says no and is gone: what is written then is answered by a reset."""
        context = server_context(server_cert, wants=tls_ca)
        gone = threading.Event()

        def handler(conn):
            with context.wrap_socket(conn.sock.dup(), server_side=True, do_handshake_on_connect=False) as wrapped:
                with pytest.raises(ssl.SSLError):
                    wrapped.do_handshake()
            conn.close()
            gone.set()

        server = server_factory(handler)

        def wait(info):
            assert gone.wait(5)  # on a loop too: it gets no turn between the handshake and the request

        async def body(c):
            for _ in range(10):
                gone.clear()
                with pytest.raises(pt.TLSError, match="wants a client certificate"):
                    await c.request("POST", f"https://127.0.0.1:{server.port}", content=b"x" * 200_000)

        run_colour(colour, body, ssl_context=client_ssl_context, trace=pt.ClientTrace(got_conn=wait))

    def test_a_reset_may_overtake_the_alert(self, colour, server_factory, server_ssl_context, client_ssl_context):
        """Then the text has a guess."""

        def handler(conn):
            conn.read_head()
            conn.reset()

        server = server_factory(handler, tls=server_ssl_context)

        async def body(c):
            with pytest.raises(pt.ServerClosedConnection, match=r"wants a client certificate \(client_cert=\)"):
                await c.get(server.url)

        run_colour(colour, body, ssl_context=client_ssl_context)

    def test_one_by_another_authority(self, colour, refusing, tmp_path):
        cert = trustme.CA().issue_cert("client@example.org")
        cert.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
        options = {"ca_file": tmp_path / "ca.pem", "client_cert": tmp_path / "both.pem"}
        error = refusal(colour, f"https://127.0.0.1:{refusing.port}", **options)
        assert "the server does not accept the client certificate: it does not know who signed it" in str(error)

    def test_a_password(self, colour, mutual, tls_ca, tmp_path):
        from cryptography.hazmat.primitives import serialization as s

        cert = tls_ca.issue_cert("client@example.org")
        key = s.load_pem_private_key(cert.private_key_pem.bytes(), None)
        locked = key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(b"secret"))
        (tmp_path / "key.pem").write_bytes(locked)
        cert.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))

        async def body(c):
            for password, right in (("secret", True), ("wrong", False)):
                files = (tmp_path / "cert.pem", tmp_path / "key.pem", password)
                transport = c.make_transport(ca_file=tmp_path / "ca.pem", client_cert=files)
                if right:
                    response = await c.request("GET", mutual.url, transport=transport)
                    await c.read(response)
                else:
                    with pytest.raises(pt.ConfigError, match="or the password does not open it") as caught:
                        await c.request("GET", mutual.url, transport=transport)
                    assert str(tmp_path / "key.pem") in str(caught.value)
                    assert password not in str(caught.value)
                    assert transport.stats().dialing == 0
                await c.close_transport(transport)

        run_colour(colour, body)

    def test_a_key_of_another(self, colour, mutual, tls_ca, tmp_path):
        one, other = tls_ca.issue_cert("a@example.org"), tls_ca.issue_cert("b@example.org")
        one.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
        other.private_key_pem.write_to_path(str(tmp_path / "key.pem"))

        async def body(c):
            with pytest.raises(pt.ConfigError, match="the private key belongs to another certificate"):
                await c.get(mutual.url)

        run_colour(colour, body, client_cert=(tmp_path / "cert.pem", tmp_path / "key.pem"))


def _serial(cert: trustme.LeafCert) -> int:
    from cryptography import x509

    return x509.load_pem_x509_certificate(cert.cert_chain_pems[0].bytes()).serial_number


class TestFilesThatChange:
    """Contract 5.7: new dials use the new ones, older idle connections are retired."""

    def replace(self, path, blob: trustme.Blob) -> None:
        """As tools do it: write beside it, and rename."""
        blob.write_to_path(f"{path}.new")
        os.replace(f"{path}.new", path)

    def test_authorities(self, colour, server_factory, tmp_path):
        path = tmp_path / "ca.pem"
        old, new = trustme.CA(), trustme.CA()
        servers = [server_factory(ok(), tls=server_context(ca.issue_cert("127.0.0.1"))) for ca in (old, new)]
        old.cert_pem.write_to_path(str(path))

        async def body(c):
            assert await c.fetch(servers[0].url) == b"hello"
            with pytest.raises(pt.TLSError, match="which is not trusted here"):
                await c.fetch(servers[1].url)
            assert c.transport.stats().idle == 1
            self.replace(path, new.cert_pem)
            # Nothing is asked of the transport: the housekeeper finds it out.
            await c.wait_until(lambda: c.transport.stats().idle == 0)
            assert c.transport.stats().closed["trust_changed"] == 1
            assert await c.fetch(servers[1].url) == b"hello"
            with pytest.raises(pt.TLSError, match="which is not trusted here"):
                await c.fetch(servers[0].url)

        run_colour(colour, body, ca_file=path)

    def test_a_dial_finds_it_too(self, colour, server_factory, tmp_path):
        """What is in use stays so, and is not used again."""
        path = tmp_path / "ca.pem"
        ca = trustme.CA()
        server = server_factory(ok(b"x" * 300_000), tls=server_context(ca.issue_cert("127.0.0.1")))
        ca.cert_pem.write_to_path(str(path))

        async def body(c):
            reading = await c.get(server.url)
            assert await c.fetch(server.url) == b"x" * 300_000
            self.replace(path, ca.cert_pem)
            held = await c.get(server.url)  # the idle one
            third = await c.get(server.url)  # dials, and notices
            assert [r.conn.reused for r in (reading, held, third)] == [False, True, False]
            for response in (reading, held):
                assert await c.read(response) == b"x" * 300_000
            assert c.transport.stats().idle == 0
            assert c.transport.stats().closed["trust_changed"] == 2
            await c.read(third)
            assert c.transport.stats().idle == 1

        run_colour(colour, body, ca_file=path)

    def test_a_client_certificate(self, colour, server_factory, server_cert, tls_ca, tmp_path):
        @Responder
        def respond(conn, asked):
            serial = conn.sock.getpeercert()["serialNumber"].encode()
            conn.send(head(length=len(serial)) + serial)

        server = server_factory(respond, tls=server_context(server_cert, wants=tls_ca))
        tls_ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        path = tmp_path / "client.pem"

        async def body(c):
            seen = []
            for _ in range(3):
                cert = tls_ca.issue_cert("client@example.org")
                self.replace(path, cert.private_key_and_cert_chain_pem)
                transport = transports[0] if transports else c.make_transport(**options)
                transports[:] = [transport]
                await c.wait_until(lambda transport=transport: transport.stats().idle == 0)
                for _ in range(2):
                    response = await c.request("GET", server.url, transport=transport)
                    seen.append(int(await c.read(response), 16))
                assert seen[-2:] == [_serial(cert)] * 2
            await c.close_transport(transports[0])

        transports: list = []
        options = {"ca_file": tmp_path / "ca.pem", "client_cert": path}
        run_colour(colour, body)
        assert server.accepted == 3

    def test_half_of_it_is_there(self, colour, server_factory, server_cert, tls_ca, tmp_path, caplog):
        """Certificate and key are replaced one after the other: what was loaded last stays in force."""
        server = server_factory(ok(), tls=server_context(server_cert, wants=tls_ca))
        tls_ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
        old, new = tls_ca.issue_cert("a@example.org"), tls_ca.issue_cert("a@example.org")
        self.replace(cert, old.cert_chain_pems[0])
        self.replace(key, old.private_key_pem)

        async def body(c):
            assert await c.fetch(server.url) == b"hello"
            self.replace(cert, new.cert_chain_pems[0])
            with caplog.at_level(logging.WARNING, "pooltransport.config"):
                for _ in range(3):
                    c.transport.close_idle_connections()
                    assert await c.fetch(server.url) == b"hello"
                (record,) = caplog.records
                assert "those read before stay in force: client_cert: " in record.getMessage()
                assert "the private key belongs to another certificate" in record.getMessage()
            self.replace(key, new.private_key_pem)
            await c.wait_until(lambda: c.transport.stats().idle == 0)
            assert await c.fetch(server.url) == b"hello"
            assert len(caplog.records) == 1

        run_colour(colour, body, ca_file=tmp_path / "ca.pem", client_cert=(cert, key))

    def test_it_costs_one_look(self, server_factory, server_cert, tls_ca, tmp_path):
        """A warm request asks nothing of the file system."""
        server = server_factory(ok(), tls=server_context(server_cert))
        tls_ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        looks = []
        original = os.stat

        def counting(path, *args, **named):
            if str(path) == str(tmp_path / "ca.pem"):
                looks.append(path)
            return original(path, *args, **named)

        with pytest.MonkeyPatch.context() as patch, pt.Transport(ca_file=tmp_path / "ca.pem") as transport:
            patch.setattr(os, "stat", counting)
            began = time.monotonic()
            for _ in range(500):
                transport.round_trip(pt.Request("GET", server.url)).read()
            seconds = time.monotonic() - began
            assert 1 <= len(looks) <= 2 + seconds


class TestWhoIsTrustedByDefault:
    """SSL_CERT_FILE and SSL_CERT_DIR, as Go reads them."""

    @pytest.fixture
    def server(self, server_factory, server_ssl_context, monkeypatch):
        for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
            monkeypatch.delenv(name, raising=False)
        return server_factory(ok(), tls=server_ssl_context)

    def ask(self, server):
        with pt.Transport() as transport:
            return transport.round_trip(pt.Request("GET", server.url)).read()

    def test_a_file(self, server, tls_ca, tmp_path, monkeypatch):
        tls_ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        assert self.ask(server) == b"hello"
        trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "other.pem"))
        with pytest.raises(pt.TLSError, match="not trusted here"):
            self.ask(server)

    def test_directories(self, server, tls_ca, tmp_path, monkeypatch):
        """Every file of each counts, whatever its name; what is no certificate is skipped."""
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "README").write_text("no certificate")
            (tmp_path / name / "deeper").mkdir()
        monkeypatch.setenv("SSL_CERT_DIR", f"{tmp_path}/one:{tmp_path}/missing:{tmp_path}/two")
        with pytest.raises(pt.ConfigError, match="SSL_CERT_DIR: no certificate of an authority could be read"):
            self.ask(server)
        tls_ca.cert_pem.write_to_path(str(tmp_path / "two" / "any name"))
        assert self.ask(server) == b"hello"

    def test_a_missing_file_is_said(self, server, tls_ca, tmp_path, monkeypatch):
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone.pem"))
        with pytest.raises(pt.ConfigError, match="SSL_CERT_FILE: no certificate .*gone.pem.*No such file"):
            self.ask(server)
        # With a directory that has some, Go goes on without a word, and so do we.
        tls_ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
        assert self.ask(server) == b"hello"

    def test_an_empty_value_is_none(self, server, monkeypatch):
        monkeypatch.setenv("SSL_CERT_FILE", "")
        monkeypatch.setenv("SSL_CERT_DIR", "")
        with pytest.raises(pt.TLSError, match="not trusted here"):
            self.ask(server)

    def test_ca_file_is_stronger(self, server, tls_ca, tmp_path, monkeypatch):
        tls_ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone.pem"))
        with pt.Transport(ca_file=tmp_path / "ca.pem") as transport:
            assert transport.round_trip(pt.Request("GET", server.url)).read() == b"hello"

    def test_an_authority_in_between_is_enough(self, colour, server_factory, tls_ca, tmp_path):
        """What is in the file is trusted, as in Go, though its own issuer is not."""
        between = tls_ca.create_child_ca()
        between.cert_pem.write_to_path(str(tmp_path / "between.pem"))
        server = server_factory(ok(), tls=server_context(between.issue_cert("127.0.0.1")))

        async def body(c):
            assert await c.fetch(server.url) == b"hello"

        run_colour(colour, body, ca_file=tmp_path / "between.pem")

    def test_the_systems_store(self, colour, server, tls_ca, tmp_path, monkeypatch):
        import truststore  # noqa: F401 - or it would be refused, in words of its own

        tls_ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))  # OpenSSL's store is moved by it

        async def body(c):
            assert await c.fetch(server.url) == b"hello"

        run_colour(colour, body, ssl_context="truststore")


class Untouchable(ssl.SSLContext):
    """A context that cannot be changed once it is `closed`."""

    closed = False

    def __setattr__(self, name, value):
        assert not self.closed, f"{name} was set"
        super().__setattr__(name, value)

    def _refuse(self, *args, **named):
        raise AssertionError("a context of the user's was altered")


def test_a_context_of_yours_is_never_altered(colour, server_factory, server_ssl_context, tls_ca):
    context = Untouchable(ssl.PROTOCOL_TLS_CLIENT)
    tls_ca.configure_trust(context)
    for name in ("set_alpn_protocols", "load_verify_locations", "load_cert_chain", "set_ciphers", "load_default_certs"):
        setattr(context, name, context._refuse)
    context.closed = True
    server = server_factory(ok(), tls=server_ssl_context)

    async def body(c):
        response = await c.get(server.url)
        assert await c.read(response) == b"hello"
        assert response.conn.tls.alpn is None

    run_colour(colour, body, ssl_context=context)


class TestAnEndWithoutCloseNotify:
    """RFC 9112 section 9.8: a body that only the end of the connection delimits may have been cut off."""

    def make(self, server_factory, server_ssl_context, data: bytes, *, announced: bool):
        def handler(conn):
            conn.read_request()
            conn.send(data)
            if announced:
                with contextlib.suppress(OSError):
                    conn.sock.unwrap()

        return server_factory(handler, tls=server_ssl_context)

    UNTIL_CLOSE = head() + b"hello"

    def test_cuts_off(self, colour, server_factory, server_ssl_context, client_ssl_context):
        server = self.make(server_factory, server_ssl_context, self.UNTIL_CLOSE, announced=False)

        async def body(c):
            response = await c.get(server.url)
            with pytest.raises(pt.IncompleteBody, match="after 5 bytes it may have been cut off") as caught:
                await c.read(response)
            assert caught.value.bytes_read == 5
            assert (await wait_quiet(c)).open == 0

        run_colour(colour, body, ssl_context=client_ssl_context)

    def test_on_uvloop(self, server_factory, server_ssl_context, client_ssl_context):
        """It tells of no end at all before the connection is lost."""
        self.test_cuts_off("uvloop", server_factory, server_ssl_context, client_ssl_context)
        self.test_an_announced_end_does_not("uvloop", server_factory, server_ssl_context, client_ssl_context)

    def test_an_announced_end_does_not(self, colour, server_factory, server_ssl_context, client_ssl_context):
        server = self.make(server_factory, server_ssl_context, self.UNTIL_CLOSE, announced=True)

        async def body(c):
            assert await c.fetch(server.url) == b"hello"

        run_colour(colour, body, ssl_context=client_ssl_context)

    @pytest.mark.parametrize(
        "data",
        [
            head(length=5) + b"hello",
            head("200 OK", ("Transfer-Encoding", "chunked")) + b"5\r\nhello\r\n0\r\n\r\n",
            head("200 OK", ("Connection", "close"), length=5) + b"hello",
        ],
        ids=["length", "chunked", "close"],
    )
    def test_does_not_matter_where_the_end_is_known(
        self, colour, data, server_factory, server_ssl_context, client_ssl_context
    ):
        server = self.make(server_factory, server_ssl_context, data, announced=False)

        async def body(c):
            assert await c.fetch(server.url) == b"hello"

        run_colour(colour, body, ssl_context=client_ssl_context)

    def test_without_tls_it_is_the_end(self, colour, server_factory):
        server = self.make(server_factory, None, self.UNTIL_CLOSE, announced=False)

        async def body(c):
            assert await c.fetch(server.url) == b"hello"

        run_colour(colour, body)

    def test_a_context_may_say_that_it_is_one(self, colour, server_factory, server_ssl_context, tls_ca):
        context = trusting(tls_ca)
        context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
        server = self.make(server_factory, server_ssl_context, self.UNTIL_CLOSE, announced=False)

        async def body(c):
            assert await c.fetch(server.url) == b"hello"

        run_colour(colour, body, ssl_context=context)


class TestHandshakesThatDoNotEnd:
    def test_its_own_clock(self, colour, server_factory, client_ssl_context):
        server = server_factory(lambda conn: conn.read_to_end())

        async def body(c):
            with Lag() as lag, pytest.raises(pt.TLSHandshakeTimeout) as caught:
                await c.get(f"https://127.0.0.1:{server.port}")
            assert lag.within(0.3, 0.1)
            assert (caught.value.phase, caught.value.setting, caught.value.seconds) == (
                "tls",
                "tls_handshake_timeout",
                0.3,
            )
            assert (await wait_quiet(c)).open == 0
            await c.wait_until(lambda: server.open == 0)

        run_colour(colour, body, tls_handshake_timeout=0.3, ssl_context=client_ssl_context)

    def test_nobody_accepts(self, colour, server_factory, client_ssl_context):
        """The kernel took the connection; the program behind it never does."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"https://127.0.0.1:{listener.getsockname()[1]}"

            async def body(c):
                with Lag() as lag:
                    with pytest.raises(pt.TLSHandshakeTimeout, match=r"tls\)"):
                        await c.get(url, timeout=pt.Timeout(tls=0.2))
                    with pytest.raises(pt.TransportTimeout):
                        await c.get(url, timeout=0.2)
                assert lag.within(0.4, 0.15)

            run_colour(colour, body, ssl_context=client_ssl_context, tls_handshake_timeout=1.0)

    def test_cancelled_inside(self, loop_colour, server_factory, client_ssl_context):
        server = server_factory(lambda conn: conn.read_to_end())

        async def body(c):
            asking = await c.start(lambda: c.get(f"https://127.0.0.1:{server.port}"))
            await c.wait_until(lambda: server.accepted == 1)
            asking.cancel()
            await c.wait_until(lambda: asking.done)
            # The dial goes on for whoever comes next, and ends by its own clock.
            await c.wait_until(lambda: server.open == 0)
            stats = await wait_quiet(c)
            assert (stats.open, stats.dial_errors) == (0, 1)

        run_colour(loop_colour, body, tls_handshake_timeout=0.2, ssl_context=client_ssl_context)

    def test_closing_the_transport_ends_them(self, colour, server_factory, client_ssl_context):
        server = server_factory(lambda conn: conn.read_to_end())

        async def body(c):
            transport = c.make_transport(ssl_context=client_ssl_context)
            url = f"https://127.0.0.1:{server.port}"
            asking = await c.start(lambda: c.request("GET", url, transport=transport))
            await c.wait_until(lambda: server.accepted == 1)
            began = time.monotonic()
            await c.close_transport(transport)
            with pytest.raises(pt.TransportClosed):
                await c.wait(asking)
            await c.wait_until(lambda: server.open == 0)
            assert time.monotonic() - began < 0.5

        run_colour(colour, body)

    def test_one_holds_up_no_other(self, colour, server_factory, server_ssl_context, tls_ca):
        """A context of truststore's is locked while it shakes hands: not for as long as a dead server likes."""
        import truststore

        context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        with tls_ca.cert_pem.tempfile() as path:
            context.load_verify_locations(path)
        dead = server_factory(lambda conn: conn.read_to_end())
        alive = server_factory(ok(), tls=server_ssl_context)

        async def body(c):
            stuck = await c.start(lambda: c.get(f"https://127.0.0.1:{dead.port}"))
            await c.wait_until(lambda: dead.accepted == 1)
            began = time.monotonic()
            assert await c.fetch(alive.url) == b"hello"
            assert time.monotonic() - began < 1.0
            with pytest.raises(pt.TLSHandshakeTimeout):
                await c.wait(stuck)

        run_colour(colour, body, ssl_context=context, tls_handshake_timeout=2.0)


class TestAnIdleEnd:
    def test_close_notify_without_fin(self, colour, server_factory, server_ssl_context, client_ssl_context):
        """The connection stays open below: only TLS says that it is over. It is never handed out again."""
        go, over = threading.Event(), threading.Event()

        def handler(conn):
            conn.read_request()
            conn.send(head(length=5) + b"hello")
            if conn.number > 1:
                conn.read_to_end()
                return
            conn.wait_for(go)
            conn.sock.setblocking(False)
            with contextlib.suppress(OSError):
                conn.sock.unwrap()  # sends ours, and does not wait for theirs
            over.set()
            conn.wait_for(threading.Event())

        server = server_factory(handler, tls=server_ssl_context)

        async def body(c):
            assert await c.fetch(server.url) == b"hello"
            go.set()
            assert over.wait(5)  # also on a loop: it has no turn in which it could be told
            response = await c.request("POST", server.url, content=b"x")
            assert await c.read(response) == b"hello"
            assert not response.conn.reused
            assert c.transport.stats().retries == 0
            assert c.transport.stats().closed["server_closed_idle"] == 1

        run_colour(colour, body, ssl_context=client_ssl_context)


class TestRow33ClosingWaitsForNobody:
    """Peers that never answer a close_notify, nor read anything behind the first request."""

    @pytest.fixture
    def go(self):
        return threading.Event()

    @pytest.fixture
    def server(self, server_factory, server_ssl_context, go):
        def handler(conn):
            size = 10 if conn.read_request().target == "/idle" else 10**9
            conn.send(head(length=size) + b"hello")
            conn.wait_for(go)
            conn.send(b"world")
            conn.wait_for(threading.Event())

        return server_factory(handler, tls=server_ssl_context)

    def test_row_33_fifty_are_closed_within_the_grace(self, colour, server, go, client_ssl_context):
        async def body(c):
            transport = c.make_transport(ssl_context=client_ssl_context)
            pages = ["/idle", "/busy"] * 25
            held = [await c.request("GET", f"{server.url}{page}", transport=transport) for page in pages]
            go.set()
            for response in held[::2]:
                assert await c.read(response) == b"helloworld"
            assert (transport.stats().idle, transport.stats().active) == (25, 25)
            with Lag() as lag:
                await c.close_transport(transport, 0.1)
            assert lag.within(0.1, 0.1)
            assert transport.stats().open == 0
            for response in held:
                await c.close(response)

        run_colour(colour, body)

    def test_row_33_releasing_a_bad_one(self, colour, server, client_ssl_context):
        async def body(c):
            spent = []
            for _ in range(11):
                response = await c.get(f"{server.url}/busy")
                began = time.monotonic()
                await c.close(response)
                spent.append(time.monotonic() - began)
            assert sorted(spent)[5] < 0.005
            assert (await wait_quiet(c)).closed["drain_limit"] == 11

        run_colour(colour, body, ssl_context=client_ssl_context)


class TestRow47ContextsAreShared:
    SCRIPT = """
        import ssl, sys
        import pooltransport as pt

        made = []
        original = ssl.SSLContext.__new__
        def counting(cls, *args, **kwargs):
            made.append(cls)
            return original(cls, *args, **kwargs)
        ssl.SSLContext.__new__ = staticmethod(counting)

        url, ca, cert = sys.argv[1:]
        for options in ({}, {"ca_file": ca}, {"client_cert": cert}, {"ca_file": ca, "client_cert": cert}):
            before = len(made)
            for number in range(10):
                with pt.Transport(**options) as transport:
                    assert len(made) == before + (number > 0)
                    assert transport.round_trip(pt.Request("GET", url)).read() == b"hello"
            assert len(made) == before + 1, (options, len(made) - before)
        """

    def test_row_47_equal_settings_make_one(self, server_factory, server_ssl_context, tls_ca, tmp_path):
        server = server_factory(ok(), tls=server_ssl_context)
        ca, cert = tmp_path / "ca.pem", tmp_path / "client.pem"
        tls_ca.cert_pem.write_to_path(str(ca))
        tls_ca.issue_cert("client@example.org").private_key_and_cert_chain_pem.write_to_path(str(cert))
        run_script(tmp_path / "app.py", self.SCRIPT, server.url, ca, cert, env={"SSL_CERT_FILE": str(ca)})


class TestRow50WhatTellsConnectionsApart:
    """Engines with different settings never make equal keys; with equal ones they always do."""

    @pytest.fixture
    def settings(self, tls_ca, tmp_path):
        """Give settings that all differ in what a connection may be used for."""
        paths = [tmp_path / name for name in ("a.pem", "b.pem")]
        for path in paths:
            tls_ca.cert_pem.write_to_path(str(path))
        certs = [tmp_path / name for name in ("c.pem", "d.pem")]
        for path in certs:
            tls_ca.issue_cert("client@example.org").private_key_and_cert_chain_pem.write_to_path(str(path))
        contexts = [ssl.create_default_context() for _ in range(2)]
        return [
            {},
            *({"ssl_context": context} for context in contexts),
            *({"ca_file": path} for path in paths),
            *({"client_cert": path} for path in certs),
            {"client_cert": (certs[0], certs[1])},
            {"ca_file": paths[0], "client_cert": certs[0]},
            {"ca_file": paths[1], "client_cert": certs[0]},
            {"server_hostname": "a.example"},
            {"server_hostname": "b.example"},
            {"server_hostname": "a.example", "ca_file": paths[0]},
            {"server_hostname": "a.example", "ssl_context": contexts[0]},
            {"uds": "/run/a.sock"},
            {"uds": "/run/b.sock"},
            {"uds": "/run/a.sock", "server_hostname": "a.example"},
            {"local_address": "127.0.0.1"},
            {"local_address": "127.0.0.2"},
            {"local_address": ("127.0.0.1", 40_000)},
            {"local_address": "127.0.0.1", "ca_file": paths[0]},
        ]

    RUNTIME = object()

    def parts(self, options, url="https://host.example/"):
        engine = Engine(pt.TransportOptions(**options), "off")
        key = engine.key_for(pt.Request("GET", url), self.RUNTIME)
        assert engine.key_for(pt.Request("POST", f"{url}path?query"), self.RUNTIME) is key
        return key.parts

    def test_row_50_all_pairs(self, settings):
        for number, options in enumerate(settings):
            assert self.parts(options) == self.parts(options)
            for other in settings[number + 1 :]:
                assert self.parts(options) != self.parts(other), (options, other)

    def test_row_50_the_way_is_told_apart_without_tls_too(self, settings):
        url = "http://host.example/"
        ways = [options for options in settings if {"uds", "local_address"} & set(options)]
        ways = [options for options in ways if not {"ca_file", "server_hostname"} & set(options)]
        for number, options in enumerate(ways):
            for other in ways[number + 1 :]:
                assert self.parts(options, url) != self.parts(other, url), (options, other)

    @pytest.mark.parametrize(
        "url",
        ["https://other.example/", "https://host.example:444/", "http://host.example/", "http://host.example:443/"],
    )
    def test_row_50_another_origin(self, settings, url):
        for options in settings:
            assert self.parts(options) != self.parts(options, url)

    def test_row_50_a_password_is_no_part(self, settings, tls_ca, tmp_path):
        path = str(settings[5]["client_cert"])
        assert "secret" not in repr(self.parts({"client_cert": (path, path, "secret")}))
