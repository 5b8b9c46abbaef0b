"""The pool under httpx: `HTTPTransport` for `httpx.Client`, `AsyncHTTPTransport` for `httpx.AsyncClient`.

    client = httpx.Client(transport=HTTPTransport(max_conns_per_host=20))

What a transport of ours does it does below httpx as well: limits, the leak detector, hooks, statistics, metrics.
Errors are httpx's own, chained; see docs/adapters.md.
"""

from __future__ import annotations

try:
    import httpcore
    import httpx
except ImportError as _error:
    raise ImportError("pooltransport.adapters.httpx needs httpx: pip install pooltransport[httpx]") from _error

from ._httpx.fronts import AsyncFront, Front, library

__all__ = ["AsyncHTTPTransport", "HTTPTransport"]

_LIBRARY = library(httpx, httpcore)


class HTTPTransport(Front, httpx.HTTPTransport):
    __doc__ = Front.__doc__
    _library = _LIBRARY


class AsyncHTTPTransport(AsyncFront, httpx.AsyncHTTPTransport):
    __doc__ = AsyncFront.__doc__
    _library = _LIBRARY
