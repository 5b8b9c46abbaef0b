"""`no_network`: nothing goes out but to what is allowed."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import pooltransport as pt
from pooltransport.testing import HandlerTransport, NetworkBlocked, no_network, response
from tests.support.colours import COLOURS, run_colour
from tests.support.responders import ok

pytest_plugins = ["pytester"]

CALLS = "colours.py"  # where `c.call` stands


@pytest.mark.parametrize("colour", COLOURS)
def test_refuses_before_anything_is_dialed(colour, server_factory):
    server = server_factory(ok())
    looked_up = []

    def resolver(host, port):
        looked_up.append(host)
        return ["127.0.0.1"]

    async def body(c):
        client = c.make_client()
        async with no_network() as block:
            for url in (server.url, "https://api.example.com/data"):
                with pytest.raises(NetworkBlocked, match=CALLS) as caught:
                    await c.call(client.get, url)
                assert not isinstance(caught.value, pt.Error)
            assert (caught.value.host, caught.value.port) == ("api.example.com", 443)
            assert CALLS in caught.value.site
            with pytest.raises(NetworkBlocked):
                await c.call(c.transport.warm, server.url, 1)
            assert [error.host for error in block.refused] == ["127.0.0.1", "api.example.com", "127.0.0.1"]
        stats = c.transport.stats()
        assert (stats.dials, stats.waiting, stats.leases, looked_up) == (0, 0, 0, [])
        assert (await c.call(client.get, server.url)).status_code == 200

    run_colour(colour, body, resolver=resolver)


@pytest.mark.parametrize("colour", COLOURS)
def test_a_connection_that_lies_ready_is_not_used(colour, server_factory):
    server = server_factory(ok())

    async def body(c):
        client = c.make_client()
        await c.call(client.get, server.url)
        assert c.transport.stats().idle == 1
        with no_network(), pytest.raises(NetworkBlocked):
            await c.call(client.get, server.url)
        assert c.transport.stats().idle == 1

    run_colour(colour, body)


@pytest.mark.parametrize("allow", ["127.0.0.1", ["127.0.0.0/8"], "loopback", ["x.example", "127.0.0.1"]])
def test_what_is_allowed_goes_out(server_factory, allow):
    server = server_factory(ok())
    with pt.Transport() as transport, no_network(allow):
        client = pt.Client(transport)
        assert client.get(server.url).status_code == 200
        with pytest.raises(NetworkBlocked):
            client.get("http://192.0.2.1/")


def test_hosts_that_are_allowed():
    block = no_network(["API.example.", "::1", "10.0.0.0/8", "[fe80::1]", "/run/x.sock"])
    for host in ("api.example", "::1", "10.1.2.3", "fe80::1", "fe80::1%eth0", "/run/x.sock"):
        assert block.is_allowed(host), host
    for host in ("example", "b.api.example", "127.0.0.1", "11.0.0.1", "localhost", "/run/y.sock"):
        assert not block.is_allowed(host), host
    block.allow("loopback")
    assert block.is_allowed("localhost")
    for wrong in ("http://a.example", "", None):
        with pytest.raises(ValueError, match="no_network allows hosts"):
            block.allow(wrong)


def test_the_line_is_named():
    with no_network(), pytest.raises(NetworkBlocked) as caught:
        pt.Client().get("https://api.example.com/data")
    file, _, line = caught.value.site.rpartition(":")
    assert "pt.Client().get(" in Path(file).read_text().splitlines()[int(line) - 1]
    assert str(caught.value) == (
        f"no_network: {caught.value.site} would connect to api.example.com:443. Give the client a HandlerTransport, "
        'or allow it: no_network(allow=["api.example.com"])'
    )


def test_the_proxy_is_judged():
    with pt.Transport(proxy="http://proxy.example:3128") as transport, no_network("a.example"):
        for url, whose in (("http://a.example/", r"\."), ("https://a.example/", r" for https://a\.example:443\.")):
            with pytest.raises(NetworkBlocked, match=rf"to proxy\.example:3128{whose}") as caught:
                pt.Client(transport).get(url)
            assert caught.value.host == "proxy.example"


def test_a_socket_path_is_judged(tmp_path):
    path = str(tmp_path / "x.sock")
    with pt.Transport(uds=path) as transport:
        with no_network(), pytest.raises(NetworkBlocked, match="x.sock"):
            pt.Client(transport).get("http://a.example/")
        with no_network(path), pytest.raises(pt.ConnectError):
            pt.Client(transport).get("http://a.example/")


def test_the_block_entered_last_decides(server_factory):
    server = server_factory(ok())
    with pt.Transport() as transport:
        client = pt.Client(transport)
        with no_network():
            with no_network("loopback"):
                assert client.get(server.url).status_code == 200
            with pytest.raises(NetworkBlocked):
                client.get(server.url)
        first, second = no_network(), no_network("loopback")
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)  # not the last: fixtures of other scopes end in another order
        assert client.get(server.url).status_code == 200
        second.__exit__(None, None, None)
        assert client.get(server.url).status_code == 200


def test_other_threads_are_under_it(server_factory):
    server = server_factory(ok())
    caught = []

    def work():
        try:
            pt.Client().get(server.url)
        except NetworkBlocked as error:
            caught.append(error)

    with no_network():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(10)
    assert [error.host for error in caught] == ["127.0.0.1"]


def test_a_handler_is_no_network():
    with no_network():
        client = pt.Client(HandlerTransport(lambda _: response(text="hi")))
        assert client.get("https://api.example.com/").text == "hi"


def test_the_fixture(suite):
    suite.write(
        test_offline="""
        def test_refused(no_network):
            from pooltransport.testing import NetworkBlocked
            with pytest.raises(NetworkBlocked, match="test_offline.py"):
                pt.Client().get(URL)

        def test_allowed(no_network):
            no_network.allow("loopback")
            with pt.Transport() as transport:
                assert pt.Client(transport).get(URL).text == "hello"

        def test_without():
            with pt.Transport() as transport:
                assert pt.Client(transport).get(URL).text == "hello"
        """
    )
    suite.run(passed=3)
