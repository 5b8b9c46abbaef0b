"""Which parser reads the answers: `codec=` of the options. Loaded with the first dial, and the parser with it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from pooltransport.option_checks import has_httptools

if TYPE_CHECKING:
    from .codec import Http1Codec
    from .plain_first import PlainFirst


@cache  # each dial asks, and looking for what is not there is slow
def codec_class(choice: str) -> type[PlainFirst]:
    """Return the codec for `choice`: ``auto``, ``h11`` or ``httptools``, which was looked for before."""
    if choice == "httptools" or (choice == "auto" and has_httptools()):
        from .httptools_codec import HttptoolsCodec  # noqa: PLC0415 - only who uses it loads it

        return after_plain(HttptoolsCodec)
    from .h11_codec import H11Codec  # noqa: PLC0415 - as above

    return after_plain(H11Codec)


@cache
def after_plain(parser: type[Http1Codec]) -> type[PlainFirst]:
    """Return the codec that gives `parser` what is not plain."""
    from .plain_first import PlainFirst  # noqa: PLC0415 - as above

    return type("PlainFirst", (PlainFirst,), {"__slots__": (), "name": parser.name, "parser_type": parser})
