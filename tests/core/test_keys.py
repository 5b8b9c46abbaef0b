"""What a budget and a key are called."""

from __future__ import annotations

from pooltransport.core.keys import ConnectKey, Host


def key(host):
    return ConnectKey(host, trust=None, server_hostname=None, uds=None, runtime=None)


def test_names():
    plain = key(Host(None, "http", "example.com", 8080))
    assert (plain.origin, plain.host_port) == ("http://example.com:8080", "example.com:8080")
    assert repr(plain) == "<ConnectKey http://example.com:8080>"


def test_ipv6_has_brackets():
    assert key(Host(None, "https", "::1", 443)).host_port == "[::1]:443"


def test_equal_budgets_and_keys_by_identity():
    """Keys that differ in trust alone share the budget of their host (contract 1.2)."""
    one, two = (key(Host(None, "http", "example.com", 80)) for _ in range(2))
    assert one.host == two.host
    assert one != two


def test_parts_are_all_that_tells_two_keys_apart():
    host = Host(None, "http", "example.com", 80)
    one, two = (
        ConnectKey(host, trust=None, server_hostname=None, uds=uds, runtime=None) for uds in (None, "/run/x.sock")
    )
    assert key(host).parts == one.parts
    assert one.parts != two.parts
