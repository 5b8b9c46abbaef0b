"""Dials that fail for want of a local port or a descriptor: the error says what is used up, and by whom."""

from __future__ import annotations

import socket

import pytest

import pooltransport as pt
from tests.support.colours import run_colour
from tests.support.responders import ok, stall
from tests.support.scripts import run_script

IP_LOCAL_PORT_RANGE = 51  # Linux 6.3
PORTS = 11


def port_range():
    """Return eleven ports that are free at this moment, as the option's value; skip where the kernel has none."""
    for low in range(33_000, 60_000, PORTS):  # within the system's own range: it is cut to that
        try:
            for port in range(low, low + PORTS):
                with socket.socket() as sock:
                    sock.bind(("127.0.0.1", port))
        except OSError:
            continue
        value = ((low + PORTS - 1) << 16 | low) - (1 << 32)  # unsigned there, and signed here
        with socket.socket() as sock:
            try:
                sock.setsockopt(socket.IPPROTO_IP, IP_LOCAL_PORT_RANGE, value)
            except OSError:
                pytest.skip("the kernel has no IP_LOCAL_PORT_RANGE")
        return value
    raise AssertionError("no eleven ports in a row are free")


def test_no_local_port(colour, server_factory):
    """Eleven connections take eleven ports: the twelfth is told so, and which host it is."""
    import threading

    gate = threading.Event()
    server = server_factory(stall(gate))
    options = [(socket.IPPROTO_IP, IP_LOCAL_PORT_RANGE, port_range())]

    async def body(c):
        held = [await c.get(server.url) for _ in range(PORTS)]
        errors = []
        for _ in range(2):
            with pytest.raises(pt.ConnectError) as caught:
                await c.get(server.url)
            errors.append(caught.value)
        for error in errors:
            assert "no local port is free" in str(error)
            used, pool, more = error.__notes__
            limit = used.split()[2]
            assert used == f"{PORTS} of {limit} local ports towards 127.0.0.1 are in use, 0 of them in TIME_WAIT (0%)"
            origin = f"http://127.0.0.1:{server.port}"
            assert pool == f"this pool: {PORTS} connections open to {origin}, 0 closed since it began: none"
            assert more == "more: python -m pooltransport explain PT-PORTS"
        stats = c.transport.stats()
        assert stats.dial_errors_by_type == {"no_local_port": 2}
        (finding,) = [finding for finding in stats.findings if finding.id == "R6"]
        assert (finding.confidence, finding.runbook) == ("certain", "port-exhaustion")
        assert (
            f"{PORTS} of {limit} local ports towards 127.0.0.1 are in use, 0 of them in TIME_WAIT" in finding.evidence
        )
        gate.set()
        for response in held:
            await c.read(response)

    run_colour(colour, body, socket_options=options)


def test_ports_in_time_wait(server_factory):
    """No connection is open any more, and the kernel still counts those that this pool has closed."""
    server = server_factory(ok())
    options = [(socket.IPPROTO_IP, IP_LOCAL_PORT_RANGE, port_range())]
    with pt.Transport(socket_options=options, disable_keep_alives=True) as transport:
        client = pt.Client(transport=transport)
        with pytest.raises(pt.ConnectError) as caught:
            for _ in range(PORTS + 1):
                client.get(server.url)
        used, pool, _ = caught.value.__notes__
        assert "local ports towards 127.0.0.1 are in use" in used
        assert int(used.split()[0]) >= PORTS  # the server may have a port that others left in TIME_WAIT
        assert f"0 connections open to http://127.0.0.1:{server.port}, {PORTS} closed since it began: " in pool
        assert f"{PORTS} keepalive_disabled" in pool or f"{PORTS} server_close_header" in pool


TOO_MANY = """
import resource, sys
import pooltransport as pt
from tests.support.colours import run_colour

async def body(c):
    resource.setrlimit(resource.RLIMIT_NOFILE, (60, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    held = []
    try:
        while True:
            held.append(await c.get(sys.argv[2]))
    except pt.ConnectError as error:
        text, notes = str(error), error.__notes__
    assert "RLIMIT_NOFILE" in text, text
    files, pool, line = notes[0], notes[1], notes[2]
    used, sockets = int(files.split()[0]), int(files.split(";")[1].split()[0])
    assert files == f"{used} file descriptors open, of 60 (RLIMIT_NOFILE); {sockets} of them are sockets", files
    assert 55 <= used <= 60
    assert sockets >= len(held)
    assert pool == (
        f"this pool: {len(held)} connections open, 0 of them idle; "
        "this process made 1 clients and transports, 1 are alive"
    ), pool
    assert "1 made in the last minute: " in line and "Transport at " in line, line
    assert c.transport.stats().dial_errors_by_type == {"too_many_files": 1}
    for response in held:
        await c.close(response)
    print("told")

run_colour(sys.argv[1], body, drain_limit=0)
"""


def test_too_many_files(colour, server_factory, tmp_path):
    import threading

    gate = threading.Event()
    server = server_factory(stall(gate))
    try:
        done = run_script(tmp_path / "app.py", TOO_MANY, colour, server.url)
    finally:
        gate.set()
    assert done.stdout == "told\n"
