"""Every clock of contract section 2, fired by the fake clock: which error, `.phase`, `.setting`, `.seconds`, text."""

from __future__ import annotations

import pytest

from pooltransport import Request, Timeout
from pooltransport.errors import (
    ConnectTimeout,
    PoolTimeout,
    ReadTimeout,
    ResponseHeaderTimeout,
    TLSHandshakeTimeout,
    WriteTimeout,
)
from pooltransport.testing.fakes import Answers
from tests.engine.scenarios import OK, TLS, URL

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"


def silent(dial):
    """Leave the dial unanswered."""


def fails(world, kind, *, phase, setting, seconds, after=None, url=URL, **fields):
    """Send a request that must time out, and compare what the error says."""
    began = world.runtime.now()
    with pytest.raises(kind) as caught:
        world.runtime.run(world.get(url, **fields))
    error = caught.value
    assert type(error) is kind
    assert (error.phase, error.setting, error.seconds) == (phase, setting, seconds)
    assert world.runtime.now() - began == pytest.approx(seconds if after is None else after, abs=0.01)
    text = " ".join([str(error), *getattr(error, "__notes__", ())])
    assert f"{seconds:g} s" in text
    assert setting in text
    assert f"phase {phase}" in text
    stats = world.transport.stats()
    assert stats.leases == stats.active == stats.waiting == 0
    assert stats.timeouts.get(phase, 0) + stats.dial_errors >= 1
    return error


class TestQueue:
    def hold(self, world):
        return world.runtime.run(world.transport.round_trip(Request("GET", URL)))

    @pytest.mark.parametrize(
        ("options", "timeout", "setting", "seconds"),
        [
            ({"acquire_timeout": 2.0}, None, "acquire_timeout", 2.0),
            ({"acquire_timeout": 2.0}, Timeout(acquire=1.0), "acquire", 1.0),
            ({}, 3.0, "timeout", 3.0),
            ({"acquire_timeout": 2.0}, 1.0, "timeout", 1.0),
        ],
    )
    def test_bounds(self, make_world, options, timeout, setting, seconds):
        world = make_world(Answers(HEAD), max_conns_per_host=1, **options)
        response = self.hold(world)
        fields = {} if timeout is None else {"timeout": timeout}
        with pytest.raises(PoolTimeout) as caught:
            world.runtime.run(world.get(**fields))
        error = caught.value
        assert (error.phase, error.setting, error.seconds) == ("queue", setting, seconds)
        assert "1 of 1 in use" in str(error)
        assert (error.limit, error.limit_scope, error.origin) == (1, "per_host", "http://192.0.2.1:80")
        assert error.waited == pytest.approx(seconds)
        assert world.transport.stats().timeouts == {"queue": 1}
        world.runtime.run(response.aclose())

    def test_without_any_clock_it_ends_after_a_minute(self, make_world):
        # contract 1.6
        world = make_world(Answers((HEAD, b"x")), max_conns_per_host=1, read_timeout=None)
        response = self.hold(world)
        began = world.runtime.now()
        with pytest.raises(PoolTimeout) as caught:
            world.runtime.run(world.get())
        assert world.runtime.now() - began == pytest.approx(60)
        assert caught.value.seconds == 60
        world.runtime.run(response.aclose())


class TestDial:
    def test_dns(self, make_world):
        world = make_world(silent, dial_timeout=4.0)
        fails(world, ConnectTimeout, phase="dns", setting="dial_timeout", seconds=4.0, url="http://slow.test/")

    def test_connect_all_addresses_together(self, make_world):
        world = make_world(silent, dial_timeout=6.0)
        world.runtime.resolver.names["two.test"] = ["192.0.2.8", "192.0.2.9"]
        url = "http://two.test/"
        error = fails(world, ConnectTimeout, phase="connect", setting="dial_timeout", seconds=6.0, url=url)
        assert "192.0.2.8:80: no answer within 3 s (errno 110)" in str(error)
        assert "192.0.2.9:80: no answer within 5.8 s (errno 110)" in str(error)
        assert [attempt.address for attempt in error.attempts] == ["192.0.2.8:80", "192.0.2.9:80"]
        assert [dial.at - world.runtime.now() for dial in world.runtime.dials] == pytest.approx([-3.0, 0.0])

    def test_the_callers_own_bound_leaves_the_dial_alone(self, make_world):
        world = make_world(silent)
        timeout = Timeout(connect=2.0)
        fails(world, ConnectTimeout, phase="connect", setting="connect", seconds=2.0, timeout=timeout)
        assert world.transport.stats().dialing == 1
        Answers(OK)(world.runtime.dials[0])
        world.runtime.run_until_idle()
        assert world.transport.stats().idle == 1  # an orphan's work is not lost

    def test_total(self, make_world):
        world = make_world(silent)
        fails(world, ConnectTimeout, phase="connect", setting="timeout", seconds=1.5, timeout=1.5)

    @pytest.mark.parametrize(
        ("options", "timeout", "setting", "seconds"),
        [
            ({}, {}, "tls_handshake_timeout", 10.0),
            ({"tls_handshake_timeout": 3.0}, {}, "tls_handshake_timeout", 3.0),
            ({}, {"timeout": Timeout(tls=2.0)}, "tls", 2.0),
        ],
    )
    def test_tls(self, make_world, options, timeout, setting, seconds):
        world = make_world(lambda dial: setattr(dial.accept(), "hold_tls", True), ssl_context=TLS, **options)
        url = "https://192.0.2.1/"
        fails(world, TLSHandshakeTimeout, phase="tls", setting=setting, seconds=seconds, url=url, **timeout)
        assert world.runtime.open_streams == []

    def test_tls_within_the_dial(self, make_world):
        world = make_world(lambda dial: setattr(dial.accept(), "hold_tls", True), ssl_context=TLS, dial_timeout=5.0)
        url = "https://192.0.2.1/"
        fails(world, ConnectTimeout, phase="tls", setting="dial_timeout", seconds=5.0, url=url)


