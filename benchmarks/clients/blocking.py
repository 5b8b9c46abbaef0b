"""The clients of threads."""

from __future__ import annotations

import contextlib
import http.client
import importlib
import ssl
import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from . import Calls, Setting, ours
from .bare import sock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PIECE = 65_536


@contextlib.contextmanager
def round_trip(setting: Setting) -> Iterator[Calls]:
    """Ours, without the client layer."""
    import pooltransport as pt

    with pt.Transport(**ours(setting)) as transport:

        def download(url: str) -> int:
            with transport.round_trip(pt.Request("GET", url)) as response:
                return sum(map(len, response.iter_bytes()))

        yield Calls(
            lambda url: len(transport.round_trip(pt.Request("GET", url)).read()),
            download,
            lambda url, body: int(transport.round_trip(pt.Request("POST", url, content=body)).read()),
            lambda url: transport.round_trip(pt.Request("GET", url)).read,
            transport,
        )


@contextlib.contextmanager
def client(setting: Setting) -> Iterator[Calls]:
    """Ours, with it."""
    import pooltransport as pt

    with pt.Transport(**ours(setting)) as transport, pt.Client(transport=transport) as made:

        def download(url: str) -> int:
            with made.stream("GET", url) as response:
                return sum(map(len, response.iter_bytes()))

        yield Calls(
            lambda url: len(made.get(url).content),
            download,
            lambda url, body: int(made.post(url, content=body).content),
            transport=transport,
        )


@contextlib.contextmanager
def httpx_like(module: str, setting: Setting) -> Iterator[Calls]:
    httpx = importlib.import_module(module)
    limits = httpx.Limits(max_connections=setting.workers, max_keepalive_connections=setting.workers)
    verify = ssl.create_default_context(cafile=setting.ca) if setting.ca else True
    with httpx.Client(limits=limits, timeout=60, trust_env=False, verify=verify) as session:

        def download(url: str) -> int:
            with session.stream("GET", url) as response:
                return sum(map(len, response.iter_bytes()))

        yield Calls(
            lambda url: len(session.get(url).content),
            download,
            lambda url, body: int(session.post(url, content=body).content),
        )


@contextlib.contextmanager
def urllib3(setting: Setting) -> Iterator[Calls]:
    import urllib3

    with urllib3.PoolManager(maxsize=setting.workers, block=True, ca_certs=setting.ca) as pool:

        def download(url: str) -> int:
            response = pool.request("GET", url, preload_content=False)
            try:
                return sum(map(len, response.stream(PIECE)))
            finally:
                response.release_conn()

        def hold(url: str) -> Callable[[], bytes]:
            response = pool.request("GET", url, preload_content=False)

            def read() -> bytes:
                data = response.read()
                response.release_conn()
                return data

            return read

        yield Calls(
            lambda url: len(pool.request("GET", url).data),
            download,
            lambda url, body: int(pool.request("POST", url, body=body).data),
            hold,
        )


@contextlib.contextmanager
def requests_like(module: str, setting: Setting) -> Iterator[Calls]:
    package = importlib.import_module(module)
    adapter = importlib.import_module(f"{module}.adapters").HTTPAdapter
    with package.Session() as session:
        session.trust_env = False
        session.verify = setting.ca or True
        for scheme in ("http://", "https://"):
            session.mount(scheme, adapter(pool_connections=1, pool_maxsize=setting.workers, pool_block=True))

        def download(url: str) -> int:
            with session.get(url, stream=True) as response:
                return sum(map(len, response.iter_content(PIECE)))

        yield Calls(
            lambda url: len(session.get(url).content),
            download,
            lambda url, body: int(session.post(url, data=body).content),
        )


@contextlib.contextmanager
def pycurl(setting: Setting) -> Iterator[Calls]:
    """One handle a thread: a handle is what keeps a connection."""
    import pycurl

    local = threading.local()
    opened = []

    def handle() -> pycurl.Curl:
        if not hasattr(local, "curl"):
            local.curl = pycurl.Curl()
            local.curl.setopt(pycurl.NOSIGNAL, 1)
            local.curl.setopt(pycurl.PROXY, "")
            if setting.ca:
                local.curl.setopt(pycurl.CAINFO, setting.ca)
            opened.append(local.curl)
        return local.curl

    def get(url: str) -> int:
        curl, parts = handle(), []
        curl.setopt(pycurl.URL, url)
        curl.setopt(pycurl.WRITEFUNCTION, parts.append)
        curl.perform()
        return len(b"".join(parts))

    def download(url: str) -> int:
        curl, total = handle(), [0]

        def count(chunk: bytes) -> None:
            total[0] += len(chunk)

        curl.setopt(pycurl.URL, url)
        curl.setopt(pycurl.BUFFERSIZE, PIECE)
        curl.setopt(pycurl.WRITEFUNCTION, count)
        curl.perform()
        return total[0]

    def upload(url: str, body: bytes) -> int:
        curl, parts = handle(), []
        curl.setopt(pycurl.URL, url)
        curl.setopt(pycurl.POSTFIELDS, body)
        curl.setopt(pycurl.HTTPHEADER, ["Expect:", "Content-Type: application/octet-stream"])
        curl.setopt(pycurl.WRITEFUNCTION, parts.append)
        curl.perform()
        curl.setopt(pycurl.HTTPGET, 1)
        return int(b"".join(parts))

    yield Calls(get, download, upload)
    for curl in opened:
        curl.close()


@contextlib.contextmanager
def http_client(setting: Setting) -> Iterator[Calls]:
    """The standard library has no pool: each thread keeps a connection of its own."""
    context = ssl.create_default_context(cafile=setting.ca) if setting.ca else None
    local = threading.local()
    opened = []

    def ask(method: str, url: str, body: bytes | None = None) -> http.client.HTTPResponse:
        parts = urlsplit(url)
        if not hasattr(local, "conn"):
            host, port = parts.hostname or "", parts.port
            tls = parts.scheme == "https"
            made = http.client.HTTPSConnection(host, port, context=context) if tls else None
            local.conn = made or http.client.HTTPConnection(host, port)
            opened.append(local.conn)
        local.conn.request(method, parts.path or "/", body)
        return local.conn.getresponse()

    def download(url: str) -> int:
        total, response, buffer = 0, ask("GET", url), bytearray(PIECE)
        while count := response.readinto(buffer):
            total += count
        return total

    yield Calls(lambda url: len(ask("GET", url).read()), download, lambda url, body: int(ask("POST", url, body).read()))
    for conn in opened:
        conn.close()


CLIENTS = {
    "round_trip": round_trip,
    "client": client,
    "urllib3": urllib3,
    "requests": lambda setting: requests_like("requests", setting),
    "niquests": lambda setting: requests_like("niquests", setting),
    "httpx": lambda setting: httpx_like("httpx", setting),
    "httpx2": lambda setting: httpx_like("httpx2", setting),
    "pycurl": pycurl,
    "http.client": http_client,
    "socket": sock,
}
