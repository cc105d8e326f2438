"""Which addresses may be connected to."""

from ipaddress import ip_address, ip_network

import pytest

from outbox.webhooks.addresses import is_allowed

pytestmark = pytest.mark.sqlite

PUBLIC = ["93.184.216.34", "1.1.1.1", "2606:2800:220:1::1", "::ffff:93.184.216.34"]
REFUSED = {
    "loopback": "127.0.0.1",
    "all of loopback": "127.8.7.6",
    "this host": "0.0.0.0",
    "private, 10": "10.0.0.1",
    "private, 172": "172.16.0.1",
    "private, 192": "192.168.1.1",
    "carrier": "100.64.0.1",
    "metadata": "169.254.169.254",
    "metadata of a cloud in IPv6": "fd00:ec2::254",
    "metadata of Alibaba": "100.100.100.200",
    "multicast": "224.0.0.1",
    "broadcast": "255.255.255.255",
    "reserved": "240.0.0.1",
    "documentation": "192.0.2.1",
    "benchmarks": "198.18.0.1",
    "protocols": "192.0.0.1",
    "6to4 relay": "192.88.99.1",
    "IPv6 loopback": "::1",
    "IPv6 unspecified": "::",
    "IPv6 link-local": "fe80::1",
    "IPv6 link-local with a zone": "fe80::1%eth0",
    "IPv6 site-local": "fec0::1",
    "IPv6 unique local": "fc00::1",
    "IPv6 multicast": "ff02::1",
    "IPv6 multicast, global": "ff0e::1",
    "IPv4-mapped loopback": "::ffff:127.0.0.1",
    "IPv4-mapped metadata": "::ffff:169.254.169.254",
    "IPv4-compatible": "::127.0.0.1",
    "NAT64 of loopback": "64:ff9b::7f00:1",
    "NAT64 of metadata": "64:ff9b::a9fe:a9fe",
    "NAT64 of a network's own": "64:ff9b:1::7f00:1",
    "6to4 of loopback": "2002:7f00:1::",
    "Teredo": "2001:0:7f00:1::",
    "ORCHID": "2001:20::1",
    "segment routing": "5f00::1",
    "IPv6 documentation": "2001:db8::1",
}


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_allowed(address: str) -> None:
    assert is_allowed(ip_address(address))


@pytest.mark.parametrize("address", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_public_is_refused(address: str) -> None:
    assert not is_allowed(ip_address(address))


def test_a_listed_subnet_is_allowed_and_no_other() -> None:
    subnets = [ip_network("10.1.0.0/16"), ip_network("fd00:1::/32")]

    assert is_allowed(ip_address("10.1.2.3"), subnets)
    assert is_allowed(ip_address("::ffff:10.1.2.3"), subnets)
    assert is_allowed(ip_address("fd00:1::7"), subnets)
    assert not is_allowed(ip_address("10.2.0.1"), subnets)
    assert not is_allowed(ip_address("fd00:2::7"), subnets)
