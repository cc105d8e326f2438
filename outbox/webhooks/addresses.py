"""Which IP addresses may be connected to: what is globally reachable, and what settings list."""

import ipaddress
from collections.abc import Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network

# What reaches an IPv4 address by another name, or never leaves a network, whatever Python calls it.
_NEVER = tuple(
    ipaddress.ip_network(text)
    for text in (
        "::/96",  # IPv4-compatible
        "64:ff9b::/96",  # NAT64
        "64:ff9b:1::/48",  # NAT64, of a network's own
        "2001::/23",  # Teredo, ORCHID and the like
        "2002::/16",  # 6to4
        "fec0::/10",  # site-local
        "5f00::/16",  # segment routing
        "100.64.0.0/10",  # of carriers, which clouds use within
        "192.88.99.0/24",  # relays of 6to4
    )
)


def plain(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one is mapped to, or the address itself."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def is_allowed(address: Address, subnets: Iterable[Subnet] = ()) -> bool:
    """Tell whether an address may be connected to: globally reachable, or in a listed subnet."""
    address = plain(address)
    if any(address in subnet for subnet in subnets):
        return True
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not any(address in network for network in _NEVER)
    )
