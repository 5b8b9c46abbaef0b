"""What a request does while it waits: collect garbage that holds a slot, and notice that nobody can ever go on."""

from __future__ import annotations

import gc
import itertools
import math
import time

import pytest

from pooltransport import Request, Timeout
from pooltransport.core.pool import Waiter
from pooltransport.core.records import WaiterState
from pooltransport.engine import vigil
from pooltransport.engine.vigil import Collector, collector
from pooltransport.errors import PoolDeadlock, PoolTimeout
from pooltransport.testing.fakes import Answers
from tests.engine.scenarios import OK, OTHER, URL

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"


class Heap:
    """Real time and collections, by hand: `finds` says what each collection finds; `takes` is how long it takes."""

    def __init__(self, *finds, takes=0.01, blocks=1000):
        self.now = 1000.0
        self.finds = list(finds)
        self.takes = takes
        self.blocks = blocks
        self.collected = []
        self.collector = Collector(lambda: self.now, self._collect, lambda: self.blocks)

    def _collect(self, generation):
        self.collected.append(generation)
        self.now += self.takes
        return self.finds.pop(0) if self.finds else 0

    def everything(self, at_most=1000.0, *, is_last=False):
        before = len(self.collected)
        self.collector.everything(at_most, is_last=is_last)
        return len(self.collected) > before


class TestCollector:
    def test_young_rest_if_it_was_in_vain(self):
        """Ten times as long as it took, and twice as long after each in vain, up to a second."""
        heap = Heap(0, 3, 2, 0)  # each takes 0.01 s
        heap.collector.young()
        assert not heap.collector.found
        heap.now += 0.18
        heap.collector.young()
        assert heap.collected == [1]
        heap.now += 0.02
        heap.collector.young()
        assert heap.collector.found
        heap.collector.young()  # it found something: again at once
        heap.collector.young()
        assert heap.collected == [1] * 4
        heap.collector.young()
        assert heap.collected == [1] * 4

    def test_young_rest_for_a_second_at_most(self):
        heap = Heap()
        for _ in range(1500):
            heap.now += 1.0
            heap.collector.young()
        assert len(heap.collected) == 1500

    def test_of_two_at_once_one_collects(self):
        """The other would find nothing, and say that it was in vain."""
        heap = Heap(1)
        inner = heap.collector._collect

        def collect(generation):
            heap.collector.young()
            heap.collector.everything(1000.0, is_last=True)
            return inner(generation)

        heap.collector._collect = collect
        heap.collector.young()
        assert heap.collected == [1]
        assert heap.collector.found

    def rests(self, heap, count):
        """Return the seconds between the beginnings of collections, tried each quarter of a second."""
        begun = []
        while len(begun) <= count:
            now = heap.now
            if heap.everything():
                begun.append(now)
            heap.now = now + 0.25
        return [later - sooner for sooner, later in itertools.pairwise(begun)]

    def test_everything_rests_fifty_times_as_long_as_it_took(self):
        assert self.rests(Heap(1, 1, 1, 1, takes=0.1), 3) == pytest.approx([5.0] * 3, abs=0.3)

    def test_in_vain_twice_as_long_each_time_up_to_30_s(self):
        assert self.rests(Heap(takes=0.1), 4) == pytest.approx([10.0, 20.0, 30.0, 30.0], abs=0.3)

    def test_a_find_ends_the_long_rests(self):
        heap = Heap(0, 0, 0, 5, takes=0.1)
        for _ in range(4):
            heap.now += 31.0
            assert heap.everything()
        assert heap.collector.found
        heap.now += 5.01
        assert heap.everything()

    def test_the_last_look_before_a_timeout_waits_for_no_rest_unless_it_was_in_vain_before(self):
        heap = Heap(1, 0, takes=0.1)
        assert heap.everything()
        assert not heap.everything()
        assert heap.everything(is_last=True)
        assert heap.everything(is_last=True)  # once in vain: once more
        assert not heap.everything(is_last=True)
        assert not heap.everything()

    @pytest.mark.parametrize(("takes", "repeats"), [(0.24, True), (0.26, False)])
    def test_not_if_it_would_take_too_long(self, takes, repeats):
        """Three times as long as the last one took, for each block of memory: the machine may be busy."""
        heap = Heap(1, 1, 1, takes=takes)
        assert heap.everything(0.75)
        heap.now += 100.0
        assert heap.everything(0.75) is repeats
        heap.blocks *= 4
        heap.now += 100.0
        assert not heap.everything(2.8)
        assert heap.everything(3.2)

    def test_the_first_is_guessed_by_the_size_of_the_heap(self):
        """A block costs less than 0.1 us."""
        assert Heap(blocks=2_000_000).everything(0.61)
        assert not Heap(blocks=2_000_000).everything(0.59)

    def test_one_that_was_quick_is_half_believed(self):
        heap = Heap(1, 1, 1, takes=0.1)
        assert heap.everything()
        heap.takes = 0.0
        heap.now += 100.0
        assert heap.everything()
        heap.now += 100.0
        assert not heap.everything(0.149)
        assert heap.everything(0.151)


