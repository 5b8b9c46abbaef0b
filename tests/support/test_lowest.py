"""Which lowest versions are installed for `make test-lowest`."""

from __future__ import annotations

import pytest

from tests.support.lowest import PYPROJECT, lowest

TEXT = """
[project]
dependencies = ["anyio>=4.10"]

[project.optional-dependencies]
zstd = ['backports.zstd>=1.0; python_version < "3.14"']
dev = ["anything"]
"""


def test_floors_become_pins():
    assert lowest(TEXT) == ["anyio==4.10", 'backports.zstd==1.0; python_version < "3.14"']


def test_what_has_no_floor_is_refused():
    with pytest.raises(ValueError, match="certifi: give a lowest version"):
        lowest(TEXT.replace('"anyio>=4.10"', '"certifi"'))


def test_every_requirement_of_ours_has_one():
    assert any(pin.startswith("h11==") for pin in lowest(PYPROJECT.read_text(encoding="utf-8")))
