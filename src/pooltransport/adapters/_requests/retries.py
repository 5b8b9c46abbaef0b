"""`max_retries` of an adapter, counted by urllib3's own `Retry`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from urllib3 import exceptions as below
from urllib3.util.retry import Retry

from pooltransport import errors as ours
from pooltransport.models import Timeout

if TYPE_CHECKING:
    from pooltransport.models import Request

    from .raw import RawResponse

_NONE = Retry(0, read=False)  # requests' default: no attempt more
# What waiting longer, or once more, would not heal: urllib3 repeats none of its like either.
_FINAL = (
    *(ours.PoolTimeout, ours.PoolQueueFull, ours.PoolDeadlock),
    *(ours.TransportClosed, ours.LeaseExpired, ours.AddressRefused),
)
_WHILE_CONNECTING = (ours.ConnectError, ours.ConnectTimeout, ours.TLSHandshakeTimeout)


def retries_of(max_retries: int | Retry) -> Retry:
    """Return the policy for `max_retries`, as requests reads it."""
    if not isinstance(max_retries, Retry) and max_retries == 0:
        return _NONE
    return Retry.from_int(max_retries)


class Attempts:
    """Those of one request: how many more there may be, and what became of the others."""

    def __init__(self, retries: Retry, request: Request) -> None:
        self.retries = retries
        self._request = request
        self._notes: list[str] = []
        total = request.timeout.total
        self._total = total if isinstance(total, (int, float)) else None
        self._deadline = None if self._total is None else time.monotonic() + self._total

    def request(self) -> Request:
        """Return the request for the next attempt, with what is left of its total."""
        if self._deadline is None or not self._notes:
            return self._request
        left = max(self._deadline - time.monotonic(), 0.001)
        return self._request._copy(timeout=Timeout(left).over(self._request.timeout))  # noqa: SLF001 - a value of ours

    def after_error(self, error: ours.Error) -> bool:
        """Count `error` and wait as the policy says; report whether there is to be another attempt."""
        counted = _counted(error)
        body = self._request.body
        if self.retries is _NONE or counted is None or (body.started and not body.rewindable):
            return self._last(error)
        try:
            retries = self.retries.increment(self._request.method, str(self._request.url), error=counted)
        except below.HTTPError:  # used up, or not to be repeated: `counted` itself
            return self._last(error)
        if not self._has_time_for(retries.get_backoff_time()):
            return self._last(error)
        self._note(f"{type(error).__name__}: {error}")
        self.retries = retries
        retries.sleep()
        return True

    def after_answer(self, raw: RawResponse) -> bool:
        """Judge an answer; report whether there is to be another attempt.

        Raises `urllib3.exceptions.MaxRetryError` if its status is to be repeated, and no attempt is left.
        """
        method, retries = self._request.method, self.retries
        raw.retries = retries
        if retries is _NONE or not retries.is_retry(method, raw.status, "retry-after" in raw.headers):
            return False
        body = self._request.body
        if body.started and not body.rewindable:
            return False
        try:
            after = retries.increment(method, str(self._request.url), response=raw)
        except below.MaxRetryError:
            if not retries.raise_on_status:
                return False
            raw.close()
            raise
        pause = (after.get_retry_after(raw) if after.respect_retry_after_header else None) or after.get_backoff_time()
        if not self._has_time_for(pause):
            return False
        self._note(f"status {raw.status}")
        self.retries = after
        raw.close()
        after.sleep(raw)
        return True

    def _has_time_for(self, pause: float) -> bool:
        """A pause that does not fit the deadline is not begun (contract 2.2)."""
        return self._deadline is None or time.monotonic() + pause < self._deadline

    def _note(self, what: str) -> None:
        self._notes.append(f"attempt {len(self._notes) + 1}: {what.partition(chr(10))[0]}")

    def _last(self, error: ours.Error) -> bool:
        for note in self._notes:
            error.add_note(note)
        return False


def _counted(error: ours.Error) -> below.HTTPError | None:
    """Return the error by which urllib3's `Retry` counts `error`, None for one that is not repeated."""
    text = str(error)
    if not isinstance(error, ours.TransportError) or isinstance(error, _FINAL):
        return None
    if isinstance(error, ours.TLSError):
        return below.SSLError(text)
    if isinstance(error, _WHILE_CONNECTING):
        return below.ConnectTimeoutError(text)
    return below.ProtocolError(text)
