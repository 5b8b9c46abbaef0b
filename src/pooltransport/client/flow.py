"""From one call to its answer: redirects, authentication, repetitions and cookies around round trips, for both colours.

One exchange, in the order of its requests:

`Flow.run`: the redirects  ->  `_hop`: one origin's answer: cookies, credentials, a challenge  ->  `_attempts`: the
repetitions  ->  `_once`: a round trip, and the reading of its body where the caller wants it whole.

Rules:

1. Nothing is sent on before the answer before is off its connection: its rest is read away within the drain's
   bounds, or the connection is closed.
2. The total covers all of it: each request is told what was spent before it (`Request.with_spent`).
3. A flow without wishes is one round trip: `Client` calls that itself, and comes here for a redirect.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from pooltransport.errors import InvalidRequest, TooManyRedirects, TransportError

from .auth import CallableAuth, checked
from .cookies import store, with_cookies
from .redirects import leads_on, redirected
from .retry import Attempts

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import Protocol

    from pooltransport.models import Request

    from .auth import Auth
    from .retry import Retry

    class Colour(Protocol):
        """What differs between threads and loops."""

        async def round_trip(self, transport: Any, request: Request) -> Any: ...
        async def read(self, response: Any) -> None: ...
        async def sleep(self, seconds: float) -> None: ...
        async def settle(self, answer: Any) -> Any: ...


class Wishes(NamedTuple):
    """What a call wants besides a round trip."""

    follow: bool
    max_redirects: int
    auth: Auth | None
    retry: Retry | None
    cookie: bytes
    jar: Any

    @property
    def is_plain(self) -> bool:
        """Whether the first request is sent as it is, and once."""
        return self.auth is None and self.retry is None and not self.cookie and self.jar is None


class Flow:
    """One exchange, begun at `began` (`time.monotonic`)."""

    __slots__ = ("_at_home", "_began", "_colour", "_origin", "_reads", "_transport", "_wishes")

    def __init__(self, colour: Colour, transport: Any, wishes: Wishes, began: float, *, reads: bool) -> None:
        self._colour = colour
        self._transport = transport
        self._wishes = wishes
        self._began = began
        self._reads = reads  # whether the caller wants the body whole
        self._origin = ""
        self._at_home = True

    async def run(self, request: Request, response: Any = None) -> Any:
        """Send `request`, unless its `response` is there already; return the last answer."""
        self._origin = request.url.origin
        history: list[Any] = []
        if response is None:
            response = await self._hop(request)
        while self._leads_on(request, response):
            response.history = tuple(history)
            await _let_go(response)
            if len(history) >= self._wishes.max_redirects:
                raise TooManyRedirects(
                    f"{request.url.origin}: more than {self._wishes.max_redirects} redirects (max_redirects)", response
                )
            history.append(response)
            request = redirected(request, response)
            response = await self._hop(request)
        response.history = tuple(history)
        return response

    def _leads_on(self, request: Request, response: Any) -> bool:
        return self._wishes.follow and leads_on(request, response)

    async def _hop(self, request: Request) -> Any:
        wishes = self._wishes
        # The caller's credentials are for whom it addressed; a redirect elsewhere gets none, nor does what follows.
        self._at_home = self._at_home and request.url.origin == self._origin
        auth, cookie = (wishes.auth, wishes.cookie) if self._at_home else (None, b"")
        asked = await self._authorized(with_cookies(request, cookie, wishes.jar), auth)
        response = await self._attempts(asked)
        if auth is not None and response.status_code == 401 and (again := auth.answer(asked, response)) is not None:
            body = again.body
            if body.rewindable or not body.started:
                await _let_go(response)
                body.rewind()
                response = await self._attempts(again)
        return response

    async def _authorized(self, request: Request, auth: Auth | None) -> Request:
        if auth is None:
            return request
        if isinstance(auth, CallableAuth):
            return checked(await self._colour.settle(auth.function(request)))
        return checked(auth.authorize(request))

    async def _attempts(self, request: Request) -> Any:
        policy = self._wishes.retry
        if policy is None:
            return await self._once(request)
        attempts = Attempts(policy)
        while True:
            try:
                response = await self._once(request)
            except TransportError as error:
                delay = attempts.after_error(error, request, random.random())
                if delay is None or not self._fits(request, delay):
                    for line in attempts.told:
                        error.add_note(line)
                    if delay is not None:
                        error.add_note(f"not sent again: {delay:.2f} s to wait are more than its timeout leaves")
                    raise
                attempts.tell(f"{type(error).__name__}: {error}", delay)
            else:
                delay = attempts.after_answer(response, request, random.random(), time.time())
                if delay is None or not self._fits(request, delay):
                    return response
                attempts.tell(f"status {response.status_code}", delay)
                await _let_go(response)
            await self._colour.sleep(delay)
            request.body.rewind()

    def _fits(self, request: Request, delay: float) -> bool:
        total = request.timeout.total
        return not total or time.monotonic() - self._began + delay < total

    async def _once(self, request: Request) -> Any:
        spent = time.monotonic() - self._began if request.timeout.total else 0.0
        response = await self._colour.round_trip(self._transport, request.with_spent(spent) if spent else request)
        try:
            if self._wishes.jar is not None:
                store(self._wishes.jar, request, response)
            if self._reads and not self._leads_on(request, response):
                await self._colour.read(response)
        except BaseException:
            await _close(response)
            raise
        return response


async def _let_go(response: Any) -> None:
    """Take an answer that nobody will read off its connection, before the next request."""
    await response._body.close(wait=True)  # noqa: SLF001 - one object in two


async def _close(response: Any) -> None:
    await response._body.close()  # noqa: SLF001 - one object in two


class Threads:
    """The colour of `Client`."""

    async def round_trip(self, transport: Any, request: Request) -> Any:
        return transport.round_trip(request)

    async def read(self, response: Any) -> None:
        response.read()

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 - no loop runs here

    async def settle(self, answer: Any) -> Any:
        if hasattr(answer, "cr_code"):
            answer.close()
            raise InvalidRequest("the auth= callable is asynchronous: use AsyncClient")
        return answer


class Loops:
    """The colour of `AsyncClient`."""

    async def round_trip(self, transport: Any, request: Request) -> Any:
        return await transport.round_trip(request)

    async def read(self, response: Any) -> None:
        await response.aread()

    async def sleep(self, seconds: float) -> None:
        from anyio import sleep  # noqa: PLC0415 - only for who waits

        await sleep(seconds)

    async def settle(self, answer: Any) -> Any:
        if not hasattr(answer, "__await__"):
            return answer
        awaitable: Awaitable[Any] = answer
        return await awaitable
