"""What the tests of the command line share."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

import pooltransport
from pooltransport.cli import main

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable

SOURCE = str(Path(pooltransport.__file__).parent.parent)
COMMAND = [sys.executable, "-X", "dev", "-W", "error", "-m", "pooltransport"]


class Done(NamedTuple):
    """How a command ended, and what it wrote."""

    status: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """What it wrote to standard output, as text."""
        return self.out.decode()


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes]) -> Callable[..., Done]:
    """Run a command in this process: ``run("get", url)``."""

    def call(*arguments: str) -> Done:
        capfdbinary.readouterr()
        try:
            status = main(arguments)
        except SystemExit as end:
            status = end.code
        sys.stdout.flush()
        out, err = capfdbinary.readouterr()
        assert b"Traceback" not in err
        return Done(status, out, err.decode())

    return call


def start(*arguments: str, **options) -> subprocess.Popen[bytes]:
    """Start the command line as a process of its own."""
    environment = {**os.environ, "PYTHONPATH": SOURCE, **options.pop("env", {})}
    return subprocess.Popen([*COMMAND, *arguments], env=environment, **options)


@pytest.fixture
def no_names(monkeypatch):
    """Let no name resolve: no test asks a real name server."""

    def look_up(*args: object, **options: object):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


@pytest.fixture
def ca_file(tls_ca, tmp_path) -> str:
    """Give the file of the authority that the tests' servers are certified by."""
    path = tmp_path / "ca.pem"
    tls_ca.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def certified(tls_ca):
    """Make what a server wants as ``tls=``, for names and moments of the test's choice."""

    def make(*names: str, until: dt.datetime | None = None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls_ca.issue_cert(*names, not_after=until).configure_cert(context)
        return context

    return make
