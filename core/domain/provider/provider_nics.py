"""Find the addresses that a network provider binds, and the NICs with these addresses. Pure.

See docs/reference/networks.md, "Addresses of a network provider".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Interface
from typing import Final, NamedTuple

from core.domain.model import Endpoint
from core.errors import BadInput

BOUND_CNI_TYPE: Final = "vlan"
BOUND_VLAN_MODE: Final = "auto"


class NicConfiguration(NamedTuple):
    """Fields of one NIC's SpiderMultusConfig. ``parent_mac``: the MAC address of the master."""

    interface: str
    cni_type: str = ""
    vlan_mode: str = ""
    parent_mac: str = ""


class ProviderAddress(NamedTuple):
    """One address that the provider binds to a master."""

    address: str
    subnet: str
    parent_mac: str


def is_bound_by_provider(cni_type: str, vlan_mode: str) -> bool:
    """Whether the provider binds the addresses of NICs of this type and mode."""
    return (cni_type, vlan_mode) == (BOUND_CNI_TYPE, BOUND_VLAN_MODE)


def parent_macs_of(nics: Iterable[NicConfiguration]) -> dict[str, str]:
    """NIC with addresses that the provider binds -> MAC address of the master. Raises BadInput."""
    parent_macs = {}
    for nic in nics:
        if not is_bound_by_provider(nic.cni_type, nic.vlan_mode):
            continue
        if not nic.parent_mac:
            raise BadInput(
                f"the master of {nic.interface} has no MAC address",
                subject=nic.interface,
                remedy="make sure that the master in the SpiderMultusConfig exists on the node",
            )
        parent_macs[nic.interface] = nic.parent_mac
    return parent_macs


def addresses_of(endpoint: Endpoint, parent_macs: Mapping[str, str]) -> tuple[ProviderAddress, ...]:
    """The IPv4 addresses of the NICs in ``parent_macs``."""
    return tuple(
        ProviderAddress(
            nic.ipv4.partition("/")[0],
            str(IPv4Interface(nic.ipv4).network),
            parent_macs[nic.interface],
        )
        for nic in endpoint.nics
        if nic.ipv4 and nic.interface in parent_macs
    )
