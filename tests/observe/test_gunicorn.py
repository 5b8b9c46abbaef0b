"""gunicorn with several workers: one scrape is the sum over all, whoever is asked, killed or replaced."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import pooltransport as pt
from tests.support.responders import ok

HERE = Path(__file__).parent
WORKERS = 3
PATIENCE = 20.0
ACQUIRED = "pooltransport_connection_acquired_total"


class Service:
    def __init__(self, directory, target, *options):
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(64)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.directory = directory
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", "--workers", str(WORKERS), "--worker-class", "sync"),
                *("--bind", f"fd://{self.listener.fileno()}", "--graceful-timeout", "5", "--no-control-socket"),
                *("--log-level", "warning", "--pythonpath", str(HERE), *options, "gunicorn_app:app"),
            ],
            env={
                **os.environ,
                "PROMETHEUS_MULTIPROC_DIR": str(directory),
                "TARGET": target,
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            pass_fds=[self.listener.fileno()],
        )
        self.client = pt.Client(transport=pt.Transport(disable_keep_alives=True), timeout=10.0)
        self.made = 0
        self.shown = {}

    def call(self):
        """Let a worker make a request; return who it was."""
        pid = int(self.client.get(self.url).text)
        self.made += 1
        return pid

    def workers(self, but=()):
        """Call until as many workers have answered as there are, without those of `but`; return who."""
        seen, deadline = set(), time.monotonic() + PATIENCE
        while len(seen - set(but)) < WORKERS:
            assert time.monotonic() < deadline, f"only {seen} answered"
            with ThreadPoolExecutor(6) as pool:
                seen |= {int(text) for text in pool.map(lambda _: self.client.get(self.url).text, range(6))}
            self.made += 6
        return seen - set(but)

    def scrape(self):
        """Return the series; none may have gone down since the last scrape, whoever answered that."""
        response = self.client.get(f"{self.url}/metrics")
        found = {}
        for family in text_string_to_metric_families(response.text):
            for sample in family.samples:
                found[sample.name, frozenset(sample.labels.items())] = sample.value
        fallen = {
            key: (value, found.get(key))
            for key, value in self.shown.items()
            if key[0].endswith(("_total", "_count", "_bucket", "_sum")) and found.get(key, -1) < value
        }
        assert fallen == {}
        self.shown = found
        return int(response.headers["X-Pid"])

    def total(self, name, *labels):
        return sum(value for (series, found), value in self.shown.items() if series == name and set(labels) <= found)

    def idle(self):
        return self.total("http_client_open_connections", ("http_connection_state", "idle"))

    def scrape_until(self, condition, what):
        deadline = time.monotonic() + PATIENCE
        while True:
            self.scrape()
            if condition():
                return
            assert time.monotonic() < deadline, (
                f"{what} did not come: {self.total(ACQUIRED)} of {self.made}, {self.idle()}"
            )
            time.sleep(0.05)

    def files(self):
        return sorted(path.name for path in self.directory.iterdir() if path.suffix == ".json")

    def stop(self):
        self.process.terminate()
        assert self.process.wait(PATIENCE) == 0


@pytest.fixture(params=[("--preload",), ()], ids=["preload", "each loads"])
def service(request, tmp_path, server_factory):
    service = Service(tmp_path, server_factory(ok()).url, *request.param)
    try:
        yield service
        service.stop()
    finally:
        if service.process.poll() is None:
            service.process.kill()
            service.process.wait()
        service.client.transport.close()
        service.listener.close()


def test_one_scrape_is_the_sum_over_workers(service):
    workers = service.workers()
    service.scrape_until(lambda: service.total(ACQUIRED) == service.made, "the sum")
    assert service.idle() == WORKERS
    requests = "http_client_request_duration_seconds_count"
    assert service.total(requests, ("http_response_status_code", "200")) == service.made
    assert service.total("pooltransport_connection_limit", ("pooltransport_limit_scope", "per_host")) == 5 * WORKERS
    assert service.total("pooltransport_leaks_total") == 0

    # Whoever answers: none is lower than the one before, which `scrape` checks.
    asked = {service.scrape() for _ in range(20)}
    assert asked <= workers

    # Killed: its connections are no more, its counts are.
    killed = service.call()
    service.scrape_until(lambda: service.total(ACQUIRED) == service.made, "what was counted before the kill")
    os.kill(killed, signal.SIGKILL)
    service.scrape_until(lambda: service.idle() == WORKERS - 1, "the end of the dead worker's gauges")
    assert service.total(ACQUIRED) == service.made

    # One that exits in good order, right after it did something.
    left = service.call()
    if left == killed:  # a number that came back
        left = service.call()
    idle = service.idle()
    os.kill(left, signal.SIGTERM)
    service.scrape_until(
        lambda: service.total(ACQUIRED) == service.made and service.idle() < idle + 1, "its last words"
    )

    # Others take their place and are counted with the rest; files do not pile up.
    service.workers(but={killed, left})
    service.scrape_until(lambda: service.total(ACQUIRED) == service.made and service.idle() == WORKERS, "the new ones")
    assert len(service.files()) <= WORKERS + 1 + 1, service.files()  # and what is gone, and the one that loaded the app
