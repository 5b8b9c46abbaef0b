"""Issue 2: 10,000 requests to a real nginx, each cancelled somewhere, some twice: nothing is lost.

Where: at the k-th await point, as the request suspends there; or at a moment of the clock, by each of
the ways that asyncio and trio have. The choices are seeded; ``POOLTRANSPORT_SEED`` repeats a run.
"""

from __future__ import annotations

import asyncio
import functools
import os
import random
from collections import Counter

import pytest
import trio

import pooltransport as pt
from tests.support.cancelling import watch
from tests.support.colours import run_colour
from tests.support.leaks import open_sockets
from tests.support.nginx import Nginx, client_sockets

LIMIT = 20
WORKERS = 50
PORTION = 500  # then everything must be quiet
MOST_POINTS = 5
LONGEST = 0.02

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def nginx(tmp_path_factory, server_cert):
    """Give an nginx of its own: after many aborted connections it may go on counting one of them for long.

    The kernel knows no such connection any more, on either side; so sockets are counted in the kernel here.
    """
    prefix = tmp_path_factory.mktemp("nginx-cancelled")
    pem = prefix / "server.pem"
    server_cert.private_key_and_cert_chain_pem.write_to_path(str(pem))
    with Nginx(prefix, pem=pem) as server:
        yield server


class Chooser:
    """Makes requests of every kind, and says where each is cancelled."""

    def __init__(self, c, base: str, seed: int) -> None:
        self.c = c
        self.base = base
        self.random = random.Random(seed)
        self.client = c.make_client()

    def request(self):
        """Return one of the kinds of request, as a function that gives its coroutine."""
        kinds = [self.small, self.whole, self.upload, self.left_early, self.streamed, self.through_the_client]
        return self.random.choice(kinds)

    def seconds(self) -> float:
        """Return a moment; more often an early one."""
        return LONGEST * self.random.random() ** 3

    async def small(self):
        number = self.random.randrange(1_000_000)
        assert await self.c.fetch(f"{self.base}/echo?{number}") == str(number).encode()

    async def whole(self):
        assert len(await self.c.fetch(f"{self.base}/bytes/200k")) == 200_000

    async def upload(self):
        response = await self.c.request("POST", f"{self.base}/post", content=b"x" * 100_000)
        async with response:
            assert await response.aread() == b"posted"

    async def left_early(self):
        async with await self.c.get(f"{self.base}/bytes/1M") as response:
            await anext(response.aiter_bytes(10))

    async def streamed(self):
        async with self.client.stream("GET", f"{self.base}/chunked") as response:
            assert len([piece async for piece in response.aiter_bytes(50_000)]) == 4

    async def through_the_client(self):
        assert (await self.client.get(f"{self.base}/?client")).content == b"hello"


class AsyncioWays(Chooser):
    """The ways of asyncio. Each returns whether the request was really cancelled."""

    def way(self):
        ways = [self.task_cancel, self.timeout, self.wait_for, self.task_group]
        return self.random.choice([self.at_a_point] * 4 + ways)

    async def at_a_point(self, thunk) -> bool:
        task = asyncio.ensure_future(watch_here(thunk(), *self.points()))
        return await ended_cancelled(task)

    def points(self) -> tuple[int, bool]:
        return self.random.randint(1, MOST_POINTS), self.random.random() < 0.3

    async def task_cancel(self, thunk) -> bool:
        task = asyncio.ensure_future(thunk())
        loop = asyncio.get_running_loop()
        handles = [loop.call_later(self.seconds(), task.cancel) for _ in range(self.random.choice([1, 1, 2]))]
        try:
            return await ended_cancelled(task)
        finally:
            for handle in handles:
                handle.cancel()

    async def timeout(self, thunk) -> bool:
        try:
            async with asyncio.timeout(self.seconds()):
                await thunk()
        except TimeoutError as exc:
            return is_cancellation(exc)
        return False

    async def wait_for(self, thunk) -> bool:
        try:
            await asyncio.wait_for(thunk(), self.seconds())
        except TimeoutError as exc:
            return is_cancellation(exc)
        return False

    async def task_group(self, thunk) -> bool:
        class Failure(Exception):
            pass

        async def fail() -> None:
            await asyncio.sleep(self.seconds())
            raise Failure

        task = None
        try:
            async with asyncio.TaskGroup() as group:
                task = group.create_task(thunk())
                group.create_task(fail())
        except* Failure:
            pass
        return task is not None and task.cancelled()


def is_cancellation(error: TimeoutError) -> bool:
    """Raise the library's own timeouts: its clocks are longer than ours."""
    if isinstance(error, pt.TransportError):
        raise error
    return True


