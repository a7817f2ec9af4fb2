"""Plan the changes that bring a node's RoCE NICs to the settings of the rules.

The plan is deterministic. After the changes, the next plan has no changes. A setting that a driver
does not support is a gap, and all other settings are made.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Final, NamedTuple, TypeAlias

from core.domain.roce_qos.qos_model import (
    ETS_CLASSES,
    PRIORITIES,
    TRUST_DSCP,
    DcbSettings,
    DscpPriority,
    EcnSettings,
    EtsSettings,
    RoceNic,
    RocePort,
    RoceQos,
    RoceQosRule,
    Trust,
    qos_of,
)

NOTIFICATION_POINT: Final = "roce_np"  # the NIC receives
REACTION_POINT: Final = "roce_rp"  # the NIC sends
CNP_DSCP: Final = "cnp_dscp"
CNP_PRIORITY: Final = "cnp_802p_prio"


class SetTrust(NamedTuple):
    """Set which field of a packet gives the priority."""

    nic: str
    trust: Trust

    def __str__(self) -> str:
        return f"{self.nic}: trust {self.trust}"


class AddDscpPriorities(NamedTuple):
    """Add entries to the table DSCP -> priority."""

    nic: str
    entries: tuple[DscpPriority, ...]

    def __str__(self) -> str:
        return f"{self.nic}: DSCP to priority {_entries_text(self.entries)}"


class RemoveDscpPriorities(NamedTuple):
    """Remove entries; a missing entry is not an error."""

    nic: str
    entries: tuple[DscpPriority, ...]

    def __str__(self) -> str:
        return f"{self.nic}: no DSCP to priority {_entries_text(self.entries)}"


class SetEts(NamedTuple):
    """Set ETS classes and bandwidths."""

    nic: str
    ets: EtsSettings

    def __str__(self) -> str:
        return f"{self.nic}: ETS {ets_text(self.ets)}"


class SetPfc(NamedTuple):
    """Enable PFC for these priorities only."""

    nic: str
    priorities: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.nic}: PFC {','.join(map(str, self.priorities)) or 'off'}"


class EnableEcn(NamedTuple):
    """Enable ECN of a priority."""

    nic: str
    point: str
    priority: int

    def __str__(self) -> str:
        return f"{self.nic}: ECN {self.point} priority {self.priority}"


class SetCnp(NamedTuple):
    """Set the DSCP or the priority of CNPs."""

    nic: str
    field: str
    value: int

    def __str__(self) -> str:
        return f"{self.nic}: {self.field} {self.value}"


class SetTrafficClass(NamedTuple):
    """Set the traffic class of all queue pairs."""

    nic: str
    device: str
    port: int
    value: int

    def __str__(self) -> str:
        return f"{self.nic}: {self.device} traffic_class {self.value}"


class SetCmTrafficClass(NamedTuple):
    """Set the traffic class of connections of the RDMA connection manager."""

    nic: str
    device: str
    port: int
    value: int

    def __str__(self) -> str:
        return f"{self.nic}: {self.device} default_roce_tos {self.value}"


QosChange: TypeAlias = (
    SetTrust
    | AddDscpPriorities
    | RemoveDscpPriorities
    | SetEts
    | SetPfc
    | EnableEcn
    | SetCnp
    | SetTrafficClass
    | SetCmTrafficClass
)


class QosGap(NamedTuple):
    """A setting that the driver or the kernel does not support."""

    nic: str
    setting: str
    reason: str

    def __str__(self) -> str:
        return f"{self.nic}: {self.setting}: {self.reason}"


class QosPlan(NamedTuple):
    """The plan of a node. ``desired``: NIC -> settings."""

    desired: Mapping[str, RoceQos]
    changes: tuple[QosChange, ...] = ()
    gaps: tuple[QosGap, ...] = ()


def plan_qos(
    rules: Collection[RoceQosRule], labels: Mapping[str, str], nics: Collection[RoceNic]
) -> QosPlan:
    """Plan the changes of a node. ``labels``: the labels of the node."""
    selected = [(nic, qos) for nic in nics if (qos := qos_of(rules, labels, nic)) is not None]
    steps = [step for nic, qos in selected for step in _steps(nic, qos)]
    return QosPlan(
        {nic.name: qos for nic, qos in selected},
        tuple(step for step in steps if not isinstance(step, QosGap)),
        tuple(step for step in steps if isinstance(step, QosGap)),
    )


def _steps(nic: RoceNic, qos: RoceQos) -> Iterator[QosChange | QosGap]:
    if nic.has_port_settings:
        yield from _dcb_steps(nic, qos)
        if nic.ecn is None:
            reason = "the driver has no /sys/class/net/*/ecn; install NVIDIA's DOCA-OFED"
            yield QosGap(nic.name, "ECN", reason)
        else:
            yield from _ecn_steps(nic.name, nic.ecn, qos)
    for port in nic.ports:
        yield from _port_steps(nic.name, port, qos)


def _dcb_steps(nic: RoceNic, qos: RoceQos) -> Iterator[QosChange | QosGap]:
    if nic.dcb is None:
        yield QosGap(nic.name, "trust, PFC", "the driver has no DCB")
        return
    table = nic.dcb.dscp_priorities
    target = qos.dscp_priorities if qos.trust == TRUST_DSCP else frozenset()
    if missing_entries := tuple(sorted(target - table)):
        yield AddDscpPriorities(nic.name, missing_entries)
    if wrong_entries := tuple(sorted(table - target)):
        yield RemoveDscpPriorities(nic.name, wrong_entries)
    # A NIC may trust several fields; only the first is compared.
    if nic.dcb.trust is not None and nic.dcb.trust[:1] != (qos.trust,):
        yield SetTrust(nic.name, qos.trust)
    yield from _ets_steps(nic.name, nic.dcb, qos)
    if nic.dcb.pfc is None:
        yield QosGap(nic.name, "PFC", "the driver has no PFC by IEEE 802.1Qaz")
    elif nic.dcb.pfc != frozenset(qos.pfc):
        yield SetPfc(nic.name, qos.pfc)


def _ets_steps(nic: str, dcb: DcbSettings, qos: RoceQos) -> Iterator[QosChange | QosGap]:
    if qos.ets is None:
        return
    if dcb.ets is None or dcb.ets.classes_max < ETS_CLASSES:
        yield QosGap(nic, "bandwidth", f"the driver has no ETS with {ETS_CLASSES} traffic classes")
    elif not dcb.ets.is_equivalent(qos.ets):
        yield SetEts(nic, qos.ets)


def _ecn_steps(nic: str, ecn: EcnSettings, qos: RoceQos) -> Iterator[QosChange | QosGap]:
    for point, enabled in ((NOTIFICATION_POINT, ecn.notification), (REACTION_POINT, ecn.reaction)):
        if qos.priority not in enabled:
            yield EnableEcn(nic, point, qos.priority)
    fields = (
        (CNP_DSCP, ecn.cnp_dscp, qos.cnp_dscp),
        (CNP_PRIORITY, ecn.cnp_priority, qos.cnp_priority),
    )
    for field, value, target in fields:
        if value is None:
            yield QosGap(nic, field, "the driver has no such file in /sys")
        elif value != target:
            yield SetCnp(nic, field, target)


def _port_steps(nic: str, port: RocePort, qos: RoceQos) -> Iterator[QosChange | QosGap]:
    if port.traffic_class is None:
        reason = (
            "the driver has no /sys/class/infiniband/*/tc; let each program set its traffic class"
        )
        yield QosGap(nic, f"traffic class of {port.device}", reason)
    elif port.traffic_class != qos.traffic_class:
        yield SetTrafficClass(nic, port.device, port.port, qos.traffic_class)
    if port.cm_traffic_class is None:
        reason = "run modprobe rdma_cm and mount -t configfs none /sys/kernel/config"
        yield QosGap(nic, f"RDMA CM of {port.device}", reason)
    elif port.cm_traffic_class != qos.traffic_class:
        yield SetCmTrafficClass(nic, port.device, port.port, qos.traffic_class)


def ets_text(ets: EtsSettings) -> str:
    """Priorities and shares, such as ``0,1: 50%, 5: strict``."""
    texts = []
    for number in sorted(set(ets.classes)):
        priorities = [str(priority) for priority in PRIORITIES if ets.classes[priority] == number]
        bandwidth = ets.bandwidths[number]
        share = "strict" if bandwidth is None else f"{bandwidth}%"
        texts.append(f"{','.join(priorities)}: {share}")
    return ", ".join(texts)


def _entries_text(entries: tuple[DscpPriority, ...]) -> str:
    """Entries as iproute2 writes them, such as ``40-47:5``."""
    ranges: list[list[int]] = []  # [first DSCP, last DSCP, priority]
    for dscp, priority in entries:
        if ranges and ranges[-1][1:] == [dscp - 1, priority]:
            ranges[-1][1] = dscp
        else:
            ranges.append([dscp, dscp, priority])
    texts = []
    for first, last, priority in ranges:
        dscps = str(first) if first == last else f"{first}-{last}"
        texts.append(f"{dscps}:{priority}")
    return " ".join(texts)
