"""A requests session over our adapter, closed at its end."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import requests

from pooltransport.adapters.requests import HTTPAdapter

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def session_over(transport: Any = None, **options: Any) -> Iterator[requests.Session]:
    """Give a session with an `HTTPAdapter` for everything; it is ``session.adapter``. The environment is not asked.

    Without a transport it has one of its own, not the default one, which outlives tests.
    """
    if transport is None:
        options.setdefault("name", "tests")
    with requests.Session() as session:
        adapter: Any = HTTPAdapter(transport, **options)
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        session.adapter = adapter  # type: ignore[attr-defined]
        session.trust_env = False
        yield session
