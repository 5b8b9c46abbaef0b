"""What a user sees of each of the six causes, at two strengths, over real sockets (contract 7.4).

Confidence needs half a minute of life, and is looked at in manual time (tests/diagnosis): here it is
what is named first.
"""

from __future__ import annotations

import gc
import socket
import struct
import sys
import threading
import time

import pytest

import pooltransport as pt
from tests.support.colours import run_colour
from tests.support.responders import Responder, big, chunked, head, ok, routes, stall
from tests.support.scripts import run_script


def ids(transport, but=("R3",)):
    """Return the rules that speak; R3 is about the whole process, where other tests made transports as well."""
    return [finding.id for finding in transport.stats().findings if finding.id not in but]


@pytest.mark.parametrize("count", [1, 5])
def test_cause_1_held_open(colour, server_factory, count):
    """(1) a `PoolTimeout` whose first line names the line, and says that nobody closed what it opened."""
    server = server_factory(routes({"/big": big(4_000_000), "/": ok()}))

    async def body(c):
        held = [await c.get(f"{server.url}/big") for _ in range(count)]
        with pytest.raises(pt.PoolTimeout) as caught:
            await c.fetch(server.url, timeout=pt.Timeout(acquire=0.4))
        error = caught.value
        first = str(error)
        assert f"{count} of {count} in use, 1 waiting; {count} held since up to " in first
        assert "colours.py:" in first
        assert first.endswith("responses not closed [PT-EXHAUSTED]")
        assert error.suspects
        assert any(note.startswith("likely cause: response bodies are not closed") for note in error.__notes__)
        for response in held:
            await c.close(response)
        assert await c.fetch(server.url) == b"hello"

    run_colour(colour, body, max_conns_per_host=count)


@pytest.mark.parametrize("count", [1, 8])
def test_cause_1_dropped(colour, server_factory, count):
    """(1) what is dropped is certain, counted, and costs nobody a slot."""
    server = server_factory(routes({"/big": big(4_000_000), "/": ok()}))

    async def body(c):
        for _ in range(count):
            await c.get(f"{server.url}/big")
            gc.collect()
        assert await c.fetch(server.url, timeout=pt.Timeout(acquire=2.0)) == b"hello"
        (finding,) = [found for found in c.transport.stats().findings if found.id == "R1"]
        assert finding.confidence == "certain"
        assert finding.evidence[0].startswith(f"{count} responses from {server.url} were never closed")
        assert c.transport.stats().leaks == count

    run_colour(colour, body, max_conns_per_host=2)


