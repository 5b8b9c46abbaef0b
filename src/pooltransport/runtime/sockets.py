"""What the colours share about raw sockets: making, naming, and asking the kernel about them."""

from __future__ import annotations

import select
import socket
import time
from typing import TYPE_CHECKING, Any

from pooltransport.stats import CloseReason
from pooltransport.trace import TLSInfo

from .protocols import Expired

if TYPE_CHECKING:
    import ssl

    from .protocols import Address, SocketOptions

_GONE = select.POLLHUP | select.POLLERR | select.POLLNVAL | getattr(select, "POLLRDHUP", 0)
# Large enough for a TLS record and for most answers in one call; small enough to be allocated cheaply.
READ_SIZE = 65_536
# Content types of RFC 8446 section 5.1, and the length of a hidden alert.
_ALERT, _APPLICATION_DATA, _HIDDEN_ALERT = 21, 23, 19
# So much goes out in one system call or not at all, also as one TLS record (RFC 8446 section 5.1).
ONE_RECORD = 16_384


def make_socket(address: Address, options: SocketOptions) -> socket.socket:
    """Make a socket for `address`, with every option set, not connected yet."""
    sock = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        if address.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if options.keepalive is not None:
                _keep_alive(sock, *options.keepalive)
            if options.local_address is not None:
                sock.bind(options.local_address)
        for level, option, value in options.extra:
            sock.setsockopt(level, option, value)
    except BaseException:
        sock.close()
        raise
    return sock


def _keep_alive(sock: socket.socket, idle: int, interval: int, count: int) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Where the system has no such option its own values hold; macOS calls the first by another name.
    first = getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None))
    rows = (first, idle), (getattr(socket, "TCP_KEEPINTVL", None), interval)
    for option, value in (*rows, (getattr(socket, "TCP_KEEPCNT", None), count)):
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def address_text(sockaddr: Any) -> str:
    """Return ``host:port`` of a socket address, or the path of a Unix socket."""
    if isinstance(sockaddr, tuple):
        host, port = sockaddr[0], sockaddr[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return str(sockaddr or "")


def names(sock: socket.socket) -> tuple[str, str]:
    """Return the texts of the remote and the local address; empty where the kernel says no more."""
    try:
        return address_text(sock.getpeername()), address_text(sock.getsockname())
    except OSError:
        return "", ""


def stalls_at(stall: float | None, at: float | None) -> float | None:
    """Return when a write that makes no progress from now on ends."""
    if stall is None:
        return at
    until = time.monotonic() + stall
    return until if at is None or until < at else at


class Probe:
    """Asks the kernel about one idle socket: a poll object made once, one system call a question."""

    __slots__ = ("_fd", "_poller", "_sock")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._fd = sock.fileno()  # `sock` loses it when TLS wraps it
        self._poller = self._make()

    def _make(self) -> select.poll:
        poller = select.poll()
        poller.register(self._fd, select.POLLIN | getattr(select, "POLLRDHUP", 0))
        return poller

    def events(self) -> int:
        """Return what is there to read or to know, 0 for nothing; from any thread."""
        try:
            events = self._poller.poll(0)
        except RuntimeError:
            # The housekeeper asks at this moment, and a poll object serves one at a time.
            events = self._make().poll(0)
        return events[0][1] if events else 0

    def wait(self, at: float | None, *, writable: bool = False) -> None:
        """Wait until there is something to read, or room to write. Raises `Expired` at `at`."""
        poller = select.poll()
        poller.register(self._fd, select.POLLOUT if writable else select.POLLIN)
        left = None if at is None else max(at - time.monotonic(), 0.0) * 1000
        if not poller.poll(left):
            raise Expired

    def gone(self) -> bool:
        """Report whether the peer has ended the stream."""
        return bool(self.events() & _GONE)

    def tls_end_waits(self) -> bool:
        """Report whether the peer has said that TLS ends, in bytes that the loop has yet to read."""
        try:
            return tls_end_waits(self._sock.recv(READ_SIZE, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False  # nothing there; an error is the loop's to tell

    def check(self) -> CloseReason | None:
        """Say why an idle plain socket cannot be used: what is readable on it is an end or unasked
        for. A stray ``HTTP/1.x 408`` is an end too, said in words (Go IDLE-06).
        """
        events = self.events()
        if not events:
            return None
        if events & _GONE:
            return CloseReason.SERVER_CLOSED_IDLE
        try:
            return unsolicited(self._sock.recv(16, socket.MSG_PEEK))
        except OSError:
            return CloseReason.SERVER_CLOSED_IDLE


def unsolicited(data: bytes) -> CloseReason:
    """Name what came on an idle connection."""
    if not data or (data.startswith(b"HTTP/1.") and data[8:12] == b" 408"):
        return CloseReason.SERVER_CLOSED_IDLE
    return CloseReason.UNSOLICITED_DATA


def tls_end_waits(data: bytes) -> bool:
    """Report whether `data`, the records that nobody has read on an idle TLS connection, hold an alert:
    its content type says so, or in TLS 1.3, where that is hidden, its length: two bytes, the true type
    and 16 of authentication. A session ticket is longer; what else is so short was not asked for.
    """
    while len(data) >= 5:
        length = int.from_bytes(data[3:5], "big")
        if data[0] == _ALERT or (data[0] == _APPLICATION_DATA and length <= _HIDDEN_ALERT):
            return True
        data = data[5 + length :]
    return False


def tls_info(ssl_object: ssl.SSLSocket | ssl.SSLObject, server_hostname: str | None) -> TLSInfo:
    """Say what a finished handshake agreed on."""
    cipher = ssl_object.cipher()
    return TLSInfo(
        ssl_object.version() or "",
        cipher[0] if cipher else "",
        ssl_object.selected_alpn_protocol(),
        server_hostname,
    )
