"""What is said of responses that nobody closed, or that are held for long: to whom, in which order, how loudly."""

from __future__ import annotations

import gc
import logging
import re
import threading
import warnings

import pytest

from pooltransport import ClientTrace, Request
from pooltransport.engine import reporting
from pooltransport.errors import StreamConsumed, UnclosedResponseWarning
from pooltransport.leaks import LeakLog, Outbox
from pooltransport.stats import CloseReason
from pooltransport.testing.fakes import Answers
from tests.engine.scenarios import OTHER, URL
from tests.support.unraisable import unraisable

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n"


def open_response(world, url=URL, **fields):
    return world.runtime.run(world.transport.round_trip(Request("GET", url, **fields)))


LINE = f"{__file__}:{open_response.__code__.co_firstlineno + 1}"


def drop(world, count=1, url=URL):
    for _ in range(count):
        open_response(world, url)


def said(world):
    """Come to a safe point; return the warnings that were told there."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        world.transport.stats()
    return [str(warning.message) for warning in caught]


class TestLeakText:
    def test_exactly(self, make_world):
        world = make_world(Answers((HEAD + b"x" * 16384,)), max_conns_per_host=20)

        async def read_some(response):
            return len(await anext(aiter(response.aiter_bytes())))

        response = open_response(world)
        assert world.runtime.run(read_some(response)) == 16384
        world.runtime.advance(12.3)
        del response
        (text,) = said(world)
        assert text == (
            "response never closed: GET http://192.0.2.1:80 [200], 16384 of 1048576 body bytes read, dropped 12.3 s "
            "after it was opened. Its connection was closed instead of reused; the slot was returned "
            "(0 of 20 in use now).\n"
            f"Opened at {LINE} in open_response, thread {threading.current_thread().name!r}. "
            "Leak number 1 from this line.\n"
            "Fix: `async with await transport.round_trip(...) as response:` (or response.aclose()). [PT-LEAK]"
        )

    def test_in_use_is_of_the_host_whose_limit_it_is(self, make_world):
        world = make_world(Answers(HEAD), max_conns_per_host=3, max_conns=10)
        held = [open_response(world), open_response(world), open_response(world, OTHER), open_response(world, OTHER)]
        drop(world)
        assert "(2 of 3 in use now)" in said(world)[0]
        for response in held:
            world.runtime.run(response.aclose())
        world.runtime.advance(1.0)

    @pytest.mark.parametrize(("options", "text"), [({"max_conns": 10}, "(1 of 10 in use"), ({}, "(1 in use now)")])
    def test_in_use_of_all(self, make_world, options, text):
        world = make_world(Answers(HEAD), **options)
        held = open_response(world, OTHER)
        drop(world)
        assert text in said(world)[0]
        world.runtime.run(held.aclose())

    def test_neither_path_nor_query(self, make_world):
        world = make_world(Answers(HEAD))
        drop(world, url=URL + "secret?token=abc")
        (text,) = said(world)
        assert "secret" not in text
        assert "token" not in text

    def test_the_path_if_asked_for(self, make_world):
        world = make_world(Answers(HEAD), show_paths=True)
        drop(world, url=URL + "v1/orders?token=abc")
        (text,) = said(world)
        assert "GET http://192.0.2.1:80/v1/orders [200]" in text
        assert "token" not in text

    def test_off_records_no_line(self, make_world):
        world = make_world(Answers(HEAD), leak_detection="off")
        drop(world)
        (text,) = said(world)
        assert "Opened at a line that was not recorded, thread" in text
        (finding,) = [finding for finding in world.transport.stats().findings if finding.id == "R1"]
        assert "1 of them, in all, were opened at a line that was not recorded" in finding.evidence

    def test_a_body_of_unknown_length(self, make_world):
        world = make_world(Answers(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"))
        drop(world)
        assert "0 body bytes read" in said(world)[0]

    def test_lines_that_are_evidence_are_bounded(self, make_world, monkeypatch):
        monkeypatch.setattr(reporting, "_MOST_SITES", 1)
        world = make_world(Answers(HEAD))
        drop(world, 2)
        drop(world, url=OTHER)
        said(world)
        assert world.transport._engine.ledger.reports.leak_sites() == {"http://192.0.2.1:80": ((LINE, 2),)}

    def test_sites_are_of_their_own_host(self, make_world):
        world = make_world(Answers(HEAD))
        drop(world, 2)

        def elsewhere():
            world.runtime.run(world.transport.round_trip(Request("GET", OTHER)))

        elsewhere()
        said(world)
        findings = {finding.evidence[0].split()[3]: finding for finding in world.transport.stats().findings}
        assert f"2 of them, in all, were opened at {LINE}" in findings["http://192.0.2.1:80"].evidence
        assert len(findings["http://192.0.2.1:80"].evidence) == 2
        where = f"{__file__}:{elsewhere.__code__.co_firstlineno + 1}"
        assert f"1 of them, in all, were opened at {where}" in findings["http://192.0.2.2:80"].evidence


class TestOverdueText:
    def overdue(self, make_world, caplog, **options):
        world = make_world(Answers((HEAD,)), lease_warn_after=60.0, read_timeout=None, **options)
        caplog.clear()  # a word about the option
        return world, caplog

    def test_read_by_nobody(self, make_world, caplog):
        world, _ = self.overdue(make_world, caplog)
        response = open_response(world)
        world.runtime.advance(60.5)
        (record,) = caplog.records
        assert re.sub(r"6\d\.\d s", "60 s", record.getMessage()) == (
            "response held for 60 s (idle_holder): GET http://192.0.2.1:80 [200], its headers came and nobody has read "
            "it for 60 s.\n"
            f"Opened at {LINE} in open_response, thread {threading.current_thread().name!r}.\n"
            "If it is forgotten: `async with await transport.round_trip(...) as response:` (or response.aclose()). "
            "[PT-OVERDUE]"
        )
        assert record.levelname == "WARNING"
        assert (record.site, record.activity, record.leak_task) == (LINE, "idle_holder", None)
        world.runtime.run(response.aclose())

    def test_the_server_is_slow(self, make_world, caplog):
        world, _ = self.overdue(make_world, caplog)
        response = open_response(world)
        reader = world.runtime.start(response.aread())
        with caplog.at_level(logging.INFO, "pooltransport.leak"):
            world.runtime.advance(61.5)
        (record,) = caplog.records
        text = "the server sends nothing, or hardly anything: 0 bytes.\nOpened at "
        assert text in record.getMessage()
        assert record.getMessage().endswith("'. [PT-OVERDUE]")
        assert record.levelname == "INFO"
        reader.cancel()
        world.runtime.run_until_idle()

    def test_the_reader_is_slow(self, make_world, caplog):
        world, _ = self.overdue(make_world, caplog)
        response = open_response(world)
        (stream,) = world.runtime.streams

        async def serve():
            while True:
                stream.feed(b"x" * 5000)
                await world.runtime.sleep(0.5)

        async def read():
            async for _ in response.aiter_bytes():
                await world.runtime.sleep(2.0)

        tasks = [world.runtime.start(serve()), world.runtime.start(read())]
        with caplog.at_level(logging.INFO, "pooltransport.leak"):
            world.runtime.advance(62.0)
        (record,) = caplog.records
        assert "its reader comes rarely: it waited for the server for 0.0 s of that." in record.getMessage()
        assert record.levelname == "INFO"
        for task in tasks:
            task.cancel()
        world.runtime.run_until_idle()

    def test_many_of_one_line_are_told_of_once(self, make_world, caplog):
        """To the logger; the hook is told of each."""
        told = []
        world, _ = self.overdue(make_world, caplog, trace=ClientTrace(lease_overdue=told.append))
        held = [open_response(world) for _ in range(25)]
        world.runtime.advance(61.5)
        assert len(told) == 25
        assert len(caplog.records) == 2  # the 1st and the 10th
        for response in held:
            world.runtime.run(response.aclose())
        world.runtime.advance(1.0)


class TestHowOften:
    def test_the_1st_the_10th_the_100th(self):
        log = LeakLog()
        loud = [number for number in range(1, 1001) if log.count("a:1", 5.0) == (number, True)]
        assert loud == [1, 10, 100, 1000]
        assert log.count("b:1", 5.0) == (1, True)

    def test_or_once_a_minute(self):
        log = LeakLog()
        said = [now for now in range(0, 200, 5) if log.count("a:1", float(now))[1]]
        assert said == [0, 45, 105, 165]  # the 10th came at 45

    def test_lines_are_bounded(self):
        log = LeakLog()
        for number in range(1001):
            log.count(f"a:{number}", 5.0)
        assert log.count("a:1", 5.0) == (2, False)
        log.count("a:2000", 5.0)  # begins anew
        assert log.count("a:1", 5.0) == (1, True)

    def test_of_a_transport(self, make_world, caplog):
        told = []
        world = make_world(Answers(HEAD), trace=ClientTrace(leaked=told.append))
        with caplog.at_level(logging.WARNING, "pooltransport.leak"):
            numbers = []
            for _ in range(30):
                drop(world)
                numbers += [int(text.partition("Leak number ")[2].split()[0]) for text in said(world)]
            assert numbers == [1, 10]
            world.runtime.advance(61.0)
            drop(world)
            assert len(said(world)) == 1
        assert [report.number for report in told] == list(range(1, 32))
        assert [record.number for record in caplog.records] == [1, 10, 31]
        assert world.transport.stats().leaks == 31


class TestToWhom:
    def test_counter_hook_logger_warning(self, make_world):
        order = []
        world = make_world(Answers(HEAD), trace=ClientTrace(leaked=lambda report: note("hook")))

        def note(who):
            order.append((who, bench.leaks))

        class Counting:
            @property
            def leaks(self):
                return world.transport.stats().leaks

        bench = Counting()
        logger = logging.getLogger("pooltransport.leak")

        def listen(record):
            note("logger")
            return True

        before = warnings.showwarning
        logger.addFilter(listen)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                warnings.showwarning = lambda *args: note("warning")
                drop(world)
                world.transport.stats()
        finally:
            logger.removeFilter(listen)
            warnings.showwarning = before
        assert order == [("hook", 1), ("logger", 1), ("warning", 1)]

    def test_the_record_has_every_field(self, make_world, caplog):
        world = make_world(Answers(HEAD), leak_detection="full")
        drop(world)
        said(world)
        (record,) = [record for record in caplog.records if record.name == "pooltransport.leak"]
        assert (record.method, record.origin, record.status_code) == ("GET", "http://192.0.2.1:80", 200)
        assert (record.site, record.function, record.found) == (LINE, "open_response", "gc")
        assert (record.bytes_read, record.bytes_expected, record.number) == (0, 1048576, 1)
        assert record.leak_stack[0] == f"{LINE} in open_response"
        assert record.leak_thread == threading.current_thread().name
        assert record.leak_task is None

    def test_hooks_of_the_request_are_told_before_those_of_the_transport(self, make_world):
        told = []
        world = make_world(Answers(HEAD), trace=ClientTrace(leaked=lambda report: told.append("transport")))
        open_response(world, trace=ClientTrace(leaked=lambda report: told.append("request")))
        world.transport.stats()
        assert told == ["request", "transport"]

    @pytest.mark.parametrize("hook", ["leaked", "lease_overdue"])
    def test_a_hook_that_raises(self, make_world, caplog, hook):
        """Is counted, told of once, and the logger hears all the same."""

        def broken(report):
            raise ZeroDivisionError("made up")

        world = make_world(Answers(HEAD), trace=ClientTrace(**{hook: broken}), lease_warn_after=10.0)
        held = [open_response(world) for _ in range(2)]
        if hook == "lease_overdue":
            world.runtime.advance(12.0)
            for response in held:
                world.runtime.run(response.aclose())
            world.runtime.advance(1.0)
        else:
            del held
            assert len(said(world)) == 1
        stats = world.transport.stats()
        assert (stats.hook_errors, stats.hook_errors_by_hook) == (2, {hook: 2})
        texts = [record.getMessage() for record in caplog.records]
        assert texts.count(f"the hook {hook} raised ZeroDivisionError('made up')") == 1
        assert any("[PT-LEAK]" in text or "[PT-OVERDUE]" in text for text in texts)

    def test_warnings_as_errors(self, make_world):
        """They reach `sys.unraisablehook`, and nobody who is there; hook, logger and slot had theirs before."""
        told = []
        world = make_world(Answers(HEAD), trace=ClientTrace(leaked=told.append), max_conns_per_host=1)
        with unraisable() as seen, warnings.catch_warnings():
            warnings.simplefilter("error")
            for _ in range(3):
                drop(world)
                world.transport.stats()
        assert [type(entry.exc_value) for entry in seen] == [UnclosedResponseWarning]
        assert len(told) == 3
        assert world.transport.stats().leaks == 3

    def test_a_logger_and_a_showwarning_that_raise(self, make_world):
        world = make_world(Answers(HEAD))
        logger = logging.getLogger("pooltransport.leak")

        def broken(*args):
            raise ZeroDivisionError("made up")

        before = warnings.showwarning
        logger.addFilter(broken)
        try:
            with unraisable() as seen, warnings.catch_warnings():
                warnings.simplefilter("always")
                warnings.showwarning = broken
                drop(world)
                assert world.transport.stats().leaks == 1
        finally:
            logger.removeFilter(broken)
            warnings.showwarning = before
        assert [type(entry.exc_value) for entry in seen] == [ZeroDivisionError] * 2

    def test_a_hook_may_ask_for_statistics_and_close(self, make_world):
        seen = []
        world = make_world(Answers(HEAD))

        def look(report):
            seen.append(world.transport.stats().leaks)
            world.transport.close_idle_connections()

        for _ in range(2):
            open_response(world, trace=ClientTrace(leaked=look))
        world.transport.stats()
        assert seen == [1, 2]


class TestFull:
    def test_the_last_reads_are_told(self, make_world):
        world = make_world(Answers((HEAD, b"x" * 10, b"y" * 10)), leak_detection="full")

        async def read_two():
            response = await world.transport.round_trip(Request("GET", URL))
            pieces = aiter(response.aiter_bytes())
            return [await anext(pieces), await anext(pieces)]

        world.runtime.run(read_two())
        (text,) = said(world)
        line = f"{__file__}:{read_two.__code__.co_firstlineno + 3}"
        assert f"from this line.\n  last read at {line}\n  last read at {line}\nFix: " in text

    def test_where_it_was_closed_is_told_to_who_reads_then(self, make_world):
        world = make_world(Answers(HEAD), leak_detection="full")
        response = open_response(world)

        def close():
            world.runtime.run(response.aclose())

        close()
        line = f"{__file__}:{close.__code__.co_firstlineno + 1}"
        with pytest.raises(StreamConsumed) as caught:
            world.runtime.run(response.aread())
        assert str(caught.value) == (
            f"the response was closed before its body was read to the end; it was closed at {line}"
        )

    def test_without_full_it_is_not(self, make_world):
        world = make_world(Answers(HEAD), leak_detection="site")
        response = open_response(world)
        world.runtime.run(response.aclose())
        with pytest.raises(StreamConsumed, match="read to the end$"):
            world.runtime.run(response.aread())

    def test_of_a_line_that_leaked_once_it_is(self, make_world):
        world = make_world(Answers(HEAD), leak_detection="site")
        drop(world)
        said(world)
        response = open_response(world)
        world.runtime.run(response.aclose())
        with pytest.raises(StreamConsumed, match="it was closed at "):
            world.runtime.run(response.aread())

    @pytest.mark.parametrize("kind", ["list", "dict", "attribute", "module"])
    def test_who_holds_it_is_told(self, make_world, caplog, kind):
        """By type and name, never by value; that of a response which is still there."""
        world = make_world(Answers(HEAD), leak_detection="full", lease_warn_after=10.0)
        keeper = {"list": list, "dict": dict, "attribute": Keeper, "module": dict}[kind]()
        if kind == "list":
            keeper += [open_response(world), "secret"]
        elif kind == "dict":
            keeper["cached_answer"] = open_response(world)
        elif kind == "attribute":
            keeper.answer = open_response(world)
        else:
            globals()["KEPT"] = open_response(world)
        world.runtime.advance(12.0)
        (record,) = caplog.records
        expected = {
            "list": "  held by a list of 2\n",
            "dict": "  held by the entry cached_answer of a dict\n",
            "attribute": "  held by a Keeper\n",
            "module": f"  held by the entry KEPT of a dict of module {__name__}\n",
        }[kind]
        assert expected in record.getMessage()
        assert "secret" not in record.getMessage()
        response = globals().pop("KEPT") if kind == "module" else next(iter(holders(keeper)))
        world.runtime.run(response.aclose())


class Keeper:
    """Something of the application's that has a response."""

    __slots__ = ("answer",)


