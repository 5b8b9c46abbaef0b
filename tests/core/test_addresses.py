"""The memory of failed addresses, by its properties, and the order of trying."""

from __future__ import annotations

import itertools
import socket
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pooltransport.core.addresses import FIRST_PENALTY, LONGEST_PENALTY, AddressMemory, interleave


class Address(NamedTuple):
    family: int
    text: str


V4 = [Address(socket.AF_INET, f"192.0.2.{n}:80") for n in range(1, 5)]
V6 = [Address(socket.AF_INET6, f"[2001:db8::{n}]:80") for n in range(1, 5)]
ADDRESSES = st.lists(st.sampled_from(V4 + V6), unique=True)


@given(ADDRESSES)
def test_interleaving_loses_nothing_and_keeps_the_order_in_a_family(addresses):
    mixed = interleave(addresses)
    assert sorted(mixed) == sorted(addresses)
    for family in (socket.AF_INET, socket.AF_INET6):
        assert [a for a in mixed if a.family == family] == [a for a in addresses if a.family == family]


@given(ADDRESSES)
def test_families_take_turns_while_both_last_beginning_with_the_first(addresses):
    mixed = interleave(addresses)
    families = [address.family for address in mixed]
    shorter = min(families.count(socket.AF_INET), families.count(socket.AF_INET6))
    assert mixed[:1] == addresses[:1]
    assert all(a != b for a, b in itertools.pairwise(families[: 2 * shorter]))


class Machine(RuleBasedStateMachine):
    """Failures, successes and time; compared with a list of what happened."""

    def __init__(self):
        super().__init__()
        self.now = 1000.0
        self.memory = AddressMemory(most=3)
        self.last = {}  # text: (moment of the first failure of this run, penalty, until)
        self.order = []  # texts by their latest failure

    @rule(seconds=st.sampled_from([0.0, 0.1, 9.9, 10.0, 20.0, 59.9, 60.0, 3600.0]))
    def wait(self, seconds):
        self.now += seconds

    @rule(address=st.sampled_from(V4 + V6))
    def fail(self, address):
        was_good = self.memory.is_good(address.text, self.now)
        assert self.memory.failed(address.text, self.now) is was_good
        _, penalty, _ = self.last.get(address.text, (0.0, 0.0, 0.0))
        if was_good:
            penalty = min(max(penalty * 2, FIRST_PENALTY), LONGEST_PENALTY)
        self.last[address.text] = (self.now, penalty, self.now + penalty)
        self.order = [text for text in self.order if text != address.text] + [address.text]
        for text in self.order[:-3]:
            del self.last[text]
        self.order = self.order[-3:]

    @rule(address=st.sampled_from(V4 + V6))
    def succeed(self, address):
        self.memory.succeeded(address.text)
        self.last.pop(address.text, None)
        self.order = [text for text in self.order if text != address.text]

    @rule(addresses=ADDRESSES)
    def ask(self, addresses):
        ordered = self.memory.order(addresses, self.now)
        assert sorted(ordered) == sorted(addresses)
        good = [self.memory.is_good(address.text, self.now) for address in ordered]
        assert good == sorted(good, reverse=True), "failed ones are last"
        mixed = interleave(addresses)
        for wanted in (True, False):
            assert [a for a, g in zip(ordered, good, strict=True) if g is wanted] == [
                a for a in mixed if self.memory.is_good(a.text, self.now) is wanted
            ], "otherwise the order is kept"

    @invariant()
    def is_bounded(self):
        assert len(self.memory) == len(self.last) <= 3

    @invariant()
    def remembers(self):
        for address in V4 + V6:
            _, _, until = self.last.get(address.text, (0.0, 0.0, 0.0))
            assert self.memory.is_good(address.text, self.now) is (until <= self.now)
            assert until - self.now <= LONGEST_PENALTY


TestMachine = Machine.TestCase


def test_the_penalty_grows_and_is_bounded():
    memory = AddressMemory()
    now, penalties = 0.0, []
    for _ in range(6):
        assert memory.failed("a", now)
        began = now
        while not memory.is_good("a", now):
            now += 1.0
        penalties.append(now - began)
    assert penalties == [10, 20, 40, 60, 60, 60]
    memory.succeeded("a")
    memory.failed("a", now)
    assert memory.is_good("a", now + 10)


def test_only_the_last_failures_are_remembered():
    memory = AddressMemory(most=2)
    for text in ("a", "b", "a", "c"):
        memory.failed(text, 0.0)
    assert len(memory) == 2
    assert [memory.is_good(text, 1.0) for text in ("a", "b", "c")] == [False, True, False]


def test_a_success_before_any_failure_is_nothing():
    memory = AddressMemory()
    memory.succeeded("a")
    assert len(memory) == 0
    assert memory.order(V4[:2], 0.0) == V4[:2]


def test_what_failed_is_tried_last():
    memory = AddressMemory()
    memory.failed(V4[0].text, 0.0)
    assert memory.order(V4[:3], 1.0) == [V4[1], V4[2], V4[0]]


def test_families_take_turns_beginning_with_the_first():
    assert interleave([V6[0], V6[1], V6[2], V4[0]]) == [V6[0], V4[0], V6[1], V6[2]]


def test_a_burst_of_failures_counts_once():
    memory = AddressMemory()
    assert [memory.failed("a", 0.1 * n) for n in range(50)] == [True] + [False] * 49
    assert memory.is_good("a", 15.0)


def test_many_threads_at_once():
    import sys
    import threading

    memory = AddressMemory(most=20)
    errors = []

    def work(offset):
        try:
            for n in range(3000):
                memory.failed(f"{(n * 7 + offset) % 60}", float(n))
                memory.order(V4, float(n))
                memory.succeeded(f"{(n + offset) % 60}")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    finally:
        sys.setswitchinterval(interval)
    assert errors == []
    assert len(memory) <= 24  # the last ones may have passed each other


@pytest.mark.parametrize("addresses", [[], V4[:1], V6[:3]])
def test_one_family_is_left_alone(addresses):
    assert interleave(addresses) == addresses
