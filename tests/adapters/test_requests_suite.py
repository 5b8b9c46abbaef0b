"""requests' own tests, unchanged, with our adapter in the place of its own (`make test-sdks`).

They come with the source distribution of the version that is installed, and are fetched for this; they bring their own
server, pytest-httpbin. What is left out, and why, is in `LEFT_OUT`.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import pooltransport

pytestmark = [pytest.mark.sdks, pytest.mark.timeout(480)]

FILES = ["tests/test_requests.py", "tests/test_lowlevel.py"]
LEAST = 330  # as many must pass: a run that collects nothing passes nothing
_POOLS = "looks at the pools of urllib3 in requests' own adapter, which are not here"
_NETWORK = "dials an address of another network, which must not answer"
LEFT_OUT = {
    "test_session_close_proxy_clear": _POOLS,
    "test_different_connection_pool_for_tls_settings_verify_True": _POOLS,
    "test_different_connection_pool_for_tls_settings_verify_bundle_expired_cert": _POOLS,
    "test_different_connection_pool_for_tls_settings_verify_bundle_unexpired_cert": _POOLS,
    "test_stream_timeout": "asks for urllib3's words, 'Read timed out'; ours name the clock and its seconds",
    "test_connect_timeout": _NETWORK,
    "test_total_timeout_connect": _NETWORK,
    "test_chunked_encoding_error": "takes a header that is cut off for an answer; here that is a ConnectionError",
    "test_conflicting_content_lengths": "wants InvalidHeader; here an answer that is not HTTP is a ConnectionError",
}
# pytest loads it before requests makes its first session.
SWAP = """
import requests.sessions
from pooltransport.adapters.requests import HTTPAdapter

requests.sessions.HTTPAdapter = HTTPAdapter
"""


def fetched(place: Path) -> Path:
    """Fetch and unpack the source of the version of requests that is installed."""
    wanted = f"requests=={importlib.metadata.version('requests')}"
    fetch = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-binary",
        ":all:",
        "--no-deps",
        "-d",
        str(place),
        wanted,
    ]
    done = subprocess.run(fetch, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, f"the source of {wanted} could not be fetched:\n{done.stderr}"
    (archive,) = place.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(place, filter="data")
    return next(path for path in place.iterdir() if path.is_dir())


def test_requests_own_tests(tmp_path):
    place = fetched(tmp_path)
    (tmp_path / "swap_adapter.py").write_text(SWAP)
    sources = str(Path(pooltransport.__file__).parent.parent)
    names = " or ".join(LEFT_OUT)
    command = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "-p", "swap_adapter", "-p", "no:cacheprovider"]
    command += ["-p", "no:randomly", "-W", "ignore", "--timeout", "60", "-k", f"not ({names})", *FILES]
    done = subprocess.run(
        command,
        cwd=place,
        capture_output=True,
        text=True,
        timeout=420,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), sources)), "PYTEST_ADDOPTS": ""},
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= LEAST, done.stdout[-500:]


def test_everything_left_out_is_there(tmp_path):
    texts = "".join((fetched(tmp_path) / name).read_text() for name in FILES)
    assert [name for name in LEFT_OUT if f"def {name}(" not in texts] == []
