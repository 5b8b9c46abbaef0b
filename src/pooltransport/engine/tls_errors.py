"""What went wrong with TLS, in words: the same in all colours and with every OpenSSL.

Rules:

1. A certificate that is not accepted is named with what is wrong with it: since when, which names it
   has, who signed it. A leaf leaves the certificates that were shown with the error (`shown_with`).
2. An alert is the peer's word about us, and is translated: it does not say which setting helps.
3. In TLS 1.3 the peer's "no" to our certificate comes after our side of the handshake is done, and is
   read instead of the first answer (`refused_after_handshake`).
"""

from __future__ import annotations

import ssl
import time
from typing import Any

from pooltransport.runtime.tls import shown_with

_NOT_TLS = frozenset(("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"))
_NO_VERSION = frozenset(("UNSUPPORTED_PROTOCOL", "NO_PROTOCOLS_AVAILABLE", "ALERT_PROTOCOL_VERSION"))
# X509_V_ERR_ of OpenSSL's x509_vfy.h; these numbers have never changed.
_NO_ISSUER, _NO_LOCAL_ISSUER, _NO_CHAIN = 2, 20, 21
_NOT_YET, _EXPIRED, _SELF_SIGNED, _SELF_SIGNED_ROOT = 9, 10, 18, 19
_WRONG_NAME, _WRONG_ADDRESS = 62, 64
_DAY = 86_400
_ALERTS = {
    "CERTIFICATE_REQUIRED": "the server wants a client certificate, and none was shown: give client_cert=",
    "HANDSHAKE_FAILURE": "the server accepts no cipher of ours, or wants a client certificate (client_cert=)",
    "UNRECOGNIZED_NAME": "the server has no site of this name; server_hostname= is what it is asked for",
    "NO_APPLICATION_PROTOCOL": "the server does not speak HTTP/1.1 here: it refuses what ALPN offers",
    "INTERNAL_ERROR": "the server had an error of its own",
    "INSUFFICIENT_SECURITY": "the server wants stronger ciphers than both sides have",
}
# What the peer says about the certificate that it was shown.
_ABOUT_OURS = {
    "UNKNOWN_CA": "it does not know who signed it",
    "BAD_CERTIFICATE": "it finds it broken",
    "UNSUPPORTED_CERTIFICATE": "it is not of a kind that it takes",
    "CERTIFICATE_REVOKED": "it was revoked",
    "CERTIFICATE_EXPIRED": "it has expired",
    "CERTIFICATE_UNKNOWN": "it does not say why",
    "ACCESS_DENIED": "its owner may not come in",
    "DECRYPT_ERROR": "its signature does not fit",
}


def explain(error: Exception) -> str:
    """Say why a handshake failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        message = getattr(error, "verify_message", None) or str(error.args[-1])  # another library may not set it
        return f"the certificate is not accepted: {message.rstrip('.')}{_about(error)}"
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError)):
        return "the server closed the connection during the handshake"
    if not isinstance(error, ssl.SSLError):
        return f"the connection broke during the handshake: {getattr(error, 'strerror', None) or error}"
    reason = error.reason or str(error)
    if reason in _NOT_TLS:
        return f"the server does not speak TLS on this port ({reason}); is it an http:// address?"
    alert = _alert(error)
    if reason in _NO_VERSION or f"ALERT_{alert}" in _NO_VERSION:
        return f"there is no version of TLS that both sides accept ({reason}); TLS 1.2 is the oldest that is safe"
    return _said(alert) or reason


def refused_after_handshake(error: BaseException) -> str | None:
    """Return why the peer ended TLS by an alert about the handshake, if that is behind `error`."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return _said(_alert(cause))
        cause = cause.__cause__
    return None


def _said(alert: str) -> str | None:
    if alert in _ABOUT_OURS:
        return f"the server does not accept the client certificate: {_ABOUT_OURS[alert]} (alert {alert})"
    return f"{_ALERTS[alert]} (alert {alert})" if alert in _ALERTS else None


def _alert(error: ssl.SSLError) -> str:
    """Return the name of the peer's alert: ``UNKNOWN_CA`` of ``TLSV1_ALERT_UNKNOWN_CA``; "" if it is none."""
    return (error.reason or "").partition("ALERT_")[2]


def _about(error: ssl.SSLCertVerificationError) -> str:
    """Return what the certificates themselves say about `error`."""
    code = getattr(error, "verify_code", 0)
    chain = shown_with(error)
    if not chain:
        return ""
    leaf = chain[0]
    if code == _EXPIRED:
        # Any of them may be the one.
        wrong = [cert for cert in chain if _moment(cert, "notAfter") < time.time()] or [leaf]
        return f": {_whose(wrong[0], leaf)}valid until {_when(wrong[0], 'notAfter')}"
    if code == _NOT_YET:
        wrong = [cert for cert in chain if _moment(cert, "notBefore") > time.time()] or [leaf]
        return f": {_whose(wrong[0], leaf)}valid from {_when(wrong[0], 'notBefore')}"
    if code in (_WRONG_NAME, _WRONG_ADDRESS):
        return f"; it is for {_names(leaf)}"
    if code == _SELF_SIGNED:
        return f": {_name(leaf['subject'])!r} vouches for itself; ca_file= can name it, if it is known to be right"
    if code in (_NO_ISSUER, _NO_LOCAL_ISSUER, _NO_CHAIN, _SELF_SIGNED_ROOT):
        last = chain[-1]
        return (
            f": it was issued by {_name(last['issuer'])!r}, which is not trusted here; ca_file= names other "
            "authorities, and a server must send those between it and one of them"
        )
    return ""


def _whose(cert: dict[str, Any], leaf: dict[str, Any]) -> str:
    return "" if cert is leaf else f"that of the authority {_name(cert['subject'])!r} was "


def _moment(cert: dict[str, Any], field: str) -> float:
    return ssl.cert_time_to_seconds(cert[field])


def _when(cert: dict[str, Any], field: str) -> str:
    moment = _moment(cert, field)
    days = abs(time.time() - moment) / _DAY
    ago = "ago" if moment < time.time() else "from now"
    span = f"{days:,.0f} days" if days >= 2 else f"{days * 24:.1f} hours"
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(moment))} UTC, {span} {ago}"


def _names(cert: dict[str, Any]) -> str:
    names = [value for kind, value in cert.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]
    if not names:
        return "no name at all (subjectAltName is empty)"
    shown = ", ".join(repr(name) for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def _name(parts: Any) -> str:
    """Return the common name of a subject or issuer, or all of it."""
    fields = {key: value for part in parts for key, value in part}
    return str(fields.get("commonName") or ", ".join(map(str, fields.values())) or "nobody")
