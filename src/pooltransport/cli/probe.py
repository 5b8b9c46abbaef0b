"""`probe`: one address, step by step. Built on hooks, as anybody could: it knows what a `ClientTrace` is told."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING, Any

from pooltransport.client import Client
from pooltransport.engine.reasons import dns_reason, reason
from pooltransport.engine.routes import Routes
from pooltransport.errors import DNSError, Error, TransportTimeout
from pooltransport.trace import ClientTrace
from pooltransport.transport import Transport

from . import certificates, endings
from .endings import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pooltransport.models import Request
    from pooltransport.proxy_url import Proxy
    from pooltransport.trace import ConnectDoneInfo, DNSDoneInfo, GotConnInfo, TLSHandshakeDoneInfo, TLSInfo
    from pooltransport.url import URL

    from .certificates import Certificate, Chain

DONE, FAILED, LEFT = "ok", "failed", "left"  # left: nobody needed it any more


class Step:
    """One part of a request. `start`, `end`: seconds since the request began; `end` is None while it goes on."""

    __slots__ = ("detail", "end", "name", "outcome", "start")

    def __init__(self, name: str, start: float, detail: str = "") -> None:
        self.name = name
        self.start = start
        self.end: float | None = None
        self.outcome = ""
        self.detail = detail

    def finish(self, now: float, outcome: str, detail: str = "") -> None:
        """It has ended."""
        self.end, self.outcome = now, outcome
        self.detail = detail or self.detail

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.start if self.end is None else self.end) - self.start

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "name": self.name,
            "start_ms": _ms(self.start),
            "ms": _ms(self.seconds),
            "outcome": self.outcome,
            "detail": self.detail,
        }


class Exchange:
    """One request and what was told of it. Hooks of a dial come from other threads: each adds or ends one step."""

    def __init__(self, number: int, via: Proxy | None, *, tunnel: bool) -> None:
        self.number = number
        self.steps: list[Step] = []
        self.addresses: Sequence[str] = ()
        self.conn: GotConnInfo | None = None
        self.tls: TLSInfo | None = None
        self.certificate: Certificate | None = None
        self.chains: dict[str, Chain] = {}
        self.status: tuple[str, int, str] | None = None
        self.size = 0
        self.pooled: bool | None = None
        self.not_pooled_because = ""
        self.error: Error | None = None
        self.total = 0.0
        self._via, self._tunnel = via, tunnel
        self._open: dict[object, Step] = {}
        self._began = time.monotonic()

    # -- what is told ---------------------------------------------------------------------------

    def trace(self) -> ClientTrace:
        """Return the hooks that it listens by."""
        return ClientTrace(
            dns_start=lambda info: self._start("look-up", "dns", info.host),
            dns_done=self._dns_done,
            connect_start=lambda info: self._start("connect", ("connect", info.address), info.address),
            connect_done=self._connect_done,
            tls_handshake_start=lambda info: self._tls_start(info.server_hostname or ""),
            tls_handshake_done=self._tls_done,
            got_conn=self._got_conn,
            wrote_request=self._wrote,
            got_first_response_byte=self._first_byte,
            put_idle_conn=self._put_idle,
        )

    def _now(self) -> float:
        return time.monotonic() - self._began

    def _start(self, name: str, key: object, detail: str = "", at: float | None = None) -> None:
        step = Step(name, self._now() if at is None else at, printable(detail))
        self._open[key] = step
        self.steps.append(step)

    def _finish(self, key: object, outcome: str, detail: str = "") -> None:
        step = self._open.pop(key, None)
        if step is not None:
            step.finish(self._now(), outcome, printable(detail))

    def _dns_done(self, info: DNSDoneInfo) -> None:
        if info.error is None:
            self.addresses = info.addresses
            self._finish("dns", DONE, f"{info.host}: {', '.join(info.addresses)}")
        else:
            cause = info.error.__cause__ if isinstance(info.error, DNSError) else None
            self._finish("dns", FAILED, f"{info.host}: {dns_reason(cause or info.error)}")

    def _connect_done(self, info: ConnectDoneInfo) -> None:
        if info.error is None:
            self._finish(("connect", info.address), DONE)
            return
        beaten = isinstance(info.error, OSError) and info.error.errno == errno.ECANCELED
        why = "another address was faster" if beaten else reason(info.error)
        self._finish(("connect", info.address), LEFT if beaten else FAILED, f"{info.address}: {why}")

    def _tls_start(self, name: str) -> None:
        to_proxy = self._via is not None and self._via.scheme == "https"
        if not to_proxy or any(step.name == "TLS" for step in self.steps):
            self._pass_proxy()
        self._start("TLS", ("tls", name), name)

    def _tls_done(self, info: TLSHandshakeDoneInfo) -> None:
        name = info.server_hostname or ""
        if info.error is None and info.tls is not None:
            self.tls = info.tls
            self._finish(("tls", name), DONE, f"{info.tls.version}, {info.tls.cipher}")
        else:
            self._finish(("tls", name), FAILED)

    def _pass_proxy(self) -> None:
        """What lies between the proxy's connection and the tunnel's use was spent on its handshake."""
        ended = [step.end for step in self.steps if step.end is not None and step.outcome == DONE]
        if self._via is not None and self._tunnel and ended and not any(step.name == "proxy" for step in self.steps):
            self._start("proxy", "proxy", str(self._via), at=max(ended))
            self._finish("proxy", DONE)

    def _got_conn(self, info: GotConnInfo) -> None:
        self.conn = info
        if not info.reused:
            self._pass_proxy()
        self._start("send", "send")

    def _wrote(self, error: BaseException | None) -> None:
        self._finish("send", DONE if error is None else FAILED)
        if error is None:
            self._start("first byte", "wait")

    def _first_byte(self, _: object) -> None:
        self._finish("wait", DONE)
        self._start("receive", "receive")

    def _put_idle(self, error: BaseException | None) -> None:
        self.pooled = error is None
        self.not_pooled_because = "" if error is None else printable(str(error))

    # -- the end --------------------------------------------------------------------------------

    def run(self, transport: Transport, request: Request) -> None:
        """Make the request, which has `trace()`; `error` says whether it failed."""
        self._began = time.monotonic()
        try:
            with transport.round_trip(request) as response:
                self.status = response.http_version, response.status_code, printable(response.reason)
                for piece in response.iter_raw():
                    self.size += len(piece)
            self._finish("receive", DONE, f"{self.size:,} bytes")
        except Error as error:
            self.error = error
        self.total = self._now()
        how = "not in time" if isinstance(self.error, TransportTimeout) else "broken off"
        for key in tuple(self._open):
            self._finish(key, FAILED, how)

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        conn, tls, error = self.conn, self.tls, self.error
        return {
            "number": self.number,
            "ok": error is None,
            "error": None if error is None else _error(error),
            "total_ms": _ms(self.total),
            "addresses": list(self.addresses),
            "steps": [step.to_dict() for step in self.steps],
            "connection": None
            if conn is None
            else {
                "id": conn.id,
                "reused": conn.reused,
                "local": conn.local_addr,
                "remote": conn.remote_addr,
                "returned_to_pool": self.pooled,
                "not_returned_because": self.not_pooled_because or None,
            },
            "tls": None if tls is None else {"version": tls.version, "cipher": tls.cipher, "alpn": tls.alpn},
            "certificate": None if self.certificate is None else self.certificate.to_dict(),
            "answer": None
            if self.status is None
            else dict(zip(("http_version", "status", "reason", "bytes"), (*self.status, self.size), strict=True)),
        }


class Report:
    """All requests of one probe. `exchanges` are in order; the last one may have failed."""

    def __init__(self, url: URL, via: Proxy | None) -> None:
        self.url = url
        self.via = via
        self.exchanges: list[Exchange] = []

    @property
    def error(self) -> Error | None:
        """What ended it."""
        return self.exchanges[-1].error

    @property
    def exit_status(self) -> int:
        """0, or the status of what failed."""
        return endings.OK if self.error is None else endings.status_of(self.error)

    def to_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints; `probe.schema.json` describes it."""
        return {
            "schema": 1,
            "origin": self.url.origin,
            "proxy": None if self.via is None else str(self.via),
            "ok": self.error is None,
            "exit_status": self.exit_status,
            "message": None if self.error is None else endings.sentence(self.error, self.url.scheme),
            "requests": [exchange.to_dict() for exchange in self.exchanges],
        }


