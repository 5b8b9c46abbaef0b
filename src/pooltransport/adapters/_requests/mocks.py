"""Tests that replace what is below requests' own adapter: what goes through ours must not reach the network either.

responses replaces the `send` of requests' own adapter, vcrpy the connections of urllib3 below it. While one of them is
at work, our adapter lets requests' own do what it is asked. requests-mock replaces `Session.get_adapter`, and has no
need of that.
"""

from __future__ import annotations

from typing import Any

from requests import adapters
from urllib3 import connectionpool


def is_mocked() -> bool:
    """Report whether requests' own adapter is under somebody's hands."""
    send: Any = adapters.HTTPAdapter.send
    return send.__module__ == "responses" or _cassette() is not None


def _cassette() -> Any:
    made: Any = connectionpool.HTTPConnectionPool.ConnectionCls
    return getattr(made, "cassette", None)
