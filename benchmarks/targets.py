"""What the figures have to be, as ratios of one run: "at least" and "aim"."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .groups import AIOHTTP, H11, HTTPX2, PYCURL, PYREQWEST, SOCKET, SPEED, URLLIB3, Peer

if TYPE_CHECKING:
    from collections.abc import Callable

    Find = Callable[[str, str, str, str], float | None]  # group, case, peer and key to the median


class Target(NamedTuple):
    """One line: `ours` against `peer` (None: the figure itself), both from `case` but for `other`."""

    group: str
    case: str
    key: str
    ours: Peer
    peer: Peer | None
    least: float | None
    aim: float | None
    most: bool = False  # the figure must be no more than this
    other: str = ""

    @property
    def text(self) -> str:
        """What is compared, in words."""
        return f"{self.group}: {self.case}, {self.ours.name}"

    def measured(self, find: Find) -> float | None:
        """Return the ratio, if both were measured."""
        ours = find(self.group, self.case, self.ours.name, self.key)
        if self.peer is None or ours is None:
            return ours
        theirs = find(self.group, self.other or self.case, self.peer.name, self.key)
        return ours / theirs if theirs else None

    def by_cpu(self, find: Find) -> str:
        """Return how many times less CPU ours took, where that was measured: steadier on a busy machine."""
        if self.peer is None:
            return "–"
        ours = find(self.group, self.case, self.ours.name, "cpu")
        theirs = find(self.group, self.other or self.case, self.peer.name, "cpu")
        return f"{theirs / ours:.2f}" if ours and theirs else "–"

    def reached(self, value: float) -> str:
        """Return how far it got."""
        for bound, word in ((self.aim, "aim"), (self.least, "at least")):
            if bound is not None and (value <= bound if self.most else value >= bound):
                return word
        return "**no**"


def _targets() -> list[Target]:
    def small(case: str, ours: Peer, peer: Peer, least: float, aim: float) -> Target:
        return Target("small", case, "rate", ours, peer, least, aim)

    both = (H11, SPEED)
    found = [
        small("asyncio, 20 at once", SPEED, AIOHTTP, 1.5, 1.8),
        small("asyncio, 1,000 at once", SPEED, AIOHTTP, 1.8, 2.3),
        small("asyncio, 20 at once", SPEED, PYREQWEST, 0.8, 1.0),
        small("asyncio, 20 at once", H11, AIOHTTP, 0.85, 1.1),
        small("asyncio, 1,000 at once", H11, AIOHTTP, 0.85, 1.1),
        small("asyncio, 20 at once", H11, HTTPX2, 4, 5),
        small("asyncio, 1,000 at once", H11, HTTPX2, 25, 35),
        small("uvloop, 20 at once", SPEED, AIOHTTP, 2.0, 2.8),
        small("uvloop, 20 at once", SPEED, PYREQWEST, 0.8, 1.0),
        small("threads, 1 at once", H11, URLLIB3, 1.4, 1.7),
        small("threads, 1 at once", SPEED, PYCURL, 1.0, 1.3),
        small("threads, 20 at once", SPEED, URLLIB3, 2, 3),
    ]
    for ours in both:
        found += [
            Target("downloads", "threads", "rate", ours, URLLIB3, 1.2, None),
            Target("downloads", "threads", "rate", ours, SOCKET, None, 0.8),
            Target("downloads", "asyncio", "rate", ours, AIOHTTP, 1.3, None),
            Target("downloads", "asyncio", "rate", ours, SOCKET, None, 0.8, other="threads"),
        ]
    for ours in both:
        found += [
            Target("tls", "threads, new connections, 1 at once", "rate", ours, URLLIB3, 1.0, 1.3),
            Target("tls", "asyncio, new connections, 20 at once", "rate", ours, AIOHTTP, 1.0, 1.3),
        ]
    for case in ("1,000 idle connections", "1,000 waiters of the same host", "1,000 waiters of another host"):
        found.append(Target("scaling", case, "times", SPEED, None, 1.2, 1.05, most=True))
    for ours in both:
        for count in ("1,000", "5,000"):
            found += [
                Target("memory", f"asyncio, {count} idle", "kib", ours, AIOHTTP, 1.0, 0.5, most=True),
                Target("memory", f"threads, {count} idle", "kib", ours, URLLIB3, 1.0, 0.5, most=True),
            ]
    for ours in both:
        for peer in (AIOHTTP, HTTPX2):
            found.append(Target("latency", "80 % of the client's own capacity", "p99", ours, peer, 1.0, 0.7, most=True))
        for pace, peer in (("4,000", AIOHTTP), ("800", HTTPX2)):
            found.append(
                Target("latency", f"{pace} requests a second for each", "p99", ours, peer, 1.0, 0.7, most=True)
            )
    return found


TARGETS = _targets()


def table(find: Find, groups: list[str]) -> list[str]:
    """Return the table of the groups that were measured."""
    lines = [
        "| what | against | at least | aim | measured | reached | by CPU |",
        "| --- | --- | ---: | ---: | ---: | --- | ---: |",
    ]
    for target in TARGETS:
        if target.group not in groups:
            continue
        value = target.measured(find)
        least, aim = (
            "–" if bound is None else f"{'≤ ' if target.most else ''}{bound:g}" for bound in (target.least, target.aim)
        )
        peer = target.peer.name if target.peer else "1 idle, 0 waiting"
        shown = "– | not measured" if value is None else f"{value:.2f} | {target.reached(value)}"
        lines.append(f"| {target.text} | {peer} | {least} | {aim} | {shown} | {target.by_cpu(find)} |")
    return lines
