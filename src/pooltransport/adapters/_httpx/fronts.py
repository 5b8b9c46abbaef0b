"""The constructors of our transports, which are the same for both libraries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pooltransport.callers import skip_library
from pooltransport.models import UNSET
from pooltransport.transport import AsyncTransport, Transport

from .errors import Library
from .options import borrow_or_make
from .pool import AsyncPool, Pool

if TYPE_CHECKING:
    import os
    import ssl
    from types import ModuleType

    from pooltransport.roundtripper import AsyncRoundTripper, RoundTripper

    Verify = ssl.SSLContext | str | os.PathLike[str] | bool
    Cert = str | tuple[str, str] | tuple[str, str, str] | None

# Whose lines are nobody's to blame for a response that was never closed: the SDKs that are built on these clients, and
# what stands around them, with `contextlib`, through which `client.stream` is entered.
_SDKS = ("openai.", "anthropic.")
_AROUND = ("contextlib", "respx.", "vcr.", "pytest_httpx", "opentelemetry.", "sentry_sdk.", "wrapt.")


def library(client: ModuleType, core: ModuleType) -> Library:
    """Return the pair of modules, whose frames are taken for ours from now on."""
    skip_library(client.__name__, f"{client.__name__}.", f"{core.__name__}.")
    skip_library("sdk", *_SDKS)
    skip_library("", *_AROUND)
    return Library(client, core)


class Front:
    """For a blocking client: sends through a pooltransport `Transport`.

    `transport`: one that is there, borrowed (closing the client leaves it open), or anything else with its
    `round_trip`. Without one, a `Transport` is made of `options` (its own keywords) and closed with the client.
    `verify`, `cert`, `limits`, `proxy`, `retries`: as of the library's own transport; `trust_env=False` leaves the
    environment's proxies out. Raises `ConfigError` for what cannot be, `http2=True` among it.
    """

    _library: Library
    _pool: Any

    def __init__(
        self,
        transport: RoundTripper | None = None,
        *,
        verify: Verify = True,
        cert: Cert = None,
        trust_env: bool = True,
        http1: bool = True,
        http2: bool = False,
        limits: Any = None,
        proxy: Any = UNSET,
        retries: int = 0,
        **options: Any,
    ) -> None:
        theirs: dict[str, Any] = {"verify": verify, "cert": cert, "trust_env": trust_env, "http1": http1}
        theirs |= {"http2": http2, "limits": limits, "proxy": proxy, "retries": retries}
        made, owned = borrow_or_make(Transport, transport, theirs, options, self._library)
        self._pool = Pool(made, self._library, owned=owned, retries=retries)

    @property
    def transport(self) -> RoundTripper:
        """What requests go through: the transport that was handed in, or made of the options, for its `stats()`."""
        sends_through: RoundTripper = self._pool.transport
        return sends_through

    def __repr__(self) -> str:
        return f"<{type(self).__name__} over {self.transport!r}>"


class AsyncFront:
    """For a client on asyncio or trio; as `HTTPTransport`."""

    _library: Library
    _pool: Any

    def __init__(
        self,
        transport: AsyncRoundTripper | None = None,
        *,
        verify: Verify = True,
        cert: Cert = None,
        trust_env: bool = True,
        http1: bool = True,
        http2: bool = False,
        limits: Any = None,
        proxy: Any = UNSET,
        retries: int = 0,
        **options: Any,
    ) -> None:
        theirs: dict[str, Any] = {"verify": verify, "cert": cert, "trust_env": trust_env, "http1": http1}
        theirs |= {"http2": http2, "limits": limits, "proxy": proxy, "retries": retries}
        made, owned = borrow_or_make(AsyncTransport, transport, theirs, options, self._library)
        self._pool = AsyncPool(made, self._library, owned=owned, retries=retries)

    @property
    def transport(self) -> AsyncRoundTripper:
        """As of `HTTPTransport`."""
        sends_through: AsyncRoundTripper = self._pool.transport
        return sends_through

    def __repr__(self) -> str:
        return f"<{type(self).__name__} over {self.transport!r}>"
