"""Checks of the options about dialing; each returns None, or the problem in words that say what to write."""

from __future__ import annotations

import math


def is_int(value: object) -> bool:
    """Report whether `value` is a whole number; True and False are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Report whether `value` is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


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
    if value is None or (is_number(value) and value >= 0.01):  # type: ignore[operator]
        return None
    return f"{name}={value!r}: must be None (one address after another) or a number of seconds, 0.01 or more"


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
