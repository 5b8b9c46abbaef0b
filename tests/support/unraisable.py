"""What reaches `sys.unraisablehook`, where errors go that belong to nobody who is there."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def unraisable() -> Iterator[list[Any]]:
    """Give what arrives there meanwhile, pytest's own hook is not told."""
    seen: list[Any] = []
    before, sys.unraisablehook = sys.unraisablehook, seen.append
    try:
        yield seen
    finally:
        sys.unraisablehook = before
