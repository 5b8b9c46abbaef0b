"""Checks of one option's value; each returns None, or the problem in words that say what to write.

A number that no float can hold, and NaN, are no numbers here: clocks could not count them.
"""

from __future__ import annotations

import math
from typing import TypeGuard

_COROUTINE = 0x80  # inspect.CO_COROUTINE, without loading inspect
MOST_SECONDS = 1e9  # 31 years; beyond 292 the system's own clocks cannot count


def is_int(value: object) -> TypeGuard[int]:
    """Report whether `value` is a whole number; True and False are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """Report whether `value` is a finite number."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def _too_many(seconds: object) -> str:
    return ", and at most 1e9" if is_number(seconds) and seconds > MOST_SECONDS else ""


def count_or_none(name: str, value: object, least: int) -> str | None:
    if value is None or (is_int(value) and value >= least):
        return None
    hint = "0 keeps none idle; use disable_keep_alives=True to turn reuse off" if least == 0 else "None is no limit"
    return f"{name}={value!r}: must be None or a whole number of {least} or more ({hint})"


def idle_limit(name: str, value: object) -> str | None:
    return count_or_none(name, value, 0)


def limit(name: str, value: object) -> str | None:
    return count_or_none(name, value, 1)


def waiting_limit(name: str, value: object) -> str | None:
    if value is None or (is_int(value) and value >= 0):
        return None
    return f"{name}={value!r}: must be None (no bound) or a whole number of 0 or more (0: nobody may wait)"


def seconds_or_none(name: str, value: object) -> str | None:
    if value is None or (is_number(value) and 0 < value <= MOST_SECONDS):
        return None
    return f"{name}={value!r}: must be None (no timeout) or a number of seconds above 0{_too_many(value)}"


def seconds(name: str, value: object) -> str | None:
    if is_number(value) and 0 <= value <= MOST_SECONDS:
        return None
    return f"{name}={value!r}: must be a number of seconds, 0 or more{_too_many(value)}"


def size(name: str, value: object) -> str | None:
    if is_int(value) and value >= 0:
        return None
    return f"{name}={value!r}: must be a whole number of bytes, 0 or more"


def header_size(name: str, value: object) -> str | None:
    if is_int(value) and value >= 1:
        return None
    return f"{name}={value!r}: must be a whole number of bytes, 1 or more"


def size_or_none(name: str, value: object) -> str | None:
    return None if value is None else size(name, value)


def flag(name: str, value: object) -> str | None:
    return None if isinstance(value, bool) else f"{name}={value!r}: must be True or False"


def auto_or_flag(name: str, value: object) -> str | None:
    return None if value == "auto" or isinstance(value, bool) else f"{name}={value!r}: must be 'auto', True or False"


def text_or_none(name: str, value: object) -> str | None:
    if value is None or (isinstance(value, str) and value and not any(c in value for c in "\r\n\0")):
        return None
    return f"{name}={value!r}: must be None or a text that is not empty"


def callable_or_none(name: str, value: object) -> str | None:
    if value is None or callable(value):
        return None
    return f"{name}: must be None or a callable, not {type(value).__name__}"


def judge_or_none(name: str, value: object) -> str | None:
    """A callable that answers at once: a dial waits for it on its own thread or loop."""
    problem = callable_or_none(name, value)
    code = getattr(getattr(value, "__func__", value), "__code__", None)
    if problem is None and code is not None and code.co_flags & _COROUTINE:
        return f"{name}: must be a plain function, not a coroutine function: it answers at once, with True or False"
    return problem


def rate(name: str, value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, tuple) and len(value) == 2 and all(is_number(v) and v > 0 for v in value):
        return None
    return f"{name}={value!r}: must be None or a pair (bytes_per_second, seconds), both above 0"


def trace(name: str, value: object) -> str | None:
    if value is None or hasattr(value, "put_idle_conn"):
        return None
    return f"{name}: must be None or a ClientTrace, not {type(value).__name__}"


def modules(name: str, value: object) -> str | None:
    if isinstance(value, (list, tuple)) and all(isinstance(row, str) for row in value):
        return None
    return f"{name}={value!r}: must be a list of module names"


class Choice:
    """One of a closed list of texts."""

    def __init__(self, *values: str) -> None:
        self.values = values

    def __call__(self, name: str, value: object) -> str | None:
        if value in self.values:
            return None
        return f"{name}={value!r}: must be one of {', '.join(map(repr, self.values))}"


_codecs = Choice("auto", "h11", "httptools")
_OLDEST_HTTPTOOLS = (0, 6, 4)  # with an llhttp that refuses what it should, and can be told of blanks behind a size


def codec(name: str, value: object) -> str | None:
    """Which parser; the one of the extra must be there."""
    problem = _codecs(name, value)
    if problem is None and value == "httptools" and not has_httptools():
        return f"{name}='httptools' needs an extra: pip install 'pooltransport[speed]' [PTC116]"
    return problem


def has_httptools() -> bool:
    """Report whether httptools is there, and new enough. Loads it."""
    try:
        from httptools import __version__  # noqa: PLC0415 - an extra
    except ImportError:
        return False
    return tuple(int(part) for part in __version__.split(".")[:3] if part.isdigit()) >= _OLDEST_HTTPTOOLS


def local_address(name: str, value: object) -> str | None:
    """A source address, alone or with a port."""
    host, port = value if isinstance(value, tuple) and len(value) == 2 else (value, 0)
    if value is None or (isinstance(host, str) and _is_ip(host) and is_int(port) and 0 <= port <= 65_535):
        return None
    return f"{name}={value!r}: must be None, an IP address of this machine, or a pair (address, port)"


def _is_ip(text: str) -> bool:
    import socket  # noqa: PLC0415 - only who asks for a source address pays for it

    bare = text.partition("%")[0] if ":" in text else text
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, bare)
    except (OSError, ValueError):
        return False
    return True


def keepalive(name: str, value: object) -> str | None:
    """True, False, or the three numbers of TCP keep-alive, in the kernel's own ranges."""
    if isinstance(value, bool):
        return None
    if isinstance(value, tuple) and len(value) == 3 and all(is_int(row) for row in value):
        idle, interval, count = value
        if 1 <= idle <= 32_767 and 1 <= interval <= 32_767 and 1 <= count <= 127:
            return None
    return (
        f"{name}={value!r}: must be True, False, or whole numbers (idle, interval, count): seconds from 1 to 32767, "
        "seconds likewise, probes from 1 to 127"
    )


def delay(name: str, value: object) -> str | None:
    """The head start of one address before the next."""
    if value is None or (is_number(value) and 0.01 <= value <= MOST_SECONDS):
        return None
    what = "must be None (one address after another) or a number of seconds, 0.01 or more"
    return f"{name}={value!r}: {what}{_too_many(value)}"


def socket_options(name: str, value: object) -> str | None:
    """Rows for `socket.setsockopt`."""
    if value is None:
        return None
    if isinstance(value, (list, tuple)) and all(
        isinstance(row, tuple) and len(row) == 3 and is_int(row[0]) and is_int(row[1]) and _is_option_value(row[2])
        for row in value
    ):
        return None
    return f"{name}: must be None or a list of (level, option, value), the value a whole number or bytes"


def _is_option_value(value: object) -> bool:
    return is_int(value) or isinstance(value, (bytes, bytearray))
