"""The pages of the codes at the end of errors and warnings: ``python -m pooltransport explain PTC101``.

A page is a file beside this one, named after its code. Its first line is ``# CODE: title``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

__all__ = ["explain", "titles"]


def explain(code: str) -> str:
    """Return the page of `code`, as Markdown; upper or lower case, with or without the brackets.

    Raises `LookupError` for a code that has none, with the nearest codes in its text.
    """
    wanted = code.strip().strip("[]").upper()
    pages = _pages()
    if wanted in pages:
        return pages[wanted].read_text(encoding="utf-8")
    import difflib  # noqa: PLC0415 - only a wrong code pays for it

    near = difflib.get_close_matches(wanted, pages, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "without a code, all are listed"
    raise LookupError(f"no page for {code!r}; {hint}")


def titles() -> dict[str, str]:
    """Return the title of each code's page, PT- codes first."""
    found = {}
    for code, page in _pages().items():
        first = page.read_text(encoding="utf-8").partition("\n")[0]
        found[code] = first.partition(": ")[2]
    return found


def _pages() -> dict[str, Traversable]:
    from importlib.resources import files  # noqa: PLC0415 - the package may be in an archive

    rows = [(entry.name.removesuffix(".md"), entry) for entry in files(__name__).iterdir()]
    return dict(sorted((row for row in rows if row[1].name.endswith(".md")), key=lambda row: row[0]))
