"""Who asks: Basic, Bearer, Digest, netrc, or a callable of the user (RFC 9110 section 11).

Rules:

1. Credentials go to the origin that the caller addressed: a redirect to another gets none (`redirects`).
2. An Authorization that the caller set stays.
3. One object serves any number of threads and loops.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pooltransport.errors import ConfigError, InvalidRequest
from pooltransport.headers import Headers
from pooltransport.models import Request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeAlias

    from pooltransport.response import AsyncResponse, Response

    AuthInput: TypeAlias = "Auth | tuple[str, str] | Callable[[Request], Request | Awaitable[Request]] | None"


class Auth:
    """How requests are authenticated; the base of `BasicAuth`, `BearerAuth`, `DigestAuth`, `NetrcAuth` and your own.

    Both methods are called on the thread or loop of the request, and must not block for long; for an `AsyncClient` they
    may be coroutine functions. Their time counts in the total, which does not interrupt them; what they raise
    fails that request.
    """

    __slots__ = ()

    def authorize(self, request: Request) -> Request:
        """Return `request` with credentials, usually ``request.with_headers(...)``. Called for each request that
        goes to the origin that was asked for, redirects and retries included.
        """
        return request

    def answer(self, request: Request, response: Response | AsyncResponse) -> Request | None:  # noqa: ARG002 - for who overrides
        """Return what to send instead after a 401 to `request`, once; None to leave it at that. Its body was not read,
        and is not to be read here.
        """
        return None


class BasicAuth(Auth):
    """User and password, in UTF-8, with every request (RFC 7617). Raises `InvalidRequest` for a colon in `user`,
    `ConfigError` for what is no `str`.
    """

    __slots__ = ("_value",)

    def __init__(self, user: str, password: str) -> None:
        check_text("BasicAuth", user, password)
        self._value = basic_auth(user, password)

    def authorize(self, request: Request) -> Request:
        """Add the Authorization."""
        return with_authorization(request, self._value)


class BearerAuth(Auth):
    """A bearer token with every request (RFC 6750). `token`: text, or a callable that gives the one in force."""

    __slots__ = ("_token",)

    def __init__(self, token: str | Callable[[], str]) -> None:
        if not (isinstance(token, str) and token) and not callable(token):
            raise ConfigError(
                f"BearerAuth takes a token or a callable that gives one, not {type(token).__name__} [PTC110]"
            )
        self._token = token

    def authorize(self, request: Request) -> Request:
        """Add the Authorization. What the callable raises fails this request."""
        token: Any = self._token if isinstance(self._token, str) else self._token()
        if not isinstance(token, str):
            if hasattr(token, "close"):
                token.close()  # a coroutine, which would warn that nobody awaited it
            raise InvalidRequest(f"the callable of BearerAuth returned {type(token).__name__}: a token is text")
        if not token.isascii():
            raise InvalidRequest("the token of BearerAuth has a character that is not ASCII (RFC 6750 section 2.1)")
        return with_authorization(request, b"Bearer " + token.encode())


class NetrcAuth(Auth):
    """Basic authentication with what a netrc file says of the host; hosts that are not in it get none.

    `path`: the file; None is ``$NETRC``, else ``~/.netrc``. It is read once, here. Raises `ConfigError` if it is
    missing or broken.
    """

    __slots__ = ("_netrc",)

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        import netrc  # noqa: PLC0415 - only for who asks for it

        name = os.fspath(path) if path is not None else os.environ.get("NETRC") or os.path.expanduser("~/.netrc")
        try:
            self._netrc = netrc.netrc(name)
        except FileNotFoundError:
            raise ConfigError(f"NetrcAuth: there is no file {name!r} [PTC116]") from None
        except OSError as error:
            raise ConfigError(f"NetrcAuth: {name!r} cannot be read: {error.strerror} [PTC116]") from error
        except UnicodeDecodeError:
            raise ConfigError(f"NetrcAuth: {name!r} cannot be read: it is not UTF-8 [PTC116]") from None
        except netrc.NetrcParseError as error:  # whose text may be a password
            raise ConfigError(f"NetrcAuth: {name!r} cannot be read: line {error.lineno} is wrong [PTC116]") from None

    def authorize(self, request: Request) -> Request:
        """Add the Authorization of the request's host, if the file has one."""
        found = self._netrc.authenticators(request.url.host)
        return request if found is None else with_authorization(request, basic_auth(found[0], found[2] or ""))


class CallableAuth(Auth):
    """A function of the user: it is given the request, and returns the one to send."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[[Request], Any]) -> None:
        self._function = function

    def authorize(self, request: Request) -> Any:
        """Return what the function gives, for `checked`."""
        return self._function(request)


def auth_of(given: Any) -> Auth | None:
    """Return the `Auth` for what a caller gave. Raises `ConfigError` for anything else."""
    if given is None or isinstance(given, Auth):
        return given
    if isinstance(given, tuple) and len(given) == 2 and all(isinstance(part, str) for part in given):
        return BasicAuth(*given)
    if callable(given) and not isinstance(given, type):
        return CallableAuth(given)
    raise ConfigError(
        f"auth must be (user, password), a BasicAuth, BearerAuth, DigestAuth or NetrcAuth, or a callable that takes "
        f"a Request and returns one, not {type(given).__name__} [PTC110]"
    )


def check_text(what: str, user: object, password: object) -> None:
    """Raise `ConfigError` unless both are `str`: None would be sent as a word."""
    for name, value in (("user", user), ("password", password)):
        if not isinstance(value, str):
            raise ConfigError(f"{what}: {name} must be str, not {type(value).__name__} [PTC110]")


def checked(answer: object) -> Request:
    """Return what an `Auth` or a callable gave, if it is a request."""
    if isinstance(answer, Request):
        return answer
    raise InvalidRequest(f"auth= returned {type(answer).__name__}: it must return a Request")


def with_authorization(request: Request, value: bytes) -> Request:
    """Return `request` with this Authorization, unless it has one."""
    items = request.raw_header_items()
    if any(name.lower() == b"authorization" for name, _ in items):
        return request
    return request.with_headers(Headers([*items, (b"Authorization", value)]))


def basic_auth(user: str, password: str) -> bytes:
    """Return the value of Authorization for `user` (RFC 7617), as Go's client sends a URL's userinfo.

    Raises `InvalidRequest` for a colon in `user`: the server could not tell where it ends.
    """
    if ":" in user:
        raise InvalidRequest("a user name with a colon cannot be sent by Basic authentication (RFC 7617)")
    from binascii import b2a_base64  # noqa: PLC0415 - only for who needs it

    return b"Basic " + b2a_base64(f"{user}:{password}".encode(), newline=False)
