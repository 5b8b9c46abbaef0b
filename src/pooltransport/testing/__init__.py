"""Helpers for tests: `no_leaks`, the pytest plugin (docs/testing.md), and fakes of what the network, the clock and the
scheduler do (see `fakes`). Importing this module loads nothing: pytest does at its start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .leak_check import PoolLeakError as PoolLeakError
    from .leak_check import no_leaks as no_leaks

__all__ = ["PoolLeakError", "no_leaks"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import leak_check  # noqa: PLC0415 - it loads the engine

    return getattr(leak_check, name)
