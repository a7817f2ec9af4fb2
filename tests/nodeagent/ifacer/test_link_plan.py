"""The steps that ifacer plans from the desired and the existing links."""

from __future__ import annotations

import sys

import pytest

from core.errors import DatapathError
from nodeagent.ifacer.bond_options import BondOptions
from nodeagent.ifacer.ifacer_configuration import DesiredBond, InterfaceConfig
from nodeagent.ifacer.link_plan import LinkPlan, NodeLinks, next_steps
from nodeagent.netlink.codec import attribute
from nodeagent.netlink.numbers import IFF_UP
from nodeagent.netlink.values import Link

VLAN5 = attribute(1, (5).to_bytes(2, sys.byteorder))
MODE1 = attribute(1, b"\1")
MODE4 = attribute(1, b"\4")

ENS3 = Link(3, "ens3", IFF_UP)
ENS4 = Link(4, "ens4", IFF_UP)
ENS3_DOWN = ENS3._replace(flags=0)
BD0 = Link(9, "bd0", IFF_UP, "bond", data=MODE1)
MEMBERS = (ENS3._replace(master=9), ENS4._replace(master=9))
ENS3_5 = Link(12, "ens3.5", IFF_UP, "vlan", parent=3, data=VLAN5)
BD0_5 = Link(12, "bd0.5", IFF_UP, "vlan", parent=9, data=VLAN5)

VLAN_ON_NIC = InterfaceConfig(("ens3",), vlan=5)
BOND = InterfaceConfig(("ens3", "ens4"), vlan=0, bond=DesiredBond("bd0", mode=1))
VLAN_ON_BOND = BOND._replace(vlan=5)

STEPS: dict[str, tuple[InterfaceConfig, tuple[Link, ...], list[str]]] = {
    "a VLAN": (VLAN_ON_NIC, (ENS3,), ["add vlan link ens3.5"]),
    "a VLAN whose parent is down": (
        VLAN_ON_NIC, (ENS3_DOWN,), ["set up link 3", "add vlan link ens3.5"],
    ),
    "a VLAN that exists, but is down": (
        VLAN_ON_NIC, (ENS3, ENS3_5._replace(flags=0)), ["set up link 12"],
    ),
    "a VLAN that exists, but whose parent is down": (
        VLAN_ON_NIC, (ENS3_DOWN, ENS3_5), ["set up link 3"],
    ),
    "a VLAN that exists": (VLAN_ON_NIC, (ENS3, ENS3_5), []),
    "a bond": (BOND, (ENS3, ENS4), ["add bond link bd0"]),
    "an incomplete bond": (
        BOND,
        (ENS3, ENS3_DOWN._replace(ifindex=4, name="ens4"), BD0._replace(flags=0)),
        ["set down link 3", "set master 9 of link 3", "set up link 3",
         "set master 9 of link 4", "set up link 4", "set up link 9"],
    ),
    "a bond whose member is down": (
        BOND, (MEMBERS[0], MEMBERS[1]._replace(flags=0), BD0), ["set up link 4"],
    ),
    "a complete bond": (BOND, (*MEMBERS, BD0), []),
    "a VLAN on a bond that does not exist": (VLAN_ON_BOND, (ENS3, ENS4), ["add bond link bd0"]),
    "a VLAN on a bond that exists": (VLAN_ON_BOND, (*MEMBERS, BD0), ["add vlan link bd0.5"]),
    "a VLAN and a bond that exist": (VLAN_ON_BOND, (*MEMBERS, BD0, BD0_5), []),
}  # fmt: skip


@pytest.mark.parametrize(("desired", "links", "steps"), STEPS.values(), ids=STEPS)
def test_next_steps_plans_only_what_existing_links_lack(
    desired: InterfaceConfig, links: tuple[Link, ...], steps: list[str]
) -> None:
    plan = next_steps(desired, NodeLinks(links))

    assert [step.what for step in plan.steps] == steps
    assert plan.skipped == ()


