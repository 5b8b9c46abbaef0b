"""`max_retries`: urllib3's policy, counted by urllib3, over our errors."""

from __future__ import annotations

import io
import time

import pytest
import requests
from urllib3.util.retry import Retry

import pooltransport as pt
from tests.support.requests_kit import session_over
from tests.support.responders import in_turn, no_response_close, ok

REFUSED = "http://127.0.0.1:1"
BUSY = ok(b"busy", status="503 Busy")


class Failing:
    """Fails a number of times, then asks another."""

    def __init__(self, errors, inner):
        self.errors, self.inner, self.timeouts = list(errors), inner, []

    def round_trip(self, request):
        self.timeouts.append(request.timeout.total)
        if self.errors:
            raise self.errors.pop(0)
        return self.inner.round_trip(request)

    def close(self):
        pass


@pytest.fixture
def failing():
    with pt.Transport() as transport:
        yield lambda *errors: Failing(errors, transport)


class TestErrors:
    def test_none_by_default(self, failing, server_factory):
        server = server_factory(ok())
        with session_over(failing(pt.ConnectError("once"))) as session:
            with pytest.raises(requests.ConnectionError, match="once"):
                session.get(server.url)
            assert session.get(server.url).content == b"hello"

    def test_a_number_is_of_attempts_to_connect(self, failing, server_factory):
        server = server_factory(ok())
        errors = [pt.ConnectError("1"), pt.ConnectTimeout("2"), pt.TLSError("3")]
        with session_over(failing(*errors), max_retries=3) as session:
            response = session.post(server.url, data=b"x")
            assert response.content == b"hello"
            assert [str(found.error) for found in response.raw.retries.history] == ["1", "2", "3"]

    def test_what_was_tried_is_in_the_notes(self):
        with session_over(max_retries=2) as session, pytest.raises(requests.ConnectionError) as caught:
            session.get(REFUSED)
        notes = caught.value.__cause__.__notes__
        assert [note.partition(":")[0] for note in notes if note.startswith("attempt")] == ["attempt 1", "attempt 2"]

    def test_reading_is_repeated_for_methods_that_may_be(self, server_factory):
        server = server_factory(in_turn(no_response_close, no_response_close, ok()))
        with session_over(max_retries=Retry(3), retry_stale=False) as session:
            assert session.get(server.url).content == b"hello"
            assert server.requests == 3

    def test_a_post_is_not(self, server_factory):
        server = server_factory(in_turn(no_response_close, ok()))
        with session_over(max_retries=Retry(3)) as session, pytest.raises(requests.ConnectionError):
            session.post(server.url, data=b"x")
        assert server.requests == 1

    def test_nor_a_body_that_is_used_up(self, server_factory):
        server = server_factory(in_turn(no_response_close, ok()))
        with session_over(max_retries=Retry(3, allowed_methods=None)) as session:
            with pytest.raises(requests.ConnectionError):
                session.put(server.url, data=iter([b"a", b"b"]))
        assert server.requests == 1

    def test_a_file_is_sent_again_from_where_it_stood(self, server_factory):
        server = server_factory(in_turn(no_response_close, ok()))
        file = io.BytesIO(b"0123456789")
        file.seek(4)
        with session_over(max_retries=Retry(3, allowed_methods=None)) as session:
            session.put(server.url, data=file)
        assert [request.body for request in server.log] == [b"456789"] * 2

    @pytest.mark.parametrize(
        "error", [pt.PoolTimeout, pt.PoolQueueFull, pt.PoolDeadlock, pt.TransportClosed, pt.AddressRefused]
    )
    def test_a_pool_that_is_empty_is_not_asked_again(self, error, failing):
        transport = failing(error("x"))
        with session_over(transport, max_retries=Retry(5)) as session, pytest.raises(requests.ConnectionError):
            session.get(REFUSED)
        assert len(transport.timeouts) == 1


class TestStatuses:
    def test_of_the_list_are_repeated(self, server_factory):
        server = server_factory(in_turn(BUSY, BUSY, ok()))
        with session_over(max_retries=Retry(3, status_forcelist=[503])) as session:
            assert session.get(server.url).content == b"hello"
            stats = session.adapter.transport.stats()
            assert (stats.idle, stats.leaks, stats.dials) == (1, 0, 1)
        assert server.requests == 3

    def test_when_used_up(self, server_factory):
        server = server_factory(BUSY)
        with session_over(max_retries=Retry(2, status_forcelist=[503])) as session:
            with pytest.raises(requests.exceptions.RetryError, match="503"):
                session.get(server.url)
            assert session.adapter.transport.stats().active == 0
        with session_over(max_retries=Retry(2, status_forcelist=[503], raise_on_status=False)) as session:
            assert session.get(server.url).content == b"busy"
        assert server.requests == 6

    def test_retry_after_is_waited_for(self, server_factory):
        server = server_factory(in_turn(ok(b"", ("Retry-After", "1"), status="429 Slowly"), ok()))
        slept = []

        class Noted(Retry):
            def sleep(self, response=None):
                slept.append(self.get_retry_after(response))

        with session_over(max_retries=Noted(3)) as session:
            assert session.get(server.url).content == b"hello"
        assert slept == [1]


class TestTheDeadline:
    def test_is_one_for_all_attempts(self, failing, server_factory):
        server = server_factory(ok())
        transport = failing(pt.ConnectError("1"), pt.ConnectError("2"))
        with session_over(transport, max_retries=Retry(5, backoff_factor=0.01)) as session:
            session.get(server.url, timeout=pt.Timeout(5.0))
        first, *later = transport.timeouts
        assert first == 5.0
        assert all(0 < total < 5.0 for total in later)
        assert len(later) == 2

    def test_a_pause_that_does_not_fit_is_not_begun(self, failing):
        transport = failing(pt.ConnectError("1"), pt.ConnectError("2"), pt.ConnectError("3"))
        began = time.monotonic()
        with session_over(transport, max_retries=Retry(5, backoff_factor=60)) as session:
            with pytest.raises(requests.ConnectionError, match="2"):
                session.get(REFUSED, timeout=pt.Timeout(5.0))
        assert time.monotonic() - began < 4

    def test_nor_one_that_a_server_asks_for(self, server_factory):
        server = server_factory(ok(b"later", ("Retry-After", "60"), status="503 Busy"))
        with session_over(max_retries=Retry(5)) as session:
            assert session.get(server.url, timeout=pt.Timeout(5.0)).content == b"later"
        assert server.requests == 1
