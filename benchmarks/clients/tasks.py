"""The clients of loops."""

from __future__ import annotations

import contextlib
import importlib
import ssl
from typing import TYPE_CHECKING

from . import Calls, Setting, ours
from .bare import protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@contextlib.asynccontextmanager
async def round_trip(setting: Setting) -> AsyncIterator[Calls]:
    """Ours, without the client layer."""
    import pooltransport as pt

    async with pt.AsyncTransport(**ours(setting)) as transport:

        async def get(url: str) -> int:
            response = await transport.round_trip(pt.Request("GET", url))
            return len(await response.aread())

        async def download(url: str) -> int:
            total = 0
            async with await transport.round_trip(pt.Request("GET", url)) as response:
                async for chunk in response.aiter_bytes():
                    total += len(chunk)
            return total

        async def upload(url: str, body: bytes) -> int:
            response = await transport.round_trip(pt.Request("POST", url, content=body))
            return int(await response.aread())

        yield Calls(get, download, upload, transport=transport)


@contextlib.asynccontextmanager
async def client(setting: Setting) -> AsyncIterator[Calls]:
    """Ours, with it."""
    import pooltransport as pt

    async with pt.AsyncTransport(**ours(setting)) as transport, pt.AsyncClient(transport=transport) as made:

        async def get(url: str) -> int:
            return len((await made.get(url)).content)

        async def download(url: str) -> int:
            total = 0
            async with made.stream("GET", url) as response:
                async for chunk in response.aiter_bytes():
                    total += len(chunk)
            return total

        async def upload(url: str, body: bytes) -> int:
            return int((await made.post(url, content=body)).content)

        yield Calls(get, download, upload, transport=transport)


@contextlib.asynccontextmanager
async def aiohttp(setting: Setting) -> AsyncIterator[Calls]:
    import aiohttp

    context = ssl.create_default_context(cafile=setting.ca) if setting.ca else True
    connector = aiohttp.TCPConnector(limit=setting.workers, limit_per_host=setting.workers, ssl=context)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def get(url: str) -> int:
            async with session.get(url) as response:
                return len(await response.read())

        async def download(url: str) -> int:
            total = 0
            async with session.get(url) as response:
                async for chunk in response.content.iter_any():
                    total += len(chunk)
            return total

        async def upload(url: str, body: bytes) -> int:
            async with session.post(url, data=body) as response:
                return int(await response.read())

        yield Calls(get, download, upload)


@contextlib.asynccontextmanager
async def httpx_like(module: str, setting: Setting) -> AsyncIterator[Calls]:
    httpx = importlib.import_module(module)
    limits = httpx.Limits(max_connections=setting.workers, max_keepalive_connections=setting.workers)
    verify = ssl.create_default_context(cafile=setting.ca) if setting.ca else True
    async with httpx.AsyncClient(limits=limits, timeout=60, trust_env=False, verify=verify) as session:

        async def get(url: str) -> int:
            return len((await session.get(url)).content)

        async def download(url: str) -> int:
            total = 0
            async with session.stream("GET", url) as response:
                async for chunk in response.aiter_bytes():
                    total += len(chunk)
            return total

        async def upload(url: str, body: bytes) -> int:
            return int((await session.post(url, content=body)).content)

        yield Calls(get, download, upload)


@contextlib.asynccontextmanager
async def pyreqwest(setting: Setting) -> AsyncIterator[Calls]:
    from pyreqwest.client import ClientBuilder

    builder = ClientBuilder().max_connections(setting.workers).pool_max_idle_per_host(setting.workers).no_proxy()
    if setting.ca:
        with open(setting.ca, "rb") as file:  # noqa: ASYNC230 - before anything is measured
            builder = builder.add_root_certificate_pem(file.read())
    async with builder.build() as session:

        async def get(url: str) -> int:
            response = await session.get(url).build().send()
            return len(await response.bytes())

        async def download(url: str) -> int:
            total = 0
            async with session.get(url).build_streamed() as response:
                while chunk := await response.body_reader.read_chunk():
                    total += len(chunk)
            return total

        async def upload(url: str, body: bytes) -> int:
            response = await session.post(url).body_bytes(body).build().send()
            return int(bytes(await response.bytes()))

        yield Calls(get, download, upload)


CLIENTS = {
    "round_trip": round_trip,
    "client": client,
    "aiohttp": aiohttp,
    "httpx": lambda setting: httpx_like("httpx", setting),
    "httpx2": lambda setting: httpx_like("httpx2", setting),
    "pyreqwest": pyreqwest,
    "protocol": protocol,
}
