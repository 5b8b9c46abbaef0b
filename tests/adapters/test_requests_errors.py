"""Every error of ours becomes one that requests documents, chained, and with our words; a test walks all classes."""

from __future__ import annotations

import pickle
import socket
import threading

import pytest
import requests
from requests import exceptions as theirs

import pooltransport as pt
from pooltransport import errors as ours
from pooltransport.adapters.requests import Refused, WriteTimeout
from tests.support.neighbours import black_hole
from tests.support.requests_kit import session_over
from tests.support.responders import (
    head,
    no_response_close,
    no_response_reset,
    ok,
    raw,
    slow,
    stall,
)

EXPECTED = {
    ours.PoolTimeout: theirs.ConnectTimeout,
    ours.ConnectTimeout: theirs.ConnectTimeout,
    ours.TLSHandshakeTimeout: theirs.ConnectTimeout,
    ours.ResponseHeaderTimeout: theirs.ReadTimeout,
    ours.ReadTimeout: theirs.ReadTimeout,
    ours.WriteTimeout: WriteTimeout,
    ours.TransportTimeout: theirs.Timeout,
    ours.TLSError: theirs.SSLError,
    ours.ProxyError: theirs.ProxyError,
    ours.ConnectError: theirs.ConnectionError,
    ours.DNSError: theirs.ConnectionError,
    ours.AddressRefused: theirs.ConnectionError,
    ours.ReadError: theirs.ConnectionError,
    ours.BodyTooLarge: theirs.ConnectionError,
    ours.ServerClosedConnection: theirs.ConnectionError,
    ours.WriteError: theirs.ConnectionError,
    ours.LocalProtocolError: theirs.ConnectionError,
    ours.RemoteProtocolError: theirs.ConnectionError,
    ours.IncompleteBody: theirs.ConnectionError,
    ours.TransportClosed: theirs.ConnectionError,
    ours.PoolQueueFull: theirs.ConnectionError,
    ours.PoolDeadlock: theirs.ConnectionError,
    ours.LeaseExpired: theirs.ConnectionError,
    ours.TransportError: theirs.ConnectionError,
    ours.InvalidRequest: Refused,
    ours.DecodingError: theirs.ContentDecodingError,
    ours.ConfigError: Refused,
}
# None of these comes out of a transport.
NOT_RAISED = {
    ours.Error,
    ours.HTTPStatusError,
    ours.TooManyRedirects,
    ours.BodyNotRead,
    ours.StreamConsumed,
    ours.NotPooled,
}


def all_errors(root=ours.Error):
    return {root}.union(*(all_errors(kind) for kind in root.__subclasses__() if kind.__module__ == ours.__name__))


class Raising:
    """A transport that only fails."""

    def __init__(self, error):
        self.error = error

    def round_trip(self, request):
        raise self.error

    def close(self):
        pass


class TestTheTree:
    def test_every_class_is_here(self):
        assert all_errors() == set(EXPECTED) | NOT_RAISED

    @pytest.mark.parametrize(
        "kind", sorted(all_errors(), key=lambda kind: kind.__name__), ids=lambda kind: kind.__name__
    )
    def test_each_is_translated_chained_and_says_the_same(self, kind):
        error = kind("what happened, in our words") if kind is not ours.NotPooled else ours.Error("words")
        with session_over(Raising(error)) as session, pytest.raises(theirs.RequestException) as caught:
            session.get("http://example.com/path")
        raised = caught.value
        assert type(raised) is EXPECTED.get(kind, theirs.RequestException)
        assert raised.__cause__ is error
        assert str(raised) == str(error)
        assert raised.request.url == "http://example.com/path"
        if issubclass(kind, ours.TransportTimeout):
            assert isinstance(raised, theirs.Timeout)
        if issubclass(kind, ours.TransportError) and not issubclass(
            kind, (ours.ReadTimeout, ours.ResponseHeaderTimeout)
        ):
            assert kind is ours.TransportTimeout or isinstance(raised, theirs.ConnectionError)

    def test_nothing_sent_and_safe_to_repeat_is_what_requests_calls_so(self):
        for kind, theirs_kind in EXPECTED.items():
            if theirs_kind is theirs.ConnectTimeout:
                assert not kind("x").may_have_been_processed

    def test_what_is_raised_can_be_pickled(self):
        with (
            session_over(Raising(ours.PoolTimeout("words"))) as session,
            pytest.raises(requests.ConnectTimeout) as caught,
        ):
            session.get("http://example.com")
        again = pickle.loads(pickle.dumps(caught.value))
        assert str(again) == "words"

    @pytest.mark.parametrize(
        ("code", "kind"),
        [("PTC111", theirs.InvalidProxyURL), ("PTC112", theirs.SSLError), ("PTC116", theirs.InvalidSchema)],
    )
    def test_what_is_found_wrong_with_options_late(self, code, kind):
        with session_over(Raising(ours.ConfigError("x", code))) as session, pytest.raises(kind):
            session.get("http://example.com")


