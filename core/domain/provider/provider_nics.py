"""Find the NICs and addresses that a network provider binds. Pure.

See docs/reference/networks.md, "Addresses of a network provider".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Interface
from typing import Final, NamedTuple

from core.domain.model import Endpoint
from core.errors import BadInput

CNI_TYPE: Final = "vlan"
VLAN_MODE: Final = "auto"


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
    """Whether the provider binds NICs of this type and mode."""
    return (cni_type, vlan_mode) == (CNI_TYPE, VLAN_MODE)


def parents_of(nics: Iterable[NicConfiguration]) -> dict[str, str]:
    """NIC that the provider binds -> MAC address of the master. Raises BadInput."""
    parents = {}
    for nic in nics:
        if not is_bound_by_provider(nic.cni_type, nic.vlan_mode):
            continue
        if not nic.parent_mac:
            raise BadInput(
                f"the master of {nic.interface} has no MAC address",
                subject=nic.interface,
                remedy="make sure that the master in the SpiderMultusConfig exists on the node",
            )
        parents[nic.interface] = nic.parent_mac
    return parents


def addresses_of(endpoint: Endpoint, parents: Mapping[str, str]) -> tuple[ProviderAddress, ...]:
    """The IPv4 addresses of the NICs in ``parents``."""
    return tuple(
        ProviderAddress(
            nic.ipv4.partition("/")[0],
            str(IPv4Interface(nic.ipv4).network),
            parents[nic.interface],
        )
        for nic in endpoint.nics
        if nic.ipv4 and nic.interface in parents
    )