def holders(keeper):
    if isinstance(keeper, Keeper):
        return [keeper.answer]
    return keeper.values() if isinstance(keeper, dict) else keeper


class TestEnds:
    """A response that its loop, transport or process did not outlive is a leak, once."""

    @pytest.mark.parametrize("later", ["dropped", "closed", "read"])
    def test_left_open_by_a_with_block(self, make_world, later):
        world = make_world(Answers(HEAD), lease_warn_after=10.0)
        kept = []

        async def leave():
            async with world.transport:
                kept.append(await world.transport.round_trip(Request("GET", URL)))
                await world.runtime.sleep(20.0)

        with pytest.warns(ResourceWarning) as caught:  # noqa: PT031 - some safe point says it
            world.runtime.run(leave())
            world.transport.stats()
        texts = [str(warning.message) for warning in caught]
        assert sum("response never closed" in text for text in texts) == 1
        assert any("It was still open when its transport, or the loop, was closed" in text for text in texts)
        assert sum("responses open" in text for text in texts) == 1
        stats = world.transport.stats()
        assert (stats.leaks, stats.leaks_by_found["close"]) == (1, 1)
        if later == "closed":
            world.runtime.run(kept[0].aclose())
        elif later == "read":
            with pytest.raises(Exception, match="closed"):
                world.runtime.run(kept[0].aread())
        kept.clear()
        gc.collect()
        assert said(world) == []
        assert world.transport.stats().leaks == 1

    def test_the_text_of_the_transport_says_what_to_do(self, make_world):
        world = make_world(Answers(HEAD))
        kept = []

        async def leave():
            async with world.transport:
                kept.append(await world.transport.round_trip(Request("GET", URL)))

        with pytest.warns(ResourceWarning) as caught:
            world.runtime.run(leave())
        (text,) = [str(warning.message) for warning in caught if "never closed" not in str(warning.message)]
        assert text.startswith(
            "FakeTransport left with 1 responses open; their connections were closed. "
            "Fix: close each response before, or use it in a `with` block of its own. Made at "
        )

    def test_the_loop_ends(self, make_world, caplog):
        """No word follows that it was no leak."""
        world = make_world(Answers(HEAD), lease_warn_after=10.0)
        held = open_response(world)
        world.runtime.advance(12.0)
        caplog.clear()
        with caplog.at_level(logging.INFO, "pooltransport.leak"), pytest.warns(ResourceWarning):  # noqa: PT031 - as above
            world.transport._engine.ledger.drop_runtime(world.runtime)
            world.transport.stats()
        assert ["never closed" in record.getMessage() for record in caplog.records] == [True]
        assert held.is_closed in {True, False}
        del held
        assert said(world) == []
        assert world.transport.stats().leaks_by_found == {"gc": 0, "rescue": 0, "close": 1, "exit": 0}


