"""Which requests and addresses may be connected to at all: ``https_only`` and ``allow_address`` (contract 5.8).

What has no address that we would see (a proxy looks names up itself) is refused before anything is dialed, and so
before any connection of the pool is looked for. Addresses are judged by each dial, after its look-up and before its
first connect: what lies in the pool was judged when it was made, and a name that changes its answer changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pooltransport.errors import AddressRefused, ConnectAttempt, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pooltransport.core.keys import ConnectKey
    from pooltransport.options import TransportOptions
    from pooltransport.proxy_url import Proxy
    from pooltransport.runtime.protocols import Address


def check_way(options: TransportOptions, scheme: str, host: str, port: int, proxy: Proxy | None) -> None:
    """Raise for an origin that no connection may be made to.

    `InvalidRequest` for http with ``https_only``; `AddressRefused` where `allow_address` would see no address.
    """
    if scheme == "https" or not options.https_only:
        if options.allow_address is None or options.allow_address_through_proxy:
            return
        way = f"the proxy {proxy}" if proxy is not None else _own_way(options)
        if way is None:
            return
        raise AddressRefused(
            f"{_origin(scheme, host, port)}: this request would go through {way}, where allow_address sees no address "
            f"of the server; allow_address_through_proxy=True lets it pass [{AddressRefused.code}]"
        )
    raise InvalidRequest(f"https_only: {_origin(scheme, host, port)} is plain http; nothing was sent")


def _own_way(options: TransportOptions) -> str | None:
    if options.uds is not None:
        return "the Unix socket of uds="
    return "the dial= callable" if options.dial is not None else None


def _origin(scheme: str, host: str, port: int) -> str:
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def allowed_of(
    options: TransportOptions, key: ConnectKey, addresses: Sequence[Address], attempts: list[ConnectAttempt]
) -> Sequence[Address]:
    """Return those of `addresses` that may be connected to; `attempts` gets a row for each other.

    Raises `AddressRefused` if none is left, or, chained, for what the callable raises or wrongly returns.
    """
    judge = options.allow_address
    if judge is None or key.proxy is not None or key.uds is not None:
        return addresses
    from ipaddress import ip_address  # noqa: PLC0415 - 2 ms, for who asks

    from pooltransport.peer_address import PeerAddress  # noqa: PLC0415 - as above

    host = key.first_hop[0]
    allowed, refused = [], []
    for address in addresses:
        sockaddr: Any = address.sockaddr
        text = sockaddr[0]
        if len(sockaddr) == 4 and sockaddr[3] and "%" not in text:
            text = f"{text}%{sockaddr[3]}"
        if _answer(judge, PeerAddress(host, sockaddr[1], ip_address(text)), key.origin):
            allowed.append(address)
        else:
            refused.append(text)
            attempts.append(ConnectAttempt(address.text, PermissionError("refused by allow_address")))
    if not allowed:
        raise AddressRefused(
            f"cannot connect to {key.origin}: allow_address refused {', '.join(refused)} [{AddressRefused.code}]",
            refused=refused,
            attempts=attempts,
        )
    return allowed


def _answer(judge: Any, peer: Any, where: str) -> bool:
    """Ask the callable. What it breaks is this dial alone."""
    try:
        answer = judge(peer)
    except Exception as error:
        raise AddressRefused(
            f"{where}: the allow_address= callable raised {type(error).__name__} for {peer.ip}: {error} "
            f"[{AddressRefused.code}]",
            refused=(str(peer.ip),),
        ) from error
    if isinstance(answer, bool):
        return answer
    if hasattr(answer, "cr_code"):
        answer.close()  # a coroutine that nobody will await
    raise AddressRefused(
        f"{where}: the allow_address= callable returned {type(answer).__name__} for {peer.ip}: it must return True or "
        f"False [{AddressRefused.code}]",
        refused=(str(peer.ip),),
    )
