"""The lowest versions that pyproject.toml allows, as requirements: ``python tests/support/lowest.py`` prints them.

Of what the library itself stands on: its dependencies, and its extras but for those of our own work.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parent.parent.parent / "pyproject.toml"
OURS = frozenset(("dev", "sdks"))
_FLOOR = re.compile(r"([A-Za-z0-9._-]+)>=([0-9.]+)(\s*;.*)?")


def lowest(text: str) -> list[str]:
    """Return ``name==version`` for each requirement in the text of a pyproject.toml.

    Raises `ValueError` for one without a floor: nobody knows with which version it works.
    """
    project = tomllib.loads(text)["project"]
    wanted = list(project["dependencies"])
    for extra, requirements in project["optional-dependencies"].items():
        if extra not in OURS:
            wanted += requirements
    found: dict[str, str] = {}
    for requirement in wanted:
        match = _FLOOR.fullmatch(requirement)
        if match is None:
            raise ValueError(f"{requirement}: give a lowest version, name>=1.2")
        name, version, marker = match.groups()
        found[name.lower()] = f"{name}=={version}{marker or ''}"
    return list(found.values())


if __name__ == "__main__":
    print("\n".join(lowest(PYPROJECT.read_text(encoding="utf-8"))))
