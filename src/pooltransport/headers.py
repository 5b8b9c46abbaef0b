"""`Headers`: an ordered, case-insensitive multi-map that cannot hold what must not reach the wire.

Rules:

1. Whatever a caller puts in is validated at once (RFC 9110 sections 5.1 and 5.5): a name is a token;
   a value holds no control character but tab. So CR, LF and NUL cannot reach the wire through here.
2. What a server sent is taken as it is (`Headers._from_raw`), on the hot path, without a look at it.
   Such headers are *unchecked*: given to a request, they are validated as anybody's.
3. Wire case and order are kept; a look-up ignores case.
4. No error text and no `repr` shows the value of a field that carries credentials.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING

from .errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import TypeAlias, Union

    HeaderItems: TypeAlias = list[tuple[bytes, bytes]]
    # Four mappings: a Mapping is invariant in its key type.
    # And no text of several pieces, which pyright does not understand.
    HeadersInput: TypeAlias = Union[  # noqa: UP007 - the class comes later
        "Headers",
        Mapping[str, str],
        Mapping[str, bytes],
        Mapping[str, str | bytes],
        Mapping[bytes, bytes],
        Iterable[tuple[str | bytes, str | bytes]],
        None,
    ]

_TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_TOKEN_CHARS = frozenset(_TOKEN.decode())
# Tab is the one control character that RFC 9110 section 5.5 allows inside a value.
_NOT_IN_VALUE = bytes(code for code in range(0x20) if code != 0x09) + b"\x7f"
# Fields whose values are credentials: rule 4.
_SECRET = frozenset({b"authorization", b"proxy-authorization", b"cookie", b"set-cookie"})

KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})

# What a Headers object has been through; see the rules above.
_UNCHECKED = 0
_CHECKED = 1
_FROZEN = 2  # checked, and part of a request


class Headers(MutableMapping[str, str]):
    """Header fields: ordered, repeatable, looked up without regard to case.

    Built from a mapping, an iterable of ``(name, value)`` pairs, other `Headers`, or None. Names and
    values are `str` or `bytes`; text goes out as latin-1, the only charset a field has (RFC 9110
    section 5.5). Blanks around a value are not part of it and are cut off, as Go does.

    ``headers[name]`` joins repeated fields with ``", "``. Cookies cannot be joined that way:
    use ``headers.get_list("set-cookie")``. Iteration gives each name once, in lower case, so that a
    `dict` made of HTTP/1.1 headers looks like one made of HTTP/2 headers; `multi_items` and `raw`
    give every field as it was written.

    Raises `InvalidRequest` for a name that is no token, a value with control characters (CR, LF,
    NUL, ...) or outside latin-1, or another type (Go row WRITE-14).
    The headers of a `Request` are frozen: changing them raises `TypeError`.
    """

    __slots__ = ("_index", "_raw", "_state")

    _raw: HeaderItems
    _index: dict[bytes, list[bytes]] | None  # {lower-cased name: values}; None until the first look-up
    _state: int

    def __init__(self, headers: HeadersInput = None) -> None:
        self._index = None
        self._state = _CHECKED
        if headers is None:
            self._raw = []
        elif isinstance(headers, Headers):
            raw = headers._raw  # noqa: SLF001 - the class's own
            unchecked = headers._state == _UNCHECKED  # noqa: SLF001 - the class's own
            self._raw = [check_field(*item) for item in raw] if unchecked else raw.copy()
        elif type(headers) is dict:  # the usual case, without the cost of an ABC's isinstance
            self._raw = [check_field(name, value) for name, value in headers.items()]
        else:
            self._raw = [check_field(name, value) for name, value in _pairs(headers)]

    @classmethod
    def _from_raw(cls, raw: HeaderItems) -> Headers:
        """Take over `raw` as a peer sent it: not copied, not validated, indexed at the first look-up."""
        self = cls.__new__(cls)
        self._raw = raw
        self._index = None
        self._state = _UNCHECKED
        return self

    @classmethod
    def _from_checked(cls, raw: HeaderItems) -> Headers:
        """Take over `raw`, all of whose fields went through `check_field`; frozen."""
        self = cls._from_raw(raw)
        self._state = _FROZEN
        return self

    def freeze(self) -> Headers:
        """Make this object read-only, for good, and return it. Those of a `Request` are."""
        if self._state == _UNCHECKED:  # or a peer's fields would get into a request unseen
            self._raw = [check_field(*item) for item in self._raw]
        self._state = _FROZEN
        return self

    # -- reading ---------------------------------------------------------------------------------

    def __getitem__(self, name: str | bytes) -> str:
        return b", ".join(self._lookup()[_key(name)]).decode("latin-1")

    def get_list(self, name: str | bytes) -> list[str]:
        """Return the values of all fields called `name`, in wire order; an empty list if there is none."""
        return [value.decode("latin-1") for value in self._lookup().get(_key(name), ())]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, (str, bytes)) and _key(name) in self._lookup()

    def __iter__(self) -> Iterator[str]:
        return iter([name.decode("latin-1") for name in self._lookup()])

    def __len__(self) -> int:
        """Number of distinct names."""
        return len(self._lookup())

    def multi_items(self) -> list[tuple[str, str]]:
        """Return every field as ``(name, value)``, in wire order and case."""
        return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self._raw]

    @property
    def raw(self) -> tuple[tuple[bytes, bytes], ...]:
        """Every field as bytes, in wire order and case."""
        return tuple(self._raw)

    @property
    def is_frozen(self) -> bool:
        """Whether these headers can no longer change; frozen ones were validated."""
        return self._state == _FROZEN

    def raw_values(self, name: bytes) -> Sequence[bytes]:
        """Return the values of all fields called `name`, which must be in lower case, as bytes. Not a copy."""
        return self._lookup().get(name, ())

    def copy(self) -> Headers:
        """Return headers of one's own: never frozen, and validated if these came from a peer."""
        return Headers(self)

    # -- changing --------------------------------------------------------------------------------

    def add(self, name: str | bytes, value: str | bytes) -> None:
        """Append one field, beside others of that name (Go: Header.Add)."""
        self._changing()
        self._raw.append(check_field(name, value))

    def set(self, name: str | bytes, value: str | bytes) -> None:
        """Replace all fields called `name` by this one, at the place of the first (Go: Header.Set)."""
        self._changing()
        field = check_field(name, value)
        key = field[0].lower()
        kept: HeaderItems = []
        placed = False
        for item in self._raw:
            if item[0].lower() != key:
                kept.append(item)
            elif not placed:
                kept.append(field)
                placed = True
        if not placed:
            kept.append(field)
        self._raw = kept

    def __setitem__(self, name: str | bytes, value: str | bytes) -> None:
        self.set(name, value)

    def __delitem__(self, name: str | bytes) -> None:
        key = _key(name)
        if key not in self._lookup():
            raise KeyError(name)
        self._changing()
        self._raw = [item for item in self._raw if item[0].lower() != key]

    # -- the rest --------------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        """Same names without regard to case and order, and for each the same values in the same order."""
        if not isinstance(other, Headers):
            if not isinstance(other, Mapping):
                return NotImplemented
            try:
                other = Headers(other)
            except InvalidRequest:
                return False
        return self._lookup() == other._lookup()

    __hash__ = None  # type: ignore[assignment]  # it can change

    def __repr__(self) -> str:
        shown = [
            (name.decode("latin-1"), "***" if name.lower() in _SECRET else value.decode("latin-1"))
            for name, value in self._raw
        ]
        return f"Headers({shown!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (self._raw, self._state)

    def _lookup(self) -> dict[bytes, list[bytes]]:
        index = self._index
        if index is None:
            index = {}
            for name, value in self._raw:
                index.setdefault(name.lower(), []).append(value)
            # Threads may race to here; each builds the same index, and the last one stays.
            self._index = index
        return index

    def _changing(self) -> None:
        if self._state == _FROZEN:
            raise TypeError(
                "the headers of a Request do not change: give them to Request(headers=...), "
                "or change a headers.copy() and make a new Request"
            )
        self._index = None


