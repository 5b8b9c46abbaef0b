"""What is told of TLS without being able to read it: records on an idle connection, and who refused what."""

from __future__ import annotations

import ssl

import pytest
import trustme

from pooltransport.runtime.sockets import tls_end_waits
from pooltransport.runtime.tls import TLSPump, note_shown, shown_with


def shake_hands(version: ssl.TLSVersion):
    """Return a client's pump and a server's TLS object that have agreed, and the server's two buffers."""
    ca = trustme.CA()
    client = ssl.create_default_context()
    ca.configure_trust(client)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("site.example").configure_cert(server)
    client.maximum_version = version
    pump = TLSPump(client, "site.example")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    peer = server.wrap_bio(incoming, outgoing, server_side=True)
    done = False
    while not done:
        done = pump.handshake("site.example")
        incoming.write(pump.take())
        try:
            peer.do_handshake()
        except ssl.SSLWantReadError:
            done = False
        if not done:
            pump.feed(outgoing.read())
    return pump, peer, incoming, outgoing


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
class TestAnAlertIsTold:
    """By its type in TLS 1.2, by its length in 1.3."""

    def test_close_notify(self, version):
        _, peer, _, outgoing = shake_hands(version)
        tickets = outgoing.read()
        assert not tls_end_waits(tickets)
        with pytest.raises(ssl.SSLWantReadError):
            peer.unwrap()
        end = outgoing.read()
        assert tls_end_waits(end)
        assert tls_end_waits(tickets + end)
        assert not tls_end_waits(end[:4])

    def test_data_is_not_one(self, version):
        _, peer, _, outgoing = shake_hands(version)
        outgoing.read()
        for size in (16, 100, 16_384):
            peer.write(b"x" * size)
            assert not tls_end_waits(outgoing.read())

    def test_an_end_is_announced_or_cut_off(self, version):
        for announced in (True, False):
            pump, peer, _, outgoing = shake_hands(version)
            peer.write(b"hello")
            if announced:
                with pytest.raises(ssl.SSLWantReadError):
                    peer.unwrap()
            pump.feed(outgoing.read())
            pump.feed(b"")
            assert [pump.read(), pump.read(), pump.read()] == [b"hello", b"", b""]
            assert pump.cut_off is not announced


def test_nothing_and_pieces_are_no_alert():
    assert not tls_end_waits(b"")
    assert not tls_end_waits(b"HTTP")
    assert not tls_end_waits(b"\x17\x03\x03\x00")


def test_an_error_without_certificates_says_less():
    error = ssl.SSLError(1, "x")
    assert shown_with(error) == []
    note_shown(error, None)
    note_shown(error, object())
    assert shown_with(error) == []
