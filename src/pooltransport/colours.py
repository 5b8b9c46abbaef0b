"""Which runtime a caller runs on: threads, an asyncio loop, or trio. Each is loaded when it is first used."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from .errors import ConfigError

if TYPE_CHECKING:
    from .runtime.protocols import Runtime

_threads: dict[str, Runtime] = {}  # one for the process; it has no state


def thread_runtime() -> Runtime:
    """Return the runtime of all blocking transports of the process."""
    runtime = _threads.get("runtime")
    if runtime is None:
        from .runtime.threads import ThreadRuntime  # noqa: PLC0415 - loads ssl

        # Two threads may make it at once; one wins for both, or they would not share connections.
        runtime = _threads.setdefault("runtime", ThreadRuntime())
    return runtime


def current_loop() -> object | None:
    """Return the running asyncio loop, or the token of the running trio loop, or None."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None:
        loop = asyncio._get_running_loop()  # noqa: SLF001 - documented; None outside of a loop
        if loop is not None:
            return loop  # type: ignore[no-any-return]
    trio = sys.modules.get("trio")
    if trio is None:
        return None
    try:
        return trio.lowlevel.current_trio_token()  # type: ignore[no-any-return]
    except RuntimeError:  # not on trio; `in_trio_run` came with 0.28
        return None


def make_runtime(loop: object) -> Any:
    """Make the runtime of one event loop."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and isinstance(loop, asyncio.AbstractEventLoop):
        from .runtime.asyncio import AsyncioRuntime  # noqa: PLC0415 - each colour loads its own

        return AsyncioRuntime(loop)
    from .runtime.anyio import TrioRuntime  # noqa: PLC0415

    return TrioRuntime(loop)  # type: ignore[arg-type]


def refuse_gevent() -> None:
    """Raise `ConfigError` where gevent has patched the sockets."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("socket"):
        raise ConfigError(
            "gevent has patched the socket module: pooltransport's threads, locks and clocks are not made for "
            "that; use an unpatched process, or AsyncTransport with asyncio [PTC116]"
        )
