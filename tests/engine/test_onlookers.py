"""Who looks on: observers are told of dials and closes at a safe point, a witness of what is made and lost at once."""

from __future__ import annotations

import gc

import pytest

from pooltransport import Request, observers, witness
from pooltransport.errors import ConnectError
from pooltransport.testing.fakes import Answers, FakeRuntime, FakeTransport
from tests.engine.scenarios import OK, TLS, URL

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"


class Observer(observers.Observer):
    def __init__(self):
        self.told = []

    def dialed(self, dial, options):
        self.told.append((options.name, dial))

    def closed(self, conn, options):
        self.told.append((options.name, conn))


@pytest.fixture
def observer():
    made = Observer()
    observers.add(made)
    yield made
    observers.remove(made)


class Witness:
    leak_detection = "site"

    def __init__(self):
        self.told = []

    def transport_made(self, transport):
        self.told.append("transport made")
        return "mine"

    def lease_opened(self, lease):
        self.told.append(f"opened {lease.method}")

    def lease_lost(self, lease):
        self.told.append(f"lost {lease.method}")

    def transport_lost(self, scope, what, site, sockets):
        self.told.append(f"lost {scope} {what} {sockets}")


@pytest.fixture
def onlooker(monkeypatch):
    made = Witness()
    monkeypatch.setattr(witness, "current", made)
    return made


class TestObservers:
    def test_of_a_connection_that_lives_and_is_closed(self, make_world, observer):
        world = make_world(Answers(*[OK] * 3), name="billing", ssl_context=TLS)
        world.runtime.resolver.names["host.test"] = ["192.0.2.1"]
        for _ in range(3):
            world.runtime.run(world.get("https://host.test/"))
        world.transport.stats()
        ((name, dial),) = observer.told
        assert (name, str(dial.host), dial.error, dial.name) == ("billing", "https://host.test:443", None, "host.test")
        assert [phase for phase, _ in dial.phases] == ["dns", "connect", "tls"]
        world.runtime.clock.advance(10.0)
        world.transport.close_idle_connections()
        world.transport.stats()
        assert observer.told[1:] == [("billing", observers.Closed(dial.host, 10.0, 3))]

    def test_of_a_dial_that_failed(self, make_world, observer):
        world = make_world(lambda dial: dial.refuse())
        with pytest.raises(ConnectError):
            world.runtime.run(world.get())
        world.transport.stats()
        ((_, dial),) = observer.told
        assert (dial.error, dial.name) == ("connection_refused", None)
        assert [phase for phase, _ in dial.phases] == ["connect"]

    def test_of_a_response_that_was_dropped(self, make_world, observer):
        world = make_world(Answers(HEAD))
        with pytest.warns(ResourceWarning):  # noqa: PT031 - a safe point says it
            world.runtime.run(world.transport.round_trip(Request("GET", URL)))
            world.runtime.run_until_idle()
            world.transport.stats()
            world.transport.stats()
        assert [type(event).__name__ for _, event in observer.told] == ["Dialed", "Closed"]

    def test_nobody_is_told_of_a_dial_that_was_aborted(self, make_world, observer):
        world = make_world(lambda dial: None)
        task = world.runtime.start(world.get())
        world.runtime.run_until_idle()
        task.cancel()
        world.runtime.run_until_idle()
        world.transport.close_idle_connections()
        world.runtime.run_until_idle()
        world.transport.stats()
        assert observer.told == []


class TestWitness:
    def test_of_a_response_that_is_closed_and_one_that_is_not(self, onlooker):
        runtime = FakeRuntime(Answers(HEAD))
        transport = FakeTransport(runtime)
        response = runtime.run(transport.round_trip(Request("GET", URL)))
        runtime.run(response.aclose())
        assert onlooker.told == ["transport made", "opened GET"]
        runtime.run(transport.round_trip(Request("PUT", URL)))
        assert onlooker.told[2:] == ["opened PUT", "lost PUT"]
        with pytest.warns(ResourceWarning):
            transport.stats()
        runtime.run(transport.aclose())

    def test_of_a_transport_that_is_dropped(self, onlooker):
        runtime = FakeRuntime(Answers(OK))

        async def fetch(transport):
            async with await transport.round_trip(Request("GET", URL)) as response:
                return await response.aread()

        transport = FakeTransport(runtime)
        runtime.run(fetch(transport))
        with pytest.warns(ResourceWarning, match="unclosed FakeTransport"):  # noqa: PT031 - a safe point says it
            del transport
            gc.collect()
            FakeTransport(FakeRuntime()).stats()
        assert "lost mine FakeTransport 1" in onlooker.told
        runtime.run_until_idle()
