"""What it costs to be watched: one request with and without leak levels, hooks, and a scraper. Run: make observing.

All variants run in one process, on one thread, in blocks that take turns, so that what slows the machine slows all
of them; each figure is CPU time, the median of its blocks. The plain one is measured twice: how much the two differ is
what a difference below them is worth. The second table calls the parts themselves, without a request around them.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from timeit import repeat

import pooltransport as pt
from pooltransport.core.counts import HostCounts
from pooltransport.lease import Watch, find_site
from pooltransport.trace import HOOK_NAMES
from tests.support.nginx import Nginx

BLOCK = 100


def nothing(info):
    return None


def transports():
    """Return the variants: name, transport."""
    go = [name for name in HOOK_NAMES if name not in {"acquire_queued", "acquire_done", "leaked", "lease_overdue"}]
    hooks = pt.ClientTrace(**dict.fromkeys(go, nothing))
    return {
        "plain: leak_detection=off, no hooks": pt.Transport(leak_detection="off"),
        "the same again": pt.Transport(leak_detection="off"),
        "site (the default)": pt.Transport(leak_detection="site"),
        "full": pt.Transport(leak_detection="full"),
        "plain, and every hook": pt.Transport(leak_detection="off", trace=hooks),
        "plain, and a scrape each second": pt.Transport(leak_detection="off"),
    }


def block(transport, url):
    """Return the CPU time of one request, in microseconds, over a block of them."""
    began = time.process_time()
    for _ in range(BLOCK):
        transport.round_trip(pt.Request("GET", url)).read()
    return (time.process_time() - began) / BLOCK * 1e6


def scrape(transport, stop):
    while not stop.wait(1.0):
        transport.stats()


def requests(url, rounds):
    """Measure the variants by turns; return name: (median, quartile spread)."""
    variants = transports()
    stop = threading.Event()
    scraper = threading.Thread(target=scrape, args=(variants["plain, and a scrape each second"], stop))
    scraper.start()
    times = {name: [] for name in variants}
    try:
        for transport in variants.values():
            block(transport, url)
        for turn in range(rounds):
            names = list(variants)
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                times[name].append(block(variants[name], url))
    finally:
        stop.set()
        scraper.join()
        for transport in variants.values():
            transport.close()
    return {name: statistics.median(found) for name, found in times.items()}


def deep(depth, call):
    """Call `call` with so many frames on the stack."""
    return call() if depth == 0 else deep(depth - 1, call)


def parts():
    """Return what the parts cost alone, in microseconds."""
    counts, site = HostCounts(), Watch("site", ())
    counts.note_request("GET", 200, 0.001)

    def measure():
        counts.note_request("GET", 200, 0.001)
        counts.lease_times.add(0.001)

    def cost(call):
        return min(repeat(lambda: deep(20, lambda: [call() for _ in range(1000)]), number=1, repeat=30)) * 1e3

    return {
        "one frame (who calls)": cost(lambda: find_site(())),
        "who calls, and three callers (site)": cost(site.site),
        "16 raw frames, for comparison": cost(lambda: find_site((), 16)),
        "all frames (full)": cost(lambda: find_site((), 1000)),
        "two measurements (each request)": cost(measure),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    args = parser.parse_args()
    with TemporaryDirectory() as folder, Nginx(Path(folder)) as server:
        found = requests(server.url, args.rounds)
    plain = found["plain: leak_detection=off, no hooks"]
    print("| one GET of 5 bytes, on one thread | us of CPU | more than plain |\n| --- | ---: | ---: |")
    for name, value in found.items():
        print(f"| {name} | {value:.1f} | {value - plain:+.1f} us, {value / plain - 1:+.1%} |")
    print("\n| a part alone | us | of a plain request |\n| --- | ---: | ---: |")
    for name, value in parts().items():
        print(f"| {name} | {value:.2f} | {value / plain:.2%} |")


if __name__ == "__main__":
    main()