@pytest.mark.parametrize("size", [10, 20])
def test_cause_2_idle_limit(server_factory, size):
    """(2) a finding with the number to set."""
    gate = threading.Barrier(size)

    @Responder
    def together(conn, request):
        gate.wait(10)
        conn.send(head(length=2) + b"ok")

    server = server_factory(together)
    with pt.Transport(max_idle_conns_per_host=2, max_conns_per_host=40) as transport:
        for _ in range(4):
            threads = [
                threading.Thread(target=lambda: transport.round_trip(pt.Request("GET", server.url)).read())
                for _ in range(size)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert ids(transport)[0] == "R2"
        (finding,) = [found for found in transport.stats().findings if found.id == "R2"]
        assert "max_idle_conns_per_host=2, at most " in finding.evidence[0]
        assert finding.runbook == "idle-limit"


@pytest.mark.parametrize("count", [50, 1000])
def test_cause_3_a_client_per_request(colour, server_factory, count):
    """(3) healed: clients without a transport share one."""
    server = server_factory(ok())

    async def body(c):
        for _ in range(count):
            client = (pt.Client if c.sync else pt.AsyncClient)()
            await c.call(client.get, server.url)
            await c.close(client)
        default = pt.default_transport() if c.sync else pt.default_async_transport()
        stats = default.stats()
        assert stats.clients.created >= count
        default.close_idle_connections()

    run_colour(colour, body)
    assert server.accepted == 1


TRANSPORT_PER_REQUEST = """
import gc, sys
import pooltransport as pt

for _ in range(int(sys.argv[2])):
    with pt.Transport() as transport:
        transport.round_trip(pt.Request("GET", sys.argv[1])).read()
    del transport
gc.collect()
with pt.Transport() as transport:
    (finding,) = [found for found in transport.stats().findings if found.id == "R3"]
print(finding.confidence, *finding.evidence, sep="\\n")
"""


@pytest.mark.parametrize("count", [12, 40])
def test_cause_3_a_transport_per_request(server_factory, tmp_path, count):
    """(3) a finding that names the line."""
    server = server_factory(ok())
    # In a process of its own: in this one the lines of all tests are counted, and pytest is running.
    done = run_script(tmp_path / "app.py", TRANSPORT_PER_REQUEST, server.url, count)
    assert done.stdout.startswith("possible\n")  # a young process
    assert f"{count} in the last minute: Transport at {tmp_path / 'app.py'}:6; {count} are gone" in done.stdout


@pytest.mark.parametrize("share", [4, 1])
def test_cause_4_not_read(colour, server_factory, share):
    """(4) drain counters and a finding."""
    server = server_factory(big(600_000))

    async def body(c):
        for number in range(40):
            response = await c.get(server.url)
            if number % share:
                await c.read(response)
            await c.close(response)
        await c.wait_until(lambda: c.transport.stats().leases == 0)
        assert ids(c.transport) == ["R4"]
        stats = c.transport.stats()
        assert stats.drains["limit"] == 40 // share
        (finding,) = [found for found in stats.findings if found.id == "R4"]
        assert finding.evidence[0].startswith(f"{40 // share} of 40 responses from {server.url} cost their connection")

    run_colour(colour, body, max_conns_per_host=4)


@pytest.mark.parametrize("part", ["headers", "body"])
def test_cause_5_a_slow_server(colour, server_factory, part):
    """(5) a `PoolTimeout` that says that the server is waited for, and accuses no line of forgetting something."""
    never = threading.Event()

    @Responder
    def silent(conn, request):
        conn.wait_for(never)

    server = server_factory(routes({"/slow": silent if part == "headers" else stall(never), "/": ok()}))

    async def body(c):
        async def wait():
            with pytest.raises(pt.TransportError):
                await c.fetch(f"{server.url}/slow", timeout=pt.Timeout(total=3.0))

        waiting = [await c.start(wait) for _ in range(2)]
        server_has = server.requests
        await c.wait_until(lambda: server.requests >= 2, patience=10.0)
        assert server_has <= 2
        with pytest.raises(pt.PoolTimeout) as caught:
            await c.fetch(server.url, timeout=pt.Timeout(acquire=0.8))
        assert str(caught.value).endswith("waiting for the server [PT-EXHAUSTED]")
        assert any(note.startswith("likely cause: the server is slow") for note in caught.value.__notes__)
        for handle in waiting:
            await c.wait(handle)

    run_colour(colour, body, max_conns_per_host=2)


@pytest.mark.skipif(sys.platform != "linux", reason="the range of local ports of one socket is Linux's")
@pytest.mark.parametrize("ports", [11, 22])
def test_cause_6_no_local_port(server_factory, ports):
    """(6) the error itself says how many ports are used, and what this pool closed."""
    server = server_factory(big(1_000_000))
    low = 40_000 + time.time_ns() % 15_000  # within the range of the system, or it is not looked at
    option = (socket.IPPROTO_IP, 51, struct.pack("=I", ((low + ports - 1) << 16) | low))
    held = []
    with pt.Transport(socket_options=[option]) as transport:
        with pytest.raises(pt.ConnectError) as caught:
            for _ in range(ports + 5):
                held.append(transport.round_trip(pt.Request("GET", server.url)))
        text = "\n".join([str(caught.value), *caught.value.__notes__])
        assert "no local port is free towards it" in text
        assert " local ports towards 127.0.0.1 are in use" in text
        assert "this pool: " in text
        assert ids(transport)[0] == "R6"
        (finding,) = [found for found in transport.stats().findings if found.id == "R6"]
        assert finding.confidence == "certain"
        assert transport.stats().dial_errors_by_type == {"no_local_port": 1}
        for response in held:
            response.close()


def test_a_busy_pool_is_not_accused(colour, server_factory):
    """Full and flowing: nothing is said above "possible", and the error of who gives up accuses nobody."""
    server = server_factory(chunked(b"x" * 50_000, b"y" * 50_000))

    async def body(c):
        async def work():
            for _ in range(15):
                await c.fetch(server.url)

        await c.gather(*[work for _ in range(8)])
        assert [found for found in c.transport.stats().findings if found.confidence != "possible"] == []

    run_colour(colour, body, max_conns_per_host=3)