EMPTY_HEADERS = Headers().freeze()


def _restore(raw: HeaderItems, state: int) -> Headers:
    headers = Headers._from_raw(raw)  # noqa: SLF001 - for pickle: as it was
    headers._state = state  # noqa: SLF001
    return headers


def _key(name: str | bytes) -> bytes:
    """Return the look-up form of `name`; one that cannot be a field name simply matches none."""
    return name.lower() if isinstance(name, bytes) else name.lower().encode("latin-1", "replace")


def _pairs(headers: object) -> Iterable[tuple[str | bytes, str | bytes]]:
    items: object = headers.items() if isinstance(headers, Mapping) else headers
    if isinstance(items, (str, bytes)) or not hasattr(items, "__iter__"):
        raise InvalidRequest(
            f"headers must be a mapping or an iterable of (name, value) pairs, not {type(headers).__name__}"
        )
    pairs = list(items)
    for pair in pairs:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise InvalidRequest(
                "headers must be a mapping or an iterable of (name, value) pairs: "
                f"one of them is {type(pair).__name__}, not a pair"
            )
    return pairs


def check_field(name: object, value: object) -> tuple[bytes, bytes]:
    """Return the field as it goes to the wire, or raise `InvalidRequest` saying what is wrong."""
    wire_name = name.encode("latin-1", "replace") if isinstance(name, str) else name
    # One C call each for name and value: what is left after deleting the good (the bad) bytes.
    if not isinstance(wire_name, bytes) or not wire_name or wire_name.translate(None, _TOKEN):
        raise InvalidRequest(_bad_name("header name", name))
    if isinstance(value, str):
        try:
            value = value.encode("latin-1")
        except UnicodeEncodeError as error:
            raise InvalidRequest(
                f"header {wire_name.decode()!r} has the character U+{ord(error.object[error.start]):04X} in its value, "
                "which latin-1 cannot carry (RFC 9110 §5.5): encode it yourself and pass bytes"
            ) from None
    elif not isinstance(value, bytes):
        raise InvalidRequest(
            f"header {wire_name.decode()!r} has a value of type {type(value).__name__}: it must be str or bytes"
            + (" (to leave a default header out, set it to None in a client's call)" if value is None else "")
        )
    if len(value.translate(None, _NOT_IN_VALUE)) != len(value):
        raise InvalidRequest(_bad_value(wire_name, value))
    return wire_name, value.strip(b" \t")


