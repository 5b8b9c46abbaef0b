"""Each rule: it fires, each of its guards alone prevents it, at the bounds, and what speaks against it is said."""

from __future__ import annotations

import re

import pytest

from pooltransport.census import Line
from pooltransport.core.counts import HostCounts
from pooltransport.diagnosis.findings import Facts, Holder, judge
from pooltransport.diagnosis.history import Delta
from pooltransport.diagnosis.ports import PortUse
from pooltransport.stats import Activity, HostStats, PoolStats

ORIGIN = "http://api:80"
SITE = "app/billing.py:88"
COUNTS = HostCounts().as_stats()
_NOTHING = dict.fromkeys(("active", "idle", "dialing", "draining", "upgraded", "closing", "waiting", "leases"), 0)


def delta(**more):
    values = dict.fromkeys(Delta._fields, 0) | {"seconds": 60.0, "lease_mean": None} | more
    return Delta(**values)


def host(**more):
    return HostStats(origin=ORIGIN, address="api", **(COUNTS | _NOTHING | more))


def facts(*, of_host=None, minute=None, ten=None, limits=None, **more):
    """Return what a quiet service looks like, but for what is said."""
    row = host(**(of_host or {}))
    stats = PoolStats(
        schema=1,
        name=None,
        hook_errors=0,
        hook_errors_by_hook={},
        rebuilds=0,
        limits=limits or {},
        hosts={ORIGIN: row},
        **(COUNTS | _NOTHING),
    )
    values = {
        "uptime": 1000.0,
        "lag": 0.0,
        "holders": {},
        "leak_sites": {},
        "unread": (),
        "lines": (),
        "tested": False,
        "hung_up": {},
        "ports": lambda origin: None,
    }
    small = delta(**(minute or {}))
    large = small if ten is None else delta(**({"seconds": 600.0} | ten))
    return Facts(stats=stats, minute={ORIGIN: small}, ten={ORIGIN: large}, **(values | more))


def one(what):
    """Return the only finding."""
    (finding,) = judge(what)
    assert finding.evidence
    assert all(re.search(r"\d", text) for text in finding.evidence), "sentences carry numbers"
    return finding


def test_a_quiet_service():
    assert judge(facts()) == ()


def test_no_history_yet():
    quiet = facts()
    assert judge(quiet._replace(minute={}, ten={})) == ()


R1_HOLDERS = {ORIGIN: (Holder(SITE, Activity.IDLE_HOLDER, 4, 90.0, 70.0),)}


class TestR1:
    def test_leaks_are_certain(self):
        found = one(facts(minute={"leaks": 3}, leak_sites={ORIGIN: ((SITE, 2), ("b.py:1", 1))}, uptime=1.0))
        assert (found.id, found.confidence, found.severity, found.runbook) == (
            "R1",
            "certain",
            "warning",
            "response-leak",
        )
        assert found.evidence == (
            f"3 responses from {ORIGIN} were never closed, in the last 60 s",
            f"2 of them, in all, were opened at {SITE}",
            "1 of them, in all, were opened at b.py:1",
        )

    def test_held_and_read_by_nobody_is_likely(self):
        found = one(facts(holders=R1_HOLDERS, of_host={"limit": 20}))
        assert (found.id, found.confidence) == ("R1", "likely")
        assert found.evidence == (
            f"4 responses from {ORIGIN} are held since up to 90 s by {SITE}: nobody has read them for 70.0 s or more",
        )
        assert found.against == ()

    def test_before_there_is_any_history(self):
        found = one(facts(holders=R1_HOLDERS)._replace(minute={}, ten={}))
        assert found.id == "R1"

    @pytest.mark.parametrize(("limit", "fires"), [(20, True), (21, False), (None, True)])
    def test_a_fifth_of_the_limit(self, limit, fires):
        assert bool(judge(facts(holders=R1_HOLDERS, of_host={"limit": limit}))) is fires
        assert bool(judge(facts(holders=R1_HOLDERS, limits={"max_conns": limit}))) is fires

    def test_one_alone(self):
        alone = {ORIGIN: (Holder(SITE, Activity.IDLE_HOLDER, 1, 90.0, 70.0),)}
        assert one(facts(holders=alone, of_host={"limit": 5})).id == "R1"

    @pytest.mark.parametrize("activity", set(Activity) - {Activity.IDLE_HOLDER, Activity.SLOW_SERVER})
    def test_what_is_at_work_is_no_leak(self, activity):
        assert judge(facts(holders={ORIGIN: (Holder(SITE, activity, 20, 90.0, 0.0),)})) == ()

    def test_others_at_work_speak_against_it(self):
        rows = (*R1_HOLDERS[ORIGIN], Holder("c.py:1", Activity.PROGRESSING, 6, 10.0, 0.0))
        assert one(facts(holders={ORIGIN: rows})).against == (
            "6 other responses are being read, waited for, or declared as streams",
        )

    def test_young_is_possible_at_most(self):
        assert one(facts(holders=R1_HOLDERS, uptime=29.9)).confidence == "possible"
        assert one(facts(holders=R1_HOLDERS, uptime=30.0)).confidence == "likely"

    def test_what_the_server_has_given_up_is_evidence(self):
        found = one(facts(holders=R1_HOLDERS, hung_up={ORIGIN: 3}))
        assert "the server has given up 3 of the connections in use" in found.evidence


