"""Lines out of bytes, however they are cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pooltransport.pieces import Lines


def lines_of(pieces):
    lines, found = Lines("utf-8"), []
    for piece in [*pieces, b""]:
        lines.put(piece)
        while (line := lines.pop()) is not None:
            found.append(line)
    return found


@given(st.text(alphabet="ab\r\nä", max_size=12), st.lists(st.integers(1, 3), min_size=24, max_size=24))
def test_as_the_whole_text_has_them(text, sizes):
    data, pieces = text.encode(), []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    expected = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if expected[-1] == "":
        expected.pop()
    assert lines_of([piece for piece in pieces if piece]) == expected
