"""One colour's part of the soak, in a process of its own.

``python -m tests.soak.worker COLOUR SECONDS SEED ORIGIN...`` prints one JSON object: what was asked, what came of it,
what was left at the end, how the memory grew.
"""

from __future__ import annotations

import asyncio
import collections
import gc
import itertools
import json
import random
import resource
import sys
import threading
import time
from pathlib import Path
from typing import Any

import trio

import pooltransport as pt
from tests.soak.fault_server import fault_of, pattern

WORKERS = 12
OPTIONS: dict[str, Any] = {
    "max_conns_per_host": 8,
    "max_conns": 16,
    "idle_conn_timeout": 2.0,
    "max_conn_lifetime": 5.0,
    "read_timeout": 2.0,
    "acquire_timeout": 20.0,
}


def memory() -> int:
    """Return the bytes this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


class Tally:
    """What happened, and the checks of every answer."""

    def __init__(self, seconds: float, origins: list[str], seed: int) -> None:
        self.origins = origins
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.wrong: list[str] = []
        self.memory: list[int] = []
        self._numbers = itertools.count(seed * 10_000_000)
        self._began = time.monotonic()
        self._ends = self._began + seconds
        self._sample_at = self._began

    def goes_on(self) -> bool:
        """Report whether there is time left; take a sample of the memory when one is due."""
        now = time.monotonic()
        if now >= self._sample_at:
            self._sample_at = now + 1.0
            self.memory.append(memory())
        return now < self._ends

    def growth(self) -> int:
        """Return by how many bytes the least memory of the last third is above the least of the middle one: what is
        in use for a moment, or kept by malloc for the next, is no growth.
        """
        third = len(self.memory) // 3
        return min(self.memory[-third:]) - min(self.memory[third : 2 * third]) if third else 0

    def next(self, rng: random.Random) -> tuple[int, int, pt.Request]:
        """Return the number, the size of the answer, and a request."""
        number = next(self._numbers)
        size = rng.choice((0, 10, 999, 5000, 70_001, 300_000))
        method, content = rng.choice(
            (("GET", None), ("GET", None), ("POST", b"x" * 3000), ("PUT", [b"y" * 50_000] * 4))
        )
        url = f"{rng.choice(self.origins)}/{number}/{size}"
        timeout = rng.choice((5.0, 5.0, 5.0, 0.02, 0.1))
        return number, size, pt.Request(method, url, content=content, timeout=timeout)

    def check(self, number: int, size: int, response: Any, data: bytes, *, whole: bool) -> None:
        """An answer must be the request's own, from its first byte; and all of it, if it was read to its end."""
        if response.status_code in (413, 502, 504):  # the fault server's, and what haproxy makes of a broken one
            self.outcomes[str(response.status_code)] += 1
            return
        expected = pattern(number, size)
        # A server in front of the lying one makes a whole of what it was told: a part, of the right bytes.
        whole = whole and fault_of(number) not in ("too_short", "two_lengths")
        right = data == expected if whole else expected.startswith(data)
        if response.status_code != 200 or not right:
            self.wrong.append(f"{number} ({fault_of(number)}): {response.status_code} {data[:60]!r} of {len(data)}")
        self.outcomes["answered" if whole else "left early"] += 1

    def failed(self, error: BaseException) -> None:
        """Count an error; one that is no `TransportError` is a bug."""
        self.outcomes[type(error).__name__] += 1
        if not isinstance(error, pt.TransportError):
            self.wrong.append(repr(error))


def run_threads(tally: Tally, seed: int) -> Any:
    """Ask from threads."""
    transport = pt.Transport(**OPTIONS)

    def work(rng: random.Random) -> None:
        while tally.goes_on():
            number, size, request = tally.next(rng)
            try:
                with transport.round_trip(request) as response:
                    whole = rng.random() < 0.8
                    data = response.read() if whole else next(response.iter_bytes(100), b"")
                    tally.check(number, size, response, data, whole=whole)
            except Exception as error:
                tally.failed(error)

    threads = [threading.Thread(target=work, args=(random.Random(seed + i),)) for i in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    time.sleep(0.2)
    left = transport.stats()
    transport.close()
    return left, transport.stats()


async def ask(transport: pt.AsyncTransport, tally: Tally, rng: random.Random) -> None:
    """One request on a loop; whoever calls may cancel it anywhere."""
    number, size, request = tally.next(rng)
    try:
        async with await transport.round_trip(request) as response:
            whole = rng.random() < 0.8
            if whole:
                data = await response.aread()
            else:
                data = await anext(response.aiter_bytes(100), b"")
            tally.check(number, size, response, data, whole=whole)
    except Exception as error:
        tally.failed(error)


async def settled(transport: pt.AsyncTransport, sleep: Any) -> Any:
    """Wait for the drains in the background; return the statistics before and after the end."""
    await sleep(0.2)
    left = transport.stats()
    await transport.aclose()
    await sleep(0.05)
    return left, transport.stats()


async def run_asyncio(tally: Tally, seed: int) -> Any:
    """Ask from asyncio tasks, and cancel one in ten."""
    transport = pt.AsyncTransport(**OPTIONS)

    async def work(rng: random.Random) -> None:
        while tally.goes_on():
            task = asyncio.ensure_future(ask(transport, tally, rng))
            if rng.random() < 0.1:
                await asyncio.sleep(rng.choice((0.0, 0.0005, 0.002, 0.01)))
                task.cancel()
            await asyncio.wait([task])
            if task.cancelled():
                tally.outcomes["cancelled"] += 1

    await asyncio.gather(*(work(random.Random(seed + i)) for i in range(WORKERS)))
    return await settled(transport, asyncio.sleep)


async def run_trio(tally: Tally, seed: int) -> Any:
    """Ask from trio tasks, and cancel one in ten."""
    transport = pt.AsyncTransport(**OPTIONS)

    async def work(rng: random.Random) -> None:
        while tally.goes_on():
            patience = rng.choice((0.0, 0.0005, 0.002, 0.01)) if rng.random() < 0.1 else 60.0
            with trio.move_on_after(patience) as scope:
                await ask(transport, tally, rng)
            if scope.cancelled_caught:
                tally.outcomes["cancelled"] += 1

    async with trio.open_nursery() as nursery:
        for i in range(WORKERS):
            nursery.start_soon(work, random.Random(seed + i))
    return await settled(transport, trio.sleep)


def main(colour: str, seconds: float, seed: int, origins: list[str]) -> None:
    """Run one colour, and print what came of it."""
    tally = Tally(seconds, origins, seed)
    if colour == "threads":
        left, closed = run_threads(tally, seed)
    elif colour == "asyncio":
        left, closed = asyncio.run(run_asyncio(tally, seed))
    else:
        left, closed = trio.run(run_trio, tally, seed)
    gc.collect()
    gauges = ("active", "dialing", "draining", "upgraded", "closing", "waiting", "leases")
    print(
        json.dumps(
            {
                "colour": colour,
                "requests": sum(tally.outcomes.values()),
                "outcomes": tally.outcomes,
                "wrong": tally.wrong[:20],
                "left": {name: getattr(left, name) for name in gauges},
                "open_after_close": closed.open + closed.dialing + closed.closing,
                "leaks": left.leaks,
                "rebuilds": left.rebuilds,
                "grew": tally.growth(),
                "memory": [sample // 1_000_000 for sample in tally.memory],
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
