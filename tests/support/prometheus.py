"""A real Prometheus on a loopback port that the system gives, which looks every second."""

from __future__ import annotations

import http.client
import json
import subprocess
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

from .nginx import free_ports
from .promtool import binary

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Self

CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
"""
JOB = "- {{job_name: {name}, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}\n"


class Prometheus:
    """The server; `jobs` are ports of metrics by name."""

    def __init__(self, directory: Path, rules: str, jobs: Mapping[str, int]) -> None:
        directory.mkdir(exist_ok=True)
        self._directory = directory
        (directory / "rules.yml").write_text(rules)
        config = CONFIG.format(rules=directory / "rules.yml")
        config += "".join(JOB.format(name=name, port=port) for name, port in jobs.items())
        (directory / "prometheus.yml").write_text(config)
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        """Start it. A port may be taken between our asking and its listening; then with another."""
        for _ in range(5):
            (self.port,) = free_ports(1)
            with open(self._directory / "log", "wb") as log:
                process = subprocess.Popen(
                    [
                        binary("prometheus"),
                        f"--config.file={self._directory / 'prometheus.yml'}",
                        f"--storage.tsdb.path={self._directory / 'data'}",
                        f"--web.listen-address=127.0.0.1:{self.port}",
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            if self._wait_until_ready(process):
                return process
            process.kill()
            process.wait()
            if "address already in use" not in self.log():
                break
        raise RuntimeError(f"prometheus does not start:\n{self.log()}")

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> bool:
        deadline = time.monotonic() + 20.0
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if self._get("/-/ready")[0] == 200:
                    return True
            except OSError:
                pass  # not yet
            time.sleep(0.05)
        return False

    def _get(self, path: str) -> tuple[int, bytes]:
        conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            conn.request("GET", path)
            response = conn.getresponse()
            return response.status, response.read()
        finally:
            conn.close()

    def log(self) -> str:
        """Return what it has said."""
        return (self._directory / "log").read_text()

    def alerts(self) -> list[dict]:
        """Return the alerts that are pending or firing, as its interface has them."""
        return json.loads(self._get("/api/v1/alerts")[1])["data"]["alerts"]

    def query(self, expr: str) -> list[dict]:
        """Return the series of an expression, now."""
        return json.loads(self._get(f"/api/v1/query?query={quote(expr)}")[1])["data"]["result"]

    def stop(self) -> None:
        """Stop it."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
