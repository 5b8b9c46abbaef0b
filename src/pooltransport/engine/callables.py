"""Callables of the user's that may block, raise, come too late or return nonsense: what they break is one dial."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pooltransport.errors import ConnectError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pooltransport.options import DialRequest
    from pooltransport.runtime.protocols import Runtime

    from .dial import DialJob


async def call_dial(function: Callable[[Any], Any], runtime: Runtime, wish: DialRequest, job: DialJob) -> Any:
    """Call the ``dial=`` callable; what comes too late is closed."""
    if is_coroutine_function(function):
        return _connected(await function(wish))

    # The loop's task may be gone when the callable comes back; one of both sees the other's mark.
    came: list[Any] = []
    gone = False

    def call() -> None:
        came.append(function(wish))
        if gone or job.is_aborted:
            close_late()

    def close_late() -> None:
        for made in came:
            if hasattr(made, "close"):
                made.close()

    try:
        await runtime.run_blocking(call, abandon=True)
    except BaseException:
        gone = True
        close_late()
        raise
    return _connected(came[0])


def _connected(made: Any) -> Any:
    """Return what a ``dial=`` callable made; a socket must be connected, or the first write would find out."""
    if hasattr(made, "getpeername"):
        try:
            made.getpeername()
        except OSError as error:
            made.close()
            raise ConnectError("the dial= callable returned a socket that is not connected") from error
    return made


def is_coroutine_function(function: Any) -> bool:
    """Report whether calling `function` gives a coroutine (``inspect`` is expensive to import)."""
    for candidate in (function, getattr(function, "__func__", None), getattr(function, "func", None)):
        code = getattr(candidate, "__code__", None)
        if code is not None:
            return bool(code.co_flags & 0x80)
    code = getattr(getattr(type(function), "__call__", None), "__code__", None)  # noqa: B004 - its code is looked at
    return code is not None and bool(code.co_flags & 0x80)