@pytest.fixture
def no_gc():
    """Let nothing be collected but by who waits; what was made before is left out."""
    gc.collect()
    gc.freeze()
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


@pytest.fixture
def fresh(monkeypatch):
    """Forget what collections of other tests were worth, and how large the heap of all tests is."""
    for name, value in vars(Collector(blocks=lambda: 1000)).items():
        monkeypatch.setattr(collector, name, value)


def forget(world, url=URL):
    """Open a response and leave it in a cycle."""
    holder = [world.runtime.run(world.transport.round_trip(Request("GET", url)))]
    holder.append(holder)


@pytest.mark.usefixtures("no_gc", "fresh")
class TestRescue:
    def test_garbage_gives_its_slot_back(self, make_world):
        """Soon, and long before the timeout; found is what is counted."""
        world = make_world(Answers(HEAD, OK), max_conns_per_host=1)
        forget(world)
        began = world.runtime.now()
        with pytest.warns(ResourceWarning, match="found by a collection just before a pool timeout"):  # noqa: PT031
            assert world.runtime.run(world.get(timeout=Timeout(acquire=10.0))) == b"hi"
            stats = world.transport.stats()
        assert world.runtime.now() - began <= 0.1
        assert (stats.leaks, stats.leaks_by_found["rescue"], stats.leaks_by_found["gc"]) == (1, 1, 0)

    @pytest.mark.parametrize("wanted", [True, "auto"])
    def test_old_garbage_too(self, make_world, wanted):
        world = make_world(Answers(HEAD, OK), max_conns_per_host=1, gc_on_exhaustion=wanted)
        forget(world)
        gc.freeze()
        gc.unfreeze()  # what was frozen is of the oldest generation then
        with pytest.warns(ResourceWarning, match="found by a collection"):  # noqa: PT031 - a safe point says it
            assert world.runtime.run(world.get(timeout=Timeout(acquire=10.0))) == b"hi"
            assert world.transport.stats().leaks_by_found["rescue"] == 1

    def test_false_never_collects(self, make_world):
        world = make_world(Answers(HEAD, OK), max_conns_per_host=1, gc_on_exhaustion=False)
        forget(world)
        with pytest.raises(PoolTimeout):
            world.runtime.run(world.get(timeout=Timeout(acquire=5.0)))
        assert world.transport.stats().leaks == 0
        gc.collect()
        with pytest.warns(ResourceWarning):
            world.transport.stats()

    def test_nothing_is_collected_where_somebody_reads(self, make_world, monkeypatch):
        """No lease of this limit is unread: a collection could not help."""
        world = make_world(Answers(HEAD), max_conns_per_host=1)
        response = world.runtime.run(world.transport.round_trip(Request("GET", URL)))
        reader = world.runtime.start(response.aread())
        looks = []
        monkeypatch.setattr(collector, "young", lambda: looks.append("young"))
        monkeypatch.setattr(collector, "everything", lambda *how, **more: looks.append("all"))
        with pytest.raises(PoolTimeout):
            world.runtime.run(world.get(timeout=Timeout(acquire=5.0)))
        assert looks == []
        reader.cancel()
        world.runtime.run_until_idle()

    def test_while_one_of_two_is_read_only_the_last_look_collects(self, make_world, monkeypatch):
        """A pool in which somebody is at work is not worth a collection, but for a timeout that comes at once."""
        world = make_world(Answers(HEAD), max_conns_per_host=2)
        forgotten, read = (world.runtime.run(world.transport.round_trip(Request("GET", URL))) for _ in range(2))
        reader = world.runtime.start(read.aread())
        world.runtime.run_until_idle()
        began, looks = world.runtime.now(), []
        monkeypatch.setattr(collector, "young", lambda: looks.append(world.runtime.now() - began))
        monkeypatch.setattr(collector, "everything", lambda *how, **more: None)
        with pytest.raises(PoolTimeout):
            world.runtime.run(world.get(timeout=Timeout(acquire=5.0)))
        assert looks == [pytest.approx(4.5)]
        reader.cancel()
        world.runtime.run(forgotten.aclose())

    @pytest.mark.parametrize(("wanted", "longest"), [("auto", 0.25), (True, math.inf)])
    def test_on_a_loop_a_quarter_of_a_second_is_the_most(self, make_world, monkeypatch, wanted, longest):
        """Wherever a task may block its loop, unless that is asked for."""
        world = make_world(Answers(HEAD), max_conns_per_host=1, gc_on_exhaustion=wanted)
        held = world.runtime.run(world.transport.round_trip(Request("GET", URL)))
        allowed = []
        monkeypatch.setattr(collector, "everything", lambda at_most, **more: allowed.append(at_most))
        with pytest.raises(PoolTimeout):
            world.runtime.run(world.get(timeout=Timeout(acquire=5.0)))
        assert max(allowed) == longest
        world.runtime.run(held.aclose())

    def test_who_holds_the_other_limit_is_left_alone(self, make_world, monkeypatch):
        """The garbage of another host does not hold what is waited for."""
        world = make_world(Answers(HEAD), max_conns_per_host=1)
        forget(world, OTHER)
        response = world.runtime.run(world.transport.round_trip(Request("GET", URL)))
        reader = world.runtime.start(response.aread())
        looks = []
        monkeypatch.setattr(collector, "young", lambda: looks.append("young"))
        with pytest.raises(PoolTimeout):
            world.runtime.run(world.get(timeout=Timeout(acquire=5.0)))
        assert looks == []
        reader.cancel()
        world.runtime.run_until_idle()
        gc.collect()

    def test_the_last_look_comes_before_a_short_timeout(self, make_world):
        """A quarter of the wait before its end."""
        world = make_world(Answers(HEAD, OK), max_conns_per_host=1)
        forget(world)
        assert world.runtime.run(world.get(timeout=Timeout(acquire=0.004))) == b"hi"

    def test_many_who_wait_look_seldom(self, make_world, monkeypatch):
        world = make_world(Answers(HEAD), max_conns_per_host=1, deadlock_check=False)
        response = world.runtime.run(world.transport.round_trip(Request("GET", URL)))
        looks = []
        monkeypatch.setattr(collector, "young", lambda: looks.append(world.runtime.now()))
        monkeypatch.setattr(collector, "everything", lambda *how, **more: None)
        tasks = [world.runtime.start(world.get(timeout=Timeout(acquire=10.0))) for _ in range(400)]
        world.runtime.advance(9.0)
        assert len(looks) <= 400 * 5  # in 9 s; one alone would look a dozen times
        world.runtime.advance(2.0)
        assert all(isinstance(task.error, PoolTimeout) for task in tasks)
        world.runtime.run(response.aclose())


