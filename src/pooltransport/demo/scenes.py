"""The scenes. Each provokes one cause, and prints what the library said of it."""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

from pooltransport.client import Client
from pooltransport.errors import PoolConfigWarning, PoolTimeout, ReadTimeout, UnclosedResponseWarning
from pooltransport.models import Request, Timeout
from pooltransport.trace import ClientTrace
from pooltransport.transport import Transport, default_transport

from .server import DemoServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from pooltransport.trace import LeakReport


def run() -> int:
    """Play all scenes; return 0."""
    began = time.monotonic()
    # The leak's report is printed by the scene itself, from the hook; once is enough on this screen.
    for name in ("pooltransport.leak", "pooltransport.pool"):
        logging.getLogger(name).addHandler(logging.NullHandler())
        logging.getLogger(name).propagate = False
    warnings.simplefilter("ignore", UnclosedResponseWarning)
    with DemoServer() as server:
        print(f"a server on {server.url}; six ways in which a connection pool runs dry\n")
        for number, (title, scene) in enumerate(_SCENES, 1):
            print(f"{number}. {title}")
            scene(server)
            print()
    default_transport().close_idle_connections()
    print(f"done in {time.monotonic() - began:.1f} s")
    return 0


def _say(text: object) -> None:
    print(f"   {text}")


def _hello(transport: Transport, server: DemoServer) -> None:
    transport.round_trip(Request("GET", f"{server.url}/hello")).read()


def _count(counts: Counter[str], name: Callable[[Any], str]) -> Callable[[Any], None]:
    return lambda info: counts.update([name(info)])


def _not_closed(server: DemoServer) -> None:
    reports: list[LeakReport] = []
    with Transport(max_conns_per_host=2, trace=ClientTrace(leaked=reports.append)) as transport:
        for _ in range(5):
            transport.round_trip(Request("GET", f"{server.url}/bytes/10000000"))  # dropped, never closed
        with transport.round_trip(Request("GET", f"{server.url}/hello")) as response:
            _say(f"limit 2, 5 responses dropped unclosed, and the next request: {response.status_code}")
        _say(f"stats(): leaks={transport.stats().leaks} active={transport.stats().active}; the leaked hook said:")
        for line in reports[0].message.splitlines():
            _say(f"  {line}")
    with Transport(max_conns_per_host=2) as transport:
        held = [transport.round_trip(Request("GET", f"{server.url}/bytes/10000000")) for _ in range(2)]
        try:
            transport.round_trip(Request("GET", f"{server.url}/hello", timeout=Timeout(acquire=0.3)))
        except PoolTimeout as error:
            _say("and where they are not dropped but kept open, the error says who holds them:")
            _say(f"  PoolTimeout: {error}")
        for response in held:
            response.close()


def _idle_limit(server: DemoServer) -> None:
    for limit in (2, None):
        refusals: Counter[str] = Counter()
        trace = ClientTrace(put_idle_conn=_count(refusals, str))
        options: dict[str, Any] = {} if limit is None else {"max_idle_conns_per_host": limit}
        before = server.accepted
        with warnings.catch_warnings(record=True) as suspicious:  # the first word comes when it is made
            warnings.simplefilter("always", PoolConfigWarning)
            made = Transport(trace=trace, **options)
        with made as transport:
            for _ in range(3):
                server.together(10)
                _at_once(10, partial(_hello, transport, server))
            server.together(0)
            closed = dict(transport.stats().closed)
        name = "max_idle_conns_per_host=2 (Go's default)" if limit else "the default here"
        _say(f"3 bursts of 10 requests with {name}: {server.accepted - before} connections")
        for warning in suspicious:
            _say(f"  PoolConfigWarning: {warning.message}")
        for text, count in refusals.items():
            _say(f"  put_idle_conn said {count} times: {text}")
        _say(f"  stats(): closed={closed}")


def _client_per_request(server: DemoServer) -> None:
    before = server.accepted
    for _ in range(200):
        with Client() as client:
            client.get(f"{server.url}/hello")
    _say(f"200 clients, one for each request: {server.accepted - before} connection (they share the default transport)")
    before = server.accepted
    for _ in range(20):
        with Transport() as transport:
            _hello(transport, server)
        del transport
    _say(f"20 transports of their own: {server.accepted - before} connections; pass one to your clients instead")
    for finding in default_transport().stats().findings:
        if finding.id == "R3":
            _say(f"  stats().findings: {finding.cause}: {finding.evidence[0]}")


def _not_read(server: DemoServer) -> None:
    for size in (200_000, 10_000_000):
        before = server.accepted
        with Transport() as transport:
            for _ in range(10):
                with transport.round_trip(Request("GET", f"{server.url}/bytes/{size}")) as response:
                    next(response.iter_bytes(10))
            stats = transport.stats()
        drains = {key: value for key, value in stats.drains.items() if value}
        _say(f"10 bodies of {size:,} bytes closed after 10: {server.accepted - before} connections, drains={drains}")
    _say("up to drain_limit the rest is read away on close, within drain_timeout; beyond, a new dial is cheaper")


def _slow(server: DemoServer) -> None:
    with Transport(max_conns_per_host=1) as transport:
        began = time.monotonic()
        try:
            transport.round_trip(Request("GET", f"{server.url}/drip", timeout=0.5)).read()
        except ReadTimeout as error:
            _say(f"a byte each 0.1 s, timeout=0.5: ended after {time.monotonic() - began:.2f} s")
            _say(f"  ReadTimeout: {error}; phase={error.phase} setting={error.setting}")
    with Transport(max_conns_per_host=1, min_rate=(1000.0, 0.4)) as transport:
        try:
            transport.round_trip(Request("GET", f"{server.url}/drip")).read()
        except ReadTimeout as error:
            _say(f"  with min_rate=(1000, 0.4): {error}")
        stats = transport.stats()
        _say(f"  stats(): active={stats.active} timeouts={dict(stats.timeouts)}: the slot is free again")


def _time_wait(server: DemoServer) -> None:
    for options in ({"disable_keep_alives": True}, {}):
        closed: Counter[str] = Counter()
        trace = ClientTrace(conn_closed=_count(closed, lambda info: f"{info.reason.value} by {info.closed_by}"))
        before = server.accepted
        with Transport(trace=trace, **options) as transport:  # type: ignore[arg-type]
            for _ in range(50):
                _hello(transport, server)
            acquired = transport.stats().acquired
        name = "without keep-alive" if options else "pooled"
        reuse = 1 - acquired["dialed"] / sum(acquired.values())
        _say(f"50 requests {name}: {server.accepted - before} connections, reuse ratio {reuse:.2f}")
        _say(f"  conn_closed said: {dict(closed)}")


def _at_once(n: int, call: Callable[[], object]) -> None:
    threads = [threading.Thread(target=call) for _ in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


_SCENES: tuple[tuple[str, Callable[[DemoServer], None]], ...] = (
    ("The response body is not closed", _not_closed),
    ("The idle limit per host is too low", _idle_limit),
    ("A new client for each request", _client_per_request),
    ("The body is not read to its end", _not_read),
    ("A slow server holds the connections", _slow),
    ("Connections pile up in TIME_WAIT", _time_wait),
)
