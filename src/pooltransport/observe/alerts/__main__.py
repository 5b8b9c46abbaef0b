"""`python -m pooltransport.observe.alerts`: write the alert rules."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from .generate import Thresholds, Times, rules

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the rules to standard output or to a file; return 0. A wrong call exits with 2."""
    parser = argparse.ArgumentParser(
        prog="python -m pooltransport.observe.alerts",
        description="Write Prometheus' alert rules for pooltransport.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="thresholds, with what they are when not given:\n"
        + "\n".join(f"  {name:22} {value:g}" for name, value in Thresholds()._asdict().items()),
    )
    parser.add_argument("--factor", type=_number, default=1.0, metavar="F", help="times every range and `for` (1)")
    parser.add_argument(
        "--scrape-interval",
        type=_number,
        default=15.0,
        metavar="SECONDS",
        help="no range is shorter than four of these (15)",
    )
    parser.add_argument("--threshold", action="append", default=[], metavar="NAME=VALUE", help="may be given often")
    parser.add_argument("--out", metavar="FILE", help="instead of standard output")
    chosen = parser.parse_args(arguments)
    try:
        text = rules(Times(chosen.factor, chosen.scrape_interval), _thresholds(chosen.threshold))
    except ValueError as error:
        parser.error(str(error))
    if chosen.out is None:
        sys.stdout.write(text)
    else:
        with open(chosen.out, "w", encoding="utf-8") as file:
            file.write(text)
    return 0


def _number(text: str) -> float:
    """Read a number, which may be a fraction: 1/60."""
    above, _, below = text.partition("/")
    try:
        return float(above) / float(below or 1)
    except ZeroDivisionError:
        raise ValueError(text) from None


def _thresholds(given: Sequence[str]) -> Thresholds:
    values: dict[str, float] = {}
    for item in given:
        name, equals, text = item.partition("=")
        if name not in Thresholds._fields:
            raise ValueError(f"no threshold is called {name!r}: {', '.join(Thresholds._fields)}")
        try:
            values[name] = float(text)
        except ValueError:
            raise ValueError(f"{item}: {'a number is expected after' if equals else 'what is missing is'} =") from None
    return Thresholds(**values)


if __name__ == "__main__":
    sys.exit(main())
