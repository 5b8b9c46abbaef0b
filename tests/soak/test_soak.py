"""The soak: all colours at once against nginx, haproxy and a server that breaks in every way.

``make soak`` runs it for 30 minutes, ``make soak SECONDS=60`` for one. No wrong answer, no byte of another request,
every slot and socket back, memory flat.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.nginx import free_ports

pytestmark = pytest.mark.soak

ROOT = Path(__file__).parents[2]
SECONDS = float(os.environ.get("POOLTRANSPORT_SOAK", "60"))
MOST_GROWTH = 5_000_000  # bytes
# Large blocks go back at once, and there is one heap: what malloc keeps for later is not what is asked about.
TIDY_MALLOC = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "32768", "MALLOC_TRIM_THRESHOLD_": "65536"}
HAPROXY = """
defaults
    mode http
    timeout connect 2s
    timeout client 20s
    timeout server 20s
    timeout http-keep-alive 1s
frontend in
    bind 127.0.0.1:{port}
    default_backend faults
backend faults
    http-reuse safe
    server one 127.0.0.1:{behind}
"""
NGINX = """
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/tmp-body;
    proxy_temp_path {folder}/tmp-proxy;
    fastcgi_temp_path {folder}/tmp-fastcgi;
    uwsgi_temp_path {folder}/tmp-uwsgi;
    scgi_temp_path {folder}/tmp-scgi;
    client_max_body_size 0;
    keepalive_timeout 1s;
    upstream faults {{ server 127.0.0.1:{behind}; keepalive 8; }}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{
            proxy_pass http://faults;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_request_buffering off;
            proxy_next_upstream off;
        }}
    }}
}}
"""


@pytest.fixture
def processes():
    """What is started here ends with the test."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.terminate()  # nginx takes its workers with it, which a kill would leave behind
    for process in started:
        process.wait(10)


def start(processes, *command, **options):
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL} | options
    processes.append(subprocess.Popen([str(part) for part in command], cwd=ROOT, text=True, **options))
    return processes[-1]


def wait_for_file(path):
    deadline = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} was not written"
        time.sleep(0.01)
    return path.read_text()


def start_in_front(processes, folder, name, config, behind, *flags):
    """Start a real server that passes everything on to the fault server; return its origin."""
    binary = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    assert binary, f"{name} is needed for this: apt-get install {name}"
    (port,) = free_ports(1)
    path = folder / f"{name}.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    path.write_text(config.format(port=port, behind=behind, folder=folder, user=user))
    start(processes, binary, *flags, path)
    deadline = time.monotonic() + 10
    while not listens(port):
        assert time.monotonic() < deadline, f"{name} does not listen"
        time.sleep(0.01)
    return f"http://127.0.0.1:{port}"


def listens(port):
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.timeout(SECONDS + 120)
def test_nothing_wrong_and_nothing_lost(processes, tmp_path):
    start(processes, sys.executable, "-m", "tests.soak.fault_server", tmp_path / "port")
    port = int(wait_for_file(tmp_path / "port"))
    faults = f"http://127.0.0.1:{port}"
    haproxy = start_in_front(processes, tmp_path, "haproxy", HAPROXY, port, "-db", "-q", "-f")
    nginx = start_in_front(processes, tmp_path, "nginx", NGINX, port, "-e", tmp_path / "error.log", "-c")
    origins = [faults, faults, haproxy, nginx]
    workers = [
        start(
            processes,
            *(sys.executable, "-m", "tests.soak.worker", colour, SECONDS, seed, *origins),
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONWARNINGS": "error::ResourceWarning"} | TIDY_MALLOC,
        )
        for seed, colour in enumerate(("threads", "asyncio", "trio"), start=1)
    ]
    results = [json.loads(worker.communicate(timeout=SECONDS + 60)[0]) for worker in workers]
    for result in results:
        print(json.dumps(result))
        assert result["wrong"] == []
        assert set(result["left"].values()) == {0}, result["left"]
        assert result["open_after_close"] == 0
        assert (result["leaks"], result["rebuilds"]) == (0, 0)
        assert result["outcomes"]["answered"] > result["requests"] * 0.3
        assert result["grew"] < MOST_GROWTH, f"{result['colour']} grew by {result['grew']} bytes"