def two_at_once(world, url=URL, other=None, **fields):
    """Open a response and, while it is held, ask for another."""

    async def greedy():
        async with await world.transport.round_trip(Request("GET", url)):
            return await world.get(other or url, **fields)

    return greedy()


class TestDeadlock:
    def test_of_one_task_with_itself(self, make_world):
        world = make_world(Answers(HEAD), max_conns_per_host=1)
        began = world.runtime.now()
        with pytest.raises(PoolDeadlock) as caught:
            world.runtime.run(two_at_once(world))
        assert 1.0 <= world.runtime.now() - began <= 3.0
        line = two_at_once.__code__.co_firstlineno + 4
        assert str(caught.value) == (
            "nobody can ever get a connection to http://192.0.2.1:80: each of the 1 allowed is held by a thread or "
            f"task that waits for another one itself; 1 opened at {__file__}:{line} [PT-DEADLOCK]"
        )
        assert caught.value.code == "PT-DEADLOCK"
        assert not caught.value.may_have_been_processed
        assert world.transport.stats().acquire_failures["pool_deadlock"] == 1

    @pytest.mark.parametrize("options", [{"max_conns_per_host": 3}, {"max_conns": 3}])
    def test_one_of_them_fails_and_the_others_go_on(self, make_world, options):
        def peer(dial):
            Answers(HEAD if len(world.runtime.dials) <= 3 else OK)(dial)

        world = make_world(peer, drain_limit=0, **options)
        tasks = [world.runtime.start(two_at_once(world)) for _ in range(3)]
        world.runtime.advance(10.0)
        assert all(task.done for task in tasks)
        failures = [task.error for task in tasks if task.error is not None]
        assert [type(error) for error in failures] == [PoolDeadlock]
        assert "each of the 3 allowed" in str(failures[0])
        assert world.transport.stats().acquire_failures["pool_deadlock"] == 1

    def test_over_hosts(self, make_world):
        world = make_world(Answers(HEAD), max_conns=2)
        tasks = [
            world.runtime.start(two_at_once(world, URL, OTHER)),
            world.runtime.start(two_at_once(world, OTHER, URL)),
        ]
        world.runtime.advance(3.0)
        errors = [task.error for task in tasks if task.done]
        assert [type(error) for error in errors] == [PoolDeadlock]
        assert "each of the 2 allowed" in str(errors[0])
        for task in tasks:
            task.cancel()
        world.runtime.run_until_idle()

    def test_without_collections_it_is_found_too_and_costs_no_spinning(self, make_world):
        """Up to the end of a wait that the last resort bounds there is nothing to collect: no look is due then."""
        world = make_world(Answers(HEAD), max_conns_per_host=1, gc_on_exhaustion=False)
        with pytest.raises(PoolDeadlock):
            world.runtime.run(two_at_once(world))
        response = world.runtime.run(world.transport.round_trip(Request("GET", URL)))
        began = time.monotonic()
        with pytest.raises(PoolTimeout):
            world.runtime.run(world.get())  # another task holds it: no deadlock
        assert time.monotonic() - began < 10.0
        world.runtime.run(response.aclose())


