"""Who lives in this process, and the counters of who is gone: sums never go down."""

from __future__ import annotations

import gc
import itertools
import threading
import time

import pytest

import pooltransport as pt
from pooltransport import Request, census
from pooltransport.stats import ClientStats
from pooltransport.testing.fakes import Answers, FakeRuntime, FakeTransport
from tests.engine.scenarios import OK, OTHER, URL
from tests.support.scripts import run_script

_names = itertools.count(1)


@pytest.fixture
def name():
    """Give a name that no other transport has: the process is full of those of other tests."""
    return f"census-{next(_names)}"


def rows(name):
    return [stats for stats in census.process_stats() if stats.name == name]


def total(name, counter="dials"):
    return sum(getattr(stats, counter) for stats in rows(name))


def make(name, runtime=None, **options):
    return FakeTransport(runtime or FakeRuntime(Answers(OK)), name=name, **options)


def fetch(transport, url=URL):
    async def body():
        async with await transport.round_trip(Request("GET", url)) as response:
            return await response.aread()

    return transport.runtime.run(body())


def close(transport):
    transport.runtime.run(transport.aclose())


class TestTransports:
    def test_the_living_oldest_first(self, name):
        made = [make(name) for _ in range(3)]
        found = [transport for transport in census.transports() if transport.options.name == name]
        assert found == made
        del found
        gone = made.pop(1)
        close(gone)
        assert gone in census.transports()  # closed, and there
        del gone
        gc.collect()
        assert [transport for transport in census.transports() if transport.options.name == name] == made

    def test_while_others_are_made(self, name):
        """Who looks does not stumble over who makes one at that moment, in another thread."""
        over = threading.Event()
        failures = []

        def make_some():
            try:
                while not over.is_set():
                    make(name)
            except Exception as failure:
                failures.append(failure)

        thread = threading.Thread(target=make_some)
        thread.start()
        try:
            until = time.monotonic() + 0.3
            while time.monotonic() < until:
                census.transports()
                census.clients()
        finally:
            over.set()
            thread.join()
        assert failures == []


