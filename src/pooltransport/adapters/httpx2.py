"""The pool under httpx2: `HTTPTransport` for `httpx2.Client`, `AsyncHTTPTransport` for `httpx2.AsyncClient`.

    client = httpx2.Client(transport=HTTPTransport(max_conns_per_host=20))

What a transport of ours does it does below httpx2 as well: limits, the leak detector, hooks, statistics, metrics.
Errors are httpx2's own, chained; see docs/adapters.md.
"""

from __future__ import annotations

try:
    import httpcore2
    import httpx2
except ImportError as _error:
    raise ImportError("pooltransport.adapters.httpx2 needs httpx2: pip install pooltransport[httpx2]") from _error

from ._httpx.fronts import AsyncFront, Front, library

__all__ = ["AsyncHTTPTransport", "HTTPTransport"]

_LIBRARY = library(httpx2, httpcore2)


class HTTPTransport(Front, httpx2.HTTPTransport):
    __doc__ = Front.__doc__
    _library = _LIBRARY


class AsyncHTTPTransport(AsyncFront, httpx2.AsyncHTTPTransport):
    __doc__ = AsyncFront.__doc__
    _library = _LIBRARY
