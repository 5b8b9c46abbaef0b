"""The typed sample project's own checks pass. `make typed` holds it against mypy and pyright, with the wheel."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pooltransport

SAMPLE = Path(__file__).parent / "typed_sample"


def test_its_own_checks_pass():
    sources = Path(pooltransport.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-m", "ledger.checks"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd=SAMPLE,
        env={**os.environ, "PYTHONPATH": str(sources)},
    )
    assert (done.stdout, done.returncode) == ("ok\n", 0), done.stderr
