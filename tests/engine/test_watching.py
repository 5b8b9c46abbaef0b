"""Responses that are held for long: spoken of once for each class, ended by `lease_max`, left alone if declared."""

from __future__ import annotations

import logging

import pytest

from pooltransport import ClientTrace, Request, Timeout
from pooltransport.errors import LeaseExpired, TransportError
from pooltransport.testing.fakes import Answers
from tests.engine.scenarios import OK, OTHER, URL

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"


class Overdue:
    """A transport's trace that remembers what was said to be overdue."""

    def __init__(self):
        self.reports = []
        self.trace = ClientTrace(lease_overdue=self.reports.append)

    @property
    def classes(self):
        return [report.activity for report in self.reports]


@pytest.fixture
def told():
    return Overdue()


def open_response(world, url=URL, **fields):
    return world.runtime.run(world.transport.round_trip(Request("GET", url, **fields)))


def read_piece(world, response):
    """Start a reader that takes whatever comes, once."""

    async def read():
        return await anext(aiter(response.aiter_bytes()))

    return world.runtime.start(read(), "reader")


def close(world, *responses):
    for response in responses:
        world.runtime.run(response.aclose())


class TestSpokenOf:
    def test_once_when_its_time_has_come_and_not_before(self, make_world, told):
        world = make_world(Answers(HEAD), trace=told.trace, lease_warn_after=10.0)
        response = open_response(world)
        world.runtime.advance(9.9)
        assert told.reports == []
        world.runtime.advance(1.2)
        assert told.classes == ["idle_holder"]
        world.runtime.advance(100.0)
        assert told.classes == ["idle_holder"]
        (report,) = told.reports
        assert 10.0 <= report.age <= 11.1
        assert (report.method, report.origin, report.status_code) == ("GET", "http://192.0.2.1:80", 200)
        assert (report.bytes_read, report.bytes_expected) == (0, 100_000)
        assert report.site.startswith(__file__)
        assert (report.site, report.function) == (report.stack[0].partition(" in ")[0], "open_response")
        close(world, response)

    def test_each_change_of_class_is_told(self, make_world, told):
        world = make_world(Answers(HEAD), trace=told.trace, lease_warn_after=10.0, read_timeout=None)
        response = open_response(world)
        world.runtime.advance(12.0)
        reader = read_piece(world, response)
        world.runtime.advance(3.0)
        assert told.classes == ["idle_holder"]
        world.runtime.advance(10.0)
        assert told.classes == ["idle_holder", "slow_server"]
        world.runtime.streams[0].feed(b"x" * 90_000)  # bytes move again: nothing to say
        world.runtime.advance(2.0)
        assert reader.done
        assert told.classes == ["idle_holder", "slow_server"]
        world.runtime.advance(10.0)
        assert told.classes == ["idle_holder", "slow_server", "idle_holder"]
        close(world, response)

    def test_a_request_whose_answer_does_not_come(self, make_world, told):
        world = make_world(
            lambda dial: dial.accept(),
            trace=told.trace,
            lease_warn_after=10.0,
            response_header_timeout=None,
            read_timeout=None,
        )
        task = world.runtime.start(world.get())
        world.runtime.advance(12.0)
        assert told.classes == ["slow_server"]
        (report,) = told.reports
        assert report.status_code == 0
        assert "GET http://192.0.2.1:80 [no answer yet]" in report.message
        world.runtime.streams[0].feed(OK)
        world.runtime.run_until_idle()
        assert task.outcome() == b"hi"

    def test_a_slow_upload_is_no_slow_server(self, make_world, told):
        """The server waits for us; the generator gives a piece each second."""
        world = make_world(Answers(OK), trace=told.trace, lease_warn_after=10.0)

        async def pieces():
            for _ in range(30):
                await world.runtime.sleep(1.0)
                yield b"x" * 100

        async def put():
            async with await world.transport.round_trip(Request("PUT", URL, content=pieces())) as response:
                return await response.aread()

        stats = []
        task = world.runtime.start(put())
        for _ in range(28):
            world.runtime.advance(1.0)
            stats.append(world.transport.stats().leases_by_class)
        assert not task.done
        assert stats[-1]["progressing"] == 1
        assert told.classes == []
        world.runtime.advance(5.0)
        assert task.done

    def test_0_never_looks(self, make_world, told, caplog):
        world = make_world(Answers(HEAD), trace=told.trace, lease_warn_after=0)
        response = open_response(world)
        with caplog.at_level(logging.INFO, "pooltransport"):
            world.runtime.advance(1000.0)
            close(world, response)
            world.transport.stats()
        assert told.reports == []
        assert caplog.records == []

    @pytest.mark.parametrize("kind", ["declared", "events", "upgraded"])
    def test_what_is_meant_to_be_held_is_not_spoken_of(self, make_world, told, caplog, kind):
        answer, headers = {"declared": (HEAD, {}), "events": (EVENTS, {})}.get(
            kind, (SWITCH, {"Connection": "upgrade", "Upgrade": "x"})
        )
        world = make_world(Answers(answer), trace=told.trace, lease_warn_after=10.0)
        response = open_response(world, headers=headers)
        if kind == "declared":
            response.long_lived()
        with caplog.at_level(logging.INFO, "pooltransport"):
            world.runtime.advance(100.0)
            assert world.transport.stats().leases_by_class["declared_stream"] == 1
            close(world, response)
            world.transport.stats()
        assert told.reports == []
        assert caplog.records == []

    def test_only_what_is_overdue_is_looked_at(self, make_world, told):
        """A pass over a thousand young leases looks at none of them, nor at the class of any."""
        world = make_world(Answers(HEAD), trace=told.trace, lease_warn_after=10.0)
        old = [open_response(world) for _ in range(3)]
        world.runtime.advance(5.0)
        young = [open_response(world) for _ in range(50)]
        world.runtime.advance(6.0)
        assert told.classes == ["idle_holder"] * 3
        world.runtime.advance(6.0)
        assert told.classes == ["idle_holder"] * 53
        close(world, *old, *young)


