"""The convenient top floor: `Client` and `AsyncClient` over any round tripper."""

from __future__ import annotations

from .async_client import AsyncClient
from .client import Client

__all__ = ["AsyncClient", "Client"]
