"""The snapshot as a value."""

from __future__ import annotations

import json
import pickle
from typing import NamedTuple

import pytest

from pooltransport.core.pool import Limits, Pool, Waiter
from pooltransport.stats import CloseReason


@pytest.fixture
def stats():
    pool = Pool(Limits(max_conns=5), host_of=lambda key: key, name="billing")
    waiter = Waiter("https://api.example:443")
    (dial,) = pool.get(waiter, 0.0)
    pool.dialed(dial.ticket, "conn", 0.0)
    return pool.stats()


def test_every_close_reason_has_a_sentence():
    assert len({reason.sentence for reason in CloseReason}) == len(CloseReason) == 31
    assert CloseReason("idle_limit_host").sentence == "too many idle connections for host"
    assert all(reason.value == reason.name.lower() for reason in CloseReason)


def test_reasons_survive_pickling():
    assert pickle.loads(pickle.dumps(CloseReason.LEAKED)) is CloseReason.LEAKED


def test_json_nests_like_the_snapshot(stats):
    told = json.loads(stats.to_json())
    assert told == stats.as_dict()
    assert (told["schema"], told["name"], told["open"], told["leases"]) == (1, "billing", 1, 1)
    assert told["limits"]["max_conns"] == 5
    assert told["hosts"]["https://api.example:443"]["acquired"] == {"reused": 0, "dialed": 1, "handed_over": 0}
    assert told["hosts"]["https://api.example:443"]["open"] == 1


def test_findings_are_nested_too(stats):
    class Finding(NamedTuple):
        code: str
        text: str

    told = json.loads(stats._replace(findings=(Finding("R1", "exhausted"),)).to_json())
    assert told["findings"] == [{"code": "R1", "text": "exhausted"}]


def test_a_snapshot_does_not_change(stats):
    with pytest.raises(AttributeError):
        stats.active = 3
    assert pickle.loads(pickle.dumps(stats)) == stats
