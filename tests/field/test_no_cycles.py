"""A failure leaves no cycle behind. One through its traceback would hold all that its frames knew until the collector
comes, the caller's responses among it: their slots would come back late.
"""

from __future__ import annotations

import gc
import weakref

import pytest
import trio

import pooltransport as pt
from tests.support.colours import run_colour
from tests.support.responders import Responder, head


class Mark:
    """What a frame knows."""


@Responder
def hang_up(conn, request):
    conn.close()


@Responder
def say_nothing(conn, request):
    conn.server.wait_stopping(10)  # or until the client has gone


@Responder
def talk_nonsense(conn, request):
    conn.send(b"nonsense\r\n\r\n")


@Responder
def stop_short(conn, request):
    conn.send(head(length=10) + b"short")
    conn.close()


async def is_gone(mark, colour, *, by_a_clock):
    """Report whether nothing holds `mark`. trio itself holds what its `move_on_after` caught, for another turn."""
    if colour == "trio" and by_a_clock:
        await trio.lowlevel.checkpoint()
        gc.collect()
    return mark() is None


def failing(*hosts):
    raise OSError("no such name")


@pytest.mark.parametrize(
    ("respond", "url", "options", "kind"),
    [
        pytest.param(None, "http://127.0.0.1:9", {}, pt.ConnectError, id="refused"),
        pytest.param(None, "http://name.example", {"resolver": failing}, pt.DNSError, id="no-name"),
        pytest.param(hang_up, None, {}, pt.ServerClosedConnection, id="hung-up"),
        pytest.param(say_nothing, None, {"response_header_timeout": 0.05}, pt.ResponseHeaderTimeout, id="silent"),
        pytest.param(talk_nonsense, None, {}, pt.RemoteProtocolError, id="nonsense"),
        pytest.param(say_nothing, "https", {"tls_handshake_timeout": 0.05}, pt.TLSHandshakeTimeout, id="no-tls"),
        pytest.param(stop_short, None, {}, pt.IncompleteBody, id="short"),
    ],
)
def test_a_failure_holds_nothing(colour, server_factory, respond, url, options, kind):
    if respond is not None:
        server = server_factory(respond)
        url = server.url if url is None else server.url.replace("http:", "https:")
    marks = []

    async def fail(c):
        mark = Mark()
        marks.append(weakref.ref(mark))
        try:
            await c.read(await c.get(url))
        except kind as error:
            return str(error)

    async def body(c):
        assert await fail(c) is not None  # what is made but once
        gc.collect()
        gc.disable()
        try:
            assert await fail(c) is not None
            assert await is_gone(marks[-1], colour, by_a_clock=issubclass(kind, pt.TransportTimeout))
        finally:
            gc.enable()

    run_colour(colour, body, **options)


def test_no_connection_in_time(colour, server_factory):
    server = server_factory(stop_short)
    marks = []

    async def fail(c):
        mark = Mark()
        marks.append(weakref.ref(mark))
        with pytest.raises(pt.PoolTimeout):
            await c.get(server.url, timeout=pt.Timeout(acquire=0.02))

    async def body(c):
        response = await c.get(server.url)
        await fail(c)
        gc.collect()
        gc.disable()
        try:
            await fail(c)
            assert await is_gone(marks[-1], colour, by_a_clock=True)
        finally:
            gc.enable()
        await c.close(response)

    run_colour(colour, body, max_conns_per_host=1)
