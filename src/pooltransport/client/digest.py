"""Digest authentication (RFC 7616), quality of protection ``auth``: the password is never sent."""

from __future__ import annotations

import _thread
import hashlib
import os
from typing import TYPE_CHECKING, NamedTuple

from .auth import Auth, with_authorization

if TYPE_CHECKING:
    from collections.abc import Callable

    from pooltransport.models import Request
    from pooltransport.response import AsyncResponse, Response

_MOST_ORIGINS = 64
_HASHES = {
    "MD5": hashlib.md5,
    "SHA-256": hashlib.sha256,
    "SHA-512-256": None,  # not everywhere; asked for by name below
}


class Challenge(NamedTuple):
    """What a server asked for."""

    realm: str
    nonce: str
    algorithm: str
    opaque: str | None
    qop: str | None
    userhash: bool
    stale: bool


class DigestAuth(Auth):
    """User and password by Digest (RFC 7616): MD5, SHA-256 and SHA-512-256, each also ``-sess``.

    The first request to an origin is answered with a challenge and sent again; its body must be one that can be. Later
    ones carry the answer at once.
    """

    __slots__ = ("_known", "_lock", "_password", "_user")

    def __init__(self, user: str, password: str) -> None:
        self._user = user
        self._password = password
        self._known: dict[str, tuple[Challenge, int]] = {}  # by origin: with how many answers it got
        self._lock = _thread.allocate_lock()

    def authorize(self, request: Request) -> Request:
        """Add the Authorization, if the origin's challenge is known."""
        with self._lock:
            known = self._known.get(request.url.origin)
            if known is None:
                return request
            challenge, count = known[0], known[1] + 1
            self._known[request.url.origin] = (challenge, count)
        return with_authorization(request, self._value(request, challenge, count))

    def answer(self, request: Request, response: Response | AsyncResponse) -> Request | None:
        """Return the request with the answer to the challenge of `response`; None if there is none that can be
        answered, or the one before was answered and refused.
        """
        challenge = parse_challenges(response.headers.get_list("www-authenticate"))
        if challenge is None:
            return None
        with self._lock:
            before = self._known.get(request.url.origin)
            was_answered = any(name.lower() == b"authorization" for name, _ in request.raw_header_items())
            if was_answered and (before is None or (before[0].nonce == challenge.nonce and not challenge.stale)):
                return None
            if len(self._known) >= _MOST_ORIGINS:
                self._known.clear()
            self._known[request.url.origin] = (challenge, 1)
        items = [item for item in request.raw_header_items() if item[0].lower() != b"authorization"]
        return with_authorization(request.with_headers(items), self._value(request, challenge, 1))

    def _value(self, request: Request, challenge: Challenge, count: int) -> bytes:
        """Return the value of Authorization (RFC 7616 section 3.4)."""
        digest = _hash_of(challenge.algorithm)
        cnonce, nc = os.urandom(16).hex(), f"{count:08x}"
        uri = request.url.target.decode("latin-1")
        secret = digest(f"{self._user}:{challenge.realm}:{self._password}")
        if challenge.algorithm.endswith("-SESS"):
            secret = digest(f"{secret}:{challenge.nonce}:{cnonce}")
        what = digest(f"{request.method}:{uri}")
        middle = f"{nc}:{cnonce}:{challenge.qop}:" if challenge.qop else ""
        user = digest(f"{self._user}:{challenge.realm}") if challenge.userhash else self._user
        parts = [
            f"username={_quoted(user)}",
            f"realm={_quoted(challenge.realm)}",
            f"nonce={_quoted(challenge.nonce)}",
            f"uri={_quoted(uri)}",
            f'response="{digest(f"{secret}:{challenge.nonce}:{middle}{what}")}"',
            f"algorithm={challenge.algorithm.replace('-SESS', '-sess')}",
        ]
        if challenge.opaque is not None:
            parts.append(f"opaque={_quoted(challenge.opaque)}")
        if challenge.qop:
            parts += [f"qop={challenge.qop}", f"nc={nc}", f"cnonce={_quoted(cnonce)}"]
        if challenge.userhash:
            parts.append("userhash=true")
        return f"Digest {', '.join(parts)}".encode()


def parse_challenges(values: list[str]) -> Challenge | None:
    """Return the strongest Digest challenge of `values` of WWW-Authenticate that can be answered, or None."""
    found = [
        challenge for value in values for fields in _digests(value) if (challenge := _challenge(fields)) is not None
    ]
    order = list(_HASHES)
    return max(found, key=lambda challenge: order.index(challenge.algorithm.removesuffix("-SESS")), default=None)


def _challenge(fields: dict[str, str]) -> Challenge | None:
    algorithm = fields.get("algorithm", "MD5").upper()
    qops = [qop.strip().lower() for qop in fields.get("qop", "").split(",") if qop.strip()]
    if algorithm.removesuffix("-SESS") not in _HASHES or not _can(algorithm) or "nonce" not in fields:
        return None
    if qops and "auth" not in qops:
        return None  # auth-int has the body hashed before it is sent
    return Challenge(
        fields.get("realm", ""),
        fields["nonce"],
        algorithm,
        fields.get("opaque"),
        "auth" if qops else None,
        fields.get("userhash", "").lower() == "true",
        fields.get("stale", "").lower() == "true",
    )


def _digests(value: str) -> list[dict[str, str]]:
    """Cut a WWW-Authenticate value into its challenges (RFC 9110 section 11.6.1); return those of Digest."""
    found: list[tuple[str, dict[str, str]]] = []
    rest = value.strip(" \t,")
    while rest:
        name, rest = _token(rest)
        if not name:
            break
        if rest.startswith("=") or rest.lstrip(" \t").startswith("="):
            text, rest = _value_of(rest.lstrip(" \t")[1:].lstrip(" \t"))
            if found:
                found[-1][1][name.lower()] = text
        else:
            found.append((name.lower(), {}))
        rest = rest.lstrip(" \t,")
    return [fields for scheme, fields in found if scheme == "digest"]


def _token(text: str) -> tuple[str, str]:
    for place, char in enumerate(text):
        if char in ' \t,="':
            return text[:place], text[place:]
    return text, ""


def _value_of(text: str) -> tuple[str, str]:
    """Return a token or the inside of a quoted string, and what follows."""
    if not text.startswith('"'):
        end = min((place for place in (text.find(","), text.find(" ")) if place >= 0), default=len(text))
        return text[:end], text[end:]
    out = []
    place = 1
    while place < len(text) and text[place] != '"':
        if text[place] == "\\" and place + 1 < len(text):
            place += 1
        out.append(text[place])
        place += 1
    return "".join(out), text[place + 1 :]


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _hash_of(algorithm: str) -> Callable[[str], str]:
    name = algorithm.removesuffix("-SESS")
    make = _HASHES[name]

    def digest(text: str) -> str:
        data = text.encode()
        if make is None:
            return hashlib.new("sha512_256", data, usedforsecurity=False).hexdigest()
        return make(data, usedforsecurity=False).hexdigest()

    return digest


def _can(algorithm: str) -> bool:
    try:
        _hash_of(algorithm)("")
    except ValueError:
        return False
    return True
