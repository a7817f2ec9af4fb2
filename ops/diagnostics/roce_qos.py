"""Compares the QoS of a node's RoCE NICs with orbweaver.roceQos. Pure.

The node's labels are not read: rules for other nodes are compared too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from core.domain.roce_qos.qos_model import (
    TRUST_DSCP,
    TRUST_PCP,
    UNSET,
    DcbSettings,
    EcnSettings,
    RoceNic,
    RocePort,
    RoceQosRule,
)
from core.domain.roce_qos.qos_plan import ets_text, plan_qos


class RoceNicState(NamedTuple):
    """The QoS of a NIC, compared with the first rule for this NIC.

    ``found``: the NIC's QoS. ``differences``: how it differs from the rule. ``gaps``: settings of
    the rule that the driver lacks. ``nodes``: node labels of the rule.
    """

    nic: str
    found: str
    differences: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()
    nodes: str = ""


def roce_states(nics: Collection[RoceNic], rules: Collection[RoceQosRule]) -> list[RoceNicState]:
    """The states of all NICs except virtual functions and bonds without differences."""
    states = [_state(nic, rules) for nic in nics]
    pairs = zip(nics, states, strict=True)
    return [state for nic, state in pairs if nic.has_port_settings or state.differences]


def _state(nic: RoceNic, rules: Collection[RoceQosRule]) -> RoceNicState:
    of_port = (*_dcb(nic.dcb), *_ecn(nic.ecn)) if nic.has_port_settings else ()
    text = ", ".join((*of_port, *map(_port, nic.ports)))
    for rule in rules:
        labels = rule.nodes
        plan = plan_qos([rule], labels, [nic])
        if plan.desired:
            return RoceNicState(
                nic.name,
                text,
                tuple(_without_nic(change) for change in plan.changes),
                tuple(_without_nic(gap) for gap in plan.gaps),
                ",".join(f"{key}={value}" for key, value in labels.items()),
            )
    return RoceNicState(nic.name, text)


def _without_nic(step: object) -> str:
    """``NIC: TEXT`` -> ``TEXT``."""
    return str(step).partition(": ")[2]


def _dcb(dcb: DcbSettings | None) -> Iterator[str]:
    if dcb is None:
        yield "no DCB"
        return
    if dcb.trust is not None:
        yield f"trust {' '.join(dcb.trust) or 'none'}"
    else:
        yield f"trust {TRUST_DSCP if dcb.dscp_priorities else TRUST_PCP}"
    if dcb.ets is not None:
        yield f"ETS {ets_text(dcb.ets)}"
    if dcb.pfc is not None:
        yield f"PFC {_listed(dcb.pfc)}"


def _ecn(ecn: EcnSettings | None) -> Iterator[str]:
    if ecn is None:
        yield "no ECN files"
        return
    yield f"ECN {_listed(ecn.notification & ecn.reaction)}"
    if ecn.cnp_dscp is not None:
        yield f"CNP DSCP {ecn.cnp_dscp}"
    if ecn.cnp_priority is not None:
        yield f"CNP priority {ecn.cnp_priority}"


def _port(port: RocePort) -> str:
    values = (("traffic class", port.traffic_class), ("RDMA CM", port.cm_traffic_class))
    shown = [
        f"{name} {'unset' if value == UNSET else value}"
        for name, value in values
        if value is not None
    ]
    return f"{port.device} {' '.join(shown) or 'without traffic classes'}"


def _listed(priorities: Iterable[int]) -> str:
    return " ".join(map(str, sorted(priorities))) or "off"
