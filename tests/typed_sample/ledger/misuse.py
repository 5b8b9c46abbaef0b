"""What a type checker must refuse: each line is wrong, and an ignore that is not needed is an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pooltransport as pt
from pooltransport import testing

from .transports import make_async_transport, make_transport

if TYPE_CHECKING:
    from pooltransport.options import OptionsDict


def wrong() -> None:
    """Never called."""
    pt.Clinet()  # type: ignore[attr-defined]
    testing.no_leak()  # type: ignore[attr-defined]
    pt.Client(make_async_transport("a"))  # type: ignore[arg-type]
    pt.AsyncClient(make_transport("a"))  # type: ignore[arg-type]
    pt.Transport(max_conn=3)  # type: ignore[call-arg]
    options: OptionsDict = {"max_conns": "many"}  # type: ignore[typeddict-item]
    pt.Transport(**options)
    pt.Client().get("https://a.example/", retries=3)  # type: ignore[call-arg]
    pt.Client(timeout="10")  # type: ignore[arg-type]
    testing.HandlerTransport(lambda _: 200)  # type: ignore[arg-type, return-value]
    testing.FaultTransport([503])  # type: ignore[list-item]
    pt.Client().get("https://a.example/").text = ""  # type: ignore[misc]
