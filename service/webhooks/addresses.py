"""Where webhooks may go: a tenant's address must not make the service talk to what only the service can reach."""

import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

IpAddress = IPv4Address | IPv6Address

LONGEST_URL: Final = 2_000
PORTS: Final = {"https": 443, "http": 80}
_NAT64: Final = IPv6Network("64:ff9b::/96")


class BlockedAddress(Exception):
    """The host has no address that webhooks may go to."""


def parse_url(url: str, *, production: bool) -> SplitResult:
    """Take an address apart. ValueError says why webhooks cannot go there.

    https everywhere; in development also http, to this machine.
    """
    parts = urlsplit(url)
    if len(url) > LONGEST_URL or not (url.isascii() and url.isprintable()) or " " in url:
        raise ValueError(f"a webhook's URL is at most {LONGEST_URL} printable ASCII characters without spaces")
    if parts.scheme not in PORTS or not parts.hostname:
        raise ValueError("a webhook's URL must be https://host/...")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ValueError("a webhook's URL has no user, password or fragment")
    try:
        literal = ip_address(parts.hostname)
    except ValueError:
        literal = None
    if literal is not None and not may_reach(literal, parts.scheme, production=production):
        raise ValueError("webhooks do not go to this address: it is not a public one")
    if parts.scheme == "http" and (production or (literal is None and parts.hostname != "localhost")):
        raise ValueError("webhooks go to https:// addresses (in development also to http://localhost)")
    port_of(parts)
    try:
        parts.hostname.encode("idna")
    except UnicodeError:
        raise ValueError("a webhook's URL must name a host that can exist") from None
    return parts


def port_of(parts: SplitResult) -> int:
    """The port of an address; ValueError for one that cannot be."""
    return parts.port or PORTS[parts.scheme]


def resolve(parts: SplitResult, *, production: bool) -> str:
    """The one address to connect to: asked for once, and not again when connecting, so that no second answer counts.

    Raises OSError for a host that is not known, BlockedAddress for one without an allowed address.
    """
    host = str(parts.hostname)
    for _, _, _, _, place in socket.getaddrinfo(host, port_of(parts), type=socket.SOCK_STREAM):
        address = str(place[0])
        if may_reach(ip_address(address.partition("%")[0]), parts.scheme, production=production):
            return address
    raise BlockedAddress(host)


def may_reach(address: IpAddress, scheme: str, *, production: bool) -> bool:
    """Public addresses; in development also those of this machine and its network, and by http this machine only.

    Never link-local ones: there clouds keep the credentials of the machine.
    """
    return all(_may_reach(meant, scheme, production=production) for meant in _meanings(address))


def _may_reach(address: IpAddress, scheme: str, *, production: bool) -> bool:
    if address.is_multicast or address.is_link_local or address.is_unspecified:
        return False
    if scheme == "http":
        return address.is_loopback and not production
    return address.is_global or (not production and (address.is_private or address.is_loopback))


def _meanings(address: IpAddress) -> Iterator[IpAddress]:
    """The address, and the IPv4 one that it carries within: some network may send it there."""
    if isinstance(address, IPv4Address):
        yield address
        return
    carried = [address.ipv4_mapped, address.sixtofour, address.teredo and address.teredo[1]]
    if address in _NAT64:
        carried.append(IPv4Address(int(address) & 0xFFFFFFFF))
    if address.ipv4_mapped is None:
        yield address
    yield from (inner for inner in carried if inner is not None)
