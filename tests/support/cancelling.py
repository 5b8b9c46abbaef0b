"""Cancelling a coroutine where it waits: after the k-th time it suspends, or at a moment of the clock."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator


@types.coroutine
def watch(coroutine: Coroutine[Any, Any, Any], suspended: Callable[[int], object]) -> Generator[Any, Any, Any]:
    """Await `coroutine`; call ``suspended(k)`` as it suspends for the k-th time, from 1.

    That is before the loop knows what it waits for: a task that is cancelled by `suspended` gets the
    cancellation at exactly this point, on asyncio as on trio.
    """
    resume: Callable[[Any], Any] = coroutine.send
    value: Any = None
    count = 0
    try:
        while True:
            try:
                waits_for = resume(value)
            except StopIteration as stop:
                return stop.value
            count += 1
            suspended(count)
            try:
                value, resume = (yield waits_for), coroutine.send
            except GeneratorExit:
                raise
            except BaseException as exc:
                value, resume = exc, coroutine.throw
    finally:
        coroutine.close()
