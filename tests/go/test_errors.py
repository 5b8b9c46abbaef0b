"""ERR: what a failure is called, and what its text says."""

from __future__ import annotations

import errno
import socket
import threading

import pytest

import pooltransport as pt
from pooltransport import ClientTrace, InvalidRequest, Request
from pooltransport.errors import (
    ConnectError,
    DNSError,
    PoolTimeout,
    ReadError,
    RemoteProtocolError,
    ServerClosedConnection,
    WriteError,
)
from pooltransport.runtime.protocols import NothingWritten
from pooltransport.testing.fakes import END, Answers
from pooltransport.url import parse_url
from tests.engine.scenarios import OK
from tests.support.colours import run_colour
from tests.support.responders import no_response_close, no_response_reset, ok, slow


def closed_port():
    """Return a port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def chain(error):
    """Return `error` and what caused it, and so on."""
    found = []
    while error is not None:
        found.append(error)
        error = error.__cause__
    return found


@pytest.mark.go("ERR-01")
def test_refused(colour):
    """The address, the system's words and number; nothing was processed."""
    port = closed_port()

    async def body(c):
        with pytest.raises(ConnectError, match=rf"cannot connect to http://127.0.0.1:{port}: .*[Rr]efused") as caught:
            await c.fetch(f"http://127.0.0.1:{port}/secret-path")
        error = caught.value
        assert isinstance(error, ConnectionError)
        assert not error.may_have_been_processed
        assert [(tried.address, tried.errno) for tried in error.attempts] == [(f"127.0.0.1:{port}", errno.ECONNREFUSED)]
        assert "secret-path" not in str(error)
        assert c.transport.stats().dial_errors == 1

    run_colour(colour, body)


@pytest.mark.go("ERR-02")
def test_a_name_that_is_none(make_world):
    """Look-up hooks are told, those of a connect are not."""
    told = []
    names = ("dns_start", "dns_done", "connect_start", "connect_done", "got_conn")
    trace = ClientTrace(**{name: (lambda info, name=name: told.append(name)) for name in names})
    world = make_world(Answers(OK))
    world.runtime.resolver.names["nowhere.test"] = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    with pytest.raises(
        DNSError, match="cannot resolve 'nowhere.test': unknown name: Name or service not known"
    ) as caught:
        world.runtime.run(world.get("http://nowhere.test/", trace=trace))
    assert told == ["dns_start", "dns_done"]
    assert isinstance(caught.value.__cause__, socket.gaierror)
    assert not caught.value.may_have_been_processed


@pytest.mark.go("ERR-03", "RETRY-01")
def test_a_new_connection_closed_without_a_word(colour, server_factory):
    server = server_factory(no_response_close)

    async def body(c):
        with pytest.raises(ServerClosedConnection, match="without answering, on a new connection") as caught:
            await c.fetch(server.url)
        assert (caught.value.reused, caught.value.bytes_written > 0) == (False, True)
        assert caught.value.may_have_been_processed

    run_colour(colour, body)
    assert server.requests == 1


@pytest.mark.go("ERR-03")
def test_a_new_connection_reset_without_a_word(colour, server_factory):
    server = server_factory(no_response_reset)

    async def body(c):
        with pytest.raises((ServerClosedConnection, WriteError), match="[Rr]eset") as caught:
            await c.fetch(server.url)
        assert [e.errno for e in chain(caught.value) if isinstance(e, OSError) and e.errno] == [errno.ECONNRESET]

    run_colour(colour, body)
    assert server.requests == 1


