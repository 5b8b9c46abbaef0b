"""Which content codings there are here (RFC 9110 section 8.4.1): by name, before any decoder is loaded."""

from __future__ import annotations

import sys

_ALIASES = {b"x-gzip": b"gzip"}
_MOST = 5  # in a row; curl's bound
_known: tuple[bytes, ...] = ()


def known_codings() -> tuple[bytes, ...]:
    """Return the codings that can be decoded on this machine, looked up once: gzip and
    deflate always, ``br`` and ``zstd`` where their extra is installed.
    """
    global _known  # noqa: PLW0603 - a race finds the same twice
    if not _known:
        found = [b"gzip", b"deflate"]
        if _has_bounded_brotli():
            found.append(b"br")
        if sys.version_info >= (3, 14) or _has_zstd():
            found.append(b"zstd")
        _known = tuple(found)
    return _known


def accept_encoding() -> bytes:
    """Return the Accept-Encoding of a request that takes whatever can be decoded."""
    return b", ".join(known_codings())


def codings_of(values: list[bytes]) -> tuple[bytes, ...]:
    """Return the codings that `values` of Content-Encoding name, in the order they were applied; none if
    one is unknown, or there are more than five: the bytes are then the caller's to understand.
    """
    names = [name.strip().lower() for value in values for name in value.split(b",")]
    codings = tuple(_ALIASES.get(name, name) for name in names if name not in (b"", b"identity"))
    known = known_codings()
    return codings if len(codings) <= _MOST and all(coding in known for coding in codings) else ()


def _has_bounded_brotli() -> bool:
    """Before 1.2 it gives all that a piece of input holds at once: a few bytes of a bomb fill the memory."""
    try:
        import brotli  # noqa: PLC0415 - at the first request that asks
    except ImportError:
        return False
    return hasattr(brotli.Decompressor, "can_accept_more_data")


def _has_zstd() -> bool:
    from importlib.util import find_spec  # noqa: PLC0415 - at the first request that asks

    try:
        return find_spec("backports.zstd") is not None
    except ImportError:  # there is no package `backports`
        return False
