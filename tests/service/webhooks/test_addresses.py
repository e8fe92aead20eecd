"""Where webhooks may go, and where they may not however the address is written."""

import socket
from ipaddress import ip_address
from typing import Any

import pytest

from service.webhooks.addresses import BlockedAddress, may_reach, parse_url, resolve

INNER = [
    *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1"),
    *("::1", "::", "fe80::1", "fd00:ec2::254", "ff02::1"),
    *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:7f00:1::"),
]
OUTER = ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"]


@pytest.mark.parametrize("address", INNER)
def test_in_production_no_inner_address_is_reached(address: str) -> None:
    assert not may_reach(ip_address(address), "https", production=True)


@pytest.mark.parametrize("address", OUTER)
def test_public_addresses_are_reached_by_https_only(address: str) -> None:
    for production in (True, False):
        assert may_reach(ip_address(address), "https", production=production)
        assert not may_reach(ip_address(address), "http", production=production)


def test_in_development_this_machine_and_its_network_are_reached_but_never_the_metadata_service() -> None:
    assert may_reach(ip_address("127.0.0.1"), "http", production=False)
    assert may_reach(ip_address("10.1.2.3"), "https", production=False)
    assert not may_reach(ip_address("10.1.2.3"), "http", production=False)
    for address in ("169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "0.0.0.0"):
        assert not may_reach(ip_address(address), "https", production=False)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/hook",
        "http://localhost/hook",
        "ftp://example.com/hook",
        "https:///hook",
        "example.com/hook",
        "https://user:password@example.com/",
        "https://example.com/#part",
        "https://example.com/a b",
        "https://exämple.com/",
        "https://example.com:99999/",
        "https://[::1/",
        "https://a..b.example.com/",
        "https://" + "x" * 64 + ".com/",
        "https://10.0.0.1/",
        "https://[::ffff:127.0.0.1]/",
        "https://example.com/" + "x" * 2_000,
    ],
)
def test_what_is_no_public_https_url_is_refused_in_production(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_url(url, production=True)


def test_a_url_is_taken_as_it_is() -> None:
    assert parse_url("https://example.com:8443/hook?a=b", production=True).port == 8443
    assert parse_url("http://localhost:9000/hook", production=False).port == 9000
    assert parse_url("http://127.0.0.1:9000/hook", production=False).port == 9000
    with pytest.raises(ValueError, match="http://localhost"):
        parse_url("http://example.com/hook", production=False)


def test_of_a_host_s_addresses_the_first_allowed_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(*addresses: str) -> None:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in addresses]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)

    parts: Any = parse_url("https://example.com/hook", production=True)
    answer("10.0.0.1", "93.184.216.34")
    assert resolve(parts, production=True) == "93.184.216.34"
    answer("10.0.0.1", "169.254.169.254")
    with pytest.raises(BlockedAddress):
        resolve(parts, production=True)
