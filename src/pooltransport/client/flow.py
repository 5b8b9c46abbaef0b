"""From one call to its answer: redirects, authentication, repetitions and cookies around round trips, for both colours.

One exchange, in the order of its requests:

`Flow.run`: the redirects  ->  `_hop`: one origin's answer, a challenge answered  ->  `_attempts`: the repetitions, each
with cookies and credentials, and the reading of the body where the caller wants it whole  ->  `_round_trip`.

Rules:

1. Nothing is sent on before the answer before is off its connection: its rest is read away within the drain's
   bounds, or the connection is closed. Only the last answer is read.
2. The total covers all of it: each request is told what was spent before it (`Request.with_spent`).
3. A flow without wishes is one round trip: `Client` calls that itself, and comes here for a redirect.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from pooltransport.errors import InvalidRequest, TooManyRedirects, TransportError, TransportTimeout

from .auth import checked
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
        # The caller's credentials are for whom it addressed; a redirect elsewhere gets none, nor does what follows.
        self._at_home = self._at_home and request.url.origin == self._origin
        auth = self._wishes.auth if self._at_home else None
        asked, response = await self._attempts(request, auth)
        if auth is not None and response.status_code == 401:
            again = await self._answer_of(auth, asked, response)
            if again is not None:
                await _let_go(response)
                again.body.rewind()
                _, response = await self._attempts(again, None)
        return response

    async def _answer_of(self, auth: Auth, asked: Request, response: Any) -> Request | None:
        """Return what answers the challenge of `response`, if anything does, and its body can be sent."""
        try:
            answer = await self._colour.settle(auth.answer(asked, response))
            again = None if answer is None else checked(answer)
        except BaseException:
            await _close(response)
            raise
        return None if again is None or (again.body.started and not again.body.rewindable) else again

    async def _prepared(self, request: Request, auth: Auth | None) -> Request:
        """Return `request` with cookies and credentials as they are now: either may change between two attempts."""
        request = with_cookies(request, self._wishes.cookie if self._at_home else b"", self._wishes.jar)
        return request if auth is None else checked(await self._colour.settle(auth.authorize(request)))

    async def _attempts(self, request: Request, auth: Auth | None) -> tuple[Request, Any]:
        """Return what was sent at last, and its answer: whole, if the caller wants that and it is the last."""
        policy = self._wishes.retry
        attempts = None if policy is None else Attempts(policy)
        while True:
            asked = await self._prepared(request, auth)
            delay = None
            try:
                response = await self._round_trip(asked)
                try:
                    if attempts is not None:
                        delay = attempts.after_answer(response, asked, random.random(), time.time())
                    if delay is None or not self._fits(asked, delay):
                        # A challenge may yet be answered: the client reads it if it is not.
                        if self._reads and not self._leads_on(asked, response) and not (auth and _asks(response)):
                            await self._colour.read(response)
                        return asked, response
                except BaseException:
                    await _close(response)
                    raise
            except TransportError as error:
                if attempts is None:
                    raise
                delay = attempts.after_error(error, asked, random.random())
                if delay is None or not self._fits(asked, delay):
                    _explain(error, attempts, delay)
                    raise
                attempts.tell(f"{type(error).__name__}: {error}", delay)
            else:
                assert attempts is not None, "only a policy asks for another attempt"
                attempts.tell(f"status {response.status_code}", delay)
                await _let_go(response)
            await self._colour.sleep(delay)
            asked.body.rewind()

    def _fits(self, request: Request, delay: float) -> bool:
        total = request.timeout.total
        return not total or time.monotonic() - self._began + delay < total

    async def _round_trip(self, request: Request) -> Any:
        total = request.timeout.total
        spent = time.monotonic() - self._began if total else 0.0
        if total and spent >= total:  # not left to the sockets: what is there already may be written in no time
            raise TransportTimeout(
                f"{request.url.origin}: redirects, auth= and repetitions took the {total:g} s (timeout) before this "
                "request, phase queue",
                phase="queue",
                setting="timeout",
                seconds=total,
            )
        response = await self._colour.round_trip(self._transport, request.with_spent(spent) if spent else request)
        if self._wishes.jar is not None:
            try:
                store(self._wishes.jar, request, response)
            except BaseException:
                await _close(response)
                raise
        return response


def _asks(response: Any) -> bool:
    """Report whether `response` is a challenge."""
    return bool(response.status_code == 401)


def _explain(error: TransportError, attempts: Attempts, delay: float | None) -> None:
    """Tell in the error's notes what was tried, and why it is not tried once more."""
    for line in attempts.told:
        error.add_note(line)
    if delay is not None:
        error.add_note(f"not sent again: {delay:.2f} s to wait are more than its timeout leaves")


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
            raise InvalidRequest("auth= is asynchronous: use AsyncClient")
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
