"""Every client measured, each as a few calls on a pool of a given size.

Imported in the client's own environment: nothing here but the standard library, and each client only where it is
opened. Each pool may hold one connection for each worker; all else is as the client has it, but that proxies from the
environment are off where it can.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class Setting(NamedTuple):
    """What a client is opened with."""

    workers: int = 20
    ca: str | None = None  # the file of the authority that certificates are checked with
    codec: str = "auto"  # of ours


class Calls(NamedTuple):
    """What a client can do; awaitables where it has a loop.

    `get(url)` returns the length of the body, read whole; `download(url)` the same, in pieces that nobody keeps;
    `upload(url, body)` posts bytes and returns what the server counted; `hold(url)` opens a response of which nothing
    is read, and returns the call that reads it.
    """

    get: Callable[[str], Any]
    download: Callable[[str], Any] | None = None
    upload: Callable[[str, bytes], Any] | None = None
    hold: Callable[[str], Any] | None = None
    transport: Any = None  # ours


def ours(setting: Setting) -> dict[str, Any]:
    """Return the options of our transports: the defaults, but for the size of the pool and the authority."""
    from pooltransport.options import OptionsDict

    options: dict[str, Any] = {
        "max_conns_per_host": setting.workers,
        "max_idle_conns": setting.workers,
        "proxy": None,
        "ca_file": setting.ca,
    }
    # A codec of another name than it knows is "auto", which is what is there.
    if setting.codec in str(OptionsDict.__annotations__.get("codec", "")):
        options["codec"] = setting.codec
    return options
