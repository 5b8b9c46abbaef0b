"""The pytest plugin in suites of their own: what fails, what passes, and in which words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.timeout(180)  # several runs of pytest each, on a machine that may be busy

ROOT = Path(__file__).parent.parent.parent

ERROR = "pooltransport_leaks = error"


def test_a_clean_suite_passes(suite):
    suite.set(ERROR)
    suite.write(
        test_clean="""
        @pytest.fixture(scope="session")
        def shared():
            with pt.Transport() as transport:
                yield transport

        @pytest.fixture(scope="module")
        def streaming(shared):
            with shared.round_trip(pt.Request("GET", BIG)) as response:
                yield response

        @pytest.mark.parametrize("number", range(3))
        def test_shared(shared, number):
            assert pt.Client(transport=shared).get(URL).content == b"hello"

        def test_default():
            assert pt.Client().get(URL).content == b"hello"

        def test_streaming(streaming):
            assert next(iter(streaming.iter_bytes()))

        def test_a_failure_holds_what_it_opened(shared):
            response = shared.round_trip(pt.Request("GET", BIG))
            assert response.status_code == 500

        @pytest.mark.xfail
        def test_so_does_an_expected_one(shared):
            response = shared.round_trip(pt.Request("GET", BIG))
            assert response.status_code == 500

        def test_a_skipped_one(shared):
            response = shared.round_trip(pt.Request("GET", BIG))
            pytest.skip()

        def test_looks_closely():
            with pt.Transport() as transport:
                response = transport.round_trip(pt.Request("GET", BIG))
                lease, = transport.stats(detail=True).lease_list
                response.close()
                with pytest.raises(pt.StreamConsumed, match="closed at .*test_clean.py"):
                    response.read()

        def test_unless_told_otherwise():
            with pt.Transport(leak_detection="off") as transport:
                with transport.round_trip(pt.Request("GET", BIG)):
                    assert transport.stats(detail=True).lease_list[0].site == ""

        def test_what_ends_soon_is_waited_for():
            transport = pt.Transport()
            response = transport.round_trip(pt.Request("GET", BIG))
            threading.Timer(0.05, lambda: (response.close(), transport.close())).start()
        """
    )
    result = suite.run(passed=8, failed=1, xfailed=1, skipped=1)
    result.stdout.fnmatch_lines(["*pooltransport leaks*", "*GET http://*still open, nobody reads it"])
    assert result.ret == 1


KINDS = """
    TRANSPORT = pt.Transport(name="global")

    def open_one():
        return TRANSPORT.round_trip(pt.Request("GET", BIG))

    def test_dropped():
        open_one()

    def test_in_a_cycle():
        response = open_one()
        cycle = [response]
        cycle.append(cycle)

    KEPT = []

    def test_kept():
        response = open_one()
        next(iter(response.iter_bytes(100)))
        KEPT.append(response)

    def test_in_a_thread():
        thread = threading.Thread(target=open_one, name="worker-7")
        thread.start()
        thread.join()

    def test_before_its_transport():
        with pytest.warns(ResourceWarning, match="left with 1 responses open"):
            with pt.Transport() as transport:
                response = transport.round_trip(pt.Request("GET", BIG))

    @pytest.fixture
    def opened():
        return open_one()

    def test_by_a_fixture(opened):
        pass

    @pytest.fixture
    def opens_late():
        yield
        open_one()

    def test_by_a_teardown(opens_late):
        pass

    def test_transport_left_open():
        KEPT.append(pt.Transport(name="mine"))
        pt.Client(transport=KEPT[-1]).get(URL)

    def test_transport_dropped():
        pt.Client(transport=pt.Transport()).get(URL)

    def test_counts_taken_anew():
        def cut_off():
            raise ZeroDivisionError
        ledger = TRANSPORT._engine.ledger
        with pytest.raises(ZeroDivisionError):
            ledger.apply(cut_off)

    def test_books_that_do_not_agree():
        TRANSPORT._engine.ledger.pool._waiting += 1

    def test_books_that_were_put_right():
        TRANSPORT._engine.ledger.pool._waiting -= 1
    """


class TestKinds:
    """Each way to leave something open, with its words."""

    @pytest.fixture
    def lines(self, suite):
        suite.set(ERROR)
        suite.write(test_kinds=KINDS)
        result = suite.run(passed=12, errors=11)
        assert result.ret == 1
        return result

    def test_in_words(self, lines):
        out = lines.stdout
        what = "  GET http://127.0.0.1:* [[]200[]], {} of 4000000 body bytes read, *.* s old: {}"
        dropped = "dropped unclosed, and found by the garbage collector"
        fix = "    Fix: `with transport.round_trip(...) as response:` (or response.close())."
        sections = {
            "test_dropped": [
                "1 response was never closed:",
                what.format(0, dropped),
                "    opened at *test_kinds.py:* in open_one, thread 'MainThread'",
                "         from *test_kinds.py:* in test_dropped",
                fix,
            ],
            "test_in_a_cycle": [what.format(0, dropped), "         from *test_kinds.py:* in test_in_a_cycle"],
            "test_kept": [what.format("*", "still open, nobody reads it"), fix],
            "test_in_a_thread": ["    opened at *test_kinds.py:* in open_one, thread 'worker-7'"],
            "test_before_its_transport": [
                what.format(0, "still open when its transport, or the loop, was closed"),
            ],
            "test_by_a_fixture": ["         from *test_kinds.py:* in opened"],
            "test_by_a_teardown": ["         from *test_kinds.py:* in opens_late"],
            "test_transport_left_open": [
                "Transport made at *test_kinds.py:* was left open with 1 connection, 1 of them idle. Fix: `with` it, *",
            ],
            "test_transport_dropped": [
                "Transport made at *test_kinds.py:* was dropped unclosed with 1 connection. Fix: *",
            ],
            "test_counts_taken_anew": [
                "<Transport 'global' *>: its counts had to be taken anew, rebuilds = 1",
            ],
            "test_books_that_do_not_agree": ["<Transport 'global' *>: its books do not agree: assert *"],
        }
        for name, wanted in sections.items():
            out.fnmatch_lines([f"*ERROR at teardown of {name} *", *wanted])
        out.no_fnmatch_line("*pytest_pyfunc_call*")
        out.no_fnmatch_line("*left open, and of no test*")


def test_scopes_of_clients(suite):
    suite.write(
        test_scopes="""
        KEPT = []

        def test_lazily_made():
            KEPT.append(pt.Transport())
            pt.Client(transport=KEPT[-1]).get(URL)

        def test_uses_it():
            assert pt.Client(transport=KEPT[-1]).get(URL).content == b"hello"
        """,
        test_wide="""
        @pytest.fixture(scope="module")
        def forgotten():
            return pt.Transport()

        def test_forgotten(forgotten):
            assert pt.Client(transport=forgotten).get(URL).content == b"hello"
        """,
    )
    left = "Transport made at *{}.py:* was left open with 1 connection, 1 of them idle. *"
    told = "*pooltransport: left open, and of no test*"

    suite.set(f"{ERROR}\npooltransport_clients_scope = function")
    result = suite.run(passed=3, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_lazily_made*", left.format("test_scopes")])
    result.stdout.fnmatch_lines([told, "Transport made at *test_wide.py:* was dropped unclosed with 1 connection.*"])

    suite.set(f"{ERROR}\npooltransport_clients_scope = session")
    result = suite.run("test_scopes.py", passed=2)
    result.stdout.fnmatch_lines([told, left.format("test_scopes")])
    assert result.ret == 1

    suite.set(f"{ERROR}\npooltransport_clients_scope = ignore")
    assert suite.run(passed=3).ret == 0


def test_who_asks(suite):
    """Without a setting only tests with the fixture or the marker are looked at; off is off."""
    suite.write(
        test_asks="""
        TRANSPORT = pt.Transport()

        def leak():
            TRANSPORT.round_trip(pt.Request("GET", BIG))

        def test_does_not_ask():
            leak()

        def test_by_fixture(pool_leaks):
            leak()

        def test_by_a_late_fixture(request):
            request.getfixturevalue("pool_leaks")
            leak()

        @pytest.mark.allow_pool_leaks
        def test_by_marker():
            leak()

        @pytest.mark.allow_pool_leaks(max=2, reason="it is what this test is about")
        def test_allowed():
            leak()
            leak()

        @pytest.mark.allow_pool_leaks(max=1)
        def test_one_too_many():
            leak()
            leak()

        def test_expected(pool_leaks):
            leak()
            kept = TRANSPORT.round_trip(pt.Request("GET", BIG))
            lost, still_open = pool_leaks.expect(2)
            assert "test_asks.py" in lost.site
            assert "dropped" in lost.state
            assert still_open.state == "still open, nobody reads it"
            assert pool_leaks.now() == ()

        def test_not_as_expected(pool_leaks):
            pool_leaks.expect(1)
        """
    )
    result = suite.run("-W", "ignore", passed=7, failed=1, errors=4)
    result.stdout.fnmatch_lines(
        ["*ERROR at teardown of test_one_too_many*", "2 responses were never closed, 1 allowed:"]
    )
    result.stdout.fnmatch_lines(["E*AssertionError: 1 leaks expected, 0 found"])
    suite.run("-W", "ignore", "--pooltransport-leaks=off", passed=7, failed=1)
    result = suite.run("-W", "ignore", "--pooltransport-leaks=error", passed=7, failed=1, errors=5)
    warned = suite.run(
        "--pooltransport-leaks=warn", "-k", "does_not_ask", "-W", "ignore::ResourceWarning", passed=1, warnings=1
    )
    warned.stdout.fnmatch_lines(["*PoolLeakWarning: test_asks.py::test_does_not_ask", "*1 response was never closed:"])
    assert warned.ret == 0


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("-o", "pooltransport_leaks=loud"), "*pooltransport_leaks = loud: must be one of error, warn, off"),
        (("-o", "pooltransport_clients_scope=class"), "*must be one of function, session, ignore"),
    ],
)
def test_settings_that_are_none(suite, args, text):
    result = suite.pytester.runpytest_subprocess(*args)
    result.stderr.fnmatch_lines([text])
    assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_markers_that_are_none(suite):
    marks = ["max=-1", "max='2'", "most=2", "2"]
    suite.write(
        test_it="\n".join(
            f"@pytest.mark.allow_pool_leaks({mark})\ndef test_{n}(): pass" for n, mark in enumerate(marks)
        )
    )
    text = "allow_pool_leaks(max=0, reason=None): max is a whole number*"
    suite.run(errors=4).stdout.fnmatch_lines(["*ERROR at setup of test_0*", text, "*ERROR at setup of test_1*", text])


def test_what_belongs_to_no_test_fails_the_session(suite):
    suite.set(ERROR)
    suite.write(
        test_session="""
        import queue
        TRANSPORT = pt.Transport()
        JOBS, DONE = queue.Queue(), queue.Queue()

        def work():
            while (job := JOBS.get()) is not None:
                job()
                DONE.put(None)

        def leak():
            TRANSPORT.round_trip(pt.Request("GET", BIG))

        @pytest.fixture(scope="module", autouse=True)
        def worker():
            thread = threading.Thread(target=work)
            thread.start()
            yield
            JOBS.put(None)
            thread.join()

        def test_a_thread_that_was_there_before():
            JOBS.put(leak)
            DONE.get(timeout=10)
        """
    )
    result = suite.run("-W", "ignore", passed=1)
    result.stdout.fnmatch_lines(
        [
            "*pooltransport: left open, and of no test*",
            "1 response was never closed:",
            "    opened at *test_session.py:* in leak, thread *",
            "         from *test_session.py:* in work",
        ]
    )
    assert result.ret == 1
    result = suite.run("-W", "ignore", "-n", "2", passed=1)
    result.stdout.fnmatch_lines(["*pooltransport: left open, and of no test*", "1 response was never closed:"])
    assert result.ret == 1
    assert suite.run("-W", "ignore", "--pooltransport-leaks=warn", passed=1).ret == 0


def test_workers_of_xdist(suite):
    suite.set(ERROR)
    suite.write(
        test_many="""
        @pytest.fixture(scope="session")
        def transport():
            with pt.Transport() as transport:
                yield transport

        @pytest.mark.parametrize("number", range(6))
        def test_it(transport, number):
            response = transport.round_trip(pt.Request("GET", BIG))
            if number != 4:
                response.close()
        """
    )
    result = suite.run("-n", "2", "-W", "ignore", passed=6, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_it?4?*", "1 response was never closed:"])


def test_filters_alone_do_not_see_it(suite):
    """An error that a filter makes of the warning has no test to fail; so there is the plugin."""
    suite.write(
        test_it="""
        def test_it():
            pt.Client().send(pt.Request("GET", BIG), stream=True)
            pt.default_transport().stats()  # a safe point: it is told here
        """
    )
    result = suite.run("-W", "error::ResourceWarning", passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*PytestUnraisableExceptionWarning: *"])
    assert result.ret == 0
    result = suite.run("-W", "error::ResourceWarning", "--pooltransport-leaks=error", passed=1, errors=1, warnings=1)
    result.stdout.fnmatch_lines(
        ["    Fix: `with client.send(request, stream=True) as response:` (or response.close())."]
    )


def test_the_page_shows_what_really_happens(suite, servers):
    page = (ROOT / "docs" / "testing.md").read_text()
    (module,) = re.findall(r"^```text\n# test_billing.py\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (said,) = re.findall(r"^\$ pytest\n_+ ERROR at .*?_\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (setting,) = re.findall(r"^\[tool.pytest.ini_options\]\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    suite.set(setting.replace('"', ""))
    suite.pytester.makepyfile(test_billing=module.replace("https://api.example.com", servers[1]))
    result = suite.run(passed=1, errors=1)
    patterns = [re.sub(r"https://\S+|/home/me|\d+\.\d+|of \d+|:\d+ in", "*", line) for line in said.splitlines()]
    patterns = [pattern.replace("[200]", "[[]200[]]") for pattern in patterns]
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_invoice *", *patterns])
