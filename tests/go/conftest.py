"""Worlds for rows where time or order matters; as in tests/engine."""

from __future__ import annotations

from tests.engine.conftest import make_world

__all__ = ["make_world"]