R2_FIRING = {"closed": 20, "idle_limit": 7, "acquired": 100, "dialed": 21, "bursts": 3}
R2_HOST = {"idle_limit": 2, "peak_active_5m": 37}


class TestR2:
    def test_fires(self):
        found = one(facts(minute=R2_FIRING, of_host=R2_HOST))
        assert (found.id, found.confidence, found.runbook) == ("R2", "likely", "idle-limit")
        assert found.evidence == (
            (
                f"closed 7 healthy connections to {ORIGIN} in the last 60 s: "
                "max_idle_conns_per_host=2, at most 37 in use at once"
            ),
            "0.3 dials each second, which would be about 0.2; reuse 79%",
        )
        assert found.fix == "set max_idle_conns_per_host to 37 or more, or leave it out"
        assert found.against == ()

    @pytest.mark.parametrize(
        ("minute", "of_host"),
        [
            ({"closed": 19}, {}),
            ({"idle_limit": 6}, {}),
            ({"dialed": 20}, {}),
            ({"acquired": 19, "dialed": 19}, {}),
            ({}, {"idle_limit": None}),
            ({}, {"peak_active_5m": 2}),
        ],
        ids=[
            "few closed",
            "few of them for the limit",
            "reuse is good",
            "few acquired",
            "no limit",
            "never more in use",
        ],
    )
    def test_each_guard_alone(self, minute, of_host):
        assert judge(facts(minute=R2_FIRING | minute, of_host=R2_HOST | of_host)) == ()

    def test_the_last_ten_minutes_must_agree(self):
        found = one(facts(minute=R2_FIRING, ten=R2_FIRING | {"closed": 100}, of_host=R2_HOST))
        assert found.confidence == "possible"

    def test_bursts(self):
        found = one(facts(minute=R2_FIRING | {"bursts": 2}, of_host=R2_HOST))
        assert (found.confidence, found.against) == ("possible", ("it happened in 2 bursts only",))

    def test_a_server_that_closes_speaks_against_it(self):
        of_host = R2_HOST | {"closed": {"server_close_header": 9}}
        assert one(facts(minute=R2_FIRING, of_host=of_host)).against == (
            "the server itself closed 9 connections after their answer",
        )


R3_OWN = Line("Transport at a.py:3", 30, 10, 2.0)
R3_BORROWED = Line("Client at a.py:4", 30, 10, None)


class TestR3:
    def test_a_transport_for_each_request(self):
        found = one(facts(lines=(R3_OWN,), minute={"acquired": 5}))
        assert (found.id, found.confidence, found.runbook) == ("R3", "likely", "client-per-request")
        assert found.evidence == (
            "30 in the last minute: Transport at a.py:3; 10 are gone, after 2 requests each",
            "5 requests of this transport in the same time",
        )

    def test_clients_of_one_transport(self):
        found = one(facts(lines=(R3_BORROWED,), minute={"acquired": 599}))
        assert found.confidence == "possible"
        assert "share one" in found.against[0]

    @pytest.mark.parametrize(
        "line",
        [
            R3_OWN._replace(gone=9),
            R3_OWN._replace(requests=2.5),
            R3_BORROWED._replace(gone=9),
            R3_BORROWED._replace(made=29),
        ],
    )
    def test_each_guard_alone(self, line):
        assert judge(facts(lines=(line,), minute={"acquired": 600})) == ()

    def test_no_requests_at_all(self):
        assert judge(facts(lines=(R3_BORROWED,))) == ()

    def test_pytest_makes_it_possible_at_most(self):
        found = one(facts(lines=(R3_OWN,), tested=True))
        assert (found.confidence, found.against) == (
            "possible",
            ("pytest is running: tests make clients by the dozen",),
        )


