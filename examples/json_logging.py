"""Every log record of pooltransport as one JSON object a line, with the standard library alone.

    python examples/json_logging.py https://api.example.com/data

The keys beside `time level logger message` are the record's own `extra` fields: docs/logging.md lists them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import time

import pooltransport as pt
from pooltransport.observe.access_log import AccessLog

# What every record has of itself: what it has beside that is `extra`.
_STANDARD = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {"message", "asctime", "taskName"}


class JSONFormatter(logging.Formatter):
    """Turns a record into one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line. A value that JSON does not know is shown as text: a line is never lost for it."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def set_up() -> None:
    """Let all loggers of pooltransport write to standard output."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JSONFormatter())
    logger = logging.getLogger("pooltransport")  # the parent of .leak .pool .config .access
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def main(url: str) -> None:
    """Make two requests, forget to close a third, and run into the limit."""
    set_up()
    with AccessLog(pt.Transport(name="example", max_conns_per_host=1)) as transport:
        client = pt.Client(transport=transport, timeout=10.0)
        client.get(url)
        client.get(url)
        hasty = pt.Client(transport=transport, timeout=pt.Timeout(acquire=0.2))
        with client.stream("GET", url), contextlib.suppress(pt.PoolTimeout):
            hasty.get(url)  # the line about it says who holds the connection
        forgotten = client.send(pt.Request("GET", url), stream=True)
        del forgotten
        transport.stats()  # a safe point: the leak is told here, at the latest


if __name__ == "__main__":
    main(sys.argv[1])