SKIPPED_NICS: dict[str, tuple[tuple[Link, ...], str]] = {
    "a NIC that does not exist": ((ENS4._replace(master=9), BD0), "ens3, which does not exist"),
    "a member of another bond": (
        (ENS3._replace(master=7), MEMBERS[1], BD0),
        "ens3, which belongs to another bond or bridge",
    ),
    "a NIC with addresses": ((ENS3, MEMBERS[1], BD0), "ens3, which has addresses"),
    "a NIC for a bond of another mode": (
        (Link(5, "ens3"), MEMBERS[1], BD0._replace(data=MODE4)),
        "ens3, which cannot be added: the bond has mode 4 and not 1",
    ),
}


@pytest.mark.parametrize(("links", "words"), SKIPPED_NICS.values(), ids=SKIPPED_NICS)
def test_next_steps_skips_a_nic_that_an_existing_bond_cannot_take(
    links: tuple[Link, ...], words: str
) -> None:
    assert next_steps(BOND, NodeLinks(links, in_use=frozenset({3}))) == LinkPlan(
        (), (f"bond bd0 is used without {words}",)
    )


def test_a_nic_with_addresses_is_added_to_a_new_bond() -> None:
    """As in Spiderpool, such a NIC may lose its addresses."""
    plan = next_steps(BOND, NodeLinks((ENS3, ENS4, BD0), in_use=frozenset({3}), is_new_bond=True))

    assert "set master 9 of link 3" in [step.what for step in plan.steps]


REFUSED_CONFIGURATIONS: dict[str, tuple[InterfaceConfig, tuple[Link, ...], str]] = {
    "the VLAN id exists under another name": (
        VLAN_ON_NIC,
        (ENS3, ENS4, ENS3_5._replace(name="ens4.5", parent=4)),
        "vlan interfaces with the same vlanId 5 on node at the same time: there is ens4.5",
    ),
    "the VLAN id exists, but the bond does not": (
        VLAN_ON_BOND,
        (ENS3, ENS4, ENS3_5),
        "cannot have multiple different vlan interfaces with the same vlanId 5",
    ),
    "a NIC with the VLAN's name": (
        VLAN_ON_NIC,
        (ENS3, Link(8, "ens3.5")),
        "ens3.5 is taken: it is a NIC and not VLAN 5",
    ),
    "another VLAN of that name": (
        InterfaceConfig(("ens3",), vlan=6),
        (ENS3, ENS3_5._replace(name="ens3.6")),
        "ens3.6 is taken: it is VLAN 5 and not VLAN 6",
    ),
    "a VLAN of that name on another parent": (
        VLAN_ON_NIC,
        (ENS3, ENS3_5._replace(parent=4)),
        "ens3.5 is taken: it is a VLAN, but not on ens3",
    ),
    "no such parent": (VLAN_ON_NIC, (ENS4,), "there is no interface ens3 on this node"),
    "no such member": (BOND, (ENS4,), "there is no interface ens3 on this node"),
    "a member of a bridge": (
        BOND,
        (ENS3, ENS4._replace(master=7), Link(7, "br0", kind="bridge")),
        "interface ens4 belongs to br0 and cannot be a member of bd0",
    ),
    "a bridge with the bond's name": (
        BOND,
        (ENS3, ENS4, Link(9, "bd0", kind="bridge")),
        "bd0 is taken: it exists and is not a bond (non-bond type interface named bd0)",
    ),
    "a primary that does not exist": (
        InterfaceConfig(
            ("ens3", "ens4"),
            vlan=0,
            bond=DesiredBond("bd0", mode=1, options=BondOptions(primary="ens9")),
        ),
        (ENS3, ENS4),
        "bond option primary: there is no interface ens9",
    ),
}


@pytest.mark.parametrize(
    ("desired", "links", "words"), REFUSED_CONFIGURATIONS.values(), ids=REFUSED_CONFIGURATIONS
)
def test_an_impossible_configuration_is_refused_before_any_step(
    desired: InterfaceConfig, links: tuple[Link, ...], words: str
) -> None:
    with pytest.raises(DatapathError) as error:
        next_steps(desired, NodeLinks(links))

    assert words in str(error.value)
    assert error.value.remedy
