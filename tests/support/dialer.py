"""A ``dial=`` callable whose every call waits for the test's word, as Go's own tests of the dial race do."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from .colours import Colour

TIMEOUT = 10.0


class Call:
    """One call: what it was asked for, and how it is to end."""

    def __init__(self, request: Any) -> None:
        self.request = request
        self.thread = threading.get_ident()
        self._go = threading.Event()
        self._error: BaseException | None = None
        self.ended = False

    def finish(self) -> None:
        """Let it connect."""
        self._go.set()

    def fail(self, error: BaseException) -> None:
        """Let it raise `error`."""
        self._error = error
        self._go.set()

    def run(self, port: int) -> socket.socket:
        """Wait, then do it."""
        try:
            self._go.wait(TIMEOUT)
            if self._error is not None:
                raise self._error
            return socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
        finally:
            self.ended = True


class Dialer:
    """Dials to a port of loopback, whatever it is asked for. Use it as a context manager: at the end
    nothing waits any more.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.calls: list[Call] = []
        self.at_once = False  # from now on without waiting

    def __call__(self, request: Any) -> socket.socket:
        call = Call(request)
        if self.at_once:
            call.finish()
        self.calls.append(call)
        return call.run(self.port)

    async def wait_for(self, c: Colour, count: int) -> Call:
        """Wait until there were `count` calls; return the last of them."""
        await c.wait_until(lambda: len(self.calls) >= count)
        return self.calls[count - 1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for call in self.calls:
            call.finish()
