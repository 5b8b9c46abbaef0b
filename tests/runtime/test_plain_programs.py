"""What a whole program sees that sets nothing up: leaks on stderr (contract 3.3), default transports (5.1)."""

from __future__ import annotations

import pytest

from tests.support.responders import ok
from tests.support.scripts import run_script

LEAKING = {
    "threads": """
        import sys
        import pooltransport as pt

        transport = pt.Transport(max_conns=2, MORE)

        def careless(url):
            transport.round_trip(pt.Request("GET", url))  # the line that leaks

        careless(sys.argv[1])
        print("went on")
        END
        """,
    "asyncio": """
        import asyncio, sys
        import pooltransport as pt

        async def careless(transport, url):
            await transport.round_trip(pt.Request("GET", url))  # the line that leaks

        async def main():
            async with pt.AsyncTransport(max_conns=2, MORE) as transport:
                await careless(transport, sys.argv[1])
            print("went on")

        asyncio.run(main())
        """,
    "trio": """
        import sys
        import trio
        import pooltransport as pt

        async def careless(transport, url):
            await transport.round_trip(pt.Request("GET", url))  # the line that leaks

        async def main():
            async with pt.AsyncTransport(max_conns=2, MORE) as transport:
                await careless(transport, sys.argv[1])
            print("went on")

        trio.run(main)
        """,
    "a client": """
        import sys
        import pooltransport as pt

        def careless(url):
            client = pt.Client()
            client.send(client.build_request("GET", url), stream=True)  # the line that leaks

        careless(sys.argv[1])
        print("went on")
        """,
}


def program(name: str, more: str = "", end: str = "transport.close()") -> str:
    return LEAKING[name].replace("MORE", more).replace("END", end)


def leaking_line(path) -> int:
    """Return the number of the line that leaks."""
    lines = path.read_text("utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.endswith("# the line that leaks"))


class TestLeakOnStderr:
    @pytest.mark.parametrize("name", LEAKING)
    def test_nothing_set_up(self, name, server_factory, tmp_path):
        """At a safe point, at the latest as the program ends."""
        server = server_factory(ok(b"x" * 3_000_000))
        app = tmp_path / "app.py"
        done = run_script(app, program(name, end=""), server.url)
        assert done.stdout == "went on\n"
        assert f"response never closed: GET {server.url} [200]" in done.stderr
        assert f"{app}:{leaking_line(app)} in careless" in done.stderr
        assert "Fix: `" in done.stderr
        assert done.stderr.count("response never closed") == 1, done.stderr
        assert "Traceback" not in done.stderr

    @pytest.mark.parametrize("name", LEAKING)
    def test_warnings_as_errors_break_nothing(self, name, server_factory, tmp_path):
        server = server_factory(ok(b"x" * 3_000_000))
        app = tmp_path / "app.py"
        done = run_script(app, program(name), server.url, flags=("-W", "error::ResourceWarning"))
        assert done.stdout == "went on\n"
        assert "UnclosedResponseWarning" in done.stderr
        assert f"{app}:{leaking_line(app)}" in done.stderr

    SLOW_HOOK = """
        import sys, time
        import pooltransport as pt

        begun = []

        def leaked(report):
            begun.append(report)
            time.sleep(0.3)

        transport = pt.Transport(trace=pt.ClientTrace(leaked=leaked))
        transport.round_trip(pt.Request("GET", sys.argv[1]))
        while not begun:
            time.sleep(0.001)
        """

    def test_a_report_that_is_being_told_as_the_program_ends(self, server_factory, tmp_path):
        """The housekeeper has taken it and not said it yet: the end waits for that."""
        server = server_factory(ok(b"x" * 3_000_000))
        done = run_script(tmp_path / "app.py", self.SLOW_HOOK, server.url)
        assert done.stderr.count("response never closed") == 1, done.stderr

    def test_detection_off_is_silent_and_still_gives_the_slot_back(self, server_factory, tmp_path):
        server = server_factory(ok(b"x" * 3_000_000))
        careless = "for _ in range(5):\n            careless(sys.argv[1])\n        transport.close()"
        done = run_script(
            tmp_path / "app.py",
            program("threads", end=careless),
            server.url,
            env={"POOLTRANSPORT_LEAK_DETECTION": "off"},
        )
        assert str(tmp_path) not in done.stderr
        assert server.requests == 6

    HUNDRED = """
        import gc, sys, time
        import pooltransport as pt
        from tests.support.colours import run_colour

        told = []

        async def body(c):
            url = sys.argv[2]
            for _ in range(100):
                await c.get(url)
            gc.collect()
            began = time.monotonic()
            assert await c.fetch(url)
            assert time.monotonic() - began <= 0.5
            stats = c.transport.stats()
            assert (stats.leaks, len(told), stats.active) == (100, 100, 0), (stats.leaks, len(told), stats.active)

        run_colour(sys.argv[1], body, max_conns=2, trace=pt.ClientTrace(leaked=told.append))
        """

    def test_a_hundred_with_warnings_as_errors(self, colour, server_factory, tmp_path):
        server = server_factory(ok(b"x" * 300_000))
        flags = ("-W", "error::ResourceWarning")
        done = run_script(tmp_path / "app.py", self.HUNDRED, colour, server.url, flags=flags)
        assert 1 <= done.stderr.count("UnclosedResponseWarning") <= 12  # the 1st, 10th, 100th, each with its text
        assert server.peak <= 2


ONE_CONNECTION = {
    "threads": """
        import sys
        import pooltransport as pt

        for _ in range(int(sys.argv[2])):
            with pt.Client() as c:
                assert c.get(sys.argv[1]).content == b"hello"
        """,
    "asyncio": """
        import asyncio, sys
        import pooltransport as pt

        async def main():
            for _ in range(int(sys.argv[2])):
                async with pt.AsyncClient() as c:
                    assert (await c.get(sys.argv[1])).content == b"hello"

        asyncio.run(main())
        """,
    "trio": """
        import sys
        import trio
        import pooltransport as pt

        async def main():
            for _ in range(int(sys.argv[2])):
                async with pt.AsyncClient() as c:
                    assert (await c.get(sys.argv[1])).content == b"hello"

        trio.run(main)
        """,
}


class TestClientPerRequest:
    def test_a_thousand_clients_make_one_connection(self, colour, server_factory, tmp_path, scaled):
        server = server_factory(ok())
        count = scaled(1000, 100)
        flags = ("-W", "error", "-X", "dev")
        done = run_script(tmp_path / "app.py", ONE_CONNECTION[colour], server.url, count, flags=flags, timeout=100)
        assert "Warning" not in done.stderr
        assert (server.accepted, server.requests) == (1, count)
