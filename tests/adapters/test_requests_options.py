"""What `HTTPAdapter` takes: transports, timeouts, options; and what a call says that differs."""

from __future__ import annotations

import threading

import pytest
import requests
from urllib3 import Timeout as Urllib3Timeout

import pooltransport as pt
from pooltransport.adapters.requests import HTTPAdapter
from tests.support.requests_kit import session_over
from tests.support.responders import Responder, head, ok, raw, stall


class TestTheLayersBelow:
    def test_limits_hooks_and_statistics_are_the_transports(self, server_factory):
        told = []
        server = server_factory(ok())
        trace = pt.ClientTrace(put_idle_conn=told.append)
        with pt.Transport(max_conns_per_host=1, trace=trace) as transport, session_over(transport) as session:
            assert session.adapter.transport is transport
            session.get(server.url)
            assert told == [None]
            assert (transport.stats().idle, transport.stats().dials) == (1, 1)
            held = session.get(server.url, stream=True)
            with pytest.raises(requests.ConnectTimeout) as caught:
                session.get(server.url, timeout=0.05)
            assert isinstance(caught.value.__cause__, pt.PoolTimeout)
            held.close()
            session.close()
            assert transport.round_trip(pt.Request("GET", server.url)).read() == b"hello"  # borrowed: still open

    def test_a_trace_of_the_block(self, server_factory):
        told = []
        server = server_factory(ok())
        with session_over() as session, pt.client_trace(pt.ClientTrace(got_conn=told.append)):
            session.get(server.url)
        assert len(told) == 1

    def test_without_anything_the_default_transport_is_borrowed(self, server_factory):
        server = server_factory(ok())
        before = pt.default_transport()
        with pt.Transport() as mine:
            pt.set_default_transport(mine)
            try:
                for _ in range(20):  # the guide's cause 3
                    with requests.Session() as session:
                        session.mount("http://", adapter := HTTPAdapter())
                        session.get(server.url)
                        assert adapter.transport is mine
            finally:
                pt.set_default_transport(before)
        assert server.accepted == 1

    def test_any_round_tripper(self, server_factory):
        class Counting:
            def __init__(self, inner):
                self.inner, self.count = inner, 0

            def round_trip(self, request):
                self.count += 1
                return self.inner.round_trip(request)

            def close(self):
                raise AssertionError("it is borrowed")

        server = server_factory(ok())
        with pt.Transport() as transport, session_over(Counting(transport)) as session:
            assert session.get(server.url).content == b"hello"
            assert session.adapter.transport.count == 1
            with pytest.raises(ValueError, match=r"proxies= of a call cannot be told to a Counting"):
                session.get(server.url, proxies={"http": "http://127.0.0.1:1"})

    def test_an_upgrade_ends_and_has_no_body(self, server_factory):
        @Responder
        def upgrade(conn, request):
            conn.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
            conn.read_to_end()

        server = server_factory(upgrade)
        with session_over() as session:
            response = session.get(server.url, headers={"Upgrade": "x", "Connection": "Upgrade"})
            assert (response.status_code, response.content) == (101, b"")
            assert session.adapter.transport.stats().active == 0


class TestSafety:
    def test_addresses_are_judged_below_requests_redirects_too(self, server_factory):
        inside = server_factory(ok())
        outside = server_factory(raw(head("302 Found", ("Location", inside.url), length=0)))
        with session_over(allow_address=lambda address: address.port == outside.port) as session:
            with pytest.raises(requests.ConnectionError, match="PT-ADDRESS-REFUSED"):
                session.get(outside.url)
        assert (outside.requests, inside.accepted) == (1, 0)

    def test_and_not_by_way_of_a_proxy_of_the_call(self, server_factory):
        proxy = server_factory(ok())
        with session_over(allow_address=pt.public_only) as session:
            with pytest.raises(requests.ConnectionError, match="PT-ADDRESS-REFUSED") as caught:
                session.get("http://example.com", proxies={"http": proxy.url})
        assert not isinstance(caught.value, requests.exceptions.ProxyError)
        assert proxy.accepted == 0

    def test_https_only(self, server_factory):
        server = server_factory(ok())
        with session_over(https_only=True) as session, pytest.raises(requests.RequestException, match="https"):
            session.get(server.url)
        assert server.accepted == 0


