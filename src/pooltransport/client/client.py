"""`Client`: requests from threads."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NoReturn

from pooltransport import census
from pooltransport.engine.sync import run_sync
from pooltransport.lease import find_site
from pooltransport.models import UNSET

from .build import ClientBase, check_round_tripper
from .flow import Flow, Threads

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self, Unpack

    from pooltransport.bodies import Content
    from pooltransport.models import Request, TimeoutInput, Unset
    from pooltransport.response import Response
    from pooltransport.roundtripper import RoundTripper
    from pooltransport.trace import ClientTrace
    from pooltransport.url import URL

    from .auth import AuthInput
    from .build import BodyOptions, ClientHeaders, Pairs, RequestOptions
    from .cookies import CookiesInput
    from .flow import Wishes
    from .multipart import FilesInput
    from .retry import Retry


class Client(ClientBase):
    """Makes requests through a transport; thread-safe, immutable, and cheap enough to make one per request.

    `transport`: a `Transport` or any other `RoundTripper`. It is borrowed: closing the client leaves
    it open. None borrows the process-wide default transport at each request (contract 5.1), so that
    even a client per request keeps its connections.
    `timeout`: seconds for the whole exchange, the body included, or a `Timeout`; None for no total.
    `base_url`: what relative URLs are appended to, see `URL.join`. `headers`, `params`: of every
    request; those of a call come on top. `trace`: hooks told about every request.
    `cookies`: None keeps none, since a shared client must not mix its users' sessions; a dict is sent
    as it is; a `http.cookiejar.CookieJar` stores. `auth`: (user, password), an `Auth` such as
    `BearerAuth`, or a callable that is given the request and returns the one to send.
    `follow_redirects`, `max_redirects`: whether redirects are followed, and how many (0 or more).
    `retry`: a `Retry`, or how often; None repeats nothing but what the transport does by itself.

    All that a call sends is one exchange: one total, and the last answer, with those before in its
    `history`. Another origin gets no Authorization, Cookie or Proxy-Authorization.

    Sends ``User-Agent: python-pooltransport/<version>`` unless `headers` say otherwise (None: not at
    all), and the user and password of a URL as Basic authentication unless there is an Authorization
    header (as Go's client).

    Raises `ConfigError` for a transport that is none, or a bad timeout, `cookies`, `auth` or `retry`;
    `InvalidRequest` for a bad `base_url`, `headers` or `params`.
    """

    __slots__ = ("_transport",)

    def __init__(
        self,
        transport: RoundTripper | None = None,
        *,
        timeout: TimeoutInput = None,
        base_url: str | URL = "",
        headers: ClientHeaders = None,
        params: Pairs | str | None = None,
        cookies: CookiesInput = None,
        auth: AuthInput = None,
        follow_redirects: bool = True,
        max_redirects: int = 10,
        retry: Retry | int | None = None,
        trace: ClientTrace | None = None,
    ) -> None:
        check_round_tripper(transport, is_async=False)
        self._transport = transport
        super().__init__(
            timeout=timeout,
            base_url=base_url,
            headers=headers,
            params=params,
            cookies=cookies,
            auth=auth,
            follow_redirects=follow_redirects,
            max_redirects=max_redirects,
            retry=retry,
            trace=trace,
            transport=transport,
        )
        census.client_made(self, transport, str(find_site(())))

    @property
    def transport(self) -> RoundTripper:
        """What requests go through: the transport given, or the default one of this moment."""
        if self._transport is not None:
            return self._transport
        from pooltransport.transport import default_transport  # noqa: PLC0415 - loads the engine at first use

        return default_transport()

    def request(
        self,
        method: str,
        url: str | URL,
        *,
        params: Pairs | str | None = None,
        headers: ClientHeaders = None,
        content: Content = None,
        data: Pairs | str | bytes | None = None,
        files: FilesInput | None = None,
        json: Any = None,
        cookies: CookiesInput | Unset = UNSET,
        auth: AuthInput | Unset = UNSET,
        follow_redirects: bool | Unset = UNSET,
        retry: Retry | int | Unset | None = UNSET,
        timeout: TimeoutInput = UNSET,
        trace: ClientTrace | None = None,
        retry_stale: bool | None = None,
        extensions: dict[str, Any] | None = None,
    ) -> Response:
        """Send a request, read the whole response, and give its connection back: nothing to close.

        `params`: appended to the URL's query; a mapping, pairs, or an encoded `str`. `headers`: on top
        of the client's; None as a value leaves one out. One body at most: `content` (bytes, `str`, a
        binary file, an iterable of bytes), `data` (a mapping or pairs, sent
        as a form; `str` and bytes as they are), `json` (encoded, NaN refused; None is no body), or `files`: a
        mapping or pairs of names and what is sent for them, a file or bytes, or (filename, file), or these with a
        content type; streamed as multipart/form-data, with the fields of `data`.
        `cookies`, `auth`, `follow_redirects`, `retry`: instead of the client's. `timeout`: on top of the client's,
        field by field. `trace`: hooks for this request. `retry_stale`, `extensions`: see `Request`.

        Any status is a response. Raises `InvalidRequest` or `ConfigError` before anything is sent for
        what cannot be; `TransportClosed` if the client or its transport is closed; `TooManyRedirects`; `DecodingError`;
        another `TransportError` for what the network and the pool did.
        """
        self._check_open()
        request = self.build_request(
            method,
            url,
            params=params,
            headers=headers,
            content=content,
            data=data,
            files=files,
            json=json,
            timeout=timeout,
            trace=trace,
            retry_stale=retry_stale,
            extensions=extensions,
        )
        return self._send(request, self._wishes_of(auth, cookies, follow_redirects, retry), reads=True)

    def get(self, url: str | URL, **options: Unpack[RequestOptions]) -> Response:
        """GET `url`; see `request`."""
        return self.request("GET", url, **options)

    def head(self, url: str | URL, **options: Unpack[RequestOptions]) -> Response:
        """HEAD `url`; see `request`."""
        return self.request("HEAD", url, **options)

    def options(self, url: str | URL, **options: Unpack[RequestOptions]) -> Response:
        """OPTIONS `url`; see `request`."""
        return self.request("OPTIONS", url, **options)

    def post(self, url: str | URL, **options: Unpack[BodyOptions]) -> Response:
        """POST to `url`; see `request`."""
        return self.request("POST", url, **options)

    def put(self, url: str | URL, **options: Unpack[BodyOptions]) -> Response:
        """PUT to `url`; see `request`."""
        return self.request("PUT", url, **options)

    def patch(self, url: str | URL, **options: Unpack[BodyOptions]) -> Response:
        """PATCH `url`; see `request`."""
        return self.request("PATCH", url, **options)

    def delete(self, url: str | URL, **options: Unpack[BodyOptions]) -> Response:
        """DELETE `url`; see `request`."""
        return self.request("DELETE", url, **options)

    def stream(self, method: str, url: str | URL, **options: Unpack[BodyOptions]) -> Stream:
        """Return a context manager that sends the request when entered and closes the response when left.

        ``with client.stream("GET", url) as response: ...``; the body is read as it comes. Takes and
        raises what `request` does: for bad arguments here, for the rest on entering.
        """
        self._check_open()
        wishes: dict[str, Any] = {name: options.pop(name) for name in _WISHES if name in options}  # type: ignore[misc]
        request = self.build_request(method, url, **options)  # type: ignore[misc]
        return Stream(self, request, self._wishes_of(**wishes))

    def send(
        self,
        request: Request,
        *,
        stream: bool = False,
        cookies: CookiesInput | Unset = UNSET,
        auth: AuthInput | Unset = UNSET,
        follow_redirects: bool | Unset = UNSET,
        retry: Retry | int | Unset | None = UNSET,
    ) -> Response:
        """Send `request`, with the client's timeout under its own, the client's trace, cookies and auth, but not its
        headers.

        With `stream` the body is not read and the response is the caller's to close. The rest, and what is raised, as
        of `request`.
        """
        self._check_open()
        wishes = self._wishes_of(auth, cookies, follow_redirects, retry)
        return self._send(self._adopt(request), wishes, reads=not stream)

    def _send(self, request: Request, wishes: Wishes, *, reads: bool) -> Response:
        transport = self.transport
        began = time.monotonic()
        response: Response | None = None
        if wishes.is_plain:
            response = transport.round_trip(request)
            if not (wishes.follow and 300 < response.status_code < 309):
                return _read(response) if reads else response
        flow = Flow(_THREADS, transport, wishes, began, reads=reads)
        response = run_sync(flow.run(request, response))
        return _read(response) if reads else response

    def stats(self, *, detail: bool = False) -> Any:
        """Return the transport's `PoolStats`; of a transport of another kind, what its `stats()` gives."""
        transport: Any = self.transport
        return transport.stats(detail=True) if detail else transport.stats()

    def close(self) -> None:
        """Refuse further requests. The transport stays open, and so do streamed responses. Idempotent."""
        self._closed = True

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class Stream:
    """What `Client.stream` returns: to be entered once."""

    __slots__ = ("_client", "_request", "_response", "_wishes")

    def __init__(self, client: Client, request: Request, wishes: Wishes) -> None:
        self._client = client
        self._wishes = wishes
        self._request: Request | None = request
        self._response: Response | None = None

    def __enter__(self) -> Response:
        request, self._request = self._request, None
        if request is None:
            raise RuntimeError("this stream was entered before: call client.stream() again")
        self._client._check_open()  # noqa: SLF001 - one class in two
        self._response = self._client._send(request, self._wishes, reads=False)  # noqa: SLF001
        return self._response

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        # Not kept: a context manager that somebody holds must not hold the response (leak guard).
        response, self._response = self._response, None
        if response is not None:
            response.close()

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"stream() returns a context manager, which has no {name!r}: write `with client.stream(...) as response:`"
        )


def _read(response: Response) -> Response:
    try:
        response.read()
    except BaseException:
        response.close()
        raise
    return response


_WISHES = ("auth", "cookies", "follow_redirects", "retry")
_THREADS = Threads()
