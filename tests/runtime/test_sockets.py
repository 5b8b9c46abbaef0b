"""What the dialing options do to a socket, as the kernel sees it, in every colour."""

from __future__ import annotations

import errno
import resource
import socket

import pytest

import pooltransport as pt
from tests.support import kernel
from tests.support.colours import run_colour
from tests.support.neighbours import Neighbours
from tests.support.responders import ok
from tests.support.scripts import run_script

KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
)


async def options_of_a_connection(c, server, *options):
    response = await c.get(server.url)
    try:
        (values,) = kernel.options_to(server.port, *options)
        return values
    finally:
        await c.read(response)


@pytest.mark.parametrize(
    ("given", "set_to"), [({}, (1, 15, 15, 9)), (True, (1, 15, 15, 9)), ((7, 3, 2), (1, 7, 3, 2)), (False, (0,))]
)
def test_tcp_keepalive(colour, server_factory, given, set_to):
    server = server_factory(ok())
    options = {} if given == {} else {"tcp_keepalive": given}
    found = run_colour(colour, lambda c: options_of_a_connection(c, server, *KEEPALIVE), **options)
    assert found[: len(set_to)] == set_to


def test_no_delay(colour, server_factory):
    server = server_factory(ok())
    option = (socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert run_colour(colour, lambda c: options_of_a_connection(c, server, option)) == (1,)


def test_socket_options(colour, server_factory):
    server = server_factory(ok())
    option = (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    found = run_colour(colour, lambda c: options_of_a_connection(c, server, option), socket_options=[(*option, 4321)])
    assert found == (4321,)


def test_a_socket_option_that_the_kernel_refuses(colour, server_factory):
    server = server_factory(ok())

    async def body(c):
        with pytest.raises(pt.ConnectError, match="Protocol not available"):
            await c.fetch(server.url)
        assert c.transport.stats().dialing == 0

    run_colour(colour, body, socket_options=[(socket.IPPROTO_TCP, 9999, 1)])
    assert server.accepted == 0


class TestLocalAddress:
    def peers(self, colour, server, url=None, **options):
        async def body(c):
            await c.fetch(url or server.url)

        def handler(conn):
            seen.append(conn.peer)
            ok()(conn)

        seen: list[tuple] = []
        server.handler = handler
        run_colour(colour, body, **options)
        return seen

    def test_address(self, colour, server_factory):
        ((host, *_),) = self.peers(colour, server_factory(ok()), local_address="127.0.0.9")
        assert host == "127.0.0.9"

    def test_address_and_port(self, colour, server_factory):
        with socket.socket() as probe:
            probe.bind(("127.0.0.9", 0))
            port = probe.getsockname()[1]
        assert self.peers(colour, server_factory(ok()), local_address=("127.0.0.9", port)) == [("127.0.0.9", port)]

    def test_ipv6(self, colour, server_factory):
        ((host, *_),) = self.peers(colour, server_factory(ok(), host="::1"), local_address="::1")
        assert host == "::1"

    def test_the_other_family_is_left_out(self, colour):
        with Neighbours("::1", "127.0.0.1") as hosts:
            server = hosts.serve("127.0.0.1", ok())
            hosts.serve("::1", ok())
            told = []
            options = {"resolver": hosts.resolve, "trace": pt.ClientTrace(connect_start=told.append)}
            ((host, *_),) = self.peers(colour, server, hosts.url, local_address="127.0.0.9", **options)
            assert host == "127.0.0.9"
            assert [info.address for info in told] == [f"127.0.0.1:{hosts.port}"]

    def test_nothing_of_its_family(self, colour, server_factory):
        server = server_factory(ok())

        async def body(c):
            text = f"127.0.0.1:{server.port}: left out: local_address ::1 is of another address family"
            with pytest.raises(pt.ConnectError, match=text) as caught:
                await c.fetch(server.url)
            assert [attempt.errno for attempt in caught.value.attempts] == [errno.EAFNOSUPPORT]

        run_colour(colour, body, local_address="::1")

    def test_not_of_this_machine(self, colour, server_factory):
        server = server_factory(ok())

        async def body(c):
            with pytest.raises(pt.ConnectError, match="local_address 192.0.2.1 is not an address of this machine"):
                await c.fetch(server.url)

        run_colour(colour, body, local_address="192.0.2.1")

    def test_its_port_is_taken(self, colour, server_factory):
        server = server_factory(ok())

        async def body(c):
            with pytest.raises(pt.ConnectError, match=f"its port {server.port} is in use"):
                await c.fetch(server.url)

        run_colour(colour, body, local_address=("127.0.0.1", server.port))


class TestUnixSocket:
    def test_it_carries_requests_and_is_kept(self, colour, server_factory, tmp_path):
        server = server_factory(ok(), uds=str(tmp_path / "s"))

        async def body(c):
            got = []
            for _ in range(2):
                assert await c.fetch("http://unix.test/x", trace=pt.ClientTrace(got_conn=got.append)) == b"hello"
            assert [info.remote_addr for info in got] == [server.uds] * 2
            assert [info.reused for info in got] == [False, True]

        run_colour(colour, body, uds=server.uds)
        assert server.accepted == 1
        assert server.log[0].header("host") == "unix.test"

    def test_with_tls(self, colour, server_factory, tmp_path, server_ssl_context, client_ssl_context):
        server = server_factory(ok(), uds=str(tmp_path / "s"), tls=server_ssl_context)

        async def body(c):
            assert await c.fetch("https://localhost/") == b"hello"

        run_colour(colour, body, uds=server.uds, ssl_context=client_ssl_context)

    @pytest.mark.parametrize(("there", "said"), [(False, "No such file or directory"), (True, "Connection refused")])
    def test_nobody_there(self, colour, tmp_path, there, said):
        path = str(tmp_path / "s")
        if there:
            with socket.socket(socket.AF_UNIX) as left_behind:
                left_behind.bind(path)

        async def body(c):
            told = []
            trace = pt.ClientTrace(connect_done=lambda info: told.append((info.network, info.address)))
            with pytest.raises(pt.ConnectError, match=f"{path}: {said}"):
                await c.fetch("http://unix.test/", trace=trace)
            assert told == [("unix", path)]

        run_colour(colour, body, uds=path)


def test_no_local_port_is_free(colour, server_factory):
    """Three ports for one destination: the fourth connection has none (EADDRNOTAVAIL)."""
    server = server_factory(ok(b"x" * 300_000))
    ports = kernel.local_ports(3)
    held = []

    async def body(c):
        with pytest.raises(pt.ConnectError, match="no local port is free towards it: too many connections") as caught:
            for _ in range(4):
                held.append(await c.get(server.url))
        assert held  # fewer than three if somebody else listens on one of them by now
        assert [attempt.errno for attempt in caught.value.attempts] == [errno.EADDRNOTAVAIL]
        for response in held:
            await c.close(response)

    run_colour(colour, body, socket_options=[ports])


NO_FILES = """
    import os, resource, sys
    import pooltransport as pt
    from tests.support.colours import run_colour

    port = int(sys.argv[2])

    async def body(c):
        assert await c.fetch(f"http://127.0.0.1:{port}/") == b"hello"  # everything is loaded
        held = await c.get(f"http://127.0.0.1:{port}/")
        taken = []
        try:
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        try:
            await c.get("http://127.0.0.2:%d/" % port)
        except pt.ConnectError as error:
            print(error)
            print(error.attempts[0].errno)
        for number in taken:
            os.close(number)
        await c.read(held)
        assert c.transport.stats().dialing == 0
        assert await c.fetch(f"http://127.0.0.1:{port}/") == b"hello"

    resource.setrlimit(resource.RLIMIT_NOFILE, (80, 80))
    run_colour(sys.argv[1], body)
"""


def test_no_file_is_free(colour, server_factory, tmp_path):
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 80
    server = server_factory(ok())
    said = run_script(tmp_path / "s.py", NO_FILES, colour, server.port).stdout
    text, number = said.splitlines()
    assert "this process may open no more files (RLIMIT_NOFILE): each connection is one" in text
    assert int(number) == errno.EMFILE
