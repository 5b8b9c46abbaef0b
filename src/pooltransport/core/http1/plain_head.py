"""Header sections of the plain shape, which nearly all are, read by two regular expressions.

h11 takes 30 us for one, which is a third of a small request; these take two. The shape is narrow: both parsers accept
whatever has it, and read it as it is read here, which tests hold against them. Any other section is theirs alone.
No control characters, no folded lines, no white space but inside, and one blank before a value; no 101; at most one
field that frames the body: with a length and a coding llhttp would refuse what is good in an answer to HEAD, and h11
makes one of two lengths. Every repeat is possessive, so that no answer can make this slow.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .codec import Head

SECTION_END = re.compile(rb"\n\r?\n")  # as h11 finds it: how lines end is judged afterwards
_NAME = rb"[-!#$%&'*+.^_`|~0-9A-Za-z]++"
_FIELDS = (
    rb"(?:(?![CTct](?i:ontent-length|ransfer-encoding):)"
    + _NAME
    + rb": ?+(?:[!-~\x80-\xff][\t -~\x80-\xff]*+(?<![\t ]))?+\r\n)*+"
)
_PLAIN = re.compile(
    rb"HTTP/1\.([01]) (?!101)([1-9][0-9]{2}) ([!-~\x80-\xff][ !-~\x80-\xff]*+)\r\n"
    + _FIELDS
    + rb"(?:(?i:content-length): ?[0-9]{1,19}\r\n|(?i:transfer-encoding): ?(chunked)\r\n)?+"
    + _FIELDS
    + rb"\r\n"
)
_FIELD = re.compile(rb"\n(" + _NAME + rb"): ?+([^\r]*+)")
_REASONS = {b"OK": "OK", b"No Content": "No Content", b"Not Found": "Not Found"}  # the usual, decoded


class Plain(NamedTuple):
    """What was read, and whether the body is chunked."""

    head: Head
    coded: bool


def read(section: bytes) -> Plain | None:
    """Return the header that `section` is, its empty line included, or None if it is not of that shape."""
    match = _PLAIN.fullmatch(section)
    if match is None:
        return None
    minor, status, reason, coding = match.groups()
    text = _REASONS.get(reason) or reason.decode("latin-1")
    head = Head(int(status), text, "1.1" if minor == b"1" else "1.0", _FIELD.findall(section))
    return Plain(head, coding is not None)
