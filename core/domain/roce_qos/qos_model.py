"""Desired and current QoS settings of RoCE NICs: trust, PFC, ECN, traffic classes.

- Priority and PFC: IEEE 802.1Q. DSCP: RFC 2474.
- ``traffic_class``: the byte of the IP header with the DSCP in the upper six bits.
- ETS class: a traffic class of IEEE 802.1Qaz, unrelated to ``traffic_class``.
- CNP: congestion notification packet.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, Literal, NamedTuple

from core.domain.patterns import globs

PRIORITIES: Final = range(8)
DSCPS: Final = range(64)
ECN_BITS: Final = 2
"""The number of ECN bits, which are the lowest bits of a traffic class."""

DSCPS_OF_A_PRIORITY: Final = 8
"""The upper three bits of a DSCP are the default priority."""

TRUST_DSCP: Final = "dscp"
TRUST_PCP: Final = "pcp"
Trust = Literal["dscp", "pcp"]
"""The field that gives the priority: the DSCP, or the PCP of the VLAN tag."""

ETS_CLASSES: Final = 3
"""One class each for RoCE packets, CNPs, and other packets."""

UNSET: Final = -1
"""The driver supports the setting, but it is not set."""


class EtsSettings(NamedTuple):
    """ETS classes and bandwidths. ``classes``: the class of each priority.

    ``bandwidths``: the share of each class in percent; None: strict priority.
    ``classes_max``: the number of classes that the driver supports.
    """

    classes: tuple[int, ...]
    bandwidths: tuple[int | None, ...]
    classes_max: int = ETS_CLASSES

    def is_equivalent(self, other: EtsSettings) -> bool:
        """Whether the settings are equal, except for classes that no priority uses."""
        used = set(other.classes)
        return self.classes == other.classes and all(
            self.bandwidths[number] == other.bandwidths[number] for number in used
        )


class RoceQos(NamedTuple):
    """The desired settings of a NIC. Priorities are 0 to 7.

    ``pfc``: the priorities whose packets are not dropped.
    ``bandwidth``: the share of a busy link for RoCE packets, in percent; None: do not change ETS.
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
        """Class 1: lossless packets; class 2: CNPs (strict); class 0: others. None: leave ETS."""
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
        priorities = {dscp: dscp // DSCPS_OF_A_PRIORITY for dscp in DSCPS}
        priorities |= {self.dscp: self.priority, self.cnp_dscp: self.cnp_priority}
        return frozenset(DscpPriority(*item) for item in priorities.items())


class RoceQosRule(NamedTuple):
    """Settings for NICs that match a pattern, on nodes with these labels.

    An empty field matches all.
    """

    qos: RoceQos
    nics: tuple[str, ...] = ()
    nodes: Mapping[str, str] = {}


class DscpPriority(NamedTuple):
    """An entry of a NIC's table DSCP -> priority."""

    dscp: int
    priority: int


class DcbSettings(NamedTuple):
    """The settings of a NIC, read by DCB netlink. None: unsupported by the driver.

    ``trust``: the trusted fields, in order. If this is None, the NIC trusts DSCPs if
    ``dscp_priorities`` has entries.
    """

    pfc: frozenset[int] | None = None
    dscp_priorities: frozenset[DscpPriority] = frozenset()
    trust: tuple[Trust, ...] | None = None
    ets: EtsSettings | None = None


class EcnSettings(NamedTuple):
    """The ECN settings of a NIC. None: unsupported by the driver.

    ``notification``: the priorities with ECN when the NIC receives.
    ``reaction``: the priorities with ECN when the NIC sends.
    """

    notification: frozenset[int]
    reaction: frozenset[int]
    cnp_dscp: int | None = None
    cnp_priority: int | None = None


class RocePort(NamedTuple):
    """A port of an RDMA device. A traffic class may be ``UNSET``.

    ``traffic_class``: the class of all queue pairs; None: unsupported by the driver.
    ``cm_traffic_class``: the class of RDMA CM connections; None: the module is not loaded.
    """

    device: str
    port: int = 1
    traffic_class: int | None = None
    cm_traffic_class: int | None = None


class RoceNic(NamedTuple):
    """A link that has RDMA devices, or is a member of a bond that has RDMA devices.

    ``dcb``, ``ecn``: None: unsupported by the driver.
    ``master``: the physical function of a virtual function, or the bond of a member.
    ``has_port_settings``: False for a virtual function or a bond: no DCB and ECN settings.
    """

    name: str
    ports: tuple[RocePort, ...] = ()
    dcb: DcbSettings | None = None
    ecn: EcnSettings | None = None
    master: str = ""
    has_port_settings: bool = True


def qos_of(
    rules: Collection[RoceQosRule], labels: Mapping[str, str], nic: RoceNic
) -> RoceQos | None:
    """The settings of the first rule that matches the NIC or its master; None: no rule does.

    ``labels``: the labels of the node.
    """
    names = [name for name in (nic.name, nic.master) if name]
    for rule in rules:
        matches = any(globs.match(pattern, name) for pattern in rule.nics for name in names)
        if (matches or not rule.nics) and rule.nodes.items() <= labels.items():
            return rule.qos
    return None


def traffic_class_of(dscp: int) -> int:
    """The traffic class with this DSCP and the ECN bits 0."""
    return dscp << ECN_BITS
