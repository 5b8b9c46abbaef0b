"""What is measured: for each group its peers, and the task that each is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class Peer(NamedTuple):
    """A row of the tables: a client in an environment."""

    name: str
    environment: str
    client: str
    codec: str = "auto"


H11 = Peer("pooltransport h11", "h11", "round_trip", "h11")
SPEED = Peer("pooltransport speed", "speed", "round_trip", "httptools")
OURS = (H11, SPEED)
CLIENTS = (
    Peer("pooltransport h11, client", "h11", "client", "h11"),
    Peer("pooltransport speed, client", "speed", "client", "httptools"),
)
AIOHTTP, HTTPX, HTTPX2, NIQUESTS, PYCURL, PYREQWEST = (
    Peer(name, name, name) for name in ("aiohttp", "httpx", "httpx2", "niquests", "pycurl", "pyreqwest")
)
URLLIB3 = Peer("urllib3", "requests", "urllib3")
REQUESTS = Peer("requests", "requests", "requests")
HTTP_CLIENT = Peer("http.client, no pool", "stdlib", "http.client")
SOCKET = Peer("a bare socket", "stdlib", "socket")
PROTOCOL = Peer("a bare asyncio.Protocol", "h11", "protocol")  # with uvloop at hand
GO = Peer("Go", "go", "go")
GO_ONE = Peer("Go, GOMAXPROCS=1", "go", "go1")


class Job(NamedTuple):
    """One task for one peer; `once` ones, which take long, are measured in the first round only."""

    peer: Peer
    task: dict[str, Any]
    once: bool = False


class Place(NamedTuple):
    """Where to measure, and how long."""

    http: str  # nginx, no slash at the end
    https: str
    sink: str
    ca: str
    seconds: float
    full: bool
    tiny: bool = False  # the smallest sizes: to see that it works


class Group(NamedTuple):
    """A part of the report. `columns`: key of a value, its heading, its format; the first is compared, and more of it
    is better where `more` is set."""

    title: str
    jobs: Callable[[Place], list[Job]]
    columns: tuple[tuple[str, str, str], ...]
    more: bool = True


RATE = (("rate", "requests/s", ",.0f"), ("cpu", "CPU µs/request", ",.1f"))
MANY = 100  # at once; more than this is a job of its own


def _loops(place: Place, runtime: str, peers: tuple[Peer, ...], workers: list[int], **task: Any) -> list[Job]:
    """Return closed-loop jobs, those of many workers apart."""
    given = {"kind": "closed_loop", "runtime": runtime, "seconds": place.seconds, "size": 5, "warm": True}
    given |= {"url": f"{place.http}/", "case": "{runtime}, {workers:,} at once"} | task
    jobs = []
    for many in (False, True):
        chosen = [number for number in workers if (number > MANY) == many]
        if chosen:
            # These two take 20 s to dial so many.
            jobs += [Job(peer, given | {"workers": chosen}, many and peer in (HTTPX, HTTPX2)) for peer in peers]
    return jobs


def small(place: Place) -> list[Job]:
    """GETs of 5 bytes over warm connections."""
    many = [1, 5] if place.tiny else [1, 20, 1000]
    few = [1, 2] if place.tiny else [1, 20]
    go = (GO, GO_ONE)
    return [
        *_loops(place, "asyncio", (*OURS, *CLIENTS, AIOHTTP, HTTPX, HTTPX2, PYREQWEST, PROTOCOL, *go), many),
        *_loops(place, "uvloop", (*OURS, CLIENTS[1], AIOHTTP, HTTPX2, PYREQWEST, PROTOCOL), many),
        *_loops(place, "trio", (*OURS, CLIENTS[1], HTTPX2), many),
        *_loops(
            place,
            "threads",
            (*OURS, *CLIENTS, URLLIB3, REQUESTS, NIQUESTS, HTTPX, HTTPX2, PYCURL, HTTP_CLIENT, SOCKET, *go),
            few,
        ),
    ]


def _transfers(place: Place, direction: str) -> list[Job]:
    megabytes = 1 if place.tiny else 100
    url = f"{place.http}/bytes/{megabytes}M" if direction == "download" else f"{place.sink}/"
    sync = (*OURS, CLIENTS[1], URLLIB3, REQUESTS, HTTPX2, PYCURL, HTTP_CLIENT, SOCKET, GO)
    loop = (*OURS, AIOHTTP, HTTPX2, PYREQWEST, *((PROTOCOL,) if direction == "download" else ()))
    uvloop = (*OURS, AIOHTTP)
    task = {
        "kind": "transfer",
        "direction": direction,
        "url": url,
        "megabytes": megabytes,
        "times": 1 if place.tiny else 5 if place.full else 3,
        "case": "{runtime}",
    }
    groups = (("threads", sync), ("asyncio", loop), ("uvloop", uvloop))
    return [Job(peer, task | {"runtime": runtime}) for runtime, peers in groups for peer in peers]


def downloads(place: Place) -> list[Job]:
    """100 MB from nginx, in pieces."""
    return _transfers(place, "download")


def uploads(place: Place) -> list[Job]:
    """100 MB of bytes to a server that counts them."""
    return _transfers(place, "upload")


def tls(place: Place) -> list[Job]:
    """New connections, and small requests, with certificates checked."""
    sync = (*OURS, URLLIB3, HTTPX2, PYCURL, HTTP_CLIENT)
    loop = (*OURS, AIOHTTP, HTTPX2, PYREQWEST)
    new = {"url": f"{place.https}/close", "size": 7, "warm": False, "ca": place.ca}
    kept = {"url": f"{place.https}/", "ca": place.ca}
    some = [2] if place.tiny else [20]
    return [
        *_loops(place, "threads", sync, [1], **new, case="{runtime}, new connections, {workers} at once"),
        *_loops(place, "asyncio", loop, some, **new, case="{runtime}, new connections, {workers} at once"),
        *_loops(place, "threads", (*sync, GO_ONE), [1], **kept, case="{runtime}, kept connections, {workers} at once"),
        *_loops(place, "asyncio", (*loop, GO_ONE), some, **kept, case="{runtime}, kept connections, {workers} at once"),
    ]


def churn(place: Place) -> list[Job]:
    """A new connection for every request: the server closes each."""
    sync = (*OURS, URLLIB3, HTTPX2, PYCURL, HTTP_CLIENT)
    loop = (*OURS, AIOHTTP, HTTPX2, PYREQWEST)
    new = {"url": f"{place.http}/close", "size": 7, "warm": False}
    return [
        *_loops(place, "threads", sync, [1], **new),
        *_loops(place, "asyncio", loop, [2] if place.tiny else [20], **new),
    ]


def memory(place: Place) -> list[Job]:
    """Resident memory of an idle connection."""
    task = {"kind": "memory", "url": f"{place.http}/", "sink": place.sink}
    jobs = []
    for count in [50] if place.tiny else [1000, 5000]:
        for runtime, peers in (("asyncio", (*OURS, AIOHTTP)), ("threads", (*OURS, URLLIB3))):
            jobs += [Job(p, task | {"runtime": runtime, "connections": count}, not place.full) for p in peers]
    return jobs


def scaling(place: Place) -> list[Job]:
    """CPU of a request beside idle connections, hosts and waiters."""
    task = {
        "kind": "scaling",
        "runtime": "asyncio",
        "url": f"{place.http}/",
        "sink": place.sink,
        "idle": [1, 10] if place.tiny else [1, 1000, 10_000],
        "waiters": [10] if place.tiny else [1000],
        "requests": 20 if place.tiny else 1000 if place.full else 300,
    }
    # The pool is the same under each codec: where time is short, one of them.
    return [Job(peer, task, not place.full) for peer in (OURS if place.full or place.tiny else (SPEED,))]


def storm(place: Place) -> list[Job]:
    """Tasks cancelled at random moments."""
    task = {
        "kind": "storm",
        "runtime": "asyncio",
        "sink": place.sink,
        "seconds": place.seconds,
        "tasks": 50 if place.tiny else 1000,
        "storms": 1 if place.tiny else 10 if place.full else 3,
    }
    return [Job(peer, task) for peer in (*OURS, AIOHTTP)]


def latency(place: Place) -> list[Job]:
    """The 99th percentile of an open loop."""
    task = {
        "kind": "latency",
        "runtime": "asyncio",
        "url": f"{place.http}/",
        "sink": place.sink,
        "seconds": 0.5 if place.tiny else 10.0 if place.full else 1.5,
    }
    return [Job(peer, task) for peer in (*OURS, AIOHTTP, HTTPX2)]


GROUPS = {
    "small": Group("Small requests: GET of 5 bytes", small, RATE),
    "downloads": Group("Downloads of 100 MB", downloads, (("rate", "MB/s", ",.0f"),)),
    "uploads": Group("Uploads of 100 MB", uploads, (("rate", "MB/s", ",.0f"),)),
    "tls": Group("TLS, certificates checked", tls, RATE),
    "churn": Group("A new connection for every request", churn, RATE),
    "memory": Group("Memory of an idle connection", memory, (("kib", "KiB each", ".1f"),), more=False),
    "scaling": Group(
        "The pool at size: CPU of a request",
        scaling,
        (("times", "times", ".3f"), ("base", "µs at 1 idle, 0 waiting", ".1f"), ("cpu", "µs at size", ".1f")),
        more=False,
    ),
    "storm": Group(
        "After cancellation storms",
        storm,
        (
            ("rate", "requests/s after", ",.0f"),
            ("before", "before", ",.0f"),
            ("kept", "after ÷ before", ".2f"),
            ("held", "slots still held", ".0f"),
        ),
    ),
    "latency": Group(
        "Latency in an open loop, one slow host besides",
        latency,
        (("p99", "p99 ms", ".2f"), ("p50", "p50 ms", ".2f"), ("offered", "offered/s", ",.0f")),
        more=False,
    ),
}
