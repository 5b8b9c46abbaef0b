"""What a dial that found no port, or no descriptor, says of the machine; with real sockets in tests/field."""

from __future__ import annotations

import errno

import pytest

from pooltransport import Request
from pooltransport.diagnosis import ports
from pooltransport.diagnosis.ports import FileUse, PortUse
from pooltransport.engine.kernel_notes import remote_addresses
from pooltransport.errors import ConnectError
from pooltransport.testing.fakes import Answers
from tests.engine.scenarios import OK, URL

NO_PORT = OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
NO_FILE = OSError(errno.EMFILE, "Too many open files")


@pytest.fixture
def asked(monkeypatch):
    """Give what the kernel was asked for; its answers are made up."""
    seen = []

    def port_use(addresses):
        seen.append(addresses)
        return PortUse(200, 150, 1000)

    monkeypatch.setattr(ports, "port_use", port_use)
    return seen


def refused(world, error, url=URL):
    world.runtime.on_dial = lambda dial: dial.refuse(error)
    with pytest.raises(ConnectError) as caught:
        world.runtime.run(world.get(url))
    return list(getattr(caught.value, "__notes__", ()))


def test_of_a_host_to_which_no_connection_was_ever_made(make_world, asked):
    """Whom it was to go to is known all the same."""
    world = make_world()
    assert refused(world, NO_PORT) == [
        "200 of 1000 local ports towards 192.0.2.1 are in use, 150 of them in TIME_WAIT (75%)",
        "this pool: 0 connections open to http://192.0.2.1:80, 0 closed since it began: none",
        "more: python -m pooltransport explain PT-PORTS",
    ]
    assert asked == [{("192.0.2.1", 80)}]


def test_what_this_pool_closed(make_world, asked):
    world = make_world(Answers(OK, OK))
    world.runtime.run(world.get())
    world.transport.close_idle_connections()
    world.runtime.run(world.get())
    world.transport.close_idle_connections()
    _, pool, _ = refused(world, NO_PORT)
    assert pool == (
        "this pool: 0 connections open to http://192.0.2.1:80, 2 closed since it began: 2 close_idle_called"
    )


def test_ipv6(make_world, asked):
    world = make_world(Answers(OK))
    world.runtime.run(world.get("http://[2001:db8::1]:8080/"))
    world.transport.close_idle_connections()
    used, _, _ = refused(world, NO_PORT, "http://[2001:db8::1]:8080/")
    assert used.startswith("200 of 1000 local ports towards 2001:db8::1 are in use")
    assert asked == [{("2001:db8::1", 8080)}]


def test_a_dial_of_the_callers_own_does_not_say_whom_it_tried(make_world, asked):
    async def dial(request):
        raise NO_PORT

    world = make_world(dial=dial)
    with pytest.raises(ConnectError) as caught:
        world.runtime.run(world.get())
    used, *_ = caught.value.__notes__
    assert used.startswith("200 of 1000 local ports towards anybody are in use")
    assert asked == [None]


def test_seldom_enough_to_cost_nothing(make_world, asked):
    """The next ones of ten seconds say the same."""
    world = make_world()
    first = refused(world, NO_PORT)
    world.runtime.advance(9.9)
    assert refused(world, NO_PORT) == first
    assert len(asked) == 1
    world.runtime.advance(0.2)
    refused(world, NO_PORT)
    assert len(asked) == 2


def test_where_the_system_does_not_say(make_world, monkeypatch):
    monkeypatch.setattr(ports, "port_use", lambda addresses: None)
    monkeypatch.setattr(ports, "file_use", lambda: None)
    assert [note.partition(":")[0] for note in refused(make_world(), NO_PORT)] == ["this pool", "more"]
    assert refused(make_world(), NO_FILE)[0].startswith(
        "this pool: 0 connections open, 0 of them idle; this process made "
    )


@pytest.mark.parametrize(
    ("use", "text"),
    [
        (FileUse(60, 40, 64), "60 file descriptors open, of 64 (RLIMIT_NOFILE); 40 of them are sockets"),
        (FileUse(60, 40, None), "60 file descriptors open, without a limit; 40 of them are sockets"),
    ],
)
def test_descriptors(make_world, monkeypatch, use, text):
    monkeypatch.setattr(ports, "file_use", lambda: use)
    first, pool, *lines = refused(make_world(), NO_FILE)
    assert first == text
    assert pool.startswith("this pool: 0 connections open, 0 of them idle; this process made ")
    assert 1 <= len(lines) <= 3
    assert all(" made in the last minute: " in line for line in lines)


def test_other_failures_say_nothing(make_world, asked):
    assert refused(make_world(), OSError(errno.ECONNREFUSED, "Connection refused")) == []
    assert asked == []


def test_addresses(make_world):
    world = make_world(Answers(OK))
    ledger = world.transport._engine.ledger
    assert remote_addresses(ledger, "http://192.0.2.1:80") is None
    world.runtime.run(world.get())
    world.runtime.streams[0].remote_addr = "/run/service.sock"
    ledger.memory.peers.clear()
    assert remote_addresses(ledger, "http://192.0.2.1:80") is None
    world.runtime.streams[0].remote_addr = "192.0.2.7:81"
    ledger.memory.note_peer("http://192.0.2.1:80", "192.0.2.1:80")
    assert remote_addresses(ledger, "http://192.0.2.1:80") == {("192.0.2.7", 81), ("192.0.2.1", 80)}
    response = world.runtime.run(world.transport.round_trip(Request("GET", URL)))
    world.runtime.run(response.aclose())
