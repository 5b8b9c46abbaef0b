"""The labelled scenarios: each cause at two strengths, and services that are well and only look as if they were not.

The sick ones must be named first and with their numbers; of the healthy ones nothing above "possible" may be said.
"""

from __future__ import annotations

import errno

import pytest

from tests.diagnosis.towns import Town, body

CALM = {"max_conns_per_host": 20}


@pytest.fixture
def town(request):
    """Make a `Town`, which ends with the test."""
    made = []

    def make(**options):
        made.append(Town(**options))
        return made[-1]

    yield make
    for one in made:
        one.end()


# -- the six causes --------------------------------------------------------------------------------


class TestSick:
    @pytest.mark.parametrize("share", [0.2, 1.0])
    def test_1_responses_are_kept_open(self, town, share):
        """Cause 1: what is held and read by nobody is likely forgotten; who is waited for names the line."""
        t = town(**CALM)
        t.steady(10, 40)
        for number in range(int(20 * share)):
            t.at(0.1 * number, keep=True)
        t.go(70)
        t.steady(10, 65)
        assert t.said()[0] == ("R1", "likely")
        assert t.numbers("R1")[0] == 20 * share
        assert "towns.py:" in t.findings[0].evidence[0]
        if share == 1.0:
            assert t.errors
            first = str(t.errors[-1])
            assert "20 held since up to " in first
            assert "towns.py:" in first
            assert first.endswith("responses not closed [PT-EXHAUSTED]")
            assert "likely cause: response bodies are not closed" in "\n".join(t.errors[0].__notes__)

    @pytest.mark.parametrize("each", [10, 1])
    def test_1_responses_are_dropped(self, town, each):
        """Cause 1: what was collected unclosed is certain, from the first moment."""
        t = town(answer=body(200_000)[:-1], leak_detection="site", **CALM)
        for number in range(20):
            t.at(0.5 * number, read=False, close=number % each != 0)
        t.go(11)
        t.transport.stats()
        assert t.said()[0] == ("R1", "certain")
        assert t.numbers("R1")[0] == 20 // each
        assert any("were opened at " in text for text in t.findings[0].evidence)

    @pytest.mark.parametrize("size", [10, 40])
    def test_2_the_idle_limit(self, town, size):
        """Cause 2: a finding with the number to set."""
        t = town(max_idle_conns_per_host=2)
        t.bursts(size, 2, 60)
        t.go(1)
        assert t.said() == [("R2", "likely")]
        finding = t.findings[0]
        assert finding.fix == f"set max_idle_conns_per_host to {size} or more, or leave it out"
        assert f"max_idle_conns_per_host=2, at most {size} in use at once" in finding.evidence[0]
        closed, *_ = t.numbers("R2")
        # How many of a minute's bursts are in the window depends on when the housekeeper looked.
        assert (size - 2) * 27 <= closed <= (size - 2) * 30

    @pytest.mark.parametrize("share", [3, 1])
    def test_4_bodies_are_not_read(self, town, share):
        """Cause 4: how many responses cost their connection, and which."""
        t = town(answer=body(300_000), **CALM)
        for number in range(600):
            t.at(number * 0.1, read=bool(number % share))
        t.go(61)
        assert t.said() == [("R4", "likely")]
        unread, answered, *_ = t.numbers("R4")
        assert unread / answered == pytest.approx(1 / share, rel=0.1)
        assert any("of status 200, opened at " in text for text in t.findings[0].evidence)

    @pytest.mark.parametrize(("count", "others"), [(3, 10), (20, 0)])
    def test_5_a_slow_server(self, town, count, others):
        """Cause 5: readers wait for the server; the error says so, and not that somebody forgot something."""
        t = town(read_timeout=None, response_header_timeout=None, **CALM)
        t.steady(10, 40)
        t.wait = 1e6
        for _ in range(count):
            t.at(0)
        t.go(61)
        t.wait = 0.05
        for _ in range(others):
            t.at(0)
        t.at(1)
        t.go(8)
        assert t.said() == [("R5", "likely")]
        if not others:
            assert str(t.errors[0]).endswith("waiting for the server [PT-EXHAUSTED]")
            assert "likely cause: the server is slow" in "\n".join(t.errors[0].__notes__)

    @pytest.mark.parametrize("pause", [2.0, 30.0])
    def test_5_a_server_that_drips(self, town, pause):
        """Cause 5, slowloris: bytes move, hardly; elapsed time alone would call it a leak."""
        t = town(answer=body(1000), drip=(1000, pause), read_timeout=None, **CALM)
        for _ in range(5):
            t.at(0)
        t.go(100)
        assert t.said() == [("R5", "likely")]

    @pytest.mark.parametrize("count", [1, 50])
    def test_6_no_local_port(self, town, count):
        """Cause 6: a dial that found no port is certain; the error itself says what is used up."""
        t = town(refuse=OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address"))
        for _ in range(count):
            t.at(0)
        t.go(1)
        assert t.said()[0] == ("R6", "certain")
        assert t.numbers("R6")[0] == count
        (note, *_) = t.errors[0].__notes__
        assert " local ports towards 192.0.2.1 are in use" in note

    def test_9_more_work_than_the_limit(self, town):
        """What is no cause of the six: too many requests for the limit. Only here is a number advised."""
        t = town(wait=0.62, max_conns_per_host=5)
        t.steady(12, 90, acquire=3.0)
        assert ("R9", "likely") in t.said()
        (finding,) = [finding for finding in t.findings if finding.id == "R9"]
        assert finding.fix.startswith("set max_conns_per_host to ")
        assert 8 <= int(finding.fix.split()[3]) <= 12
        assert [finding.id for finding in t.findings if finding.id in {"R1", "R2", "R4", "R6"}] == []


# -- healthy ---------------------------------------------------------------------------------------


def cold_burst(t):
    t.bursts(50, 1000, 1000)


def two_bursts(t):
    t.steady(1, 40)
    t.bursts(60, 100, 200)


def event_streams(t):
    t.answer = body(100).replace(b"\r\n\r\n", b"\r\nContent-Type: text/event-stream\r\n\r\n")
    for _ in range(10):
        t.at(0, keep=True)
    t.steady(5, 120)


def declared_streams(t):
    for _ in range(10):
        t.at(0, keep=True, stream=True)
    t.steady(5, 120)


def long_polls(t):
    t.wait = 25.0
    for _ in range(10):
        t.at(0)
    t.go(26)
    for _ in range(4):
        for _ in range(10):
            t.at(0)
        t.go(26)


def big_downloads(t):
    t.answer, t.drip = body(4_000_000), (400, 0.25)
    for _ in range(10):
        t.at(0)
    t.go(101)


def slow_consumers(t):
    t.answer, t.drip = body(2_000_000), (200, 0.01)
    for _ in range(5):
        t.at(0, pause=0.5)
    t.go(150)


def low_traffic(t):
    t.steady(0.05, 600)


def servers_without_keep_alive(t):
    t.answer, t.then_end = body(100).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), True
    t.bursts(30, 2, 60)


