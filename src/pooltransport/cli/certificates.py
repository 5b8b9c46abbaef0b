"""What the server's certificate says of itself, whether it is accepted or not."""

from __future__ import annotations

import ssl
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from pooltransport.options import TransportOptions
from pooltransport.runtime.tls import shown_by, shown_with
from pooltransport.runtime.trust import ContextSource

if TYPE_CHECKING:
    from collections.abc import Callable

    Chain = list[dict[str, Any]]

_DAY = 86_400


class Certificate(NamedTuple):
    """One server's certificate. `names`: what it is for. `not_before`, `not_after`: s since 1970.

    `name_matches`: whether the name that was asked for is among them. `verified`: None if nobody looked.
    """

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: float
    not_after: float
    asked_for: str
    name_matches: bool
    verified: bool | None

    @property
    def days_left(self) -> float:
        """Days until it expires; below 0 it has."""
        return (self.not_after - time.time()) / _DAY

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON, moments in UTC."""
        return {
            "subject": self.subject,
            "issuer": self.issuer,
            "names": list(self.names),
            "not_before": _iso(self.not_before),
            "not_after": _iso(self.not_after),
            "days_left": round(self.days_left, 1),
            "asked_for": self.asked_for,
            "name_matches": self.name_matches,
            "verified": self.verified,
        }


def make_context(ca_file: str | None, *, insecure: bool, told: Callable[[str, Chain], object]) -> ssl.SSLContext:
    """Return a context that trusts whom a transport would, and tells the certificates of each handshake.

    Raises `ConfigError` for a `ca_file` that cannot be used.
    """
    if insecure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["http/1.1"])
    else:
        context = ContextSource(TransportOptions(ca_file=ca_file) if ca_file else TransportOptions()).fresh()

    class Socket(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:
            super().do_handshake(block)
            told(self.server_hostname or "", shown_by(self))

    class Object(ssl.SSLObject):  # over a proxy's tunnel
        def do_handshake(self) -> None:
            super().do_handshake()
            told(self.server_hostname or "", shown_by(self))

    context.sslsocket_class = Socket
    context.sslobject_class = Object
    return context


def shown_in(error: BaseException) -> Chain:
    """Return the certificates that were refused, if that is behind `error`."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return shown_with(cause)
        cause = cause.__cause__
    return []


def read(chain: Chain, asked_for: str, *, verified: bool | None) -> Certificate | None:
    """Return what the first of `chain` says, or None if nothing was shown."""
    if not chain:
        return None
    leaf = chain[0]
    names = [(kind, value) for kind, value in leaf.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]
    return Certificate(
        _whole_name(leaf.get("subject", ())),
        _whole_name(leaf.get("issuer", ())),
        tuple(value for _, value in names),
        ssl.cert_time_to_seconds(leaf["notBefore"]),
        ssl.cert_time_to_seconds(leaf["notAfter"]),
        asked_for,
        any(_matches(kind, value, asked_for) for kind, value in names),
        verified,
    )


def _whole_name(parts: Any) -> str:
    fields = [(key, value) for part in parts for key, value in part]
    common = [value for key, value in fields if key == "commonName"]
    return common[0] if common else ", ".join(f"{value}" for _, value in fields) or "(no name)"


def _matches(kind: str, value: str, asked_for: str) -> bool:
    """Compare as RFC 6125 does: a star stands for the whole first label."""
    if kind == "IP Address":
        import ipaddress  # noqa: PLC0415 - only for a certificate with addresses

        try:
            return ipaddress.ip_address(value.strip()) == ipaddress.ip_address(asked_for)
        except ValueError:
            return False
    pattern, name = value.lower().rstrip("."), asked_for.lower().rstrip(".")
    if pattern.startswith("*."):
        return pattern[1:] == name[name.find(".") :] and "." in pattern[2:]
    return pattern == name


def _iso(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
