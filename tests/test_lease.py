"""Leases: from which line, held by whom, and what goes on in them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from functools import partial
from types import SimpleNamespace

import pytest
import trio

import pooltransport as pt
from pooltransport import callers
from pooltransport.lease import Detail, Lease, Site, Watch, activity_of, describe, find_site, name_of, thread_name
from pooltransport.stats import Activity, LeakFound
from pooltransport.testing.fakes import Answers, FakeRuntime, FakeTransport
from tests.engine.scenarios import URL

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
T = 60.0  # what counts as long, in these tests


def lease(site=None, holder=None, now=1000.0):
    conn = SimpleNamespace(key=SimpleNamespace(origin="http://h:80"), runtime=SimpleNamespace(name="threads"))
    return Lease(7, conn, "GET", None, site, now - 1.0, now, 0, holder)


def module(source, name, path="made_up.py", **names):
    """Return the namespace of a module that was made from `source`."""
    space = {"__name__": name, **names}
    exec(compile(source, path, "exec"), space)
    return space


class TestCapture:
    def test_the_first_line_that_is_not_ours(self):
        runtime = FakeRuntime(Answers(HEAD))
        transport = FakeTransport(runtime)
        response = runtime.run(transport.round_trip(pt.Request("GET", URL)))
        (row,) = transport.stats(detail=True).lease_list
        line = self.test_the_first_line_that_is_not_ours.__code__.co_firstlineno + 3
        assert row.site == f"{__file__}:{line}"
        assert row.stack[0] == f"{__file__}:{line} in {type(self).__name__}.test_the_first_line_that_is_not_ours"
        assert len(row.stack) > 1
        runtime.run(response.aclose())
        runtime.run(transport.aclose())

    def test_ignored_modules_are_skipped(self):
        inner = module("def call(fn):\n    return fn()\n", "acme.http", "/acme/http.py")["call"]

        def outer(ignored):
            return inner(lambda: find_site(ignored))

        # The lambda is of this module, and the first line that is found.
        assert find_site(()).code.co_name == "test_ignored_modules_are_skipped"
        assert outer(()).code.co_name == "<lambda>"
        site = inner(FIND_IGNORING)
        assert (site.code.co_filename, site.line) == (__file__, site.line)
        assert site.code.co_name == "test_ignored_modules_are_skipped"
        assert site.via == "call"
        assert str(inner(FIND)) == "/acme/http.py:2"

    def test_depth(self):
        def deep(levels, depth):
            return deep(levels - 1, depth) if levels else find_site((), depth)

        assert deep(5, 1).outer == deep(5, 1).outer
        assert len(deep(5, 1).stack) == 1
        assert len(deep(5, 3).stack) == 3
        stack = deep(3, 1000).stack
        assert [line.rpartition(".")[2] for line in stack[:5]] == ["deep"] * 4 + ["test_depth"]
        assert all(" in " in line and ":" in line for line in stack)

    def test_every_frame_of_ours(self):
        """Nobody is to blame where nobody else is there."""
        found = []
        thread = threading.Thread(target=FIND.__wrapped__, args=(found,))
        thread.start()
        thread.join()
        assert found[0] is None or found[0].code.co_filename == threading.__file__

    def test_the_packages_demo_is_an_application(self):
        from pooltransport import demo

        source = "def open_it(fn):\n    return fn()\n"
        path = demo.__file__.replace("__init__", "made_up")
        call = module(source, "pooltransport.demo.made_up", path)["open_it"]
        assert str(call(FIND)) == f"{path}:2"

    def test_a_line_of_several(self):
        """The line of the instruction, not that of the function or of the statement's begin."""
        site = [
            find_site(()),
        ][0]
        assert site.line == self.test_a_line_of_several.__code__.co_firstlineno + 3

    def test_nobody_knows(self):
        assert name_of(None) == "a line that was not recorded"
        site = find_site(())
        assert name_of(site) == str(site)
        assert Site(site.code, 10_000_000, "").line == site.code.co_firstlineno


# Functions that the finder takes for ours, so that the line that called them is found.
_ours = module(
    "def FIND():\n    return find(())\ndef IGNORING():\n    return find(('acme',))\n"
    "def alone(found):\n    found.append(find(('threading', 'tests', '_pytest')))\n",
    "pooltransport.made_up",
    pt.__file__.replace("__init__", "made_up"),
    find=find_site,
)
FIND, FIND_IGNORING = _ours["FIND"], _ours["IGNORING"]
FIND.__wrapped__ = _ours["alone"]


