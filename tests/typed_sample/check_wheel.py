"""Run inside of the environment that has the wheel: it is that which is imported, and it says that it is typed."""

from __future__ import annotations

from pathlib import Path

import pooltransport

where = Path(pooltransport.__file__).parent
assert "site-packages" in where.parts, where
assert (where / "py.typed").exists(), where