def idle_timeouts(t):
    t.bursts(10, 100, 900)


def a_restart(t):
    t.steady(10, 40)
    for stream in t.runtime.open_streams:
        stream.end()
    t.steady(10, 40)


def small_errors_unread(t):
    t.answer = body(2000)
    t.steady(20, 60, read=False)


def a_few_unread(t):
    t.answer = body(400_000)
    for number in range(1200):
        t.at(number * 0.05, read=bool(number % 50))
    t.go(61)


def cancelled_at_once(t):
    for number in range(500):
        t.at(number * 0.1, acquire=0.001)
    t.go(60)


def full_and_flowing(t):
    t.wait = 0.2
    for _ in range(8):
        t.steady(90, 5)


def refused_dials(t):
    t.refuse = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
    t.steady(5, 60)


def held_for_seconds(t):
    t.answer, t.drip = body(100_000), (50, 1.0)
    t.steady(0.3, 120)


def a_slow_minute(t):
    t.steady(10, 40)
    t.wait = 2.0
    t.steady(5, 30)
    t.wait = 0.05
    t.steady(10, 60)


def an_early_end(t):
    t.answer = body(200_000)
    t.steady(5, 60, read=False)


def a_single_stream(t):
    t.at(0, keep=True, stream=True)
    t.go(600)


def evictions(t):
    t.bursts(20, 1, 60)


def nothing(t):
    t.go(100)


HEALTHY = [
    cold_burst,
    two_bursts,
    event_streams,
    declared_streams,
    long_polls,
    big_downloads,
    slow_consumers,
    low_traffic,
    servers_without_keep_alive,
    idle_timeouts,
    a_restart,
    small_errors_unread,
    a_few_unread,
    cancelled_at_once,
    full_and_flowing,
    refused_dials,
    held_for_seconds,
    a_slow_minute,
    an_early_end,
    a_single_stream,
    evictions,
    nothing,
]
IDLE_LIMITED = {"cold_burst", "two_bursts", "servers_without_keep_alive"}


@pytest.mark.parametrize("scene", HEALTHY, ids=lambda scene: scene.__name__)
def test_healthy(town, scene):
    """Nothing above "possible", and nothing at all of the error's causes that is not there."""
    options = {"max_idle_conns_per_host": 5} if scene.__name__ in IDLE_LIMITED else CALM
    t = town(**options)
    scene(t)
    loud = [row for row in t.said() if row[1] != "possible"]
    assert loud == [], t.findings


def test_what_is_said_of_a_healthy_one_says_what_speaks_against_it(town):
    t = town(max_idle_conns_per_host=5)
    two_bursts(t)
    for finding in t.findings:
        assert finding.against, finding


def test_there_are_enough_of_them():
    assert len(HEALTHY) >= 20


def test_late_housekeeping_makes_slowness_ours(town):
    """Where our own loop was blocked, the server is not to blame."""
    t = town(read_timeout=None, response_header_timeout=None, **CALM)
    t.steady(10, 40)
    t.wait = 1e6
    for _ in range(10):
        t.at(0)
    t.go(65)
    assert t.said() == [("R5", "likely")]
    t.runtime.clock.advance(3.0)  # nobody ran meanwhile
    t.go(1)
    (finding,) = t.findings
    assert (finding.id, finding.confidence) == ("R5", "possible")
    assert "the slowness may be ours" in finding.against[0]