class TestLevels:
    @staticmethod
    def opened(watch):
        return watch.site()

    def test_off_keeps_nothing(self):
        watch = Watch("off", ())
        assert self.opened(watch) is None
        assert watch.detail(None) is None

    def test_site_keeps_a_line_and_some_callers(self):
        watch = Watch("site", ())

        def deep(levels):
            return deep(levels - 1) if levels else self.opened(watch)

        site = deep(40)
        assert site.code.co_name == "opened"
        assert 2 <= len(site.stack) <= 16
        assert watch.detail(site) is None

    def test_full_keeps_all_callers_and_more(self):
        watch = Watch("full", ())

        def deep(levels):
            return deep(levels - 1) if levels else self.opened(watch)

        site = deep(40)
        assert len(site.stack) > 41
        assert isinstance(watch.detail(site), Detail)
        assert isinstance(watch.detail(None), Detail)

    def test_a_line_that_leaked_once_is_watched_like_full(self):
        watch = Watch("site", ())
        suspect, other = self.opened(watch), watch.site()
        assert watch.detail(suspect) is None
        watch.suspect(suspect)
        watch.suspect(None)
        assert isinstance(watch.detail(self.opened(watch)), Detail)
        assert watch.detail(other) is None
        assert watch.detail(None) is None

    def test_the_lines_that_are_watched_are_bounded(self):
        watch = Watch("site", ())
        site = self.opened(watch)
        for number in range(1000):
            watch.suspect(site._replace(lasti=-number - 1))
        watch.suspect(site)
        assert watch.detail(site) is None

    def test_stacks_of_different_depth_one_after_another(self):
        """What was learnt at one call does not mislead at the next, nested or not."""
        watch = Watch("site", ())
        nest = module(
            "def nested(fn, levels):\n    return nested(fn, levels - 1) if levels else fn()\n",
            "pooltransport.made_up_too",
            pt.__file__.replace("__init__", "made_up_too"),
        )["nested"]

        def app(levels):
            return nest(watch.site, levels)

        for levels in (0, 3, 1, 1, 5, 0, 2, 7, 7, 0):
            site = app(levels)
            assert (site.code.co_name, site.via) == ("app", "nested")
            assert self.opened(watch).code.co_name == "opened"


class TestDetail:
    def test_accesses_are_the_last_four_ever_more_rarely(self):
        detail = Detail(())
        lines = []
        for _ in range(40):
            detail.access()
            lines.append(find_site(()).line - 1)
        assert len(detail.accesses) == 4
        assert {site.line for site in detail.accesses} == set(lines)

        def counted(number):
            before = tuple(detail.accesses)
            detail.access()
            return number if tuple(detail.accesses) is not before and detail.accesses[-1] is not before[-1] else None

        detail = Detail(())
        detail.access()
        told = [counted(number) for number in range(2, 70)]
        assert [number for number in told if number] == [2, 3, 4, 8, 16, 32, 64]

    def test_who_closed_it(self):
        detail = Detail(())
        assert detail.closed_at is None
        detail.close()
        assert str(detail.closed_at).startswith(f"{__file__}:")

    def test_names_on_a_thread(self):
        found = []
        thread = threading.Thread(target=lambda: found.append(Detail(())), name="worker-3")
        thread.start()
        thread.join()
        assert (found[0].thread, found[0].task) == ("worker-3", None)

    def test_names_on_asyncio(self):
        async def main():
            async def task():
                return Detail(())

            return await asyncio.create_task(task(), name="invoice-91")

        detail = asyncio.run(main())
        assert (detail.thread, detail.task) == (threading.current_thread().name, "invoice-91")

    def test_names_on_trio(self):
        found = []

        async def task():
            found.append(Detail(()))

        async def main():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(task, name="invoice-92")

        trio.run(main)
        assert found[0].task == "invoice-92"

    def test_outside_of_any_task(self):
        async def main():
            found = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(lambda: found.set_result(Detail(())))
            return await found

        assert asyncio.run(main()).task is None
        assert Detail(()).task is None

    def test_a_thread_that_is_gone_is_a_number(self):
        assert thread_name(123456789) == "123456789"


