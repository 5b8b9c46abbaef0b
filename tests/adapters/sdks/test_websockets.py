"""WebSockets of httpx2, which has them itself over ``network_stream``; they need `wsproto`."""

from __future__ import annotations

import asyncio
import threading

import httpx2
import pytest
import websockets
import websockets.sync.server

import pooltransport as pt
from pooltransport.adapters.httpx2 import AsyncHTTPTransport, HTTPTransport

pytestmark = pytest.mark.sdks


class TestWebSockets:
    """httpx2 has them itself, over ``network_stream``."""

    @pytest.fixture
    def url(self):
        def echo(connection):
            for message in connection:
                connection.send(message[::-1])

        with websockets.sync.server.serve(echo, "127.0.0.1", 0) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}/"
            server.shutdown()
            thread.join()

    def test_blocking(self, url):
        with pt.Transport() as transport, httpx2.Client(transport=HTTPTransport(transport)) as client:
            with client.websocket(url) as session:
                assert transport.stats().upgraded == 1
                session.send_text("abc")
                assert session.receive_text() == "cba"
            assert transport.stats().open == 0

    def test_on_a_loop(self, url):

        async def main():
            async with pt.AsyncTransport() as transport:
                async with httpx2.AsyncClient(transport=AsyncHTTPTransport(transport)) as client:
                    async with client.websocket(url) as session:
                        await session.send_text("abc")
                        assert await session.receive_text() == "cba"
                    assert transport.stats().open == 0

        asyncio.run(main())