class TestExchange:
    def test_write(self, make_world):
        world = make_world(lambda dial: setattr(dial.accept(), "hold_writes", True), write_timeout=7.0)
        fails(world, WriteTimeout, phase="write", setting="write_timeout", seconds=7.0)
        assert world.transport.stats().closed == {"body_timeout": 1}

    def test_headers(self, make_world):
        world = make_world(Answers(()), response_header_timeout=5.0)
        error = fails(world, ResponseHeaderTimeout, phase="headers", setting="response_header_timeout", seconds=5.0)
        assert error.may_have_been_processed is True
        assert world.transport.stats().closed == {"header_timeout": 1}

    def test_informational_answers_do_not_extend_it(self, make_world):
        world = make_world(Answers(()), response_header_timeout=5.0)

        async def hints():
            for _ in range(9):
                await world.runtime.sleep(1.0)
                for stream in world.runtime.open_streams:
                    stream.feed(b"HTTP/1.1 103 Early\r\n\r\n")

        world.runtime.start(hints())
        fails(world, ResponseHeaderTimeout, phase="headers", setting="response_header_timeout", seconds=5.0)

    def test_no_byte_of_a_header(self, make_world):
        world = make_world(Answers(()), read_timeout=4.0)
        fails(world, ReadTimeout, phase="headers", setting="read_timeout", seconds=4.0)

    def test_body(self, make_world):
        world = make_world(Answers(HEAD + b"ab"), read_timeout=4.0)
        fails(world, ReadTimeout, phase="body", setting="read_timeout", seconds=4.0)
        assert world.transport.stats().closed == {"body_timeout": 1}

    def test_every_byte_starts_the_clock_of_a_body_anew(self, make_world):
        world = make_world(Answers(HEAD), read_timeout=2.0)

        async def drip():
            for _ in range(5):
                await world.runtime.sleep(1.5)
                world.runtime.streams[0].feed(b"x")

        world.runtime.start(drip())
        assert world.runtime.run(world.get()) == b"xxxxx"

    def test_min_rate(self, make_world):
        world = make_world(Answers(HEAD), min_rate=(100, 5.0))

        async def drip():
            for _ in range(4):
                await world.runtime.sleep(2.0)
                for stream in world.runtime.open_streams:
                    stream.feed(b"x")

        world.runtime.start(drip())
        with pytest.raises(ReadTimeout, match=r"slower than 100 bytes/s \(min_rate\)") as caught:
            world.runtime.run(world.get())
        assert (caught.value.phase, caught.value.setting, caught.value.seconds) == ("body", "min_rate", 5.0)

    @pytest.mark.parametrize("answer", [(), HEAD + b"ab"])
    def test_a_total_takes_the_place_of_the_defaults(self, make_world, answer):
        # contract 2.1: who says 600 s gets 600 s
        world = make_world(Answers(answer))
        phase, kind = ("body", ReadTimeout) if answer else ("headers", ResponseHeaderTimeout)
        fails(world, kind, phase=phase, setting="timeout", seconds=600.0, timeout=600.0)

    def test_an_explicit_clock_holds_beside_a_total(self, make_world):
        world = make_world(Answers(HEAD + b"ab"), read_timeout=4.0)
        fails(world, ReadTimeout, phase="body", setting="read_timeout", seconds=4.0, timeout=600.0)

    def test_the_callers_pauses_count_in_the_total(self, make_world):
        world = make_world(Answers((HEAD, b"ab", b"cde")))

        async def slowly():
            async with await world.transport.round_trip(Request("GET", URL, timeout=3.0)) as response:
                await world.runtime.sleep(4.0)
                await response.aread()

        with pytest.raises(ReadTimeout) as caught:
            world.runtime.run(slowly())
        assert (caught.value.phase, caught.value.setting) == ("body", "timeout")

    def test_a_retry_does_not_restart_the_total(self, make_world):
        from pooltransport.testing.fakes import END

        world = make_world(Answers(OK, END, ()))
        world.runtime.run(world.get())
        dials = []

        def later(dial):
            dials.append(dial)
            world.runtime.start(accept(dial))

        async def accept(dial):
            await world.runtime.sleep(2.0)
            dial.accept()

        world.runtime.on_dial = later
        error = fails(world, ResponseHeaderTimeout, phase="headers", setting="timeout", seconds=5.0, timeout=5.0)
        assert len(dials) == 1
        assert world.transport.stats().retries == 1
        assert error.may_have_been_processed
