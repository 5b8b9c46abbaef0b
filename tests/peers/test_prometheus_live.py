"""A real Prometheus watches a service that misbehaves in the six ways, and one that is well: minutes become seconds."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pooltransport.observe import alerts, grafana
from pooltransport.observe.alerts import Times
from tests.support.prometheus import Prometheus

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[2]
WITHIN = 75.0  # seconds; some 25 are needed

# What each habit must make fire: the alert, and the server that it is about (None: it is about the process).
EXPECTED = {
    ("PoolTransportResponseLeak", None),  # 1
    ("PoolTransportLeaseOverdue", "holds"),  # 1
    ("PoolTransportIdleLimitChurn", "two_idle"),  # 2
    ("PoolTransportLowReuse", "two_idle"),
    ("PoolTransportClientChurn", None),  # 3
    ("PoolTransportBodiesNotConsumed", "part"),  # 4
    ("PoolTransportSlowServer", "slow"),  # 5
    ("PoolTransportPortsExhausted", "ports"),  # 6
    ("PoolTransportDialFailures", "ports"),
    ("PoolTransportExhausted", "slow"),  # what users feel
    ("PoolTransportExhausted", "holds"),
    ("PoolTransportSaturated", "slow"),
}
# What would be wrong to say of them: one cause taken for another.
WRONG = {
    ("PoolTransportSlowServer", "holds"),
    ("PoolTransportLeaseOverdue", "slow"),
    ("PoolTransportIdleLimitChurn", "part"),
    ("PoolTransportBodiesNotConsumed", "two_idle"),
    ("PoolTransportServerTimeouts", "part"),
}


def queries():
    """Give title and query of every panel, as Grafana would send it."""
    for panel in grafana.dashboard()["panels"]:
        for target in panel.get("targets", ()):
            expr = target["expr"].replace("$__rate_interval", "10s")
            yield panel["title"], re.sub(r"\$(job|instance|server_address)\b", ".*", expr)


@contextlib.contextmanager
def service(kind: str, errors: Path):
    """Run one; give what it printed."""
    with (
        open(errors, "wb") as err,
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.misbehaving", kind],
            cwd=ROOT,
            env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PYTHONWARNINGS": "ignore"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=err,
        ) as process,
    ):
        try:
            line = process.stdout.readline()
            assert line, errors.read_text()
            yield json.loads(line)
        finally:
            process.stdin.close()  # it ends with it
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
    assert process.returncode == 0, errors.read_text()


def test_each_cause_fires_its_alert_and_health_none(tmp_path):
    rules = alerts.rules(Times(1 / 60, 1.0))
    with service("sick", tmp_path / "sick") as sick, service("healthy", tmp_path / "healthy") as healthy:
        jobs = {"sick": sick["metrics"], "healthy": healthy["metrics"]}
        names = {str(port): name for name, port in sick["servers"].items()}
        with Prometheus(tmp_path / "prometheus", rules, jobs) as prometheus:
            seen: set[tuple[str, str | None]] = set()
            deadline = time.monotonic() + WITHIN
            while not seen >= EXPECTED and time.monotonic() < deadline:
                time.sleep(0.5)
                for alert in prometheus.alerts():
                    labels = alert["labels"]
                    if alert["state"] != "firing":
                        continue
                    assert labels["job"] == "sick", alert
                    seen.add((labels["alertname"], names.get(labels.get("server_port"))))
            assert EXPECTED - seen == set(), prometheus.query("sum_over_time(up[60s])")
            assert seen & WRONG == set()
            assert len(prometheus.query("up == 1")) == 2
            # And every panel of the dashboard shows something.
            empty = [panel for panel, expr in queries() if not prometheus.query(expr)]
            assert empty == []
