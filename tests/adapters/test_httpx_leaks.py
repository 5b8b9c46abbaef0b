"""Responses that nobody closes, and requests that are cancelled, through the adapters."""

from __future__ import annotations

import gc
import inspect
import random
import sys
import warnings

import pooltransport as pt
from tests.support.colours import run_colour
from tests.support.responders import Responder, big, head, ok


def line_of(text):
    """Return the number of the line of this file that ends with ``# text``."""
    lines = inspect.getsource(sys.modules[__name__]).splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.endswith(f"# {text}"))


async def drop_sent(c, kit, client, url):
    request = client.build_request("GET", url)
    response = client.send(request, stream=True)  # leak: send
    if not c.sync:
        response = await response
    assert response.status_code == 200


async def drop_handled(c, kit, client, url):
    request = client.build_request("GET", url)
    adapter = client._transport
    response = (
        adapter.handle_request(request) if c.sync else await adapter.handle_async_request(request)  # leak: handle
    )
    assert response.status_code == 200


class TestLeaks:
    def test_the_warning_names_the_users_line(self, colour, kit, server_factory):
        server = server_factory(big(3_000_000))

        async def body(c):
            client = kit.client(c)
            told = []
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                await drop_sent(c, kit, client, server.url)
                gc.collect()
                await c.wait_until(lambda: c.transport.stats().active == 0)
                told = [w for w in caught if issubclass(w.category, pt.UnclosedResponseWarning)]
            await c.close(client)
            (warning,) = told
            text = str(warning.message)
            assert warning.filename == __file__
            # On a loop the line is the one that awaits.
            assert warning.lineno - line_of("leak: send") == (0 if c.sync else 2)
            fix = "with client.stream(...) as response:"
            assert f"Fix: `{fix if c.sync else f'async {fix}'}`" in text
            assert text.endswith("[PT-LEAK]")
            stats = c.transport.stats()
            assert (stats.leaks, stats.active, stats.leases) == (1, 0, 0)

        run_colour(colour, body)

    def test_a_transport_used_without_a_client(self, colour, kit, server_factory):
        server = server_factory(big(3_000_000))
        reports = []

        async def body(c):
            client = kit.client(c)
            await drop_handled(c, kit, client, server.url)
            gc.collect()
            await c.wait_until(lambda: c.transport.stats().leaks == 1)
            await c.close(client)

        run_colour(colour, body, trace=pt.ClientTrace(leaked=reports.append))
        (report,) = reports
        assert report.site == f"{__file__}:{line_of('leak: handle')}"
        assert "with client.stream(...)" in report.message

    def test_a_stream_that_stays_open_is_of_the_users_line(self, colour, kit, server_factory):
        server = server_factory(big(3_000_000))

        async def body(c):
            client = kit.client(c)
            if c.sync:
                with client.stream("GET", server.url):  # held: stream
                    (row,) = c.transport.stats(detail=True).lease_list
                assert row.site == f"{__file__}:{line_of('held: stream')}"
            else:
                async with client.stream("GET", server.url):  # held: astream
                    (row,) = c.transport.stats(detail=True).lease_list
                assert row.site == f"{__file__}:{line_of('held: astream')}"
            await c.close(client)

        run_colour(colour, body)

    def test_who_made_a_transport_that_nobody_closed(self, kit, server_factory):
        server = server_factory(ok())
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            client = kit.lib.Client(transport=kit.adapter.HTTPTransport())  # left: transport
            client.get(server.url)
            del client
            gc.collect()
            with pt.Transport() as other:
                other.stats()  # a safe point
        told = [w for w in caught if issubclass(w.category, pt.UnclosedTransportWarning)]
        assert [(w.filename, w.lineno) for w in told] == [(__file__, line_of("left: transport"))]

    def test_clients_that_leak_keep_their_pool(self, colour, kit, server_factory, scaled):
        """Two slots, and every other response is dropped: nobody waits in vain."""
        server = server_factory(big(300_000))
        rounds = scaled(1000, 40)

        async def body(c):
            client = kit.client(c, timeout=10)
            for turn in range(rounds):
                response = await kit.open(c, client, "GET", server.url)
                if turn % 2:
                    await c.close(response)
                del response
            gc.collect()
            await c.wait_until(lambda: c.transport.stats().active == 0)
            stats = c.transport.stats()
            assert (stats.leaks, stats.leases, stats.timeouts) == (rounds // 2, 0, {})
            await c.close(client)

        run_colour(colour, body, max_conns_per_host=2)


@Responder
def unhurried(conn, request):
    """Answer in three parts, a moment apart."""
    conn.send_pieces([head(length=20_000), b"x" * 10_000, b"x" * 10_000], 0.001)


def test_a_thousand_cancellations(loop_colour, kit, server_factory, scaled):
    """However timed: no slot is lost, no connection is used with a body left in it."""
    server = server_factory(unhurried)
    rounds = scaled(1000, 60)
    dice = random.Random(20)

    async def body(c):
        client = kit.client(c, timeout=20)

        async def get():
            response = await client.get(server.url)
            assert len(response.content) == 20_000

        async def stream():
            async with client.stream("GET", server.url) as response:
                async for _ in response.aiter_bytes():
                    pass

        async def post():
            await client.post(server.url, content=kit.body(c, b"a" * 1000, b"b" * 1000))

        done = 0
        while done < rounds:
            handles = [await c.start(dice.choice((get, stream, post))) for _ in range(10)]
            for handle in handles:
                handle.asked = True
                await c.sleep(dice.random() * 0.003)
                handle.cancel()
            await c.wait_until(lambda started=handles: all(handle.done for handle in started))
            done += len(handles)
        await c.wait_until(lambda: c.transport.stats().active == 0)
        stats = c.transport.stats()
        assert (stats.leases, stats.waiting, stats.leaks) == (0, 0, 0)
        await c.gather(*[get] * 8)
        assert c.transport.stats().open <= 3
        await c.close(client)

    # httpx on trio leaves its generators to the collector when a body is cancelled in the middle.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Async generator 'httpx", ResourceWarning)
        run_colour(loop_colour, body, max_conns_per_host=3)
