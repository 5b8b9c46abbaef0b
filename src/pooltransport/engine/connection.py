"""One pooled connection (Go: persistConn): a stream, its parser, and what is remembered of its life."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from pooltransport.trace import ConnInfo, GotConnInfo

if TYPE_CHECKING:
    from collections.abc import Callable

    from pooltransport.core.http1.codec import Http1Codec
    from pooltransport.core.keys import ConnectKey
    from pooltransport.runtime.protocols import Runtime, Stream
    from pooltransport.stats import CloseReason
    from pooltransport.trace import Hooks, WroteHeaderFieldInfo

_ids = itertools.count(1)
_new_info = tuple.__new__


class Connection:
    """What the pool pools. It refers to nothing of the requests it serves, but for the hooks of the
    one that holds it, which are told when it is closed meanwhile.
    """

    __slots__ = (
        "close_reason",
        "codec",
        "context",
        "created",
        "hooks",
        "id",
        "idle_since",
        "key",
        "on_idle_event",
        "requests_served",
        "reused",
        "runtime",
        "stream",
        "told_headers",
    )

    def __init__(self, key: ConnectKey, runtime: Runtime, stream: Stream, codec: Http1Codec, now: float) -> None:
        self.id = next(_ids)
        self.key = key
        self.runtime = runtime
        self.stream = stream
        self.codec = codec
        self.context: Any = None  # the TLS context that it was made with
        self.created = now
        self.idle_since = now
        # It came through the pool, even if it never carried a request (Go POOL-08): only what fails
        # on such a connection may be tried again.
        self.reused = False
        self.requests_served = 0
        self.hooks: Hooks | None = None
        # The last header section, as `wrote_header_field` was told of it: the next is often the same.
        self.told_headers: tuple[bytes, tuple[WroteHeaderFieldInfo, ...]] = (b"", ())
        self.close_reason: CloseReason | None = None
        self.on_idle_event: Callable[[CloseReason], None] | None = None

    def got_info(self, now: float, queue_time: float, *, was_idle: bool) -> GotConnInfo:
        """Return what the `got_conn` hook is told."""
        stream = self.stream
        idle_time = now - self.idle_since if was_idle else 0.0
        age, served = now - self.created, self.requests_served
        local, remote = stream.local_addr, stream.remote_addr
        # What `GotConnInfo` does, without its call: each request makes one.
        return _new_info(
            GotConnInfo,
            (remote, local, self.reused, was_idle, idle_time, queue_time, "http/1.1", stream.tls, age, served, self.id),
        )

    def info(self, now: float) -> ConnInfo:
        """Return what the `conn_closed` hook is told."""
        stream = self.stream
        return ConnInfo(
            self.id,
            self.key.origin,
            stream.remote_addr,
            stream.local_addr,
            now - self.created,
            self.requests_served,
        )

    def __repr__(self) -> str:
        return f"<Connection {self.id} {self.key.origin} served {self.requests_served}>"
