"""An address that is not public is not connected to, however it is written."""

from __future__ import annotations

import ipaddress

import pytest

from anzoth.gateway.egress.addresses import may_connect

NOT_PUBLIC = [
    *("127.0.0.1", "127.8.9.1", "0.0.0.0", "0.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1"),
    *("169.254.169.254", "169.254.170.2", "100.64.0.1", "100.100.100.200", "192.0.0.192"),
    *("168.63.129.16", "192.88.99.1", "198.18.0.1", "192.0.2.1", "203.0.113.9", "240.0.0.1"),
    *("255.255.255.255", "224.0.0.251", "239.255.255.250"),
    *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1"),
    *("2001:db8::1", "100::1", "5f00::1", "3fff::1", "64:ff9b:1::a9fe:a9fe"),
]
# Each carries the metadata address or the loopback one, or a public one that is not listed.
CARRIERS = [
    *("::ffff:169.254.169.254", "::ffff:7f00:1", "::169.254.169.254", "::ffff:0:127.0.0.1"),
    *("64:ff9b::a9fe:a9fe", "64:ff9b::808:808", "2002:a9fe:a9fe::", "2002:7f00:1::1"),
    *("2001:0:1:2:3:4:5601:5601", "::ffff:8.8.8.8"),
]


@pytest.mark.parametrize("address", [*NOT_PUBLIC, *CARRIERS])
def test_what_is_not_public_is_refused(address: str) -> None:
    assert not may_connect(address, ())


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "2a00:1450::64"])
def test_what_is_public_is_not(address: str) -> None:
    assert may_connect(address, ())


@pytest.mark.parametrize(
    "text",
    ["", "localhost", "2130706433", "0x7f000001", "127.1", "0177.0.0.1", "8.8.8.8 ", "[::1]"],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    assert not may_connect(text, [ipaddress.ip_network("0.0.0.0/0")])


def test_a_listed_network_may_be_connected_to() -> None:
    listed = [ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("::1/128")]
    assert may_connect("10.1.255.255", listed)
    assert may_connect("::1", listed)
    assert not may_connect("10.2.0.0", listed)
    assert not may_connect("127.0.0.1", listed)


def test_an_address_within_an_address_must_be_listed_too() -> None:
    nat64 = [ipaddress.ip_network("64:ff9b::/96")]
    assert may_connect("64:ff9b::808:808", nat64)
    assert not may_connect("64:ff9b::a9fe:a9fe", nat64)
    assert not may_connect("64:ff9b::a01:1", nat64)
    assert may_connect("64:ff9b::a01:1", [*nat64, ipaddress.ip_network("10.0.0.0/8")])
    assert not may_connect("::ffff:10.0.0.1", [ipaddress.ip_network("10.0.0.0/8")])


@pytest.mark.parametrize("address", ["224.0.0.1", "0.0.0.0", "::", "ff02::1"])
def test_what_is_no_host_is_refused_though_it_is_listed(address: str) -> None:
    listed = [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")]
    assert not may_connect(address, listed)
