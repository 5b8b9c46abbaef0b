"""The error that explains the pool: its first line, its notes, its numbers, and who is named."""

from __future__ import annotations

import errno
import logging
import pickle
import re
import traceback
from types import SimpleNamespace

import pytest

from pooltransport import Request, Timeout
from pooltransport.engine.memory import Memory
from pooltransport.errors import (
    ConnectError,
    ConnectTimeout,
    DNSError,
    PoolQueueFull,
    PoolTimeout,
    ProxyError,
    TLSError,
    TLSHandshakeTimeout,
)
from pooltransport.testing.fakes import Answers
from tests.engine.scenarios import OTHER, URL
from tests.support.unraisable import unraisable

BIG = b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"


@pytest.mark.parametrize(
    ("options", "scope", "limit", "holders"),
    [({"max_conns_per_host": 1}, "per_host", 1, [1]), ({"max_conns": 2}, "total", 2, [1, 1])],
)
def test_only_those_who_hold_what_is_waited_for(make_world, options, scope, limit, holders):
    world = make_world(Answers(HEAD), **options)
    other = world.runtime.run(world.transport.round_trip(Request("GET", OTHER)))
    world.runtime.clock.advance(5.0)
    mine = world.runtime.run(world.transport.round_trip(Request("GET", URL)))
    with pytest.raises(PoolTimeout) as caught:
        world.runtime.run(world.get(timeout=Timeout(acquire=1.0)))
    error = caught.value
    assert (error.limit_scope, error.limit) == (scope, limit)
    assert [count for _, count, _ in error.holders] == holders
    # The other host's is older: it would come first.
    ages = [round(age) for _, _, age in error.holders]
    assert ages == ([1] if scope == "per_host" else [6, 1])
    assert f"{limit} of {limit} in use, 1 waiting; 1 held since up to {ages[0]} s" in str(error)
    for response in (mine, other):
        world.runtime.run(response.aclose())


def hold(world, url=URL, **fields):
    return world.runtime.run(world.transport.round_trip(Request("GET", url, **fields)))


def fail(world, url=URL, seconds=5.0):
    """Wait for a connection that does not come."""
    with pytest.raises(PoolTimeout) as caught:
        world.runtime.run(world.get(url, timeout=Timeout(acquire=seconds)))
    return caught.value


HOLD = f"{__file__}:{hold.__code__.co_firstlineno + 1}"


def close(world, *responses):
    for response in responses:
        world.runtime.run(response.aclose())
    world.runtime.advance(1.0)


