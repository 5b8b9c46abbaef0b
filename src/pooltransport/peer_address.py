"""What ``allow_address=`` is asked, and the ready answer `public_only`.

The table is our own, not `ipaddress`' ``is_global``: that one follows a registry which differs between versions of
Python, lets multicast pass, and knows nothing of the clouds' own addresses. IPv4 is a list of what is refused; IPv6
one of what may pass, since nothing outside of 2000::/3 was ever given to anybody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address


class PeerAddress(NamedTuple):
    """An address that is about to be connected to. `host`: the URL's, as it was looked up. `ip`: an
    `ipaddress.IPv4Address` or `IPv6Address`, with its zone if it has one (``ip.scope_id``).
    """

    host: str
    port: int
    ip: IPv4Address | IPv6Address


# Network, as the number of its first address and how many bits are fixed (RFC 6890 and its registry).
_REFUSED_4 = (
    (0x00000000, 8),  # 0/8: this network; Linux takes 0.0.0.0 for loopback
    (0x0A000000, 8),  # 10/8: private
    (0x64400000, 10),  # 100.64/10: shared by carriers (RFC 6598); Kubernetes nodes, Tailscale, Alibaba's metadata
    (0x7F000000, 8),  # 127/8: loopback
    (0xA83F8110, 32),  # 168.63.129.16: Azure's host of each machine, inside though it looks public
    (0xA9FE0000, 16),  # 169.254/16: link-local, with the metadata services
    (0xAC100000, 12),  # 172.16/12: private
    (0xC0000000, 24),  # 192.0.0/24: protocol assignments; Oracle's metadata
    (0xC0000200, 24),  # 192.0.2/24: documentation
    (0xC0586300, 24),  # 192.88.99/24: relays of 6to4
    (0xC0A80000, 16),  # 192.168/16: private
    (0xC6120000, 15),  # 198.18/15: benchmarks
    (0xC6336400, 24),  # 198.51.100/24: documentation
    (0xCB007100, 24),  # 203.0.113/24: documentation
    (0xE0000000, 4),  # 224/4: multicast
    (0xF0000000, 4),  # 240/4: reserved, and the broadcast address
)
_GLOBAL_6 = (0x2000 << 112, 3)
_NAT64 = (0x0064FF9B << 96, 96)  # 64:ff9b::/96 (RFC 6052): the IPv4 address behind it is the one that counts
_REFUSED_6 = (
    (0x2001 << 112, 23),  # 2001::/23: protocol assignments, Teredo (2001::/32) and ORCHID among them
    (0x20010DB8 << 96, 32),  # 2001:db8::/32: documentation
    (0x2002 << 112, 16),  # 2002::/16: 6to4
    (0x3FFE << 112, 16),  # 3ffe::/16: the 6bone, given back
    (0x3FFF << 112, 20),  # 3fff::/20: documentation
)


def public_only(peer: PeerAddress | IPv4Address | IPv6Address) -> bool:
    """Report whether `peer`, or an address of `ipaddress`, is one of the public internet: for ``allow_address=``.

    False for loopback, private and unique local, link-local, 100.64/10, multicast, broadcast, unspecified,
    documentation, benchmark and reserved addresses; for IPv4-mapped and -compatible ones, 6to4, Teredo, and whatever
    is outside of 2000::/3; for an address with a zone; and for the metadata and host services of clouds. Addresses of
    NAT64's well-known prefix are judged by the IPv4 address in them.
    """
    ip = peer.ip if isinstance(peer, PeerAddress) else peer
    number = int(ip)
    if ip.version == 4:
        return not any(_is_in(number, *network, 32) for network in _REFUSED_4)
    if ip.scope_id:
        return False
    if _is_in(number, *_NAT64, 128):
        embedded = number & 0xFFFFFFFF
        return not any(_is_in(embedded, *network, 32) for network in _REFUSED_4)
    return _is_in(number, *_GLOBAL_6, 128) and not any(_is_in(number, *network, 128) for network in _REFUSED_6)


def _is_in(number: int, first: int, fixed: int, width: int) -> bool:
    return (number ^ first) >> (width - fixed) == 0
