"""The examples that run under a framework of their own: Flask under gunicorn's prefork, Django, a Celery worker."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import pooltransport as pt
from tests.support.responders import ok

EXAMPLES = Path(__file__).parent.parent / "examples"
ANSWER = ok(b'{"answer": 42}', ("Content-Type", "application/json"))


def environment(server, **more):
    """Return the environment of a service that asks `server`."""
    source = str(Path(pt.__file__).parent.parent)
    path = [str(EXAMPLES), source, os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "API": server.url, "PYTHONPATH": os.pathsep.join(filter(None, path)), **more}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("preload", [True, False], ids=["preload", "plain"])
def test_flask_under_prefork(server_factory, tmp_path, preload):
    server = server_factory(ANSWER)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "gunicorn", "--workers", "2", "--threads", "4", "--log-level", "warning"]
    command += [*(["--preload"] if preload else []), "--bind", f"127.0.0.1:{port}", "flask_app:app"]
    env = environment(server, PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        with pt.Transport(disable_keep_alives=True) as transport:  # a new connection each time: of any worker
            client = pt.Client(transport, timeout=30.0)
            url = f"http://127.0.0.1:{port}/"
            wait_until_up(client, url, process)
            for _ in range(40):
                assert client.get(url).json() == {"answer": 42}
            shown = client.get(url + "metrics").text
    finally:
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 0, said
    assert "Traceback" not in said, said
    assert server.requests == 41
    assert server.peak <= 2 * 4  # one pool in each worker, however often its threads ask
    assert "pooltransport_connection_acquired_total" in shown


def wait_until_up(client, url, process):
    """Wait until gunicorn listens."""
    deadline = time.monotonic() + 30
    while True:
        try:
            assert client.get(url).status_code == 200
        except pt.ConnectError:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline, "gunicorn did not come up"
            time.sleep(0.05)
        else:
            return


DJANGO = """
import django_app, json
from django.test import Client
browser = Client()
for _ in range(3):
    assert browser.get("/").json() == {"answer": 42}
print(json.dumps(browser.get("/health").json()))
django_app.transport.close()
"""

CELERY = """
import celery_worker, threading
from celery.contrib.testing.worker import start_worker
with start_worker(celery_worker.app, pool="threads", concurrency=4, perform_ping_check=False, loglevel="ERROR"):
    results = [celery_worker.fetch.delay("data") for _ in range(20)]
    assert [result.get(timeout=20) for result in results] == [{"answer": 42}] * 20
    stats = celery_worker.transport.stats()
    assert stats.leases == 0 and 1 <= stats.dials <= 8, stats
    # Charging: what certainly did not happen is tried again, what may have happened is not.
    from pooltransport import testing
    import pooltransport as pt
    for error, tries in ((pt.ConnectError, 2), (pt.ReadTimeout, 1)):
        faults = testing.FaultTransport([error, testing.response(json={"done": True})])
        celery_worker.client = pt.Client(faults, base_url=celery_worker.API)
        result = celery_worker.charge.delay(7)
        try:
            assert result.get(timeout=20) == {"done": True} and tries == 2
        except pt.ReadTimeout:
            assert tries == 1
        assert faults.taken == tries, (error, faults.taken)
celery_worker.close()
print("ok")
"""


@pytest.mark.sdks
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("code", "said"), [(DJANGO, '{"active": 0, "idle": 1, "waiting": 0, "leaks": 0}'), (CELERY, "ok")]
)
def test_a_framework(code, said, server_factory):
    server = server_factory(ANSWER)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False, env=environment(server)
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == said
