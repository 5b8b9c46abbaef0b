"""What is logged while a test runs."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_OWN = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {"message", "asctime", "taskName"}


def extras(record: logging.LogRecord) -> dict[str, object]:
    """Return the fields that whoever logged has added."""
    return {name: value for name, value in record.__dict__.items() if name not in _OWN}


class Records(logging.Handler):
    """Keeps every record."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.records.append(record)

    def wait(self, count: int, patience: float = 10.0) -> list[logging.LogRecord]:
        """Return the records once there are `count`: some are written by other threads."""
        deadline = time.monotonic() + patience
        while len(self.records) < count:
            assert time.monotonic() < deadline, f"{len(self.records)} of {count} records came"
            time.sleep(0.001)
        return self.records


@contextlib.contextmanager
def recorded(name: str, level: int = logging.INFO) -> Iterator[Records]:
    """Keep what the logger `name` is told in the block."""
    logger, handler = logging.getLogger(name), Records()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield handler
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)