def probe(
    url: URL,
    *,
    method: str = "GET",
    headers: Any = None,
    timeout: float = 30.0,
    count: int = 1,
    options: dict[str, Any],
    insecure: bool = False,
) -> Report:
    """Make up to `count` requests over one transport made from `options`, until one fails.

    Raises `ConfigError` and `InvalidRequest` for what cannot be tried at all.
    """
    load_before_the_clock_runs()
    ca_file = options.pop("ca_file", None)
    chains: dict[str, Chain] = {}
    if url.scheme == "https" or str(options.get("proxy")).startswith("https:"):
        options["ssl_context"] = certificates.make_context(ca_file, insecure=insecure, told=chains.__setitem__)
    with Transport(leak_detection="off", **options) as transport:
        via = Routes(transport.options).proxy_for(url.scheme, url.host, url.port)
        tunnel = via is not None and (url.scheme == "https" or via.is_socks)
        report = Report(url, via)
        for number in range(1, count + 1):
            exchange = Exchange(number, via, tunnel=tunnel)
            report.exchanges.append(exchange)
            # The client's request (User-Agent, credentials of the URL), without the client: nothing is followed.
            client = Client(transport, timeout=timeout)
            exchange.run(transport, client.build_request(method, url, headers=headers, trace=exchange.trace()))
            if url.scheme == "https":
                name = url.host.rstrip(".")
                refused = [] if exchange.error is None else certificates.shown_in(exchange.error)
                verified = None if insecure else not refused
                exchange.certificate = certificates.read(refused or chains.get(name, []), name, verified=verified)
                if exchange.tls is None and number > 1:
                    exchange.tls = report.exchanges[0].tls
            if exchange.error is not None:
                break
    return report


def load_before_the_clock_runs() -> None:
    """Load now what the first request would load inside a step."""
    import pooltransport.runtime.threads  # noqa: F401, PLC0415
    from pooltransport.core.http1.codecs import codec_class  # noqa: PLC0415

    codec_class("auto")


def _error(error: Error) -> dict[str, Any]:
    return {
        "type": type(error).__name__,
        "text": printable(str(error).partition("\n")[0]),
        "phase": getattr(error, "phase", None) or None,
        "code": getattr(error, "code", None),
    }


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
