"""The bodies of the doubles have what a response, and a client, ask of the engine's."""

from __future__ import annotations

import inspect

import pytest

from pooltransport.engine.body import Body
from pooltransport.engine.upgrade import Upgraded
from pooltransport.testing.faults import _FaultyBody
from pooltransport.testing.handler_body import HandlerBody


def public(cls):
    """Return the public names of a body."""
    return {name for name in dir(cls) if not name.startswith("_")}


ASKED = public(Body) & public(Upgraded)  # what every body has


def test_they_have_all_of_it():
    assert {"read_some", "close", "state", "codings", "trailers", "hold_long", "max_body_bytes"} <= ASKED
    assert public(HandlerBody) >= ASKED


@pytest.mark.parametrize("kind", [HandlerBody, _FaultyBody])
@pytest.mark.parametrize("name", sorted(name for name in ASKED if inspect.isfunction(getattr(Body, name))))
def test_and_it_is_called_in_the_same_way(kind, name):
    if name in public(kind):  # the other asks the body inside
        own, engines = inspect.signature(getattr(kind, name)), inspect.signature(getattr(Body, name))
        assert str(own) == str(engines)
        assert inspect.iscoroutinefunction(getattr(kind, name)) == inspect.iscoroutinefunction(getattr(Body, name))
