"""A trace that remembers, and the requests of these tests."""

from __future__ import annotations

from pooltransport import ClientTrace, Request
from pooltransport.trace import HOOK_NAMES
from tests.engine.scenarios import URL


class Told:
    """A trace with every hook that remembers what it was told, in order."""

    def __init__(self):
        self.calls = []
        self.trace = ClientTrace(**{name: self._hook(name) for name in HOOK_NAMES})

    def _hook(self, name):
        return lambda info: self.calls.append((name, info))

    @property
    def names(self):
        return [name for name, _ in self.calls]

    def info(self, name):
        (found,) = [info for called, info in self.calls if called == name]
        return found


def request(method="GET", **fields):
    return Request(method, URL, **fields)