class TestFirstLine:
    def test_exactly(self, make_world):
        world = make_world(Answers(HEAD), max_conns_per_host=2)
        held = [hold(world), hold(world)]
        world.runtime.advance(36.0)
        error = fail(world)
        assert str(error) == (
            "no connection to http://192.0.2.1:80 within 5.00 s: 2 of 2 in use, 1 waiting; "
            f"2 held since up to 41 s by {HOLD}, responses not closed [PT-EXHAUSTED]"
        )
        assert (error.phase, error.setting, error.seconds, error.waited) == ("queue", "acquire", 5.0, 5.0)
        assert (error.origin, error.limit_scope, error.limit) == ("http://192.0.2.1:80", "per_host", 2)
        assert error.holders == ((HOLD, 2, 41.0),)
        assert error.suspects == (HOLD,)
        assert (error.stats.active, error.stats.waiting) == (2, 1)
        assert not error.may_have_been_processed
        close(world, *held)

    @pytest.mark.parametrize("length", [3, 100, 250])
    @pytest.mark.parametrize("depth", [10, 150, 3000])
    def test_at_most_200_characters(self, make_world, length, depth):
        """However long the host and the path of the file are; the code is always at its end."""
        world = make_world(Answers(HEAD), max_conns_per_host=1)
        host = ("x" * 50 + ".") * (length // 51) + "h" * (length % 51 or 1)
        world.runtime.resolver.names[host] = ["192.0.2.1"]
        space = {}
        path = "/srv" + "/deep" * (depth // 5) + "/billing.py"
        exec(compile("async def opened(send, request):\n    return await send(request)\n", path, "exec"), space)
        url = f"http://{host}/secret/path?token=abc"

        response = world.runtime.run(space["opened"](world.transport.round_trip, Request("GET", url)))
        error = fail(world, url)
        line = str(error)
        assert len(line) <= 200
        assert "\n" not in line
        assert line.endswith(" [PT-EXHAUSTED]")
        assert line.startswith(f"no connection to http://{host}:80"[:150])
        assert "secret" not in line
        assert "token" not in line
        assert "secret" not in "".join(error.__notes__)
        if length == 3:
            assert "billing.py:2, responses not closed" in line
        close(world, response)

    @pytest.mark.parametrize(
        ("doing", "words"),
        [
            ("unread", "responses not closed"),
            ("waiting", "waiting for the server"),
            ("progressing", "being read"),
            ("slowly", "read slowly"),
            ("young", "in use"),
            ("declared", "declared as streams"),
        ],
    )
    def test_what_they_do(self, make_world, doing, words):
        world = make_world(Answers(BIG), max_conns_per_host=1, read_timeout=None)
        response = hold(world)
        stream = world.runtime.streams[0]
        tasks = []

        async def read(pause):
            async for _ in response.aiter_bytes():
                await world.runtime.sleep(pause)

        async def serve(pause):
            while True:
                stream.feed(b"x" * 10_000)
                await world.runtime.sleep(pause)

        if doing == "declared":
            response.long_lived()
        elif doing == "waiting":
            tasks = [world.runtime.start(read(0.0))]
        elif doing == "progressing":
            tasks = [world.runtime.start(serve(0.5)), world.runtime.start(read(0.0))]
        elif doing == "slowly":
            tasks = [world.runtime.start(serve(0.1)), world.runtime.start(read(1.0))]
        if doing == "young":  # who came before got it while we waited
            tasks = [world.runtime.start(world.get())]
            late = world.runtime.start(world.get(timeout=Timeout(acquire=5.0)))
            world.runtime.advance(4.0)
            close(world, response)
            world.runtime.advance(2.0)
            error = late.error
        else:
            world.runtime.advance(20.0)
            error = fail(world, seconds=5.0)
        assert str(error).endswith(f"{words} [PT-EXHAUSTED]")
        for task in tasks:
            task.cancel()
        world.runtime.run_until_idle()
        close(world, response)

    def test_who_dials_is_told(self, make_world):
        """Not in use yet, and holds a slot all the same."""
        world = make_world(lambda dial: None, max_conns_per_host=1, dial_timeout=60.0)
        dialing = world.runtime.start(world.get())
        world.runtime.run_until_idle()
        assert "0 of 1 in use, 1 dialing, 1 waiting [PT-EXHAUSTED]" in str(fail(world))
        dialing.cancel()
        world.runtime.run_until_idle()

    def test_a_line_that_nobody_recorded(self, make_world):
        world = make_world(Answers(HEAD), max_conns_per_host=1, leak_detection="off")
        held = hold(world)
        assert "by a line that was not recorded, responses not closed" in str(fail(world))
        close(world, held)

    @pytest.mark.parametrize(("per_host", "total", "scope"), [(1, 2, "per_host"), (2, 2, "total"), (None, 2, "total")])
    def test_which_limit(self, make_world, per_host, total, scope):
        world = make_world(Answers(HEAD), max_conns_per_host=per_host, max_conns=total)
        held = [hold(world), hold(world, OTHER)]
        error = fail(world)
        assert error.limit_scope == scope
        assert error.limit == (1 if scope == "per_host" else 2)
        close(world, *held)


class TestNotes:
    def test_complete(self, make_world):
        world = make_world(Answers(HEAD), max_conns_per_host=2)
        held = [hold(world), hold(world)]
        world.runtime.advance(36.0)
        assert fail(world).__notes__ == [
            (
                "likely cause: response bodies are not closed (likely, R1); 2 responses from http://192.0.2.1:80 are "
                f"held since up to 41 s by {HOLD}: nobody has read them for 41.0 s or more"
            ),
            f"2 held since up to 41.0 s by {HOLD}, responses not closed",
            "this host: 2 active (2 idle_holder), 0 idle, 0 dialing, 1 waiting, the oldest for 5.00 s",
            "the pool: 2 open, 0 dialing, 1 waiting, 1 hosts",
            "last 41 s: 2 acquired, 2 of them dialed; 0 given back, 0 closed",
            "setting: acquire = 5 s, phase queue",
            "more: python -m pooltransport explain PT-EXHAUSTED",
        ]
        close(world, *held)

    def test_once_a_second_and_host(self, make_world, caplog):
        """A pool that runs dry fails a thousand at once: the others carry the first line."""
        world = make_world(Answers(HEAD), max_conns_per_host=1)
        held = [hold(world), hold(world, OTHER)]
        urls = [URL] * 3 + [OTHER] * 2
        with caplog.at_level(logging.WARNING, "pooltransport.pool"):
            tasks = [world.runtime.start(world.get(url, timeout=Timeout(acquire=5.0))) for url in urls]
            world.runtime.advance(5.5)
        errors = [task.error for task in tasks]
        assert [bool(getattr(error, "__notes__", ())) for error in errors] == [True, False, False, True, False]
        assert all("held since up to 5 s by" in str(error) for error in errors)
        assert all(error.stats is not None and error.holders for error in errors)
        assert [record.origin for record in caplog.records] == ["http://192.0.2.1:80", "http://192.0.2.2:80"]
        assert fail(world, seconds=1.0).__notes__
        close(world, *held)

    def test_the_cause_of_another_host_is_not_told(self, make_world):
        """Also not of one whose name begins alike."""
        world = make_world(Answers(HEAD), max_conns_per_host=1, read_timeout=None)
        world.runtime.on_dial = lambda dial: Answers(HEAD if dial.address.text.endswith(":8080") else BIG)(dial)
        held = [hold(world, "http://192.0.2.1:8080/"), hold(world)]
        reader = world.runtime.start(held[1].aread())
        world.runtime.advance(61.0)
        error = fail(world)
        assert [finding.id for finding in error.stats.findings if finding.id == "R1"] == ["R1"]
        assert not any("not closed" in note for note in error.__notes__)
        reader.cancel()
        world.runtime.run_until_idle()
        close(world, held[0])

    def test_the_last_failed_dial_is_the_cause_if_it_was_lately(self, make_world):
        """Of an error that refers to no request and no frame."""
        world = make_world(Answers(HEAD), max_conns_per_host=2)
        held = hold(world)
        world.runtime.on_dial = lambda dial: dial.refuse(OSError(errno.ECONNREFUSED, "Connection refused"))
        with pytest.raises(ConnectError):
            world.runtime.run(world.get())
        world.runtime.on_dial = Answers(HEAD)
        other = hold(world)
        errors = [fail(world, seconds=3.0), fail(world, seconds=0.5)]
        for error in errors:
            assert isinstance(error.__cause__, ConnectError)
            assert "Connection refused" in str(error.__cause__)
            assert error.__cause__.__traceback__ is None
        assert "last failed dial: connection_refused, 3.0 s ago" in errors[0].__notes__
        world.runtime.advance(60.0)
        assert fail(world).__cause__ is None
        close(world, held, other)

    @pytest.mark.parametrize(
        "kind", [ConnectError, DNSError, TLSError, ProxyError, ConnectTimeout, TLSHandshakeTimeout]
    )
    def test_every_kind_of_failed_dial_is_remembered_by_its_words(self, kind):
        class Own(kind):
            pass

        memory = Memory(0.0)
        for error in (kind("no luck"), Own("no luck"), OSError("no luck")):
            memory.note_dial_failure("host", error)
            kept = memory.dial_failures["host"]
            assert type(kept) is (kind if type(error) is kind else ConnectError)
            assert str(kept) == "no luck"
            assert kept is not error

    def test_what_is_remembered_is_bounded(self):
        memory = Memory(0.0)
        for number in range(1000):
            memory.note_unread(SimpleNamespace(site=None, status_code=number))
            memory.note_dial_failure(number, OSError("x"))
            memory.note_peer(str(number), "192.0.2.1:80")
        assert len(memory.dial_failures) <= 256
        assert len(memory.peers) <= 256
        assert len(memory.unread) == 256
        memory.note_unread(SimpleNamespace(site=None, status_code=1))
        assert memory.unread[None, 1] == 2
        assert memory.peers["999"] == "192.0.2.1:80"


class TestAsAValue:
    def test_pickled(self, make_world):
        world = make_world(Answers(HEAD), max_conns_per_host=1)
        held = hold(world)
        error = fail(world)
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is PoolTimeout
        assert str(copy) == str(error)
        assert copy.__notes__ == error.__notes__
        names = ("origin", "limit_scope", "limit", "waited", "stats", "holders", "suspects", "phase", "setting")
        assert [getattr(copy, name) for name in names] == [getattr(error, name) for name in names]
        assert copy.code == "PT-EXHAUSTED"
        close(world, held)

    def test_raised_from(self, make_world):
        """What an SDK makes of it: its own error with our first line in it."""

        class Other(Exception):
            pass

        world = make_world(Answers(HEAD), max_conns_per_host=1)
        held = hold(world)
        error = fail(world)
        with pytest.raises(Other, match=r"^no connection to .* \[PT-EXHAUSTED\]$"):
            raise Other(str(error)) from error
        assert re.search(r"\[PT-EXHAUSTED\]\nlikely cause: ", "".join(traceback.format_exception(error)))
        close(world, held)

    def test_logged(self, make_world, caplog):
        world = make_world(Answers(HEAD), max_conns_per_host=1, name="billing")
        held = hold(world)
        with caplog.at_level(logging.WARNING, "pooltransport.pool"):
            error = fail(world)
        (record,) = caplog.records
        assert (record.name, record.levelname) == ("pooltransport.pool", "WARNING")
        assert record.getMessage() == str(error)
        told = {
            name: getattr(record, name) for name in ("pool_name", "code", "origin", "limit_scope", "limit", "waited")
        }
        assert told == {
            "pool_name": "billing",
            "code": "PT-EXHAUSTED",
            "origin": "http://192.0.2.1:80",
            "limit_scope": "per_host",
            "limit": 1,
            "waited": 5.0,
        }
        assert record.suspects == [HOLD]
        assert record.exc_info is None
        close(world, held)

    def test_a_filter_that_raises_is_not_met_instead(self, make_world):
        """The error of a logger goes where errors of finalizers go."""
        world = make_world(Answers(HEAD), max_conns_per_host=1)
        held = hold(world)

        def broken(record):
            raise ZeroDivisionError("made up")

        logger = logging.getLogger("pooltransport.pool")
        logger.addFilter(broken)
        try:
            with unraisable() as seen:
                assert isinstance(fail(world), PoolTimeout)
        finally:
            logger.removeFilter(broken)
        assert [type(entry.exc_value) for entry in seen] == [ZeroDivisionError]
        close(world, held)

    def test_a_full_queue_names_its_suspect_too(self, make_world):
        world = make_world(Answers(HEAD), max_conns_per_host=1, max_waiting=0)
        held = hold(world)
        world.runtime.advance(10.0)
        with pytest.raises(PoolQueueFull) as caught:
            world.runtime.run(world.get())
        assert str(caught.value) == (
            "no connection to http://192.0.2.1:80: 0 requests wait already (max_waiting); "
            f"1 held since up to 10 s by {HOLD}, responses not closed [PT-QUEUE-FULL]"
        )
        close(world, held)


def test_a_thousand_at_once_look_once(make_world):
    """Of one moment there is one look, however many fail."""
    world = make_world(Answers(HEAD), max_conns_per_host=50)
    held = [hold(world) for _ in range(50)]
    tasks = [world.runtime.start(world.get(timeout=Timeout(acquire=5.0))) for _ in range(1000)]
    world.runtime.advance(5.5)
    errors = [task.error for task in tasks]
    assert all(isinstance(error, PoolTimeout) for error in errors)
    assert len({id(error.stats.hosts) for error in errors}) <= 3
    close(world, *held)


def test_of_a_host_that_came_after_the_look(make_world):
    """The look of this moment does not know it yet: the numbers of all are told."""
    world = make_world(Answers(HEAD), max_conns=1)
    held = hold(world)
    first = world.runtime.start(world.get(timeout=Timeout(acquire=1.0)))
    world.runtime.advance(0.99)
    assert not first.done
    world.runtime.advance(0.01)
    assert isinstance(first.error, PoolTimeout)
    error = fail(world, "http://192.0.2.77/", seconds=0.02)
    assert str(error).startswith("no connection to http://192.0.2.77:80 within 0.02 s: 1 of 1 in use, ")
    assert error.limit_scope == "total"
    assert not any(note.startswith(("this host", "last ")) for note in error.__notes__)
    close(world, held)


def test_hosts_that_were_told_of_are_bounded(make_world):
    """A thousand, and then it begins anew."""
    world = make_world(Answers(HEAD), max_conns=1)
    held = hold(world)
    tasks = [
        world.runtime.start(world.get(f"http://10.0.{number >> 8}.{number & 255}/", timeout=Timeout(acquire=1.0)))
        for number in range(1003)
    ]
    world.runtime.advance(1.5)
    assert all(task.error.__notes__ for task in tasks)
    assert fail(world, "http://10.0.0.0/", seconds=0.1).__notes__
    close(world, held)


def test_of_lines_that_do_the_same_the_one_with_most_is_named_first(make_world):
    """Whoever opened first, and however old it is."""
    world = make_world(Answers(BIG), max_conns_per_host=4)

    def few():
        return [world.runtime.run(world.transport.round_trip(Request("GET", URL)))]

    def many():
        return [world.runtime.run(world.transport.round_trip(Request("GET", URL))) for _ in range(3)]

    held = few()
    world.runtime.advance(5.0)
    held += many()
    with pytest.raises(PoolTimeout) as caught:
        world.runtime.run(world.get(timeout=Timeout(acquire=1.0)))
    assert [count for _, count, _ in caught.value.holders] == [3, 1]
    assert f":{many.__code__.co_firstlineno + 1}, responses not closed" in str(caught.value)
    for response in held:
        world.runtime.run(response.aclose())
