"""Computes the next netlink requests from the node's links and the desired links. Pure.

The caller applies plan after plan until a plan has no steps. So a call also finishes the work of a
crashed call. Conflicts are reported before any change. No link is removed. The settings of an
existing link are not changed; an existing bond gets missing members that nothing else uses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from core.errors import DatapathError
from nodeagent.ifacer.ifacer_configuration import DesiredBond, InterfaceConfig
from nodeagent.ifacer.link_messages import (
    BOND_KIND,
    VLAN_KIND,
    add_bond,
    add_vlan,
    read_bond_mode,
    read_vlan_id,
    set_active_member,
)
from nodeagent.netlink.requests import EXISTS, Request, set_link_down, set_link_up, set_master
from nodeagent.netlink.values import Link


class NodeLinks(NamedTuple):
    """The node's links. ``in_use``: indexes of links with addresses that are not link-local.

    ``is_new_bond``: this call created the bond, so the bond gets all configured members.
    """

    links: tuple[Link, ...]
    in_use: frozenset[int] = frozenset()
    is_new_bond: bool = False

    def find(self, name: str) -> Link | None:
        return next((link for link in self.links if link.name == name), None)


class LinkPlan(NamedTuple):
    """The next requests. ``skipped``: texts that say why links are not in the bond."""

    steps: tuple[Request, ...] = ()
    skipped: tuple[str, ...] = ()


def next_steps(config: InterfaceConfig, node_links: NodeLinks) -> LinkPlan:
    """The next plan. Raises DatapathError if desired links conflict with existing links."""
    if config.vlan:
        _check_vlan(config, node_links)
    plan = LinkPlan()
    if config.bond is not None:
        _check_bond(config.bond, node_links)
        plan = _bond_plan(config, config.bond, node_links)
    if config.vlan and not plan.steps:
        return plan._replace(steps=tuple(_vlan_steps(config, node_links)))
    return plan


# ---------------------------------------------------------------------------------- conflicts


def _check_vlan(config: InterfaceConfig, node_links: NodeLinks) -> None:
    for link in node_links.links:
        same_id = link.kind == VLAN_KIND and read_vlan_id(link) == config.vlan
        if same_id and link.name != config.vlan_name:
            raise DatapathError(
                "cannot have multiple different vlan interfaces with the same vlanId"
                f" {config.vlan} on node at the same time: there is {link.name}",
                subject=link.name,
                remedy=f"use {link.name} as the master, or delete it: ip link delete {link.name}",
            )
    existing = node_links.find(config.vlan_name)
    if existing is not None and (existing.kind, _vlan_id_of(existing)) != (VLAN_KIND, config.vlan):
        kind = (
            f"VLAN {_vlan_id_of(existing)}"
            if existing.kind == VLAN_KIND
            else existing.kind or "a NIC"
        )
        raise _name_taken(config.vlan_name, f"is {kind} and not VLAN {config.vlan}")
    parent = node_links.find(config.parent)
    if existing is not None and parent is not None and existing.parent != parent.ifindex:
        raise _name_taken(config.vlan_name, f"is a VLAN, but not on {config.parent}")
    if parent is None and config.bond is None:
        raise _interface_missing(config.parent)


def _check_bond(bond: DesiredBond, node_links: NodeLinks) -> None:
    existing = node_links.find(bond.name)
    if existing is not None and existing.kind != BOND_KIND:
        text = f"non-bond type interface named {bond.name}"  # Spiderpool's text, for searches
        raise _name_taken(bond.name, f"exists and is not a bond ({text})")
    # Options such as ``primary`` name an interface.
    for key, name in bond.options.interfaces:
        if existing is None and node_links.find(name) is None:
            text = f"bond option {key}: there is no interface {name} on this node"
            raise DatapathError(text, subject=name, remedy="correct bond.options")


def _check_member(name: str, bond: DesiredBond, node_links: NodeLinks) -> Link:
    """The link of a future member. Raises DatapathError if it cannot be a member."""
    member = node_links.find(name)
    if member is None:
        raise _interface_missing(name)
    if member.master:
        master = next(
            (link.name for link in node_links.links if link.ifindex == member.master), "?"
        )
        raise DatapathError(
            f"interface {name} belongs to {master} and cannot be a member of {bond.name}",
            subject=name,
            remedy=f"remove {name} from {master}: ip link set {name} nomaster",
        )
    return member


def _name_taken(name: str, what: str) -> DatapathError:
    text = f"interface name {name} is taken: it {what}"
    return DatapathError(
        text, subject=name, remedy=f"rename or delete {name}, or choose another name"
    )


def _interface_missing(name: str) -> DatapathError:
    text = f"there is no interface {name} on this node"
    remedy = f"correct `interfaces`, or create {name}; `orbctl node doctor` lists the existing ones"
    return DatapathError(text, subject=name, remedy=remedy)


# -------------------------------------------------------------------------------------- steps


def _bond_plan(config: InterfaceConfig, bond: DesiredBond, node_links: NodeLinks) -> LinkPlan:
    existing = node_links.find(bond.name)
    if existing is None:
        for name in config.interfaces:
            _check_member(name, bond, node_links)
        indexes = {link.name: link.ifindex for link in node_links.links}
        add_request = add_bond(bond.name, bond.mode, bond.options, indexes)
        return LinkPlan((add_request._replace(tolerated=EXISTS),))
    steps: list[Request] = []
    skipped: list[str] = []
    for name in config.interfaces:
        member = node_links.find(name)
        if member is not None and member.master == existing.ifindex:
            if not member.up:
                steps.append(set_link_up(member.ifindex))
            continue
        fault = "" if node_links.is_new_bond else _why_not_added(member, bond, existing, node_links)
        if fault:
            skipped.append(f"bond {bond.name} is used without {name}, which {fault}")
        else:
            steps += _enslave(_check_member(name, bond, node_links), existing)
    if not existing.up:
        steps.append(set_link_up(existing.ifindex))
    return LinkPlan(tuple(steps), tuple(skipped))


def _enslave(member: Link, bond: Link) -> Iterator[Request]:
    if member.up:
        yield set_link_down(member.ifindex)  # a bond accepts only links that are down
    yield set_master(member.ifindex, bond.ifindex)
    yield set_link_up(member.ifindex)


def _why_not_added(
    member: Link | None, bond: DesiredBond, existing: Link, node_links: NodeLinks
) -> str:
    """Why a member is not added to a bond that existed before this call; "" if it can be added.

    An administrator may use the bond or the member for another purpose.
    """
    if member is None:
        return "does not exist"
    if member.master:
        return "belongs to another bond or bridge"
    if member.ifindex in node_links.in_use:
        return "has addresses"
    mode = read_bond_mode(existing)
    if mode != bond.mode:
        return f"cannot be added: the bond has mode {mode} and not {bond.mode}"
    return ""


def _vlan_steps(config: InterfaceConfig, node_links: NodeLinks) -> Iterator[Request]:
    parent, existing = node_links.find(config.parent), node_links.find(config.vlan_name)
    if parent is None:
        raise _interface_missing(config.parent)
    if not parent.up:
        yield set_link_up(parent.ifindex)
    if existing is None:
        add_request = add_vlan(config.vlan_name, parent.ifindex, config.vlan)
        yield add_request._replace(tolerated=EXISTS)  # another process may have been faster
    elif not existing.up:
        yield set_link_up(existing.ifindex)


def active_member_step(bond: DesiredBond, node_links: NodeLinks) -> tuple[Request, ...]:
    """The request that chooses the active member of a new bond.

    No request if the interface in the options is not a member of the bond.
    """
    existing, member = node_links.find(bond.name), node_links.find(bond.options.active_member)
    if existing is None or member is None or member.master != existing.ifindex:
        return ()
    return (set_active_member(existing.ifindex, member.ifindex),)


def _vlan_id_of(link: Link) -> int:
    return read_vlan_id(link) if link.kind == VLAN_KIND else 0