class TestTimeouts:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            (None, {}),
            (2, {"connect": 2, "acquire": 2, "response_header": 2, "read": 2, "write": 2}),
            ((1, 2), {"connect": 1, "acquire": 1, "response_header": 2, "read": 2, "write": 2}),
            ((1, None), {"connect": 1, "acquire": 1, "response_header": None, "read": None, "write": None}),
            (
                Urllib3Timeout(connect=5, read=1, total=3),
                {"connect": 3, "acquire": 3, "response_header": 1, "read": 1, "write": 1},
            ),
            (Urllib3Timeout(connect=5), {"connect": 5, "acquire": 5}),
            (pt.Timeout(7, read=1), {"total": 7, "read": 1}),
        ],
    )
    def test_as_requests_gives_them(self, given, expected, server_factory):
        seen = []

        class Seeing:
            def round_trip(self, request):
                seen.append(request.timeout)
                raise pt.ConnectError("enough")

            close = None

            def __getattribute__(self, name):
                return (lambda: None) if name == "close" else object.__getattribute__(self, name)

        with session_over(Seeing()) as session, pytest.raises(requests.ConnectionError, match="enough"):
            session.get("http://example.com", timeout=given)
        assert seen == [pt.Timeout(**expected)]

    @pytest.mark.parametrize("given", ["foo", (1, 2, 3), -1, 0, True])
    def test_nonsense(self, given):
        with session_over() as session, pytest.raises(ValueError, match=r"timeout|Timeout"):
            session.get("http://127.0.0.1:1", timeout=given)

    def test_a_wait_of_the_transports_own_stands(self, server_factory):
        server = server_factory(ok())
        with session_over(max_conns_per_host=1, acquire_timeout=0.02) as session:
            held = session.get(server.url, stream=True)
            with pytest.raises(requests.ConnectTimeout, match=r"within 0\.02 s"):
                session.get(server.url, timeout=30)
            held.close()

    def test_our_total_bounds_everything(self, server_factory):
        server = server_factory(stall(threading.Event()))
        with session_over() as session, pytest.raises(requests.ConnectionError, match=r"did not end within 0\.1 s"):
            session.get(server.url, timeout=pt.Timeout(0.1))


class TestOptions:
    def test_what_is_wrong_is_said_at_once(self):
        with pytest.raises(pt.ConfigError, match="max_conns_per_host"):
            HTTPAdapter(max_conns_per_host=-1)
        with pytest.raises(pt.ConfigError, match=r"pool_maxsize: is urllib3's; say max_conns_per_host="):
            HTTPAdapter(pool_maxsize=10)
        with pytest.raises(pt.ConfigError, match="must be a Transport, not dict"):
            HTTPAdapter({})
        with pt.Transport() as transport, pytest.raises(pt.ConfigError, match="name: belong to the transport"):
            HTTPAdapter(transport, name="x")

    def test_one_that_makes_nothing_of_an_answer_gives_the_slot_back(self, server_factory):
        class Broken(HTTPAdapter):
            def build_response(self, request, raw):
                raise LookupError("mine")

        server = server_factory(ok(b"x" * 100_000))
        with requests.Session() as session:
            session.trust_env = False
            session.mount("http://", adapter := Broken(max_conns_per_host=1))
            for _ in range(2):
                with pytest.raises(LookupError, match="mine"):
                    session.get(server.url, timeout=5)
            stats = adapter.transport.stats()
            assert (stats.active, stats.leaks) == (0, 0)
