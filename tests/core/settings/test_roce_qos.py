"""``orbweaver.roceQos`` of conf.yml lists rules. Spiderpool's RoCE script has the same defaults."""

from __future__ import annotations

import pytest

from core.domain.roce_qos.qos_model import RoceQos, RoceQosRule
from core.errors import BadInput
from core.settings.conf_file import parse_conf
from core.settings.roce_qos import roce_qos_rules


def rules(text: str) -> tuple[RoceQosRule, ...]:
    """Parse a conf.yml whose list ``roceQos`` has the items in ``text``."""
    conf = parse_conf(f"orbweaver: {{roceQos: [{text}]}}".encode(), "f")
    return roce_qos_rules(conf.orbweaver.roce_qos)


def test_an_empty_rule_sets_the_defaults_of_the_script_on_all_nics() -> None:
    assert rules("") == ()
    assert rules("{}") == (
        RoceQosRule(
            RoceQos(
                trust="dscp",
                priority=5,
                dscp=40,
                traffic_class=160,
                cnp_priority=6,
                cnp_dscp=48,
                pfc=(5,),
            )
        ),
    )


def test_default_dscps_and_pfc_follow_from_the_priorities() -> None:
    """A default DSCP is 8 times the priority; the upper 6 bits of a traffic class are the DSCP."""
    first = "{nics: [ens*], nodeSelector: {a: b}, trust: pcp, rdmaPriority: 3, trafficClass: 98}"
    second = "{rdmaDscp: 26, cnpDscp: 0, pfcPriorities: [4, 3, 4], bandwidthPercent: 60}"

    assert rules(f"{first}, {second}") == (
        RoceQosRule(
            RoceQos(
                trust="pcp",
                priority=3,
                dscp=24,
                traffic_class=98,
                cnp_priority=6,
                cnp_dscp=48,
                pfc=(3,),
            ),
            nics=("ens*",),
            nodes={"a": "b"},
        ),
        RoceQosRule(
            RoceQos(
                trust="dscp",
                priority=5,
                dscp=26,
                traffic_class=104,
                cnp_priority=6,
                cnp_dscp=0,
                pfc=(3, 4),
                bandwidth=60,
            )
        ),
    )


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        ("{trust: vlan}", "orbweaver.roceQos[0].trust"),
        ("{rdmaPriority: 8}", "orbweaver.roceQos[0].rdmaPriority"),
        ("{rdmaDscp: 64}", "orbweaver.roceQos[0].rdmaDscp"),
        ("{pfcPriorities: [-1]}", "orbweaver.roceQos[0].pfcPriorities[0]"),
        ("{bandwidthPercent: 100}", "orbweaver.roceQos[0].bandwidthPercent"),
        ("{pfc: [5]}", "orbweaver.roceQos[0]"),
        ("{}, {cnpPriority: 5}", "orbweaver.roceQos[1].cnpPriority"),
        ("{cnpDscp: 40}", "orbweaver.roceQos[0].cnpDscp"),
        ("{trafficClass: 106}", "orbweaver.roceQos[0].trafficClass"),
        ("{nics: ['ens[']}", "orbweaver.roceQos[0].nics"),
    ],
)
def test_the_error_of_an_invalid_value_names_its_key(text: str, subject: str) -> None:
    with pytest.raises(BadInput) as refused:
        rules(text)

    # Errors about a type have "[...]" for the list index.
    index = subject[subject.find("[") + 1]
    assert refused.value.subject.replace("[...]", f"[{index}]") == subject
