"""The snapshot of a transport at work: what is told agrees with the schema that ships, and with itself."""

from __future__ import annotations

import errno
import json

import pytest

import pooltransport as pt
from pooltransport import Request, Timeout, census
from pooltransport.testing.fakes import END, Answers, FakeRuntime, FakeTransport
from tests.engine.scenarios import OK, OTHER, URL
from tests.support import stats_schema

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
VALIDATOR = stats_schema.validator()


def refuses(stats, **changed):
    return bool(list(VALIDATOR.iter_errors(json.loads(stats.to_json()) | changed)))


def test_it_can_refuse(make_world):
    world = make_world(Answers(OK))
    world.runtime.run(world.get())
    stats = world.transport.stats()
    assert not refuses(stats)
    assert refuses(stats, active=-1)
    assert refuses(stats, schema=2)
    assert refuses(stats, closed={"no such reason": 1})
    assert refuses(stats, acquired={"reused": 1})
    assert refuses(stats, hosts={"a": {}})
    assert not refuses(stats, something_new=1)


def test_a_world_in_which_everything_happens(make_world):
    """Leases of every kind, waiters, idle connections, failures and findings, told in detail."""
    scripts = {"192.0.2.1": HEAD, "192.0.2.3": OK}

    def peer(dial):
        name = dial.address.text.partition(":")[0]
        if name in scripts:
            Answers(scripts[name])(dial)
        else:
            dial.refuse(OSError(errno.ECONNREFUSED, "Connection refused"))

    told = pt.ClientTrace(leaked=lambda report: 1 / 0)
    world = make_world(peer, max_conns_per_host=4, lease_warn_after=5.0, trace=told, name="wörld", read_timeout=None)

    def hold(**fields):
        return world.runtime.run(world.transport.round_trip(Request("GET", URL, **fields)))

    held = [hold(), hold(), hold()]
    reader = world.runtime.start(held[0].aread())
    held[1].long_lived()
    with pytest.warns(ResourceWarning):  # noqa: PT031 - a safe point says it
        hold()
        world.transport.stats()
    held.append(hold())
    with pytest.raises(pt.ConnectError):
        world.runtime.run(world.get(OTHER))
    world.runtime.run(world.get("http://192.0.2.3/"))
    waiting = [
        world.runtime.start(world.get()),
        world.runtime.start(world.get(timeout=Timeout(acquire=100.0))),
    ]
    world.runtime.advance(10.0)
    plain, stats = world.transport.stats(), world.transport.stats(detail=True)
    for row in (plain, stats):
        VALIDATOR.validate(json.loads(row.to_json()))
        assert json.loads(row.to_json()) == json.loads(json.dumps(row.as_dict()))
    assert (plain.lease_list, plain.waiter_list, plain.idle_list) == (None, None, None)
    assert [row.activity for row in stats.lease_list] == [
        "slow_server",
        "declared_stream",
        "idle_holder",
        "idle_holder",
    ]
    assert [row.deadline_in_s for row in stats.waiter_list] == [50.0, 90.0]
    assert [row.age_s for row in stats.waiter_list] == [10.0, 10.0]
    (idle,) = stats.idle_list
    assert (idle.origin, idle.requests_served, idle.idle_s) == ("http://192.0.2.3:80", 1, 10.0)
    assert "R1" in {finding.id for finding in stats.findings}
    assert stats.hosts["http://192.0.2.2:80"].last_dial_error.type == "connection_refused"
    assert stats.hosts["http://192.0.2.1:80"].leases_by_class["idle_holder"] == 2
    assert stats.hook_errors_by_hook == {"leaked": 1}
    assert (stats.oldest_lease_s, stats.oldest_wait_s, stats.oldest_idle_s) == (10.0, 10.0, 10.0)
    for task in (reader, *waiting):
        task.cancel()
    world.runtime.run_until_idle()
    for response in held[1:]:
        world.runtime.run(response.aclose())
    world.runtime.advance(1.0)


def test_who_waits_and_holds_is_told(make_world):
    world = make_world(Answers(HEAD), max_conns_per_host=1, deadlock_check=False)

    async def greedy():
        async with await world.transport.round_trip(Request("GET", URL)):
            await world.get()

    task = world.runtime.start(greedy())
    world.runtime.run_until_idle()
    stats = world.transport.stats(detail=True)
    assert stats.waiter_list[0].holds == (stats.lease_list[0].id,)
    assert stats.lease_list[0].task == "main"
    task.cancel()
    world.runtime.run_until_idle()


