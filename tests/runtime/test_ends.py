"""What a program leaves open: told once at its end, or at that of its transport or loop; and quiet where nothing is."""

from __future__ import annotations

import threading

import pytest

import pooltransport as pt
from tests.support.responders import ok, stall
from tests.support.scripts import run_script

LEAVING = {
    "threads": """
        import sys
        import pooltransport as pt

        transport = pt.Transport()
        kept = []

        def leave(url):
            kept.append(transport.round_trip(pt.Request("GET", url)))  # the line

        leave(sys.argv[1])
        print("went on")
        """,
    "asyncio": """
        import asyncio, sys
        import pooltransport as pt

        kept = []

        async def leave(transport, url):
            kept.append(await transport.round_trip(pt.Request("GET", url)))  # the line

        async def main():
            transport = pt.AsyncTransport()
            kept.append(transport)
            await leave(transport, sys.argv[1])
            print("went on")

        asyncio.run(main())
        """,
    "trio": """
        import sys
        import trio
        import pooltransport as pt

        kept = []

        async def leave(transport, url):
            kept.append(await transport.round_trip(pt.Request("GET", url)))  # the line

        async def main():
            transport = pt.AsyncTransport()
            kept.append(transport)
            await leave(transport, sys.argv[1])
            print("went on")

        trio.run(main)
        """,
}
WITH = {
    "threads": """
        import sys
        import pooltransport as pt

        with pt.Transport() as transport:
            kept = transport.round_trip(pt.Request("GET", sys.argv[1]))
        print(transport.stats().leaks_by_found)
        del kept
        print(transport.stats().leaks)
        """,
    "asyncio": """
        import asyncio, sys
        import pooltransport as pt

        async def main():
            async with pt.AsyncTransport() as transport:
                kept = await transport.round_trip(pt.Request("GET", sys.argv[1]))
            print(transport.stats().leaks_by_found)
            del kept
            print(transport.stats().leaks)

        asyncio.run(main())
        """,
    "trio": """
        import sys
        import trio
        import pooltransport as pt

        async def main():
            async with pt.AsyncTransport() as transport:
                kept = await transport.round_trip(pt.Request("GET", sys.argv[1]))
            print(transport.stats().leaks_by_found)
            del kept
            print(transport.stats().leaks)

        trio.run(main)
        """,
}
CORRECT = {
    "threads": """
        import sys
        import pooltransport as pt

        url = sys.argv[1]
        shared = pt.Client()  # idle at the end, and never closed: as it should be
        assert shared.get(url).content == b"hello"
        with pt.Transport(max_conns_per_host=2) as transport, pt.Client(transport=transport) as client:
            assert client.get(url).content == b"hello"
            with client.stream("GET", url) as response:
                assert b"".join(response.iter_bytes()) == b"hello"
            with client.stream("GET", url) as response:
                pass  # not read, and closed
            response = transport.round_trip(pt.Request("GET", url))
            response.read()
        """,
    "asyncio": """
        import asyncio, sys
        import pooltransport as pt

        async def main(url):
            shared = pt.AsyncClient()
            assert (await shared.get(url)).content == b"hello"
            async with pt.AsyncTransport(max_conns_per_host=2) as transport:
                client = pt.AsyncClient(transport=transport)
                assert (await client.get(url)).content == b"hello"
                async with client.stream("GET", url) as response:
                    assert await response.aread() == b"hello"
                async with client.stream("GET", url) as response:
                    pass
                response = await transport.round_trip(pt.Request("GET", url))
                await response.aread()

        for _ in range(2):
            asyncio.run(main(sys.argv[1]))
        """,
    "trio": """
        import sys
        import trio
        import pooltransport as pt

        async def main(url):
            shared = pt.AsyncClient()
            assert (await shared.get(url)).content == b"hello"
            async with pt.AsyncTransport(max_conns_per_host=2) as transport:
                client = pt.AsyncClient(transport=transport)
                assert (await client.get(url)).content == b"hello"
                async with client.stream("GET", url) as response:
                    assert await response.aread() == b"hello"
                async with client.stream("GET", url) as response:
                    pass
                response = await transport.round_trip(pt.Request("GET", url))
                await response.aread()

        for _ in range(2):
            trio.run(main, sys.argv[1])
        """,
}


