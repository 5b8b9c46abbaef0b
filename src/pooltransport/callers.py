"""Whose frame of a stack it is: ours, or the line of an application that something is said of."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

_OURS = os.path.join(os.path.dirname(__file__), "")
_DEMO = os.path.join(_OURS, "demo", "")  # an application like any other
# Of libraries that call us through an adapter, whose lines are nobody's to blame: what the names of their modules begin
# with, and the name under which `reports.py` knows the line that is right there; "" for what stands around others.
_libraries: dict[str, str] = {}
_prefixes: tuple[str, ...] = ()


def skip_library(name: str, *prefixes: str) -> None:
    """Take frames of modules whose names begin with one of `prefixes` for ours from now on; said by an adapter."""
    global _prefixes  # noqa: PLW0603 - grows with each adapter that is imported
    _libraries.update(dict.fromkeys(prefixes, name))
    _prefixes = tuple(_libraries)


def is_ours(frame: FrameType, ignored: tuple[str, ...]) -> bool:
    """Report whether `frame` is of this package, or of one of the `ignored` modules. By the file, whose name is at
    hand: asked of each frame on the way of a request.
    """
    path = frame.f_code.co_filename
    if path.startswith(_OURS) and not path.startswith(_DEMO):
        return True
    if not ignored and not _prefixes:
        return False
    name = frame.f_globals.get("__name__") or ""
    return name.startswith(ignored) or name.startswith(_prefixes)


def called(frame: FrameType) -> str:
    """Return what of ours an application called, by the frame that it called: a function, or a library's name. What
    only stands around others, as `contextlib` does, is passed over: then it is what that called.
    """
    if _prefixes:
        name = frame.f_globals.get("__name__") or ""
        for prefix, library in _libraries.items():
            if name.startswith(prefix):
                return library or _called_inside(frame)
    return frame.f_code.co_name


def _called_inside(outer: FrameType) -> str:
    via = ""
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001 - the documented way to look at a stack
    while frame is not None and frame is not outer:
        name = frame.f_globals.get("__name__") or ""
        known = next((library for prefix, library in _libraries.items() if name.startswith(prefix)), None)
        via = (frame.f_code.co_name if known is None else known) or via
        frame = frame.f_back
    return via
