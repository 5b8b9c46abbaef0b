"""What keeps an eye on a transport that nobody uses: weakly, so that it can be collected."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING

from pooltransport import leaks
from pooltransport.stats import LeakFound

if TYPE_CHECKING:
    from .ledger import Ledger


_AFTER_A_FAILURE = 1.0
_PATIENCE = 1.0  # seconds that the end of the process waits for a report that another thread is telling


class Keeper:
    """Ticks for one ledger as long as that lives."""

    __slots__ = ("_epoch", "_ledger")

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = weakref.ref(ledger)
        self._epoch = ledger.epoch

    def __call__(self) -> float | None:
        ledger = self._ledger()
        leaks.pending.tell()
        if ledger is None or ledger.epoch != self._epoch:
            return None
        try:
            return ledger.tick()
        except Exception:  # the house of every other transport is kept by this thread or loop too
            import logging  # noqa: PLC0415 - a bug of ours pays for it

            logging.getLogger("pooltransport.pool").exception(
                "keeping house failed", extra={"pool_name": ledger.options.name}
            )
            return _AFTER_A_FAILURE


_ledgers: weakref.WeakSet[Ledger] = weakref.WeakSet()
_registered = False


def enrol(ledger: Ledger) -> None:
    """Tell `ledger` when the process has forked, and let it speak at the end of the process."""
    global _registered  # noqa: PLW0603 - once for the process: there is no way to take either back
    if not _registered:
        _registered = True
        import atexit  # noqa: PLC0415 - see above

        os.register_at_fork(after_in_child=after_fork)
        atexit.register(at_exit)
    _ledgers.add(ledger)


def after_fork() -> None:
    """Let every transport of a child process start anew."""
    for ledger in tuple(_ledgers):
        ledger.after_fork()


def at_exit() -> None:
    """Say which responses are still open, and all that is to be said, with patience for a thread that is saying it."""
    for ledger in tuple(_ledgers):
        ledger.check_process()
        ledger.report_open(LeakFound.EXIT)
        ledger.safe_point(_PATIENCE)
    leaks.pending.tell(_PATIENCE)
