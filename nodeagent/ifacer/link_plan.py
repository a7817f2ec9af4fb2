"""What is still to be done for what is wanted, given what is there. Pure.

The plan is made anew from the kernel's facts after every send, until nothing is left: so a repeated
call does nothing, two calls at once do it together, and whatever a crash left behind is finished.
Refusals come before anything is touched. Nothing is ever removed, and what exists under the wanted
name is used as it is; only a bond that lacks members gets them, where that takes nothing away.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Final, NamedTuple

from core.errors import DatapathError
from nodeagent.ifacer.conf import DesiredBond, InterfaceConfig
from nodeagent.ifacer.options import MODE, active_member_data, bond_data
from nodeagent.netlink.codec import attribute, attributes
from nodeagent.netlink.requests import (
    EXISTS,
    Request,
    add_link,
    change_link,
    set_master,
    set_up,
)
from nodeagent.netlink.values import Link

VLAN: Final = "vlan"
BOND: Final = "bond"
_VLAN_ID: Final = 1  # IFLA_VLAN_ID of include/uapi/linux/if_link.h


class NodeLinks(NamedTuple):
    """What the node has. ``in_use``: indexes of links with addresses beyond link-local ones.

    ``made``: this call has made the bond, so that its members are not looked at as somebody's.
    """

    links: tuple[Link, ...]
    in_use: frozenset[int] = frozenset()
    made: bool = False

    def find(self, name: str) -> Link | None:
        """The link of that name."""
        return next((link for link in self.links if link.name == name), None)


class LinkPlan(NamedTuple):
    """What to do now; ``steps`` () when nothing is left. ``left_out``: what is not, in words."""

    steps: tuple[Request, ...] = ()
    left_out: tuple[str, ...] = ()


def next_steps(wanted: InterfaceConfig, facts: NodeLinks) -> LinkPlan:
    """The next plan. Raises DatapathError for what cannot be had."""
    if wanted.vlan:
        _check_vlan(wanted, facts)
    plan = LinkPlan()
    if wanted.bond is not None:
        _check_bond(wanted.bond, facts)
        plan = _bond_plan(wanted, wanted.bond, facts)
    if wanted.vlan and not plan.steps:
        return plan._replace(steps=tuple(_vlan_steps(wanted, facts)))
    return plan


def vlan_id(link: Link) -> int:
    """The VLAN id of a link of that kind."""
    value = attributes(link.data).get(_VLAN_ID, b"\0\0")
    return int.from_bytes(value[:2], sys.byteorder)


def bond_mode(link: Link) -> int:
    """The mode of a bond."""
    return attributes(link.data).get(MODE, b"\0")[0]


# ----------------------------------------------------------------------------------- refusals


def _check_vlan(wanted: InterfaceConfig, facts: NodeLinks) -> None:
    for link in facts.links:
        same_id = link.kind == VLAN and vlan_id(link) == wanted.vlan
        if same_id and link.name != wanted.vlan_name:
            raise DatapathError(
                "cannot have multiple different vlan interfaces with the same vlanId"
                f" {wanted.vlan} on node at the same time: there is {link.name}",
                subject=link.name,
                remedy=f"use {link.name} as the master, or delete it: ip link delete {link.name}",
            )
    existing = facts.find(wanted.vlan_name)
    if existing is not None and (existing.kind, _id_of(existing)) != (VLAN, wanted.vlan):
        what = f"VLAN {_id_of(existing)}" if existing.kind == VLAN else existing.kind or "a NIC"
        raise _taken(wanted.vlan_name, f"is {what} and not VLAN {wanted.vlan}")
    parent = facts.find(wanted.parent)
    if existing is not None and parent is not None and existing.parent != parent.number:
        raise _taken(wanted.vlan_name, f"is a VLAN, but not on {wanted.parent}")
    if parent is None and wanted.bond is None:
        raise _missing(wanted.parent)


def _check_bond(bond: DesiredBond, facts: NodeLinks) -> None:
    existing = facts.find(bond.name)
    if existing is not None and existing.kind != BOND:
        raise _taken(bond.name, f"is a non-bond type interface named {bond.name}")
    for key, name in bond.options.interfaces:
        if existing is None and facts.find(name) is None:
            text = f"bond option {key}: there is no interface {name} on this node"
            raise DatapathError(text, subject=name, remedy="correct bond.options")


def _check_member(name: str, bond: DesiredBond, facts: NodeLinks) -> Link:
    """A member of a bond that is to be made."""
    member = facts.find(name)
    if member is None:
        raise _missing(name)
    if member.master:
        master = next((link.name for link in facts.links if link.number == member.master), "?")
        raise DatapathError(
            f"interface {name} belongs to {master} and cannot be a member of {bond.name}",
            subject=name,
            remedy=f"take it out: ip link set {name} nomaster",
        )
    return member


def _taken(name: str, what: str) -> DatapathError:
    text = f"interface name {name} is taken: it {what}"
    return DatapathError(text, subject=name, remedy=f"rename or delete {name}, or choose another")


def _missing(name: str) -> DatapathError:
    text = f"there is no interface {name} on this node"
    return DatapathError(text, subject=name, remedy="`orbctl node doctor` lists those that are")


# -------------------------------------------------------------------------------------- steps


def _bond_plan(wanted: InterfaceConfig, bond: DesiredBond, facts: NodeLinks) -> LinkPlan:
    existing = facts.find(bond.name)
    if existing is None:
        for name in wanted.interfaces:
            _check_member(name, bond, facts)
        indexes = {link.name: link.number for link in facts.links}
        made = add_link(bond.name, BOND, data=bond_data(bond.mode, bond.options, indexes))
        return LinkPlan((made._replace(tolerated=EXISTS),))
    steps: list[Request] = []
    left_out: list[str] = []
    for name in wanted.interfaces:
        member = facts.find(name)
        if member is not None and member.master == existing.number:
            steps += [] if member.up else [set_up(member.number)]
            continue
        fault = "" if facts.made else _why_not_to_join(member, bond, existing, facts)
        if fault:
            left_out.append(f"bond {bond.name} is used without {name}, which {fault}")
        else:
            steps += _enslave(_check_member(name, bond, facts), existing)
    if not existing.up:
        steps.append(set_up(existing.number))
    return LinkPlan(tuple(steps), tuple(left_out))


def _enslave(member: Link, bond: Link) -> Iterator[Request]:
    if member.up:
        yield set_up(member.number, up=False)  # the kernel enslaves nothing that is up
    yield set_master(member.number, bond.number)
    yield set_up(member.number)


def _why_not_to_join(
    member: Link | None, bond: DesiredBond, existing: Link, facts: NodeLinks
) -> str:
    """Why a bond that was there before is not given this member; "" if it may be.

    It may be a half-made one of an earlier call, or somebody's own: so only in the wanted mode, and
    only a NIC that is free and that nothing is lost by taking down.
    """
    if member is None:
        return "is not there"
    if member.master:
        return "belongs to another"
    if member.number in facts.in_use:
        return "has addresses"
    if bond_mode(existing) != bond.mode:
        return f"is not taken into a bond of mode {bond_mode(existing)} where {bond.mode} is asked"
    return ""


def _vlan_steps(wanted: InterfaceConfig, facts: NodeLinks) -> Iterator[Request]:
    parent, existing = facts.find(wanted.parent), facts.find(wanted.vlan_name)
    if parent is None:
        raise _missing(wanted.parent)
    if not parent.up:
        yield set_up(parent.number)
    if existing is None:
        data = attribute(_VLAN_ID, wanted.vlan.to_bytes(2, sys.byteorder))
        made = add_link(wanted.vlan_name, VLAN, parent=parent.number, data=data)
        yield made._replace(tolerated=EXISTS)  # another call may be quicker
    elif not existing.up:
        yield set_up(existing.number)


def choosing_active(bond: DesiredBond, facts: NodeLinks) -> tuple[Request, ...]:
    """The active member of a bond that was just made: it has to be a member first."""
    existing, member = facts.find(bond.name), facts.find(bond.options.active)
    if existing is None or member is None or member.master != existing.number:
        return ()
    return (change_link(existing.number, BOND, active_member_data(member.number)),)


def _id_of(link: Link) -> int:
    return vlan_id(link) if link.kind == VLAN else 0