class TestSums:
    def test_one_row_for_each_alive_and_one_for_all_that_are_gone(self, name):
        first, second, third = (make(name) for _ in range(3))
        for transport in (first, second, second, third):
            fetch(transport)
        assert [stats.idle for stats in rows(name)] == [1, 1, 1]
        assert total(name) == 3
        assert sum(sum(stats.acquired.values()) for stats in rows(name)) == 4
        close(first)
        close(second)
        del first, second, transport
        gc.collect()
        alive, gone = rows(name)
        assert (alive.dials, alive.idle, gone.dials, gone.idle, gone.open, gone.dialing) == (1, 1, 2, 0, 0, 0)
        assert gone.acquired == {"reused": 1, "dialed": 2, "handed_over": 0}
        assert gone.closed == {"pool_closed": 2}
        assert gone.hosts[str(next(iter(gone.hosts)))].dials == 2
        assert (gone.limits, gone.findings) == ({}, ())
        close(third)

    def test_dropped_with_open_connections_in_a_cycle(self, name):
        """At no moment are its numbers missing: not as garbage, nor while its sockets are still to be closed."""
        runtime = FakeRuntime(Answers(OK), lazy_close=True)
        transport = make(name, runtime)
        fetch(transport)
        fetch(transport, OTHER)
        holder = [transport]
        holder.append(holder)
        assert total(name) == 2
        gc.disable()
        try:
            del transport, holder
            assert total(name) == 2
        finally:
            gc.enable()
        with pytest.warns(pt.UnclosedTransportWarning):  # noqa: PT031 - a safe point says it
            gc.collect()
            assert total(name) == 2  # the closes are posted, and not done
            runtime.run_until_idle()
            assert total(name) == 2
            gc.collect()
            assert total(name) == 2
            census.process_stats()
            make(name).stats()
        assert sum(stats.closed.get("pool_closed", 0) for stats in rows(name)) == 2
        assert len(rows(name)) in {1, 2}

    def test_a_transport_that_ends_while_somebody_sums_is_summed_once(self, name):
        """Its last reference goes away as it is asked for its statistics: it is neither counted twice nor missed."""
        kept = []

        def last_word(report):
            kept.clear()

        transport = make(name, trace=pt.ClientTrace(leaked=last_word), leak_detection="off")
        fetch(transport)
        kept.append(transport)
        transport.runtime.on_dial = Answers(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
        transport.runtime.run(transport.round_trip(Request("GET", OTHER)))  # dropped at once
        runtime = transport.runtime
        del transport
        with pytest.warns(ResourceWarning):  # noqa: PT031 - some safe point says it
            sums = [total(name), total(name), total(name)]
            make(name).stats()  # a safe point, after that at which the last reference went
        assert kept == []
        assert sums == [2, 2, 2]
        runtime.run_until_idle()

    def test_many_threads_make_and_drop_while_one_sums(self, name):
        """No sum is below the one before."""
        over = threading.Event()
        failures = []

        def work():
            try:
                while not over.is_set():
                    transport = make(name)
                    fetch(transport)
                    close(transport)
            except Exception as failure:
                failures.append(failure)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        sums = [0]
        try:
            until = time.monotonic() + 1.0
            while time.monotonic() < until:
                sums.append(total(name))
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert failures == []
        assert sums == sorted(sums)
        assert sums[-1] > 10

    def test_hosts_of_the_gone_are_bounded(self, name):
        """What is beyond is summed without a name."""
        for part in range(3):
            transport = make(name)
            for number in range(500):
                fetch(transport, f"http://10.{part}.{number >> 8}.{number & 255}/")
            close(transport)
            del transport
            gc.collect()
            census.process_stats()
        (gone,) = rows(name)
        assert gone.dials == 1500
        assert len(gone.hosts) <= 1024

    def test_names_are_apart(self, name):
        other = f"{name}-other"
        first, second = make(name), make(other)
        fetch(first)
        fetch(second)
        fetch(second, OTHER)
        for transport in (first, second):
            close(transport)
        del first, second, transport
        gc.collect()
        assert (total(name), total(other)) == (1, 2)


class TestClients:
    def test_made_and_alive(self):
        before = census.clients()
        with pt.Transport() as transport:
            clients = [pt.Client(transport=transport) for _ in range(3)]
            now = census.clients()
            assert (now.created - before.created, now.live - before.live) == (4, 4)
            assert transport.stats().clients == ClientStats(3, 3)
            clients.clear()
            gc.collect()
            assert transport.stats().clients == ClientStats(3, 0)
            assert census.clients_of(transport) == ClientStats(3, 0)
        assert census.clients().created - before.created == 4

    def test_of_many_threads_none_is_missed(self):
        with pt.Transport() as transport:

            def work():
                for _ in range(200):
                    pt.Client(transport=transport)

            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert census.clients_of(transport).created == 800

    def test_a_round_tripper_of_the_callers_own(self):
        class Own:
            __slots__ = ()  # which cannot be referred to weakly

            def round_trip(self, request):
                raise NotImplementedError

        before = census.clients().created
        own = Own()
        client = pt.Client(transport=own)
        assert census.clients().created == before + 1
        assert census.clients_of(own) == ClientStats(0, 0)
        client.close()

    def test_lines_that_made_them(self, name):
        def borrow(transport):
            return pt.Client(transport=transport)

        with pt.Transport() as transport:
            kept = [borrow(transport) for _ in range(4)]
            del kept[1:]
            gc.collect()
            now = time.monotonic()
            where = f"Client at {__file__}:{borrow.__code__.co_firstlineno + 1}"
            (line,) = [line for line in census.busiest_lines(now) if line.name == where]
            assert (line.made, line.gone, line.requests) == (4, 3, None)
            assert all(line.name not in other.name for other in census.busiest_lines(now + 61.0))

        def own():
            return make(name)

        for requests in (0, 1, 5):
            transport = own()
            for _ in range(requests):
                fetch(transport)
            close(transport)
        del transport
        gc.collect()
        where = f"FakeTransport at {__file__}:{make.__code__.co_firstlineno + 1}"
        found = {line.name: line for line in census.busiest_lines(time.monotonic())}
        assert found[where].gone >= 3
        assert found[where].requests is not None


FORK = """
import gc, os, sys
import pooltransport as pt
from pooltransport import census

transport = pt.Transport(name="parent")
client = pt.Client(transport=transport)
client.get(sys.argv[1])
gone = pt.Transport(name="gone")
pt.Client(transport=gone).get(sys.argv[1])
gone.close()
del gone
gc.collect()
assert sum(stats.dials for stats in census.process_stats()) == 2
assert census.clients().created == 4
pid = os.fork()
if not pid:
    assert [t.options.name for t in census.transports()] == ["parent"]
    assert census.clients() == (0, 0), census.clients()
    rows = [(s.name, s.dials, s.open) for s in census.process_stats()]
    assert rows == [("parent", 0, 0)], rows
    client.get(sys.argv[1])
    pt.Client(transport=transport)
    assert census.clients().created == 1
    assert [(s.name, s.dials, s.idle) for s in census.process_stats()] == [("parent", 1, 1)]
    transport.close()
    del client, transport
    assert [(s.name, s.dials, s.idle) for s in census.process_stats()] == [("parent", 1, 0)], census.process_stats()
    print("child", flush=True)
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert sum(stats.dials for stats in census.process_stats()) == 2
assert census.clients().created == 4
transport.close()
print("parent")
"""


def test_a_child_begins_with_nothing(server_factory, tmp_path):
    from tests.support.responders import ok

    server = server_factory(ok())
    done = run_script(tmp_path / "app.py", FORK, server.url)
    assert done.stdout == "child\nparent\n"


DEFAULTS = """
import asyncio, sys
import pooltransport as pt
from pooltransport import census

url = sys.argv[1]
for _ in range(3):
    with pt.Client() as client:
        client.get(url)
assert census.clients().created == 4, census.clients()  # and the transport that they borrow
(stats,) = census.process_stats()
assert (stats.name, stats.dials, stats.acquired["reused"]) == ("default", 1, 2)
assert stats.clients.created == 3

async def main():
    async with pt.AsyncClient() as client:
        await client.get(url)

for turn in range(2):
    asyncio.run(main())
    names = [stats.name for stats in census.process_stats()]
    assert set(names) == {"default"}, names
    assert sum(stats.dials for stats in census.process_stats()) == 2 + turn
print("done")
"""


def test_default_transports(server_factory, tmp_path):
    from tests.support.responders import ok

    server = server_factory(ok())
    done = run_script(tmp_path / "app.py", DEFAULTS, server.url, flags=("-X", "dev", "-W", "error"))
    assert done.stdout == "done\n"


def test_transports_for_each_request_do_not_fill_the_memory(tmp_path):
    """Nobody asks, and what each left is folded all the same."""
    done = run_script(
        tmp_path / "app.py",
        """
        import resource, gc
        import pooltransport as pt

        def rss():
            return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

        def make(count):
            for _ in range(count):
                with pt.Transport() as transport:
                    transport._engine.ledger.pool.note_retry("host")
            gc.collect()

        make(500)
        before = rss()
        make(3000)
        print(rss() - before)
        """,
    )
    assert int(done.stdout) < 2_000_000
