"""A real nginx on loopback ports that the system gives, and what it says about its connections."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

INSTALL = "nginx is needed for this: apt-get install nginx"
SIZES = {"100": 100, "10k": 10_000, "100k": 100_000, "200k": 200_000, "1M": 1_000_000}
STARTUP = 10.0

CONFIG = """
{user}
daemon off;
worker_processes 1;
worker_rlimit_nofile {files};
pid {prefix}/nginx.pid;
error_log {prefix}/error.log notice;
events {{ worker_connections {connections}; }}
http {{
    log_format tests '$connection $connection_requests $scheme $request_method $request_uri $status';
    access_log {access_log};
    client_body_temp_path {prefix}/tmp-body;
    proxy_temp_path {prefix}/tmp-proxy;
    fastcgi_temp_path {prefix}/tmp-fastcgi;
    uwsgi_temp_path {prefix}/tmp-uwsgi;
    scgi_temp_path {prefix}/tmp-scgi;
    default_type text/plain;
    sendfile on;
    tcp_nodelay on;
    keepalive_timeout 3600s;
    keepalive_requests 1000000000;
    server {{
        listen 127.0.0.1:{admin_port};
        access_log off;
        location / {{ stub_status; }}
    }}
    server {{
        listen 127.0.0.1:{http_port} backlog=4096;
        {listen_tls}
        root {prefix}/html;
        location = / {{ return 200 hello; }}
        location = /status {{ stub_status; }}
        location = /echo {{ return 200 $args; }}
        location = /big {{ }}
        location /bytes/ {{ }}
        location = /limited {{ limit_rate 100k; try_files /bytes/1M =404; }}
        location = /close {{ keepalive_timeout 0; return 200 closing; }}
        location = /brief {{ keepalive_timeout 200ms; return 200 brief; }}
        location = /post {{ client_max_body_size 0; return 200 posted; }}
        location = /gzip {{ gzip on; gzip_min_length 1; gzip_types *; try_files /bytes/10k =404; }}
        location = /chunked {{ ssi on; ssi_types *; try_files /bytes/200k =404; }}
    }}
}}
"""


class LogLine(NamedTuple):
    """One request as nginx logged it."""

    connection: int
    nth: int  # on its connection, from 1
    scheme: str
    method: str
    uri: str
    status: int


class Nginx:
    """nginx with one worker. ``.url`` and, with a certificate, ``.https_url``; no slash at the end."""

    connections = 4096  # more than this at once wait

    def __init__(self, prefix: Path, *, pem: Path | None = None, log: bool = True) -> None:
        binary = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
        if binary is None:
            raise RuntimeError(INSTALL)
        self.prefix = prefix
        self._log_path = prefix / "access.log"
        self._lock = threading.Lock()
        self._write_files()
        self._binary = binary
        self._process = self._start(pem, log=log)
        # One connection, kept: it is always counted by nginx, and always taken off here.
        self._admin = http.client.HTTPConnection("127.0.0.1", self._admin_port, timeout=10)
        try:
            while self._status()[1] < 2:  # our first knock must be counted before anybody takes a difference
                time.sleep(0.001)
        except BaseException:
            self.stop()
            raise

    def _write_files(self) -> None:
        root = self.prefix / "html"
        (root / "bytes").mkdir(parents=True)
        for name, size in SIZES.items():
            (root / "bytes" / name).write_bytes(b"x" * size)
        (root / "big").write_bytes(b"x" * 10_000_000)

    def _start(self, pem: Path | None, *, log: bool) -> subprocess.Popen[bytes]:
        """Start it. A port may be taken between our asking and nginx's listening; then with others."""
        for _ in range(5):
            self._admin_port, self.port, self.tls_port = free_ports(3)
            (self.prefix / "nginx.conf").write_text(self._config(pem, log=log))
            process = self._spawn()
            if process is not None:
                return process
            if "Address already in use" not in self.errors():
                break
        raise RuntimeError(f"nginx does not start:\n{self.errors()}")

    def _spawn(self) -> subprocess.Popen[bytes] | None:
        config, errors = self.prefix / "nginx.conf", self.prefix / "error.log"
        process = subprocess.Popen(
            [self._binary, "-p", str(self.prefix), "-c", str(config), "-e", str(errors)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return process if self._wait_until_up(process) else None

    def _config(self, pem: Path | None, *, log: bool) -> str:
        lines = [
            f"listen 127.0.0.1:{self.tls_port} ssl backlog=4096;",
            f"ssl_certificate {pem};",
            f"ssl_certificate_key {pem};",
            "ssl_session_cache shared:tests:1m;",
            "ssl_protocols TLSv1.2 TLSv1.3;",  # before 1.23.4 the latter is off by default
        ]
        return CONFIG.format(
            # As root it would drop its rights to a user who may not enter a private temporary directory.
            user="user root;" if os.geteuid() == 0 else "",
            prefix=self.prefix,
            files=2 * self.connections,
            connections=self.connections,
            access_log=f"{self._log_path} tests" if log else "off",
            admin_port=self._admin_port,
            http_port=self.port,
            listen_tls="\n        ".join(lines) if pem else "",
        )

    def _wait_until_up(self, process: subprocess.Popen[bytes]) -> bool:
        deadline = time.monotonic() + STARTUP
        while time.monotonic() < deadline and process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.01)
            else:
                return True
        _end(process)
        return False

    @property
    def url(self) -> str:
        """Its root over http."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def https_url(self) -> str:
        """Its root over https."""
        return f"https://127.0.0.1:{self.tls_port}"

    def errors(self) -> str:
        """Return its error log."""
        try:
            return (self.prefix / "error.log").read_text()
        except OSError:
            return ""

    # Counting.

    def _status(self) -> list[int]:
        with self._lock:
            self._admin.request("GET", "/")
            return [int(n) for n in re.findall(rb"\d+", self._admin.getresponse().read())]

    def active_connections(self) -> int:
        """Return how many connections are open now, our own question not counted."""
        return self._status()[0] - 1

    def accepted(self) -> int:
        """Return how many connections were ever accepted; take the difference of two calls."""
        return self._status()[1] - 1

    @contextlib.contextmanager
    def sampling(self, interval: float = 0.002) -> Iterator[Peak]:
        """Look at `active_connections` all the time, in a thread; ``peak.value`` is the most seen."""
        peak = Peak()
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(interval):
                peak.value = max(peak.value, self.active_connections())
                peak.samples += 1

        thread = threading.Thread(target=look, name="nginx-sampler")
        thread.start()
        try:
            yield peak
        finally:
            ended.set()
            thread.join()

    def wait_for_active(self, count: int) -> None:
        """Wait until exactly `count` connections are open."""
        deadline = time.monotonic() + 10.0
        while (active := self.active_connections()) != count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"nginx has {active} connections open, not {count}")
            time.sleep(0.005)

    def log(self, uri_contains: str = "") -> list[LogLine]:
        """Return the access log. A request is logged when nginx is done with it: maybe after its answer came."""
        lines = []
        for line in self._log_path.read_text().splitlines():
            connection, nth, scheme, method, uri, status = line.split(" ")
            if uri_contains in uri:
                lines.append(LogLine(int(connection), int(nth), scheme, method, uri, int(status)))
        return lines

    def wait_for_log(self, count: int, uri_contains: str = "") -> list[LogLine]:
        """Wait until `count` requests were logged; mark them with a query of their own (``/?name``)."""
        deadline = time.monotonic() + 10.0
        while len(lines := self.log(uri_contains)) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"nginx logged {len(lines)} requests, not {count}")
            time.sleep(0.01)
        return lines

    # Changing.

    def reload(self) -> None:
        """Start a new worker; the old one answers what it has begun, closes what is idle, and goes."""
        seen = self.errors().count("start worker process ")
        self._process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + STARTUP
        while self.errors().count("start worker process ") == seen:
            if time.monotonic() > deadline:
                raise TimeoutError(f"nginx does not reload:\n{self.errors()}")
            time.sleep(0.005)

    def halt(self) -> None:
        """End it at once, connections included; `resume` starts it again on the same ports."""
        self._admin.close()
        _end(self._process)

    def resume(self) -> None:
        """Start it again after `halt`."""
        process = self._spawn()
        if process is None:
            raise RuntimeError(f"nginx does not start again:\n{self.errors()}")
        self._process = process

    def stop(self) -> None:
        """Stop it, and release everything."""
        self._admin.close()
        _end(self._process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()


class Peak:
    """What a sampler saw."""

    value = 0
    samples = 0


def client_sockets(port: int) -> Counter[str]:
    """Count this machine's IPv4 connections to `port` by state, as the kernel of the client's side sees them."""
    names = {"01": "established", "02": "connecting", "08": "close_wait"}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return Counter(names.get(row[3], "closed") for row in rows if row[2].endswith(f":{port:04X}"))


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago, each another."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end at once (nginx's fast shutdown, workers included), and see that it does."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
