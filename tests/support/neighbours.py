"""Several loopback addresses with one port, as the addresses of one name: some serve, some refuse, some are silent."""

from __future__ import annotations

import contextlib
import errno
import socket
from typing import TYPE_CHECKING

from .server import ScriptedServer

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from typing import Self

    from .server import Handler


class Neighbours:
    """Holds one port on each of `hosts`; what neither serves nor is a black hole refuses.

    `resolve` is a ``resolver=`` that answers with `hosts`, in their order; `asked` are the names it was asked for.
    """

    def __init__(self, *hosts: str) -> None:
        self.hosts = list(hosts)
        self.asked: list[str] = []
        self.servers: dict[str, ScriptedServer] = {}
        self._open = contextlib.ExitStack()
        self._bound = self._reserve()
        self.port = next(iter(self._bound.values())).getsockname()[1]

    def _reserve(self) -> dict[str, socket.socket]:
        for _ in range(50):
            bound: dict[str, socket.socket] = {}
            port = 0
            try:
                for host in self.hosts:
                    bound[host] = sock = _socket(host)
                    sock.bind((host, port))
                    port = sock.getsockname()[1]
            except OSError as error:
                for sock in bound.values():
                    sock.close()
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return bound
        raise RuntimeError(f"no port is free on all of {self.hosts}")

    @property
    def url(self) -> str:
        """A name that `resolve` knows, with the port."""
        return f"http://neighbours.test:{self.port}"

    def resolve(self, host: str, port: int) -> list[str]:
        """Answer with all addresses."""
        self.asked.append(host)
        return list(self.hosts)

    def serve(self, host: str, handler: Handler, *, tls: ssl.SSLContext | None = None) -> ScriptedServer:
        """Let `host` serve."""
        server = self.servers[host] = ScriptedServer(handler, host=host, tls=tls, bound=self._take(host))
        self._open.callback(server.stop)
        return server

    def black_hole(self, host: str) -> None:
        """Let `host` answer nothing."""
        self._open.enter_context(black_hole(self._take(host)))

    def kill(self, host: str) -> None:
        """Stop the server of `host`, its connections with it; the address refuses from now on."""
        self.servers.pop(host).stop()

    def _take(self, host: str) -> socket.socket:
        return self._bound.pop(host)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._open.close()
        for sock in self._bound.values():
            sock.close()


@contextlib.contextmanager
def black_hole(bound: socket.socket) -> Iterator[None]:
    """Let the address of `bound` answer nothing: its backlog is full, so that the kernel drops what comes."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(bound).listen(0)
        address = bound.getsockname()[:2]
        for _ in range(8):
            filler = stack.enter_context(_socket(address[0]))
            filler.settimeout(0.05)
            try:
                filler.connect(address)
            except TimeoutError:
                break
        else:
            raise RuntimeError(f"the backlog of {address} does not fill up")
        yield


def _socket(host: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
