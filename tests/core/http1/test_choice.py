"""Which parser a transport takes."""

from __future__ import annotations

import sys

import httptools
import pytest

import pooltransport as pt
from pooltransport import option_checks
from pooltransport.core.http1 import codecs


@pytest.fixture(autouse=True)
def looked_for_anew():
    codecs.codec_class.cache_clear()
    yield
    codecs.codec_class.cache_clear()


@pytest.fixture(autouse=True)
def really_looked_for(monkeypatch):
    """Whatever --codec says of this run."""
    monkeypatch.setattr(codecs, "has_httptools", option_checks.has_httptools)


@pytest.mark.parametrize(("choice", "name"), [("auto", "httptools"), ("httptools", "httptools"), ("h11", "h11")])
def test_where_the_extra_is_installed(choice, name):
    assert pt.TransportOptions(codec=choice).codec == choice
    assert codecs.codec_class(choice).name == name


class TestWithout:
    @pytest.fixture(params=["missing", "0.6.3", "0.5.0"], autouse=True)
    def missing(self, request, monkeypatch):
        if request.param == "missing":
            monkeypatch.setitem(sys.modules, "httptools", None)
        else:
            monkeypatch.setattr(httptools, "__version__", request.param)

    def test_auto_is_h11(self):
        assert codecs.codec_class("auto").name == "h11"

    @pytest.mark.parametrize("make", [pt.Transport, pt.AsyncTransport, pt.TransportOptions])
    def test_httptools_is_an_error(self, make):
        with pytest.raises(pt.ConfigError) as caught:
            make(codec="httptools")
        assert str(caught.value) == "codec='httptools' needs an extra: pip install 'pooltransport[speed]' [PTC116]"


@pytest.mark.parametrize("version", ["0.6.4", "0.7.1", "1.0"])
def test_versions_that_are_new_enough(monkeypatch, version):
    monkeypatch.setattr(httptools, "__version__", version)
    assert codecs.codec_class("auto").name == "httptools"


def test_another_word():
    with pytest.raises(pt.ConfigError, match=r"codec='llhttp': must be one of 'auto', 'h11', 'httptools' \[PTC110\]"):
        pt.TransportOptions(codec="llhttp")