def line_of(path):
    lines = path.read_text("utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.endswith("# the line"))


@pytest.mark.parametrize("flags", [(), ("-X", "dev"), ("-W", "error::ResourceWarning")], ids=["plain", "dev", "error"])
def test_left_open(colour, server_factory, tmp_path, flags):
    """On threads until the process ends; on loops until theirs does."""
    server = server_factory(ok(b"x" * 3_000_000))
    app = tmp_path / "app.py"
    done = run_script(app, LEAVING[colour], server.url, flags=flags)
    assert done.stdout == "went on\n"
    how = "when the process ended" if colour == "threads" else "when its transport, or the loop, was closed"
    told = done.stderr.split("response never closed: ")
    if flags != ("-W", "error::ResourceWarning"):
        assert f"It was still open {how}" in told[1]
    assert f"{app}:{line_of(app)} in leave" in done.stderr
    records = done.stderr.count("response never closed: ")
    # By the logger, and with `-X dev` or as an error by the warnings too: each once.
    assert records == (1 if not flags else 2), done.stderr
    if flags != ("-W", "error::ResourceWarning"):
        assert "Traceback" not in done.stderr, done.stderr
    assert "not a leak" not in done.stderr


def test_left_open_by_with(colour, server_factory, tmp_path):
    server = server_factory(ok(b"x" * 3_000_000))
    done = run_script(tmp_path / "app.py", WITH[colour], server.url)
    assert done.stdout == "{'gc': 0, 'rescue': 0, 'close': 1, 'exit': 0}\n1\n"
    assert done.stderr.count("response never closed") == 1


def test_correct_programs_are_quiet(colour, server_factory, tmp_path):
    server = server_factory(ok())
    done = run_script(tmp_path / "app.py", CORRECT[colour], server.url, flags=("-X", "dev", "-W", "error"))
    # asyncio's debug mode speaks of turns that took long: the first request's imports, on a busy machine.
    assert [line for line in done.stderr.splitlines() if not line.startswith("Executing ")] == []


def test_level_by_environment(server_factory, tmp_path):
    """``full`` tells the whole stack to who asks the hook for it."""
    script = """
        import sys
        import pooltransport as pt

        told = []
        with pt.Transport(trace=pt.ClientTrace(leaked=told.append)) as transport:

            def deep(levels):
                if levels:
                    deep(levels - 1)
                else:
                    transport.round_trip(pt.Request("GET", sys.argv[1]))

            deep(40)
            transport.stats()
        print(len(told[0].stack))
        """
    server = server_factory(ok(b"x" * 3_000_000))
    counts = {}
    for level in ("off", "site", "full"):
        env = {"POOLTRANSPORT_LEAK_DETECTION": level}
        counts[level] = int(run_script(tmp_path / "app.py", script, server.url, env=env).stdout)
    assert counts["off"] == 0
    assert 1 < counts["site"] < 20
    assert counts["full"] >= 41


def test_who_reads_in_another_thread_has_forgotten_nothing(server_factory):
    """Leaving `with` ends its response, with one warning; it is no leak of the line that opened it."""
    never = threading.Event()
    server = server_factory(stall(never))
    failures = []

    def work():
        try:
            with transport.round_trip(pt.Request("GET", server.url)) as response:
                response.read()
        except pt.TransportClosed as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    with pytest.warns(ResourceWarning, match="left with 1 responses open"):  # noqa: PT031 - the threads are in it
        with pt.Transport() as transport:
            thread.start()
            server.wait_until(lambda: any(row.reader_waiting_s for row in transport.stats(detail=True).lease_list))
        thread.join(10)
        assert transport.stats().leaks == 0
    assert len(failures) == 1
