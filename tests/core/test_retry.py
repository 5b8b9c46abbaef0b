"""The retry rule as a table (Go: shouldRetryRequest, RETRY-01 to RETRY-10; design section 5)."""

from __future__ import annotations

import itertools

import pytest

from pooltransport.core.retry import Failure, should_retry

SAFE = Failure(
    reused=True,
    bytes_written=100,
    response_started=False,
    connection_lost=True,
    rewindable=True,
    method="GET",
    has_idempotency_key=False,
)

ROWS = [
    ("a stale connection, a safe method", {}, True),
    ("HEAD", {"method": "HEAD"}, True),
    ("OPTIONS", {"method": "OPTIONS"}, True),
    ("TRACE", {"method": "TRACE"}, True),
    ("POST, written", {"method": "POST"}, False),
    ("PUT is idempotent in theory only", {"method": "PUT"}, False),
    ("so is DELETE", {"method": "DELETE"}, False),
    ("a method of the caller's own", {"method": "FROB"}, False),
    ("methods are case-sensitive", {"method": "get"}, False),
    ("POST with an idempotency key", {"method": "POST", "has_idempotency_key": True}, True),
    ("POST, nothing written", {"method": "POST", "bytes_written": 0}, True),
    ("PUT, nothing written", {"method": "PUT", "bytes_written": 0}, True),
    ("one byte is written", {"method": "POST", "bytes_written": 1}, False),
    ("a new connection", {"reused": False}, False),
    ("a new connection, nothing written", {"reused": False, "bytes_written": 0}, False),
    ("a body that cannot be sent again", {"rewindable": False}, False),
    ("nothing written, but the body is spent", {"rewindable": False, "bytes_written": 0}, False),
    ("the answer had begun", {"response_started": True}, False),
    ("a timeout, a cancellation, nonsense", {"connection_lost": False}, False),
]


@pytest.mark.parametrize(("changes", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_table(changes, expected):
    assert should_retry(SAFE._replace(**changes)) is expected


def every_failure():
    flags = (False, True)
    methods = ("GET", "POST")
    for row in itertools.product(flags, (0, 1), flags, flags, flags, methods, flags):
        yield Failure(*row)


def test_what_holds_for_every_failure():
    for failure in every_failure():
        if should_retry(failure):
            assert failure.reused, "a fresh connection's failure is final, or retries would never end"
            assert not failure.response_started
            assert failure.connection_lost
            assert failure.rewindable
            safe = failure.method == "GET" or failure.has_idempotency_key
            assert safe or failure.bytes_written == 0
