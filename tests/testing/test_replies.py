"""`response`: what a handler returns."""

from __future__ import annotations

import pytest

import pooltransport as pt
from pooltransport.testing import response


@pytest.mark.parametrize("status", [100, 199, 1000])
def test_a_status_that_no_answer_has(status):
    with pytest.raises(ValueError, match="200 to 999"):
        response(status)


def test_one_body_at_most():
    with pytest.raises(ValueError, match="give one of content= and text="):
        response(content=b"a", text="b")
    with pytest.raises(TypeError, match="bytes, str or an iterable"):
        response(content=3)


@pytest.mark.parametrize(
    ("reply", "fields"),
    [
        (response(), {"Content-Length": "0"}),
        (response(text="ä"), {"Content-Type": "text/plain; charset=utf-8", "Content-Length": "2"}),
        (response(json={}), {"Content-Type": "application/json", "Content-Length": "2"}),
        (response(content="ab"), {"Content-Length": "2"}),
        (response(content=[b"a"]), {}),
        (response(204), {}),
        (
            response(json={}, headers={"content-type": "x/y", "Content-Length": "9"}),
            {"content-type": "x/y", "Content-Length": "9"},
        ),
        (response(content=b"a", headers={"Transfer-Encoding": "chunked"}), {"Transfer-Encoding": "chunked"}),
    ],
)
def test_fields_that_are_added(reply, fields):
    assert dict(reply.headers.items()) == {name.lower(): value for name, value in fields.items()}


def test_reasons():
    assert response(404).reason == "Not Found"
    assert response(799).reason == ""
    assert response(200, reason="Fine").reason == "Fine"


def test_fields_that_cannot_be_sent():
    with pytest.raises(pt.InvalidRequest):
        response(headers={"A": "b\nc"})
