"""The shared directory: sums over processes that never go down, and no file too many."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pooltransport.observe.table import Table
from pooltransport.observe.workers import Directory

COUNTER, GAUGE, OLDEST = "pooltransport.client.created", "pooltransport.client.live", "pooltransport.loop.lag_max"


class Worker:
    """A process, as far as the directory can tell: it has a lock of its own."""

    def __init__(self, path, counted=0):
        self.counted = counted
        self.gauge = 1
        self.directory = Directory(str(path), self.table)

    def table(self):
        table = Table()
        table.add(COUNTER, (), self.counted)
        table.add(GAUGE, (), self.gauge)
        table.add(OLDEST, (), self.counted)
        return table

    def scrape(self):
        rows = self.directory.gather(self.table()).rows
        return tuple(next(iter(rows[name].values())) for name in (COUNTER, GAUGE, OLDEST))

    def die(self):
        self.directory.close()


@pytest.fixture
def start(tmp_path):
    workers = []

    def make(counted=0):
        workers.append(Worker(tmp_path, counted))
        return workers[-1]

    yield make
    for worker in workers:
        worker.die()


def names(path):
    return sorted(os.listdir(path))


def test_a_scrape_is_the_sum_and_the_greatest_of_ages(start):
    a, b = start(3), start(4)
    assert a.scrape() == (3, 1, 3)  # the other has not said anything yet
    assert b.scrape() == (7, 2, 4)
    assert a.scrape() == (7, 2, 4)


def test_what_a_scrape_has_shown_everybody_knows(start):
    a, b = start(3), start(4)
    b.scrape()
    for number in range(5, 10):
        a.counted = number
        assert a.scrape()[0] == b.scrape()[0] == number + 4


def test_the_counters_of_the_dead_stay_and_their_files_do_not(start, tmp_path):
    a, b = start(3), start(4)
    a.scrape()
    b.scrape()
    a.die()
    assert b.scrape() == (7, 1, 4)
    assert len(names(tmp_path)) == 4  # the gone, the lock, and two files of b
    for number in range(20):
        worker = start(1)
        worker.directory.publish()
        worker.die()
        assert len(names(tmp_path)) <= 6, "files pile up where nobody scrapes"
        assert number < 19 or b.scrape() == (27, 1, 4)


def test_who_has_nothing_to_say_has_no_file(start, tmp_path):
    worker = start(0)
    worker.gauge = 0
    worker.directory.publish()
    assert names(tmp_path) == []


def test_a_crash_between_adding_and_removing_counts_nobody_twice(start, tmp_path):
    a, b = start(3), start(4)
    a.scrape()
    left = {name: (tmp_path / name).read_bytes() for name in names(tmp_path) if name.startswith("pooltransport-")}
    a.die()
    b.scrape()
    for name, text in left.items():  # as if whoever added them had not come to remove them
        (tmp_path / name).write_bytes(text)
    assert b.scrape() == (7, 1, 4)
    assert not set(left) & set(names(tmp_path))
    assert b.scrape() == (7, 1, 4)


def test_what_was_killed_while_it_wrote_is_tidied_away(start, tmp_path):
    a = start(3)
    a.scrape()
    left = ("pooltransport-1-aa.json.1.tmp", "pooltransport-2-bb.lock", "pooltransport-gone.json.3.tmp")
    for name in left:
        (tmp_path / name).write_text("{")
    (tmp_path / "counter_1.db").write_text("not ours")
    assert a.scrape() == (3, 1, 3)
    assert not set(left) & set(names(tmp_path))
    assert (tmp_path / "counter_1.db").exists()


@pytest.mark.parametrize("text", ["", "[]", '{"pooltransport.client.created": 5}', "\x00"])
def test_a_file_that_cannot_be_read_is_told_and_left_out(start, tmp_path, caplog, text):
    a = start(3)
    (tmp_path / "pooltransport-1-aa.json").write_text(text)
    with caplog.at_level(logging.WARNING):
        assert a.scrape() == (3, 1, 3)
    assert "pooltransport-1-aa.json cannot be read" in caplog.text
    assert not (tmp_path / "pooltransport-1-aa.json").exists()


def test_if_the_directory_is_locked_the_others_are_as_they_were(start, tmp_path, caplog):
    a, b = start(3), start(4)
    a.scrape()
    b.scrape()
    a.counted = 5
    with open(tmp_path / "pooltransport.lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        b.counted = 6
        assert b.scrape() == (9, 2, 6)
    assert "another process holds" in caplog.text
    a.scrape()
    assert b.scrape() == (11, 2, 6)


def test_a_directory_that_is_gone_does_not_break_anything(tmp_path, caplog):
    path = tmp_path / "shared"
    path.mkdir()
    worker = Worker(path, 3)
    path.rmdir()
    assert worker.scrape() == (3, 1, 3)
    worker.die()
    assert "cannot write metrics" in caplog.text


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(st.tuples(st.sampled_from(["count", "scrape", "die", "publish"]), st.integers(0, 2)), max_size=40)
)
def test_no_sum_ever_goes_down(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("shared")
    workers = [Worker(path) for _ in range(3)]
    counted = shown = 0
    for step, number in steps:
        worker = workers[number]
        if step == "count":
            worker.counted += 1
            counted += 1
        elif step == "publish":
            worker.directory.publish()
        elif step == "scrape":
            now = worker.scrape()[0]
            assert shown <= now <= counted
            shown = now
        else:
            worker.die()
            workers[number] = Worker(path)
    for worker in workers:
        worker.directory.publish()
    assert workers[0].scrape()[0] == counted
    for worker in workers:
        worker.die()


@pytest.mark.parametrize("fork", ["os.fork()", "ctypes.CDLL(None).fork()"], ids=["os", "without hooks"])
def test_forked_children_have_files_of_their_own_and_keep_no_lock_of_the_parents(tmp_path, fork):
    """The parent counts 3 and ends while its child lives: its gauges vanish, what it counted stays."""
    code = f"""
import ctypes, os, sys
sys.path.insert(0, {str(os.path.dirname(__file__))!r})
from test_workers import Worker
parent = Worker(sys.argv[1], 3)
assert parent.scrape() == (3, 1, 3)
read, write = os.pipe()
if {fork} == 0:
    os.close(write)
    os.read(read, 1)  # until the parent has ended
    parent.counted = 10
    print(parent.scrape(), flush=True)
    os._exit(0)
os._exit(0)  # killed: no exit handler runs
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout.strip() == "(13, 1, 10)", done.stderr


def test_the_last_words_are_written_at_exit(tmp_path, start):
    code = f"""
import os, sys
sys.path.insert(0, {str(os.path.dirname(__file__))!r})
from test_workers import Worker
worker = Worker(sys.argv[1], 3)
worker.directory.publish()
worker.counted = 5
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], timeout=30, check=True)
    written = [json.loads((tmp_path / name).read_text()) for name in names(tmp_path) if name.endswith(".json")]
    assert [table[COUNTER] for table in written] == [[[[], 5]]]
    assert start(1).scrape() == (6, 1, 1)
