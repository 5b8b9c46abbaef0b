"""Three backends behind one name, one killed or restarted now and then: how many GETs fail, of ours and of the peers'.

Every client gets the same three addresses from the system's resolver, which is replaced for this one name, and the same
schedule: every `--every` seconds the next event, first a kill, then the restart of the same backend. Each client runs
in a process of its own, one after another. Run it with ``make failover``.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks import environments
from benchmarks.clients import Setting, blocking, tasks

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
NAME = "backends.test"
ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
WORKERS = 10
# Name: its environment, its runtime, and which client it is there.
CLIENTS = {
    "pooltransport asyncio": ("h11", "asyncio", "round_trip"),
    "pooltransport threads": ("h11", "threads", "round_trip"),
    "aiohttp": ("aiohttp", "asyncio", "aiohttp"),
    "httpx2 async": ("httpx2", "asyncio", "httpx2"),
    "httpx2 threads": ("httpx2", "threads", "httpx2"),
    "urllib3": ("requests", "threads", "urllib3"),
}
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


class Outcome(NamedTuple):
    """What came of one client's run."""

    name: str
    requests: int
    failures: dict[str, int]

    @property
    def share(self) -> float:
        """The share of requests that succeeded, 0 to 1."""
        return 1 - sum(self.failures.values()) / self.requests if self.requests else 0.0


# One backend: a process of its own, so that it can be killed.


async def serve(address: str, port: int) -> None:
    """Answer every GET with five bytes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(ANSWER)

    server = await asyncio.start_server(talk, address, port, reuse_address=True, backlog=1024)
    await server.serve_forever()


class Backends:
    """The three of them, on one port of three loopback addresses."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind((ADDRESSES[0], 0))
            self.port = probe.getsockname()[1]
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        for address in ADDRESSES:
            self.start(address)

    def start(self, address: str) -> None:
        """Start a backend, and wait until it listens."""
        command = [sys.executable, "-m", "benchmarks.failover", "--serve", address, str(self.port)]
        self._processes[address] = subprocess.Popen(command, cwd=HERE.parent, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while True:
            with socket.socket() as sock:
                if sock.connect_ex((address, self.port)) == 0:
                    return
            if time.monotonic() > deadline:
                raise TimeoutError(f"the backend on {address} does not listen")
            time.sleep(0.01)

    def kill(self, address: str) -> None:
        """End a backend without a word: the kernel resets its connections."""
        process = self._processes.pop(address)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        """End them all."""
        for address in list(self._processes):
            self.kill(address)


def play(backends: Backends, seconds: float, every: float) -> None:
    """Kill and restart, in turn, for `seconds`."""
    ends = time.monotonic() + seconds
    number = 0
    while (now := time.monotonic()) + every < ends:
        time.sleep(min(every, ends - now))
        address = ADDRESSES[number // 2 % len(ADDRESSES)]
        (backends.start if number % 2 else backends.kill)(address)
        number += 1
    time.sleep(max(ends - time.monotonic(), 0))
    if number % 2:
        backends.start(ADDRESSES[number // 2 % len(ADDRESSES)])


# One client.


@contextlib.contextmanager
def name_resolved() -> Iterator[None]:
    """Let the system's resolver know the backends' name."""
    system = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host not in (NAME, NAME.encode()):
            return system(host, port, *args, **kwargs)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, int(port))) for address in ADDRESSES]

    socket.getaddrinfo = getaddrinfo
    try:
        yield
    finally:
        socket.getaddrinfo = system


async def ask_async(name: str, url: str, seconds: float) -> Outcome:
    """Ask from `WORKERS` tasks for so long."""
    failures: collections.Counter[str] = collections.Counter()
    total = 0
    ends = time.monotonic() + seconds
    async with tasks.CLIENTS[CLIENTS[name][2]](Setting(WORKERS)) as calls:

        async def work() -> None:
            nonlocal total
            while time.monotonic() < ends:
                total += 1
                try:
                    await calls.get(url)
                except Exception as error:
                    failures[type(error).__name__] += 1
                await asyncio.sleep(0.001)  # a service at work, not a race

        await asyncio.gather(*(work() for _ in range(WORKERS)))
    return Outcome(name, total, failures)


def ask_threads(name: str, url: str, seconds: float) -> Outcome:
    """Ask from `WORKERS` threads for so long."""
    failures: collections.Counter[str] = collections.Counter()
    totals: list[int] = []
    ends = time.monotonic() + seconds
    with blocking.CLIENTS[CLIENTS[name][2]](Setting(WORKERS)) as calls:

        def work() -> None:
            total = 0
            while time.monotonic() < ends:
                total += 1
                try:
                    calls.get(url)
                except Exception as error:
                    failures[type(error).__name__] += 1
                time.sleep(0.001)
            totals.append(total)

        threads = [threading.Thread(target=work) for _ in range(WORKERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return Outcome(name, sum(totals), failures)


def run_client(name: str, backends: Backends, seconds: float, every: float) -> Outcome:
    """Run one client in a process of its own while backends come and go."""
    url = f"http://{NAME}:{backends.port}/"
    made = environments.look(CLIENTS[name][0])
    # Where no environments were made, as for the tests, that of this process does for ours.
    python = sys.executable if made.problem else str(made.python)
    command = [python, "-m", "benchmarks.failover", "--ask", name, url, str(seconds)]
    paths = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE.parent / "src")])}
    process = subprocess.Popen(command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True, env=paths)
    play(backends, seconds, every)
    output, _ = process.communicate(timeout=120)
    if process.returncode:
        raise RuntimeError(f"{name} ended with {process.returncode}")
    return Outcome(*json.loads(output))


def table(outcomes: list[Outcome]) -> str:
    """Return the report, in Markdown."""
    lines = ["| client | requests | succeeded | failures |", "| --- | ---: | ---: | --- |"]
    for outcome in outcomes:
        failures = ", ".join(f"{count} {name}" for name, count in sorted(outcome.failures.items())) or "none"
        lines.append(f"| {outcome.name} | {outcome.requests:,} | {outcome.share:.4%} | {failures} |")
    return "\n".join(lines)


def main() -> int:
    """Run all clients and print the table; or be a backend, or a client."""
    parser = argparse.ArgumentParser(prog="benchmarks.failover", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="for each client")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two events")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="only clients whose name contains one of these")
    parser.add_argument("--serve", nargs=2, metavar=("ADDRESS", "PORT"), help=argparse.SUPPRESS)
    parser.add_argument("--ask", nargs=3, metavar=("CLIENT", "URL", "SECONDS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        asyncio.run(serve(args.serve[0], int(args.serve[1])))
        return 0
    if args.ask:
        name, url, seconds = args.ask
        with name_resolved():
            if CLIENTS[name][1] == "asyncio":
                outcome = asyncio.run(ask_async(name, url, float(seconds)))
            else:
                outcome = ask_threads(name, url, float(seconds))
        print(json.dumps(outcome))
        return 0
    backends = Backends()
    try:
        names = [name for name in CLIENTS if not args.only or any(word in name for word in args.only)]
        outcomes = [run_client(name, backends, args.seconds, args.every) for name in names]
    finally:
        backends.stop()
    print(table(outcomes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
