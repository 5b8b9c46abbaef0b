"""TLS over memory for runtimes without their own, and what the leaves share about it."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pooltransport.trace import TLSInfo

from .sockets import READ_SIZE, tls_info

# Under this name the certificates that a peer has shown stay with the error that refused them.
_SHOWN = "shown_certificates"


def note_shown(error: ssl.SSLError, ssl_object: Any) -> None:
    """Leave with `error` the certificates that the peer has shown; the leaf, whose exception it is, calls it."""
    vars(error)[_SHOWN] = shown_by(ssl_object)


def shown_by(ssl_object: Any) -> list[dict[str, Any]]:
    """Return the certificates that the peer showed in a handshake, its own first, whether they are good or not.

    Each is as `ssl.SSLSocket.getpeercert` would have it. Empty if there is none, or on another Python.
    """
    try:
        # Public from Python 3.13 on, as bytes only; what the private one returns is what truststore uses, too.
        chain = ssl_object._sslobj.get_unverified_chain()  # noqa: SLF001 - see above
        return [cert.get_info() for cert in chain or ()]
    except (AttributeError, ssl.SSLError, ValueError):
        return []  # an error then says less


def shown_with(error: ssl.SSLError) -> list[dict[str, Any]]:
    """Return the certificates that the peer showed, its own first, as `ssl.SSLSocket.getpeercert` would."""
    found: list[dict[str, Any]] = vars(error).get(_SHOWN, [])
    return found


def accepts_cut_off(context: ssl.SSLContext) -> bool:
    """Report whether the context's owner wants an end without close_notify to be as good as one with it."""
    return bool(context.options & getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0))


class TLSPump:
    """A TLS session between two memory buffers: bytes in, bytes out, nothing that waits.

    `start`, `write` and `read` work on the plain side; `feed` and `take` on the wire side.
    """

    __slots__ = ("_incoming", "_outgoing", "cut_off", "info", "object")

    def __init__(self, context: ssl.SSLContext, server_hostname: str) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        self.info: TLSInfo | None = None
        self.cut_off = False  # the wire ended without the peer's close_notify

    def handshake(self, server_hostname: str) -> bool:
        """Go on with the handshake; report whether it is done. Raises `ssl.SSLError`."""
        try:
            self.object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            note_shown(error, self.object)
            raise
        self.info = tls_info(self.object, server_hostname)
        return True

    def write(self, data: bytes | memoryview) -> None:
        """Encrypt `data`; `take` has the records. Memory takes everything at once."""
        self.object.write(data)

    def read(self) -> bytes | None:
        """Return decrypted bytes, ``b""`` at the end, None when more of the wire is needed."""
        try:
            return self.object.read(READ_SIZE)
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLZeroReturnError:
            return b""
        except ssl.SSLEOFError:
            self.cut_off = True
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
