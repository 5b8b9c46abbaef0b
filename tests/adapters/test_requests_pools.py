"""`verify`, `cert` and `proxies` of calls: what goes through the one transport, and what needs another."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import threading
import warnings

import pytest
import requests
from urllib3.exceptions import InsecureRequestWarning

import pooltransport as pt
from pooltransport.adapters.requests import HTTPAdapter, Refused
from tests.support.proxies import HttpProxy, SocksProxy
from tests.support.requests_kit import session_over
from tests.support.responders import head, in_turn, ok, raw, stall


@pytest.fixture
def ca_file(tls_ca, tmp_path):
    path = tmp_path / "ca.pem"
    tls_ca.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def client_files(tls_ca, tmp_path):
    leaf = tls_ca.issue_cert("client.example")
    cert, key, both = tmp_path / "client.pem", tmp_path / "client.key", tmp_path / "both.pem"
    leaf.cert_chain_pems[0].write_to_path(str(cert))
    leaf.private_key_pem.write_to_path(str(key))
    leaf.private_key_and_cert_chain_pem.write_to_path(str(both))
    return str(cert), str(key), str(both)


@pytest.fixture
def no_proxies_here(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


class TestVerify:
    def test_a_bundle_of_the_call(self, server_factory, server_ssl_context, ca_file):
        server = server_factory(ok(), tls=server_ssl_context)
        with session_over(max_conns_per_host=3, name="mine") as session:
            for _ in range(3):
                assert session.get(server.url, verify=ca_file).content == b"hello"
            (other,) = session.adapter.other_transports
            assert (other.options.max_conns_per_host, other.options.name) == (3, "mine")
            assert (other.stats().idle, session.adapter.transport.stats().dials) == (1, 0)
            with pytest.raises(requests.exceptions.SSLError):
                session.get(server.url)  # whom one call trusts is not what the next one trusts
        assert server.accepted == 2
        server.wait_for_open(0)

    def test_of_the_environment(self, server_factory, server_ssl_context, ca_file, monkeypatch):
        server = server_factory(ok(), tls=server_ssl_context)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", ca_file)
        with session_over() as session:
            session.trust_env = True
            assert session.get(server.url).content == b"hello"

    def test_not_at_all(self, server_factory, server_ssl_context):
        server = server_factory(ok(), tls=server_ssl_context)
        with session_over() as session, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert session.get(server.url, verify=False).content == b"hello"
            session.get(server.url, verify=False)
            # What requests warns of, and nothing more: who has silenced that is not to be told in other words.
            assert {found.category for found in caught} == {InsecureRequestWarning}
            assert "127.0.0.1" in str(caught[0].message)
            with pytest.raises(requests.exceptions.SSLError):
                session.get(server.url)
        assert server.accepted == 2

    def test_a_wrong_name_is_refused(self, server_factory, tls_ca, ca_file):
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls_ca.issue_cert("other.example").configure_cert(context)
        server = server_factory(ok(), tls=context)
        with session_over() as session, pytest.raises(requests.exceptions.SSLError, match="other"):
            session.get(server.url, verify=ca_file)

    def test_a_directory(self, server_factory, server_ssl_context, tls_ca, tmp_path):
        import subprocess

        tls_ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        name = subprocess.run(
            ["openssl", "x509", "-hash", "-noout", "-in", "ca.pem"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        (tmp_path / "ca.pem").rename(tmp_path / f"{name}.0")
        server = server_factory(ok(), tls=server_ssl_context)
        with session_over() as session:
            assert session.get(server.url, verify=str(tmp_path)).content == b"hello"

    def test_a_file_that_is_not_there(self, server_factory, server_ssl_context, tmp_path):
        with session_over() as session:
            with pytest.raises(OSError, match="Could not find a suitable TLS CA certificate bundle, invalid path"):
                session.get("https://127.0.0.1:1", verify=str(tmp_path / "none.pem"))
            with pytest.raises(OSError, match="Could not find the TLS key file"):
                session.get("https://127.0.0.1:1", cert=(__file__, str(tmp_path / "none.key")))
            with pytest.raises(requests.ConnectionError):  # of plain http nothing of that matters
                session.get("http://127.0.0.1:1", verify=str(tmp_path / "none.pem"))
            assert session.adapter.other_transports == ()

    def test_a_context_of_the_transports_is_kept_and_never_altered(
        self, server_factory, server_ssl_context, client_ssl_context, client_files
    ):
        server = server_factory(ok(), tls=server_ssl_context)
        with session_over(ssl_context=client_ssl_context) as session:
            assert session.get(server.url).content == b"hello"
            assert session.adapter.other_transports == ()
            with pytest.raises(Refused, match="call the load_cert_chain"):
                session.get(server.url, cert=client_files[2])
        assert client_ssl_context.verify_mode.name == "CERT_REQUIRED"


class TestClientCertificates:
    @pytest.fixture
    def asking(self, server_factory, server_cert, tls_ca):
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.maximum_version = ssl.TLSVersion.TLSv1_2  # a refusal comes within the handshake
        server_cert.configure_cert(context)
        tls_ca.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
        return server_factory(ok(), tls=context)

    @pytest.mark.parametrize("which", ["two files", "one file"])
    @pytest.mark.parametrize("verified", [True, False])
    @pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
    def test_is_shown(self, which, verified, asking, ca_file, client_files):
        cert = client_files[:2] if which == "two files" else client_files[2]
        with session_over(ca_file=ca_file) as session:
            assert session.get(asking.url, cert=cert, verify=verified).content == b"hello"
            with pytest.raises(requests.exceptions.ConnectionError):
                session.get(asking.url)

    @pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
    def test_the_transports_own_is_kept_where_a_call_only_says_whom_it_trusts(self, asking, ca_file, client_files):
        with session_over(client_cert=client_files[2]) as session:
            assert session.get(asking.url, verify=ca_file).content == b"hello"
            assert session.get(asking.url, verify=False).content == b"hello"


class TestHowManyThereAre:
    @pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
    def test_few_are_kept_and_none_is_closed_under_an_open_response(
        self, server_factory, server_ssl_context, tls_ca, tmp_path
    ):
        event = threading.Event()
        server = server_factory(stall(event), tls=server_ssl_context)
        files = [tmp_path / f"{number}.pem" for number in range(20)]
        for file in files:
            tls_ca.cert_pem.write_to_path(str(file))
        with session_over() as session:
            opened = [session.get(server.url, verify=str(file), stream=True) for file in files]
            assert len(session.adapter.other_transports) == 16
            event.set()
            assert [response.content for response in opened] == [b"hello"] * 20
        server.wait_for_open(0)

    def test_many_threads_share_them(self, server_factory, server_ssl_context, ca_file):
        server = server_factory(ok(), tls=server_ssl_context)
        failed = []
        with session_over(max_conns_per_host=2) as session:

            def work():
                try:
                    for _ in range(5):
                        assert session.get(server.url, verify=ca_file).content == b"hello"
                except BaseException as error:
                    failed.append(error)

            threads = [threading.Thread(target=work) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
            assert failed == []
            assert len(session.adapter.other_transports) == 1
        assert server.peak <= 2


class TestProxies:
    def test_of_calls_share_one_transport(self, server_factory, no_proxies_here):
        origin, handlers = server_factory(ok()), [HttpProxy(), HttpProxy(user="me", password="p w")]
        first, second = (server_factory(handler) for handler in handlers)
        with session_over(max_conns=5) as session:
            for _ in range(2):
                assert session.get(origin.url, proxies={"http": first.url}).content == b"hello"
                place = f"http://me:p%20w@127.0.0.1:{second.port}"
                assert session.get(origin.url, proxies={"http": place}).content == b"hello"
            assert session.get(origin.url).content == b"hello"
            (other,) = session.adapter.other_transports
            assert (other.stats().idle, session.adapter.transport.stats().idle) == (2, 1)
        assert [len(handler.asked) for handler in handlers] == [2, 2]
        assert origin.requests == 5

    def test_credentials_are_sent_once(self, server_factory, no_proxies_here):
        """requests has a header of its own for them, where there was a redirect."""
        answers = in_turn(raw(head("302 Found", ("Location", "/x"), length=0)), ok())
        proxy = server_factory(answers)
        place = f"http://me:secret@127.0.0.1:{proxy.port}"
        with session_over() as session:
            assert session.get("http://origin.example/", proxies={"http": place}).content == b"hello"
        assert [request.target for request in proxy.log] == ["http://origin.example/", "http://origin.example/x"]
        for request in proxy.log:
            assert [value for name, value in request.headers if name == "proxy-authorization"] == ["Basic bWU6c2VjcmV0"]

    def test_a_tunnel_with_its_own_trust(self, server_factory, server_ssl_context, ca_file, no_proxies_here):
        origin, handler = server_factory(ok(), tls=server_ssl_context), HttpProxy()
        proxy = server_factory(handler)
        with session_over() as session:
            answer = session.get(origin.url, proxies={"https": f"127.0.0.1:{proxy.port}"}, verify=ca_file)
            assert answer.content == b"hello"
        assert [request.method for request in handler.asked] == ["CONNECT"]

    def test_socks(self, server_factory, no_proxies_here):
        origin, proxy = server_factory(ok()), server_factory(SocksProxy())
        with session_over() as session:
            assert session.get(origin.url, proxies={"all": f"socks5h://127.0.0.1:{proxy.port}"}).content == b"hello"
        assert proxy.accepted == 1

    def test_of_the_environment_are_the_transports_own_business(self, server_factory, no_proxies_here):
        proxy = server_factory(ok(b"of the proxy"))
        no_proxies_here.setenv("HTTP_PROXY", proxy.url)
        no_proxies_here.setenv("no_proxy", "nowhere.example")

        def resolver(host, port):
            raise OSError("there is no name here")

        with pt.Transport(resolver=resolver) as transport, session_over(transport) as session:
            session.trust_env = True
            assert session.get("http://origin.example/").content == b"of the proxy"
            assert session.adapter.other_transports == ()
            assert transport.stats().idle == 1
            session.trust_env = False  # as requests has it: then there is none
            with pytest.raises(requests.ConnectionError, match=r"origin\.example"):
                session.get("http://origin.example/")
            assert len(session.adapter.other_transports) == 1
        assert [request.target for request in proxy.log] == ["http://origin.example/"]

    def test_of_an_environment_that_came_later(self, server_factory, no_proxies_here):
        origin, handler = server_factory(ok()), HttpProxy()
        proxy = server_factory(handler)
        with session_over() as session:
            session.trust_env = True
            no_proxies_here.setenv("HTTP_PROXY", proxy.url)
            assert session.get(origin.url).content == b"hello"
        assert len(handler.asked) == 1

    def test_an_option_stands_unless_a_call_says_otherwise(self, server_factory, no_proxies_here):
        origin, handlers = server_factory(ok()), [HttpProxy(), HttpProxy()]
        first, second = (server_factory(handler) for handler in handlers)
        with session_over(proxy=first.url) as session:
            session.get(origin.url)
            session.get(origin.url, proxies={"http": first.url})
            assert session.adapter.other_transports == ()
            session.get(origin.url, proxies={"http": second.url})
        assert [len(handler.asked) for handler in handlers] == [2, 1]

    def test_one_that_asks_is_asked(self, server_factory, no_proxies_here):
        origin, handler = server_factory(ok()), HttpProxy()
        proxy = server_factory(handler)
        with session_over(proxy=lambda request: proxy.url) as session:
            session.get(origin.url)
            assert session.adapter.other_transports == ()
        assert len(handler.asked) == 1
        with session_over(proxy=lambda request: "http://127.0.0.1:1") as session:
            with pytest.raises(requests.exceptions.ProxyError):
                session.get(origin.url)

    @pytest.mark.parametrize("place", ["http:/bad:3128", "http://", "ftp://127.0.0.1:1", "http://127.0.0.1:1/path"])
    def test_that_are_none(self, place):
        with session_over() as session, pytest.raises(requests.exceptions.InvalidProxyURL):
            session.get("http://example.com", proxies={"http": place})

    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_that_cannot_be_reached(self, scheme, no_proxies_here):
        with session_over() as session, pytest.raises(requests.exceptions.ProxyError) as caught:
            session.get(f"{scheme}://example.com", proxies={scheme: "http://127.0.0.1:1"})
        assert isinstance(caught.value.__cause__, pt.ConnectError)

    def test_that_refuse(self, server_factory, no_proxies_here):
        proxy = server_factory(HttpProxy(reply=b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"))
        with session_over() as session, pytest.raises(requests.exceptions.ProxyError, match="403"):
            session.get("https://example.com", proxies={"https": proxy.url})

    def test_a_unix_socket_is_the_whole_way(self, server_factory, tmp_path, no_proxies_here):
        server = server_factory(ok(), uds=str(tmp_path / "s"))
        with session_over(uds=server.uds) as session:
            assert session.get("http://any.example", proxies={"http": "http://127.0.0.1:1"}).content == b"hello"


class TestLife:
    def test_of_the_default_transport_is_not_called_so(self, server_factory, no_proxies_here):
        proxy = server_factory(ok())
        with requests.Session() as session:
            session.mount("http://", adapter := HTTPAdapter())
            session.get("http://origin.example", proxies={"http": proxy.url})
            assert adapter.transport is pt.default_transport()
            assert [other.options.name for other in adapter.other_transports] == ["requests"]

    def test_a_default_transport_that_was_replaced(self, server_factory, no_proxies_here):
        origin, handler = server_factory(ok()), HttpProxy()
        proxies = {"http": server_factory(handler).url}
        before = pt.default_transport()
        try:
            with requests.Session() as session:
                session.mount("http://", adapter := HTTPAdapter())
                with pt.Transport(name="first") as first:
                    pt.set_default_transport(first)
                    session.get(origin.url, proxies=proxies)
                    assert [other.options.name for other in adapter.other_transports] == ["first"]
                with pt.Transport(name="second") as second:
                    pt.set_default_transport(second)
                    session.get(origin.url, proxies=proxies)
                    assert [other.options.name for other in adapter.other_transports] == ["second"]
        finally:
            pt.set_default_transport(before)

    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    def test_a_child_process_waits_for_no_thread_of_its_parent(self, server_factory, no_proxies_here):
        proxy = server_factory(ok())
        with session_over() as session:
            with session.adapter._pools._lock:
                child = os.fork()
                if not child:
                    signal.alarm(10)
                    try:
                        answer = session.get("http://origin.example", proxies={"http": proxy.url}).content
                    except BaseException:
                        os._exit(1)
                    os._exit(0 if answer == b"hello" else 2)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    def test_sessions_can_be_pickled(self, server_factory):
        server = server_factory(ok())
        with session_over(max_conns_per_host=2, max_retries=3) as session:
            again = pickle.loads(pickle.dumps(session))
        with again:
            adapter = again.get_adapter("http://")
            assert (adapter.transport.options.max_conns_per_host, adapter.max_retries.total) == (2, 3)
            assert again.get(server.url).content == b"hello"

    def test_but_not_with_a_borrowed_transport(self):
        with pt.Transport() as transport, session_over(transport) as session, pytest.raises(TypeError, match="borrows"):
            pickle.dumps(session.adapter)

    def test_it_says_what_it_is(self):
        with session_over(name="mine") as session:
            assert repr(session.adapter) == "<HTTPAdapter over <Transport 'mine' 0 active, 0 idle, 0 waiting>>"

    @pytest.mark.filterwarnings("always::ResourceWarning")
    def test_a_session_that_nobody_closed_is_said(self, server_factory, recwarn):
        server = server_factory(ok())

        def forget():
            session = requests.Session()
            session.trust_env = False
            session.mount("http://", HTTPAdapter(name="mine"))
            session.get(server.url)

        forget()
        gc.collect()
        server.wait_for_open(0)
        pt.default_transport().stats()  # a safe point
        said = [str(found.message) for found in recwarn.list if found.category is pt.UnclosedTransportWarning]
        assert len(said) == 1
        assert "unclosed Transport with 1 open connections" in said[0]
