"""Request bodies that are long, and know what became of them."""

from __future__ import annotations

PIECE = b"x" * 65_536
PIECES = 320  # 20 MB


class Source:
    """A body that counts what was asked of it, and knows whether it was closed; for both kinds of iteration."""

    def __init__(self, pieces=PIECES):
        self.asked = 0
        self.closed = False
        self._pieces = pieces

    def sync(self):
        try:
            for _ in range(self._pieces):
                self.asked += 1
                yield PIECE
        finally:
            self.closed = True

    async def loop(self):
        try:
            for _ in range(self._pieces):
                self.asked += 1
                yield PIECE
        finally:
            self.closed = True

    def of(self, kind):
        return {"sync": self.sync, "async": self.loop}[kind]()


class Short:
    """Two pieces; counts what was asked of it, and knows whether it was closed."""

    def __init__(self):
        self.asked = 0
        self.closed = False

    def __iter__(self):
        return self

    def __next__(self):
        self.asked += 1
        if self.asked > 2:
            raise StopIteration
        return b"abc"

    def close(self):
        self.closed = True
