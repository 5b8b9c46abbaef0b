"""A process in which transports go away: closed and dropped, or dropped alone, at once or with a response."""

from __future__ import annotations

import gc
import logging
import random
import warnings

import pooltransport as pt
from pooltransport import census
from pooltransport.observe.prometheus import PoolCollector
from tests.support.responders import big
from tests.support.scraping import scrape, total
from tests.support.server import ScriptedServer


def main() -> None:
    warnings.simplefilter("ignore", ResourceWarning)
    logging.disable()  # of the leaks, and of the hook that raises: both on purpose
    with ScriptedServer(big(50_000)) as server:
        go_away(server)
    print("8 transports gone, nothing fell")


def go_away(server: ScriptedServer) -> None:
    collector = PoolCollector()
    before: dict[object, float] = {}
    rng = random.Random(7)
    held = []
    for number in range(8):
        trace = pt.ClientTrace(got_conn=lambda _: 1 / 0) if number == 3 else None
        transport = pt.Transport(trace=trace)
        response = transport.round_trip(pt.Request("GET", server.url))
        pt.Client(transport=transport).get(server.url)
        if number % 2:
            response.close()
            transport.close()
        else:
            held.append(response)
        before = check(before, collector)
        del transport, response
        before = check(before, collector)
        if rng.random() < 0.3:
            held.pop().close()
            before = check(before, collector)
    while held:
        held.pop().close()
    gc.collect()
    after = check(before, collector)
    name = "pooltransport_connection_acquired_total"
    assert sum(value for (series, _), value in after.items() if series == name) == 16
    last = scrape(collector)
    assert total(last["pooltransport_hook_errors_total"], pooltransport_hook="got_conn") >= 2
    assert (
        total(last["pooltransport_client_created_total"]) == census.clients().created == 16
    )  # transports are counted too


def check(before, collector):
    shown = {
        (name, labels): value
        for name, series in scrape(collector).items()
        for labels, value in series.items()
        if name.endswith(("_total", "_bucket", "_count", "_sum"))
    }
    fallen = [key for key, value in before.items() if value > shown.get(key, -1)]
    assert fallen == []
    return shown


if __name__ == "__main__":
    main()
