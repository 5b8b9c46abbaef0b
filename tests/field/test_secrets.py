"""What a URL says beside scheme, host and port is nobody's business: not in logs, warnings, errors or metrics.

Requests that succeed, and one of each kind that fails, go through every observer there is; then all that was said is
searched for the password, for the token in the query and for what a proxy was told. Errors and logs of ours name no
path either; spans do (`url.full`), as the semantic conventions want it.
"""

from __future__ import annotations

import base64
import contextlib
import gc
import json
import logging
import socket
import threading
import traceback
import warnings

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest

import pooltransport as pt
from pooltransport.observe.access_log import AccessLog, AsyncAccessLog
from pooltransport.observe.otel import AsyncTracedTransport, TracedTransport
from pooltransport.observe.prometheus import PoolCollector
from tests.support.colours import run_colour
from tests.support.logs import extras, recorded
from tests.support.proxies import HttpProxy
from tests.support.responders import head, no_response_close, ok, raw, routes, stall

# Spelled in pieces, since tracebacks quote the lines of this file.
USER, PASSWORD, TOKEN, PATH = "som" + "eone", "pass" + "w0rd", "t0k" + "en", "pri" + "vate"
BASIC = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
NOWHERE = [USER, PASSWORD, TOKEN, BASIC]
NOT_IN_ERRORS = [*NOWHERE, PATH]


def with_secrets(url: str) -> str:
    """Put a user, a password, a path and a token into a URL."""
    return url.replace("://", f"://{USER}:{PASSWORD}@") + f"/{PATH}?token={TOKEN}"


