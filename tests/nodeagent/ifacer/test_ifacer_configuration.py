"""Reading the ifacer configuration; see docs/reference/cni-configuration.md, "ifacer"."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nodeagent.cni_protocol.failures import CniFailure
from nodeagent.ifacer.bond_options import NUMBER_OPTIONS, BondOptions
from nodeagent.ifacer.ifacer_configuration import DesiredBond, InterfaceConfig, read_conf


def conf(**fields: Any) -> bytes:
    return json.dumps({"cniVersion": "1.0.0", "name": "lan", "type": "ifacer"} | fields).encode()


BOND = {"name": "bd0", "mode": 1}

VALID: dict[str, tuple[dict[str, Any], InterfaceConfig | None]] = {
    "one interface, no VLAN": ({"interfaces": ["ens3"]}, None),
    "one interface, VLAN 0": ({"interfaces": ["ens3"], "vlanID": 0}, None),
    "one interface, a VLAN": (
        {"interfaces": ["ens3"], "vlanID": 5},
        InterfaceConfig(("ens3",), vlan=5),
    ),
    "a bond of one interface is ignored": (
        {"interfaces": ["ens3"], "vlanID": 5, "bond": BOND},
        InterfaceConfig(("ens3",), vlan=5),
    ),
    # Without a bond, there is no single parent for the VLAN.
    "a VLAN of several interfaces without a bond is ignored": (
        {"interfaces": ["ens3", "ens4"], "vlanID": 5},
        None,
    ),
    "a bond": (
        {"interfaces": ["a", "b"], "bond": BOND},
        InterfaceConfig(("a", "b"), vlan=0, bond=DesiredBond("bd0", mode=1)),
    ),
    "a bond without a name": (
        {"interfaces": ["a", "b"], "bond": {}},
        InterfaceConfig(("a", "b"), vlan=0, bond=DesiredBond("sp_bond0", mode=0)),
    ),
    "a VLAN on a bond": (
        {"interfaces": ["a", "b"], "vlanID": 100, "bond": BOND | {"options": "miimon=100"}},
        InterfaceConfig(
            ("a", "b"),
            vlan=100,
            bond=DesiredBond(
                "bd0", mode=1, options=BondOptions(numbers=((NUMBER_OPTIONS["miimon"], 100),))
            ),
        ),
    ),
    "field names in another letter case, and a null field": (
        {"INTERFACES": ["ens3"], "vlanid": 5, "Bond": None},
        InterfaceConfig(("ens3",), vlan=5),
    ),
}


@pytest.mark.parametrize(("fields", "links"), VALID.values(), ids=VALID)
def test_a_valid_configuration_gives_the_desired_links(
    fields: dict[str, Any], links: InterfaceConfig | None
) -> None:
    assert read_conf(conf(**fields)).links == links


INVALID: dict[str, tuple[dict[str, Any], str]] = {
    "no interface": ({}, "interfaces: at least one"),
    "an empty list": ({"interfaces": []}, "interfaces: at least one"),
    "a VLAN id that is too large": (
        {"interfaces": ["a"], "vlanID": 4095},
        "vlan tag must be in range [0,4094]",
    ),
    "a negative VLAN id": (
        {"interfaces": ["a"], "vlanID": -1},
        "vlan tag must be in range [0,4094]",
    ),
    "a VLAN id of the wrong type": ({"interfaces": ["a"], "vlanID": "5"}, "vlanID: expected `int`"),
    "an unknown mode": (
        {"interfaces": ["a", "b"], "bond": {"mode": 7}},
        "bond.mode: expected `int` <= 6",
    ),
    "an invalid name": ({"interfaces": ["a/b"], "vlanID": 5}, "interfaces 'a/b'"),
    "an invalid name of the bond": (
        {"interfaces": ["a", "b"], "bond": {"name": "b" * 16}},
        "bond.name 'bbbb",
    ),
    "a VLAN's name that is too long": (
        {"interfaces": ["enp129s0f0np0"], "vlanID": 100},
        "interface name enp129s0f0np0.100 has more than 15",
    ),
    "a member named twice": ({"interfaces": ["a", "a"], "bond": BOND}, "named twice"),
    "an option of the wrong kind": (
        {"interfaces": ["a", "b"], "bond": {"options": "miimon=often"}},
        "bond option miimon: 'often' is not a number",
    ),
    "an unknown version": ({"interfaces": ["a"], "cniVersion": "9.9"}, "incompatible"),
}


@pytest.mark.parametrize(("fields", "words"), INVALID.values(), ids=INVALID)
def test_the_error_names_the_invalid_field_of_the_configuration(
    fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(CniFailure) as error:
        read_conf(conf(**fields))

    assert words in error.value.message


def test_read_conf_keeps_the_prev_result() -> None:
    previous = {"cniVersion": "1.0.0", "interfaces": [{"name": "eth0"}]}

    assert read_conf(conf(interfaces=["a"], prevResult=previous)).previous == previous
    assert read_conf(conf(interfaces=["a"])).previous is None
