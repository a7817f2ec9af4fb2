"""What RoCE NICs shall have, and what they have: trust, PFC, ECN, traffic classes.

Terms are those of IEEE 802.1Q (priority, PFC) and RFC 2474 (DSCP). A traffic class is the byte of
the IP header with the DSCP in its upper six bits. The NIC that receives congestion marks answers
with congestion notification packets (CNP), which have a priority and a DSCP of their own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, Literal, NamedTuple

from core.domain.patterns import globs

PRIORITIES: Final = range(8)
DSCPS: Final = range(64)
DSCP_BITS_BELOW: Final = 2
"""Bits of a traffic class below its DSCP: those of ECN."""

DSCPS_OF_A_PRIORITY: Final = 8

TRUST_DSCP: Final = "dscp"
TRUST_PCP: Final = "pcp"
Trust = Literal["dscp", "pcp"]
"""The field from which a NIC takes a packet's priority: its DSCP, or the PCP of its VLAN tag."""

ETS_CLASSES: Final = 3
"""Traffic classes of a NIC with bandwidths: for other packets, for RoCE, for CNPs."""

UNSET: Final = -1
"""The driver has the setting, and it has no value."""


class EtsSettings(NamedTuple):
    """Transmission by traffic classes (ETS of IEEE 802.1Qaz).

    ``classes``: the class of each priority; ``bandwidths``: the share of each class in percent,
    None for a class with strict priority, which is served first. ``classes_max``: of the driver.
    """

    classes: tuple[int, ...]
    bandwidths: tuple[int | None, ...]
    classes_max: int = ETS_CLASSES

    def serves(self, other: EtsSettings) -> bool:
        """Whether it does for packets what ``other`` does; classes without priorities are equal."""
        used = set(other.classes)
        return self.classes == other.classes and all(
            self.bandwidths[number] == other.bandwidths[number] for number in used
        )


class RoceQos(NamedTuple):
    """What a NIC shall have. ``pfc``: priorities that are not dropped. Priorities are 0 to 7.

    ``bandwidth``: the share of RoCE packets in percent, if a link is busy; None: as the NIC has it.
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
        """Classes for what is not dropped, for CNPs, which are served first, and for the rest."""
        if self.bandwidth is None:
            return None
        lossless = {self.priority, *self.pfc}
        classes = tuple(
            1 if priority in lossless else 2 if priority == self.cnp_priority else 0
            for priority in PRIORITIES
        )
        return EtsSettings(classes, (100 - self.bandwidth, self.bandwidth, None))

    @property
    def dscp_priorities(self) -> frozenset[DscpPriority]:
        """The priority of each DSCP: its upper three bits, but for RoCE packets and CNPs."""
        priorities = {dscp: dscp // DSCPS_OF_A_PRIORITY for dscp in DSCPS}
        priorities |= {self.dscp: self.priority, self.cnp_dscp: self.cnp_priority}
        return frozenset(DscpPriority(*item) for item in priorities.items())


class RoceQosRule(NamedTuple):
    """``qos`` for NICs by patterns of names, on nodes with these labels; empty selects all."""

    qos: RoceQos
    nics: tuple[str, ...] = ()
    nodes: Mapping[str, str] = {}


class DscpPriority(NamedTuple):
    """One entry of a NIC's table from DSCPs to priorities."""

    dscp: int
    priority: int


class DcbSettings(NamedTuple):
    """What a driver has by DCB netlink. ``pfc``: priorities with PFC; None: it has no PFC.

    ``ets`` None: it has no traffic classes. ``trust``: the fields that it trusts, in their order;
    None: it has no such setting, and trusts DSCPs while ``dscp_priorities`` has entries.
    """

    pfc: frozenset[int] | None = None
    dscp_priorities: frozenset[DscpPriority] = frozenset()
    trust: tuple[Trust, ...] | None = None
    ets: EtsSettings | None = None


class EcnSettings(NamedTuple):
    """ECN of a NIC. ``notification``, ``reaction``: priorities with it, as receiver and as sender.

    ``cnp_dscp``, ``cnp_priority``: None if the driver has no such setting.
    """

    notification: frozenset[int]
    reaction: frozenset[int]
    cnp_dscp: int | None = None
    cnp_priority: int | None = None


class RocePort(NamedTuple):
    """A port of an RDMA device: traffic classes of its packets, UNSET without one.

    ``traffic_class``: of all queue pairs; None: the driver has no such setting.
    ``cm_traffic_class``: of connections by the RDMA connection manager; None: it is not loaded.
    """

    device: str
    port: int = 1
    traffic_class: int | None = None
    cm_traffic_class: int | None = None


class RoceNic(NamedTuple):
    """A link with RDMA devices, or a NIC in a bond with RDMA devices.

    ``master``: the link by whose name rules choose it too: the card of a virtual function, the bond
    of its NICs. ``has_port``: whether DCB and ECN are its own; those of a virtual function are its
    card's, those of a bond its NICs'. ``dcb`` and ``ecn`` None: the driver has none.
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
    """What the first rule for a NIC, by its own or its master's name, asks for."""
    names = [name for name in (nic.name, nic.master) if name]
    for rule in rules:
        is_named = any(globs.match(pattern, name) for pattern in rule.nics for name in names)
        if (is_named or not rule.nics) and rule.nodes.items() <= labels.items():
            return rule.qos
    return None


def traffic_class_of(dscp: int) -> int:
    """The traffic class with a DSCP, without marks of ECN."""
    return dscp << DSCP_BITS_BELOW
