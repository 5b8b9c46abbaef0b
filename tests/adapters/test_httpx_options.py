"""What the adapters are made of: a transport, our options, or the library's own arguments."""

from __future__ import annotations

import ssl

import pytest

import pooltransport as pt
from pooltransport.models import UNSET
from tests.support.responders import echo, ok


def options_of(adapter):
    """Return what was given to the transport inside, and close that."""
    transport = adapter.transport
    found = {name: getattr(transport.options, name) for name in transport.options.explicit}
    adapter.close()
    return found


def made(kit, **given):
    return options_of(kit.adapter.HTTPTransport(**given))


def test_nothing_given_is_our_defaults(kit):
    assert made(kit) == {}
    assert made(kit, socket_options=None, verify=True, cert=None, http1=True, http2=False) == {}


def test_ours_go_through(kit):
    assert made(kit, max_conns=5, local_address="127.0.0.1", uds=None) == {
        "max_conns": 5,
        "local_address": "127.0.0.1",
        "uds": None,
    }


def test_limits(kit):
    limits = kit.lib.Limits(max_connections=9, max_keepalive_connections=4, keepalive_expiry=7.0)
    assert made(kit, limits=limits) == {"max_conns": 9, "max_idle_conns": 4, "idle_conn_timeout": 7.0}
    assert made(kit, limits=kit.lib.Limits(keepalive_expiry=0)) == {"max_conns": None, "max_idle_conns": 0}


def test_verify_and_cert(kit, tmp_path, tls_ca):
    context = ssl.create_default_context()
    assert made(kit, verify=context) == {"ssl_context": context}
    unverified = made(kit, verify=False)["ssl_context"]
    assert (unverified.verify_mode, unverified.check_hostname) == (ssl.CERT_NONE, False)
    pem = tmp_path / "ca.pem"
    tls_ca.cert_pem.write_to_path(str(pem))
    assert made(kit, verify=str(pem)) == {"ca_file": str(pem)}
    assert isinstance(made(kit, verify=str(tmp_path))["ssl_context"], ssl.SSLContext)
    cert = tmp_path / "client.pem"
    tls_ca.issue_cert("me@example.com").private_key_and_cert_chain_pem.write_to_path(str(cert))
    assert made(kit, cert=str(cert)) == {"client_cert": str(cert)}


@pytest.mark.parametrize("verify", [False, "context"])
def test_they_do_what_they_say(kit, server_factory, server_ssl_context, client_ssl_context, verify):
    server = server_factory(ok(), tls=server_ssl_context)
    transport = kit.adapter.HTTPTransport(verify=client_ssl_context if verify == "context" else verify)
    with kit.lib.Client(transport=transport) as client:
        assert client.get(server.url).text == "hello"


def test_a_proxy_in_each_form(kit):
    assert made(kit, proxy="http://p.example:3128") == {"proxy": "http://p.example:3128"}
    assert made(kit, proxy=kit.lib.URL("http://u:p%40w@p.example:3128")) == {"proxy": "http://u:p%40w@p.example:3128"}
    proxy = kit.lib.Proxy("http://p.example:3128", auth=("u", "p@w"), headers={"X-Who": "me"})
    found = made(kit, proxy=proxy)
    assert found["proxy"] == "http://u:p%40w@p.example:3128"
    assert list(pt.Headers(found["proxy_connect_headers"]).items()) == [("x-who", "me")]
    assert made(kit, proxy=None) == {"proxy": None}
    assert made(kit, trust_env=False) == {"proxy": None}
    assert made(kit, trust_env=False, proxy="http://p.example") == {"proxy": "http://p.example"}


def test_the_environments_proxies(kit, monkeypatch, server_factory):
    """As of every transport of ours: a client that is given a transport looks for none itself."""
    proxy = server_factory(echo)
    monkeypatch.setenv("http_proxy", proxy.url)
    with kit.lib.Client(transport=kit.adapter.HTTPTransport()) as client:
        assert client.get("http://a.example/x").headers["x-target"] == "http://a.example/x"


def test_a_unix_socket(kit, server_factory, tmp_path):
    path = str(tmp_path / "s")
    server_factory(ok(), uds=path)
    with kit.lib.Client(transport=kit.adapter.HTTPTransport(uds=path)) as client:
        response = client.get("http://anything/")
        assert response.text == "hello"
        assert response.extensions["network_stream"].get_extra_info("server_addr") == path


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"http2": True}, "HTTP/1.1 is what pooltransport speaks"),
        ({"http1": False}, "HTTP/1.1 is what pooltransport speaks"),
        ({"retries": -1}, "retries=-1: must be a whole number"),
        ({"retries": None}, "retries=None: must be a whole number"),
        ({"verify": 3}, "verify=int: must be True, False"),
        ({"verify": False, "ssl_context": None}, "give ssl_context= alone"),
        ({"cert": "x", "client_cert": None}, "give client_cert= alone"),
        ({"max_connections": 3}, "max_connections"),
    ],
)
def test_what_cannot_be(kit, given, text):
    with pytest.raises(pt.ConfigError, match=text):
        kit.adapter.HTTPTransport(**given)


def test_limits_beside_ours(kit):
    with pytest.raises(pt.ConfigError, match="give max_conns= alone"):
        kit.adapter.HTTPTransport(limits=kit.lib.Limits(), max_conns=3)


def test_a_proxy_with_a_context_of_its_own(kit):
    proxy = kit.lib.Proxy("https://p.example", ssl_context=ssl.create_default_context())
    with pytest.raises(pt.ConfigError, match="give the context as ssl_context="):
        kit.adapter.HTTPTransport(proxy=proxy)


def test_every_problem_at_once(kit):
    with pytest.raises(pt.ConfigError) as caught:
        kit.adapter.HTTPTransport(http2=True, retries=-1, verify=3)
    assert len(caught.value.problems) == 3
    assert all(caught.value.codes)


def test_options_for_a_transport_that_is_handed_in(kit):
    with pt.Transport() as transport:
        with pytest.raises(pt.ConfigError, match=r"transport=\.\.\. and limits=, max_conns=: give the options to the"):
            kit.adapter.HTTPTransport(transport, max_conns=3, limits=kit.lib.Limits())


def test_the_other_colours_transport(kit):
    with pt.Transport() as transport, pytest.raises(pt.ConfigError, match="must be an AsyncTransport"):
        kit.adapter.AsyncHTTPTransport(transport)
    with pytest.raises(pt.ConfigError, match="must be a Transport"):
        kit.adapter.HTTPTransport(pt.AsyncTransport())
    with pytest.raises(pt.ConfigError, match="not Client"):
        kit.adapter.HTTPTransport(kit.lib.Client())


def test_the_defaults_of_the_arguments(kit):
    """What is not given is told from what is given as None."""
    assert repr(UNSET) == "UNSET"
    with pytest.raises(TypeError):
        kit.adapter.HTTPTransport(None, False)
