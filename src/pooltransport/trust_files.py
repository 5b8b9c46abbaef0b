"""What `ca_file`, `client_cert` and `ssl_context` may be: what can be known of them without ``ssl``.

The files are read here only to say at once, when a transport is made, what could never work. They
are loaded at the first https dial (`runtime/trust.py`), and again when they have changed.
"""

from __future__ import annotations

import os
from typing import TypeGuard

TRUSTSTORE = "truststore"


def check_context(name: str, value: object) -> str | None:
    """Say what is wrong with `ssl_context`."""
    if value is None or (hasattr(value, "wrap_bio") and not isinstance(value, type)):
        return None
    if value != TRUSTSTORE:
        shown = repr(value) if isinstance(value, str) else type(value).__name__
        return f'{name}: must be None, an ssl.SSLContext, or "{TRUSTSTORE}" for the system\'s trust store, not {shown}'
    from importlib.util import find_spec  # noqa: PLC0415 - only who asks for the extra pays for it

    if find_spec("truststore") is None:
        return f'{name}="{TRUSTSTORE}" needs an extra: pip install "pooltransport[truststore]" [PTC116]'
    return None


def check_ca_file(name: str, value: object) -> str | None:
    """Say what is wrong with `ca_file`."""
    if value is None:
        return None
    if not is_path(value):
        return f"{name}={value!r}: must be None or the path of a PEM file"
    text, problem = _read(name, value)
    if problem is None and "-----BEGIN CERTIFICATE-----" not in text and "BEGIN TRUSTED CERTIFICATE" not in text:
        problem = f"{name}={value!r}: there is no certificate in it; PEM is wanted (-----BEGIN CERTIFICATE-----)"
    return problem


def check_client_cert(name: str, value: object) -> str | None:
    """Say what is wrong with `client_cert`. The password is in no text."""
    if value is None:
        return None
    parts = value if isinstance(value, tuple) else (value,)
    if not 1 <= len(parts) <= 3 or not all(map(is_path, parts[:2])) or not all(isinstance(p, str) for p in parts[2:]):
        return f"{name}: must be None, the path of a PEM file, or (certificate, key), or (certificate, key, password)"
    texts = []
    for path in parts[:2]:
        text, problem = _read(name, path)
        if problem is not None:
            return problem
        texts.append(text)
    if "-----BEGIN CERTIFICATE-----" not in texts[0]:
        return f"{name}: there is no certificate in {parts[0]!r}; PEM is wanted (-----BEGIN CERTIFICATE-----)"
    if "PRIVATE KEY-----" not in texts[-1]:
        hint = "; give (certificate, key) if it is in a file of its own" if len(parts) == 1 else ""
        return f"{name}: there is no private key in {parts[-1 if len(parts) < 3 else 1]!r}{hint}"
    if len(parts) < 3 and ("BEGIN ENCRYPTED PRIVATE KEY" in texts[-1] or "4,ENCRYPTED" in texts[-1]):
        return f"{name}: the private key in {parts[-1]!r} is encrypted: give (certificate, key, password)"
    return None


def is_path(value: object) -> TypeGuard[str | os.PathLike[str]]:
    """Report whether `value` names a file by text."""
    return (isinstance(value, str) and bool(value) and "\0" not in value) or (
        isinstance(value, os.PathLike) and isinstance(value.__fspath__(), str)
    )


def _read(name: str, path: str | os.PathLike[str]) -> tuple[str, str | None]:
    try:
        with open(path, encoding="latin-1") as file:
            return file.read(), None
    except OSError as error:
        return "", f"{name}: {os.fspath(path)!r} cannot be read: {error.strerror or error}"


def client_cert_parts(value: object) -> tuple[str, str | None, str | None] | None:
    """Return certificate file, key file and password of a checked `client_cert`."""
    if value is None:
        return None
    parts = value if isinstance(value, tuple) else (value,)
    paths = [os.fspath(path) for path in parts[:2]]
    return paths[0], paths[1] if len(paths) > 1 else None, parts[2] if len(parts) > 2 else None
