"""The six causes of a pool that runs dry, one after another, with what the hooks and `stats()` say."""

from .scenes import run

__all__ = ["run"]
