"""Where connections may lead: not into the network that we stand in, unless somebody has allowed that host.

Whoever may configure a connector chooses its URL, and DNS chooses what a name means. So each connection resolves the name,
judges every address that it stands for, and connects to an address that was judged: there is no second look-up that could say
something else. TLS still verifies the name.
"""

import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from connector_resources.errors import ConfigurationError

_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address
# IANA's special-purpose registries have these too; which of them Python knows depends on its patch release.
_SPECIAL = (IPv4Network("192.0.0.0/24"), IPv4Network("192.88.99.0/24"), IPv6Network("3fff::/20"))


def resolved(host: str, port: int) -> Sequence[str]:
    """The addresses that a name stands for now, best first."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(place[0]) for *_, place in found))


@dataclass(frozen=True)
class Egress:
    """`public_only`: no private, loopback, link-local, multicast or reserved address, of either IP version, however it is
    written. `allowed`: hosts, as they stand in URLs, for which that does not hold."""

    public_only: bool = False
    allowed: frozenset[str] = frozenset()
    resolve: Callable[[str, int], Sequence[str]] = resolved

    def addresses(self, host: str, port: int) -> Sequence[str]:
        """Where a connection to this host may go. Raises ConfigurationError when one of its addresses is forbidden, and
        OSError for a name that stands for none."""
        found = self.resolve(host, port)
        if self.public_only and host.lower().strip("[]") not in self.allowed and not all(map(_public, found)):
            raise ConfigurationError(
                f"{host} leads to an address inside a private or reserved network, which connectors may not reach in "
                "production; if it is the right place, an administrator can name it in INTEGRATION_ALLOWED_HOSTS."
            )
        return found


def _public(address: str) -> bool:
    found = ip_address(address.partition("%")[0])  # without an interface
    return all(
        one.is_global
        and not (one.is_multicast or one.is_reserved or one.is_unspecified)
        and not any(one in network for network in _SPECIAL)
        for one in _meant(found)
    )


def _meant(address: IPv4Address | IPv6Address) -> Iterable[IPv4Address | IPv6Address]:
    """An address, or the ones that lie inside it: packets go there in the end."""
    if isinstance(address, IPv4Address):
        return [address]
    if address in _NAT64:
        return [IPv4Address(int(address) & 0xFFFFFFFF)]
    inside = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address.is_site_local:
        return [IPv4Address("10.0.0.0")]  # fec0::/10, which was private before RFC 3879
    return [one for one in inside if one] or [address]
