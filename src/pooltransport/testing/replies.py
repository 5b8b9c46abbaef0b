"""What a handler is given and what it returns: `ReceivedRequest` and `Reply`. Values: no I/O."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from typing import TYPE_CHECKING, Any

from pooltransport.core.http1.codec import Head
from pooltransport.headers import Headers
from pooltransport.models import Request
from pooltransport.pieces import charset_of, parse_json

if TYPE_CHECKING:
    from typing import TypeAlias

    from pooltransport.headers import HeadersInput

    Body: TypeAlias = bytes | Iterable[bytes] | AsyncIterable[bytes]

_NO_BODY = frozenset((204, 304))  # RFC 9110 section 6.4.1; 1xx cannot be made


class ReceivedRequest(Request):
    """A request as a handler sees it: a `Request` whose `content` is the whole body that was sent, as bytes.

    Its headers are those that the caller and the client gave. What a transport adds on the wire (Host, Content-Length,
    Accept-Encoding) is not among them.
    """

    __slots__ = ("_received",)

    _received: bytes

    @classmethod
    def of(cls, request: Request, content: bytes) -> ReceivedRequest:
        """Return `request` with its body read."""
        received = object.__new__(cls)
        for name in Request.__slots__:
            setattr(received, name, getattr(request, name))
        received._received = content
        return received

    @property
    def content(self) -> bytes:
        """The body, ``b""`` without one."""
        return self._received

    @property
    def text(self) -> str:
        """The body as text, by the charset of its Content-Type, else UTF-8."""
        return self._received.decode(charset_of(self.headers.get("content-type", "")), "replace")

    def json(self, **kwargs: Any) -> Any:
        """Return the body parsed as JSON; `kwargs` are those of `json.loads`. Raises `ValueError`."""
        return parse_json(self._received, kwargs)


class Reply:
    """What a handler answers; made by `response`. May be used for several requests unless its body is an iterator."""

    __slots__ = ("body", "http_version", "reason", "status", "trailers", "_fields")

    def __init__(
        self, status: int, fields: Headers, body: Body, trailers: Headers, reason: str, http_version: str
    ) -> None:
        self.status = status
        self.body = body
        self.trailers = trailers
        self.reason = reason
        self.http_version = http_version
        self._fields = fields

    @property
    def headers(self) -> Headers:
        """The header fields. May be changed before it is returned."""
        return self._fields

    def has_body(self, method: str) -> bool:
        """Report whether an answer to `method` has a body (RFC 9110 section 6.4.1)."""
        return method != "HEAD" and self.status not in _NO_BODY

    def head(self) -> Head:
        """Return the status line and the header, as from the wire."""
        return Head(self.status, self.reason, self.http_version.removeprefix("HTTP/"), list(self._fields.raw))

    def __repr__(self) -> str:
        return f"<Reply {self.status}>"


def response(
    status: int = 200,
    *,
    content: Body | str | None = None,
    text: str | None = None,
    json: Any = None,
    headers: HeadersInput = None,
    trailers: HeadersInput = None,
    reason: str | None = None,
    http_version: str = "HTTP/1.1",
) -> Reply:
    """Make what a handler returns.

    `status`: 200 to 999. One body at most: `content` (bytes, `str`, or an iterable of bytes, streamed piece by
    piece: what it raises comes out of the read that meets it; an asynchronous iterable for `AsyncHandlerTransport`),
    `text` (UTF-8), or `json` (None is no body; `content=b"null"` says null). `headers`: anything `Headers` takes. Where
    they do not say otherwise, Content-Type is added for `text` and `json`, and Content-Length for a body of known
    length; a Content-Length that promises more than the body has gives `IncompleteBody`. Of a Content-Encoding given
    here the body must be in that coding: the response decodes it, as one from the network. `trailers`: fields behind
    the body. `reason`: None is the usual phrase.

    Raises `ValueError` for a status that no final answer has, or more than one body; `InvalidRequest` for fields that
    cannot be sent.
    """
    if not 200 <= status <= 999:
        raise ValueError(f"response({status}): the status of an answer is 200 to 999")
    given = [name for name, value in (("content", content), ("text", text), ("json", json)) if value is not None]
    if len(given) > 1:
        raise ValueError(f"a response has one body: give one of {' and '.join(f'{name}=' for name in given)}")
    fields = Headers(headers)
    body: Body = b""
    if json is not None:
        import json as encoder  # noqa: PLC0415 - only for who needs it

        body = encoder.dumps(json, ensure_ascii=False).encode()
        _add(fields, "Content-Type", "application/json")
    elif text is not None:
        body = text.encode()
        _add(fields, "Content-Type", "text/plain; charset=utf-8")
    elif isinstance(content, str):
        body = content.encode()
    elif content is not None:
        body = content
    if isinstance(body, (bytes, bytearray, memoryview)):
        body = bytes(body)
        if status not in _NO_BODY and "transfer-encoding" not in fields:
            _add(fields, "Content-Length", str(len(body)))
    elif not isinstance(body, (Iterable, AsyncIterable)):
        raise TypeError(f"content= must be bytes, str or an iterable of bytes, not {type(body).__name__}")
    return Reply(status, fields, body, Headers(trailers), _phrase(status) if reason is None else reason, http_version)


def _add(fields: Headers, name: str, value: str) -> None:
    if name not in fields:
        fields.set(name, value)


def _phrase(status: int) -> str:
    from http import HTTPStatus  # noqa: PLC0415 - only tests pay for it

    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