class TestR4:
    def test_fires(self):
        found = one(facts(minute={"leases": 20, "unread": 3}, unread=((SITE, 404, 3),)))
        assert (found.id, found.confidence, found.runbook) == ("R4", "likely", "body-not-consumed")
        assert found.evidence == (
            (
                f"3 of 20 responses from {ORIGIN} cost their connection in the last 60 s: "
                "they were closed before the end of their bodies (15%)"
            ),
            f"3 of status 404, opened at {SITE}",
        )

    @pytest.mark.parametrize("minute", [{"leases": 19, "unread": 10}, {"leases": 20, "unread": 2}])
    def test_each_guard_alone(self, minute):
        assert judge(facts(minute=minute)) == ()

    def test_the_last_ten_minutes_must_agree(self):
        found = one(facts(minute={"leases": 20, "unread": 3}, ten={"leases": 1000, "unread": 3}))
        assert found.confidence == "possible"

    def test_what_was_read_away_speaks_against_it(self):
        of_host = {"drains": {"reused": 12}}
        found = one(facts(minute={"leases": 20, "unread": 3}, of_host=of_host))
        assert found.against == ("12 more were read away on close, and kept their connection",)


class TestR5:
    @staticmethod
    def holders(many):
        return {ORIGIN: (Holder(SITE, Activity.SLOW_SERVER, many, 90.0, 0.0),)}

    def test_fires(self):
        found = one(facts(holders=self.holders(3), of_host={"active": 8, "draining": 2}))
        assert (found.id, found.confidence, found.runbook) == ("R5", "likely", "slow-server")
        assert found.evidence == (
            f"3 requests of {SITE} wait for the server, since up to 90 s",
            f"that is 3 of 10 connections in use to {ORIGIN}",
        )

    @pytest.mark.parametrize(("many", "active", "fires"), [(2, 4, True), (2, 5, False), (3, 100, True), (1, 2, True)])
    def test_three_or_half_of_them(self, many, active, fires):
        assert bool(judge(facts(holders=self.holders(many), of_host={"active": active}))) is fires

    @pytest.mark.parametrize(("lag", "confidence"), [(0.25, "likely"), (0.26, "possible")])
    def test_our_own_loop(self, lag, confidence):
        found = one(facts(holders=self.holders(3), lag=lag))
        assert found.confidence == confidence
        assert bool(found.against) is (confidence == "possible")

    def test_young(self):
        assert one(facts(holders=self.holders(3), uptime=10.0)).confidence == "possible"


R6_USE = PortUse(17_000, 16_000, 28_232)


