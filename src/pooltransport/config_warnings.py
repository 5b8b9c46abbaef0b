"""How a suspicious option is told of: as a `PoolConfigWarning` at the caller's line, and to a logger.

1. Once for each line: the caller's own warning registry decides, as for every warning, so that filters work as
   everywhere, and those of a test are a test's own.
2. The logger `pooltransport.config` gets it only where somebody set up logging: else the same words would be on
   standard error twice. `extra`: docs/logging.md.
3. What a `TransportOptions` said when it was made is not said again when a transport is made from it, whoever does so.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from .callers import is_ours
from .errors import PoolConfigWarning

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType

    from .config_checks import ConfigFinding

_MOST_LINES = 1000

_logged: dict[tuple[str, str], None] = {}


def tell(findings: Iterable[ConfigFinding], ignored: tuple[str, ...] = (), pool_name: str | None = None) -> None:
    """Warn of `findings` at the line that called us, `ignored` modules left out. `pool_name`: the transport's.

    Raises the warning if a filter makes an error of it.
    """
    found = list(findings)
    if not found:
        return
    frame, was_told = _caller(ignored)
    if was_told:
        return
    names = {} if frame is None else frame.f_globals
    where = ("<unknown>", 1) if frame is None else (frame.f_code.co_filename, frame.f_lineno)
    for finding in found:
        tell_at(finding, *where, names, pool_name)


def tell_at(
    finding: ConfigFinding, filename: str, line: int, names: dict[str, Any], pool_name: str | None = None
) -> None:
    """Warn of `finding` at that line of a module. `names`: the module's globals, in which warnings keep count."""
    import warnings  # noqa: PLC0415 - only who has something to be told pays for it

    log_at(finding, f"{filename}:{line}", pool_name)
    registry = names.setdefault("__warningregistry__", {})
    module = names.get("__name__") or filename  # None would say nothing at all
    warnings.warn_explicit(str(finding), PoolConfigWarning, filename, line, module, registry)


def _caller(ignored: tuple[str, ...]) -> tuple[FrameType | None, bool]:
    """Return the first frame that is neither ours nor in one of the `ignored` modules, and whether it makes something
    from options that are there.
    """
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001 - the documented way to look at a stack
    was_told = False
    while frame is not None:
        if not is_ours(frame, ignored):
            break
        was_told = was_told or frame.f_code.co_name == "from_options"
        frame = frame.f_back
    return frame, was_told


def log_at(finding: ConfigFinding, site: str, pool_name: str | None) -> None:
    """Tell the logger of `finding` at `site`, once, where logging is set up."""
    logging = sys.modules.get("logging")
    if logging is None or (finding.code, site) in _logged:
        return
    logger = logging.getLogger("pooltransport.config")
    if not logger.hasHandlers():
        return
    if len(_logged) >= _MOST_LINES:
        _logged.clear()
    _logged[finding.code, site] = None
    extra = {"pool_name": pool_name, "code": finding.code, "option": finding.option, "site": site}
    logger.warning("%s", finding, extra=extra)