class TestOneFails:
    def test_not_while_another_is_about_to(self, make_world):
        world = make_world(Answers(HEAD), max_conns_per_host=1)
        engine = world.transport._engine
        engine.fails = other = Waiter(None)
        task = world.runtime.start(two_at_once(world))
        world.runtime.advance(10.0)
        assert not task.done
        other.state = WaiterState.CANCELLED
        world.runtime.advance(3.0)
        assert isinstance(task.error, PoolDeadlock)

    def test_not_if_it_is_over_when_its_turn_comes(self, make_world, monkeypatch):
        """The one that failed first has given its slot back, or its wait up, between the look and the claim."""
        world = make_world(Answers(HEAD), max_conns_per_host=1)
        looks = []

        def first_time_only(engine, waiter, *, certain):
            looks.append(waiter)
            return [] if len(looks) % 2 == 0 else real(engine, waiter, certain=certain)

        real = vigil.deadlocked
        monkeypatch.setattr(vigil, "deadlocked", first_time_only)
        task = world.runtime.start(two_at_once(world))
        world.runtime.advance(10.0)
        assert not task.done
        assert len(looks) >= 4  # and it goes on looking
        assert world.transport._engine.fails is None
        task.cancel()
        world.runtime.run_until_idle()


class TestNoDeadlock:
    """Each condition of contract 7.5 is missing alone."""

    def ends(self, world, *tasks, seconds=30.0):
        world.runtime.advance(seconds)
        assert not [task for task in tasks if isinstance(task.error, PoolDeadlock)]

    def test_who_waits_has_a_deadline(self, make_world):
        """Then it is the first note of the timeout."""
        world = make_world(Answers(HEAD), max_conns_per_host=1)
        task = world.runtime.start(two_at_once(world, timeout=Timeout(acquire=5.0)))
        self.ends(world, task)
        assert isinstance(task.error, PoolTimeout)
        first, *_ = task.error.__notes__
        assert first == "every connection is held by a thread or task that waits here itself: only this timeout ends it"

    def test_somebody_else_who_waits_has_a_deadline(self, make_world):
        world = make_world(Answers(HEAD), max_conns_per_host=2)
        tasks = [
            world.runtime.start(two_at_once(world)),
            world.runtime.start(two_at_once(world, timeout=Timeout(total=20.0))),
        ]
        self.ends(world, *tasks, seconds=15.0)
        for task in tasks:
            task.cancel()
        world.runtime.run_until_idle()

    def test_not_every_slot_is_held(self, make_world):
        """One is draining, or dialing: it comes back by itself."""
        world = make_world(Answers(HEAD), max_conns_per_host=2, drain_timeout=20.0)
        closing = world.runtime.run(world.transport.round_trip(Request("GET", URL)))
        world.runtime.run(closing.aclose())
        assert world.transport.stats().draining == 1
        task = world.runtime.start(two_at_once(world))
        self.ends(world, task, seconds=15.0)
        task.cancel()
        world.runtime.run_until_idle()

    def test_one_is_held_by_who_does_not_wait(self, make_world):
        world = make_world(Answers(HEAD), max_conns_per_host=2)
        kept = []

        async def hold():
            kept.append(await world.transport.round_trip(Request("GET", URL)))
            await world.runtime.sleep(1000.0)

        holder = world.runtime.start(hold())
        world.runtime.run_until_idle()
        task = world.runtime.start(two_at_once(world))
        self.ends(world, task)
        for each in (task, holder):
            each.cancel()
        world.runtime.run_until_idle()
        world.runtime.run(kept.pop().aclose())

    def test_one_is_read_by_another(self, make_world):
        world = make_world(Answers(HEAD), max_conns_per_host=1, read_timeout=100.0)
        passed_on = []

        async def greedy():
            passed_on.append(await world.transport.round_trip(Request("GET", URL)))
            return await world.get()

        async def read():
            while not passed_on:
                await world.runtime.sleep(0.01)
            return await passed_on[0].aread()

        tasks = [world.runtime.start(greedy()), world.runtime.start(read())]
        self.ends(world, *tasks)
        for task in tasks:
            task.cancel()
        world.runtime.run_until_idle()

    def test_one_is_declared_as_a_stream(self, make_world):
        world = make_world(Answers(HEAD), max_conns_per_host=1)

        async def greedy():
            async with await world.transport.round_trip(Request("GET", URL)) as response:
                response.long_lived()
                return await world.get()

        task = world.runtime.start(greedy())
        self.ends(world, task)
        task.cancel()
        world.runtime.run_until_idle()

    def test_the_pool_moves(self, make_world):
        """Something is given back or taken each half a second, of another host too."""
        world = make_world(Answers(OK), max_conns_per_host=1)
        world.peer = world.runtime.on_dial = lambda dial: Answers(
            HEAD if dial.address.text.startswith(URL[7:16]) else OK
        )(dial)

        async def move():
            while True:
                await world.get(OTHER)
                await world.runtime.sleep(0.5)

        mover = world.runtime.start(move())
        task = world.runtime.start(two_at_once(world))
        self.ends(world, task, seconds=20.0)
        mover.cancel()
        world.runtime.advance(4.0)
        assert isinstance(task.error, PoolDeadlock)

    def test_it_is_not_wanted(self, make_world):
        world = make_world(Answers(HEAD), max_conns_per_host=1, deadlock_check=False)
        task = world.runtime.start(two_at_once(world))
        world.runtime.advance(61.0)
        assert isinstance(task.error, PoolTimeout)

    def test_who_waits_for_the_limit_of_another_host(self, make_world):
        world = make_world(Answers(HEAD), max_conns_per_host=1)
        task = world.runtime.start(two_at_once(world, URL, OTHER, timeout=Timeout(total=5.0)))
        self.ends(world, task)
