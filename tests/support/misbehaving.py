"""A service with metrics, as a process of its own: ``python -m tests.support.misbehaving sick`` or ``healthy``.

The sick one misbehaves in the six ways, each towards a server of its own; the healthy one is busy in ways that look
like it. It prints one line of JSON (the port of its metrics, the ports of the servers), and ends when its standard
input does, so that it never outlives a test.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import warnings
from typing import TYPE_CHECKING

import prometheus_client

import pooltransport as pt
from pooltransport.observe.prometheus import PoolCollector
from tests.support.kernel import local_ports
from tests.support.responders import Responder, big, head, ok
from tests.support.server import ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Callable

    Habit = Callable[[str, threading.Event], None]

EACH = 0.2  # seconds between two steps
LARGE = 600_000  # more than is read away, and than all buffers hold


def get(transport: pt.Transport, url: str, **options) -> pt.Response:
    return transport.round_trip(pt.Request("GET", url, **options))


# -- the six causes --------------------------------------------------------------------------------


def drops_responses(url: str, stop: threading.Event) -> None:
    """Cause 1: responses are dropped unclosed."""
    with pt.Transport() as transport:
        while not stop.wait(EACH):
            get(transport, url)


def holds_responses(url: str, stop: threading.Event) -> None:
    """Cause 1: responses are kept and not read."""
    with pt.Transport(max_conns_per_host=3, lease_warn_after=1.0) as transport:
        held = [get(transport, url) for _ in range(3)]
        while not stop.wait(EACH):
            with contextlib.suppress(pt.PoolTimeout):
                get(transport, url, timeout=pt.Timeout(acquire=0.2))
        for response in held:
            response.close()


def keeps_two_idle(url: str, stop: threading.Event) -> None:
    """Cause 2: an idle limit of 2, and bursts of 8."""
    with pt.Transport(max_idle_conns_per_host=2) as transport:
        while not stop.wait(EACH):
            for response in [get(transport, url) for _ in range(8)]:
                response.read()


def makes_clients(url: str, stop: threading.Event) -> None:
    """Cause 3: a transport for each request."""
    while not stop.wait(EACH / 2):
        with pt.Transport() as transport:
            get(transport, url).read()


def reads_a_part(url: str, stop: threading.Event) -> None:
    """Cause 4: bodies are not read to their end."""
    with pt.Transport() as transport:
        while not stop.wait(EACH):
            with get(transport, url) as response:
                next(response.iter_bytes(10))


def waits_for_a_slow_server(url: str, stop: threading.Event) -> None:
    """Cause 5: a server that does not answer holds all connections, and nobody else gets one."""
    options = {"response_header_timeout": None, "read_timeout": None}
    with pt.Transport(max_conns_per_host=4, lease_warn_after=1.0, **options) as transport:
        with run_all([lambda: patiently(transport, url)] * 4):
            while not stop.wait(EACH):
                with contextlib.suppress(pt.PoolTimeout):
                    get(transport, url, timeout=pt.Timeout(acquire=0.2))
            transport.close()


def patiently(transport: pt.Transport, url: str) -> None:
    with contextlib.suppress(pt.TransportError):  # of being closed
        get(transport, url).read()


def has_eight_ports(url: str, stop: threading.Event) -> None:
    """Cause 6: all local ports that there are towards the server are in use."""
    held = []
    with pt.Transport(socket_options=[local_ports(8)]) as transport:
        while not stop.wait(EACH / 2):
            with contextlib.suppress(pt.ConnectError):
                held.append(get(transport, url))
        for response in held:
            response.close()


# -- busy, and well --------------------------------------------------------------------------------


def works(url: str, stop: threading.Event) -> None:
    """Many threads, one transport, everything read."""
    with pt.Transport(max_conns_per_host=8) as transport:

        def work() -> None:
            while not stop.wait(EACH / 5):
                get(transport, url).read()

        with run_all([work] * 4):
            stop.wait()


def bursts(url: str, stop: threading.Event) -> None:
    """As many at once as may be idle."""
    with pt.Transport() as transport:
        while not stop.wait(EACH):
            for response in [get(transport, url) for _ in range(8)]:
                response.read()


def listens(url: str, stop: threading.Event) -> None:
    """Streams that stay open, and say so."""
    with pt.Transport(lease_warn_after=1.0) as transport:
        streams = [get(transport, url) for _ in range(4)]
        for stream in streams:
            stream.long_lived()
        stop.wait()
        for stream in streams:
            stream.close()


def leaves_small_bodies(url: str, stop: threading.Event) -> None:
    """Bodies that are left, and small enough to be read away."""
    with pt.Transport() as transport:
        while not stop.wait(EACH):
            get(transport, url).close()


def begins_with_clients(url: str, stop: threading.Event) -> None:
    """A few clients, made at the start."""
    with pt.Transport() as transport:
        clients = [pt.Client(transport=transport) for _ in range(5)]
        while not stop.wait(EACH):
            for client in clients:
                client.post(url, content=b"x" * 1000)


@contextlib.contextmanager
def run_all(calls):
    """Run each in a thread; at the end raise what one of them raised."""
    errors: list[BaseException] = []

    def run(call) -> None:
        try:
            call()
        except BaseException as error:
            errors.append(error)
            raise  # and say so now

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]


@Responder
def never(conn, request) -> None:
    conn.wait_for(threading.Event())
    conn.close()


@Responder
def begins(conn, request) -> None:
    """Answer with a header, and the first bytes of a body that does not go on."""
    conn.send(head("200 OK", length=LARGE) + b"x" * 10)
    conn.wait_for(threading.Event())
    conn.close()


SICK: dict[str, tuple[Habit, Responder]] = {
    "drops": (drops_responses, big(LARGE)),
    "holds": (holds_responses, big(LARGE)),
    "two_idle": (keeps_two_idle, ok()),
    "clients": (makes_clients, ok()),
    "part": (reads_a_part, big(LARGE)),
    "slow": (waits_for_a_slow_server, never),
    "ports": (has_eight_ports, big(LARGE)),
}
HEALTHY: dict[str, tuple[Habit, Responder]] = {
    "works": (works, ok(b"x" * 1000)),
    "bursts": (bursts, ok()),
    "listens": (listens, begins),
    "clients": (begins_with_clients, ok()),
    "small": (leaves_small_bodies, big(10_000)),
}


def main(habits: dict[str, tuple[Habit, Responder]]) -> None:
    warnings.simplefilter("ignore", pt.UnclosedResponseWarning)
    collector = PoolCollector(registry=prometheus_client.REGISTRY, kernel=True, details=True)
    metrics, _ = prometheus_client.start_http_server(0, addr="127.0.0.1")
    stop = threading.Event()
    with contextlib.ExitStack() as stack:
        servers = {name: ScriptedServer(handler) for name, (_, handler) in habits.items()}
        for server in servers.values():
            stack.callback(server.stop)
        # By a name, so that there are look-ups.
        urls = {name: f"http://localhost:{server.port}" for name, server in servers.items()}
        calls = [lambda habit=habit, url=urls[name]: habit(url, stop) for name, (habit, _) in habits.items()]
        with run_all(calls):
            ports = {name: server.port for name, server in servers.items()}
            print(json.dumps({"metrics": metrics.server_port, "servers": ports}), flush=True)
            sys.stdin.read()
            stop.set()
    metrics.shutdown()
    collector.close()


if __name__ == "__main__":
    main({"sick": SICK, "healthy": HEALTHY}[sys.argv[1]])
