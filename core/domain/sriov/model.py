"""SR-IOV policies, and the physical and virtual functions of a node.

The fields mean the same as in the SR-IOV network operator: a lower number is a higher priority, and
``ens1f0#0-3`` names virtual functions 0 to 3 of a NIC.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

NETDEVICE: Final = "netdevice"
VFIO: Final = "vfio-pci"
DEVICE_TYPES: Final = (NETDEVICE, VFIO)

LEGACY: Final = "legacy"
SWITCHDEV: Final = "switchdev"

ETHERNET: Final = "eth"
INFINIBAND: Final = "ib"
LINK_TYPES: Final = (ETHERNET, INFINIBAND)
LinkType: TypeAlias = Literal["eth", "ib"]

VFS_MAX: Final = 1_024
"""Current NICs have at most 256."""

NICS_MAX: Final = 256
"""NICs of one node."""

PRIORITY_MAX: Final = 99
"""The lowest priority."""

MTU_MAX: Final = 65_535

ETHERNET_SETTINGS: Final = "trust and spoofChk"
ON_OFF_TEXTS: Final[Mapping[bool | None, str]] = {None: "", True: "on", False: "off"}
"""Values of trust and spoofChk."""

_GUID: Final = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){7}")
_RANGE: Final = re.compile(
    r"(?P<name>[^#\s]{1,15})(?:#(?P<first>[0-9]{1,4})-(?P<last>[0-9]{1,4}))?"
)
_RESOURCE: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")


class VfRange(NamedTuple):
    """Virtual functions ``first`` to ``last``, both included."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    def overlaps(self, other: VfRange) -> bool:
        return self.first <= other.last and other.first <= self.last


class NicName(NamedTuple):
    """An item of ``pfNames``. ``vfs`` None: all virtual functions of the NIC."""

    name: str
    vfs: VfRange | None = None


class NicSelector(NamedTuple):
    """Selects the NICs of a policy. A NIC must match every non-empty field."""

    names: tuple[NicName, ...] = ()
    vendor: str = ""
    device: str = ""
    root_devices: tuple[str, ...] = ()

    def is_empty(self) -> bool:
        """Whether all fields are empty, so that the selector matches no NIC."""
        return not (self.names or self.vendor or self.device or self.root_devices)


class NodePolicy(NamedTuple):
    """An SriovNetworkNodePolicy. ``vfs``: the number of virtual functions of each NIC.

    ``mtu`` 0, ``eswitch_mode`` "", ``trust`` and ``spoof_check`` None: the current value is kept.
    """

    name: str
    resource: str
    vfs: int
    nics: NicSelector
    nodes: Mapping[str, str] = {}
    priority: int = PRIORITY_MAX
    mtu: int = 0
    link_type: str = ""
    device_type: str = NETDEVICE
    is_rdma: bool = False
    eswitch_mode: str = ""
    externally_managed: bool = False
    exclude_topology: bool = False
    trust: bool | None = None
    spoof_check: bool | None = None


class VirtualFunction(NamedTuple):
    """A virtual function of a node. ``is_used``: a Pod uses the virtual function.

    ``driver`` "", ``numa_node`` -1, ``iommu_group`` "" and ``vlan`` 0: none. ``mac`` "": unknown.
    ``rdma``: RDMA devices in the node's network namespace.
    ``trust``: the virtual function may become promiscuous and change its MAC address.
    ``spoof_check``: the NIC drops packets with a foreign source address.
    ``trust``, ``spoof_check`` None: unknown or not supported.
    """

    number: int
    address: str
    driver: str = ""
    link: str = ""
    mac: str = ""
    mtu: int = 0
    is_used: bool = False
    numa_node: int = -1
    rdma: tuple[str, ...] = ()
    iommu_group: str = ""
    trust: bool | None = None
    spoof_check: bool | None = None
    vlan: int = 0


class PhysicalFunction(NamedTuple):
    """A NIC of a node that can have virtual functions. ``address``: the PCI address.

    ``is_uplink``: the NIC carries the traffic of the node itself.
    ``mac``: the MAC address, or the GUID of an InfiniBand NIC.
    ``has_carrier``: a port is up and has a signal.
    """

    name: str
    address: str
    vendor: str = ""
    device: str = ""
    mac: str = ""
    mtu: int = 1_500
    vfs_max: int = 0
    vfs: tuple[VirtualFunction, ...] = ()
    link_type: LinkType = ETHERNET
    eswitch_mode: str = LEGACY
    is_uplink: bool = False
    driver: str = ""
    has_carrier: bool = False
    numa_node: int = -1
    rdma: tuple[str, ...] = ()


