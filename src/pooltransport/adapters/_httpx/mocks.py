"""Tests that replace the network below httpx: those of ours must not reach it either.

pytest-httpx and vcrpy replace `HTTPTransport.handle_request`, which ours inherit. respx replaces httpcore's pools, and
has to be told of other ones; pytest-httpx knows nothing of httpx2.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .errors import Library

_POOLS = ("pooltransport.adapters._httpx.pool.Pool", "pooltransport.adapters._httpx.pool.AsyncPool")


def told_respx() -> bool:
    """Tell respx of our pools, if it is there and does not know; report whether it was told just now, and may stand
    before them from here on.
    """
    mocks = sys.modules.get("respx.mocks")
    if mocks is None or _POOLS[0] in mocks.HTTPCoreMocker.targets:
        return False
    mocks.HTTPCoreMocker.add_targets(*_POOLS)
    return True


def refuse_half_mocked(library: Library) -> None:
    """Raise `RuntimeError` where a test mocks httpx, and this request would leave through httpx2."""
    if "pytest_httpx" not in sys.modules or library.client.__name__ == "httpx":
        return
    httpx = sys.modules.get("httpx")
    if httpx is not None and httpx.HTTPTransport.handle_request.__module__ == "pytest_httpx":
        raise RuntimeError(
            "pytest-httpx mocks httpx alone, and this request goes through httpx2: it would have reached the network. "
            "Use respx or httpx2.MockTransport, or call httpx2.alias_httpx() before anything imports httpx"
        )
