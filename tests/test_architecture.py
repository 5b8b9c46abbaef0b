"""Who may import whom, and what shared code must not do (docs/architecture.md)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import architecture as rules
from tests.support.architecture import Source

ROOT = Path(__file__).parent.parent / "src" / "pooltransport"
SOURCES = rules.read_package(ROOT)

# Which room a module lives in; a package's modules live in its room unless named themselves.
ROOMS = {
    "__init__": "names",
    "__main__": "main",
    "cli": "main",
    "client": "client",
    "adapters": "adapters",
    "observe": "observe",
    "testing": "testing",
    "roundtripper": "roundtripper",
    "transport": "transport",
    "colours": "transport",
    "response": "transport",
    "pieces": "transport",
    "duplex": "transport",
    "iterators": "transport",
    "events": "transport",
    "decoding": "transport",
    "demo": "demo",
    "explain": "explain",
    "engine": "engine",
    "engine.sync": "ground",  # how a coroutine without awaits is run: of nobody in particular
    "runtime": "runtime",
    "runtime.protocols": "runtime",
    "runtime.sockets": "runtime",
    "runtime.tls": "runtime",
    "runtime.trust": "runtime",
    "runtime.workers": "runtime",
    "runtime.threads": "threads",
    "runtime.thread_stream": "threads",
    "runtime.thread_duplex": "threads",
    "runtime.asyncio": "asyncio",
    "runtime.asyncio_stream": "asyncio",
    "runtime.asyncio_tls": "asyncio",
    "runtime.anyio": "anyio",
    "runtime.trio_stream": "anyio",
    "core": "core",
    "leaks": "leaks",
    "lease": "leaks",
    "reports": "leaks",
    "witness": "leaks",
    "diagnosis": "diagnosis",
    "census": "census",
    "resolver": "resolver",
    "trace": "ground",
    "observers": "ground",
    "stats": "ground",
    "options": "ground",
    "option_checks": "ground",
    "option_sources": "ground",
    "config_checks": "ground",
    "config_advice": "ground",
    "config_warnings": "ground",
    "callers": "ground",
    "codings": "ground",
    "trust_files": "ground",
    "proxy_url": "ground",
    "peer_address": "ground",
    "models": "ground",
    "request_framing": "ground",
    "bodies": "ground",
    "headers": "ground",
    "url": "ground",
    "errors": "ground",
}

# From the ground up: a room may import itself and what is named here.
GROUND = {"ground"}
COLOURS = {"threads", "asyncio", "anyio"}
BELOW_ENGINE = GROUND | {"leaks", "resolver", "core", "runtime", "diagnosis", "census"}
BELOW_TRANSPORT = BELOW_ENGINE | COLOURS | {"engine"}
ALLOWED = {
    "ground": set(),
    "explain": set(),
    "leaks": GROUND,
    "resolver": GROUND,
    "core": GROUND,
    "diagnosis": GROUND | {"core", "census"},
    "census": GROUND | {"core"},
    "runtime": GROUND,
    "threads": GROUND | {"runtime"},
    "asyncio": GROUND | {"runtime"},
    "anyio": GROUND | {"runtime"},
    "engine": BELOW_ENGINE,  # knows the seam, no colour
    "transport": BELOW_TRANSPORT,  # chooses the colour
    "roundtripper": GROUND | {"transport"},
    "client": GROUND | {"transport", "roundtripper", "leaks", "census"},
    "adapters": GROUND | {"transport", "roundtripper"},
    "observe": GROUND | {"leaks", "transport", "roundtripper", "census", "diagnosis"},
    "testing": BELOW_TRANSPORT | {"transport", "roundtripper", "client"},
    "demo": GROUND | {"transport", "client"},
    "main": set(ROOMS.values()),
    "names": set(ROOMS.values()),
}

NOT_IN_CORE = {"time", "socket", "ssl", "threading", "_thread", "asyncio", "anyio", "trio", "select", "selectors"}
NOT_IN_CORE |= {"logging", "warnings", "os", "random"}


def in_room(*rooms: str) -> list[Source]:
    found = [source for name, source in SOURCES.items() if rules.room_of(name, ROOMS) in rooms]
    assert found, f"nobody lives in {rooms}"
    return found


def every(check, *args, sources=None, **options) -> list[str]:
    return [line for source in sources or SOURCES.values() for line in check(source, *args, **options)]


class TestHouse:
    def test_a_room_imports_only_rooms_below_it(self):
        assert rules.wrong_imports(SOURCES, ROOMS, ALLOWED) == []
        assert [line for name in SOURCES if name != "pooltransport.__main__" for line in self.root_imports(name)] == []

    @staticmethod
    def root_imports(name: str) -> list[str]:
        # `from pooltransport import leaks` is the module, which the rooms judge.
        known = {module.rpartition(".")[2] for module in SOURCES}
        return [line for line in rules.wrong_root_imports(SOURCES[name]) if line.split()[2] not in known]

    def test_no_import_cycle(self):
        assert rules.import_cycle(SOURCES) == []

    def test_core_is_sans_io(self):
        assert every(rules.forbidden_imports, NOT_IN_CORE, sources=in_room("core")) == []

    def test_engine_knows_no_colour(self):
        colours = {"asyncio", "anyio", "trio", "threading", "select", "selectors"}
        assert every(rules.forbidden_imports, colours, sources=in_room("engine", "core", "ground")) == []

    def test_nothing_suspends_under_the_mutex(self):
        assert every(rules.suspends_under_mutex) == []

    def test_shared_code_has_no_async_generators(self):
        assert every(rules.async_generators, sources=in_room("engine", "core", "threads")) == []

    def test_threads_awaits_only_its_own(self):
        assert every(rules.foreign_awaits, sources=in_room("threads")) == []

    def test_no_primitive_that_deadlocks_in_a_finalizer(self):
        # contract 3.1
        sources = [
            SOURCES[f"pooltransport.runtime.{name}"]
            for name in ("threads", "thread_stream", "thread_duplex", "workers")
        ]
        names = {f"threading.{name}" for name in ("Event", "Condition", "Semaphore", "BoundedSemaphore", "Barrier")}
        names |= {"threading.Thread", "queue.Queue", "queue.SimpleQueue", "queue.LifoQueue", "queue.PriorityQueue"}
        assert every(rules.names_used, names, sources=sources) == []
        assert every(rules.forbidden_imports, {"queue"}, sources=sources) == []

    def test_finalizers_live_in_leaks(self):
        assert [x for x in every(rules.definitions_of, "__del__") if not x.startswith("pooltransport.leaks:")] == []

    def test_sizes(self):
        assert every(rules.too_long, max_file=400, max_function=60) == []


class TestRules:
    """Each rule sees what it is there for."""

    @pytest.mark.parametrize(
        ("text", "module"),
        [
            ("import pooltransport.engine", "pooltransport.engine"),
            ("from pooltransport import engine", "pooltransport.engine"),
            ("from pooltransport.engine import Engine", "pooltransport.engine"),
            ("from .. import engine", "pooltransport.engine"),
            ("from ..engine import Engine", "pooltransport.engine"),
            ("def f():\n    from ..engine import Engine", "pooltransport.engine"),
            ("if TYPE_CHECKING:\n    from ..engine import Engine", "pooltransport.engine"),
        ],
    )
    def test_wrong_imports(self, text, module):
        sources = {
            "pooltransport.engine": Source("pooltransport.engine", "", is_package=True),
            "pooltransport.core.pool": Source("pooltransport.core.pool", text),
        }
        (line,) = rules.wrong_imports(sources, ROOMS, ALLOWED)
        assert f"(core) may not import {module} (engine)" in line

    def test_homeless(self):
        sources = {"pooltransport.new": Source("pooltransport.new", "")}
        (line,) = rules.wrong_imports(sources, ROOMS, ALLOWED)
        assert "lives in no room" in line

    def test_root_imports(self):
        source = Source("pooltransport.core.pool", "from pooltransport import Transport\nfrom .. import __version__")
        assert rules.wrong_root_imports(source) == ["pooltransport.core.pool:1 takes Transport from the root"]

    def test_cycle(self):
        sources = {
            "pooltransport.a": Source("pooltransport.a", "from .b import x"),
            "pooltransport.b": Source("pooltransport.b", "from .c import x"),
            "pooltransport.c": Source("pooltransport.c", "from .a import x"),
        }
        assert len(rules.import_cycle(sources)) == 4
        sources["pooltransport.c"] = Source("pooltransport.c", "def f():\n    from .a import x")
        assert rules.import_cycle(sources) == []

    def test_forbidden_imports(self):
        source = Source("m", "import time as t\nfrom socket import socket\nif TYPE_CHECKING:\n    import ssl")
        assert rules.forbidden_imports(source, NOT_IN_CORE) == ["m:1 imports time", "m:2 imports socket"]

    @pytest.mark.parametrize("inner", ["await x", "async for y in x: pass", "async with x: pass", "yield x"])
    def test_suspends_under_mutex(self, inner):
        text = f"async def f(self):\n    with self._rt.mutex:\n        if x:\n            {inner}"
        assert len(rules.suspends_under_mutex(Source("m", text))) == 1
        assert rules.suspends_under_mutex(Source("m", text.replace("mutex", "other"))) == []

    @pytest.mark.parametrize("inner", ["await other()", "await self.latch.wait()", "await x", "async with x: pass"])
    def test_foreign_awaits(self, inner):
        head = "class A:\n    async def own(self): ...\n    async def f(self, fn):\n"
        text = f"{head}        await self.own()\n        await fn()\n        {inner}"
        assert len(rules.foreign_awaits(Source("m", text))) == 1

    def test_async_comprehension_is_foreign(self):
        assert len(rules.foreign_awaits(Source("m", "class A:\n    async def f(): return [x async for x in y]"))) == 1

    def test_names_used(self):
        source = Source("m", "import threading\nfrom threading import Event, Lock\nx = threading.Condition()")
        assert rules.names_used(source, {"threading.Event", "threading.Condition"}) == [
            "m:2 imports threading.Event",
            "m:3 uses threading.Condition",
        ]

    def test_async_generators(self):
        source = Source("m", "async def f():\n    yield 1\nasync def g():\n    def h():\n        yield 1")
        assert rules.async_generators(source) == ["m:1 f is an async generator"]

    def test_sizes(self):
        source = Source("m", "def f():\n    a = 1\n    return a\n")
        assert rules.too_long(source, 2, 2) == ["m has 3 lines", "m:1 f has 3 lines"]
        assert rules.too_long(source, 3, 3) == []
