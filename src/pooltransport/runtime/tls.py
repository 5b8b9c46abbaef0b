"""TLS: the shared default context, and TLS over memory for runtimes without their own."""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pooltransport.trace import TLSInfo

from .sockets import READ_SIZE, tls_info

# One context for each set of trusted certificates: building one costs about 25 ms and 1 MB.
_contexts: dict[tuple[object, ...], ssl.SSLContext] = {}


def default_context() -> ssl.SSLContext:
    """Return the shared context: certifi's authorities, or those of ``SSL_CERT_FILE`` and
    ``SSL_CERT_DIR`` when set (as Go does); TLS 1.2 at least; made on first use and again when the
    file changes.
    """
    file, directory = os.environ.get("SSL_CERT_FILE") or None, os.environ.get("SSL_CERT_DIR") or None
    if file is None and directory is None:
        import certifi  # noqa: PLC0415 - only a first https dial pays for it

        file = certifi.where()
    key = (file, directory, _changed(file))
    context = _contexts.get(key)
    if context is None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(cafile=file, capath=directory)
        context.set_alpn_protocols(["http/1.1"])
        # Two threads may build it at once; one wins, and both are right.
        context = _contexts.setdefault(key, context)
    return context


def _changed(path: str | None) -> float:
    try:
        return os.stat(path).st_mtime if path is not None else 0.0
    except OSError:
        return 0.0


class TLSPump:
    """A TLS session between two memory buffers: bytes in, bytes out, nothing that waits.

    `start`, `write` and `read` work on the plain side; `feed` and `take` on the wire side.
    """

    __slots__ = ("_incoming", "_object", "_outgoing", "info")

    def __init__(self, context: ssl.SSLContext, server_hostname: str) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        self.info: TLSInfo | None = None

    def handshake(self, server_hostname: str) -> bool:
        """Go on with the handshake; report whether it is done. Raises `ssl.SSLError`."""
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        self.info = tls_info(self._object, server_hostname)
        return True

    def write(self, data: bytes | memoryview) -> None:
        """Encrypt `data`; `take` has the records. Memory takes everything at once."""
        self._object.write(data)

    def read(self) -> bytes | None:
        """Return decrypted bytes, ``b""`` at the end, None when more of the wire is needed."""
        try:
            return self._object.read(READ_SIZE)
        except ssl.SSLWantReadError:
            return None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    def feed(self, data: bytes) -> None:
        """Put in what came from the wire; ``b""`` is its end."""
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def take(self) -> bytes:
        """Return what must go to the wire."""
        return self._outgoing.read()
