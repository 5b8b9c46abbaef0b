"""A server that resets, stalls, drips, half-closes and lies at random; in a process of its own.

``python -m tests.soak.fault_server PORT_FILE``. A request for ``/<id>/<size>`` is answered with `pattern(id, size)`,
so that a client can tell its own bytes from anybody else's. What goes wrong is chosen by the request's id: the same
id fails in the same way again.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import sys
from pathlib import Path

# How often each happens, of 1,000.
FAULTS = {
    "reset_before": 10,
    "close_before": 10,
    "reset_inside": 10,
    "half_close_inside": 10,
    "stall": 5,
    "drip": 20,
    "too_short": 10,  # less than announced, then the end
    "too_long": 10,  # more than announced
    "garbage": 5,
    "two_lengths": 5,
    "close_after": 30,  # unannounced
    "announced_close": 30,
    "until_close": 20,
    "early_hints": 50,
    "early_refusal": 20,
}


def pattern(number: int, size: int) -> bytes:
    """Return the body of a request: `size` bytes that only this one can have."""
    mark = b"<%d>" % number
    return (mark * (size // len(mark) + 1))[:size]


def fault_of(number: int) -> str:
    """Return what goes wrong with a request."""
    draw = random.Random(number).randrange(1000)
    for name, share in FAULTS.items():
        draw -= share
        if draw < 0:
            return name
    return "none"


class Conversation:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def run(self) -> None:
        """Answer until one side has enough."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while await self._answer_one():
                await self._writer.drain()
        self._writer.close()

    async def _answer_one(self) -> bool:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        _, target, _ = head.split("\r\n", 1)[0].split(" ")
        number, size = (int(part) for part in target.strip("/").split("/"))
        fault = fault_of(number)
        if fault == "early_refusal" and "ontent-" in head:
            self._send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return False
        await self._skip_body(head.lower())
        return await self._answer(fault, pattern(number, size))

    async def _skip_body(self, head: str) -> None:
        for line in head.split("\r\n"):
            name, _, value = line.partition(": ")
            if name == "content-length":
                await self._reader.readexactly(int(value))
            elif name == "transfer-encoding":
                while size := int(await self._reader.readuntil(b"\r\n"), 16):
                    await self._reader.readexactly(size + 2)
                await self._reader.readexactly(2)

    def _send(self, data: bytes) -> None:
        self._writer.write(data)

    async def _answer(self, fault: str, body: bytes) -> bool:
        half = len(body) // 2
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
        match fault:
            case "reset_before":
                return self._reset()
            case "close_before":
                return False
            case "reset_inside" | "half_close_inside":
                self._send(head + body[:half])
                await self._writer.drain()
                return self._reset() if fault == "reset_inside" else False
            case "stall":
                self._send(head + body[:half])
                await asyncio.sleep(3.0)
                self._send(body[half:])
            case "drip":
                self._send(head)
                for start in range(0, len(body), len(body) // 5 + 1):
                    self._send(body[start : start + len(body) // 5 + 1])
                    await asyncio.sleep(0.01)
            case "too_short":
                self._send(head + body[:half])
                return False
            case "too_long":
                self._send(head + body + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong")
            case "garbage":
                self._send(b"this is no HTTP\r\n\r\n" + body)
                return False
            case "two_lengths":
                self._send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n" + body)
                return False
            case "close_after":
                self._send(head + body)
                return False
            case "announced_close":
                self._send(head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + body)
                return False
            case "until_close":
                self._send(b"HTTP/1.1 200 OK\r\n\r\n" + body)
                return False
            case "early_hints":
                self._send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + head + body)
            case _:
                self._chunked_or_whole(head, body)
        return True

    def _chunked_or_whole(self, head: bytes, body: bytes) -> None:
        if len(body) % 2:
            self._send(head + body)
            return
        pieces = [body[i : i + 1000] for i in range(0, len(body), 1000)]
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        self._send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")

    def _reset(self) -> bool:
        sock: socket.socket = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()
        return False


async def serve(port_file: Path) -> None:
    """Listen on a port of the system's choice, and write it down."""
    server = await asyncio.start_server(
        lambda reader, writer: Conversation(reader, writer).run(), "127.0.0.1", 0, backlog=1024
    )
    part = port_file.with_suffix(".part")
    part.write_text(str(server.sockets[0].getsockname()[1]))
    part.rename(port_file)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