def closed_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Heard:
    """Everything that was said: in errors (and logs, and warnings), and in metrics and spans."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.kinds: set[str] = set()
        self.elsewhere: list[str] = []

    def error(self, error: BaseException) -> None:
        self.kinds.add(type(error).__name__)
        self.errors += [str(error), repr(error), repr(error.args)]
        self.errors += ["".join(traceback.format_exception(error)), *getattr(error, "__notes__", ())]
        self.errors += [repr(row) for row in getattr(error, "attempts", ())]
        if isinstance(error, pt.PoolTimeout):
            self.errors += [json.dumps(error.stats.to_json()), repr(error.holders), repr(error.suspects)]

    def found(self) -> list[tuple[str, str]]:
        errors = [(secret, text) for text in self.errors for secret in NOT_IN_ERRORS if secret in text]
        return errors + [(secret, text) for text in self.elsewhere for secret in NOWHERE if secret in text]


def observed(c, transport, tracer):
    """Put the access log and spans around a transport."""
    log, spans = (AccessLog, TracedTransport) if c.sync else (AsyncAccessLog, AsyncTracedTransport)
    return spans(log(transport), tracer)


async def fail(c, heard, url, client, **options):
    """Send a request that may fail; hear what it says."""
    try:
        heard.errors.append(repr(client.build_request("GET", url)))
        response = await c.call(client.get, url, **options)
        heard.errors.append(repr(response))
        response.raise_for_status()
    except pt.Error as error:
        heard.error(error)


def answers(stalled: threading.Event):
    """Answer by path, well and in every wrong way."""
    moved = [("Location", with_secrets(f"http://127.0.0.1:{closed_port()}"))]
    broken = f"http://{USER}:{PASSWORD}@\u2100/"
    table = {
        "/": ok(),
        "/moved": ok(b"", *moved, status="302 Found"),
        "/loop": ok(b"", ("Location", "?again"), status="302 Found"),
        # urllib names what it refuses here: a letter that stands for "a/c".
        "/nowhere": ok(b"", ("Location", broken.encode().decode("latin-1")), status="302 Found"),
        "/closed": no_response_close,
        "/nonsense": raw(b"what?\r\n\r\n", then_close=True),
        "/short": raw(head(length=9) + b"abc", then_close=True),
        "/stalled": stall(stalled),
        "/gzip": raw(head("200 OK", ("Content-Encoding", "gzip"), length=5) + b"wrong"),
    }
    return routes({f"{path.rstrip('/')}/{PATH}": answer for path, answer in table.items()})


async def all_kinds(c, heard, server, tls_url, proxy, tracer, transports):
    """Make requests that end in every way."""

    def client_of(**options):
        transports.append(c.make_transport(**options))
        return c.make_client(transport=observed(c, transports[-1], tracer), headers={"X-Key": TOKEN})

    client = client_of(name="all", trace=pt.ClientTrace(**dict.fromkeys(("got_conn", "put_idle_conn"), print_nothing)))
    for path in ("", "/missing", "/moved", "/loop", "/nowhere", "/closed", "/nonsense", "/short", "/gzip"):
        await fail(c, heard, with_secrets(f"{server.url}{path}"), client)
    await fail(c, heard, with_secrets(f"{server.url}/stalled"), client, timeout=0.05)
    again = {"retry": pt.Retry(1, backoff_factor=0), "auth": (USER, PASSWORD)}
    await fail(c, heard, with_secrets(f"http://127.0.0.1:{closed_port()}"), client, **again)
    await fail(c, heard, with_secrets(f"https://127.0.0.1:{server.port}"), client, timeout=pt.Timeout(tls=0.05))
    await fail(c, heard, with_secrets(tls_url), client)
    for broken in ("http://127.0.0.1:99999", "ftp://127.0.0.1", "http://exa mple", "http://[::g]", "http://"):
        await fail(c, heard, with_secrets(broken), client)
    await fail(c, heard, f"http://{USER}:{PASSWORD[:3]}/{PASSWORD[3:]}@127.0.0.1/", client)
    await fail(c, heard, with_secrets("http://unknown.test"), client_of(resolver=lambda host, port: []))
    await fail(c, heard, with_secrets(server.url), client_of(allow_address=pt.public_only))
    await fail(c, heard, with_secrets(server.url), client_of(https_only=True))
    way = f"http://{USER}:{PASSWORD}@127.0.0.1:"
    for proxied in (client_of(proxy=f"{way}{proxy.port}"), client_of(proxy=lambda request: f"{way}{proxy.port}")):
        await fail(c, heard, with_secrets("http://name.test"), proxied)
        await fail(c, heard, with_secrets("https://name.test"), proxied)
    await fail(c, heard, with_secrets("http://name.test"), client_of(proxy=f"{way}{closed_port()}"))
    await fail(c, heard, with_secrets("http://name.test"), client_of(proxy=lambda request: f"{way}x/{TOKEN}"))
    with contextlib.suppress(pt.ConfigError):
        heard.errors += [repr(c.make_transport(proxy=f"{way}1").options)]
        c.make_transport(proxy=f"{way}x/{TOKEN}")
    await exhausted_and_leaked(c, heard, server, client_of(max_conns_per_host=1, lease_warn_after=0.01))
    for made in (client, *transports):
        heard.errors.append(repr(made))
    await fail(c, heard, with_secrets(server.url), c.make_client(base_url=with_secrets("https://name.test")[:-20]))


def print_nothing(info) -> None:
    """Break, as hooks do, which is logged."""
    raise RuntimeError("a hook of the test")


async def exhausted_and_leaked(c, heard, server, client):
    """Hold the one connection while another asks for it; then drop it unclosed."""
    held = await c.call(client.send, client.build_request("GET", with_secrets(f"{server.url}")), stream=True)
    heard.errors.append(repr(held))
    await c.sleep(0.02)
    await fail(c, heard, with_secrets(server.url), client, timeout=pt.Timeout(acquire=0.02))
    heard.elsewhere.append(json.dumps(client.stats(detail=True).to_json()))
    del held
    gc.collect()
    await fail(c, heard, with_secrets(server.url), client)


@pytest.mark.leaves("sockets")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_no_secret_is_said_anywhere(colour, server_factory, server_ssl_context):
    heard, stalled = Heard(), threading.Event()
    tls = server_factory(ok(), tls=server_ssl_context)
    server = server_factory(answers(stalled))
    proxy = server_factory(HttpProxy(user="somebody", password="else"))
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    async def body(c):
        transports = []
        try:
            await all_kinds(c, heard, server, tls.url, proxy, provider.get_tracer("test"), transports)
            with contextlib.closing(PoolCollector(transports, kernel=True, details=True)) as collector:
                registry = CollectorRegistry()
                registry.register(collector)
                heard.elsewhere.append(generate_latest(registry).decode())
            for transport in transports:
                stats = transport.stats(detail=True)
                heard.elsewhere += [json.dumps(stats.to_json()), repr(stats), repr(transport.connections())]
        finally:
            stalled.set()
            for transport in transports:
                await c.close_transport(transport)

    with recorded("", logging.DEBUG) as records, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        run_colour(colour, body)
    heard.errors += [str(warning.message) for warning in warned]
    for record in records.records:
        heard.errors += [record.getMessage(), repr(extras(record)), repr(record.exc_info)]
    spans = [span.to_json() for span in exporter.get_finished_spans()]
    provider.shutdown()
    heard.elsewhere += spans

    # All of it did happen.
    assert heard.kinds >= {
        *("HTTPStatusError", "ServerClosedConnection", "RemoteProtocolError", "IncompleteBody", "DecodingError"),
        *("ReadTimeout", "ConnectError", "TLSError", "InvalidRequest", "DNSError", "AddressRefused", "ProxyError"),
        *("PoolTimeout", "TooManyRedirects"),
    }
    assert {record.name for record in records.records} >= {
        *("pooltransport.access", "pooltransport.leak", "pooltransport.pool"),
    }
    assert any(issubclass(warning.category, pt.UnclosedResponseWarning) for warning in warned)
    assert len(spans) > 15
    assert PATH in "".join(spans)  # the search does find what is there
    assert heard.found() == []
