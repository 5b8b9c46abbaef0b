"""Which addresses to try first: families in turn, and those that failed lately last.

A pure machine, as the pool is: `now` is an argument. It is asked by many dials at once without a
lock: each step is one operation on a dictionary, and two failures at the same moment may count as
one, which is what they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

FIRST_PENALTY = 10.0
LONGEST_PENALTY = 60.0
_MOST = 1024


class _HasFamily(Protocol):
    @property
    def family(self) -> int: ...

    @property
    def text(self) -> str: ...


A = TypeVar("A", bound=_HasFamily)


class _Failure(NamedTuple):
    until: float
    penalty: float


class AddressMemory:
    """Remembers the addresses that refused, did not answer or could not be reached, for a while; also
    those that had not answered when another had, in spite of their head start.

    The first failure counts for ten seconds, each one after that time for twice as long, a minute at
    most. A success wipes it out. At most `most` addresses are remembered, the latest failures.
    """

    __slots__ = ("_failures", "_most")

    def __init__(self, most: int = _MOST) -> None:
        self._failures: dict[str, _Failure] = {}
        self._most = most

    def failed(self, text: str, now: float) -> bool:
        """Note a failure; report whether the address was in good standing before."""
        last = self._failures.pop(text, None)
        if last is None:
            penalty, was_good = FIRST_PENALTY, True
        elif now < last.until:
            # Of many dials at once: one failure of the server, however many saw it.
            penalty, was_good = last.penalty, False
        else:
            penalty, was_good = min(last.penalty * 2, LONGEST_PENALTY), True
        self._failures[text] = _Failure(now + penalty, penalty)
        if len(self._failures) > self._most:
            for oldest in tuple(self._failures)[: -self._most]:
                self._failures.pop(oldest, None)
        return was_good

    def succeeded(self, text: str) -> None:
        """Forget that it ever failed."""
        if self._failures:
            self._failures.pop(text, None)

    def is_good(self, text: str, now: float) -> bool:
        """Report whether nothing speaks against trying it first."""
        last = self._failures.get(text)
        return last is None or last.until <= now

    def order(self, addresses: Sequence[A], now: float) -> list[A]:
        """Return `addresses` in the order of trying: families in turn, failed ones last."""
        ordered = interleave(addresses)
        if self._failures:
            ordered.sort(key=lambda address: not self.is_good(address.text, now))
        return ordered

    def __len__(self) -> int:
        return len(self._failures)


def interleave(addresses: Sequence[A]) -> list[A]:
    """Return `addresses` with the families in turn, beginning with the resolver's first (RFC 8305
    section 4): what is wrong with one family costs one attempt. Order within a family is kept.
    """
    families: dict[int, list[A]] = {}
    for address in addresses:
        families.setdefault(address.family, []).append(address)
    if len(families) < 2:
        return list(addresses)
    rows = list(families.values())
    longest = max(map(len, rows))
    return [row[index] for index in range(longest) for row in rows if index < len(row)]
