"""May a failed attempt be done again? A pure function of facts (Go: shouldRetryRequest).

Go's rule with two improvements (design section 5): what was certainly not written is redone whatever
the method, also when the server's close was noticed between check-out and sending; and nothing is
ever redone once a byte of the answer came.
"""

from __future__ import annotations

from typing import NamedTuple

# RFC 9110 section 9.2.1: the safe methods. PUT and DELETE are idempotent in theory only (RETRY-05).
_SAFE = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))


class Failure(NamedTuple):
    """What is known of a failed attempt."""

    reused: bool  # the connection came from the pool, or from another request
    bytes_written: int  # of this request, handed to the socket
    response_started: bool  # a byte of the answer came
    connection_lost: bool  # an end or an I/O error: no timeout, no cancellation, no nonsense
    rewindable: bool  # the body can be sent from its first byte again
    method: str
    has_idempotency_key: bool


def should_retry(failure: Failure) -> bool:
    """Report whether the request can be done again without doing it twice."""
    if not (failure.reused and failure.connection_lost and failure.rewindable):
        return False  # a fresh connection's failure is final: that ends every series of retries
    if failure.response_started:
        return False
    if failure.bytes_written == 0:
        return True
    return failure.method in _SAFE or failure.has_idempotency_key