def test_a_connection_that_the_server_has_given_up(make_world):
    world = make_world(Answers((HEAD, END)), lease_warn_after=5.0)
    response = world.runtime.run(world.transport.round_trip(Request("GET", URL)))
    world.runtime.advance(10.0)
    (finding,) = [finding for finding in world.transport.stats().findings if finding.id == "R1"]
    assert "the server has given up 1 of the connections in use" in finding.evidence
    world.runtime.run(response.aclose())
    world.runtime.advance(1.0)


def test_gauges_that_no_lease_accounts_for_are_recent(make_world):
    """A connection that was delivered, and whose lease is being opened at this moment."""
    world = make_world(Answers(OK))
    pool = world.transport._engine.ledger.pool
    world.runtime.run(world.get())
    key = next(key for _, key, _ in pool.conns())
    conn = pool.take(key, world.runtime.now())
    stats = world.transport.stats()
    assert (stats.leases, stats.leases_by_class["recent"]) == (1, 1)
    pool.put_idle(conn, world.runtime.now())


def test_what_is_told_of_all_transports_is_described_too(make_world):
    world = make_world(Answers(OK))
    world.runtime.run(world.get())
    for stats in census.process_stats():
        VALIDATOR.validate(json.loads(stats.to_json()))


def test_rates_of_the_last_minute(make_world):
    world = make_world(Answers(*[OK] * 100), trace=None)

    async def steady():
        for _ in range(60):
            await world.get()
            await world.runtime.sleep(0.5)

    world.runtime.run(steady())
    stats = world.transport.stats()
    assert stats.uptime_s == 30.0
    for row in (stats, stats.hosts["http://192.0.2.1:80"]):
        assert row.arrival_rate_1m == pytest.approx(2.0)
        assert row.reuse_ratio_1m == row.reuse_ratio_total == pytest.approx(59 / 60)
        assert row.peak_active_5m == 1
        assert row.lease_mean_s_1m == 0.0


def test_no_rates_of_nothing(make_world):
    world = make_world(Answers(OK))
    stats = world.transport.stats()
    assert (stats.arrival_rate_1m, stats.reuse_ratio_1m, stats.lease_mean_s_1m) == (None, None, None)
    world.runtime.run(world.get())
    stats = world.transport.stats()
    assert stats.hosts["http://192.0.2.1:80"].reuse_ratio_1m is None


def test_the_housekeeper_of_a_loop_that_ended_is_not_late():
    """A transport that serves one loop after another: nobody keeps house between them."""
    first, second = FakeRuntime(Answers(OK)), FakeRuntime(Answers(OK))
    second.clock = first.clock
    transport = FakeTransport(first)

    async def get():
        async with await transport.round_trip(Request("GET", URL)) as response:
            return await response.aread()

    first.run(get())
    first.advance(5.0)
    first.shut_down()
    transport._engine.forget_runtime(first)
    first.clock.advance(100.0)
    transport.runtime = second
    assert second.run(get()) == b"hi"
    second.advance(5.0)
    assert transport.stats().loop_lag_max_s == 0.0
    second.run(transport.aclose())
    assert first.open_streams == second.open_streams == []


def test_lateness_is_seen_beside_an_idle_connection_too(make_world):
    """Which expires in a minute and a half: nobody means to wait for that."""
    world = make_world(lambda dial: Answers(OK if dial.address.text == "192.0.2.1:80" else HEAD)(dial))
    world.runtime.run(world.get())
    response = world.runtime.run(world.transport.round_trip(Request("GET", OTHER)))
    world.runtime.advance(5.0)
    stats = world.transport.stats()
    assert (stats.idle, stats.active) == (1, 1)
    assert stats.loop_lag_max_s == pytest.approx(0.0, abs=0.01)
    world.runtime.clock.advance(4.0)  # the loop is blocked
    world.runtime.advance(1.0)
    assert world.transport.stats().loop_lag_max_s == pytest.approx(3.0, abs=1.0)
    world.runtime.run(response.aclose())
