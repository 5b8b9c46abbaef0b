"""`allow_address`, `public_only` and `https_only`, over the fake network (contract 5.8)."""

from __future__ import annotations

import ipaddress
import socket
from functools import partial

import pytest

import pooltransport as pt
from pooltransport.testing.fakes import Answers
from tests.engine.scenarios import OK

NIC = socket.if_nameindex()[0]  # number and name
REFUSED = """
    0.0.0.0 0.255.255.255 10.0.0.1 10.255.255.255 100.64.0.0 100.100.100.200 100.127.255.255 127.0.0.1 127.255.255.254
    168.63.129.16 169.254.0.0 169.254.169.254 172.16.0.0 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.88.99.1
    192.168.0.0 192.168.255.255 198.18.0.0 198.19.255.255 198.51.100.7 203.0.113.7 224.0.0.1 239.255.255.255 240.0.0.1
    255.255.255.255
    :: ::1 ::7f00:1 ::808:808 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::ffff:0:8.8.8.8 64:ff9b::127.0.0.1 64:ff9b::10.1.2.3
    64:ff9b::a9fe:a9fe 64:ff9b::1:808:808 64:ff9b:1::8.8.8.8 100::1
    1fff:: 2001:: 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:2::1 2001:10::1
    2001:1ff:ffff::1 2001:db8::1 2002:7f00:1::1 2002:808:808::1 3ffe::1 3fff::1 3fff:fff::1 4000:: 5f00::1 fc00::1
    fd00:ec2::254 fdff::1 fe80::1 fe80::1%eth0 febf::1 fec0::1 ff02::1 ff0e::1 2606:4700::1%2
"""
PUBLIC = """
    1.0.0.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 168.63.129.15
    168.63.129.17 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 191.255.255.255 192.0.1.0 192.0.3.0 192.88.98.0
    192.88.100.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 198.51.101.0 203.0.112.0 203.0.114.0
    223.255.255.255
    2000::1 2001:200::1 2001:4860:4860::8888 2001:db7::1 2001:db9::1 2003::1 2606:4700::1111 2a00::1 3ffd::1
    3fff:1000::1 64:ff9b::8.8.8.8
"""


def finds(*addresses):
    """Make a resolver of the fake network's own loop, which finds `addresses` whatever is asked."""

    async def look_up(host, port):
        return addresses

    return look_up


def never(peer):
    """Judge where there is nothing to judge."""
    pytest.fail("nothing to judge")


def dialed(world):
    return [dial.address.text for dial in world.runtime.dials]


def refused(world, url, kind=pt.AddressRefused, **fields):
    """Send a request that must be refused; nothing may have been dialed, and nothing is left."""
    before = len(world.runtime.dials)
    with pytest.raises(kind) as caught:
        world.runtime.run(world.get(url, **fields))
    assert type(caught.value) is kind
    assert len(world.runtime.dials) == before
    stats = world.transport.stats()
    assert (stats.active, stats.dialing, stats.leases, stats.waiting) == (0, 0, 0, 0)
    return caught.value


class TestPublicOnly:
    @pytest.mark.parametrize("text", REFUSED.split())
    def test_refuses(self, text):
        ip = ipaddress.ip_address(text)
        assert pt.public_only(ip) is False
        assert pt.public_only(pt.PeerAddress("name.test", 80, ip)) is False

    @pytest.mark.parametrize("text", PUBLIC.split())
    def test_lets_pass(self, text):
        ip = ipaddress.ip_address(text)
        assert pt.public_only(ip) is True
        assert pt.public_only(pt.PeerAddress("name.test", 80, ip)) is True

    def test_agrees_with_the_registry_wherever_that_says_no(self):
        # Python's table is a second opinion: nothing that it calls not global may pass ours.
        for text in PUBLIC.split():
            ip = ipaddress.ip_address(text)
            assert ip.is_global or text == "64:ff9b::8.8.8.8", text


