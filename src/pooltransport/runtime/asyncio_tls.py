"""TLS on an event loop: the loop does it, and tells less about it than we need to know."""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import TYPE_CHECKING, Any

from .protocols import Expired
from .tls import accepts_cut_off, note_shown

if TYPE_CHECKING:
    import socket
    from collections.abc import Coroutine

_monotonic = time.monotonic


class LoopTLS:
    """A context as the loop uses it, which remembers the TLS object that the loop made of it: the loop
    keeps that to itself, and drops it when the handshake fails.
    """

    __slots__ = ("_context", "made")

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self.made: ssl.SSLObject | None = None

    def wrap_bio(self, *args: Any, **named: Any) -> ssl.SSLObject:
        """Do what `ssl.SSLContext.wrap_bio` does."""
        self.made = self._context.wrap_bio(*args, **named)
        return self.made

    def is_cut_off(self) -> bool:
        """Report whether the end that the loop tells of came without close_notify: the loop makes no
        difference. After close_notify a read returns nothing; before it, TLS wants more of the wire.
        """
        if self.made is None or accepts_cut_off(self._context):
            return False
        try:
            self.made.read(1)
        except ssl.SSLZeroReturnError:
            return False
        except ssl.SSLError:
            return True
        return False


async def handshake(
    loop: asyncio.AbstractEventLoop,
    protocol: asyncio.BaseProtocol,
    sock: socket.socket,
    context: ssl.SSLContext,
    server_hostname: str,
    at: float | None,
) -> LoopTLS:
    """Give `sock` to the loop, with TLS on it, until `at`."""
    # The loop's own clock starts later and would say less; ours fires first.
    bound = None if at is None else max(at - _monotonic(), 0.0) + 5.0
    tls = LoopTLS(context)
    opening = loop.create_connection(  # type: ignore[call-overload]
        lambda: protocol,
        sock=sock,
        ssl=tls,
        server_hostname=server_hostname,
        ssl_handshake_timeout=bound or 3600.0,
    )
    try:
        await until(at, opening)
    except ssl.SSLError as error:
        note_shown(error, tls.made)
        raise
    return tls


async def until(at: float | None, work: Coroutine[Any, Any, Any]) -> None:
    """Do `work`. Raises `Expired` at `at`."""
    if at is None:
        await work
        return
    scope = asyncio.timeout(max(at - _monotonic(), 0.0))
    try:
        async with scope:
            await work
    except TimeoutError:
        if scope.expired():
            raise Expired from None
        raise
