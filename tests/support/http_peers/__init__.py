"""Real servers that all answer the same questions, and keep an idle connection for a second: see `asgi_app.py`.

nginx, Node and Go come from the system's packages; uvicorn, hypercorn and granian from the extra `sdks`.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.nginx import free_ports

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

HERE = Path(__file__).parent
STARTUP = 30.0  # granian and Go's compiler on a busy machine
SYSTEM = {"nginx": "nginx", "node": "nodejs", "go": "golang-go"}  # the binary, and Debian's package
PIP = ("uvicorn", "hypercorn", "granian")

NGINX = """
{user}
daemon off;
worker_processes 1;
pid {prefix}/nginx.pid;
error_log {prefix}/error.log notice;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {prefix}/tmp-body;
    proxy_temp_path {prefix}/tmp-proxy;
    fastcgi_temp_path {prefix}/tmp-fastcgi;
    uwsgi_temp_path {prefix}/tmp-uwsgi;
    scgi_temp_path {prefix}/tmp-scgi;
    default_type text/plain;
    absolute_redirect off;
    client_max_body_size 0;
    keepalive_timeout 1s;
    keepalive_requests 1000000000;
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location = /echo {{ return 200 $args; }}
        location = /gzip {{ gzip on; gzip_min_length 1; gzip_types *; return 200 "{hundred}"; }}
        location = /chunked {{ ssi on; ssi_types *; root {prefix}; try_files /page =404; }}
        location = /moved {{ return 302 /echo?$args; }}
        location = /again {{ return 307 /upload; }}
        location = /cookie {{ add_header Set-Cookie seen=$args; return 200 $http_cookie; }}
        location = /upload {{ return 200 $content_length; }}
    }}
}}
"""


class Peer:
    """One running server; a context manager. ``.url`` without a slash at the end."""

    def __init__(self, name: str, prefix: Path) -> None:
        self.name = name
        self.prefix = prefix
        for _ in range(5):  # a port may be taken between our asking and its listening
            (self.port,) = free_ports(1)
            command, environ = _COMMANDS[name](prefix, self.port)
            self._log = (prefix / "log").open("wb")
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                cwd=HERE,
                env=os.environ | environ,
            )
            if self._is_up():
                return
            self.stop()
            if "in use" not in self.said():
                break
        raise RuntimeError(f"{name} does not start:\n{self.said()}")

    @property
    def url(self) -> str:
        """Its root."""
        return f"http://127.0.0.1:{self.port}"

    def said(self) -> str:
        """Return the end of what it wrote."""
        return (self.prefix / "log").read_text(errors="replace")[-3000:]

    def _is_up(self) -> bool:
        deadline = time.monotonic() + STARTUP
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return True
        return False

    def stop(self) -> None:
        """End it, and its workers."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()


Command = tuple[list[str], dict[str, str]]


def _binary(name: str) -> str:
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        raise RuntimeError(f"{name} is needed for this: apt-get install {SYSTEM[name]}")
    return found


def _nginx(prefix: Path, port: int) -> Command:
    config = prefix / "nginx.conf"
    (prefix / "page").write_bytes(b"x" * 200_000)
    user = "user root;" if os.geteuid() == 0 else ""  # else it may not enter a private directory
    config.write_text(NGINX.format(user=user, prefix=prefix, port=port, hundred="$args" * 100))
    return [_binary("nginx"), "-p", str(prefix), "-c", str(config), "-e", str(prefix / "error.log")], {}


def _node(prefix: Path, port: int) -> Command:
    return [_binary("node"), str(HERE / "server.js"), str(port)], {}


def _go(prefix: Path, port: int) -> Command:
    """Compile it, with the standard library alone: nothing is fetched."""
    built = prefix / "server"
    if not built.exists():
        environ = os.environ | {"GOCACHE": str(prefix / "cache"), "GOPROXY": "off", "GOFLAGS": "", "GO111MODULE": "off"}
        command = [_binary("go"), "build", "-o", str(built), str(HERE / "server.go")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environ)
        if done.returncode:
            raise RuntimeError(f"the Go server does not compile:\n{done.stderr}")
    return [str(built), str(port)], {}


def _python(module: str, *arguments: str) -> Callable[[Path, int], Command]:
    def command(prefix: Path, port: int) -> Command:
        place = [argument.format(port=port) for argument in arguments]
        return [sys.executable, "-m", module, *place], {"PYTHONPATH": str(HERE), "PYTHONWARNINGS": "ignore"}

    return command


_COMMANDS: dict[str, Callable[[Path, int], Command]] = {
    "nginx": _nginx,
    "node": _node,
    "go": _go,
    "uvicorn": _python(
        *("uvicorn", "asgi_app:app", "--port", "{port}", "--timeout-keep-alive", "1", "--log-level", "warning"),
    ),
    "hypercorn": _python("hypercorn", "asgi_app:app", "--bind", "127.0.0.1:{port}", "--keep-alive", "1"),
    # What it calls the timeout of reading headers also runs on a connection that waits for the next request.
    "granian": _python(
        *("granian", "asgi_app:app", "--interface", "asgi", "--port", "{port}", "--http", "1"),
        *("--http1-header-read-timeout", "1000", "--no-ws", "--log-level", "warning"),
    ),
}