async def watch_here(coroutine, point: int, twice: bool) -> None:
    task = asyncio.current_task()

    def suspended(count: int) -> None:
        if count == point:
            task.cancel()
            if twice:  # once more before it is told of the first
                asyncio.get_running_loop().call_soon(task.cancel)
        elif twice and count == point + 1:  # and once more where it cleans up, if it waits there
            task.cancel()

    await watch(coroutine, suspended)


async def ended_cancelled(task) -> bool:
    """Wait for a task, and report whether its end was a cancellation; any other error is raised."""
    await asyncio.wait([task])
    if task.cancelled():
        return True
    task.result()
    return False


class TrioWays(Chooser):
    """The ways of trio."""

    def way(self):
        return self.random.choice([self.at_a_point] * 2 + [self.move_on, self.nursery])

    async def at_a_point(self, thunk) -> bool:
        point, twice = self.random.randint(1, MOST_POINTS), self.random.random() < 0.3
        with trio.CancelScope() as outer, trio.CancelScope() as inner:

            def suspended(count: int) -> None:
                if count == point:
                    inner.cancel()
                if twice and count >= point:
                    outer.cancel()

            await watch(thunk(), suspended)
        return outer.cancelled_caught or inner.cancelled_caught

    async def move_on(self, thunk) -> bool:
        with trio.move_on_after(self.seconds()) as outer, trio.move_on_after(self.seconds()) as inner:
            await thunk()
        return outer.cancelled_caught or inner.cancelled_caught

    async def nursery(self, thunk) -> bool:
        ended = False

        async def run() -> None:
            nonlocal ended
            await thunk()
            ended = True

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await trio.sleep(self.seconds())
            nursery.cancel_scope.cancel()
        return not ended


WAYS = {"asyncio": AsyncioWays, "uvloop": AsyncioWays, "trio": TrioWays}


def cancel_many(nginx, colour: str, scheme: str, total: int, context) -> Counter:
    """Cancel `total` requests, `WORKERS` at a time; return how often each way was taken."""
    seed = int(os.environ.get("POOLTRANSPORT_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
    print(f"POOLTRANSPORT_SEED={seed}")  # pytest shows it when the test fails
    base = nginx.https_url if scheme == "https" else nginx.url
    taken: Counter[str] = Counter()

    async def body(c):
        before = len(open_sockets())
        ways = WAYS[colour](c, base, seed)
        most = goal = 0

        async def work():
            nonlocal most
            while taken.total() < goal:
                way = ways.way()
                if await way(ways.request()):
                    taken[way.__name__] += 1
                most = max(most, len(open_sockets()) - before)
                stats = c.transport.stats()
                assert stats.open + stats.dialing + stats.closing <= LIMIT

        while goal < total:
            goal = min(goal + PORTION, total)
            await c.gather(*[work] * WORKERS)
            await c.wait_until(functools.partial(is_quiet, c.transport))
        assert 0 < most <= LIMIT
        stats = c.transport.stats()
        assert (stats.leaks, stats.rebuilds, stats.hook_errors, stats.dial_errors) == (0, 0, 0, 0)
        assert len(open_sockets()) - before == stats.idle <= LIMIT
        port = nginx.tls_port if scheme == "https" else nginx.port
        sockets = client_sockets(port)
        assert (sockets["established"], sockets["connecting"], sockets["close_wait"]) == (stats.idle, 0, 0)
        response = await c.get(f"{base}/echo?after")
        assert (response.status_code, await c.read(response)) == (200, b"after")
        # And not only one: the whole limit is there.
        numbers = await c.gather(*[lambda: c.fetch(f"{base}/echo?all")] * LIMIT)
        assert numbers == [b"all"] * LIMIT

    run_colour(colour, body, max_conns_per_host=LIMIT, ssl_context=context)
    assert taken.total() >= total
    return taken


def is_quiet(transport) -> bool:
    stats = transport.stats()
    return not any((stats.active, stats.dialing, stats.draining, stats.closing, stats.waiting, stats.leases))


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_no_cancelled_request_loses_a_slot(nginx, loop_colour, scheme, scaled, client_ssl_context):
    taken = cancel_many(nginx, loop_colour, scheme, scaled(10_000, 1_000), client_ssl_context)
    ways = {"at_a_point", "task_cancel", "timeout", "wait_for", "task_group"}
    assert set(taken) == (ways if loop_colour == "asyncio" else {"at_a_point", "move_on", "nursery"})


def test_no_cancelled_request_loses_a_slot_on_uvloop(nginx, client_ssl_context):
    cancel_many(nginx, "uvloop", "https", 300, client_ssl_context)