HEADERS = ((b"Content-Type", b"text/plain"),)
EVENTS = ((b"X", b"y"), (b"content-type", b"Text/Event-Stream; charset=utf-8"))
# What happened, in seconds since the connection was acquired: headers came, a reader was last there, it waits since
# then, it waited for so long in all, so many bytes came; something moved last. What it is at `age`, where 60 is long.
# Headers came after a second unless said otherwise.
MUCH, SOME = 10**7, 10**6
TABLE = [
    ("young", {"age": 59.9, "headers": 0.1}, "recent"),
    ("young, and declared", {"age": 59.9, "headers": 0.1, "stream": True}, "recent"),
    ("of age", {"age": 60.2, "headers": 0.1}, "idle_holder"),
    ("exactly of age, without headers", {"age": 60.0, "headers": None}, "slow_server"),
    ("no headers, but something moved", {"age": 100.0, "moved": 40.1, "headers": None}, "progressing"),
    ("no headers, nothing moved for just so long", {"age": 100.0, "moved": 40.0, "headers": None}, "slow_server"),
    ("unread for less than so long", {"age": 100.0, "headers": 40.1}, "progressing"),
    ("unread for exactly so long", {"age": 100.0, "headers": 40.0}, "idle_holder"),
    ("read a while ago", {"age": 100.0, "read": 40.0, "bytes": MUCH}, "idle_holder"),
    ("declared", {"age": 100.0, "stream": True}, "declared_stream"),
    ("declared, without headers", {"age": 100.0, "stream": True, "headers": None}, "declared_stream"),
    ("events", {"age": 100.0, "fields": EVENTS}, "declared_stream"),
    ("events, said not to be held", {"age": 100.0, "fields": EVENTS, "stream": False}, "idle_holder"),
    ("a reader waits for exactly so long", {"age": 100.0, "waits": 40.0, "bytes": MUCH}, "slow_server"),
    ("a reader waits for less", {"age": 100.0, "waits": 40.1, "waited": 20.0, "bytes": MUCH}, "progressing"),
    ("a reader has just come", {"age": 100.0, "waits": 99.0}, "progressing"),
    ("drips on", {"age": 101.0, "read": 99.0, "waits": 99.5, "waited": 60.0, "bytes": 102_399}, "slow_server"),
    ("fast enough", {"age": 101.0, "read": 100.0, "waits": 100.5, "waited": 60.0, "bytes": 102_400}, "progressing"),
    ("it drips, between two reads", {"age": 101.0, "read": 100.9, "waited": 51.0, "bytes": 100}, "slow_server"),
    ("drips, half waited for", {"age": 101.0, "read": 100.9, "waited": 50.0, "bytes": 100}, "progressing"),
    ("the reader was away", {"age": 101.0, "read": 100.9, "waited": 9.9, "bytes": SOME}, "slow_reader"),
    ("away, waits now", {"age": 101.0, "read": 95.0, "waits": 100.9, "waited": 9.0, "bytes": SOME}, "slow_reader"),
    ("the reader waited a tenth", {"age": 101.0, "read": 100.9, "waited": 10.0, "bytes": SOME}, "progressing"),
    ("headers came lately", {"age": 100.0, "headers": 41.0, "read": 99.0, "waited": 0.1, "bytes": SOME}, "progressing"),
]  # fmt: skip


def made(what):
    row = lease(holder=None)
    start = row.acquired_at
    if what.get("headers", 1.0) is not None:
        row.headers = what.get("fields", HEADERS)
        row.headers_at = start + what.get("headers", 1.0)
    if "read" in what:
        row.read_at = start + what["read"]
    if "waits" in what:
        row.reading_since = start + what["waits"]
    if "moved" in what:
        row.moved_at = start + what["moved"]
    if "stream" in what:
        row.is_stream = what["stream"]
    row.waited = what.get("waited", 0.0)
    row.bytes_read = what.get("bytes", 0)
    return row, start + what["age"]


