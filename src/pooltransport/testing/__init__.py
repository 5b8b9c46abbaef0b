"""Helpers for tests: a function instead of a network (`HandlerTransport`), a network that fails as told
(`FaultTransport`), none at all (`no_network`); `no_leaks` and the pytest plugin (docs/testing.md); and fakes of
what the network, the clock and the scheduler do (see `fakes`). Importing this module loads nothing: pytest does so at
its start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .faults import AsyncFaultTransport as AsyncFaultTransport
    from .faults import FaultStep as FaultStep
    from .faults import FaultTransport as FaultTransport
    from .faults import drop_after as drop_after
    from .faults import ok as ok
    from .faults import slow as slow
    from .faults import stall as stall
    from .faults import status as status
    from .handlers import AsyncHandlerTransport as AsyncHandlerTransport
    from .handlers import HandlerTransport as HandlerTransport
    from .leak_check import PoolLeakError as PoolLeakError
    from .leak_check import no_leaks as no_leaks
    from .offline import NetworkBlocked as NetworkBlocked
    from .offline import no_network as no_network
    from .replies import ReceivedRequest as ReceivedRequest
    from .replies import Reply as Reply
    from .replies import response as response

_HOMES = {
    "faults": ("AsyncFaultTransport", "FaultStep", "FaultTransport", "drop_after", "ok", "slow", "stall", "status"),
    "handlers": ("AsyncHandlerTransport", "HandlerTransport"),
    "leak_check": ("PoolLeakError", "no_leaks"),
    "offline": ("NetworkBlocked", "no_network"),
    "replies": ("ReceivedRequest", "Reply", "response"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "AsyncFaultTransport",
    "AsyncHandlerTransport",
    "FaultStep",
    "FaultTransport",
    "HandlerTransport",
    "NetworkBlocked",
    "PoolLeakError",
    "ReceivedRequest",
    "Reply",
    "drop_after",
    "no_leaks",
    "no_network",
    "ok",
    "response",
    "slow",
    "stall",
    "status",
]


if not TYPE_CHECKING:  # a type checker that saw it would let every misspelled name pass

    def __getattr__(name: str) -> object:
        module = _HOME.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module  # noqa: PLC0415 - most load the engine

        return getattr(import_module(f".{module}", __name__), name)


def __dir__() -> list[str]:
    return list(__all__)
