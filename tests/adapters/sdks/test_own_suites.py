"""httpx's own tests, unchanged, with our transport in the place of its own. They come with its source distribution,
which is fetched here and never kept.

What is run: each file with tests that ask httpx's real server (the fixture `server`), and all of `tests/client`.
What is left out, and why:

| | why |
| --- | --- |
| marked `network` | httpx's mark: they need the internet |
| `test_proxies.py`: `test_transport_for_request`, `test_proxies_environ`, `test_socks_proxy` | they ask for httpcore's
  pool inside of the transport (`transport._pool._proxy_url`); nothing is sent. Which transport a client chooses is
  asked by others of that file, which run |
| `test_main.py::test_download` | click says that a helper of its is deprecated: fails with httpx's own as well |
| `test_timeouts.py::test_write_timeout[trio]` | on trio httpx leaves a generator to the collector: as well |
| `Client(http2=True)` | runs, on HTTP/1.1: the argument is dropped where ours is put in; the server speaks no other |

httpx2's source distribution has no tests (2.16.2, asserted here): its adapter is the same code, in tests/adapters.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import pooltransport

pytestmark = [pytest.mark.sdks, pytest.mark.timeout(400)]

FILES = ["test_api.py", "test_main.py", "test_timeouts.py", "test_exceptions.py", "test_auth.py", "client"]
FILES += ["models/test_responses.py"]
LEFT_OUT = [
    "client/test_proxies.py::test_transport_for_request",
    "client/test_proxies.py::test_proxies_environ",
    "client/test_proxies.py::test_socks_proxy",
    "test_main.py::test_download",
    "test_timeouts.py::test_write_timeout[trio]",
]
PLUGIN = """
import httpx, httpx._client, httpx._transports
import uvicorn.config
from pooltransport.adapters import httpx as ours

class HTTPTransport(ours.HTTPTransport):
    def __init__(self, *args, http2=False, **named):
        super().__init__(*args, **named)
        made.append(self)

class AsyncHTTPTransport(ours.AsyncHTTPTransport):
    def __init__(self, *args, http2=False, **named):
        super().__init__(*args, **named)
        made.append(self)

made = []
for module in (httpx, httpx._client, httpx._transports):
    module.HTTPTransport, module.AsyncHTTPTransport = HTTPTransport, AsyncHTTPTransport

# Their server, as they have it: with httptools installed it would write its field names in lower case.
uvicorn.config.HTTP_PROTOCOLS["auto"] = uvicorn.config.HTTP_PROTOCOLS["h11"]

def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(f"{len(made)} transports of ours")
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Fetch the source distribution of what is installed."""

    def fetch(name):
        folder = tmp_path_factory.mktemp(name)
        version = importlib.metadata.version(name)
        # With its own environment for the build: pip asks the project for its metadata, and that needs its builder.
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--no-binary", ":all:", "--no-deps", "--dest", str(folder), f"{name}=={version}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        (archive,) = folder.glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        return folder / f"{name}-{version}"

    return fetch


def test_httpx(sources):
    root = sources("httpx")
    shutil.rmtree(root / "httpx")  # what is installed is tested
    (root / "ours_for_theirs.py").write_text(PLUGIN)
    command = [sys.executable, "-m", "pytest", "-q", "-rfE", "-p", "no:randomly", "-p", "no:cacheprovider"]
    command += ["-p", "no:pooltransport", "-p", "ours_for_theirs", "-m", "not network", "--timeout", "60"]
    command += [f"--deselect=tests/{name}" for name in LEFT_OUT] + [f"tests/{name}" for name in FILES]
    path = os.pathsep.join(
        [str(Path(pooltransport.__file__).parent.parent), str(root), os.environ.get("PYTHONPATH", "")]
    )
    done = subprocess.run(
        command,
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        timeout=360,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    passed = int(re.search(r"(\d+) passed", done.stdout).group(1))
    assert passed > 350, done.stdout[-2000:]
    assert int(re.search(r"(\d+) transports of ours", done.stdout).group(1)) > 100


def test_httpx2_brings_none(sources):
    found = [path.name for path in sources("httpx2").rglob("*test*")]
    assert found == [], "they can be run from now on, as httpx's are"
