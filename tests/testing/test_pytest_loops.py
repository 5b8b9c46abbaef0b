"""The pytest plugin with tests that are coroutines, on asyncio and trio, by whatever runs them; and with unittest."""

from __future__ import annotations

import textwrap

import pytest

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.timeout(180)  # several runs of pytest each, on a machine that may be busy

ERROR = "pooltransport_leaks = error\nanyio_mode = auto"

ASYNC = """
    pytestmark = pytest.mark.anyio

    @pytest.fixture(scope="module")
    async def shared():
        async with pt.AsyncTransport() as transport:
            yield transport

    @pytest.fixture(scope="module")
    async def stream(shared):
        async with await shared.round_trip(pt.Request("GET", BIG)) as response:
            yield response

    @pytest.fixture
    async def forgotten(shared):
        response = await shared.round_trip(pt.Request("GET", BIG))
        yield response

    @pytest.fixture
    async def given(shared):
        return await shared.round_trip(pt.Request("GET", BIG))

    class TestClean:
        async def test_first(self, shared, stream):
            async with await shared.round_trip(pt.Request("GET", URL)) as response:
                assert await response.aread() == b"hello"

        async def test_drained_in_the_background(self, shared):
            transport = pt.AsyncTransport(drain_limit=10_000_000, drain_timeout=5.0)
            response = await transport.round_trip(pt.Request("GET", BIG))
            await response.aclose()

        async def test_own_client(self):
            assert (await pt.AsyncClient().get(URL)).content == b"hello"

        @pytest.fixture
        async def of_the_class(self):
            self.seen = True
            return self

        async def test_methods_stay_methods(self, of_the_class):
            assert self.seen
            assert type(of_the_class) is type(self)

    async def test_second_of_the_module(shared):
        await shared.round_trip(pt.Request("GET", BIG))

    async def test_fixture_forgets(forgotten):
        pass

    async def test_fixture_gives(given):
        pass

    async def test_stays_open(shared):
        shared.kept = await shared.round_trip(pt.Request("GET", BIG))

    async def test_in_a_task(shared, anyio_backend_name):
        import anyio

        async def leak():
            await shared.round_trip(pt.Request("GET", BIG))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(leak)

    async def test_with_its_own_transport():
        transport = pt.AsyncTransport()
        await (await transport.round_trip(pt.Request("GET", URL))).aread()
        await transport.round_trip(pt.Request("GET", BIG))

    async def test_last(shared):
        await (await shared.round_trip(pt.Request("GET", BIG))).aclose()
    """


def test_asyncio_and_trio(suite):
    """A module's loop runs its tests in the context of its first fixture; each leak is its own test's all the same."""
    suite.set(ERROR + "\npooltransport_clients_scope = ignore")
    suite.write(test_async=ASYNC)
    result = suite.run("-W", "ignore", "--tb=short", passed=22, errors=12)
    leaky = ["second_of_the_module", "fixture_forgets", "fixture_gives", "stays_open", "in_a_task"]
    leaky.append("with_its_own_transport")
    for backend in ("asyncio", "trio"):
        for name in leaky:
            result.stdout.fnmatch_lines(
                [
                    f"*ERROR at teardown of test_{name}?{backend}? *",
                    "1 response was never closed:",
                    "    opened at *test_async.py:* in *, task *",
                    "    Fix: `async with await transport.round_trip(...) as response:` (or response.aclose()).",
                ]
            )
    result.stdout.no_fnmatch_line("*left open, and of no test*")
    result.stdout.no_fnmatch_line("*from */anyio/*")
    assert result.ret == 1


def test_transports_of_coroutines_must_be_closed(suite):
    suite.set(ERROR)
    suite.write(
        test_async="""
        async def test_left():
            transport = pt.AsyncTransport()
            await (await transport.round_trip(pt.Request("GET", URL))).aread()
            test_left.kept = transport

        async def test_closed():
            async with pt.AsyncTransport() as transport:
                await (await transport.round_trip(pt.Request("GET", URL))).aread()
        """
    )
    # Its loop has ended, and its connections with it: there is nothing left to be closed.
    suite.run("-W", "ignore", passed=4)


RUNNER = """
    import asyncio, contextvars, inspect
    import pytest

    LOOP_CONTEXT = contextvars.copy_context()  # long before any test

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(pyfuncitem):
        if inspect.iscoroutinefunction(pyfuncitem.obj):
            arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
            with asyncio.Runner() as runner:
                runner.run(pyfuncitem.obj(**arguments), context=LOOP_CONTEXT)
            return True
    """


def test_another_runner(suite):
    """Whoever runs coroutines, in whatever context."""
    suite.set("pooltransport_leaks = error")
    suite.pytester.makeconftest(textwrap.dedent(RUNNER))
    suite.write(
        test_async="""
        async def test_clean():
            assert (await pt.AsyncClient().get(URL)).content == b"hello"

        async def test_leaks():
            await pt.AsyncClient().send(pt.Request("GET", BIG), stream=True)

        @pytest.mark.allow_pool_leaks(max=1)
        async def test_may_leak():
            await pt.AsyncClient().send(pt.Request("GET", BIG), stream=True)
        """
    )
    result = suite.run("-W", "ignore", "-p", "no:anyio", passed=3, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_leaks*",
            "    Fix: `async with await client.send(request, stream=True) as response:` (or response.aclose()).",
        ]
    )


def test_hypothesis(suite):
    suite.set(ERROR)
    suite.write(
        test_hypothesis="""
        from hypothesis import given, settings, strategies as st

        TRANSPORT = pt.Transport()

        @settings(max_examples=5, deadline=None)
        @given(number=st.integers())
        async def test_async(number):
            transport = pt.AsyncTransport()
            await transport.round_trip(pt.Request("GET", BIG))
            await transport.aclose()

        @settings(max_examples=5, deadline=None)
        @given(number=st.integers())
        def test_sync(number):
            TRANSPORT.round_trip(pt.Request("GET", BIG))
        """
    )
    result = suite.run("-W", "ignore", passed=3, errors=3)
    result.stdout.fnmatch_lines(["* responses were never closed:"])


def test_unittest(suite):
    """In classes of `unittest`, by the plugin and without pytest."""
    text = """
        import unittest
        from pooltransport.testing import no_leaks

        class Blocking(unittest.TestCase):
            def setUp(self):
                self.enterContext(no_leaks())
                self.transport = self.enterContext(pt.Transport())

            def test_clean(self):
                self.transport.round_trip(pt.Request("GET", URL)).read()

            def test_leaks(self):
                self.response = self.transport.round_trip(pt.Request("GET", BIG))

        class Loop(unittest.IsolatedAsyncioTestCase):
            async def test_clean(self):
                async with no_leaks():
                    assert (await pt.AsyncClient().get(URL)).content == b"hello"

            async def test_leaks(self):
                async with no_leaks():
                    response = await pt.AsyncClient().send(pt.Request("GET", BIG), stream=True)
    """
    suite.write(test_cases=text)
    done = suite.pytester.runpython_c("import unittest; unittest.main('test_cases', verbosity=2)")
    done.stderr.fnmatch_lines_random(
        [
            "test_clean (test_cases.Blocking.test_clean) ... ok",
            "test_clean (test_cases.Loop.test_clean) ... ok",
            "FAIL: test_leaks (test_cases.Blocking.test_leaks)",
            "FAIL: test_leaks (test_cases.Loop.test_leaks)",
            "pooltransport.testing.leak_check.PoolLeakError: 1 response was never closed:",
        ]
    )
    assert done.ret == 1
    suite.run("-W", "ignore", "--pooltransport-leaks=error", passed=2, failed=2)
