"""`verify` and `cert` of a call, as options of a transport."""

from __future__ import annotations

import os
import ssl
from typing import Any, NamedTuple

from pooltransport.trust_files import client_cert_parts

_OF_TRUST = ("ssl_context", "ca_file", "client_cert")
Stamp = tuple[int, int, int] | None


class Trust(NamedTuple):
    """Whom one call trusts and what it shows of itself. `verify`: False, a path, or True for the transport's own.

    `stamps`: what the files look like that are read here, and not again by the transport when they change.
    """

    verify: bool | str
    cert: tuple[str, ...] | None
    stamps: tuple[Stamp, ...]

    @staticmethod
    def of(verify: Any, cert: Any) -> Trust:
        """Make one of what requests was given. Raises `OSError` for a file that is not there, as requests does."""
        files: tuple[str, ...] | None = None
        if cert:
            files = tuple(map(os.fspath, cert)) if isinstance(cert, (tuple, list)) else (os.fspath(cert),)
            for path, what in zip(files, ("certificate", "key"), strict=False):
                if not os.path.exists(path):
                    raise OSError(f"Could not find the TLS {what} file, invalid path: {path}")
        if verify is None or isinstance(verify, bool):
            verify = verify is not False
        else:
            verify = os.fspath(verify)
            if not os.path.exists(verify):
                raise OSError(f"Could not find a suitable TLS CA certificate bundle, invalid path: {verify}")
        read_here = verify is False or (isinstance(verify, str) and os.path.isdir(verify))
        return Trust(verify, files, tuple(map(_stamp, files)) if files and read_here else ())


def trust_options(values: dict[str, Any], trust: Trust) -> dict[str, Any]:
    """Return the options `values` with those of trust replaced by what `trust` says.

    Their client certificate stays where the call has none; a context of theirs stays only where the call says nothing
    of verification, and is never altered.
    """
    changed = {name: value for name, value in values.items() if name not in _OF_TRUST}
    client_cert = trust.cert or values.get("client_cert")
    if trust.verify is True or (isinstance(trust.verify, str) and not os.path.isdir(trust.verify)):
        kept = ("ssl_context", "ca_file") if trust.verify is True else ()
        changed |= {name: values[name] for name in kept if name in values}
        if isinstance(trust.verify, str):
            changed["ca_file"] = trust.verify
        if client_cert is not None:
            changed["client_cert"] = client_cert
        return changed
    changed["ssl_context"] = _context(trust.verify or None, client_cert)
    return changed


def _context(directory: str | None, client_cert: Any) -> ssl.SSLContext:
    """Return a context that trusts the authorities of `directory`, whose files have OpenSSL's names; None: anybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if directory is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(capath=directory)
    parts = client_cert_parts(client_cert)
    if parts is not None:
        context.load_cert_chain(parts[0], parts[1], parts[2] or "")
    return context


def _stamp(path: str) -> Stamp:
    found = os.stat(path)
    return found.st_mtime_ns, found.st_size, found.st_ino