class VfGuid(NamedTuple):
    """The GUID of an InfiniBand virtual function, as ``0a:00:00:00:00:00:00:01``.

    ``nic``: the PCI address of the NIC. ``nic_guid``: the GUID of the NIC.
    """

    guid: str
    nic: str
    nic_guid: str
    vf: int


class GuidClaim(NamedTuple):
    """The virtual function to which a GUID is assigned."""

    node: str
    nic: str
    nic_guid: str
    vf: int

    def is_same_function(self, other: VfGuid) -> bool:
        """Whether the virtual function is the same, even if the NIC was moved."""
        return bool(other.nic_guid) and (self.nic_guid, self.vf) == (other.nic_guid, other.vf)


class NodeGuids(NamedTuple):
    """The GUIDs of a node's virtual functions."""

    node: str
    guids: tuple[VfGuid, ...]


class PolicyProblem(NamedTuple):
    """A field that no node can accept, and the reason."""

    field: str
    message: str


def parse_nic_name(text: str) -> NicName | None:
    """Parse an item of ``pfNames``; None: the item is malformed."""
    match = _RANGE.fullmatch(text)
    if match is None:
        return None
    if match["first"] is None:
        return NicName(match["name"])
    vfs = VfRange(int(match["first"]), int(match["last"]))
    return NicName(match["name"], vfs) if vfs.first <= vfs.last < VFS_MAX else None


def is_guid(text: str) -> bool:
    """Whether the text is a GUID in the stored form."""
    return _GUID.fullmatch(text) is not None


def policy_problems(policy: NodePolicy) -> list[PolicyProblem]:
    """The fields that no node can accept."""
    problems = [
        *_outside("priority", policy.priority, 0, PRIORITY_MAX),
        *_outside("numVfs", policy.vfs, 0, VFS_MAX),
        *_outside("mtu", policy.mtu, 0, MTU_MAX),
        *_not_in("deviceType", policy.device_type, DEVICE_TYPES),
        *_not_in("linkType", policy.link_type, ("", *LINK_TYPES)),
        *_not_in("eSwitchMode", policy.eswitch_mode, ("", LEGACY, SWITCHDEV)),
    ]
    if not _RESOURCE.fullmatch(policy.resource):
        text = f"{policy.resource[:80]!r} is not a name: letters, digits, '-', '_' and '.'"
        problems.append(PolicyProblem("resourceName", text))
    if policy.nics.is_empty():
        text = "it selects no NIC; set pfNames, rootDevices, vendor or deviceID"
        problems.append(PolicyProblem("nicSelector", text))
    if policy.is_rdma and policy.device_type == VFIO:
        problems.append(PolicyProblem("isRdma", f"deviceType {VFIO} has no RDMA device"))
    if policy.link_type == INFINIBAND and has_ethernet_settings(policy):
        text = f"{ETHERNET_SETTINGS} exist only for Ethernet"
        problems.append(PolicyProblem("linkType", text))
    for item in policy.nics.names:
        if item.vfs is not None and item.vfs.last >= policy.vfs:
            least = item.vfs.last + 1
            text = f"{item.name}#{item.vfs} needs at least numVfs {least}, not {policy.vfs}"
            problems.append(PolicyProblem("nicSelector.pfNames", text))
    return problems


def has_ethernet_settings(policy: NodePolicy) -> bool:
    """Whether the policy has settings that exist only for Ethernet."""
    return policy.trust is not None or policy.spoof_check is not None


def _outside(field: str, value: int, least: int, most: int) -> list[PolicyProblem]:
    if least <= value <= most:
        return []
    return [PolicyProblem(field, f"{value} is not from {least} to {most}")]


def _not_in(field: str, value: str, allowed: tuple[str, ...]) -> list[PolicyProblem]:
    if value in allowed:
        return []
    names = " or ".join(filter(None, allowed))
    return [PolicyProblem(field, f"{value[:80]!r} is not {names}")]
