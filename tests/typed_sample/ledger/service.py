"""The service: blocking and asynchronous, with hooks, timeouts and errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from http.cookiejar import CookieJar
from typing import TYPE_CHECKING, TypedDict, cast

import pooltransport as pt

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO


class Entry(TypedDict):
    """One line of the ledger, as the API has it."""

    id: int
    amount: int


@dataclass
class Counts:
    """What the hooks tell."""

    reused: int = 0
    dialed: int = 0
    not_pooled: list[str] = field(default_factory=list[str])
    closed: dict[str, int] = field(default_factory=dict[str, int])

    def trace(self) -> pt.ClientTrace:
        """Return the hooks that count."""
        return pt.ClientTrace(got_conn=self._got, put_idle_conn=self._put, conn_closed=self._closed)

    def _got(self, got: pt.GotConnInfo) -> None:
        if got.reused:
            self.reused += 1
        else:
            self.dialed += 1

    def _put(self, error: BaseException | None) -> None:
        if isinstance(error, pt.NotPooled):
            self.not_pooled.append(str(error))

    def _closed(self, info: pt.ConnClosedInfo) -> None:
        reason: pt.CloseReason = info.reason
        self.closed[reason.value] = self.closed.get(reason.value, 0) + 1


class Unavailable(Exception):
    """The ledger cannot be reached; `retry` says whether asking again is safe."""

    def __init__(self, message: str, *, retry: bool) -> None:
        super().__init__(message)
        self.retry = retry


class Ledger:
    """Blocking."""

    def __init__(self, transport: pt.RoundTripper | None = None, base_url: str = "https://ledger.example/") -> None:
        self.client = pt.Client(
            transport, base_url=base_url, timeout=pt.Timeout(10.0, acquire=1.0), headers={"Accept": "application/json"}
        )

    def add(self, amount: int) -> Entry:
        """Add an entry."""
        try:
            response = self.client.post("entries", json={"amount": amount}, params={"dry": False})
            return cast("Entry", response.raise_for_status().json())
        except pt.PoolTimeout as error:
            scope: str = error.limit_scope
            raise Unavailable(f"no connection within {error.seconds:g} s ({scope})", retry=True) from error
        except pt.TransportTimeout as error:
            text = f"{error.phase}: {error.setting} = {error.seconds:g} s"
            raise Unavailable(text, retry=not error.may_have_been_processed) from error
        except pt.TransportError as error:
            raise Unavailable(str(error), retry=not error.may_have_been_processed) from error
        except pt.HTTPStatusError as error:
            raise Unavailable(str(error), retry=False) from error

    def export(self) -> Iterator[str]:
        """Give the lines of the export, streamed."""
        request = pt.Request("GET", "https://ledger.example/export", timeout=pt.Timeout(read=5.0))
        with self.client.send(request, stream=True) as response:
            response.raise_for_status()
            yield from response.iter_lines()

    def health(self) -> dict[str, int]:
        """Return what a probe wants to know."""
        transport = self.client.transport
        if not isinstance(transport, pt.Transport):
            return {}
        stats: pt.PoolStats = transport.stats()
        hosts: dict[str, int] = {origin: host.active for origin, host in stats.hosts.items()}
        return {"active": stats.active, "idle": stats.idle, "waiting": stats.waiting, **hosts}

    def close(self) -> None:
        """Close the client; the transport was borrowed."""
        self.client.close()


class AsyncLedger:
    """On a loop."""

    def __init__(self, transport: pt.AsyncRoundTripper) -> None:
        self.client = pt.AsyncClient(transport, base_url=pt.URL("https://ledger.example/"), timeout=10.0)

    async def get(self, number: int) -> Entry | None:
        """Return an entry, None if there is none."""
        response = await self.client.get(f"entries/{number}")
        if response.status_code == 404:
            return None
        return cast("Entry", response.raise_for_status().json())

    async def size(self) -> int:
        """Return how large the export is."""
        total = 0
        async with self.client.stream("GET", "export") as response:
            async for chunk in response.aiter_bytes(65_536):
                total += len(chunk)
        return total


def careful(transport: pt.RoundTripper) -> pt.Client:
    """Return a client that signs in, keeps cookies and repeats."""
    return pt.Client(
        transport,
        auth=pt.BearerAuth("token"),
        cookies=CookieJar(),
        follow_redirects=True,
        max_redirects=3,
        retry=pt.Retry(3, status_forcelist={502, 503}, backoff_factor=0.1),
    )


def upload(client: pt.Client, file: BinaryIO) -> int:
    """Send a file, and follow what becomes of it."""
    response = client.post("files", files={"file": ("a.csv", file, "text/csv")}, data={"kind": "ledger"})
    first: pt.Response | None = response.history[0] if response.history else None
    with client.stream(
        "GET", "progress", auth=pt.BearerAuth("token") if first is None else ("user", "password")
    ) as stream:
        for event in stream.iter_events():
            if event.event == "done":
                return int(event.data)
    return 0