class TestNotALeak:
    def test_it_is_taken_back_when_it_ends(self, make_world, told, caplog):
        world = make_world(Answers(HEAD), trace=told.trace, lease_warn_after=10.0, drain_limit=0)
        response = open_response(world)
        world.runtime.advance(30.0)
        caplog.clear()
        with caplog.at_level(logging.INFO, "pooltransport.leak"):
            world.runtime.advance(1.5)
            close(world, response)
            world.runtime.clock.advance(5.0)  # nobody says anything meanwhile
            world.transport.stats()
        (record,) = caplog.records
        assert record.levelname == "INFO"
        site = told.reports[0].site
        assert record.getMessage() == (
            f"response closed after 31.5 s, not a leak: GET http://192.0.2.1:80, opened at {site}"
        )
        assert (record.site, record.activity) == (site, "idle_holder")

    def test_what_was_dropped_is_not_taken_back(self, make_world, told, caplog):
        world = make_world(Answers(HEAD), trace=told.trace, lease_warn_after=10.0)
        response = open_response(world)
        world.runtime.advance(12.0)
        caplog.clear()
        with caplog.at_level(logging.INFO, "pooltransport.leak"), pytest.warns(ResourceWarning):  # noqa: PT031 - as below
            del response
            world.transport.stats()
        assert ["never closed" in record.getMessage() for record in caplog.records] == [True]

    def test_what_lease_max_ended_is_not_taken_back(self, make_world, caplog):
        world = make_world(Answers(HEAD), lease_warn_after=10.0, lease_max=20.0)
        response = open_response(world)
        world.runtime.advance(15.0)
        caplog.clear()
        with caplog.at_level(logging.INFO, "pooltransport.leak"):
            world.runtime.advance(10.0)
            with pytest.raises(LeaseExpired):
                world.runtime.run(response.aread())
            world.transport.stats()
        assert caplog.records == []


