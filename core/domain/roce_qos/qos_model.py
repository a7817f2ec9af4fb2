"""Desired and current QoS settings of RoCE NICs: trust, PFC, ECN, traffic classes.

Terms are those of IEEE 802.1Q (priority, PFC) and RFC 2474 (DSCP). ``traffic_class`` is the byte of
the IP header with the DSCP in its upper six bits; the traffic classes of ETS are those of IEEE
802.1Qaz. A NIC that receives congestion marks sends congestion notification packets (CNP), which
have their own priority and DSCP.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, Literal, NamedTuple

from core.domain.patterns import globs

PRIORITIES: Final = range(8)
DSCPS: Final = range(64)
DSCP_BITS_BELOW: Final = 2
"""The number of bits below the DSCP in a traffic class: the two bits of ECN."""

DSCPS_OF_A_PRIORITY: Final = 8
"""DSCPs that have the same priority by default: those with the same upper three bits."""

TRUST_DSCP: Final = "dscp"
TRUST_PCP: Final = "pcp"
Trust = Literal["dscp", "pcp"]
"""The field from which a NIC takes a packet's priority: its DSCP, or the PCP of its VLAN tag."""

ETS_CLASSES: Final = 3
"""Traffic classes of a NIC with bandwidths: for other packets, for RoCE, for CNPs."""

UNSET: Final = -1
"""The value of a setting that the driver supports and that is not set."""


class EtsSettings(NamedTuple):
    """Transmission by traffic classes (ETS of IEEE 802.1Qaz).

    ``classes``: the class of each priority. ``bandwidths``: the share of each class in percent,
    None for a class with strict priority, which is sent first. ``classes_max``: the number of
    classes that the driver supports.
    """

    classes: tuple[int, ...]
    bandwidths: tuple[int | None, ...]
    classes_max: int = ETS_CLASSES

    def is_equivalent(self, other: EtsSettings) -> bool:
        """Whether both treat packets equally. Classes that no priority uses are not compared."""
        used = set(other.classes)
        return self.classes == other.classes and all(
            self.bandwidths[number] == other.bandwidths[number] for number in used
        )


class RoceQos(NamedTuple):
    """The desired settings of a NIC. ``pfc``: the priorities whose packets are not dropped.

    Priorities are 0 to 7. ``bandwidth``: the share of a busy link for RoCE packets, in percent;
    None: the setting of the NIC is not changed.
    """

    trust: Trust = TRUST_DSCP
    priority: int = 5
    dscp: int = 40
    traffic_class: int = 160
    cnp_priority: int = 6
    cnp_dscp: int = 48
    pfc: tuple[int, ...] = (5,)
    bandwidth: int | None = None

    @property
    def ets(self) -> EtsSettings | None:
        """Three classes: 1 for lossless packets, 2 for CNPs, which are sent first, 0 for others."""
        if self.bandwidth is None:
            return None
        lossless = {self.priority, *self.pfc}
        classes = [0 for _ in PRIORITIES]
        classes[self.cnp_priority] = 2
        for priority in lossless:
            classes[priority] = 1
        return EtsSettings(tuple(classes), (100 - self.bandwidth, self.bandwidth, None))

    @property
    def dscp_priorities(self) -> frozenset[DscpPriority]:
        """The priority of each DSCP: its upper three bits, except for RoCE packets and CNPs."""
        priorities = {dscp: dscp // DSCPS_OF_A_PRIORITY for dscp in DSCPS}
        priorities |= {self.dscp: self.priority, self.cnp_dscp: self.cnp_priority}
        return frozenset(DscpPriority(*item) for item in priorities.items())


class RoceQosRule(NamedTuple):
    """``qos`` for the NICs that match a pattern, on nodes with these labels; empty selects all."""

    qos: RoceQos
    nics: tuple[str, ...] = ()
    nodes: Mapping[str, str] = {}


class DscpPriority(NamedTuple):
    """One entry of a NIC's table from DSCPs to priorities."""

    dscp: int
    priority: int


class DcbSettings(NamedTuple):
    """The settings of a NIC, read by DCB netlink. ``pfc``: priorities with PFC.

    ``pfc`` None: the driver has no PFC. ``ets`` None: the driver has no traffic classes. ``trust``:
    the fields that the NIC trusts, in order; None: the driver has no such setting, and the NIC
    trusts DSCPs while ``dscp_priorities`` has entries.
    """

    pfc: frozenset[int] | None = None
    dscp_priorities: frozenset[DscpPriority] = frozenset()
    trust: tuple[Trust, ...] | None = None
    ets: EtsSettings | None = None


class EcnSettings(NamedTuple):
    """The ECN settings of a NIC.

    ``notification``: the priorities with ECN when it receives. ``reaction``: the priorities with
    ECN when it sends. ``cnp_dscp``, ``cnp_priority``: None if the driver has no such setting.
    """

    notification: frozenset[int]
    reaction: frozenset[int]
    cnp_dscp: int | None = None
    cnp_priority: int | None = None


class RocePort(NamedTuple):
    """A port of an RDMA device, with the traffic classes of its packets, UNSET if not set.

    ``traffic_class``: that of all queue pairs; None: the driver has no such setting.
    ``cm_traffic_class``: that of connections made by the RDMA connection manager; None: the
    manager's module is not loaded.
    """

    device: str
    port: int = 1
    traffic_class: int | None = None
    cm_traffic_class: int | None = None


class RoceNic(NamedTuple):
    """A link with RDMA devices, or a member of a bond that has RDMA devices.

    ``master``: a rule with the name of this link selects the NIC too; it is the physical function
    of a virtual function, or the bond of a NIC. ``has_port``: whether it has DCB and ECN settings;
    false for virtual functions and bonds, as these settings belong to the physical function or to
    the NICs of the bond. ``dcb`` and ``ecn`` None: the driver does not support them.
    """

    name: str
    ports: tuple[RocePort, ...] = ()
    dcb: DcbSettings | None = None
    ecn: EcnSettings | None = None
    master: str = ""
    has_port: bool = True


def qos_of(
    rules: Collection[RoceQosRule], labels: Mapping[str, str], nic: RoceNic
) -> RoceQos | None:
    """The settings in the first rule that matches the name of the NIC or of its master."""
    names = [name for name in (nic.name, nic.master) if name]
    for rule in rules:
        matches = any(globs.match(pattern, name) for pattern in rule.nics for name in names)
        if (matches or not rule.nics) and rule.nodes.items() <= labels.items():
            return rule.qos
    return None


def traffic_class_of(dscp: int) -> int:
    """The traffic class with this DSCP and the ECN bits 0."""
    return dscp << DSCP_BITS_BELOW
