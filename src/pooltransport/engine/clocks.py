"""The clocks of one request (contract section 2): which setting bounds which phase, and its error.

Precedence: the request's field, then the client's (merged before), then an option given explicitly,
then the default. Where a total is given, the defaults of header, read and write do not apply: who
says 600 s gets 600 s. Phase clocks restart with a retry, the total never does.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from pooltransport.errors import (
    ConnectTimeout,
    PoolTimeout,
    ReadTimeout,
    ResponseHeaderTimeout,
    TLSHandshakeTimeout,
    TransportTimeout,
    WriteTimeout,
)
from pooltransport.models import UNSET

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pooltransport.models import Timeout
    from pooltransport.options import TransportOptions

    from .ledger import Ledger

# The clock that goes on while the machine is suspended, which `time.monotonic` does not do. (On macOS
# `time.monotonic` is another clock than CLOCK_MONOTONIC, and that one goes on.)
_AWAKE_CLOCK: int | None = getattr(time, "CLOCK_MONOTONIC" if sys.platform == "darwin" else "CLOCK_BOOTTIME", None)

_A_NAP = 0.1  # s; a suspension is longer

_WAITS = {
    "queue": (PoolTimeout, "no connection became free"),
    "dns": (ConnectTimeout, "the name was not resolved"),
    "connect": (ConnectTimeout, "no connection was made"),
    "proxy": (ConnectTimeout, "the proxy did not answer"),
    "tls": (TLSHandshakeTimeout, "the TLS handshake did not end"),
    "write": (WriteTimeout, "the request was not sent"),
    "headers": (ResponseHeaderTimeout, "no response headers came"),
    "body": (ReadTimeout, "the response body did not end"),
}


class Setting(NamedTuple):
    """Seconds (None: no bound), and the name of the setting they come from."""

    seconds: float | None
    name: str


# A wait that no clock bounds does not exist (contract 1.6).
LAST_RESORT = Setting(60.0, "the default bound of a wait that has no other")


class ClockSettings(NamedTuple):
    """The effective setting of each clock."""

    total: Setting
    acquire: Setting
    connect: Setting
    tls: Setting
    response_header: Setting
    read: Setting
    write: Setting


def settle(options: TransportOptions, timeout: Timeout) -> ClockSettings:
    """Return the settings of a request whose own and client's fields are in `timeout`."""
    total = timeout.total if timeout.total is not UNSET else None

    def pick(field: str, option: str) -> Setting:
        value = getattr(timeout, field)
        if value is not UNSET:
            return Setting(value, field)
        value = getattr(options, option)
        if total is not None and option not in options.explicit and field in ("response_header", "read", "write"):
            value = None
        return Setting(value, option)

    acquire = pick("acquire", "acquire_timeout")
    if acquire.seconds is None and total is None:
        acquire = LAST_RESORT
    connect = Setting(None if timeout.connect is UNSET else timeout.connect, "connect")  # type: ignore[arg-type]
    return ClockSettings(
        Setting(total, "timeout"),  # type: ignore[arg-type]
        acquire,
        connect,
        pick("tls", "tls_handshake_timeout"),
        pick("response_header", "response_header_timeout"),
        pick("read", "read_timeout"),
        pick("write", "write_timeout"),
    )


class Clocks:
    """The settings of one request, started at `now`, when `spent` seconds of its total had gone by already in earlier
    ones of the same exchange. Moments are absolute; None is "no bound".
    """

    __slots__ = ("deadline", "settings", "started")

    def __init__(self, settings: ClockSettings, now: float, spent: float = 0.0) -> None:
        self.settings = settings
        self.started = now
        total = settings.total.seconds
        self.deadline = None if total is None else now - spent + total

    @property
    def is_unbounded(self) -> bool:
        """Whether nobody gave a clock for the wait for a connection."""
        return self.deadline is None and self.settings.acquire is LAST_RESORT

    def until(self, setting: Setting, since: float) -> float | None:
        """Return when `setting`, running since `since`, or the total fires: whichever is first."""
        if setting.seconds is None:
            return self.deadline
        at = since + setting.seconds
        return at if self.deadline is None or at < self.deadline else self.deadline

    def expired(self, phase: str, setting: Setting, now: float, *, where: str, done: bool) -> TransportTimeout:
        """Return the error of a wait in `phase` bounded by `setting` and the total.

        `where` is the origin's text; `done` says that the server may have acted on the request.
        """
        total = self.settings.total
        if self.deadline is not None and now >= self.deadline - 1e-4:
            setting = total
        kind, what = _WAITS[phase]
        if setting is self.settings.read and phase == "headers":
            kind, what = ReadTimeout, "no byte came"
        if setting is not self.settings.tls and kind is TLSHandshakeTimeout:
            kind = ConnectTimeout
        seconds = setting.seconds or 0.0
        return kind(
            f"{where}: {what} within {seconds:g} s ({setting.name}), phase {phase}",
            phase=phase,
            setting=setting.name,
            seconds=seconds,
            may_have_been_processed=done,
        )


def seconds_asleep() -> float:
    """Return a number that grows by as many seconds as the machine is suspended; never too large, since
    the clock that goes on is read first. Constant where there is no such clock.
    """
    if _AWAKE_CLOCK is None:
        return 0.0
    return time.clock_gettime(_AWAKE_CLOCK) - time.monotonic()


class SleepWatch:
    """Tells a ledger's pool when the machine was suspended: a clock that stood still meanwhile would have
    idle connections taken for fresh (Go IDLE-12). Called at each check-out, for a quarter of a microsecond.
    """

    __slots__ = ("_asleep", "_ledger", "_slept")

    def __init__(self, ledger: Ledger, asleep: Callable[[], float]) -> None:
        self._ledger = ledger
        self._asleep = asleep
        self._slept = max(asleep(), asleep(), asleep())  # a reading that was held up says too little

    def __call__(self) -> None:
        if self._asleep() - self._slept > _A_NAP:
            self._ledger.apply(self._note)

    def _note(self) -> Sequence[Any]:
        before, self._slept = self._slept, max(self._asleep(), self._slept)
        return self._ledger.pool.slept(self._slept - before, self._ledger.now())