class TestLeaseMax:
    def test_a_reader_that_comes_later(self, make_world):
        world = make_world(Answers(HEAD), lease_max=20.0, max_conns_per_host=1)
        response = open_response(world)
        world.runtime.advance(19.0)
        assert world.transport.stats().leases == 1
        world.runtime.advance(2.0)
        stats = world.transport.stats()
        assert (stats.leases, stats.open, stats.closed) == (0, 0, {"lease_expired": 1})
        with pytest.raises(LeaseExpired, match=r"held for longer than 20 s \(lease_max\)"):
            world.runtime.run(response.aread())
        assert response.is_closed
        assert world.transport.stats().leaks == 0

    def test_a_reader_that_waits(self, make_world):
        world = make_world(Answers(HEAD), lease_max=20.0)
        response = open_response(world)
        world.runtime.advance(5.0)
        reader = read_piece(world, response)
        world.runtime.advance(14.0)
        assert not reader.done
        world.runtime.advance(2.0)
        with pytest.raises(LeaseExpired):
            reader.outcome()

    def test_a_request_that_waits_for_its_answer_is_not_sent_again(self, make_world):
        """On a connection that was used before it looks like a stale one; it is not."""
        answers = Answers(OK)
        world = make_world(answers, lease_max=20.0)
        world.runtime.run(world.get())
        world.runtime.streams[0].on_sent = None
        task = world.runtime.start(world.get())
        world.runtime.advance(25.0)
        with pytest.raises(LeaseExpired):
            task.outcome()
        assert len(world.runtime.streams) == 1
        assert world.transport.stats().retries == 0

    def test_who_waits_for_a_connection_gets_it(self, make_world):
        world = make_world(Answers(HEAD, OK), lease_max=20.0, max_conns_per_host=1)
        response = open_response(world)
        task = world.runtime.start(world.get(timeout=Timeout(acquire=30.0)))
        world.runtime.advance(22.0)
        assert task.outcome() == b"hi"
        with pytest.raises(LeaseExpired):
            world.runtime.run(response.aread())

    def test_who_drains_is_woken(self, make_world):
        world = make_world(Answers(HEAD), lease_max=20.0)
        response = open_response(world)
        drain = world.runtime.start(world.transport.drain())
        world.runtime.advance(22.0)
        assert drain.outcome() is True
        with pytest.raises(TransportError):
            world.runtime.run(response.aread())

    def test_who_closes_with_patience_is_woken(self, make_world):
        world = make_world(Answers(HEAD), lease_max=20.0)
        response = open_response(world)
        closing = world.runtime.start(world.transport.aclose(grace=1000.0))
        world.runtime.advance(22.0)
        assert closing.done
        with pytest.raises(LeaseExpired):
            world.runtime.run(response.aread())

    @pytest.mark.parametrize("warn_after", [0, 5.0, 60.0])
    @pytest.mark.parametrize("kind", ["declared", "events", "upgraded"])
    def test_declared_streams_are_left_alone_and_those_behind_them_are_not(self, make_world, kind, warn_after):
        answer, headers = {"declared": (HEAD, {}), "events": (EVENTS, {})}.get(
            kind, (SWITCH, {"Connection": "upgrade", "Upgrade": "x"})
        )
        streams = []

        def peer(dial):
            Answers(HEAD if streams else answer)(dial)
            streams.append(dial)

        world = make_world(peer, lease_max=20.0, lease_warn_after=warn_after)
        stream = open_response(world, headers=headers)
        if kind == "declared":
            stream.long_lived()
        other = open_response(world, OTHER)
        world.runtime.advance(30.0)
        assert [lease.origin for lease in world.transport.stats(detail=True).lease_list] == ["http://192.0.2.1:80"]
        assert not stream.is_closed
        with pytest.raises(LeaseExpired):
            world.runtime.run(other.aread())
        close(world, stream)

    def test_what_is_taken_back_from_the_declared_ends(self, make_world):
        world = make_world(Answers(HEAD), lease_max=20.0)
        response = open_response(world)
        response.long_lived()
        world.runtime.advance(30.0)
        assert world.transport.stats().leases == 1
        response.long_lived(False)
        world.runtime.advance(2.0)
        assert world.transport.stats().leases == 0
        close(world, response)

    def test_dropped_after_its_end_it_is_a_leak_all_the_same(self, make_world):
        world = make_world(Answers(HEAD), lease_max=20.0)
        response = open_response(world)
        world.runtime.advance(25.0)
        with pytest.warns(ResourceWarning, match="never closed"):  # noqa: PT031 - the second says it
            del response
            assert world.transport.stats().leaks == 1

    def test_what_ends_while_it_is_looked_at_ends_once(self, make_world):
        world = make_world(Answers(HEAD), lease_max=20.0)
        response = open_response(world)
        ledger = world.transport._engine.ledger
        (lease,) = ledger.leases.values()
        for _ in range(2):
            ledger.expire(lease)
        assert world.transport.stats().closed == {"lease_expired": 1}
        with pytest.raises(LeaseExpired):
            world.runtime.run(response.aread())


def test_an_upgraded_stream_may_be_declared_too(make_world):
    """It is one already, whatever is said."""
    world = make_world(Answers(SWITCH), lease_max=20.0)
    response = open_response(world, headers={"Connection": "upgrade", "Upgrade": "x"})
    response.long_lived()
    response.long_lived(False)
    world.runtime.advance(30.0)
    assert world.transport.stats().upgraded == 1
    close(world, response)