def check_method(method: object) -> str:
    """Return `method` if it is a token, the known ones in upper case; else raise `InvalidRequest`."""
    if type(method) is str and method in KNOWN_METHODS:
        return method
    if isinstance(method, str) and method and method.isascii() and not method.encode().translate(None, _TOKEN):
        upper = method.upper()
        return upper if upper in KNOWN_METHODS else method
    if isinstance(method, (str, bytes)):
        raise InvalidRequest(_bad_name("method", method))
    raise InvalidRequest(f"method must be str, for example 'GET', not {type(method).__name__}")


def _bad_name(what: str, name: object) -> str:
    """Say what is wrong with a token. Of a name with a colon only the part before it is shown:
    behind it may stand the value, and the value may be a secret.
    """
    if not isinstance(name, (str, bytes)):
        return f"{what} must be str or bytes, not {type(name).__name__}"
    if isinstance(name, bytes) and what == "method":
        return f"method must be str, not bytes: write {name[:20].decode('latin-1')!r}"
    text = name.decode("latin-1") if isinstance(name, bytes) else name
    tokens = f"{what}s are tokens (RFC 9110 §{'9.1' if what == 'method' else '5.1'})"
    if not text:
        return f"{what} is empty: {tokens}"
    shown, colon, _ = text.partition(":")
    if colon:
        return f"{what} {shown[:60]!r} is followed by a colon: {tokens}, the value is given apart"
    bad = next(char for char in text if char not in _TOKEN_CHARS)
    return f"{what} {text[:60]!r} has {_named(bad)}: {tokens}"


def _bad_value(name: bytes, value: bytes) -> str:
    position = next(i for i, code in enumerate(value) if code in _NOT_IN_VALUE)
    return (
        f"header {name.decode()!r} has {_named(chr(value[position]))} in its value, at position {position}: "
        "a value is one line without control characters (RFC 9110 §5.5)"
    )


def _named(char: str) -> str:
    if char == " ":
        return "a space"
    if char in "\r\n":
        return "a line break"
    if char == "\0":
        return "a NUL"
    if not char.isascii():
        return f"the non-ASCII character {char!r}"
    return f"a control character (0x{ord(char):02x})" if ord(char) < 0x20 or char == "\x7f" else f"a {char!r}"
