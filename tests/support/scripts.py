"""Programs of a test, each in a process of its own: for forks, warnings, exits and what may deadlock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parents[2]


def run_script(
    path: Path,
    source: str,
    *args: object,
    flags: tuple[str, ...] = (),
    env: Mapping[str, str] | None = None,
    timeout: float = 40.0,
) -> subprocess.CompletedProcess[str]:
    """Write `source` to `path` and run it; return what it printed.

    Fails with everything that it said if it does not exit with 0, or does not end in time: then with
    the stacks of all its threads.
    """
    path.write_text(textwrap.dedent(source), encoding="utf-8")
    command = [sys.executable, "-X", "faulthandler", *flags, str(path), *map(str, args)]
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "POOLTRANSPORT", "COVERAGE"))}
    # The sources beside these tests, whatever is installed.
    environ.update({"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", **(env or {})})
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # faulthandler shows the stacks
            try:
                out, err = process.communicate(timeout=5)
            except subprocess.TimeoutExpired:  # a child of its holds the pipes open
                os.killpg(process.pid, signal.SIGKILL)
                out, err = process.communicate()
            raise AssertionError(f"the script did not end within {timeout} s\n{out}\n{err}") from None
    if process.returncode:
        raise AssertionError(f"the script ended with {process.returncode}\n{out}\n{err}")
    return subprocess.CompletedProcess(command, process.returncode, out, err)
