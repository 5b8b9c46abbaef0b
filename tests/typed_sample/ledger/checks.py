"""The service's own tests, without a network."""

from __future__ import annotations

import asyncio
import contextlib
import io

import pooltransport as pt
from pooltransport import testing

from .service import AsyncLedger, Counts, Ledger, Unavailable, careful, upload
from .transports import AsyncTagged, Breaker, BreakerOpen, make_async_transport, make_transport


def handler(request: testing.ReceivedRequest) -> testing.Reply:
    """The ledger's API."""
    if request.method == "POST":
        return testing.response(201, json={"id": 1, "amount": request.json()["amount"]})
    if request.url.target == b"/export":
        return testing.response(content=[b"a\n", b"b\n"])
    return testing.response(404)


async def async_handler(request: testing.ReceivedRequest) -> testing.Reply:
    """The same, awaited; what it is sent is tagged."""
    assert request.headers["x-tag"] == "t"
    return handler(request)


def check_blocking() -> None:
    """Entries, the export, and what the hooks count."""
    counts = Counts()
    with testing.no_leaks(), testing.HandlerTransport(handler, trace=counts.trace()) as transport:
        ledger = Ledger(transport)
        assert ledger.add(3) == {"id": 1, "amount": 3}
        assert list(ledger.export()) == ["a", "b"]
        assert ledger.health() == {}
        ledger.close()
    assert (counts.dialed, counts.reused) == (1, 1)


def check_degraded() -> None:
    """Failures, and the breaker."""
    steps: list[testing.FaultStep] = [
        pt.PoolTimeout,
        pt.ReadTimeout,
        testing.slow(20.0),
        testing.status(503),
        pt.ConnectError("gone"),
    ]
    waits: list[float] = []
    last: BaseException | None = None
    faults = testing.FaultTransport(steps, sleep=waits.append)
    ledger = Ledger(Breaker(faults, most=5, now=lambda: 1.0))
    retry: list[bool] = []
    for _ in range(6):
        try:
            ledger.add(1)
        except Unavailable as error:
            retry.append(error.retry)
            last = error.__cause__
    assert retry == [True, False, False, False, True, True]
    assert isinstance(last, BreakerOpen)
    assert waits == [10.0]
    assert faults.taken == 5


async def check_async() -> None:
    """On a loop."""
    async with testing.no_leaks():
        ledger = AsyncLedger(AsyncTagged(testing.AsyncHandlerTransport(async_handler), "t"))
        assert await ledger.get(1) is None
        assert await ledger.size() == 4


def check_careful() -> None:
    """Repetitions, files, and events."""

    def answer(request: testing.ReceivedRequest) -> testing.Reply:
        assert request.headers["authorization"] == "Bearer token"
        if request.method == "POST":
            assert b"1;2" in request.content
            return testing.response(201)
        return testing.response(content=b"event: done\ndata: 7\n\n", headers={"Content-Type": "text/event-stream"})

    faults = testing.FaultTransport([pt.ConnectError, testing.ok], answer)
    client = careful(faults)
    assert client.post("https://ledger.example/", content=b"1;2").status_code == 201
    assert faults.taken == 2
    base = pt.Client(testing.HandlerTransport(answer), base_url="https://ledger.example", auth=pt.BearerAuth("token"))
    assert upload(base, io.BytesIO(b"1;2")) == 7


def check_offline() -> None:
    """Nothing goes out."""
    with testing.no_network() as block, make_transport("ledger") as transport:
        with contextlib.suppress(testing.NetworkBlocked):
            Ledger(transport).add(1)
        assert [error.host for error in block.refused] == ["ledger.example"]
    assert make_async_transport("ledger").options.max_conns == 50


def main() -> None:
    """Run all."""
    check_blocking()
    check_degraded()
    asyncio.run(check_async())
    check_careful()
    check_offline()
    print("ok")


if __name__ == "__main__":
    main()