class TestAllowAddress:
    def test_is_asked_for_each_address_with_host_and_port(self, make_world):
        asked = []

        def judge(peer):
            asked.append(peer)
            return True

        names = finds("192.0.2.1", "2001:db8::1", (socket.AF_INET6, ("fe80::1", 81, 0, 3)))
        world = make_world(allow_address=judge, resolver=names)
        assert world.runtime.run(world.get("http://name.test:8080/")) == b"hi"
        assert asked == [
            pt.PeerAddress("name.test", 8080, ipaddress.ip_address("192.0.2.1")),
            pt.PeerAddress("name.test", 8080, ipaddress.ip_address("2001:db8::1")),
            pt.PeerAddress("name.test", 81, ipaddress.ip_address("fe80::1%3")),
        ]

    def test_a_pooled_connection_was_judged_when_it_was_made(self, make_world):
        asked = []
        world = make_world(allow_address=lambda peer: not asked.append(peer))
        for _ in range(3):
            world.runtime.run(world.get("http://192.0.2.1/"))
        assert len(asked) == 1

    def test_what_it_refuses_is_left_out(self, make_world):
        names = finds("10.0.0.1", "::1", "192.0.2.1")
        world = make_world(allow_address=lambda peer: str(peer.ip) == "192.0.2.1", resolver=names)
        assert world.runtime.run(world.get("http://name.test/")) == b"hi"
        assert dialed(world) == ["192.0.2.1:80"]

    def test_refused_by_name(self, make_world):
        world = make_world(allow_address=pt.public_only, resolver=finds("127.0.0.1", "::1", "10.0.0.1"))
        error = refused(world, "http://user:s3cret@name.test/path?token=s3cret")
        assert str(error) == (
            "cannot connect to http://name.test:80: allow_address refused 127.0.0.1, ::1, 10.0.0.1 [PT-ADDRESS-REFUSED]"
        )
        assert error.code == "PT-ADDRESS-REFUSED"
        assert error.refused == ("127.0.0.1", "::1", "10.0.0.1")
        assert [row.address for row in error.attempts] == ["127.0.0.1:80", "[::1]:80", "10.0.0.1:80"]
        assert all(isinstance(row.error, PermissionError) for row in error.attempts)
        assert error.may_have_been_processed is False
        assert isinstance(error, pt.ConnectError)

    @pytest.mark.parametrize(
        ("url", "address"),
        [
            ("http://127.0.0.1/", "127.0.0.1"),
            ("http://[::1]/", "::1"),
            ("http://[::ffff:10.0.0.1]/", "::ffff:a00:1"),
            ("https://169.254.169.254/", "169.254.169.254"),
            (f"http://[fe80::1%25{NIC[1]}]/", f"fe80::1%{NIC[0]}"),
        ],
    )
    def test_refused_as_written(self, make_world, url, address):
        assert ipaddress.ip_address(refused(make_world(allow_address=pt.public_only), url).refused[0]) == (
            ipaddress.ip_address(address)
        )

    @pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0", "localhost"])
    def test_refused_in_the_spellings_that_the_system_understands(self, make_world, host):
        # Not literals to us: the system turns them into addresses, which are then judged as any other name's.
        async def system(host, port):
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)

        world = make_world(allow_address=pt.public_only, resolver=system)
        assert set(refused(world, f"http://{host}/").refused) <= {"127.0.0.1", "::1", "0.0.0.0"}

    def test_a_name_that_changes_its_answer(self, make_world):
        answers = [["8.8.8.8"], ["127.0.0.1"]]

        async def changing(host, port):
            return answers.pop(0)

        closing = Answers(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        world = make_world(closing, allow_address=pt.public_only, resolver=changing)
        assert world.runtime.run(world.get("http://rebind.test/")) == b"hi"
        assert refused(world, "http://rebind.test/").refused == ("127.0.0.1",)
        assert dialed(world) == ["8.8.8.8:80"]

    def test_the_rest_is_down(self, make_world):
        def down(dial):
            dial.refuse(ConnectionRefusedError(111, "Connection refused"))

        names = finds("10.0.0.1", "8.8.8.8")
        world = make_world(down, allow_address=pt.public_only, resolver=names)
        with pytest.raises(pt.ConnectError) as caught:
            world.runtime.run(world.get("http://name.test/"))
        assert type(caught.value) is pt.ConnectError
        assert str(caught.value) == (
            "cannot connect to http://name.test:80: 10.0.0.1:80: refused by allow_address; "
            "8.8.8.8:80: Connection refused (errno 111)"
        )

    def test_a_callable_that_raises_fails_that_request_alone(self, make_world):
        def judge(peer):
            if peer.host == "bad.test":
                raise ZeroDivisionError("oops")
            return True

        world = make_world(allow_address=judge, resolver=finds("192.0.2.1"))
        error = refused(world, "http://bad.test/")
        assert str(error) == (
            "http://bad.test:80: the allow_address= callable raised ZeroDivisionError for 192.0.2.1: oops "
            "[PT-ADDRESS-REFUSED]"
        )
        assert isinstance(error.__cause__, ZeroDivisionError)
        assert world.runtime.run(world.get("http://good.test/")) == b"hi"

    @pytest.mark.parametrize("answer", [None, 1, "yes", 0])
    def test_a_callable_that_returns_nonsense(self, make_world, answer):
        error = refused(make_world(allow_address=lambda peer: answer), "http://192.0.2.1/")
        assert f"returned {type(answer).__name__} for 192.0.2.1: it must return True or False" in str(error)

    def test_a_coroutine_is_nonsense(self, make_world):
        async def later(peer, answer=True):
            return answer

        error = refused(make_world(allow_address=partial(later, answer=True)), "http://192.0.2.1/")
        assert "returned coroutine" in str(error)
        with pytest.raises(pt.ConfigError, match="must be a plain function, not a coroutine function"):
            pt.TransportOptions(allow_address=later)


class TestThroughProxies:
    """Where no address of the server is seen."""

    def test_a_proxy_of_the_environment(self, make_world, monkeypatch):
        monkeypatch.setenv("HTTP_PROXY", "http://user:s3cret@192.0.2.9:3128")
        monkeypatch.setenv("NO_PROXY", "direct.test")
        world = make_world(allow_address=pt.public_only, resolver=finds("8.8.8.8"))
        error = refused(world, "http://name.test/?token=s3cret")
        assert str(error) == (
            "http://name.test:80: this request would go through the proxy http://192.0.2.9:3128, where allow_address "
            "sees no address of the server; allow_address_through_proxy=True lets it pass [PT-ADDRESS-REFUSED]"
        )
        assert error.refused == ()
        assert world.runtime.run(world.get("http://direct.test/")) == b"hi"

    def test_a_proxy_of_a_callable(self, make_world):
        def choose(request):
            return "http://192.0.2.9:3128" if request.url.host == "name.test" else None

        world = make_world(allow_address=pt.public_only, proxy=choose, resolver=finds("8.8.8.8"))
        refused(world, "http://name.test/")
        assert world.runtime.run(world.get("http://other.test/")) == b"hi"

    def test_let_pass(self, make_world):
        world = make_world(
            allow_address=never,
            allow_address_through_proxy=True,
            proxy="http://127.0.0.1:3128",
            disable_compression=True,
        )
        assert world.runtime.run(world.get("http://name.test/")) == b"hi"
        assert dialed(world) == ["127.0.0.1:3128"]

    def test_let_pass_by_a_unix_socket(self, make_world):
        world = make_world(allow_address=never, allow_address_through_proxy=True, uds="/run/x.sock")
        assert world.runtime.run(world.get("http://name.test/")) == b"hi"

    @pytest.mark.parametrize("way", [{"proxy": "http://h:1"}, {"uds": "/x"}, {"dial": print}])
    def test_what_can_never_work_is_refused_at_once(self, way):
        with pytest.raises(pt.ConfigError, match=f"allow_address and {next(iter(way))} exclude each other") as caught:
            pt.TransportOptions(allow_address=pt.public_only, **way)
        assert caught.value.codes == ("PTC113",)
        assert pt.TransportOptions(allow_address=pt.public_only, allow_address_through_proxy=True, **way).explicit

    def test_no_effect_alone(self):
        with pytest.raises(pt.ConfigError) as caught:
            pt.TransportOptions(allow_address_through_proxy=True)
        assert caught.value.codes == ("PTC114",)


class TestHTTPSOnly:
    def test_plain_http_is_refused_before_anything_is_dialed(self, make_world):
        world = make_world(https_only=True)
        error = refused(world, "http://user:s3cret@name.test/p?token=s3cret", pt.InvalidRequest)
        assert str(error) == "https_only: http://name.test:80 is plain http; nothing was sent"
        assert not isinstance(error, pt.TransportError)

    def test_also_through_a_proxy_and_again(self, make_world):
        world = make_world(https_only=True, proxy="http://192.0.2.9:3128")
        for _ in range(2):
            refused(world, "http://name.test/", pt.InvalidRequest)

    def test_a_base_url_that_can_never_be_asked(self):
        with pt.Transport(https_only=True) as transport:
            with pytest.raises(pt.ConfigError, match="base_url is plain http") as caught:
                pt.Client(transport, base_url="http://user:s3cret@name.test/s3cret")
            assert caught.value.codes == ("PTC113",)
            assert "s3cret" not in str(caught.value)
            assert pt.Client(transport, base_url="https://name.test").base_url is not None

    def test_warm(self, make_world):
        world = make_world(https_only=True)
        with pytest.raises(pt.InvalidRequest, match="https_only"):
            world.runtime.run(world.transport.warm("http://name.test/", 1))
