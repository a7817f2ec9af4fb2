"""``orbweaver.roceQos`` of conf.yml: quality of service of RoCE NICs.

The first rule that matches a NIC applies. Every key has a default: ``[{}]`` configures all NICs
as Spiderpool's script for lossless RoCE does by default.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from core.domain.roce_qos.qos_model import (
    DSCPS_OF_A_PRIORITY,
    ECN_BITS,
    TRUST_DSCP,
    RoceQos,
    RoceQosRule,
    Trust,
    traffic_class_of,
)
from core.errors import BadInput
from core.settings.device_plugin import check_patterns

RULES_MAX: Final = 32

NICS_MAX: Final = 64

_KEY: Final = "orbweaver.roceQos"

_Priority = Annotated[int, msgspec.Meta(ge=0, le=7)]
_Dscp = Annotated[int, msgspec.Meta(ge=0, le=63)]
_Percent = Annotated[int, msgspec.Meta(ge=1, le=99)]
_TrafficClass = Annotated[int, msgspec.Meta(ge=0, le=255)]


class RoceQosConf(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """One rule. By default, each DSCP is 8 times the priority with the same prefix.

    ``cnp``: congestion notification packets. ``pfc``: priority flow control.
    """

    nics: Annotated[tuple[str, ...], msgspec.Meta(max_length=NICS_MAX)] = ()
    node_selector: dict[str, str] = {}
    trust: Trust = TRUST_DSCP
    rdma_priority: _Priority = 5
    rdma_dscp: _Dscp | None = None
    traffic_class: _TrafficClass | None = None
    cnp_priority: _Priority = 6
    cnp_dscp: _Dscp | None = None
    pfc_priorities: tuple[_Priority, ...] | None = None
    bandwidth_percent: _Percent | None = None


def roce_qos_rules(conf: tuple[RoceQosConf, ...]) -> tuple[RoceQosRule, ...]:
    """The rules; without rules no NIC is changed. Raises BadInput."""
    return tuple(_rule(item, f"{_KEY}[{number}]") for number, item in enumerate(conf))


def _rule(item: RoceQosConf, key: str) -> RoceQosRule:
    check_patterns(item.nics, f"{key}.nics")
    return RoceQosRule(_qos(item, key), item.nics, item.node_selector)


def _qos(item: RoceQosConf, key: str) -> RoceQos:
    dscp = _default(item.rdma_dscp, item.rdma_priority * DSCPS_OF_A_PRIORITY)
    cnp_dscp = _default(item.cnp_dscp, item.cnp_priority * DSCPS_OF_A_PRIORITY)
    traffic_class = _default(item.traffic_class, traffic_class_of(dscp))
    if item.rdma_priority == item.cnp_priority:
        raise BadInput(
            f"{key}.cnpPriority {item.cnp_priority} is also the value of rdmaPriority",
            subject=f"{key}.cnpPriority",
            remedy="set another priority: flow control of the RoCE priority would delay congestion"
            " notification packets (CNP)",
        )
    if dscp == cnp_dscp:
        raise BadInput(
            f"{key}.cnpDscp {cnp_dscp} is also the value of rdmaDscp",
            subject=f"{key}.cnpDscp",
            remedy="set cnpDscp and rdmaDscp to different values",
        )
    if traffic_class >> ECN_BITS != dscp:
        raise BadInput(
            f"{key}.trafficClass {traffic_class} has the DSCP"
            f" {traffic_class >> ECN_BITS}, but rdmaDscp is {dscp}",
            subject=f"{key}.trafficClass",
            remedy=f"set it to {traffic_class_of(dscp)} or leave it out, or change rdmaDscp",
        )
    pfc = (item.rdma_priority,) if item.pfc_priorities is None else item.pfc_priorities
    return RoceQos(
        item.trust,
        item.rdma_priority,
        dscp,
        traffic_class,
        item.cnp_priority,
        cnp_dscp,
        tuple(sorted(set(pfc))),
        item.bandwidth_percent,
    )


def _default(value: int | None, default: int) -> int:
    return default if value is None else value
