"""`no_leaks` around a block, in each colour; and that the pytest plugin costs nothing until it is asked for."""

from __future__ import annotations

import contextlib
import gc
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import pooltransport as pt
from pooltransport.lease import Lease
from pooltransport.testing import PoolLeakError, no_leaks
from tests.support.colours import run_colour
from tests.support.responders import big, ok

SOURCE = str(Path(__file__).parent.parent.parent / "src")


@contextlib.asynccontextmanager
async def watched(c, **options):
    """Enter `no_leaks` in the way of the colour."""
    if c.sync:
        with no_leaks(**options):
            yield
    else:
        async with no_leaks(**options):
            yield


@pytest.fixture
def url(server_factory):
    return server_factory(big(4_000_000)).url


class TestEachColour:
    def test_closed_and_read(self, colour, server_factory):
        server = server_factory(ok())

        async def body(c):
            async with watched(c):
                assert await c.fetch(server.url) == b"hello"

        run_colour(colour, body)

    def test_left_open(self, colour, url):
        async def body(c):
            with pytest.raises(PoolLeakError, match="still open, nobody reads it") as caught:
                async with watched(c):
                    response = await c.get(url)
            await c.close(response)
            return str(caught.value)

        text = run_colour(colour, body, leak_detection="full")  # the colours' own frames fill a short stack
        assert text.startswith("1 response was never closed:\n  GET http://127.0.0.1:")
        assert "test_no_leaks.py:" in text
        fix = "`with transport" if colour == "threads" else "`async with await transport"
        assert f"    Fix: {fix}.round_trip(...) as response:`" in text

    @pytest.mark.filterwarnings("ignore::ResourceWarning")
    def test_dropped(self, colour, url):
        async def body(c):
            with pytest.raises(PoolLeakError, match="found by the garbage collector"):
                async with watched(c):
                    await c.get(url)
            async with watched(c, max=1):
                await c.get(url)
            with pytest.raises(PoolLeakError, match="2 responses were never closed, 1 allowed"):
                async with watched(c, max=1):
                    await c.get(url)
                    await c.get(url)

        run_colour(colour, body)

    def test_a_drain_is_waited_for(self, colour, url):
        async def body(c):
            async with watched(c):
                await c.close(await c.get(url))

        run_colour(colour, body, drain_limit=10_000_000, drain_timeout=5.0)

    def test_what_was_open_before_is_nobodys_business(self, colour, url):
        async def body(c):
            response = await c.get(url)
            async with watched(c):
                pass
            await c.close(response)

        run_colour(colour, body)

    def test_a_task_or_thread_of_the_block(self, colour, url):
        async def body(c):
            opened = []

            async def leak():
                opened.append(await c.get(url))

            with pytest.raises(PoolLeakError, match="1 response"):
                async with watched(c):
                    await c.wait(await c.start(leak))
            await c.close(opened[0])

        run_colour(colour, body)

    def test_transports(self, colour, server_factory):
        server = server_factory(ok())

        async def body(c):
            made = []
            with pytest.raises(PoolLeakError, match=r"Transport made at .*left open with 1 connection, 1 of them idle"):
                async with watched(c):
                    made.append(c.make_transport())
                    await c.read(await c.round_trip(pt.Request("GET", server.url), made[0]))
            async with watched(c, clients=False):
                made.append(c.make_transport())
                await c.read(await c.round_trip(pt.Request("GET", server.url), made[1]))
            async with watched(c):
                made.append(c.make_transport())
                await c.read(await c.round_trip(pt.Request("GET", server.url), made[2]))
                await c.close_transport(made[2])
            for transport in made:
                await c.close_transport(transport)

        run_colour(colour, body)


def test_an_error_passes_and_nothing_is_checked(url):
    with pt.Transport() as transport:
        responses = []
        with pytest.raises(ZeroDivisionError), no_leaks():
            responses.append(transport.round_trip(pt.Request("GET", url)))
            raise ZeroDivisionError
        with no_leaks():
            pass
        responses[0].close()


def test_blocks_in_blocks(url):
    """What the inner one has told of is not told again."""
    with pt.Transport() as transport, no_leaks():
        with pytest.raises(PoolLeakError):
            with no_leaks():
                response = transport.round_trip(pt.Request("GET", url))
        response.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_thread_without_the_context(url):
    kept = []

    def leak():
        kept.append(transport.round_trip(pt.Request("GET", url)))

    with pytest.raises(PoolLeakError, match="thread 'mine'"), no_leaks():
        with pt.Transport() as transport:
            thread = threading.Thread(target=leak, name="mine")
            thread.start()
            thread.join()
    kept[0].close()


def test_nothing_is_kept_of_what_was_closed(server_factory):
    server = server_factory(ok())
    with pt.Transport() as transport, no_leaks():
        for _ in range(600):
            transport.round_trip(pt.Request("GET", server.url)).read()
        assert sum(isinstance(found, Lease) for found in gc.get_objects()) < 300


def test_entered_once_at_a_time():
    block = no_leaks()
    with block, pytest.raises(RuntimeError, match="entered already"):
        block.__enter__()
    with block:
        pass


@pytest.mark.parametrize("most", [-1, 1.0, True, "1"])
def test_a_count_that_is_none(most):
    with pytest.raises(ValueError, match="whole number"):
        no_leaks(max=most)


def run(code: str) -> str:
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {SOURCE!r})\n{code}"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout


def test_the_plugin_is_inert():
    """Loaded with pytest, it brings nothing but itself."""
    code = (
        "import pytest; before = set(sys.modules)\n"
        "import pooltransport.testing.pytest_plugin\n"
        "print(sorted(set(sys.modules) - before))"
    )
    assert run(code).strip() == "['pooltransport', 'pooltransport.testing', 'pooltransport.testing.pytest_plugin']"