@pytest.mark.go("ERR-04")
@pytest.mark.parametrize(
    ("script", "kind", "text"),
    [
        ((b"HTTP/1.1 200 OK\r\nX", END), RemoteProtocolError, "closed the connection inside the response header"),
        (
            (b"HTTP/1.1 200 OK\r\nX", ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")),
            RemoteProtocolError,
            "Connection reset by peer.*inside the response header",
        ),
        ((b"nonsense\r\n\r\n",), RemoteProtocolError, "not valid HTTP/1.1"),
    ],
)
def test_broken_within_the_header(make_world, script, kind, text):
    """What it was is said, and what caused it is chained."""
    world = make_world(Answers(script))
    with pytest.raises(kind, match=text) as caught:
        world.runtime.run(world.get())
    assert len(chain(caught.value)) == (1 if END in script else 2)


@pytest.mark.go("ERR-05", "WRITE-13")
def test_the_bodys_own_error_comes_first(colour, server_factory):
    """The server has closed, and the generator fails: it is the generator's error, the very object."""
    seen = threading.Event()

    def handler(conn):
        conn.read_head()
        seen.set()
        conn.wait_for(release)
        conn.close()

    release = threading.Event()
    server = server_factory(handler)
    failure = LookupError("of the user's own")

    async def body(c):
        def chunks():
            yield b"one"
            assert seen.wait(5.0)
            release.set()
            raise failure

        async def achunks():
            yield b"one"
            await c.wait_until(seen.is_set)
            release.set()
            raise failure

        with pytest.raises(LookupError) as caught:
            await c.request("POST", server.url, content=chunks() if c.sync else achunks())
        assert caught.value is failure

    run_colour(colour, body)


@pytest.mark.go("ERR-06")
@pytest.mark.parametrize(
    "prepare",
    [
        lambda stream: setattr(stream, "break_writes", NothingWritten(errno.EPIPE, "Broken pipe")),
        lambda stream: setattr(stream, "break_writes", OSError(errno.ECONNRESET, "Connection reset by peer")),
        lambda stream: setattr(stream, "hold_writes", True),
        lambda stream: stream.play(END),
        lambda stream: stream.play(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi"),
        lambda stream: stream.play(
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi", OSError(errno.EIO, "I/O error"))
        ),
        lambda stream: None,
    ],
    ids=["nothing_written", "reset", "write_stalls", "closed", "body_stalls", "body_fails", "no_header"],
)
def test_only_public_errors_come_out(make_world, prepare):
    """Never one of ours that says how the inside works, and never a bare one of the system."""
    world = make_world(lambda dial: prepare(dial.accept()))
    with pytest.raises(pt.TransportError) as caught:
        world.runtime.run(world.get())
    assert type(caught.value).__module__ == "pooltransport.errors"
    assert getattr(pt, type(caught.value).__name__) is type(caught.value)
    assert "192.0.2.1" in str(caught.value)


@pytest.mark.go("ERR-07")
def test_no_error_shows_a_password(make_world):
    """Nor path and query. What the URL itself gives for logs has the password hidden."""
    url = "http://user:hunter2@192.0.2.1/private?token=abc"
    texts = [repr(Request("GET", url)), repr(parse_url(url))]
    for peer in (lambda dial: dial.refuse(), Answers(END), Answers(b"nonsense\r\n\r\n"), Answers(())):
        world = make_world(peer)
        with pytest.raises(pt.TransportError) as caught:
            world.runtime.run(world.get(url, timeout=1.0))
        texts += [str(e) + repr(e) + "".join(getattr(e, "__notes__", ())) for e in chain(caught.value)]
    world = make_world(Answers(()), max_conns_per_host=1)
    holder = world.runtime.start(world.get(url))
    world.runtime.run_until_idle()
    with pytest.raises(PoolTimeout) as caught:
        world.runtime.run(world.get(url, timeout=1.0))
    texts += [str(caught.value), *caught.value.__notes__]
    holder.cancel()
    world.runtime.run_until_idle()
    refused = make_world(Answers(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"))
    response = refused.runtime.run(refused.transport.round_trip(Request("GET", url)))
    with pytest.raises(pt.HTTPStatusError) as status:
        response.raise_for_status()
    texts += [str(status.value), repr(response)]
    assert not [text for text in texts if "hunter2" in text]
    assert not [text for text in texts[2:-2] if "private" in text or "token" in text]


@pytest.mark.go("ERR-08")
@pytest.mark.parametrize("port", ["123foo", "foo", "-1", "+80", " 80", "65536", "8_0", "\u0661"])
def test_ports_that_are_none(port):
    with pytest.raises(InvalidRequest, match="port"):
        Request("GET", f"http://example.com:{port}/")


@pytest.mark.go("ERR-09")
def test_an_answer_or_an_error(colour, server_factory):
    """A call returns or raises: an error status is an answer, and an error holds no connection."""
    server = server_factory(ok(b"no", status="500 Internal Server Error"))

    async def body(c):
        response = await c.get(server.url)
        assert (response.status_code, await c.read(response)) == (500, b"no")
        port = closed_port()
        with pytest.raises(ConnectError) as caught:
            await c.get(f"http://127.0.0.1:{port}/")
        assert not hasattr(caught.value, "response")
        assert c.transport.stats().leases == 0

    run_colour(colour, body)


@pytest.mark.go("ERR-05")
def test_a_timeout_says_more_than_the_end_that_follows(colour, server_factory):
    """What is told is what came first."""
    server = server_factory(slow(threading.Event()))

    async def body(c):
        with pytest.raises(pt.ResponseHeaderTimeout) as caught:
            await c.fetch(server.url, timeout=pt.Timeout(response_header=0.05))
        assert not isinstance(caught.value, ReadError)
        assert (caught.value.phase, caught.value.setting) == ("headers", "response_header")

    run_colour(colour, body)
