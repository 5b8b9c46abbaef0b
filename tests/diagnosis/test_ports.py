"""The kernel's side: local ports towards a server, and descriptors. Parsed from recorded tables, and seen live."""

from __future__ import annotations

import builtins
import errno
import io
import os
import resource
import socket
import struct
import sys

import pytest

from pooltransport.diagnosis.ports import PortUse, file_use, port_limit, port_use

# As the kernel of a little-endian machine writes them; spaces at the ends left out.
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 0 100 0 0 10 0
   1: 0100007F:9C40 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 12 1 0 20 4 30 10 -1
   2: 0100007F:1F90 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 13 1 0 20 4 30 10 -1
   3: 0100007F:9C42 0100007F:1F90 06 00000000:00000000 03:000003E8 00000000     0        0 0 3 0
   4: 0200007F:9C44 0A020A0A:01BB 06 00000000:00000000 03:000003E8 00000000     0        0 0 3 0
   5: 0200007F:9C46 0A020A0A:01BB 08 00000000:00000000 00:00000000 00000000     0        0 14 1 0 20 4 30 10 -1
"""
TCP6 = """\
  sl  local_address                         remote_address                        st
   0: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 15 1
   1: 00000000000000000000000001000000:9C48 00000000000000000000000001000000:1F90 01 0:0 00:0 0 0 0 16 1
   2: B80D0120000000000000000002000000:9C4A B80D0120000000000000000001000000:01BB 06 0:0 03:0 0 0 0 0 1
"""
RECORDED = {
    "/proc/self/net/tcp": TCP,
    "/proc/self/net/tcp6": TCP6,
    "/proc/sys/net/ipv4/ip_local_port_range": "40000\t40010\n",
}


@pytest.fixture
def tables(monkeypatch):
    """Give the files that are read; change them to have others, take one out to have none."""
    files = dict(RECORDED)
    real = open

    def recorded(name, *args, **more):
        if not str(name).startswith("/proc/"):
            return real(name, *args, **more)
        if name not in files:
            raise FileNotFoundError(name)
        return io.StringIO(files[name])

    monkeypatch.setattr(builtins, "open", recorded)
    return files


little_endian = pytest.mark.skipif(sys.byteorder != "little", reason="recorded on a little-endian machine")
linux = pytest.mark.skipif(not os.path.isdir("/proc/self/net"), reason="only Linux says")


@little_endian
class TestRecorded:
    @pytest.mark.parametrize(
        ("addresses", "used", "time_wait"),
        [
            ({("127.0.0.1", 8080)}, 2, 1),
            ({("10.10.2.10", 443)}, 2, 1),
            ({("::1", 8080)}, 1, 0),
            ({("2001:db8::1", 443)}, 1, 1),
            ({("2001:db8::1%eth0", 443)}, 1, 1),
            ({("127.0.0.1", 8080), ("::1", 8080)}, 3, 1),
            ({("127.0.0.1", 8081)}, 0, 0),
            (set(), 0, 0),
            (None, 7, 3),
        ],
    )
    def test_towards(self, tables, addresses, used, time_wait):
        assert port_use(addresses) == PortUse(used, time_wait, 11)

    def test_without_ipv6(self, tables):
        del tables["/proc/self/net/tcp6"]
        assert port_use(None) == PortUse(5, 2, 11)

    @pytest.mark.parametrize("text", [None, "", "nonsense\n", "1 2 3\n"])
    def test_where_the_range_is_not_told(self, tables, text):
        if text is None:
            del tables["/proc/sys/net/ipv4/ip_local_port_range"]
        else:
            tables["/proc/sys/net/ipv4/ip_local_port_range"] = text
        assert port_limit() is None
        assert port_use({("127.0.0.1", 8080)}) is None

    def test_long_tables_are_read_in_part(self, tables):
        row = TCP.splitlines(keepends=True)[4]
        tables["/proc/self/net/tcp"] = TCP.splitlines(keepends=True)[0] + row * 100_050
        assert port_use(None) == PortUse(100_000, 100_000, 11)


def connect(family, host, count):
    """Return a listening socket, its port, and `count` connections to it, both ends."""
    listener = socket.create_server((host, 0), family=family)
    while port_use({(host, listener.getsockname()[1])}).used:
        # The system gives a port again while connections of another test to it still wait.
        listener.close()
        listener = socket.create_server((host, 0), family=family)
    ends = []
    for _ in range(count):
        client = socket.create_connection(listener.getsockname()[:2])
        ends += [client, listener.accept()[0]]
    return listener, listener.getsockname()[1], ends


@linux
class TestLive:
    @pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
    def test_own_sockets_are_seen(self, family, host):
        listener, port, ends = connect(family, host, 5)
        try:
            use = port_use({(host, port)})
            assert (use.used, use.time_wait) == (5, 0)
            assert use.limit == port_limit() > 1000
            assert port_use(None).used >= 10
        finally:
            for sock in (*ends, listener):
                sock.close()
        use = port_use({(host, port)})  # our ends closed first
        assert use.used == use.time_wait == 5

    def test_reset_ones_leave_nothing(self):
        listener, port, ends = connect(socket.AF_INET, "127.0.0.1", 3)
        for sock in ends:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for sock in (*ends, listener):
            sock.close()
        assert port_use({("127.0.0.1", port)}).used == 0

    def test_descriptors(self):
        before = file_use()
        left, right = socket.socketpair()
        with open(os.devnull):
            now = file_use()
        left.close()
        right.close()
        assert (now.used - before.used, now.sockets - before.sockets) == (3, 2)
        assert now.limit == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        # Without that of the listing itself.
        assert file_use().used == before.used == len(os.listdir("/proc/self/fd")) - 1

    def test_no_limit(self, monkeypatch):
        monkeypatch.setattr(resource, "getrlimit", lambda kind: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert file_use().limit is None

    @pytest.mark.parametrize(("limit", "known"), [(65_536, True), (65_537, False), (resource.RLIM_INFINITY, False)])
    def test_when_there_is_none_left_to_look_with(self, monkeypatch, limit, known):
        """Which is when it is asked for."""
        expected = file_use()

        def none_left(path):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        monkeypatch.setattr(resource, "getrlimit", lambda kind: (limit, limit))
        monkeypatch.setattr(os, "listdir", none_left)
        use = file_use()
        assert use == (expected._replace(limit=limit) if known else None)


def test_where_the_system_does_not_say(monkeypatch):
    monkeypatch.setattr(os.path, "isdir", lambda path: False)
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert file_use() is None
