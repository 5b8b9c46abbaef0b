"""gevent is refused, and says so, instead of working by accident (contract 3.10)."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
from gevent import monkey
{patch}
import pooltransport as pt
try:
    pt.Transport().close()
except pt.ConfigError as error:
    print("refused:", error)
else:
    print("accepted")
"""


def run(patch: str) -> str:
    script = SCRIPT.format(patch=patch)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_patched_socket_module_is_refused():
    assert run("monkey.patch_all()").startswith("refused: gevent has patched the socket module")


def test_gevent_alone_is_no_reason():
    assert run("") == "accepted\n"
