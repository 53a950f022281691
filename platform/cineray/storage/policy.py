"""Which machines may be asked for bytes. A host and the address it resolved to go in; nothing or a refusal comes out.

A manifest is written by strangers, so a web address in it may point at this very machine, at the next container, at a
server of the office's own network, or at the service that hands out the machine's credentials. Those addresses are
refused unless the user allows the host. The test is made on addresses, not on names, for every connection: so odd
spellings (`2130706433`), names that resolve to loopback, redirects, and names that change their answer between look-up
and use all meet it (storage/http.py). Object stores are not asked here: their endpoint comes from the user's own
environment, never from a manifest, and may well be a private one.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass

from cineray.errors import PlaceRefused

ENVIRONMENT_NAME = "CINERAY_ALLOW_HOSTS"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Where clouds answer with credentials, where the address itself does not look special.
METADATA_ADDRESSES = frozenset(
    ipaddress.ip_address(text)
    for text in ("169.254.169.254", "169.254.170.2", "fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192")
)
METADATA_HOSTS = frozenset({"metadata", "metadata.google.internal", "metadata.goog", "instance-data"})
# Spelled out, because what Python's `is_private` covers differs between versions.
_PRIVATE_NETWORKS = tuple(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7", "fec0::/10")
)
_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_IPV4_COMPATIBLE = ipaddress.ip_network("::/96")


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessPolicy:
    """The hosts, by name or by address, that may be asked although they would otherwise be refused."""

    allow_hosts: frozenset[str] = frozenset()

    @classmethod
    def from_env(cls) -> AccessPolicy:
        """From CINERAY_ALLOW_HOSTS, a list with commas: `CINERAY_ALLOW_HOSTS=localhost,10.0.0.7`."""
        names = os.environ.get(ENVIRONMENT_NAME, "").split(",")
        return cls(allow_hosts=frozenset(_bare(name) for name in names if name.strip()))

    def check_host(self, host: str) -> None:
        """Refuse the names of metadata services, whatever they resolve to."""
        if _bare(host) in METADATA_HOSTS and not self._allows(host):
            raise PlaceRefused(_refusal(host, host, "is a cloud's metadata service"))

    def check_address(self, host: str, address: str) -> None:
        """Refuse a connection to `host` that would end, or has ended, at `address`."""
        if self._allows(host) or self._allows(address):
            return
        why = why_refused(address)
        if why:
            raise PlaceRefused(_refusal(host, address, why))

    def _allows(self, host: str) -> bool:
        return _bare(host) in {_bare(name) for name in self.allow_hosts}


def why_refused(address: str) -> str:
    """The kind of forbidden address that this is, or nothing: `is loopback`, `is link-local`, ..."""
    ip = _innermost(ipaddress.ip_address(address.partition("%")[0]))
    kinds = {
        "is a cloud's metadata service": ip in METADATA_ADDRESSES,
        "is loopback": ip.is_loopback,
        "is link-local": ip.is_link_local,
        "is in a private network": any(ip in network for network in _PRIVATE_NETWORKS),
        "is multicast": ip.is_multicast,
        "is unspecified": ip.is_unspecified or (ip.version == 4 and ip in _THIS_NETWORK),
        "is broadcast": ip == ipaddress.ip_address("255.255.255.255"),
    }
    return next((kind for kind, holds in kinds.items() if holds), "")


def _innermost(ip: Address) -> Address:
    """The IPv4 address that an IPv6 one carries, where it carries one: ::ffff:127.0.0.1 is loopback too."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip.ipv4_mapped:
        return ip.ipv4_mapped
    if ip.sixtofour:
        return ip.sixtofour
    if ip in _NAT64 or (ip in _IPV4_COMPATIBLE and int(ip) > 0xFFFF):
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip


def _bare(host: str) -> str:
    return host.strip().strip("[]").rstrip(".").lower()


def _refusal(host: str, address: str, why: str) -> str:
    at = host if host == address else f"{host} (at {address})"
    return (
        f"{at} {why}, and such addresses are refused; wanted a public host. "
        f"If you trust it, allow it by name: {ENVIRONMENT_NAME}={_bare(host)}"
    )
