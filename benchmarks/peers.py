"""Every client measured, each as one way to do a GET and read the body, on a pool of a given size.

Run as ``python -m benchmarks.peers NAME URL SECONDS CONCURRENCY...`` in a process of its own: measures
one client at each concurrency, and prints one line of json for each.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import json
import resource
import sys
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    Get = Callable[[], int]  # returns the length of the body
    AsyncGet = Callable[[], Awaitable[int]]

BODY = 5  # nginx answers "hello"


class Result(NamedTuple):
    """What one measurement gave."""

    name: str
    concurrency: int
    requests: int
    seconds: float
    cpu: float


# The clients. Each pool may hold one connection for each worker, and waits are not bounded.


@contextlib.asynccontextmanager
async def pooltransport_asyncio(url: str, workers: int) -> AsyncIterator[AsyncGet]:
    import pooltransport as pt

    async with pt.AsyncTransport(max_conns_per_host=workers, max_idle_conns=workers, proxy=None) as transport:

        async def get() -> int:
            response = await transport.round_trip(pt.Request("GET", url))
            return len(await response.aread())

        yield get


@contextlib.asynccontextmanager
async def pooltransport_client_asyncio(url: str, workers: int) -> AsyncIterator[AsyncGet]:
    import pooltransport as pt

    async with (
        pt.AsyncTransport(max_conns_per_host=workers, max_idle_conns=workers, proxy=None) as transport,
        pt.AsyncClient(transport=transport) as client,
    ):

        async def get() -> int:
            return len((await client.get(url)).content)

        yield get


@contextlib.asynccontextmanager
async def aiohttp(url: str, workers: int) -> AsyncIterator[AsyncGet]:
    import aiohttp

    connector = aiohttp.TCPConnector(limit=workers, limit_per_host=workers)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def get() -> int:
            async with session.get(url) as response:
                return len(await response.read())

        yield get


@contextlib.asynccontextmanager
async def httpx_like(module: str, url: str, workers: int) -> AsyncIterator[AsyncGet]:
    httpx = importlib.import_module(module)
    limits = httpx.Limits(max_connections=workers, max_keepalive_connections=workers)
    async with httpx.AsyncClient(limits=limits, timeout=60, trust_env=False) as client:

        async def get() -> int:
            return len((await client.get(url)).content)

        yield get


@contextlib.contextmanager
def pooltransport_threads(url: str, workers: int) -> Iterator[Get]:
    import pooltransport as pt

    with pt.Transport(max_conns_per_host=workers, max_idle_conns=workers, proxy=None) as transport:
        yield lambda: len(transport.round_trip(pt.Request("GET", url)).read())


@contextlib.contextmanager
def pooltransport_client_threads(url: str, workers: int) -> Iterator[Get]:
    import pooltransport as pt

    with (
        pt.Transport(max_conns_per_host=workers, max_idle_conns=workers, proxy=None) as transport,
        pt.Client(transport=transport) as client,
    ):
        yield lambda: len(client.get(url).content)


@contextlib.contextmanager
def httpx_like_threads(module: str, url: str, workers: int) -> Iterator[Get]:
    httpx = importlib.import_module(module)
    limits = httpx.Limits(max_connections=workers, max_keepalive_connections=workers)
    with httpx.Client(limits=limits, timeout=60, trust_env=False) as client:
        yield lambda: len(client.get(url).content)


@contextlib.contextmanager
def urllib3_threads(url: str, workers: int) -> Iterator[Get]:
    import urllib3

    with urllib3.PoolManager(maxsize=workers, block=True) as pool:
        yield lambda: len(pool.request("GET", url).data)


@contextlib.contextmanager
def requests_threads(url: str, workers: int) -> Iterator[Get]:
    import requests
    from requests.adapters import HTTPAdapter

    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", HTTPAdapter(pool_connections=1, pool_maxsize=workers, pool_block=True))
        yield lambda: len(session.get(url).content)


@contextlib.contextmanager
def http_client_threads(url: str, workers: int) -> Iterator[Get]:
    """The standard library has no pool: each thread keeps a connection of its own."""
    import http.client
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    local = threading.local()
    opened = []

    def get() -> int:
        if not hasattr(local, "conn"):
            local.conn = http.client.HTTPConnection(parts.hostname or "", parts.port)
            opened.append(local.conn)
        local.conn.request("GET", parts.path or "/")
        return len(local.conn.getresponse().read())

    yield get
    for conn in opened:
        conn.close()


ASYNC = {
    "pooltransport asyncio": pooltransport_asyncio,
    "pooltransport AsyncClient": pooltransport_client_asyncio,
    "aiohttp": aiohttp,
    "httpx async": lambda url, workers: httpx_like("httpx", url, workers),
    "httpx2 async": lambda url, workers: httpx_like("httpx2", url, workers),
}
THREADS = {
    "pooltransport threads": pooltransport_threads,
    "pooltransport Client": pooltransport_client_threads,
    "urllib3": urllib3_threads,
    "requests": requests_threads,
    "httpx threads": lambda url, workers: httpx_like_threads("httpx", url, workers),
    "httpx2 threads": lambda url, workers: httpx_like_threads("httpx2", url, workers),
    "http.client (no pool)": http_client_threads,
}


def version(name: str) -> str:
    """Return the version of the package that `name` measures."""
    package = name.split(maxsplit=1)[0]
    return sys.version.split()[0] if package == "http.client" else importlib.metadata.version(package)


# Measuring. Each worker does one request first, so that all connections are there when the clock starts.


async def measure_async(name: str, url: str, seconds: float, workers: int) -> Result:
    """Run `workers` tasks that do one request after another."""
    counts = [0] * workers
    async with ASYNC[name](url, workers) as get:
        for start in range(0, workers, 100):  # in portions, so that the listen queue does not overflow
            await asyncio.gather(*(get() for _ in range(min(100, workers - start))))
        begin, cpu = time.perf_counter(), time.process_time()
        end = begin + seconds

        async def work(number: int) -> None:
            while time.perf_counter() < end:
                assert await get() == BODY
                counts[number] += 1

        await asyncio.gather(*(work(number) for number in range(workers)))
        return Result(name, workers, sum(counts), time.perf_counter() - begin, time.process_time() - cpu)


def measure_threads(name: str, url: str, seconds: float, workers: int) -> Result:
    """Run `workers` threads that do one request after another."""
    counts = [0] * workers
    errors: list[BaseException] = []
    clock = [0.0, 0.0]

    def read_clocks() -> None:
        clock[:] = time.perf_counter(), time.process_time()

    barrier = threading.Barrier(workers, action=read_clocks)

    with THREADS[name](url, workers) as get:

        def work(number: int) -> None:
            try:
                get()
                barrier.wait(30)
                while time.perf_counter() < clock[0] + seconds:
                    assert get() == BODY
                    counts[number] += 1
            except BaseException as exc:  # raised again below
                errors.append(exc)
                barrier.abort()

        threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took, cpu = time.perf_counter() - clock[0], time.process_time() - clock[1]
    if errors:
        raise errors[0]
    return Result(name, workers, sum(counts), took, cpu)


def main() -> None:
    """Measure one client, as the command line says."""
    name, url, seconds, *concurrencies = sys.argv[1:]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for workers in map(int, concurrencies):
        if name in ASYNC:
            result = asyncio.run(measure_async(name, url, float(seconds), workers))
        else:
            result = measure_threads(name, url, float(seconds), workers)
        print(json.dumps(result._asdict()), flush=True)


if __name__ == "__main__":
    main()
