"""Daemon threads of ours: workers for dials, and one housekeeper (contract 3.10).

They are made with `_thread` and woken by raw locks, because a finalizer may hand them work:
`threading.Thread.start` waits on an Event, which can deadlock there (contract 3.1). Nothing here
keeps a process alive, and a child process starts with none of them.
"""

from __future__ import annotations

import _thread
import os
import time
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from .protocols import Latch

    Tick = Callable[[], float | None]

IDLE_SECONDS = 10.0


class _Worker:
    __slots__ = ("job", "wake")

    def __init__(self, job: Callable[[], None]) -> None:
        self.job: Callable[[], None] | None = job
        self.wake = _thread.allocate_lock()
        self.wake.acquire()

    def run(self) -> None:
        while True:
            job, self.job = self.job, None
            if job is None:
                return  # dismissed
            job()
            del job
            _state.idle.append(self)
            if not (_state.ticks and self.wake.acquire(timeout=IDLE_SECONDS)):
                try:
                    _state.idle.remove(self)
                except ValueError:
                    # Somebody popped this worker a moment ago: the job, or the dismissal, is on its way.
                    self.wake.acquire()
                else:
                    return


class _State:
    """What belongs to this process; made anew in a child."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.idle: list[_Worker] = []
        self.ticks: list[list[Any]] = []  # [due, tick]
        self.keeping = _thread.allocate_lock()
        self.nudge = _thread.allocate_lock()
        self.nudge.acquire()


_state = _State()


def _check_process() -> _State:
    global _state  # noqa: PLW0603 - the one place that notices a fork without hooks (uWSGI)
    if _state.pid != os.getpid():
        _state = _State()
    return _state


os.register_at_fork(after_in_child=_check_process)


def submit(job: Callable[[], None]) -> None:
    """Run `job`, which must not raise, on a worker. Raises `RuntimeError` when no thread can start."""
    state = _check_process()
    try:
        worker = state.idle.pop()
    except IndexError:
        _thread.start_new_thread(_Worker(job).run, ())
    else:
        worker.job = job
        worker.wake.release()


async def call(latch: Latch, fn: Callable[[], Any]) -> Any:
    """Run `fn` on a worker, with the caller's context variables, and return or raise what came of it.
    Who is cancelled meanwhile leaves it behind: it keeps no loop, executor or process alive.
    """
    outcome: list[tuple[Any, BaseException | None]] = []

    def job() -> None:
        try:
            outcome.append((fn(), None))
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            outcome.append((None, error))
        latch.set()

    submit(partial(copy_context().run, job))
    await latch.wait(None)
    result, error = outcome[0]
    if error is not None:
        raise error
    return result


def watch(tick: Tick) -> None:
    """Call what `tick` gives at once and then whenever it asks for; see `Runtime.watch`."""
    state = _check_process()
    state.ticks.append([0.0, tick])
    if state.keeping.acquire(blocking=False):
        try:
            _thread.start_new_thread(_keep_house, (state,))
        except RuntimeError:
            # No thread to be had: idle connections are still checked and expired at check-out.
            state.keeping.release()
            return
    _nudge(state)


def look_now() -> None:
    """Let the housekeeper look at once: something was closed, and it may have been the last."""
    state = _check_process()
    for row in tuple(state.ticks):
        row[0] = 0.0
    _nudge(state)


def _nudge(state: _State) -> None:
    try:
        state.nudge.release()
    except RuntimeError:
        return  # it has been nudged already


def _dismiss_workers(state: _State) -> None:
    """Nothing is watched, so nobody has a connection: no thread of ours is to be left (contract 3.10)."""
    while True:
        try:
            worker = state.idle.pop()
        except IndexError:
            return
        worker.wake.release()


def _keep_house(state: _State) -> None:
    try:
        while True:
            now = time.monotonic()
            for row in tuple(state.ticks):
                if row[0] <= now:
                    delay = row[1]()
                    if delay is None:
                        state.ticks.remove(row)
                    else:
                        row[0] = time.monotonic() + delay
            del row
            if not state.ticks:
                _dismiss_workers(state)
                break
            pause = min(row[0] for row in tuple(state.ticks)) - time.monotonic()
            state.nudge.acquire(timeout=max(pause, 0.001))
    finally:
        state.keeping.release()
    if state.ticks and state.keeping.acquire(blocking=False):
        _keep_house(state)  # a new tick came between the last look and the release
