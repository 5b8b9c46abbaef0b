"""One exchange of several requests as a whole: cancelled anywhere it loses no slot; dropped, it names the line."""

from __future__ import annotations

import gc

import pytest

import pooltransport as pt
from tests.client.test_auth import DigestServer
from tests.support.colours import run_colour
from tests.support.routes import routes


def long_way(request):
    """A redirect, a challenge and a repetition on the way to one answer."""
    return (302, {"Location": "/b"}, b"x" * 50_000)


def test_cancelled_anywhere(loop_colour, server_factory):
    """Pain 3: at each of its first 120 turns of the loop; the two slots are there afterwards."""
    failures = iter([True, False] * 1000)
    digest = DigestServer()

    def unsteady(request):
        return (503, {}, b"no") if next(failures) else digest(request)

    server = server_factory(routes({"/a": long_way, "/b": unsteady, "/c": (200, {}, b"")}))
    policy = pt.Retry(20, status_forcelist=[503], backoff_factor=0.0)

    async def body(c):
        for turns in range(120):
            client = c.make_client(auth=pt.DigestAuth("user", "pass"), retry=policy)
            handle = await c.start(lambda client=client: client.get(server.url + "/a"))
            for _ in range(turns):
                await c.sleep(0)
            handle.cancel()
            await c.wait_until(lambda handle=handle: handle.done)
            handle.asked = True
        await c.wait_until(lambda: c.transport.stats().leases == 0)
        await c.gather(*[lambda: c.make_client(timeout=10.0).get(server.url + "/c") for _ in range(20)])
        stats = c.transport.stats()
        assert stats.active == 0
        assert stats.leaks == 0

    run_colour(loop_colour, body, max_conns_per_host=2)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_streamed_one_that_is_dropped_names_the_callers_line(colour, server_factory, caplog):
    server = server_factory(routes({"/a": long_way, "/b": (200, {}, b"x" * 1_000_000)}))

    async def body(c):
        client = c.make_client()
        response = await c.call(client.send, client.build_request("GET", server.url + "/a"), stream=True)
        assert response.history
        del response
        gc.collect()
        c.transport.stats()  # a safe point
        await c.wait_until(lambda: caplog.records)

    run_colour(colour, body)
    (record,) = caplog.records
    assert "colours.py" in record.getMessage()  # who called the client, and nothing of its own
    assert "client.send(request, stream=True) as response:`" in record.getMessage()
