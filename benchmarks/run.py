"""Runs the benchmark suite and writes the report: ``make bench``, or ``make bench BENCH_FLAGS="--only small"``."""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import trustme

from tests.support.nginx import Nginx

from . import report, sink
from .groups import GROUPS, Place
from .running import Results, split_cores

if TYPE_CHECKING:
    from collections.abc import Iterator

RESULTS = Path(__file__).parent / "results"


class Server(Nginx):
    """nginx for ten thousand connections, with a large file."""

    connections = 16_384


@contextlib.contextmanager
def servers(args: argparse.Namespace) -> Iterator[Place]:
    """Start nginx, with a certificate, and the sink."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        authority, pem, ca = trustme.CA(), Path(folder) / "server.pem", Path(folder) / "ca.pem"
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(pem))
        authority.cert_pem.write_to_path(str(ca))
        with Server(Path(folder), pem=pem, log=False) as nginx, sink.running() as counting:
            if not args.tiny:
                (Path(folder) / "html" / "bytes" / "100M").write_bytes(bytes(100_000_000))
            yield Place(nginx.url, nginx.https_url, counting, str(ca), args.seconds, args.full, args.tiny)


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.run", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS), help="these groups only")
    parser.add_argument("--peers", nargs="+", metavar="WORD", help="only clients whose name contains one of these")
    parser.add_argument("--runtimes", nargs="+", metavar="NAME", help="only these: asyncio uvloop trio threads")
    parser.add_argument("--full", action="store_true", help="9 rounds of 1 s, larger sizes; half an hour")
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes: only to see that it works")
    parser.add_argument("--rounds", type=int, help="of each measurement; 2, or 9 with --full")
    parser.add_argument("--seconds", type=float, help="of each measurement; 0.25, or 1 with --full")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the folder for the report")
    parser.add_argument("--no-plots", action="store_true", help="without matplotlib")
    args = parser.parse_args(words)
    args.rounds = args.rounds or (9 if args.full else 1 if args.tiny else 2)
    args.seconds = args.seconds or (1.0 if args.full else 0.05 if args.tiny else 0.25)
    return args


def main(words: list[str] | None = None) -> int:
    """Measure, print and write the report; 1 if something of ours failed."""
    args = parse(words)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    theirs, clients = split_cores()
    os.sched_setaffinity(0, theirs)  # the servers inherit it
    results = Results()
    with servers(args) as place:
        for name in args.only:
            jobs = [
                job
                for job in GROUPS[name].jobs(place)
                if (not args.peers or any(word in job.peer.name for word in args.peers))
                and (not args.runtimes or job.task["runtime"] in args.runtimes)
            ]
            results.measure(name, jobs, args.rounds, clients)
    args.output.mkdir(parents=True, exist_ok=True)
    text = report.write(results, args.only, args)
    if not args.no_plots:
        from . import plots

        plots.draw(results, args.only, args.output)
    print(text)
    return 1 if any("pooltransport" in peer for _, peer, _ in results.failures) else 0


if __name__ == "__main__":
    sys.exit(main())
