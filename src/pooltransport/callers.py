"""Whose frame of a stack it is: ours, or the line of an application that something is said of."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

_OURS = os.path.join(os.path.dirname(__file__), "")
_DEMO = os.path.join(_OURS, "demo", "")  # an application like any other


def is_ours(frame: FrameType, ignored: tuple[str, ...]) -> bool:
    """Report whether `frame` is of this package, or of one of the `ignored` modules. By the file, whose name is at
    hand: asked of each frame on the way of a request.
    """
    path = frame.f_code.co_filename
    if path.startswith(_OURS) and not path.startswith(_DEMO):
        return True
    return bool(ignored) and (frame.f_globals.get("__name__") or "").startswith(ignored)
