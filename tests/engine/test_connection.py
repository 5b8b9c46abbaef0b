"""What a connection says of itself."""

from __future__ import annotations

from pooltransport.core.http1.h11_codec import H11Codec
from pooltransport.core.keys import ConnectKey, host_of
from pooltransport.engine.connection import Connection
from pooltransport.testing.fakes import FakeRuntime, FakeStream


def make():
    runtime = FakeRuntime()
    host = host_of("http", "a.test", 81, None)
    key = ConnectKey(host, trust=None, server_hostname=None, uds=None, runtime=runtime)
    return Connection(key, runtime, FakeStream(runtime), H11Codec(1000), runtime.now())


def test_repr():
    conn = make()
    assert repr(conn) == f"<Connection {conn.id} http://a.test:81 served 0>"
    conn.requests_served = 7
    assert repr(conn).endswith(" served 7>")


def test_each_has_a_number_of_its_own():
    first, second = make(), make()
    assert second.id > first.id
