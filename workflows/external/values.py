"""Orders to the provider as values: what is claimed and bound, and which NICs take part. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Interface
from typing import Final, NamedTuple

from core.domain.events import ReleaseReason
from core.domain.model import Endpoint
from core.errors import BadInput
from core.service.binder import Claims

CNI_TYPE: Final = "vlan"
VLAN_MODE: Final = "auto"


class NicFacts(NamedTuple):
    """What is known of one NIC's SpiderMultusConfig, and of its master on the host."""

    interface: str
    cni_type: str = ""
    vlan_mode: str = ""
    parent_mac: str = ""


class Address(NamedTuple):
    """One address that the provider binds, on a NIC of the host."""

    address: str
    subnet: str
    parent_mac: str


class Order(NamedTuple):
    """One endpoint: ``addresses`` are bound outside, ``claims`` end together with them.

    ``deadline_ms``: how long the caller waits for a bind (Unix).
    """

    namespace: str
    endpoint: str
    pod: str
    uid: str
    node: str
    addresses: tuple[Address, ...]
    claims: Claims
    deadline_ms: int = 0

    @property
    def key(self) -> tuple[str, str]:
        """(namespace, name) of the endpoint."""
        return self.namespace, self.endpoint

    @property
    def workflow_id(self) -> str:
        """One execution at a time for one Pod: binding and giving back never overlap."""
        return f"external/{self.namespace}/{self.endpoint}/{self.uid}"


class GiveBack(NamedTuple):
    """What shall be given back, and why."""

    order: Order
    reason: ReleaseReason
    evidence: str


class Bound(NamedTuple):
    """What the provider chose for one address; "" and 0: nothing."""

    address: str
    mac: str = ""
    vlan: int = 0


class Result(NamedTuple):
    """``bound`` after a bind; empty after giving back, which ``why`` tells of."""

    bound: tuple[Bound, ...]
    why: str = ""


def parents_of(nics: Iterable[NicFacts]) -> dict[str, str]:
    """Interface -> MAC of its master, of the NICs that take part. Raises BadInput.

    Those of cniType vlan with vlanMode auto: leaving the VLAN id out is not enough.
    """
    found = {}
    for nic in nics:
        if (nic.cni_type, nic.vlan_mode) != (CNI_TYPE, VLAN_MODE):
            continue
        if not nic.parent_mac:
            raise BadInput(
                f"the master of {nic.interface} has no MAC address on this node",
                subject=nic.interface,
                remedy="see that the master that the SpiderMultusConfig names exists there",
            )
        found[nic.interface] = nic.parent_mac
    return found


def addresses_of(endpoint: Endpoint, parents: Mapping[str, str]) -> tuple[Address, ...]:
    """The addresses of an endpoint that the provider binds: IPv4, on NICs that take part."""
    return tuple(
        Address(
            nic.ipv4.partition("/")[0],
            str(IPv4Interface(nic.ipv4).network),
            parents[nic.interface],
        )
        for nic in endpoint.nics
        if nic.ipv4 and nic.interface in parents
    )
