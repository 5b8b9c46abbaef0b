"""Fixtures for all tests; what they do is in tests/support/."""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING

import pytest
import trustme

from pooltransport.core.http1 import codecs
from tests.support.leaks import find_leaks, snapshot
from tests.support.nginx import Nginx
from tests.support.server import ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# A transport takes its proxies from the environment: not those of the machine that runs the tests. Done here, before
# anything is collected, and in `os.environ` itself, so that subprocesses of tests do without as well.
for _name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUEST_METHOD"):
    os.environ.pop(_name, None)
    os.environ.pop(_name.lower(), None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--codec", choices=["auto", "h11"], default="auto", help="what codec='auto' is in this run")


def pytest_configure(config: pytest.Config) -> None:
    """Make `auto` what it is where the extra `speed` is not installed."""
    if config.getoption("--codec") == "h11":
        codecs.has_httptools = lambda: False
        codecs.codec_class.cache_clear()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let `make test-full` find the tests that have two sizes."""
    for item in items:
        if "full" in getattr(item, "fixturenames", ()):  # `scaled` asks for it
            item.add_marker("scaled")


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves threads or sockets behind, unless it is marked ``leaves("sockets")``."""
    marker = request.node.get_closest_marker("leaves")
    before = snapshot()
    yield
    leaks = find_leaks(before, frozenset(marker.args if marker else ()))
    if leaks:
        pytest.fail(f"left behind: {', '.join(leaks)}")


@pytest.fixture(params=["threads", "asyncio", "trio"])
def colour(request: pytest.FixtureRequest) -> str:
    """Give the name of a colour; the test runs in each."""
    return request.param


@pytest.fixture(params=["asyncio", "trio"])
def loop_colour(request: pytest.FixtureRequest) -> str:
    """Give the name of a colour that has tasks and cancellation."""
    return request.param


@pytest.fixture
def server_factory() -> Iterator[Callable[..., ScriptedServer]]:
    """Make scripted servers that are stopped after the test: ``server_factory(ok(), tls=...)``."""
    servers: list[ScriptedServer] = []

    def make(handler, **options) -> ScriptedServer:
        servers.append(ScriptedServer(handler, **options))
        return servers[-1]

    yield make
    errors = []
    for server in servers:
        try:
            server.stop()
        except Exception as exc:
            errors.append(exc)
    if errors:
        raise ExceptionGroup("servers did not stop well", errors)


@pytest.fixture(scope="session")
def tls_ca() -> trustme.CA:
    """Give the authority that the tests' servers are certified by."""
    return trustme.CA()


@pytest.fixture(scope="session")
def server_cert(tls_ca: trustme.CA) -> trustme.LeafCert:
    """Give a certificate for loopback by every name."""
    return tls_ca.issue_cert("localhost", "127.0.0.1", "::1")


@pytest.fixture(scope="session")
def server_ssl_context(server_cert: trustme.LeafCert) -> ssl.SSLContext:
    """Give what a scripted server wants as ``tls=``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_cert.configure_cert(context)
    return context


@pytest.fixture(scope="session")
def client_ssl_context(tls_ca: trustme.CA) -> ssl.SSLContext:
    """Give what a transport wants as ``ssl_context=``, to trust the tests' servers."""
    context = ssl.create_default_context()
    tls_ca.configure_trust(context)
    return context


@pytest.fixture(scope="session")
def nginx(tmp_path_factory: pytest.TempPathFactory, server_cert: trustme.LeafCert) -> Iterator[Nginx]:
    """Give a running nginx; tests that ask for it are marked ``peers``."""
    prefix: Path = tmp_path_factory.mktemp("nginx")
    pem = prefix / "server.pem"
    server_cert.private_key_and_cert_chain_pem.write_to_path(str(pem))
    with Nginx(prefix, pem=pem) as server:
        yield server


@pytest.fixture(scope="session")
def full() -> bool:
    """Tell whether the written numbers are asked for (`make test-full`)."""
    return os.environ.get("POOLTRANSPORT_FULL") == "1"


@pytest.fixture(scope="session")
def scaled(full: bool) -> Callable[[int, int], int]:
    """Choose a count: ``scaled(10_000, 200)`` is 10,000 in `make test-full`, else 200."""
    return lambda written, small: written if full else small