class TestOutbox:
    def test_one_word_that_fails_loses_no_other(self):
        outbox = Outbox()
        said = []

        def broken():
            raise ZeroDivisionError

        for word in (lambda: said.append(1), broken, lambda: said.append(2)):
            outbox.append(word)
        with pytest.raises(ZeroDivisionError):
            outbox.tell()
        outbox.tell()
        assert said == [1, 2]
        assert not outbox

    def test_whoever_tells_is_asked_again_by_a_word_of_its_own(self):
        outbox = Outbox()
        said = []
        outbox.append(lambda: (outbox.tell(), said.append(1)))
        outbox.append(lambda: said.append(2))
        outbox.tell()
        assert said == [1, 2]

    def test_patience_with_another_thread(self):
        outbox = Outbox()
        begun, go_on, said = threading.Event(), threading.Event(), []

        def slow():
            begun.set()
            go_on.wait(10)
            said.append("slow")

        outbox.append(slow)
        thread = threading.Thread(target=outbox.tell)
        thread.start()
        assert begun.wait(10)
        outbox.tell()  # without patience: not a word
        assert said == []
        timer = threading.Timer(0.05, go_on.set)
        timer.start()
        outbox.tell(patience=10.0)
        assert said == ["slow"]
        thread.join()
        timer.join()


def test_what_a_connection_says_of_the_leak(make_world):
    reasons = []
    world = make_world(Answers(HEAD), trace=ClientTrace(conn_closed=lambda info: reasons.append(info.reason)))
    drop(world)
    said(world)
    assert reasons == [CloseReason.LEAKED]
