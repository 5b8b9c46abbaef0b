"""The kernel's side: whose sockets there are, in which state, and how many ports are taken."""

from __future__ import annotations

import contextlib
import socket
import sys

import pytest

import pooltransport as pt
from pooltransport.diagnosis import ports
from pooltransport.observe.hosts import Hosts
from pooltransport.observe.kernel import TTL, Kernel
from tests.support.responders import ok

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's tables are Linux's")


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def rows(table, name):
    found = {}
    for labels, value in table.rows.get(f"pooltransport.kernel.{name}", {}).items():
        named = dict(labels)
        key = tuple(named.get(f"pooltransport.socket.{part}") for part in ("state", "owner"))
        found[named.get("server.port"), *key] = value
    return found


@pytest.fixture(params=["127.0.0.1", "::1"])
def server(request, server_factory):
    return server_factory(ok(), host=request.param)


def test_sockets_by_state_and_owner(server):
    """Ours in the pool, ours beside it, another process's, and those that are nobody's any more."""
    clock = Clock()
    looking = Kernel(Hosts(), clock)
    port = str(server.port)
    with pt.Transport() as transport, pt.Transport(disable_keep_alives=True) as short:
        client = pt.Client(transport=transport)
        client.get(server.url)
        # A port of the server's is given again while connections of another test to it still wait.
        others = rows(Kernel(Hosts(), Clock()).look([transport, short]), "sockets")
        waiting = sum(value for key, value in others.items() if key[0] == port and key[2] == "none")
        for _ in range(3):
            pt.Client(transport=short).get(server.url)  # we end it first: TIME_WAIT is ours
        with socket.create_connection((server.host, server.port)):
            server.wait_until(lambda: not short.stats().open, "closed")
            table = looking.look([transport, short])
            sockets = rows(table, "sockets")
            assert sockets[port, "established", "pool"] == 1
            assert sockets[port, "established", "process"] == 1
            assert sum(value for key, value in sockets.items() if key[2] == "none") == waiting + 3
            assert rows(table, "ports_used") == {(port, None, None): waiting + 5}
            (limit,) = rows(table, "ports_limit").values()
            assert limit == ports.port_limit()
        # Not read again at once.
        client.get(server.url)
        assert looking.look([transport, short]) is table
        clock.now = TTL + 1
        assert looking.look([transport, short]) is not table


def test_where_the_kernel_says_nothing_there_is_nothing(server, monkeypatch):
    monkeypatch.setattr(ports, "port_limit", lambda: None)
    with pt.Transport() as transport:
        pt.Client(transport=transport).get(server.url)
        assert list(Kernel(Hosts()).look([transport])) == []


def test_it_takes_no_longer_than_it_may(server):
    """The clock is looked at every 256 rows."""
    with contextlib.ExitStack() as stack:
        for _ in range(150):
            stack.enter_context(socket.create_connection((server.host, server.port)))
        server.wait_for_accepted(150)
        # Each of them is there twice, at the server's side as well.
        assert len(list(ports.tcp_sockets(None))) >= 300
        assert len(list(ports.tcp_sockets(None, -1.0))) <= 256
        assert len(list(ports.tcp_sockets({ports.spelled(server.host, server.port)}))) == 150


def test_sockets_of_a_unix_path_have_no_ports(server_factory, tmp_path):
    server = server_factory(ok(), uds=str(tmp_path / "socket"))
    with pt.Transport(uds=server.uds) as transport:
        pt.Client(transport=transport).get("http://unix/")
        (conn,) = transport.connections()
        assert (conn.origin, conn.requests_served) == ("http://unix:80", 1)
        assert rows(Kernel(Hosts()).look([transport]), "ports_used") == {}


def test_connections_say_where_they_go(server):
    with pt.Transport() as transport:
        response = transport.round_trip(pt.Request("GET", server.url))
        response.read()
        (conn,) = transport.connections()
        assert conn.local_addr == response.conn.local_addr
        assert conn.remote_addr.rpartition(":")[2] == str(server.port)
        assert conn.age >= 0
    assert transport.connections() == ()
