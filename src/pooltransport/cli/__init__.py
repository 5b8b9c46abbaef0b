"""The command line: ``python -m pooltransport get|head|probe|explain|demo`` (`docs/command-line.md`).

`commands`: what is asked, and who does it. `fetch`: get and head. `probe`: one address, step by step, with
`certificates`, and drawn by `draw`. `endings`: exit statuses, and the sentence that a failure ends with.
"""

from __future__ import annotations

from .commands import main

__all__ = ["main"]
