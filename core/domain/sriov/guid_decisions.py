"""Which GUIDs the virtual functions of a node are given, and which end. Pure.

A GUID has at most one virtual function in the cluster, as an address has one holder: two of them
with one GUID take each other's traffic. Events are decided before a GUID is set, and a release when
the virtual function is seen to be gone. What is not seen at all, such as a card without a driver,
releases nothing (I6).

Invariants (I1 to I10): docs/contributing/architecture.md, "Invariants".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from core.domain.events import GuidReleaseReason, GuidsAssigned, GuidsReleased
from core.domain.sriov.guid_file import GuidFile
from core.domain.sriov.model import (
    INFINIBAND,
    GuidClaim,
    NodeGuids,
    PhysicalFunction,
    VfGuid,
)
from core.domain.sriov.plan import NodePlan, SetVfCount, SetVfMac, assigned_mac

GuidEvent = GuidsAssigned | GuidsReleased


class GuidConflict(NamedTuple):
    """A GUID that another virtual function has."""

    requested: VfGuid
    holder: GuidClaim


class GuidDecision(NamedTuple):
    """``events`` assign what is free; ``conflicts`` stay as they are."""

    events: tuple[GuidEvent, ...] = ()
    conflicts: tuple[GuidConflict, ...] = ()


def requested_guids(
    plan: NodePlan, nics: Iterable[PhysicalFunction], guid_file: GuidFile
) -> list[VfGuid]:
    """The GUIDs that a plan sets now, and those that an earlier plan has set."""
    by_address = {nic.address: nic for nic in nics if nic.link_type == INFINIBAND}
    changes = [
        VfGuid(action.mac, action.address, by_address[action.address].mac, action.vf)
        for action in plan.actions
        if isinstance(action, SetVfMac)
        and action.address in by_address
        and action.nic not in plan.drain
    ]
    changed = {(guid.nic, guid.vf) for guid in changes}
    unchanged = [
        VfGuid(vf.mac, nic.address, nic.mac, vf.number)
        for target in plan.desired
        if (nic := by_address.get(target.address)) and not target.externally_managed
        for vf in nic.vfs
        if vf.mac == assigned_mac(nic, vf.number, guid_file)
        and (nic.address, vf.number) not in changed
    ]
    return changes + unchanged


def ended_guids(
    held: Iterable[VfGuid], plan: NodePlan, nics: Iterable[PhysicalFunction]
) -> Iterator[tuple[VfGuid, GuidReleaseReason]]:
    """The GUIDs that no virtual function of the node has, or will have by the plan."""
    by_address = {nic.address: nic for nic in nics}
    planned = {
        (action.address, action.vf, action.mac)
        for action in plan.actions
        if isinstance(action, SetVfMac)
    }
    known = list(held)
    for guid in known:
        nic = by_address.get(guid.nic)
        # Without its own address a NIC was not read whole.
        if nic is None or not nic.mac or (guid.nic, guid.vf, guid.guid) in planned:
            continue
        vf = next((vf for vf in nic.vfs if vf.number == guid.vf), None)
        if nic.mac != guid.nic_guid or vf is None:
            yield guid, "removed"
        elif vf.mac != guid.guid and guid._replace(guid=vf.mac) in known:
            yield guid, "replaced"


def replaced_guids(held: Iterable[VfGuid], plan: NodePlan) -> Iterator[VfGuid]:
    """The GUIDs of virtual functions that the plan removes, perhaps to make them again."""
    renewed = {
        action.address
        for action in plan.actions
        if isinstance(action, SetVfCount) and action.nic not in plan.drain
    }
    return (guid for guid in held if guid.nic in renewed)


def decide_assignment(
    node: str,
    requested: Sequence[VfGuid],
    claims: Mapping[str, GuidClaim],
    replaced: Collection[VfGuid] = (),
) -> GuidDecision:
    """Assign GUIDs; ``claims``: those of all of them that are held.

    A card that has moved brings its GUIDs along. Those that the node itself replaces are free.
    """
    assigned: dict[str, VfGuid] = {}
    taken: dict[tuple[str, GuidReleaseReason], list[VfGuid]] = {}
    conflicts: list[GuidConflict] = []
    for guid in requested:
        if guid.guid in assigned:
            conflicts.append(GuidConflict(guid, claim_of(node, assigned[guid.guid])))
            continue
        holder = claims.get(guid.guid)
        if holder == claim_of(node, guid):
            continue
        if holder is not None:
            former = guid_of(guid.guid, holder)
            if holder.is_same_function(guid):
                reason: GuidReleaseReason = "moved"
            elif holder.node == node and former in replaced:
                reason = "replaced"
            else:
                conflicts.append(GuidConflict(guid, holder))
                continue
            taken.setdefault((holder.node, reason), []).append(former)
        assigned[guid.guid] = guid
    events: list[GuidEvent] = [
        GuidsReleased(other, tuple(guids), reason) for (other, reason), guids in taken.items()
    ]
    if assigned:
        events.append(GuidsAssigned(node, tuple(assigned.values())))
    return GuidDecision(tuple(events), tuple(conflicts))


def claim_of(node: str, guid: VfGuid) -> GuidClaim:
    """The claim of a virtual function of a node."""
    return GuidClaim(node, guid.nic, guid.nic_guid, guid.vf)


def guid_of(text: str, claim: GuidClaim) -> VfGuid:
    """The GUID with the virtual function of its claim."""
    return VfGuid(text, claim.nic, claim.nic_guid, claim.vf)


def guids_by_node(claims: Mapping[str, GuidClaim]) -> Iterator[NodeGuids]:
    """The GUIDs of each node, in the order in which they are stored."""
    nodes: dict[str, list[VfGuid]] = {}
    for text, claim in claims.items():
        nodes.setdefault(claim.node, []).append(guid_of(text, claim))
    for node, guids in nodes.items():
        yield NodeGuids(node, tuple(sorted(guids, key=lambda one: (one.nic, one.vf, one.guid))))
