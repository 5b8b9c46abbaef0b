"""``extensions["trace"]``: our hooks as the events of httpcore, in its names.

Rules:

1. An event is told when the thing happens: a plain callable is called at once; what a coroutine function returns is
   awaited at the next turn of the loop, in the order of the events, in a task with the request's context.
2. As with httpcore, a callable that raises ends its request; there, with what it raised.
3. Nothing here refers to a response: the pool refers to what is here (contract 3).
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import anyio

from pooltransport.colours import current_loop
from pooltransport.trace import ClientTrace

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from pooltransport.trace import TLSInfo

HEADERS, BODY, ANSWER = "send_request_headers", "send_request_body", "receive_response_headers"
CONTENT, CLOSED = "receive_response_body", "response_closed"


class Met:
    """What an event says of the connection, in the place of httpcore's stream: the socket stays the pool's."""

    def __init__(self, address: str = "", tls: TLSInfo | None = None) -> None:
        self._address = address
        self._tls = tls

    def get_extra_info(self, info: str) -> Any:
        """Return ``server_addr``, or as ``ssl_object`` something with its questions; None for what is not known."""
        if info == "server_addr":
            return pair(self._address)
        return self if info == "ssl_object" and self._tls is not None else None

    def version(self) -> str:
        """As `ssl.SSLObject.version`."""
        return "" if self._tls is None else self._tls.version

    def cipher(self) -> tuple[str, str, int | None]:
        """As `ssl.SSLObject.cipher`, but for the bits."""
        return ("" if self._tls is None else self._tls.cipher, self.version(), None)

    def selected_alpn_protocol(self) -> str | None:
        """As `ssl.SSLObject.selected_alpn_protocol`."""
        return None if self._tls is None else self._tls.alpn

    def getpeercert(self) -> None:
        """Nothing: the response's ``network_stream`` has it."""


def pair(address: str) -> Any:
    """Return ``host:port`` as a pair; a path, or nothing, as it is."""
    host, colon, port = address.rpartition(":")
    return (host.strip("[]"), int(port)) if colon and port.isdigit() else address or None


class Told:
    """Who is told of one request, by a blocking client."""

    def __init__(self, call: Callable[[str, dict[str, Any]], object], request: Any) -> None:
        self._call = call
        self._request = request
        self._open = ""  # what was started and has not ended
        self._ended = False
        self._error: BaseException | None = None

    # -- what happens -----------------------------------------------------------------------------

    def hooks(self) -> ClientTrace:
        """Return the hooks that tell it."""
        return ClientTrace(
            connect_start=self._connecting,
            connect_done=self._connected,
            tls_handshake_start=lambda info: self.tell(
                "connection.start_tls.started", {"server_hostname": info.server_hostname}
            ),
            tls_handshake_done=lambda info: self._done("connection.start_tls", info.error, Met(tls=info.tls)),
            wrote_headers=self._wrote_headers,
            wrote_request=self._wrote_request,
            retried=lambda info: self.failed(info.error),
        )

    def _connecting(self, info: Any) -> None:
        if info.network == "unix":
            self.tell("connection.connect_unix_socket.started", {"path": info.address})
            return
        host, _, port = info.address.rpartition(":")
        self.tell("connection.connect_tcp.started", {"host": host.strip("[]"), "port": int(port)})

    def _connected(self, info: Any) -> None:
        kind = "unix_socket" if info.network == "unix" else "tcp"
        self._done(f"connection.connect_{kind}", info.error, Met(address=info.address))

    def _wrote_headers(self, _: Any) -> None:
        self._ended = False
        self.started(HEADERS)
        self.complete(HEADERS)
        self.started(BODY)

    def _wrote_request(self, error: BaseException | None) -> None:
        self._done(f"http11.{BODY}", error)
        self.started(ANSWER)

    def started(self, what: str) -> None:
        """Something of the exchange begins."""
        self._open = what
        self.tell(f"http11.{what}.started", {"request": self._request})

    def complete(self, what: str, value: object = None) -> None:
        """And has ended well."""
        if what == ANSWER and self._open != ANSWER:
            self.started(ANSWER)  # the answer came before all of the request was sent
        self._open = ""
        self.tell(f"http11.{what}.complete", {"return_value": value})

    def failed(self, error: BaseException) -> None:
        """Or not, and with it the exchange."""
        if self._open:
            self.tell(f"http11.{self._open}.failed", {"exception": error})
            self._open = ""
            self.closed()

    def closed(self) -> None:
        """The response holds its connection no more."""
        if not self._ended:
            self._ended = True
            self.started(CLOSED)
            self.complete(CLOSED)

    def _done(self, what: str, error: BaseException | None, value: object = None) -> None:
        if error is None:
            self.tell(f"{what}.complete", {"return_value": value})
        else:
            self.tell(f"{what}.failed", {"exception": error})

    # -- who is told ------------------------------------------------------------------------------

    def tell(self, name: str, info: dict[str, Any]) -> None:
        """Tell of one event, unless an earlier one was one too many."""
        if self._error is not None:
            return
        try:
            result = self._call(name, info)
            if inspect.iscoroutine(result):
                self._take(result)
        except Exception as error:  # noqa: BLE001 - raised where the request is: see `check`
            self._error = error

    def _take(self, result: Coroutine[Any, Any, Any]) -> None:
        result.close()
        raise TypeError("extensions['trace'] of a blocking client must be a normal function, not a coroutine function")

    def check(self) -> None:
        """Raise what the callable raised."""
        error, self._error = self._error, None
        if error is not None:
            raise error


class AsyncTold(Told):
    """The same, by a client on a loop."""

    def __init__(self, call: Callable[[str, dict[str, Any]], object], request: Any) -> None:
        super().__init__(call, request)
        self._context = copy_context()
        self._waiting: deque[Coroutine[Any, Any, Any]] = deque()
        self._idle: anyio.Event | None = None  # set when all that was told has been awaited
        self._task: object = None

    def _take(self, result: Coroutine[Any, Any, Any]) -> None:
        self._waiting.append(result)
        if self._idle is not None:
            return
        self._idle = anyio.Event()
        loop = current_loop()
        if isinstance(loop, asyncio.AbstractEventLoop):
            self._task = loop.create_task(self._await_all(), context=self._context)
        else:
            import trio  # noqa: PLC0415 - that is what runs here

            self._task = trio.lowlevel.spawn_system_task(self._await_all, context=self._context)

    async def _await_all(self) -> None:
        idle = self._idle
        assert idle is not None, "made before the task"
        try:
            while self._waiting:
                result = self._waiting.popleft()
                if self._error is not None:
                    result.close()
                    continue
                try:
                    await result
                except Exception as error:  # noqa: BLE001 - as in `tell`
                    self._error = error
        finally:
            for result in self._waiting:  # the loop ends
                result.close()
            self._waiting.clear()
            self._idle = self._task = None
            idle.set()

    async def settle(self) -> None:
        """Wait until all has been told; raise what a callable raised."""
        while self._idle is not None:
            await self._idle.wait()
        self.check()
