"""`python -m pooltransport`: `get URL` makes a request and prints its phases; `demo` shows the six causes;
`explain CODE` prints the page of a code, as PT-LEAK or PTC101.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from . import __version__
from .errors import Error
from .models import Request
from .trace import ClientTrace
from .transport import Transport

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0, 1 for a failed request, 2 for a wrong call."""
    parser = argparse.ArgumentParser(prog="python -m pooltransport", description="A pooled HTTP client for services.")
    parser.add_argument("--version", action="version", version=f"pooltransport {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    get = commands.add_parser("get", help="make a request and print its phases")
    get.add_argument("url")
    get.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS", help="for all of it (default: 30)")
    get.add_argument(
        "--body", action="store_true", help="write the body to standard output, the phases to standard error"
    )
    commands.add_parser("demo", help="six ways in which a pool runs dry, against a server on loopback")
    page = commands.add_parser("explain", help="print the page of a code that an error or a warning ended with")
    page.add_argument("code", nargs="?", help="as PT-LEAK or PTC101; without one, all codes are listed")
    chosen = parser.parse_args(arguments)
    if chosen.command == "explain":
        return _explain(chosen.code)
    if chosen.command == "demo":
        from .demo import run  # noqa: PLC0415 - it brings a server

        return run()
    return _get(chosen.url, chosen.timeout, body=chosen.body)


def _explain(code: str | None) -> int:
    from .explain import explain, titles  # noqa: PLC0415 - only who asks reads the pages

    if code is None:
        for name, title in titles().items():
            print(f"{name:<20}{title}")
        return 0
    try:
        print(explain(code), end="")
    except LookupError as error:
        print(error.args[0], file=sys.stderr)
        return 2
    return 0


def _get(url: str, timeout: float, *, body: bool) -> int:
    from .core.http1 import h11_codec  # noqa: F401, PLC0415 - loaded now, not inside a phase

    out = sys.stderr if body else sys.stdout
    phases = _Phases()
    try:
        with Transport(trace=phases.trace(), leak_detection="off") as transport:
            with transport.round_trip(Request("GET", url, timeout=timeout)) as response:
                phases.mark("headers")
                content = response.read()
                phases.mark("body")
            kept = transport.stats().idle == 1
    except Error as error:
        phases.write(out)
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    phases.write(out)
    tls = response.conn.tls
    print(f"{response.http_version} {response.status_code} {response.reason}, {len(content)} bytes", file=out)
    print(f"connection {response.conn.local_addr} -> {response.conn.remote_addr}", file=out)
    if tls is not None:
        print(f"{tls.version}, {tls.cipher}, name {tls.server_hostname}", file=out)
    print(f"the connection went back to the pool: {'yes' if kept else f'no, {phases.refusal}'}", file=out)
    if body:
        sys.stdout.buffer.write(content)
    return 0


class _Phases:
    """Listens to the hooks, and says how long each phase took."""

    def __init__(self) -> None:
        self._began = self._last = time.monotonic()
        self._rows: list[tuple[str, float, str]] = []
        self.refusal = "the answer said close"

    def mark(self, phase: str, note: str = "") -> None:
        """End a phase now."""
        now = time.monotonic()
        self._rows.append((phase, now - self._last, note))
        self._last = now

    def trace(self) -> ClientTrace:
        """Return hooks that mark the phases."""

        def ended(phase: str, note: Any) -> Any:
            return lambda info: self.mark(phase, f"failed: {info.error}" if info.error is not None else note(info))

        return ClientTrace(
            dns_done=ended("look-up", lambda info: ", ".join(info.addresses)),
            connect_done=ended("connect", lambda info: info.address),
            tls_handshake_done=ended("TLS", lambda info: info.tls.version),
            wrote_request=lambda _: self.mark("sending"),
            got_first_response_byte=lambda _: self.mark("first byte"),
            put_idle_conn=self._put_idle,
        )

    def _put_idle(self, error: BaseException | None) -> None:
        if error is not None:
            self.refusal = str(error)

    def write(self, out: Any) -> None:
        """Write a line for each phase."""
        for phase, seconds, note in self._rows:
            print(f"{phase:<11}{seconds * 1000:9.2f} ms  {note}".rstrip(), file=out)
        print(f"{'total':<11}{(self._last - self._began) * 1000:9.2f} ms", file=out)


if __name__ == "__main__":
    sys.exit(main())
