"""The doubles of `pooltransport.testing` under the adapters: an SDK's degraded paths without a network."""

from __future__ import annotations

import gzip

import httpx
import httpx2
import pytest
import requests

import pooltransport as pt
from pooltransport import testing
from pooltransport.adapters import httpx as over_httpx
from pooltransport.adapters import httpx2 as over_httpx2
from pooltransport.adapters.requests import HTTPAdapter

URL = "https://a.example/"
STEPS = [pt.PoolTimeout, pt.ReadTimeout, pt.ConnectError, testing.drop_after(1)]
CODED = testing.response(content=gzip.compress(b"hello"), headers={"Content-Encoding": "gzip"})


@pytest.mark.parametrize(("library", "adapter"), [(httpx, over_httpx), (httpx2, over_httpx2)])
def test_httpx(library, adapter):
    faults = testing.FaultTransport([*STEPS, CODED])
    expected = [library.PoolTimeout, library.ReadTimeout, library.ConnectError, library.RemoteProtocolError]
    with testing.no_network(), library.Client(transport=adapter.HTTPTransport(transport=faults)) as client:
        for kind in expected:
            with pytest.raises(kind):
                client.get(URL)
        assert client.get(URL).text == "hello"
        with pytest.raises(testing.NetworkBlocked, match="test_doubles.py"):
            library.Client(transport=adapter.HTTPTransport()).get(URL)


def test_requests(monkeypatch):
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # are a verify= of each call
        monkeypatch.delenv(name, raising=False)
    errors = requests.exceptions
    expected = [errors.ConnectTimeout, errors.ReadTimeout, errors.ConnectionError, errors.ChunkedEncodingError]
    with testing.no_network(), requests.Session() as session:
        session.mount(URL, HTTPAdapter(transport=testing.FaultTransport([*STEPS, CODED])))
        for kind in expected:
            with pytest.raises(kind):
                session.get(URL)
        assert session.get(URL).text == "hello"
        session.mount("https://b.example", HTTPAdapter())
        with pytest.raises(testing.NetworkBlocked, match="test_doubles.py"):
            session.get("https://b.example/")
