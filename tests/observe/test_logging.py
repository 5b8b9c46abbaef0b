"""docs/logging.md lists exactly the fields that records have, kind by kind; the example shows them as JSON."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pooltransport as pt
from pooltransport import observers
from pooltransport.engine.housekeeping import Keeper
from pooltransport.observe.access_log import AccessLog
from pooltransport.observe.prometheus import PoolCollector
from tests.support.logs import extras, recorded
from tests.support.responders import big, ok

if TYPE_CHECKING:
    import logging

ROOT = Path(__file__).parent.parent.parent
SECTION = re.compile(r"^### (.+?)\n\n`(.+?)`, (\w+)(.*?)(?=^### |\Z)", re.MULTILINE | re.DOTALL)
PAGE = {
    title: (logger, level, set(re.findall(r"^\| `(\w+)` \|", rest, re.MULTILINE)))
    for title, logger, level, rest in SECTION.findall((ROOT / "docs" / "logging.md").read_text())
}
NAME = "billing"


@pytest.fixture
def records():
    with recorded("pooltransport") as handler:
        yield handler


def check(record: logging.LogRecord, title: str, **wanted) -> None:
    """Compare a record with the table under `title`, and some of its values."""
    logger, level, fields = PAGE[title]
    assert record.name == logger
    assert record.levelname == level
    found = extras(record)
    assert set(found) == fields
    wanted = {"pool_name": NAME, **wanted}
    assert {name: found[name] for name in wanted} == wanted
    json.dumps(found)


def get(transport, url):
    return transport.round_trip(pt.Request("GET", url + "/secret?secret"))


def test_every_kind_of_record_is_checked():
    text = Path(__file__).read_text()
    assert len(PAGE) >= 10
    assert [title for title in PAGE if f'"{title}"' not in text] == []


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_leak(records, server_factory):
    server = server_factory(big(1_000_000))
    with pt.Transport(name=NAME) as transport:
        get(transport, server.url)
        transport.stats()
    (record,) = records.records
    wanted = {"code": "PT-LEAK", "found": "gc", "number": 1, "status_code": 200, "origin": server.url}
    check(record, "A response was never closed", function="get", bytes_expected=1_000_000, **wanted)
    assert "secret" not in record.getMessage()


def test_held_for_long_and_closed_after_all(server_factory):
    server = server_factory(big(1_000_000))
    with recorded("pooltransport.leak") as records, pt.Transport(name=NAME, lease_warn_after=0.05) as transport:
        response = get(transport, server.url)
        records.wait(1)
        response.close()
        transport.stats()
        first, second = records.wait(2)
    check(first, "A response is held for long", code="PT-OVERDUE", activity="idle_holder", leak_thread="MainThread")
    check(second, "It was not a leak", code="PT-OVERDUE", id=first.id)
    assert second.age > first.age >= 0.05


def test_no_connection(records, server_factory):
    server = server_factory(big(1_000_000))
    with pt.Transport(name=NAME, max_conns_per_host=1) as transport, get(transport, server.url):
        with pytest.raises(pt.PoolTimeout) as caught:
            transport.round_trip(pt.Request("GET", server.url, timeout=pt.Timeout(acquire=0.05)))
    (record,) = records.records
    wanted = {"code": "PT-EXHAUSTED", "limit_scope": "per_host", "limit": 1, "origin": server.url}
    check(record, "No connection within the time", **wanted)
    assert record.getMessage() == str(caught.value)
    assert "test_logging.py" in record.suspects[0]


def test_a_broken_hook(records, server_factory):
    def broken(info):
        raise ZeroDivisionError

    server = server_factory(ok())
    with pt.Transport(name=NAME, trace=pt.ClientTrace(got_conn=broken)) as transport:
        get(transport, server.url).read()
        get(transport, server.url).read()
    (record,) = records.records
    check(record, "A hook raised", hook="got_conn")
    assert record.exc_info[0] is ZeroDivisionError


def test_keeping_house(records):
    class Broken:
        epoch = 0
        options = pt.TransportOptions(name=NAME)

        def tick(self):
            raise ZeroDivisionError

    broken = Broken()
    assert Keeper(broken)() == 1.0
    check(records.records[0], "Keeping house failed")


def test_an_observer(records, server_factory):
    class Raising(observers.Observer):
        def begin(self, request, options):
            raise ZeroDivisionError

    server = server_factory(ok())
    observer = Raising()
    observers.add(observer)
    try:
        with pt.Transport(name=NAME) as transport:
            get(transport, server.url).read()
    finally:
        observers.remove(observer)
    (record,) = records.records
    check(record, "An observer raised", pool_name=None, observer=Raising.__qualname__)


def test_metrics(records, tmp_path):
    class Broken:
        options = pt.TransportOptions(name=NAME)

        def stats(self):
            raise ZeroDivisionError

    PoolCollector([Broken()]).collect()
    path = tmp_path / "shared"
    path.mkdir()
    collector = PoolCollector([], directory=path)
    path.rmdir()
    collector.collect()
    assert len(records.records) >= 2
    for number, record in enumerate(records.records):
        check(record, "Metrics are left out", pool_name=None if number else NAME)


def test_a_suspicious_option(records):
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        pt.Transport(name=NAME, max_conns_per_host=50, max_idle_conns_per_host=2).close()
    assert warned
    for record in records.records:
        check(record, "An option is probably not meant so")
        assert record.code.startswith("PTC2")
        assert record.site.startswith(__file__)
    assert len(records.records) == len(warned)


def test_files(records, server_factory, server_ssl_context, tls_ca, tmp_path):
    server = server_factory(ok(), tls=server_ssl_context)
    path = tmp_path / "ca.pem"
    tls_ca.cert_pem.write_to_path(str(path))
    with pt.Transport(name=NAME, ca_file=path) as transport:
        get(transport, server.url).read()
        broken = tmp_path / "broken.pem"
        broken.write_text("no certificate")
        broken.replace(path)  # at once: a file that is being written looks like two changes
        deadline = time.monotonic() + 10.0
        while not records.records and time.monotonic() < deadline:
            transport.close_idle_connections()
            get(transport, server.url).read()
    (record,) = records.records
    check(record, "Changed files cannot be used", option=None)
    assert record.code.startswith("PTC")


def test_access(records, server_factory):
    server = server_factory(ok())

    def broken():
        raise ZeroDivisionError

    with AccessLog(pt.Transport(name=NAME), trace_id=broken) as transport:
        get(transport, server.url).read()
    first, second = records.records
    check(first, "The trace id could not be had", hook="trace_id")
    check(second, "One request", method="GET", outcome="complete", trace_id=None)


def test_the_example(server_factory):
    server = server_factory(big(1_000_000))
    done = subprocess.run(
        [sys.executable, "-W", "error", ROOT / "examples" / "json_logging.py", server.url + "/secret?secret"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "secret" not in done.stdout
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    found = [(line["logger"].rpartition(".")[2], line.get("outcome", line.get("code"))) for line in lines]
    assert found == [
        ("access", "complete"),
        ("access", "complete"),
        ("pool", "PT-EXHAUSTED"),
        ("access", "failed"),
        ("access", "closed"),
        ("access", "dropped"),
        ("leak", "PT-LEAK"),
    ]
    standard = {"time", "level", "logger", "message"}
    for line in lines:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
        tables = [fields for logger, _, fields in PAGE.values() if logger == line["logger"]]
        assert set(line) - standard in tables
        assert line["pool_name"] == "example"
