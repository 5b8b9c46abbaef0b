"""`files=`: a form with files in it, as multipart/form-data (RFC 7578), streamed from any file object.

Names are escaped as browsers do (WHATWG HTML, multipart form data): a quote and line ends in percent form, all else
as UTF-8.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pooltransport.bodies import RequestBody
from pooltransport.errors import InvalidRequest
from pooltransport.headers import Headers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TypeAlias

    from pooltransport.bodies import Content
    from pooltransport.headers import HeadersInput

    # The content, or (filename, content), with a content type, and with headers.
    FileInput: TypeAlias = (
        Content
        | tuple[str | None, Content]
        | tuple[str | None, Content, str | None]
        | tuple[str | None, Content, str | None, HeadersInput]
    )
    FilesInput: TypeAlias = Mapping[str, FileInput] | Iterable[tuple[str, FileInput]]


class Part:
    """One part: its header section, and its body."""

    __slots__ = ("body", "head")

    def __init__(self, fields: list[tuple[str, str]], body: RequestBody) -> None:
        lines = [f"{name}: {value}\r\n".encode() for name, value in fields]
        self.head = b"".join(lines) + b"\r\n"
        self.body = body


class MultipartBody(RequestBody):
    """A body of parts. Its length is known if that of each is; it can be sent again if each can."""

    __slots__ = ("_boundary", "_parts", "is_file")

    is_empty = False
    is_file: bool

    def __init__(self, parts: list[Part], boundary: bytes) -> None:
        self._parts = parts
        self._boundary = boundary
        lengths = [part.body.length for part in parts]
        around = sum(len(part.head) + len(boundary) + 6 for part in parts) + len(boundary) + 6
        whole = None if None in lengths else around + sum(length or 0 for length in lengths)
        super().__init__(whole, rewindable=all(part.body.rewindable for part in parts))
        self.is_file = any(part.body.is_file for part in parts)

    def chunks(self) -> Any:
        """As `RequestBody.chunks`."""
        self.rewind()
        self.started = True
        return _PartChunks(self._pieces())

    def rewind(self) -> None:
        """As `RequestBody.rewind`."""
        super().rewind()
        for part in self._parts:
            part.body.rewind()

    def close(self) -> None:
        """As `RequestBody.close`."""
        for part in self._parts:
            part.body.close()

    def _pieces(self) -> Iterator[Iterator[bytes]]:
        start = b"--" + self._boundary + b"\r\n"
        for part in self._parts:
            yield iter((start + part.head,))
            yield iter(part.body.chunks())
            yield iter((b"\r\n",))
        yield iter((b"--" + self._boundary + b"--\r\n",))


class _PartChunks:
    """The pieces of each part in turn; `read` is for worker threads, out of which no StopIteration comes."""

    __slots__ = ("_current", "_pieces")

    def __init__(self, pieces: Iterator[Iterator[bytes]]) -> None:
        self._pieces = pieces
        self._current: Iterator[bytes] = iter(())

    def __iter__(self) -> _PartChunks:
        return self

    def __next__(self) -> bytes:
        chunk = self.read()
        if not chunk:
            raise StopIteration
        return chunk

    def read(self) -> bytes:
        while True:
            chunk = next(self._current, b"")
            if chunk:
                return chunk
            following = next(self._pieces, None)
            if following is None:
                return b""
            self._current = following

    def close(self) -> None:
        self._current = iter(())


def encode_files(files: FilesInput, data: Any) -> tuple[MultipartBody, bytes]:
    """Return the body with the fields of `data` and then `files`, and its Content-Type.

    Raises `InvalidRequest` for what cannot be a field, a file, or a name.
    """
    parts = [_field(name, value) for name, value in _pairs(data, "data") for value in _values(value)]
    parts += [_file(name, given) for name, given in _pairs(files, "files")]
    if not parts:
        raise InvalidRequest("files= is empty: leave it out, or give data=")
    boundary = os.urandom(16).hex().encode()
    return MultipartBody(parts, boundary), b"multipart/form-data; boundary=" + boundary


def _pairs(given: Any, what: str) -> list[tuple[str, Any]]:
    if given is None:
        return []
    items = given.items() if isinstance(given, Mapping) else given
    if isinstance(items, (str, bytes)) or not hasattr(items, "__iter__"):
        raise InvalidRequest(f"{what} beside files= must be a mapping or (name, value) pairs")
    pairs = list(items)
    for pair in pairs:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not isinstance(pair[0], str):
            raise InvalidRequest(f"{what} must be a mapping or (name, value) pairs, with str for names")
    return pairs


def _values(value: Any) -> list[Any]:
    return [each for each in (value if isinstance(value, (list, tuple)) else (value,)) if each is not None]


def _field(name: str, value: Any) -> Part:
    if isinstance(value, bool):
        value = "true" if value else "false"
    elif isinstance(value, (int, float)):
        value = str(value)
    if not isinstance(value, (str, bytes)):
        raise InvalidRequest(f"data has a {type(value).__name__} in it: give str, bytes or a number; a file as files=")
    return Part([("Content-Disposition", f'form-data; name="{_escaped(name)}"')], RequestBody.of(value))


def _file(name: str, given: Any) -> Part:
    filename: str | None
    kind: str | None = None
    more: Any = None
    if isinstance(given, tuple):
        if not 2 <= len(given) <= 4 or not (given[0] is None or isinstance(given[0], str)):
            raise InvalidRequest(
                f"files[{name!r}]: give the file, or (filename, file), with a content type, and headers"
            )
        filename, content = given[:2]
        kind = given[2] if len(given) > 2 else None
        more = given[3] if len(given) > 3 else None
    else:
        content, filename = given, _name_of(given) or name
    body = RequestBody.of(content)
    if body.is_async:
        raise InvalidRequest(f"files[{name!r}] is an asynchronous iterable: give bytes, a file or an ordinary iterable")
    disposition = f'form-data; name="{_escaped(name)}"'
    if filename is not None:
        disposition += f'; filename="{_escaped(filename)}"'
    fields = [("Content-Disposition", disposition)]
    fields += [item for item in Headers(more).multi_items() if item[0].lower() != "content-disposition"]
    if not any(field.lower() == "content-type" for field, _ in fields) and filename is not None:
        fields.append(("Content-Type", _checked(kind) if kind else _guess(filename)))
    return Part(fields, body)


def _name_of(file: Any) -> str | None:
    name = getattr(file, "name", None)
    return os.path.basename(name) if isinstance(name, str) and not name.startswith("<") else None


def _guess(filename: str) -> str:
    import mimetypes  # noqa: PLC0415 - only for who sends files

    return mimetypes.guess_type(filename)[0] or "application/octet-stream"


def _checked(value: str) -> str:
    return Headers({"Content-Type": value})["content-type"]


def _escaped(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest("a name in files= or data= has a lone surrogate, which UTF-8 cannot carry") from None
    return text.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")
