"""Virtual functions as policies describe them, and as a node has them.

A policy is an SriovNetworkNodePolicy, whose fields mean what they mean to the SR-IOV network
operator: the lower number is the higher priority, and ``ens1f0#0-3`` names virtual functions 0 to 3
of a NIC. Facts are what the kernel says of a node's NICs. Plain values: nothing is read here.
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
"""Virtual functions of one NIC; cards of today have at most 256."""

POLICIES_MAX: Final = 1_024
NICS_MAX: Final = 256
PRIORITY_MAX: Final = 99
MTU_MAX: Final = 65_535

_GUID: Final = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){7}")
_RANGE: Final = re.compile(
    r"(?P<name>[^#\s]{1,15})(?:#(?P<first>[0-9]{1,4})-(?P<last>[0-9]{1,4}))?"
)
_RESOURCE: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")


class VfRange(NamedTuple):
    """Virtual functions ``first`` to ``last`` of a NIC, both included."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    def overlaps(self, other: VfRange) -> bool:
        """Whether both have a virtual function in common."""
        return self.first <= other.last and other.first <= self.last


class NicName(NamedTuple):
    """An item of ``pfNames``: a NIC, and which of its virtual functions; None: all."""

    name: str
    vfs: VfRange | None = None


class NicSelector(NamedTuple):
    """Which NICs a policy is for: those that meet every field that is not empty."""

    names: tuple[NicName, ...] = ()
    vendor: str = ""
    device: str = ""
    root_devices: tuple[str, ...] = ()

    def is_empty(self) -> bool:
        """Whether it names nothing, and so no NIC."""
        return not (self.names or self.vendor or self.device or self.root_devices)


class NodePolicy(NamedTuple):
    """An SriovNetworkNodePolicy. ``mtu`` 0 and ``eswitch_mode`` "": as it is now."""

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


class VirtualFunction(NamedTuple):
    """One that a node has. ``driver`` "": none; ``mac`` "": not known; ``is_used``: in a Pod.

    ``numa_node`` -1: the machine has none. ``rdma``: its RDMA devices in the node's own namespace.
    ``iommu_group`` "": without IOMMU.
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


class PhysicalFunction(NamedTuple):
    """A NIC of a node that can have virtual functions. ``address`` is the PCI address.

    ``is_uplink``: the node's own traffic goes through it. ``mac`` of InfiniBand is the GUID.
    ``has_carrier``: the link is up and its cable has a signal.
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

    ``nic`` is the PCI address of its NIC, ``nic_guid`` the GUID of the NIC itself.
    """

    guid: str
    nic: str
    nic_guid: str
    vf: int


class GuidClaim(NamedTuple):
    """The virtual function of the cluster that has a GUID."""

    node: str
    nic: str
    nic_guid: str
    vf: int

    def is_same_function(self, other: VfGuid) -> bool:
        """Whether both are one virtual function, which may have moved with its card."""
        return bool(other.nic_guid) and (self.nic_guid, self.vf) == (other.nic_guid, other.vf)


class NodeGuids(NamedTuple):
    """The GUIDs of a node's virtual functions, by NIC and number."""

    node: str
    guids: tuple[VfGuid, ...]


class PolicyProblem(NamedTuple):
    """What is wrong with a field of a policy, wherever it is applied."""

    field: str
    message: str


def parse_nic_name(text: str) -> NicName | None:
    """An item of ``pfNames``; None if it is none."""
    match = _RANGE.fullmatch(text)
    if match is None:
        return None
    if match["first"] is None:
        return NicName(match["name"])
    vfs = VfRange(int(match["first"]), int(match["last"]))
    return NicName(match["name"], vfs) if vfs.first <= vfs.last < VFS_MAX else None


def is_guid(text: str) -> bool:
    """Whether the text is a GUID in the only form that is stored."""
    return _GUID.fullmatch(text) is not None


def policy_problems(policy: NodePolicy) -> list[PolicyProblem]:
    """What no node can carry out, by field."""
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
        problems.append(PolicyProblem("isRdma", f"a device of {VFIO} has no RDMA device"))
    for item in policy.nics.names:
        if item.vfs is not None and item.vfs.last >= policy.vfs:
            text = f"{item.name}#{item.vfs}: numVfs {policy.vfs} has 0 to {policy.vfs - 1} alone"
            problems.append(PolicyProblem("nicSelector.pfNames", text))
    return problems


def _outside(field: str, value: int, least: int, most: int) -> list[PolicyProblem]:
    if least <= value <= most:
        return []
    return [PolicyProblem(field, f"{value} is not from {least} to {most}")]


def _not_in(field: str, value: str, allowed: tuple[str, ...]) -> list[PolicyProblem]:
    if value in allowed:
        return []
    names = " or ".join(filter(None, allowed))
    return [PolicyProblem(field, f"{value[:80]!r} is not {names}")]