class TestActivity:
    @pytest.mark.parametrize(("what", "activity"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
    def test_what_goes_on(self, what, activity):
        row, now = made(what)
        assert activity_of(row, now, T).value == activity

    def test_every_class_is_in_the_table(self):
        assert {row[2] for row in TABLE} == {activity.value for activity in Activity}

    @pytest.mark.parametrize(
        ("value", "events"),
        [(b"text/event-stream", True), (b"TEXT/EVENT-STREAM;x=y", True), (b"text/plain", False), (b"", False)],
    )
    def test_a_stream_of_events(self, value, events):
        row = lease()
        row.headers = ((b"CONTENT-TYPE", value),)
        assert not row.is_stream  # not before the headers are known to be there
        row.headers_at = 1000.5
        assert row.is_stream is events

    def test_unread(self):
        row = lease()
        assert (row.is_unread, row.unread_for(1100.0)) == (False, 0.0)
        row.headers_at = 1001.0
        assert (row.is_unread, row.unread_for(1100.0)) == (True, 99.0)
        row.read_at = 1050.0
        assert row.unread_for(1100.0) == 50.0
        row.reading_since = 1060.0
        assert (row.is_unread, row.unread_for(1100.0)) == (False, 0.0)
        row.reading_since = 0.0
        row.is_stream = True
        assert (row.is_unread, row.unread_for(1100.0)) == (False, 0.0)


class TestLease:
    def test_it_ends_once(self):
        row = lease()
        assert row.is_open
        assert row.end()
        assert not row.end()
        assert not row.is_open
        assert row.found is LeakFound.GC

    def test_describe(self):
        site = find_site(())
        row = lease(site, holder=threading.get_ident())
        row.status_code, row.bytes_read, row.bytes_expected = 200, 10, 100
        told = describe(row, 999.0, T)  # a clock that was read a moment before
        assert (told.age_s, told.activity, told.reader_waiting_s, told.unread_s) == (0.0, "recent", None, None)
        row.headers_at = 1001.0
        told = describe(row, 1070.0, T)
        assert told == (
            7, "http://h:80", "GET", 200, 70.0, "idle_holder", 10, 100, None, 69.0,
            str(site), site.stack, threading.current_thread().name, None,
        )  # fmt: skip
        row.reading_since = 1060.0
        told = describe(row, 1070.0, T)
        assert (told.activity, told.reader_waiting_s, told.unread_s) == ("progressing", 10.0, None)
        unknown = describe(lease(), 1001.0, T)
        assert (unknown.site, unknown.stack) == ("", ())

    def test_the_task_that_holds(self):
        async def main():
            async with pt.AsyncTransport(dial=refuse) as transport:
                with contextlib.suppress(pt.TransportError):
                    await transport.round_trip(pt.Request("GET", URL))
            import weakref

            task = asyncio.current_task()
            task.set_name("held-by")
            return describe(lease(holder=weakref.ref(task)), 1001.0, T).task

        def refuse(request):
            raise ConnectionRefusedError

        assert asyncio.run(main()) == "held-by"


def test_long_lived():
    """Said, and taken back."""
    runtime = FakeRuntime(Answers(HEAD))
    transport = FakeTransport(runtime, lease_warn_after=1.0)
    response = runtime.run(transport.round_trip(pt.Request("GET", URL)))
    runtime.advance(5.0)

    def activity():
        (row,) = transport.stats(detail=True).lease_list
        return row.activity

    assert activity() == "idle_holder"
    response.long_lived()
    assert activity() == "declared_stream"
    response.long_lived(False)
    assert activity() == "idle_holder"
    runtime.run(response.aclose())
    runtime.run(transport.aclose())


class TestLibraries:
    """Frames of libraries that call us through an adapter are nobody's to blame, and say which line is right."""

    @pytest.fixture
    def known(self, monkeypatch):
        monkeypatch.setattr(callers, "_libraries", {})
        monkeypatch.setattr(callers, "_prefixes", ())
        callers.skip_library("madeup", "madeup_client.")
        callers.skip_library("", "madeup_around")
        return {
            name: module("def call(fn):\n    return fn()\n", name, f"/{name}.py")["call"]
            for name in ("madeup_client.core", "madeup_around.spans", "madeup_clients")
        }

    @pytest.mark.parametrize("find", ["find_site", "watch"])
    def test_the_outermost_says_what_was_called(self, known, find):
        client, around, other = known.values()
        watch = Watch("site", ())
        look = FIND if find == "find_site" else watch.site

        def app(*layers):
            fn = look
            for layer in reversed(layers):
                fn = partial(layer, fn)
            return fn()

        for _ in range(2):  # the second time from what is known
            assert app(client).via == "madeup"
            assert app(around, client).via == "madeup", "what stands around it is passed over"
            assert app(client, around).via == "madeup"
            assert app(client).code.co_name == "app"
            assert str(app(other, client)).startswith("/madeup_clients.py:")
