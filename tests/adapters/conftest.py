"""Both libraries, over our transports, in every colour."""

from __future__ import annotations

import pytest

from tests.support.httpx_kit import Kit


@pytest.fixture(params=["httpx", "httpx2"])
def kit(request):
    """Give one of the libraries with its adapter."""
    return Kit(request.param)
