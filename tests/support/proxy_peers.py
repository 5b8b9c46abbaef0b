"""Real proxies on loopback ports that the system gives: squid, haproxy with TLS before it, and microsocks."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from .nginx import STARTUP, free_ports

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    P = TypeVar("P")

NEEDED = ("squid", "haproxy", "microsocks")
INSTALL = f"{', '.join(NEEDED)} are needed for this: apt-get install {' '.join(NEEDED)}"
USER, PASSWORD = "someone", "pa:ss w%rd"

SQUID = """
http_port 127.0.0.1:{open_port}
http_port 127.0.0.1:{guarded_port}
pid_filename none
access_log stdio:{prefix}/access.log
cache_log {prefix}/cache.log
cache deny all
coredump_dir {prefix}
visible_hostname tests.invalid
shutdown_lifetime 0 seconds
auth_param basic program /bin/sh {prefix}/who.sh
auth_param basic children 1
acl guarded localport {guarded_port}
acl known proxy_auth REQUIRED
http_access allow !guarded
http_access allow known
http_access deny all
"""
# squid percent-encodes what it asks its helper about.
WHO = """while read -r line; do
    if [ "$line" = "someone pa:ss%20w%25rd" ]; then echo OK; else echo ERR; fi
done
"""
HAPROXY = """
global
    maxconn 500
defaults
    mode tcp
    timeout connect 10s
    timeout client 60s
    timeout server 60s
listen open
    bind 127.0.0.1:{open_port} ssl crt {pem}
    server squid 127.0.0.1:{squid.open_port}
listen guarded
    bind 127.0.0.1:{guarded_port} ssl crt {pem}
    server squid 127.0.0.1:{squid.guarded_port}
"""


class DoesNotStart(RuntimeError):
    """A server ended, or does not listen."""


def start(make: Callable[[], P]) -> P:
    """Start a proxy. A port may be taken between our asking and its listening; then with others."""
    for _ in range(2):
        try:
            return make()
        except DoesNotStart:
            continue
    return make()


class Peer:
    """A proxy with two ports: one for everybody, one for who knows `USER` and `PASSWORD`."""

    def __init__(self) -> None:
        # Of its own: squid gives up root's rights, and could not enter pytest's private directory.
        self.prefix = Path(tempfile.mkdtemp(prefix="proxy-"))
        self.prefix.chmod(0o777)
        self._processes: list[subprocess.Popen[bytes]] = []
        self.open_port, self.guarded_port = free_ports(2)

    def write(self, name: str, text: str) -> str:
        path = self.prefix / name
        path.write_text(text)
        path.chmod(0o644)
        return str(path)

    def run(self, name: str, *arguments: str, ports: tuple[int, ...]) -> None:
        binary = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
        if binary is None:
            raise RuntimeError(INSTALL)
        output = (self.prefix / "output").open("ab")
        with output:
            process = subprocess.Popen([binary, *arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        self._processes.append(process)
        deadline = time.monotonic() + STARTUP
        for port in ports:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > deadline:
                        said = [
                            path.read_text() for path in self.prefix.iterdir() if path.name in {"output", "cache.log"}
                        ]
                        self.stop()
                        raise DoesNotStart(f"{name} does not start:\n{''.join(said)}") from None
                    time.sleep(0.01)

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.prefix, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()


class Squid(Peer):
    """A forward proxy that makes tunnels as well."""

    def __init__(self) -> None:
        super().__init__()
        self.write("who.sh", WHO)
        config = self.write("squid.conf", SQUID.format(**vars(self)))
        self.run("squid", "-N", "-f", config, ports=(self.open_port, self.guarded_port))


class Haproxy(Peer):
    """TLS before a squid: together an https proxy."""

    def __init__(self, squid: Squid, pem: bytes) -> None:
        super().__init__()
        config = HAPROXY.format(**vars(self), squid=squid, pem=self.write("server.pem", pem.decode()))
        self.run("haproxy", "-db", "-f", self.write("haproxy.cfg", config), ports=(self.open_port, self.guarded_port))


class Microsocks(Peer):
    """A SOCKS5 proxy."""

    def __init__(self) -> None:
        super().__init__()
        self.run("microsocks", "-i", "127.0.0.1", "-p", str(self.open_port), ports=(self.open_port,))
        known = ("-u", USER, "-P", PASSWORD)
        self.run("microsocks", "-i", "127.0.0.1", "-p", str(self.guarded_port), *known, ports=(self.guarded_port,))
