"""Words for what OpenSSL says, in its many spellings; with real certificates in tests/field/test_tls.py."""

from __future__ import annotations

import ssl
import time
from functools import partial

import pytest

from pooltransport.engine.tls_errors import explain, refused_after_handshake


def ssl_error(reason: str | None, kind=ssl.SSLError, **fields) -> ssl.SSLError:
    error = kind(1, f"[SSL: {reason}] something (_ssl.c:1006)")
    error.reason = reason
    for name, value in fields.items():
        setattr(error, name, value)
    return error


def refused(code: int, message: str, *chain, **fields) -> ssl.SSLError:
    error = ssl_error("CERTIFICATE_VERIFY_FAILED", ssl.SSLCertVerificationError, verify_code=code, **fields)
    error.verify_message = message
    error.shown_certificates = list(chain)
    return error


def made(subject="site", issuer="Authority", until=1000.0, since=-1000.0, names=("site.example",)):
    def when(seconds):
        return time.strftime("%b %d %H:%M:%S %Y GMT", time.gmtime(time.time() + seconds))

    fields = {"subject": ((("commonName", subject),),), "issuer": ((("commonName", issuer),),)}
    return {
        **fields,
        "notAfter": when(until),
        "notBefore": when(since),
        "subjectAltName": tuple(("DNS", name) for name in names),
    }


def cert(*args, **fields):
    """Put off `made` to the test: moments are relative to it, and parameters are made long before."""
    return partial(made, *args, **fields)


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("WRONG_VERSION_NUMBER", "does not speak TLS on this port (WRONG_VERSION_NUMBER); is it an http:// address?"),
        ("HTTP_REQUEST", "does not speak TLS on this port"),
        ("RECORD_LAYER_FAILURE", "does not speak TLS on this port"),
        ("PACKET_LENGTH_TOO_LONG", "does not speak TLS on this port"),
        ("UNSUPPORTED_PROTOCOL", "no version of TLS that both sides accept (UNSUPPORTED_PROTOCOL)"),
        ("NO_PROTOCOLS_AVAILABLE", "no version of TLS that both sides accept"),
        ("TLSV1_ALERT_PROTOCOL_VERSION", "no version of TLS that both sides accept (TLSV1_ALERT_PROTOCOL_VERSION)"),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "wants a client certificate, and none was shown: give client_cert="),
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", "(client_cert=) (alert HANDSHAKE_FAILURE)"),
        ("TLSV1_UNRECOGNIZED_NAME", "TLSV1_UNRECOGNIZED_NAME"),
        ("TLSV1_ALERT_UNRECOGNIZED_NAME", "the server has no site of this name"),
        ("TLSV1_ALERT_NO_APPLICATION_PROTOCOL", "does not speak HTTP/1.1 here"),
        ("TLSV1_ALERT_INTERNAL_ERROR", "the server had an error of its own"),
        (
            "TLSV1_ALERT_UNKNOWN_CA",
            "not accept the client certificate: it does not know who signed it (alert UNKNOWN_CA)",
        ),
        ("SSLV3_ALERT_BAD_CERTIFICATE", "not accept the client certificate: it finds it broken"),
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", "not accept the client certificate: it has expired"),
        ("SSLV3_ALERT_CERTIFICATE_REVOKED", "not accept the client certificate: it was revoked"),
        ("SSLV3_ALERT_CERTIFICATE_UNKNOWN", "not accept the client certificate: it does not say why"),
        ("TLSV1_ALERT_ACCESS_DENIED", "not accept the client certificate: its owner may not come in"),
        ("TLSV1_ALERT_SOMETHING_NEW", "TLSV1_ALERT_SOMETHING_NEW"),
        ("SOMETHING_ELSE", "SOMETHING_ELSE"),
    ],
)
def test_reasons(reason, text):
    assert text in explain(ssl_error(reason))


def test_without_a_reason():
    assert "something" in explain(ssl_error(None))


@pytest.mark.parametrize(
    "error",
    [
        ssl_error("UNEXPECTED_EOF_WHILE_READING", ssl.SSLEOFError),
        ssl_error(None, ssl.SSLZeroReturnError),
        ConnectionResetError(104, "Connection reset by peer"),
        ConnectionResetError(),
        BrokenPipeError(32, "Broken pipe"),
    ],
)
def test_an_end(error):
    assert explain(error) == "the server closed the connection during the handshake"


def test_another_break():
    assert explain(OSError(113, "No route to host")) == "the connection broke during the handshake: No route to host"


class TestCertificates:
    @pytest.mark.parametrize(
        ("code", "message", "chain", "text"),
        [
            (23, "certificate revoked", [cert()], "the certificate is not accepted: certificate revoked"),
            (10, "certificate has expired", [], "certificate has expired"),
            (10, "certificate has expired", [cert(until=-7200)], "2.0 hours ago"),
            (10, "certificate has expired", [cert(until=-86_400 * 3000)], "UTC, 3,000 days ago"),
            (10, "certificate has expired", [cert()], "expired: valid until "),
            (
                10,
                "certificate has expired",
                [cert(), cert("Between", until=-3600)],
                "expired: that of the authority 'Between' was valid until",
            ),
            (9, "certificate is not yet valid", [cert(since=7200)], "2.0 hours from now"),
            (9, "certificate is not yet valid", [cert(), cert("Between", since=60)], "that of the authority 'Between'"),
            (62, "Hostname mismatch, not valid for 'a'.", [cert(names=())], "'a'; it is for no name at all"),
            (62, "Hostname mismatch", [cert(names=("b", "c"))], "Hostname mismatch; it is for 'b', 'c'"),
            (18, "self-signed certificate", [cert("me", "me")], "'me' vouches for itself"),
            (19, "self-signed certificate in chain", [cert(), cert("Root", "Root")], "it was issued by 'Root'"),
            (20, "unable to get local issuer certificate", [cert(issuer="X1")], "issued by 'X1', which is not trusted"),
        ],
    )
    def test_what_they_say(self, code, message, chain, text):
        assert text in explain(refused(code, message, *[make() for make in chain]))

    def test_a_name_in_pieces(self):
        nameless = made()
        nameless["issuer"] = ((("organizationName", "Org"),), (("organizationalUnitName", "Unit"),))
        assert "issued by 'Org, Unit'" in explain(refused(20, "no issuer", nameless))
        nameless["issuer"] = ()
        assert "issued by 'nobody'" in explain(refused(20, "no issuer", nameless))

    def test_a_library_that_says_less(self):
        """truststore raises it without the fields of OpenSSL."""
        error = ssl.SSLCertVerificationError("“site” certificate is not trusted")
        assert explain(error) == "the certificate is not accepted: “site” certificate is not trusted"


class TestAfterTheHandshake:
    def test_an_alert_about_it(self):
        alert = ssl_error("TLSV13_ALERT_CERTIFICATE_REQUIRED")
        outer = OSError(5, "broken")
        outer.__cause__ = alert
        assert "wants a client certificate" in refused_after_handshake(alert)
        assert "wants a client certificate" in refused_after_handshake(outer)

    @pytest.mark.parametrize(
        "error",
        [
            OSError(104, "reset"),
            ssl_error("DECRYPTION_FAILED_OR_BAD_RECORD_MAC"),
            ssl_error("TLSV1_ALERT_USER_CANCELLED"),
        ],
    )
    def test_anything_else(self, error):
        assert refused_after_handshake(error) is None
