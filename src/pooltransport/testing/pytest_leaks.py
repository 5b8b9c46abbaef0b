"""The part of the pytest plugin that looks at each test, from before its fixtures until after their end.

Rules:

1. A test is checked after everything of it was torn down. If it failed, nothing is demanded: its traceback holds what
   it opened; what is open is shown with the failure.
2. Fixtures of a wider scope than one test own what they open; that, and what belongs to no test, is looked at once
   more at the end of the session, which fails.
3. A coroutine runs in whatever context its runner made, maybe long ago: tests and fixtures that are coroutines
   enter the scope of their test themselves.
"""

from __future__ import annotations

import functools
import inspect
import time
from typing import TYPE_CHECKING, Any

import pytest

from .leak_check import damage, pauses, problems, settle_drains
from .leak_scopes import inside, onlooker
from .pytest_plugin import MARKER, PoolLeakWarning, mode_of, wants

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from .leak_scopes import Leak, Scope

_SCOPE = pytest.StashKey["Scope"]()
_LEAVE = pytest.StashKey["Callable[[], object]"]()
_FAILED = pytest.StashKey[bool]()
_WORKER_KEY = "pooltransport_leaks"


class PoolLeaks:
    """What the fixture `pool_leaks` gives: the test's own responses, as far as they are not closed."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def now(self) -> tuple[Leak, ...]:
        """Return the responses that are open, and those that were dropped unclosed; without patience."""
        return tuple(self._scope.leaks())

    def expect(self, count: int) -> tuple[Leak, ...]:
        """Return the `count` (0 or more) responses that were left open until now; the test is not blamed for them.

        Raises `AssertionError`, with their list, if there are more or fewer. Waits as the check at the end does.
        """
        for pause in pauses(self._scope, clients=False) if len(self.now()) != count else ():
            time.sleep(pause)
            if len(self.now()) == count:
                break
        found = self.now()
        assert len(found) == count, "\n".join((f"{count} leaks expected, {len(found)} found", *map(str, found)))
        self._scope.forget_leaks()
        return found


class LeakPlugin:
    """The hooks. `config`: the session's."""

    def __init__(self, config: pytest.Config) -> None:
        self._mode = mode_of(config)  # "": only tests that ask for it
        self._config = config
        self._clients_scope = str(config.getini("pooltransport_clients_scope"))
        self._session_texts: list[str] = []
        self._left: list[Scope] = []  # with transports that may live until the end of the session
        onlooker.install()

    def pytest_unconfigure(self) -> None:
        """Look away."""
        onlooker.uninstall()

    # -- one test -------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        """From here on, what is opened is the test's."""
        item.stash[_FAILED] = False
        if self._mode in {"error", "warn"} or wants(item):
            self._begin(item)
        result = yield
        _allowed(item)  # a bad marker is told before the test runs
        return result

    def _begin(self, item: pytest.Item) -> None:
        item.stash[_SCOPE] = scope = onlooker.begin(item.nodeid)
        entered = inside(scope)
        entered.__enter__()
        item.stash[_LEAVE] = lambda: entered.__exit__(None, None, None)

    def leaks_of(self, item: pytest.Item) -> PoolLeaks:
        """Return what the fixture gives."""
        if _SCOPE not in item.stash:
            self._begin(item)  # asked for by `request.getfixturevalue`
        return PoolLeaks(item.stash[_SCOPE])

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        """Here everything of the test has ended."""
        try:
            result = yield
        except BaseException:
            self._end(item, failed=True)
            raise
        self._end(item, failed=item.stash.get(_FAILED, False))
        return result

    def _end(self, item: pytest.Item, *, failed: bool) -> None:
        scope = item.stash.get(_SCOPE, None)
        if scope is None:
            return
        item.stash[_LEAVE]()
        del item.stash[_SCOPE], item.stash[_LEAVE]
        clients = self._clients_scope == "function"
        try:
            if failed or self._mode == "off":
                scope.excused = True
                leaks = scope.leaks()
                if leaks and failed:
                    item.add_report_section("teardown", "pooltransport leaks", "\n".join(map(str, leaks)))
                return
            for pause in pauses(scope, clients=clients):
                time.sleep(pause)
            texts = problems(scope, clients=clients, allowed=_allowed(item)) + damage(scope)
            scope.forget_leaks()
        finally:
            onlooker.end(scope)
        if self._clients_scope == "session" and (scope.transports or scope.lost_transports):
            self._left.append(scope)
        self._tell(item, texts)

    def _tell(self, item: pytest.Item, texts: list[str]) -> None:
        if texts and self._mode == "warn":
            item.warn(PoolLeakWarning("\n".join((item.nodeid, *texts))))
        elif texts:
            pytest.fail("\n".join(texts), pytrace=False)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Note who failed, was skipped, or failed as expected: there is a traceback, which holds what was opened."""
        if call.excinfo is not None and call.when != "teardown":
            item.stash[_FAILED] = True
        return (yield)

    # -- coroutines and fixtures ----------------------------------------------------------------

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> Generator[None, object, object]:
        """Let a test that is a coroutine enter its scope, and let its loop end what it is ending."""
        function = pyfuncitem.obj
        hypothesis = getattr(function, "hypothesis", None)
        if hypothesis is not None and inspect.iscoroutinefunction(hypothesis.inner_test):
            hypothesis.inner_test = _running_inside(hypothesis.inner_test)
        elif inspect.iscoroutinefunction(function):
            pyfuncitem.obj = _running_inside(function)
        try:
            return (yield)
        finally:
            pyfuncitem.obj = function

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        """What a fixture opens is the test's, or astray if the fixture outlives the test."""
        is_wide = fixturedef.scope != "function"
        scope = onlooker.fixtures if is_wide else request.node.stash.get(_SCOPE, None)
        function = fixturedef.func
        is_async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
        if not is_wide and not is_async:
            return (yield)
        if is_async:
            fixturedef.func = _fixture_inside(function, scope)  # type: ignore[misc]
        try:
            with inside(scope):
                return (yield)
        finally:
            fixturedef.func = function  # type: ignore[misc]
            if is_wide and onlooker.running is not None:
                onlooker.running.know_threads()

    # -- the session ----------------------------------------------------------------------------

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Look at what belongs to no test."""
        if self._mode not in {"error", "warn"}:
            return
        self._session_texts += self._check_session()
        output = getattr(self._config, "workeroutput", None)
        if output is not None:
            output[_WORKER_KEY] = self._session_texts
        elif self._session_texts and self._mode == "error" and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _check_session(self) -> list[str]:
        # A transport that was made while modules were imported is the program's, and lives as long.
        looks = [(onlooker.astray, False)]
        looks += [(scope, self._clients_scope != "ignore") for scope in (onlooker.fixtures, *self._left)]
        texts = []
        for scope, clients in looks:
            for pause in pauses(scope, clients=clients):
                time.sleep(pause)
            texts += problems(scope, clients=clients)
        return list(dict.fromkeys(texts))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take over what a worker of pytest-xdist found."""
        self._session_texts += getattr(node, "workeroutput", {}).get(_WORKER_KEY, ())

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say what belongs to no test."""
        if self._session_texts:
            terminalreporter.section("pooltransport: left open, and of no test", red=True)
            for text in self._session_texts:
                terminalreporter.line(text)


def _allowed(item: pytest.Item) -> int:
    marker = item.get_closest_marker(MARKER)
    if marker is None:
        return 0
    most = marker.kwargs.get("max", 0)
    if marker.args or not set(marker.kwargs) <= {"max", "reason"} or not isinstance(most, int) or most < 0:
        pytest.fail(f"{MARKER}(max=0, reason=None): max is a whole number, 0 or more; by keyword alone", pytrace=False)
    return most


def _running_inside(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def run(*args: Any, **kwargs: Any) -> Any:
        scope = onlooker.running
        if scope is None:
            return await function(*args, **kwargs)
        with inside(scope):
            result = await function(*args, **kwargs)
            await settle_drains(scope)
        return result

    return run


def _fixture_inside(function: Any, scope: Scope | None) -> Any:
    """Return a fixture function that does the same in `scope`."""
    if inspect.ismethod(function):
        return _fixture_inside(function.__func__, scope).__get__(function.__self__)
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def run(*args: Any, **kwargs: Any) -> Any:
            with inside(scope):
                return await function(*args, **kwargs)

        return run

    @functools.wraps(function)
    async def generate(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        inner = function(*args, **kwargs)
        try:
            while True:
                with inside(scope):  # not around the yield: this context may be that of tests
                    try:
                        value = await anext(inner)
                    except StopAsyncIteration:
                        return
                yield value
        finally:
            with inside(scope):
                await inner.aclose()

    return generate
