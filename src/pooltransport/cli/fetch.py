"""`get` and `head`: an answer, as it came."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any, BinaryIO

from pooltransport.client import Client
from pooltransport.transport import Transport

from . import endings
from .endings import printable

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pooltransport.response import Response
    from pooltransport.url import URL


def get(
    url: URL,
    *,
    headers: Any,
    timeout: float,
    options: dict[str, Any],
    follow: bool,
    fail: bool,
    include: bool,
    output: str | None,
) -> int:
    """Write the body of the answer to standard output, or to the file `output`; return the exit status.

    `follow`: go where redirects lead. `fail`: a status from 400 on is a failure without a body. `include`: status
    line and headers before the body. Raises `pooltransport.Error` for what fails, `OSError` for a file that
    cannot be written.
    """
    with (
        Transport(leak_detection="off", **options) as transport,
        Client(transport, timeout=timeout, follow_redirects=follow) as client,
        client.stream("GET", url, headers=headers) as response,
    ):
        if fail and response.status_code >= 400:
            print(_refusal(response), file=sys.stderr)
            return endings.STATUS
        with _opened(output) as out:
            if include:
                out.write(head_of(response).encode())
            for piece in response.iter_bytes():
                out.write(piece)
            out.flush()
    return endings.OK


def head(url: URL, *, headers: Any, timeout: float, options: dict[str, Any], follow: bool, fail: bool) -> int:
    """Print status line and headers of the answer to HEAD; return the exit status. Arguments and errors as of `get`."""
    with (
        Transport(leak_detection="off", **options) as transport,
        Client(transport, timeout=timeout, follow_redirects=follow) as client,
    ):
        response = client.head(url, headers=headers)
    sys.stdout.write(head_of(response))
    if fail and response.status_code >= 400:
        print(_refusal(response), file=sys.stderr)
        return endings.STATUS
    return endings.OK


def head_of(response: Response) -> str:
    """Return status line and headers as text, ended by an empty line; nothing in it that a terminal would obey."""
    lines = [f"{response.http_version} {response.status_code} {response.reason}".rstrip()]
    lines += [f"{name}: {value}" for name, value in response.headers.multi_items()]
    return "".join(f"{printable(line)}\n" for line in (*lines, ""))


def _refusal(response: Response) -> str:
    words = printable(f"{response.status_code} {response.reason}".rstrip())
    return f"the server answered {words} to {response.request.method} {response.url.redacted}"


def _opened(output: str | None) -> AbstractContextManager[BinaryIO]:
    if output is None or output == "-":
        return contextlib.nullcontext(sys.stdout.buffer)
    return open(output, "wb")
