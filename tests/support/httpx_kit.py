"""httpx or httpx2 with its adapter, for tests that run in every colour."""

from __future__ import annotations

import importlib
from typing import Any

from tests.support.colours import _Chunks


class Kit:
    """`lib` is the library, `core` the one below it, `adapter` our module for it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lib = importlib.import_module(name)
        self.core = importlib.import_module(name.replace("httpx", "httpcore"))
        self.adapter = importlib.import_module(f"pooltransport.adapters.{name}")

    def transport(self, c: Any, *args: Any, **options: Any) -> Any:
        """Make an adapter of the colour."""
        return (self.adapter.HTTPTransport if c.sync else self.adapter.AsyncHTTPTransport)(*args, **options)

    def client(self, c: Any, transport: Any = None, **options: Any) -> Any:
        """Make a client of the colour, over `c.transport` unless told otherwise; to be closed with `c.close`."""
        cls = self.lib.Client if c.sync else self.lib.AsyncClient
        return cls(transport=transport or self.transport(c, c.transport), **options)

    async def open(self, c: Any, client: Any, method: str, url: str, **fields: Any) -> Any:
        """Send a request; the response is streamed and yours to close."""
        return await c.call(client.send, client.build_request(method, url, **fields), stream=True)

    async def get(self, c: Any, url: str, **fields: Any) -> Any:
        """Send one GET with a client of its own."""
        client = self.client(c)
        try:
            return await c.call(client.get, url, **fields)
        finally:
            await c.close(client)

    def raw(self, c: Any, response: Any) -> _Chunks:
        """Iterate over what came from the wire."""
        return _Chunks(iter(response.iter_raw()) if c.sync else aiter(response.aiter_raw()))

    def body(self, c: Any, *pieces: bytes) -> Any:
        """Return a generator of the colour."""
        if c.sync:
            return (piece for piece in pieces)

        async def generate():
            for piece in pieces:
                yield piece

        return generate()
