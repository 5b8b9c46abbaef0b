"""The words for a failed dial."""

from __future__ import annotations

import errno
import socket

import pytest

from pooltransport.engine.reasons import dns_reason, reason


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused (errno 111)"),
        # asyncio's own words hide the system's
        (ConnectionRefusedError(111, "Connect call failed ('::1', 1)"), "Connection refused (errno 111)"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "No route to host (errno 113): unreachable from here"),
        (OSError("only words"), "only words"),
        (ValueError("made up"), "made up"),
        (ZeroDivisionError(), "ZeroDivisionError"),
    ],
)
def test_reason(error, said):
    assert reason(error) == said


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Not known"), f"unknown name: Not known (errno {socket.EAI_NONAME})"),
        (socket.gaierror(socket.EAI_AGAIN, "Again"), f"no name server answered: Again (errno {socket.EAI_AGAIN})"),
        (socket.gaierror(socket.EAI_FAIL, "Failed"), f"Failed (errno {socket.EAI_FAIL})"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files (errno 24): this process may open no more"),
        (KeyError("x"), "KeyError: 'x'"),
    ],
)
def test_dns_reason(error, said):
    assert dns_reason(error).startswith(said)