class TestBeforeTheAnswer:
    def test_refused(self):
        with session_over() as session, pytest.raises(requests.ConnectionError, match="Connection refused"):
            session.get("http://127.0.0.1:1")

    def test_connect_timeout(self):
        bound = socket.socket()
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with black_hole(bound), session_over() as session, pytest.raises(requests.ConnectTimeout, match=r"0\.1 s"):
            session.get(url, timeout=(0.1, 5))

    def test_no_headers(self, server_factory):
        server = server_factory(slow(threading.Event()))
        with (
            session_over() as session,
            pytest.raises(requests.ReadTimeout, match=r"no response headers came within 0\.1 s"),
        ):
            session.get(server.url, timeout=0.1)

    @pytest.mark.parametrize(
        "handler", [no_response_close, no_response_reset, raw(b"nonsense\r\n\r\n", then_close=True)]
    )
    def test_no_answer(self, handler, server_factory):
        server = server_factory(handler)
        with session_over() as session:
            with pytest.raises(requests.ConnectionError) as caught:
                session.post(server.url, data=b"x")
            assert isinstance(caught.value.__cause__, pt.TransportError)
            assert session.adapter.transport.stats().active == 0

    def test_a_certificate_that_nobody_knows(self, server_factory, server_ssl_context):
        server = server_factory(ok(), tls=server_ssl_context)
        with session_over() as session, pytest.raises(requests.exceptions.SSLError) as caught:
            session.get(server.url)
        assert isinstance(caught.value.__cause__, pt.TLSError)
        assert server.requests == 0

    def test_an_exhausted_pool_names_the_line(self, server_factory):
        server = server_factory(ok())
        with session_over(max_conns_per_host=1) as session:
            held = session.get(server.url, stream=True)  # the line that is named
            with pytest.raises(requests.ConnectTimeout) as caught:
                session.get(server.url, timeout=0.1)
            held.close()
        assert "1 of 1 in use" in str(caught.value)
        assert "test_requests_errors.py:" in str(caught.value)
        assert "[PT-EXHAUSTED]" in str(caught.value)

    def test_a_closed_transport(self, server_factory):
        transport = pt.Transport()
        transport.close()
        with session_over(transport) as session, pytest.raises(requests.ConnectionError) as caught:
            session.get("http://127.0.0.1:1")
        assert isinstance(caught.value.__cause__, pt.TransportClosed)


class TestRefused:
    @pytest.mark.parametrize("url", ["http://exa mple.com", "http://example.com:99999/"])
    def test_urls(self, url):
        with session_over() as session, pytest.raises(requests.exceptions.InvalidURL):
            session.get(url)

    def test_a_header_that_requests_lets_through(self):
        with session_over() as session:
            request = requests.Request("GET", "http://example.com").prepare()
            request.headers["X-A"] = "a\r\nX-B: b"
            with pytest.raises(requests.exceptions.InvalidHeader, match="line break"):
                session.send(request)

    def test_a_length_that_is_not_the_bodys(self):
        with session_over() as session:
            request = requests.Request("POST", "http://example.com", data=b"abc").prepare()
            request.headers["Content-Length"] = "5"
            with pytest.raises(Refused, match="Content-Length"):
                session.send(request)

    def test_a_method_that_is_none(self):
        with session_over() as session, pytest.raises(Refused, match="method"):
            session.request("GE T", "http://example.com")


class TestWhileTheBodyIsRead:
    def cut(self, server_factory):
        return server_factory(raw(head(length=100) + b"only this", then_close=True))

    def test_cut_off(self, server_factory):
        server = self.cut(server_factory)
        with session_over() as session:
            with pytest.raises(requests.exceptions.ChunkedEncodingError, match="9 of 100"):
                session.get(server.url)
            assert session.adapter.transport.stats().active == 0

    def test_cut_off_in_a_stream(self, server_factory):
        server = self.cut(server_factory)
        with session_over() as session, session.get(server.url, stream=True) as response:
            pieces = response.iter_content(100)
            assert next(pieces) == b"only this"
            with pytest.raises(requests.exceptions.ChunkedEncodingError) as caught:
                next(pieces)
        cause = caught.value.__context__
        assert isinstance(cause.__cause__, pt.IncompleteBody)

    def test_broken_chunks(self, server_factory):
        server = server_factory(raw(head("200 OK", ("Transfer-Encoding", "chunked")) + b"zz\r\n"))
        with session_over() as session, pytest.raises(requests.exceptions.ChunkedEncodingError):
            session.get(server.url)

    def test_a_pause_that_is_too_long_is_a_connection_error_as_in_requests(self, server_factory):
        server = server_factory(stall(threading.Event()))
        with session_over() as session, pytest.raises(requests.ConnectionError, match=r"0\.1 s"):
            session.get(server.url, timeout=0.1)

    def test_closed_from_elsewhere(self, server_factory):
        server = server_factory(stall(threading.Event()))
        with session_over() as session:
            response = session.get(server.url, stream=True)
            failed = []

            def read():
                try:
                    failed.append(response.content)
                except requests.RequestException as error:
                    failed.append(type(error))

            reader = threading.Thread(target=read)
            reader.start()
            server.wait_for_requests(1)
            while not response.raw.tell():  # the reader waits for the second byte now, or soon
                pass
            response.raw.inner.close()
            reader.join(10)
            assert failed == [requests.exceptions.ChunkedEncodingError]

    def test_writing_ends_where_nobody_reads(self, server_factory):
        def deaf(conn):
            conn.read_head()
            conn.wait_for(threading.Event())

        server = server_factory(deaf)
        with session_over() as session, pytest.raises(WriteTimeout) as caught:
            session.post(server.url, data=iter([b"x" * 1_000_000] * 50), timeout=0.2)
        assert isinstance(caught.value, requests.Timeout)
        assert isinstance(caught.value, requests.ConnectionError)