class TestR6:
    def test_a_dial_that_found_no_port_is_certain(self):
        asked = []

        def ports(origin):
            asked.append(origin)
            return R6_USE

        minute = {"no_port": 2, "local": 12_000}
        closed = {"idle_limit_host": 11_000, "drain_limit": 900, "leaked": 1}
        found = one(facts(minute=minute, of_host={"closed": closed}, ports=ports, uptime=1.0))
        assert (found.id, found.confidence, found.severity, found.runbook) == (
            "R6",
            "certain",
            "critical",
            "port-exhaustion",
        )
        assert found.evidence == (
            f"2 dials to {ORIGIN} found no free local port, in the last 60 s",
            "17000 of 28232 local ports towards api are in use, 16000 of them in TIME_WAIT",
            (
                "this pool closed 12000 connections itself in the last 60 s "
                "(in all: idle_limit_host 11000, drain_limit 900)"
            ),
        )
        assert found.against == ()
        assert asked == [ORIGIN]

    def test_where_the_kernel_does_not_say(self):
        found = one(facts(minute={"no_port": 1, "local": 1}))
        assert found.confidence == "certain"
        assert len(found.evidence) == 2

    @pytest.mark.parametrize(("used", "fires"), [(600, False), (601, True)])
    def test_most_are_used(self, used, fires):
        what = facts(minute={"dialed": 1000, "local": 500}, ports=lambda origin: PortUse(used, used, 1000))
        assert [finding.confidence for finding in judge(what)] == ["likely"] * fires

    def test_few_dials_ask_no_kernel(self):
        def ports(origin):
            raise AssertionError("asked without a reason")

        assert judge(facts(minute={"dialed": 999}, ports=ports)) == ()
        assert judge(facts(minute={"dialed": 1000})) == ()

    def test_neighbours_speak_against_it(self):
        what = facts(minute={"dialed": 1000, "local": 199}, ports=lambda origin: PortUse(1000, 1000, 1000))
        found = one(what)
        assert found.confidence == "possible"
        assert found.against == (
            "most of it is not of this pool: another one, or another process in this network namespace",
        )
        minute = {"dialed": 1000, "local": 200}
        assert one(facts(minute=minute, ports=lambda origin: PortUse(1000, 1000, 1000))).confidence == "likely"


R9_MINUTE = {"acquired": 2400, "refused": 50, "leases": 2400, "lease_mean": 0.62}
R9_HOST = {"limit": 20, "waiting": 10}


class TestR9:
    def test_fires(self):
        found = one(facts(minute=R9_MINUTE, of_host=R9_HOST))
        assert (found.id, found.confidence, found.runbook) == ("R9", "likely", "pool-saturated")
        assert found.evidence == (
            (
                f"41.0 requests each second, 0.62 s each: 25.4 connections to {ORIGIN} are needed, the limit is 20; "
                "10 wait"
            ),
        )
        assert found.fix == "set max_conns_per_host to 31 or more, if the server can serve that many at once"

    @pytest.mark.parametrize(
        ("minute", "of_host"),
        [
            ({}, {"limit": None}),
            ({}, {"waiting": 0}),
            ({"acquired": 99}, {}),
            ({"lease_mean": 0.48}, {}),
            ({"lease_mean": None}, {}),
        ],
        ids=["no limit", "nobody waits", "too few", "the limit suffices", "none came back"],
    )
    def test_each_guard_alone(self, minute, of_host):
        assert judge(facts(minute=R9_MINUTE | minute, of_host=R9_HOST | of_host)) == ()

    def test_the_last_ten_minutes_must_agree(self):
        ten = {"acquired": 6000, "leases": 6000, "lease_mean": 0.62}
        assert one(facts(minute=R9_MINUTE, ten=ten, of_host=R9_HOST)).confidence == "possible"

    def test_a_server_that_became_slower_is_no_reason_for_a_higher_limit(self):
        ten = R9_MINUTE | {"acquired": 30_000, "leases": 30_000, "lease_mean": 0.41}
        found = one(facts(minute=R9_MINUTE, ten=ten, of_host=R9_HOST))
        assert found.confidence == "possible"
        assert found.against == ("they were 0.41 s each in the last ten minutes: the server became slower (R5)",)
        ten["lease_mean"] = 0.42
        assert one(facts(minute=R9_MINUTE, ten=ten, of_host=R9_HOST)).confidence == "likely"


def test_the_surest_comes_first():
    what = facts(
        minute={"leaks": 1, "leases": 20, "unread": 3},
        holders=TestR5.holders(3),
        lag=1.0,
    )
    assert [(finding.id, finding.confidence) for finding in judge(what)] == [
        ("R1", "certain"),
        ("R4", "likely"),
        ("R5", "possible"),
    ]


def test_no_rule_but_r9_advises_a_limit_on_connections():
    texts = []
    for what in (
        facts(minute={"leaks": 1}),
        facts(minute=R2_FIRING, of_host=R2_HOST),
        facts(lines=(R3_OWN,)),
        facts(minute={"leases": 20, "unread": 3}),
        facts(holders=TestR5.holders(3)),
        facts(minute={"no_port": 2}),
    ):
        texts += [finding.fix for finding in judge(what)]
    assert len(texts) == 6
    assert not any("max_conns" in text.replace("max_idle_conns", "") for text in texts)
