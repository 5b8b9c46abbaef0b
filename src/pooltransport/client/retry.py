"""`Retry`: which failed requests a client sends again, and when; urllib3's words. Pure: no clock, no sleep.

What a transport does by itself (`retry_stale`, Go's rule) is another thing: that was certainly not answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pooltransport.errors import (
    AddressRefused,
    ConfigError,
    IncompleteBody,
    LeaseExpired,
    LocalProtocolError,
    PoolDeadlock,
    PoolQueueFull,
    PoolTimeout,
    RemoteProtocolError,
    TLSError,
    TransportClosed,
    TransportError,
)
from pooltransport.option_checks import is_number

if TYPE_CHECKING:
    from collections.abc import Collection

    from pooltransport.models import Request
    from pooltransport.response import AsyncResponse, Response

_IDEMPOTENT = ("DELETE", "GET", "HEAD", "OPTIONS", "PUT", "TRACE")  # RFC 9110 section 9.2.2
_KEYS = frozenset((b"idempotency-key", b"x-idempotency-key"))
_NEVER = (
    *(PoolTimeout, PoolQueueFull, PoolDeadlock, TransportClosed, LeaseExpired, LocalProtocolError),
    *(TLSError, AddressRefused),
)
_MOST_WITHOUT_DEADLINE = 60.0  # s; of a Retry-After (contract 2.2)


class Retry:
    """When a client sends a request again: given as `retry` to a `Client` or with a call; immutable.

    `total`: how many times at most. `connect`: of these for what failed before it was sent (any method).
    `read`: for what failed after, of an idempotent method or with an ``Idempotency-Key``. `status`: for an answer
    in `status_forcelist` (413, 429 and 503 with a Retry-After too), of `allowed_methods`. None for one of these
    three is as many as `total`; 0 is never. `allowed_methods`: None is every method.

    Before the n-th repetition ``backoff_factor * 2 ** (n - 1)`` seconds are waited, and up to `backoff_jitter` more
    by chance, at most `backoff_max`; the first repetition waits too (urllib3's does not). A Retry-After in seconds or
    as a date counts instead, if `respect_retry_after_header`; without a total timeout it is cut to 60 s.

    All of it is inside the one total of the request: what does not fit any more is not waited for. Then, and when
    there are no repetitions left, the last answer is returned, or the last error raised with a note of each attempt.
    Nothing is repeated for a pool that had no connection (that would only lengthen its queue), a certificate or an
    address that was refused, or a body that cannot be sent again.

    Raises `ConfigError` for a number that is none, or below 0.
    """

    __slots__ = (
        "allowed_methods",
        "backoff_factor",
        "backoff_jitter",
        "backoff_max",
        "connect",
        "read",
        "respect_retry_after_header",
        "status",
        "status_forcelist",
        "total",
    )

    def __init__(
        self,
        total: int = 3,
        *,
        connect: int | None = None,
        read: int | None = None,
        status: int | None = None,
        status_forcelist: Collection[int] = (),
        allowed_methods: Collection[str] | None = _IDEMPOTENT,
        backoff_factor: float = 0.1,
        backoff_max: float = 120.0,
        backoff_jitter: float = 0.0,
        respect_retry_after_header: bool = True,
    ) -> None:
        counts: dict[str, Any] = {"total": total, "connect": connect, "read": read, "status": status}
        seconds = {"backoff_factor": backoff_factor, "backoff_max": backoff_max, "backoff_jitter": backoff_jitter}
        problems = [
            f"Retry: {name}={value!r}: must be a number of times, 0 or more{'' if name == 'total' else ', or None'}"
            for name, value in counts.items()
            if not (value is None and name != "total")
            and not (isinstance(value, int) and not isinstance(value, bool) and value >= 0)
        ]
        problems += [
            f"Retry: {name}={value!r}: must be a finite number, 0 or more"
            for name, value in seconds.items()
            if not is_number(value) or not 0 <= value < float("inf")
        ]
        codes: Any = status_forcelist
        if isinstance(codes, (int, str)) or not all(isinstance(code, int) for code in codes):
            problems.append("Retry: status_forcelist must be a collection of status codes")
        if isinstance(allowed_methods, str):
            problems.append("Retry: allowed_methods must be a collection of methods, or None for all")
        if problems:
            raise ConfigError(problems, "PTC101")
        self.total = total
        self.connect = connect
        self.read = read
        self.status = status
        self.status_forcelist = frozenset(status_forcelist)
        self.allowed_methods = None if allowed_methods is None else frozenset(m.upper() for m in allowed_methods)
        self.backoff_factor = float(backoff_factor)
        self.backoff_max = float(backoff_max)
        self.backoff_jitter = float(backoff_jitter)
        self.respect_retry_after_header = respect_retry_after_header

    @staticmethod
    def of(given: Any) -> Retry | None:
        """Return the policy for what a caller gave: a number is that many repetitions, None or 0 are none."""
        if given is None or isinstance(given, Retry):
            return given
        if isinstance(given, int) and not isinstance(given, bool):
            return Retry(given)
        raise ConfigError(
            f"retry must be a Retry, a number of repetitions or None, not {type(given).__name__} [PTC110]"
        )

    def __repr__(self) -> str:
        return f"Retry({self.total}, connect={self.connect}, read={self.read}, status={self.status})"


class Attempts:
    """How often one request was sent, and why not only once."""

    __slots__ = ("_done", "_policy", "told")

    def __init__(self, policy: Retry) -> None:
        self._policy = policy
        self._done = {"connect": 0, "read": 0, "status": 0}
        self.told: list[str] = []

    def after_error(self, error: TransportError, request: Request, chance: float) -> float | None:
        """Return the seconds to wait before the next attempt; None if there is to be none. `chance`: 0 to 1."""
        kind = _kind_of(error)
        if kind is None or (kind == "read" and not _may_repeat(request, _IDEMPOTENT)):
            return None
        return self._next(kind, request, self._back_off(chance))

    def after_answer(
        self, response: Response | AsyncResponse, request: Request, chance: float, wall_clock: float
    ) -> float | None:
        """As `after_error`. `wall_clock`: seconds since the epoch, for a Retry-After that is a date."""
        policy, status = self._policy, response.status_code
        named = status in policy.status_forcelist
        asked = _retry_after(response, wall_clock) if policy.respect_retry_after_header else None
        if not named and not (status in (413, 429, 503) and asked is not None):
            return None
        if not _may_repeat(request, policy.allowed_methods):
            return None
        if asked is not None and not request.timeout.total:
            asked = min(asked, _MOST_WITHOUT_DEADLINE)
        return self._next("status", request, self._back_off(chance) if asked is None else asked)

    def tell(self, what: str, delay: float) -> None:
        """Keep a line about an attempt that is repeated after `delay` seconds."""
        self.told.append(f"attempt {len(self.told) + 1}: {what}; sent again after {delay:.2f} s")

    def _next(self, kind: str, request: Request, delay: float) -> float | None:
        most = getattr(self._policy, kind)
        if sum(self._done.values()) >= self._policy.total or (most is not None and self._done[kind] >= most):
            return None
        if not (request.body.rewindable or not request.body.started):
            return None
        self._done[kind] += 1
        return delay

    def _back_off(self, chance: float) -> float:
        policy = self._policy
        growth = min(sum(self._done.values()), 1000)  # a float has its limit
        delay = policy.backoff_factor * 2.0**growth + policy.backoff_jitter * chance
        return min(delay, policy.backoff_max)


def _kind_of(error: TransportError) -> str | None:
    if isinstance(error, _NEVER) or (isinstance(error, RemoteProtocolError) and not isinstance(error, IncompleteBody)):
        return None
    return "read" if error.may_have_been_processed else "connect"


def _may_repeat(request: Request, methods: Collection[str] | None) -> bool:
    if methods is None or request.method in methods:
        return True
    return any(name.lower() in _KEYS for name, _ in request.raw_header_items())


def _retry_after(response: Response | AsyncResponse, wall_clock: float) -> float | None:
    """Return the seconds that Retry-After asks for (RFC 9110 section 10.2.3); None for none, or nonsense."""
    value: Any = response.headers.get("retry-after")
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit() and len(value) < 10:
        return float(value)
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - only for who meets one

    try:
        return max(parsedate_to_datetime(value).timestamp() - wall_clock, 0.0)
    except (TypeError, ValueError, OverflowError):
        return None
